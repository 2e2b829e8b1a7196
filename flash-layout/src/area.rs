//! The areas of the flash.

/// Bytes in the flash.
pub const FLASH_SIZE: u32 = 0x40_0000;

/// Bytes that one erase sets to ones; every area is whole blocks.
pub const ERASE_BLOCK: u32 = 0x1_0000;

/// A range of the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Bytes from the flash's start.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

impl Area {
    /// The first offset after the area.
    pub const fn end(self) -> u32 {
        self.offset + self.length
    }
}

/// The first firmware image.
pub const SLOT_A: Area = Area { offset: 0x00_0000, length: 0x18_0000 };
/// The second firmware image.
pub const SLOT_B: Area = Area { offset: 0x18_0000, length: 0x18_0000 };
/// What runs at reset: checks the slots, unpacks one to memory and enters it.
pub const BOOT_BLOCK: Area = Area { offset: 0x30_0000, length: 0x1_0000 };
/// The configuration log: two halves.
pub const CONFIGURATION: Area = Area { offset: 0x31_0000, length: 0x4_0000 };
/// What the last panic had to say.
pub const CRASH: Area = Area { offset: 0x35_0000, length: 0x1_0000 };
/// The entropy pool's seed: two erase blocks.
pub const SEED: Area = Area { offset: 0x36_0000, length: 0x2_0000 };

/// Every area, in the order of the flash.
pub const AREAS: [Area; 6] = [SLOT_A, SLOT_B, BOOT_BLOCK, CONFIGURATION, CRASH, SEED];

const _: () = {
    let mut index = 0;
    let mut end = 0;
    while index < AREAS.len() {
        let area = AREAS[index];
        assert!(area.offset == end, "areas follow each other");
        assert!(area.length.is_multiple_of(ERASE_BLOCK), "areas are whole erase blocks");
        end = area.end();
        index += 1;
    }
    assert!(end <= FLASH_SIZE);
};
