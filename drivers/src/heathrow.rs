//! Heathrow's interrupt controller: 64 inputs, each with an event, a mask and a level.
//!
//! Inputs 20 to 28 (PCI) are level triggered: pending while the line is, and not cleared by acknowledging. All others
//! latch an edge in the event register until it is acknowledged. Two banks of registers: inputs 32-63 at offset 0x10,
//! inputs 0-31 at 0x20; in each, events +0, mask +4, acknowledge +8, levels +C.

use crate::Registers;

const BANK_OFFSETS: [usize; 2] = [0x20, 0x10];
const EVENTS: usize = 0x0;
const MASK: usize = 0x4;
const ACKNOWLEDGE: usize = 0x8;
const LEVELS: usize = 0xC;

/// Inputs that are pending as long as their line is.
pub const LEVEL_TRIGGERED: u64 = 0x1FF0_0000;

/// The controller. Holds no state but the chip's.
pub struct Heathrow<R> {
    registers: R,
}

impl<R: Registers> Heathrow<R> {
    /// The controller behind `registers`, the start of Heathrow's window.
    pub const fn new(registers: R) -> Self {
        Self { registers }
    }

    fn read(&self, register: usize) -> u64 {
        let low = self.registers.read32(BANK_OFFSETS[0] + register);
        let high = self.registers.read32(BANK_OFFSETS[1] + register);
        u64::from(high) << 32 | u64::from(low)
    }

    fn write(&self, register: usize, value: u64) {
        self.registers.write32(BANK_OFFSETS[0] + register, value as u32);
        self.registers.write32(BANK_OFFSETS[1] + register, (value >> 32) as u32);
    }

    /// Masks every input and forgets every latched event.
    pub fn initialize(&self) {
        self.write(MASK, 0);
        self.write(ACKNOWLEDGE, u64::MAX);
    }

    /// Lets `input` (0 to 63) interrupt, or no longer. Not for an interrupt handler and a task at once.
    pub fn set_enabled(&self, input: u8, enabled: bool) {
        let bank = BANK_OFFSETS[usize::from(input >> 5 & 1)];
        let bit = 1 << (input & 31);
        let mask = self.registers.read32(bank + MASK);
        self.registers.write32(bank + MASK, if enabled { mask | bit } else { mask & !bit });
    }

    /// The inputs that interrupt, one bit each; latched ones are acknowledged, so that what happens from here on is
    /// pending again. Serve the devices afterwards.
    pub fn take_pending(&self) -> u64 {
        let latched = self.read(EVENTS) & !LEVEL_TRIGGERED;
        let lines = self.read(LEVELS) & LEVEL_TRIGGERED;
        let pending = (latched | lines) & self.read(MASK);
        let edges = pending & !LEVEL_TRIGGERED;
        if edges != 0 {
            self.write(ACKNOWLEDGE, edges);
        }
        pending
    }

    /// The inputs as they are at this moment, masked or not.
    pub fn levels(&self) -> u64 {
        self.read(LEVELS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// The controller's documented behaviour.
    #[derive(Default)]
    struct FakeController {
        events: Cell<u64>,
        mask: Cell<u64>,
        levels: Cell<u64>,
    }

    impl FakeController {
        fn raise(&self, input: u8) {
            self.levels.set(self.levels.get() | 1 << input);
            self.events.set(self.events.get() | (1 << input & !LEVEL_TRIGGERED));
        }
        fn lower(&self, input: u8) {
            self.levels.set(self.levels.get() & !(1 << input));
        }
        fn interrupting(&self) -> bool {
            (self.events.get() | self.levels.get() & LEVEL_TRIGGERED) & self.mask.get() != 0
        }
    }

    impl Registers for &FakeController {
        fn read32(&self, offset: usize) -> u32 {
            let value = match offset & 0xF {
                EVENTS => self.events.get(),
                MASK => self.mask.get(),
                LEVELS => self.levels.get(),
                _ => panic!("the acknowledge register cannot be read"),
            };
            match offset & !0xF {
                0x20 => value as u32,
                0x10 => (value >> 32) as u32,
                _ => panic!("no register at {offset:#x}"),
            }
        }
        fn write32(&self, offset: usize, value: u32) {
            let (shift, keep) = match offset & !0xF {
                0x20 => (0, 0xFFFF_FFFF_0000_0000),
                0x10 => (32, 0xFFFF_FFFF),
                _ => panic!("no register at {offset:#x}"),
            };
            let value = u64::from(value) << shift;
            match offset & 0xF {
                MASK => self.mask.set(self.mask.get() & keep | value),
                ACKNOWLEDGE => self.events.set(self.events.get() & !(value & !LEVEL_TRIGGERED)),
                _ => panic!("read-only register"),
            }
        }
        fn read8(&self, _: usize) -> u8 {
            panic!("32-bit registers")
        }
        fn read16(&self, _: usize) -> u16 {
            panic!("32-bit registers")
        }
        fn write8(&self, _: usize, _: u8) {
            panic!("32-bit registers")
        }
        fn write16(&self, _: usize, _: u16) {
            panic!("32-bit registers")
        }
    }

    #[test]
    fn an_edge_is_pending_once() {
        let chip = FakeController::default();
        let controller = Heathrow::new(&chip);
        controller.initialize();
        controller.set_enabled(15, true);
        chip.raise(15);
        assert!(chip.interrupting());
        assert_eq!(controller.take_pending(), 1 << 15);
        assert!(!chip.interrupting());
        assert_eq!(controller.take_pending(), 0);
        chip.raise(15);
        assert_eq!(controller.take_pending(), 1 << 15);
    }

    #[test]
    fn a_level_is_pending_until_the_line_falls() {
        let chip = FakeController::default();
        let controller = Heathrow::new(&chip);
        controller.set_enabled(22, true);
        chip.raise(22);
        assert_eq!(controller.take_pending(), 1 << 22);
        assert_eq!(controller.take_pending(), 1 << 22);
        chip.lower(22);
        assert_eq!(controller.take_pending(), 0);
    }

    #[test]
    fn masked_inputs_keep_their_event() {
        let chip = FakeController::default();
        let controller = Heathrow::new(&chip);
        controller.initialize();
        chip.raise(42);
        assert_eq!(controller.take_pending(), 0);
        controller.set_enabled(42, true);
        assert_eq!(controller.take_pending(), 1 << 42);
        controller.set_enabled(42, false);
        chip.raise(42);
        assert!(!chip.interrupting());
    }
}
