//! Zilog Z8530 serial controller (ESCC), channel A: the console.
//!
//! The chip has two addresses a channel, control and data; a control write of a register's number selects that register
//! for the next control access. The console side is two software rings: the interrupt handler moves bytes between them
//! and the chip ([`Console::service`]), tasks only touch the rings. Register names are the Z8530 manual's.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::Registers;

/// Channel A's control address within the chip's window on this board.
const CONTROL: usize = 0x20;
/// Channel A's data address.
const DATA: usize = 0x30;

/// RR0: a received character waits.
const RECEIVE_AVAILABLE: u8 = 0x01;
/// RR0: the transmit buffer is empty.
const TRANSMIT_EMPTY: u8 = 0x04;
/// WR0: reset a pending transmit interrupt.
const RESET_TRANSMIT_INTERRUPT: u8 = 0x28;
/// WR0: error reset.
const RESET_ERROR: u8 = 0x30;
/// WR0: reset the highest interrupt under service.
const RESET_UNDER_SERVICE: u8 = 0x38;
/// WR1: transmit interrupts, and receive interrupts on every character.
const INTERRUPTS: u8 = 0x02 | 0x10;

/// How many bytes one call of [`Console::service`] moves each way at the most: an interrupt handler ends.
const BURST: usize = 64;
/// How often `write_polled` looks at a transmitter that does not become ready.
const PATIENCE: u32 = 1_000_000;

/// Channel A's registers, without any state.
pub struct Escc<R> {
    registers: R,
}

impl<R: Registers> Escc<R> {
    /// The chip behind `registers`.
    pub const fn new(registers: R) -> Self {
        Self { registers }
    }

    fn write(&self, register: u8, value: u8) {
        self.registers.write8(CONTROL, register);
        self.registers.write8(CONTROL, value);
    }

    fn status(&self) -> u8 {
        self.registers.read8(CONTROL)
    }

    /// Sets the line up: 8 bits, no parity, one stop bit, `divisor` for the baud rate generator, interrupts off. The
    /// generator's clock is divided by 2 x 16 x (divisor + 2).
    pub fn initialize(&self, divisor: u16) {
        // A read makes the next control write select a register, whatever happened before.
        let _ = self.status();
        self.write(9, 0x80); // channel reset A
        self.write(4, 0x44); // x16 clock, one stop bit
        self.write(11, 0x50); // both clocks from the baud rate generator
        self.write(12, divisor.to_le_bytes()[0]);
        self.write(13, divisor.to_le_bytes()[1]);
        self.write(14, 0x03); // generator on, from the chip's clock
        self.write(3, 0xC1); // receive 8 bits, on
        self.write(5, 0xEA); // transmit 8 bits, on, RTS and DTR
        self.write(15, 0); // no external/status interrupts
        self.write(1, 0);
        // Whatever stands in the three-byte receive queue is from before. (It also tells the emulated chip's line that
        // the receiver is ready: without a read it would not offer its first byte.)
        for _ in 0..3 {
            let _ = self.registers.read8(DATA);
        }
    }

    /// Lets received characters and an empty transmitter interrupt.
    pub fn enable_interrupts(&self) {
        self.registers.write8(CONTROL, RESET_TRANSMIT_INTERRUPT);
        self.write(1, INTERRUPTS);
        self.write(9, 0x08); // master interrupt enable
    }

    /// Sends a byte, waiting for the transmitter; gives up on one that stays busy.
    pub fn write_polled(&self, byte: u8) {
        for _ in 0..PATIENCE {
            if self.status() & TRANSMIT_EMPTY != 0 {
                break;
            }
        }
        self.registers.write8(DATA, byte);
    }

    /// A received byte, if there is one.
    fn receive(&self) -> Option<u8> {
        (self.status() & RECEIVE_AVAILABLE != 0).then(|| self.registers.read8(DATA))
    }
}

/// A ring of bytes with one writer and one reader, of which either may be an interrupt handler. `N` is a power of two.
struct Ring<const N: usize> {
    bytes: [AtomicU8; N],
    /// Bytes ever put in, modulo 2^32.
    written: AtomicUsize,
    /// Bytes ever taken out.
    read: AtomicUsize,
}

impl<const N: usize> Ring<N> {
    const fn new() -> Self {
        assert!(N.is_power_of_two());
        Self {
            bytes: [const { AtomicU8::new(0) }; N],
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
        }
    }

    fn length(&self) -> usize {
        self.written.load(Ordering::Acquire).wrapping_sub(self.read.load(Ordering::Acquire))
    }

    fn push(&self, byte: u8) -> bool {
        if self.length() >= N {
            return false;
        }
        let place = self.written.load(Ordering::Relaxed);
        if let Some(slot) = self.bytes.get(place & (N - 1)) {
            slot.store(byte, Ordering::Relaxed);
        }
        self.written.store(place.wrapping_add(1), Ordering::Release);
        true
    }

    fn pop(&self) -> Option<u8> {
        if self.length() == 0 {
            return None;
        }
        let place = self.read.load(Ordering::Relaxed);
        let byte = self.bytes.get(place & (N - 1))?.load(Ordering::Relaxed);
        self.read.store(place.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

/// What [`Console::service`] did, for the handler to tell the tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serviced {
    /// Bytes came in.
    pub received: bool,
    /// The transmit ring went empty.
    pub transmitted: bool,
}

/// The interrupt-driven console: the chip and a software ring each way.
pub struct Console<R> {
    chip: Escc<R>,
    incoming: Ring<256>,
    outgoing: Ring<4096>,
    /// The transmitter was given a byte and will interrupt when it is empty again.
    busy: AtomicBool,
    lost: AtomicU32,
}

impl<R: Registers> Console<R> {
    /// A console on `registers`; [`start`](Self::start) sets the chip up.
    pub const fn new(registers: R) -> Self {
        Self {
            chip: Escc::new(registers),
            incoming: Ring::new(),
            outgoing: Ring::new(),
            busy: AtomicBool::new(false),
            lost: AtomicU32::new(0),
        }
    }

    /// Sets the chip up and lets it interrupt; `divisor` as for [`Escc::initialize`].
    pub fn start(&self, divisor: u16) {
        self.chip.initialize(divisor);
        self.chip.enable_interrupts();
    }

    /// Moves bytes between chip and rings. For the interrupt handler; tasks call it with interrupts off after they wrote
    /// into an idle line.
    pub fn service(&self) -> Serviced {
        let mut serviced = Serviced::default();
        for _ in 0..BURST {
            let Some(byte) = self.chip.receive() else { break };
            if !self.incoming.push(byte) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            serviced.received = true;
        }
        self.chip.registers.write8(CONTROL, RESET_ERROR);
        for _ in 0..BURST {
            if self.chip.status() & TRANSMIT_EMPTY == 0 {
                break;
            }
            let Some(byte) = self.outgoing.pop() else {
                // Nothing to send: without this the empty transmitter would go on interrupting.
                self.chip.registers.write8(CONTROL, RESET_TRANSMIT_INTERRUPT);
                serviced.transmitted = self.busy.swap(false, Ordering::Relaxed);
                break;
            };
            self.busy.store(true, Ordering::Relaxed);
            self.chip.registers.write8(DATA, byte);
        }
        self.chip.registers.write8(CONTROL, RESET_UNDER_SERVICE);
        serviced
    }

    /// Puts bytes into the transmit ring and says how many fitted. The chip starts on them at its next interrupt, or at
    /// the next [`service`](Self::service) when [`is_idle`](Self::is_idle).
    pub fn write(&self, bytes: &[u8]) -> usize {
        bytes.iter().take_while(|&&byte| self.outgoing.push(byte)).count()
    }

    /// No byte is on its way, so no interrupt will come by itself.
    pub fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.outgoing.length()
    }

    /// Takes received bytes and says how many.
    pub fn read(&self, bytes: &mut [u8]) -> usize {
        let mut count = 0;
        for place in bytes {
            let Some(byte) = self.incoming.pop() else { break };
            *place = byte;
            count += 1;
        }
        count
    }

    /// Received bytes that were dropped because nobody read.
    pub fn lost(&self) -> u32 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sends everything in the ring by polling. For reports when interrupts no longer work.
    pub fn drain(&self) {
        while let Some(byte) = self.outgoing.pop() {
            self.chip.write_polled(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// Channel A of a Z8530 that sends at once or holds its transmitter.
    #[derive(Default)]
    struct FakeChip {
        selected: Cell<u8>,
        written: RefCell<[u8; 16]>,
        line_in: RefCell<VecDeque<u8>>,
        line_out: RefCell<Vec<u8>>,
        /// Bytes that the transmitter takes before it is full.
        room: Cell<usize>,
        transmit_interrupt: Cell<bool>,
    }

    impl FakeChip {
        fn interrupting(&self) -> bool {
            let enabled = self.written.borrow()[1];
            enabled & 0x10 != 0 && !self.line_in.borrow().is_empty()
                || enabled & 0x02 != 0 && self.transmit_interrupt.get()
        }
    }

    impl Registers for &FakeChip {
        fn read8(&self, offset: usize) -> u8 {
            match offset {
                CONTROL => {
                    assert_eq!(self.selected.replace(0), 0, "only RR0 is read");
                    let available = u8::from(!self.line_in.borrow().is_empty());
                    available | if self.room.get() > 0 { TRANSMIT_EMPTY } else { 0 }
                }
                DATA => self.line_in.borrow_mut().pop_front().unwrap_or(0),
                _ => panic!("channel B"),
            }
        }
        fn write8(&self, offset: usize, value: u8) {
            match (offset, self.selected.get()) {
                (CONTROL, 0) if value >= 0x10 => {
                    if value == RESET_TRANSMIT_INTERRUPT {
                        self.transmit_interrupt.set(false);
                    }
                }
                (CONTROL, 0) => self.selected.set(value),
                (CONTROL, register) => {
                    self.selected.set(0);
                    self.written.borrow_mut()[usize::from(register)] = value;
                }
                (DATA, 0) => {
                    assert!(self.room.get() > 0, "transmitter overrun");
                    assert_eq!(self.written.borrow()[5] & 0x68, 0x68, "transmitter not set up");
                    self.room.set(self.room.get() - 1);
                    self.line_out.borrow_mut().push(value);
                    self.transmit_interrupt.set(true);
                }
                _ => panic!("write to {offset:#x}"),
            }
        }
        fn read16(&self, _: usize) -> u16 {
            panic!("the chip is byte wide")
        }
        fn read32(&self, _: usize) -> u32 {
            panic!("the chip is byte wide")
        }
        fn write16(&self, _: usize, _: u16) {
            panic!("the chip is byte wide")
        }
        fn write32(&self, _: usize, _: u32) {
            panic!("the chip is byte wide")
        }
    }

    #[test]
    fn sets_the_line_up() {
        let chip = FakeChip::default();
        Console::new(&chip).start(10);
        let written = chip.written.borrow();
        assert_eq!((written[3], written[4], written[12], written[13]), (0xC1, 0x44, 10, 0));
        assert_eq!(written[1], INTERRUPTS);
    }

    #[test]
    fn receives_until_the_ring_is_full_and_counts_the_rest() {
        let chip = FakeChip::default();
        let console = Console::new(&chip);
        console.start(10);
        chip.line_in.borrow_mut().extend((0..300u32).map(|byte| byte as u8));
        while chip.interrupting() {
            assert!(console.service().received);
        }
        let mut bytes = [0; 400];
        assert_eq!(console.read(&mut bytes), 256);
        assert_eq!(console.lost(), 44);
        assert!(bytes[..256].iter().enumerate().all(|(index, &byte)| byte == index as u8));
        assert_eq!(console.read(&mut bytes), 0);
    }

    #[test]
    fn a_slow_line_is_fed_by_its_interrupts() {
        let chip = FakeChip::default();
        let console = Console::new(&chip);
        console.start(10);
        chip.room.set(1);
        let text: Vec<u8> = (0..5000u32).map(|byte| byte as u8).collect();
        assert_eq!(console.write(&text), 4096);
        assert!(console.is_idle());
        console.service();
        assert!(!console.is_idle());
        let mut done = false;
        for _ in 0..5000 {
            assert!(!done);
            chip.room.set(1);
            if chip.interrupting() {
                done = console.service().transmitted;
            }
            if done {
                break;
            }
        }
        assert!(done && console.is_idle() && !chip.interrupting());
        assert_eq!(*chip.line_out.borrow(), &text[..4096]);
    }

    #[test]
    fn a_fast_line_does_not_hold_the_handler_for_ever() {
        let chip = FakeChip::default();
        let console = Console::new(&chip);
        console.start(10);
        chip.room.set(usize::MAX);
        console.write(&[b'x'; 100]);
        console.service();
        assert_eq!(chip.line_out.borrow().len(), BURST);
        assert!(chip.interrupting());
        assert!(console.service().transmitted);
        assert_eq!(chip.line_out.borrow().len(), 100);
    }
}
