//! How much memory there is: by trying.

use crate::memory_map::{BOOT_STACK_TOP, MAXIMUM_RAM};

/// Steps in which memory may be fitted.
const STEP: u32 = 1 << 20;
/// Steps that are tried first: memory that is decoded incompletely comes back at a multiple of this, if it is larger.
const STRIDE: u32 = 32 << 20;
/// The word of each step that is tried: behind everything the boot block uses in the first one.
const OFFSET: u32 = 0x0008_0000;
const PATTERN: u32 = 0x3C5A_A5C3;

const _: () = assert!(OFFSET >= BOOT_STACK_TOP && OFFSET < STEP);

/// Memory, a word at a time, past any cache.
pub trait Words {
    /// Reads the word at `address`.
    fn read(&self, address: u32) -> u32;
    /// Writes the word at `address`.
    fn write(&self, address: u32, value: u32);
}

/// Bytes of memory from address 0 on, at most [`MAXIMUM_RAM`]; found by writing a word of a mebibyte and putting back what
/// was there: in strides first, then every mebibyte of the last stride. (Trying them all would make an emulator provide
/// all of its guest's memory at once, which takes it a second.)
///
/// The end of memory shows in one of two ways: the word does not come back, or it changes a word below, because the
/// controller does not look at all address lines. The word of the first mebibyte is written in between, so that what is
/// read is not what still hangs on the bus. The first mebibyte is taken for granted.
pub fn size(memory: &impl Words) -> u32 {
    let first_before = memory.read(OFFSET);
    let mut stride = 0;
    while stride + STRIDE < MAXIMUM_RAM && is_memory(memory, stride + STRIDE) {
        stride += STRIDE;
    }
    let mut end = stride + STEP;
    while end < stride + STRIDE && is_memory(memory, end) {
        end += STEP;
    }
    memory.write(OFFSET, first_before);
    end
}

/// Whether the mebibyte at `start` is there, and is not another name of the first one, whose probe word it overwrites.
fn is_memory(memory: &impl Words, start: u32) -> bool {
    let place = start + OFFSET;
    let before = memory.read(place);
    memory.write(place, PATTERN ^ start);
    memory.write(OFFSET, !PATTERN);
    let held = memory.read(place) == PATTERN ^ start;
    // With the order turned round, a place that is the first one under another name shows as well.
    memory.write(place, PATTERN ^ start);
    let apart = memory.read(OFFSET) == !PATTERN;
    memory.write(place, before);
    held && apart
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    /// Memory of `size` bytes whose content is a function of the address until it is written; beyond it, reads give the
    /// last value on the bus, nothing, or with `mask` lower memory again.
    struct Fake {
        size: u32,
        mask: u32,
        floating: bool,
        bus: Cell<u32>,
        written: RefCell<BTreeMap<u32, u32>>,
    }

    impl Fake {
        fn new(size: u32) -> Self {
            Self { size, mask: u32::MAX, floating: false, bus: Cell::new(0), written: RefCell::default() }
        }
        fn original(address: u32) -> u32 {
            address.wrapping_mul(0x9E37_79B9)
        }
        fn untouched(&self) -> bool {
            self.written.borrow().iter().all(|(&address, &value)| value == Self::original(address))
        }
    }

    impl Words for Fake {
        fn read(&self, address: u32) -> u32 {
            let address = address & self.mask;
            if address < self.size {
                let written = self.written.borrow().get(&address).copied();
                self.bus.set(written.unwrap_or_else(|| Self::original(address)));
                self.bus.get()
            } else if self.floating {
                self.bus.get()
            } else {
                0
            }
        }
        fn write(&self, address: u32, value: u32) {
            self.bus.set(value);
            let address = address & self.mask;
            if address < self.size {
                self.written.borrow_mut().insert(address, value);
            }
        }
    }

    #[test]
    fn finds_the_end_and_leaves_everything_as_it_was() {
        for mebibytes in [1, 2, 3, 16, 31, 32, 33, 64, 96, 480, 481, 511, 512, 768] {
            for floating in [false, true] {
                let memory = Fake { floating, ..Fake::new(mebibytes << 20) };
                assert_eq!(size(&memory), (mebibytes << 20).min(MAXIMUM_RAM));
                assert!(memory.untouched());
            }
        }
    }

    #[test]
    fn memory_that_comes_back_at_higher_addresses_is_counted_once() {
        for mebibytes in [1, 8, 16, 32, 64, 128, 256] {
            let memory = Fake { mask: (mebibytes << 20) - 1, ..Fake::new(mebibytes << 20) };
            assert_eq!(size(&memory), mebibytes << 20);
            assert!(memory.untouched());
        }
    }
}
