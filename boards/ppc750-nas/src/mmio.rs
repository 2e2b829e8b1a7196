//! Register windows and DMA memory for the drivers.

use core::arch::asm;
use core::ptr::NonNull;

use drivers::{Dma, Registers};

use crate::memory_map::{STACK_WINDOW, STACK_WINDOW_PAGES};
use crate::mmu::{self, PAGE};

/// A chip's registers on the PCI bus: little-endian, reached with byte-reversing loads and stores.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: u32,
}

impl Mmio {
    /// A window that begins at `base`.
    ///
    /// # Safety
    ///
    /// `base` lies in memory that [`crate::mmu::enable`] maps as a device, and whatever answers there stays there. Offsets
    /// given to the [`Registers`] methods stay inside the chip's window.
    pub const unsafe fn new(base: u32) -> Self {
        Self { base }
    }

    /// Where the window begins.
    pub const fn base(&self) -> u32 {
        self.base
    }
}

impl Registers for Mmio {
    #[inline]
    fn read8(&self, offset: usize) -> u8 {
        let value: u32;
        // SAFETY: a device by the promise of `new`; eieio keeps device accesses in order.
        unsafe {
            asm!("lbzx {}, {}, {}", "eieio", out(reg) value, in(reg_nonzero) self.base, in(reg) offset,
                options(nostack, preserves_flags));
        }
        value as u8
    }

    #[inline]
    fn read16(&self, offset: usize) -> u16 {
        let value: u32;
        // SAFETY: as for `read8`.
        unsafe {
            asm!("lhbrx {}, {}, {}", "eieio", out(reg) value, in(reg_nonzero) self.base, in(reg) offset,
                options(nostack, preserves_flags));
        }
        value as u16
    }

    #[inline]
    fn read32(&self, offset: usize) -> u32 {
        let value: u32;
        // SAFETY: as for `read8`.
        unsafe {
            asm!("lwbrx {}, {}, {}", "eieio", out(reg) value, in(reg_nonzero) self.base, in(reg) offset,
                options(nostack, preserves_flags));
        }
        value
    }

    #[inline]
    fn write8(&self, offset: usize, value: u8) {
        // SAFETY: as for `read8`.
        unsafe {
            asm!("stbx {}, {}, {}", "eieio", in(reg) u32::from(value), in(reg_nonzero) self.base, in(reg) offset,
                options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn write16(&self, offset: usize, value: u16) {
        // SAFETY: as for `read8`.
        unsafe {
            asm!("sthbrx {}, {}, {}", "eieio", in(reg) u32::from(value), in(reg_nonzero) self.base, in(reg) offset,
                options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn write32(&self, offset: usize, value: u32) {
        // SAFETY: as for `read8`.
        unsafe {
            asm!("stwbrx {}, {}, {}", "eieio", in(reg) value, in(reg_nonzero) self.base, in(reg) offset,
                options(nostack, preserves_flags));
        }
    }
}

/// The board's memory for bus masters: memory lies at the same address on the PCI bus, and the MPC106 keeps the caches
/// coherent by snooping. What it hands out comes from `allocate`.
#[derive(Clone, Copy, Debug)]
pub struct BoardDma {
    allocate: fn(usize, usize) -> Option<NonNull<u8>>,
}

impl BoardDma {
    /// DMA memory drawn from `allocate` (length, alignment).
    ///
    /// # Safety
    ///
    /// `allocate` returns memory of that length and alignment outside the stack window, which is the caller's for ever.
    pub const unsafe fn new(allocate: fn(usize, usize) -> Option<NonNull<u8>>) -> Self {
        Self { allocate }
    }
}

// SAFETY: the MPC106 maps memory one to one and snoops; the stack window is translated page by page, and a buffer there
// that is not in one piece is refused.
unsafe impl Dma for BoardDma {
    #[inline]
    fn bus_address(&self, pointer: *const u8, length: usize) -> u32 {
        let address = pointer as u32;
        if address < STACK_WINDOW {
            return address;
        }
        window_address(address, length)
    }

    fn allocate(&self, length: usize, align: usize) -> Option<NonNull<u8>> {
        let memory = (self.allocate)(length, align)?;
        // SAFETY: fresh memory of that length.
        unsafe { memory.as_ptr().write_bytes(0, length) };
        Some(memory)
    }

    #[inline]
    fn barrier(&self) {
        crate::cpu::sync();
    }
}

/// The physical address behind a buffer on a guarded stack.
///
/// # Panics
///
/// When the buffer is not in the window or its pages do not follow each other in memory: a program error, and a wrong
/// address would let a chip overwrite memory.
fn window_address(address: u32, length: usize) -> u32 {
    let offset = (address - STACK_WINDOW) as usize;
    let physical = |index: usize| match mmu::mapped_page(index) {
        Some(page) => page,
        None => panic!("DMA from unmapped address {address:#x}"),
    };
    let first = physical(offset / PAGE);
    let last = (offset + length.max(1) - 1) / PAGE;
    assert!(last < STACK_WINDOW_PAGES, "DMA beyond the stack window");
    let mut index = offset / PAGE;
    while index < last {
        assert!(physical(index) + PAGE as u32 == physical(index + 1), "DMA buffer not in one piece");
        index += 1;
    }
    first + (offset % PAGE) as u32
}
