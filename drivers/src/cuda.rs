//! The CUDA microcontroller behind Heathrow's VIA (6522): real-time clock, power-off, reset.
//!
//! Bytes go through the VIA's shift register; three lines of port B shake hands, all active low: TREQ (CUDA wants to
//! talk), TACK and TIP (transfer acknowledge and in progress, ours). The shift register's interrupt flag says that a byte
//! has gone over. A packet to CUDA is a type, a command and its arguments; the answer begins with the type, a flag byte
//! and the command. The chip takes some tens of microseconds a byte, so [`Cuda::transact`] polls, with a bounded patience:
//! it is used once at start, and when somebody sets the clock, restarts or switches off.

use crate::Registers;

/// Registers of the VIA lie 0x200 apart.
const PORT_B: usize = 0x0000;
const DIRECTION_B: usize = 0x0400;
const SHIFT: usize = 0x1400;
const AUXILIARY: usize = 0x1600;
const FLAGS: usize = 0x1A00;
const ENABLES: usize = 0x1C00;

/// Port B: CUDA asks for a transfer (active low).
const TREQ: u8 = 0x08;
/// Port B: byte acknowledged (active low), toggled for every byte.
const TACK: u8 = 0x10;
/// Port B: transfer in progress (active low).
const TIP: u8 = 0x20;
/// Auxiliary control: shift in or out under CUDA's clock.
const SHIFT_EXTERNAL: u8 = 0x0C;
/// Auxiliary control: direction of the shift register, out.
const SHIFT_OUT: u8 = 0x10;
/// Interrupt flags: the shift register is done.
const SHIFTED: u8 = 0x04;

/// Packet type of commands to CUDA itself.
const CUDA_PACKET: u8 = 1;
/// Packet type of an error answer.
const ERROR_PACKET: u8 = 2;
const GET_TIME: u8 = 0x03;
const SET_TIME: u8 = 0x09;
const POWER_DOWN: u8 = 0x0A;
const RESET_SYSTEM: u8 = 0x11;

/// Seconds from 1904-01-01, where CUDA counts from, to 1970-01-01.
const EPOCH: u32 = 2_082_844_800;
/// The longest answer: type, flags, command, a time.
const ANSWER: usize = 16;

/// Why CUDA did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CudaError {
    /// It stopped shaking hands.
    TimeOut,
    /// It answered with an error packet.
    Refused,
    /// It answered something else.
    Answer,
}

/// The microcontroller. `pause` waits for about a microsecond and is called up to `patience` times for each byte.
pub struct Cuda<R, P> {
    registers: R,
    pause: P,
    patience: u32,
}

impl<R: Registers, P: Fn()> Cuda<R, P> {
    /// CUDA behind the VIA at `registers`.
    pub const fn new(registers: R, pause: P, patience: u32) -> Self {
        Self { registers, pause, patience }
    }

    fn port(&self, set: u8, clear: u8) {
        let value = self.registers.read8(PORT_B);
        self.registers.write8(PORT_B, value & !clear | set);
    }

    fn wait(&self, done: impl Fn() -> bool) -> Result<(), CudaError> {
        for _ in 0..self.patience {
            if done() {
                return Ok(());
            }
            (self.pause)();
        }
        Err(CudaError::TimeOut)
    }

    fn wait_shifted(&self) -> Result<(), CudaError> {
        self.wait(|| self.registers.read8(FLAGS) & SHIFTED != 0)
    }

    /// Takes the shift register's byte, which also clears its flag.
    fn take(&self) -> u8 {
        self.registers.read8(SHIFT)
    }

    /// Sets the lines up and empties what CUDA may have to say from before.
    pub fn initialize(&self) -> Result<(), CudaError> {
        self.registers.write8(ENABLES, 0x7F); // no interrupts from the VIA
        self.registers.write8(DIRECTION_B, TACK | TIP);
        self.port(TACK | TIP, 0);
        self.registers.write8(AUXILIARY, SHIFT_EXTERNAL);
        self.take();
        // Acknowledge without a transfer: CUDA synchronizes and lets TREQ go.
        self.port(0, TACK);
        self.wait_shifted()?;
        self.take();
        self.port(TACK, 0);
        self.wait_shifted()?;
        self.take();
        self.wait(|| self.registers.read8(PORT_B) & TREQ != 0)
    }

    fn send(&self, packet: &[u8]) -> Result<(), CudaError> {
        self.registers.write8(AUXILIARY, SHIFT_EXTERNAL | SHIFT_OUT);
        for (index, &byte) in packet.iter().enumerate() {
            self.registers.write8(SHIFT, byte);
            if index == 0 {
                self.port(0, TIP);
            } else if self.registers.read8(PORT_B) & TACK != 0 {
                self.port(0, TACK);
            } else {
                self.port(TACK, 0);
            }
            self.wait_shifted()?;
            // Reading would clear the flag but also start the next shift on hardware; writing the flag does not.
            self.registers.write8(FLAGS, SHIFTED);
        }
        self.registers.write8(AUXILIARY, SHIFT_EXTERNAL);
        self.port(TACK | TIP, 0);
        self.wait_shifted()?;
        self.take();
        Ok(())
    }

    fn receive(&self, answer: &mut [u8; ANSWER]) -> Result<usize, CudaError> {
        self.wait(|| self.registers.read8(PORT_B) & TREQ == 0)?;
        // CUDA may still signal the end of the packet before.
        self.registers.write8(FLAGS, SHIFTED);
        let mut length = 0;
        self.port(0, TIP);
        for place in answer.iter_mut() {
            self.wait_shifted()?;
            *place = self.take();
            length += 1;
            if self.registers.read8(PORT_B) & TREQ != 0 {
                break;
            }
            if self.registers.read8(PORT_B) & TACK != 0 { self.port(0, TACK) } else { self.port(TACK, 0) }
        }
        self.port(TACK | TIP, 0);
        self.wait_shifted()?;
        self.take();
        Ok(length)
    }

    /// Sends a command with its arguments and returns what follows the answer's three head bytes.
    fn transact(&self, packet: &[u8], answer: &mut [u8; ANSWER]) -> Result<usize, CudaError> {
        self.send(packet)?;
        // Answers to somebody else's requests (a key pressed) come in between: skip a few.
        for _ in 0..4 {
            let length = self.receive(answer)?;
            match (answer.first(), answer.get(2), packet.get(1)) {
                (Some(&CUDA_PACKET), Some(answered), Some(asked)) if answered == asked && length >= 3 => {
                    return Ok(length - 3);
                }
                (Some(&ERROR_PACKET), ..) => return Err(CudaError::Refused),
                _ => {}
            }
        }
        Err(CudaError::Answer)
    }

    /// The clock, in seconds since 1970 UTC. It runs to 2040; a clock that was never set may say anything.
    pub fn time(&self) -> Result<u32, CudaError> {
        let mut answer = [0; ANSWER];
        if self.transact(&[CUDA_PACKET, GET_TIME], &mut answer)? < 4 {
            return Err(CudaError::Answer);
        }
        let seconds = u32::from_be_bytes([answer[3], answer[4], answer[5], answer[6]]);
        Ok(seconds.wrapping_sub(EPOCH))
    }

    /// Sets the clock to `seconds` since 1970 UTC.
    pub fn set_time(&self, seconds: u32) -> Result<(), CudaError> {
        let [a, b, c, d] = seconds.wrapping_add(EPOCH).to_be_bytes();
        self.transact(&[CUDA_PACKET, SET_TIME, a, b, c, d], &mut [0; ANSWER]).map(|_| ())
    }

    /// Switches the power off. Returns when it is about to go, or with an error when CUDA does not listen.
    pub fn power_off(&self) -> Result<(), CudaError> {
        self.send(&[CUDA_PACKET, POWER_DOWN])
    }

    /// Pulls the reset line. Returns when it is about to happen.
    pub fn reset(&self) -> Result<(), CudaError> {
        self.send(&[CUDA_PACKET, RESET_SYSTEM])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::vec;
    use std::vec::Vec;

    /// CUDA's side of the handshake. A byte takes three looks at the flag.
    #[derive(Default)]
    struct FakeCuda {
        port: Cell<u8>,
        shift: Cell<u8>,
        auxiliary: Cell<u8>,
        flag: Cell<bool>,
        delay: Cell<u8>,
        incoming: RefCell<Vec<u8>>,
        outgoing: RefCell<Vec<u8>>,
        clock: Cell<u32>,
        commands: RefCell<Vec<u8>>,
        dead: bool,
    }

    impl FakeCuda {
        fn new() -> Self {
            Self { port: Cell::new(TREQ | TACK | TIP), ..Self::default() }
        }

        fn signal(&self) {
            if !self.dead {
                self.delay.set(3);
            }
        }

        fn execute(&self, packet: &[u8]) {
            self.commands.borrow_mut().push(packet[1]);
            let answer = match packet {
                [CUDA_PACKET, GET_TIME] => [&[1, 0, GET_TIME][..], &self.clock.get().to_be_bytes()].concat(),
                [CUDA_PACKET, SET_TIME, time @ ..] => {
                    self.clock.set(u32::from_be_bytes(time.try_into().unwrap()));
                    vec![1, 0, SET_TIME]
                }
                [CUDA_PACKET, command] => vec![1, 0, *command],
                _ => vec![2, 2, packet[0], packet[1]],
            };
            self.outgoing.borrow_mut().extend(answer);
            self.port.set(self.port.get() & !TREQ);
        }

        fn lines_changed(&self, before: u8, now: u8) {
            if now & TIP == 0 {
                if (before ^ now) & (TACK | TIP) == 0 {
                    return;
                }
                if self.auxiliary.get() & SHIFT_OUT != 0 {
                    self.incoming.borrow_mut().push(self.shift.get());
                    self.signal();
                } else if !self.outgoing.borrow().is_empty() {
                    self.shift.set(self.outgoing.borrow_mut().remove(0));
                    if self.outgoing.borrow().is_empty() {
                        self.port.set(self.port.get() | TREQ);
                    }
                    self.signal();
                }
            } else if before & TIP == 0 {
                self.signal();
                let packet = self.incoming.take();
                if !packet.is_empty() {
                    self.execute(&packet);
                }
            } else if (before ^ now) & TACK != 0 {
                let treq = if now & TACK != 0 { TREQ } else { 0 };
                self.port.set(self.port.get() & !TREQ | treq);
                self.signal();
            }
        }
    }

    impl Registers for &FakeCuda {
        fn read8(&self, offset: usize) -> u8 {
            match offset {
                PORT_B => self.port.get(),
                SHIFT => {
                    self.flag.set(false);
                    self.shift.get()
                }
                FLAGS => {
                    if self.delay.get() > 0 {
                        self.delay.set(self.delay.get() - 1);
                        self.flag.set(self.delay.get() == 0);
                    }
                    if self.flag.get() { SHIFTED } else { 0 }
                }
                _ => panic!("read of {offset:#x}"),
            }
        }
        fn write8(&self, offset: usize, value: u8) {
            match offset {
                PORT_B => {
                    let before = self.port.get();
                    self.port.set(before & TREQ | value & !TREQ);
                    self.lines_changed(before, value);
                }
                SHIFT => self.shift.set(value),
                AUXILIARY => self.auxiliary.set(value),
                FLAGS if value & SHIFTED != 0 => self.flag.set(false),
                DIRECTION_B => assert_eq!(value, TACK | TIP),
                ENABLES => assert_eq!(value & 0x80, 0),
                _ => panic!("write to {offset:#x}"),
            }
        }
        fn read16(&self, _: usize) -> u16 {
            panic!("byte registers")
        }
        fn read32(&self, _: usize) -> u32 {
            panic!("byte registers")
        }
        fn write16(&self, _: usize, _: u16) {
            panic!("byte registers")
        }
        fn write32(&self, _: usize, _: u32) {
            panic!("byte registers")
        }
    }

    #[test]
    fn sets_and_gets_the_time() {
        let chip = FakeCuda::new();
        let cuda = Cuda::new(&chip, || {}, 100);
        cuda.initialize().unwrap();
        chip.clock.set(EPOCH + 1);
        assert_eq!(cuda.time(), Ok(1));
        cuda.set_time(1_800_000_000).unwrap();
        assert_eq!(chip.clock.get(), 1_800_000_000 + EPOCH);
        assert_eq!(cuda.time(), Ok(1_800_000_000));
    }

    #[test]
    fn resets_and_switches_off() {
        let chip = FakeCuda::new();
        let cuda = Cuda::new(&chip, || {}, 100);
        cuda.initialize().unwrap();
        cuda.reset().unwrap();
        assert_eq!(*chip.commands.borrow(), [RESET_SYSTEM]);
        cuda.receive(&mut [0; ANSWER]).unwrap();
        cuda.power_off().unwrap();
        assert_eq!(*chip.commands.borrow(), [RESET_SYSTEM, POWER_DOWN]);
    }

    #[test]
    fn a_dead_chip_is_given_up() {
        let chip = FakeCuda { dead: true, ..FakeCuda::new() };
        let cuda = Cuda::new(&chip, || {}, 100);
        assert_eq!(cuda.initialize(), Err(CudaError::TimeOut));
        assert_eq!(cuda.time(), Err(CudaError::TimeOut));
    }
}
