//! The memory that a channel shares with its chip.

use super::super::scripts::{AREA_BYTES, BLOCK_BYTES};
use core::ptr::NonNull;

/// The channel's memory, shared with the chip.
pub(super) struct Area {
    pub(super) pointer: NonNull<u8>,
    pub(super) bus: u32,
}

impl Area {
    fn check(offset: usize, length: usize) {
        assert!(offset.is_multiple_of(length) && offset + length <= AREA_BYTES, "outside the area");
    }

    pub(super) fn read8(&self, offset: usize) -> u8 {
        Self::check(offset, 1);
        // SAFETY: `check` keeps the access inside the area, which `Dma::allocate` handed out for ever; volatile, because
        // the chip writes there.
        unsafe { self.pointer.as_ptr().add(offset).read_volatile() }
    }

    pub(super) fn write8(&self, offset: usize, value: u8) {
        Self::check(offset, 1);
        // SAFETY: as in `read8`.
        unsafe { self.pointer.as_ptr().add(offset).write_volatile(value) }
    }

    pub(super) fn read32(&self, offset: usize) -> u32 {
        Self::check(offset, 4);
        // SAFETY: as in `read8`; the area and `offset` are multiples of four.
        u32::from_le(unsafe { self.pointer.as_ptr().add(offset).cast::<u32>().read_volatile() })
    }

    pub(super) fn write32(&self, offset: usize, value: u32) {
        Self::check(offset, 4);
        // SAFETY: as in `read32`.
        unsafe {
            self.pointer.as_ptr().add(offset).cast::<u32>().write_volatile(value.to_le());
        }
    }

    pub(super) fn block(slot: usize) -> usize {
        slot * BLOCK_BYTES
    }

    pub(super) fn block_bus(&self, slot: usize) -> u32 {
        self.bus + Self::block(slot) as u32
    }
}
