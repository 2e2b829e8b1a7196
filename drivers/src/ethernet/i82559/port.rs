//! What the interrupt handler and the task share of one 82559: its registers.

use core::sync::atomic::{AtomicU32, Ordering};

use super::registers::*;
use crate::{Dma, Registers};

/// One chip's registers and bus-master memory, shared by its interrupt handler and its task.
///
/// The handler calls [`acknowledge_interrupt`](Self::acknowledge_interrupt); everything else belongs to the [`I82559`](super::I82559)
/// that is built on the port. On a board it lives in a static or is leaked.
pub struct Port<R, D> {
    registers: R,
    dma: D,
    /// Interrupts taken; wraps.
    interrupts: AtomicU32,
}

/// How often a register is looked at before the chip is given up: several milliseconds on a PCI bus.
const PATIENCE: u32 = 20_000;

impl<R: Registers, D: Dma> Port<R, D> {
    /// A port around a chip, which is not touched yet.
    pub const fn new(registers: R, dma: D) -> Self {
        Self { registers, dma, interrupts: AtomicU32::new(0) }
    }

    /// The interrupt handler's whole work: whether the chip asks for attention, in which case it is masked (so a shared,
    /// level-triggered line falls) and its task is to be woken. The causes stay in the chip until the task rests, so
    /// nothing is lost between handler and task. (On a shared line it may also say yes while the task is at work already.)
    pub fn acknowledge_interrupt(&self) -> bool {
        let causes = self.registers.read8(SCB_ACKNOWLEDGE);
        // All ones is a chip that fell off the bus.
        if causes == 0 || causes == 0xFF {
            return false;
        }
        self.silence();
        // Handlers do not interrupt each other: no read-modify-write is needed.
        self.interrupts.store(self.interrupts.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        true
    }

    /// Interrupts that were this chip's; wraps.
    pub(super) fn interrupts(&self) -> u32 {
        self.interrupts.load(Ordering::Relaxed)
    }

    /// Masks all the chip's interrupts.
    pub(super) fn silence(&self) {
        self.registers.write8(SCB_INTERRUPT_CONTROL, INTERRUPT_MASK_ALL | INTERRUPT_MASK_CHATTER);
    }

    /// Lets the chip interrupt; it does at once if a cause is pending.
    pub(super) fn listen(&self) {
        self.registers.write8(SCB_INTERRUPT_CONTROL, INTERRUPT_MASK_CHATTER);
    }

    /// The chip's registers.
    pub(super) fn registers(&self) -> &R {
        &self.registers
    }

    /// Bus-master memory.
    pub(super) fn dma(&self) -> &D {
        &self.dma
    }

    /// Gives the chip a command for one of its units. False when it does not accept commands any more.
    pub(super) fn command(&self, command: u8) -> bool {
        // The chip clears the byte when it has taken the command before (6.3.2.2); almost always at once.
        for _ in 0..PATIENCE {
            if self.registers.read8(SCB_COMMAND) == 0 {
                self.dma.barrier();
                self.registers.write8(SCB_COMMAND, command);
                return true;
            }
        }
        false
    }

    /// The same with an operand in the general pointer.
    pub(super) fn command_with(&self, command: u8, pointer: u32) -> bool {
        for _ in 0..PATIENCE {
            if self.registers.read8(SCB_COMMAND) == 0 {
                self.registers.write32(SCB_POINTER, pointer);
                self.dma.barrier();
                self.registers.write8(SCB_COMMAND, command);
                return true;
            }
        }
        false
    }

    /// Brings the chip to its power-on state, its interrupt masked. `delay` waits for at least that many microseconds.
    pub(super) fn reset(&self, delay: &mut dyn FnMut(u32)) {
        // Selective reset first, so that the software reset cannot cut a bus cycle short (6.3.4).
        self.registers.write32(PORT, PORT_SELECTIVE_RESET);
        delay(20);
        self.registers.write32(PORT, PORT_SOFTWARE_RESET);
        delay(20);
        self.silence();
    }

    /// Reads a register of the PHY at address 1, the 82559's own; `None` when the management interface does not answer.
    pub(super) fn read_phy(&self, register: u8) -> Option<u16> {
        self.registers.write32(MDI_CONTROL, MDI_READ | 1 << 21 | u32::from(register & 0x1F) << 16);
        for _ in 0..PATIENCE {
            let value = self.registers.read32(MDI_CONTROL);
            if value & MDI_READY != 0 {
                return Some(value as u16);
            }
        }
        None
    }
}
