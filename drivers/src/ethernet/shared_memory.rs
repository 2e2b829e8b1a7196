//! Memory that the CPU and a bus master both use: little-endian fields and frames at offsets, bounds checked.

use core::ptr::NonNull;

use crate::Dma;

/// A piece of bus-master memory, owned for ever.
///
/// Fields are read and written one volatile access each, in the bus's little-endian order, because the chip may change
/// them at any time. Offsets are the driver's own arithmetic: one out of bounds is a mistake in the driver and panics.
pub struct SharedMemory {
    base: NonNull<u8>,
    bus: u32,
    length: usize,
}

// SAFETY: the memory comes from `Dma::allocate`, which hands it out once; whoever owns the `SharedMemory` is its only user on
// the CPU's side, on whichever thread that is.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// Takes `length` zeroed bytes from `dma`, aligned to `align` (at least 4); `None` when there is no more.
    pub fn allocate<D: Dma>(dma: &D, length: usize, align: usize) -> Option<Self> {
        let base = dma.allocate(length, align.max(4))?;
        let bus = dma.bus_address(base.as_ptr(), length);
        // The chips add 32-bit offsets: the piece must not wrap.
        bus.checked_add(u32::try_from(length).ok()?)?;
        Some(Self { base, bus, length })
    }

    /// The bus address of the byte at `offset`.
    pub fn bus_address(&self, offset: usize) -> u32 {
        assert!(offset < self.length);
        // No truncation: `allocate` checked that the whole length fits.
        self.bus + offset as u32
    }

    /// The pointer to `width` bytes at `offset`, aligned to `width`.
    #[inline(always)]
    fn field(&self, offset: usize, width: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(width) && offset <= self.length - width);
        // SAFETY: just checked to lie within the allocation.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Reads two little-endian bytes.
    #[inline(always)]
    pub fn read16(&self, offset: usize) -> u16 {
        // SAFETY: `field` gives an aligned pointer into memory that lives for ever; every bit pattern is a u16.
        u16::from_le(unsafe { self.field(offset, 2).cast::<u16>().read_volatile() })
    }

    /// Reads four little-endian bytes.
    #[inline(always)]
    pub fn read32(&self, offset: usize) -> u32 {
        // SAFETY: as in `read16`.
        u32::from_le(unsafe { self.field(offset, 4).cast::<u32>().read_volatile() })
    }

    /// Writes two little-endian bytes.
    pub fn write16(&mut self, offset: usize, value: u16) {
        // SAFETY: `field` gives an aligned pointer into memory that lives for ever; `&mut self` keeps other writers of the CPU away.
        unsafe { self.field(offset, 2).cast::<u16>().write_volatile(value.to_le()) }
    }

    /// Writes four little-endian bytes.
    pub fn write32(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `write16`.
        unsafe { self.field(offset, 4).cast::<u32>().write_volatile(value.to_le()) }
    }

    /// Writes four little-endian bytes where they lie on an even address only, in two accesses: the lower half first.
    pub fn write32_halves(&mut self, offset: usize, value: u32) {
        self.write16(offset, value as u16);
        self.write16(offset + 2, (value >> 16) as u16);
    }

    /// The `length` bytes at `offset` as they are. Only for what the chip does not touch meanwhile: a frame it has
    /// completed, or a block it has not been given yet. (A chip that writes there all the same garbles the frame's
    /// contents; it cannot change where the slice lies or ends.)
    pub fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(length <= self.length && offset <= self.length - length);
        // SAFETY: within the allocation, initialised since `allocate` (zeroed), and borrowed from `&self`, so the CPU does
        // not write to it meanwhile.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr().add(offset), length) }
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self, offset: usize, length: usize) -> &mut [u8] {
        assert!(length <= self.length && offset <= self.length - length);
        // SAFETY: as above, but borrowed from `&mut self`, so the CPU's only reference to it.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), length) }
    }
}
