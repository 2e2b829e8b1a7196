//! What the interrupt handler does.

use super::super::registers as register;
use super::super::scripts::stop;
use crate::Registers;
use core::sync::atomic::{AtomicU32, Ordering};

/// In [`Port::causes`]: SCRIPTS marked a command done.
pub(super) const CAUSE_ON_THE_FLY: u32 = 1 << 31;

/// The chip as the interrupt handler sees it.
#[derive(Debug)]
pub struct Port<R> {
    pub(super) registers: R,
    /// DSTAT in bits 7:0, SIST0 in 15:8, SIST1 in 23:16, bit 31 for "on the fly"; collected until `service` takes it.
    pub(super) causes: AtomicU32,
    /// Where SCRIPTS go on after a yield.
    pub(super) start: u32,
}

impl<R: Registers> Port<R> {
    /// Reads and clears what the chip interrupts for. Returns whether it was this chip; then `service` is to be called soon.
    ///
    /// For the interrupt handler, or for polling before there are interrupts.
    pub fn acknowledge(&self) -> bool {
        let istat = self.registers.read8(register::ISTAT0);
        // All ones is a chip that does not answer.
        if istat == 0xFF {
            return false;
        }
        let mut causes = 0;
        if istat & register::ISTAT0_ON_THE_FLY != 0 {
            // "Signal process" shares the byte and must survive.
            let keep = istat & register::ISTAT0_SIGNAL_PROCESS;
            self.registers.write8(register::ISTAT0, register::ISTAT0_ON_THE_FLY | keep);
            causes |= CAUSE_ON_THE_FLY;
        }
        if istat & register::ISTAT0_SCSI_PENDING != 0 {
            causes |= u32::from(self.registers.read16(register::SIST0)) << 8;
        }
        if istat & register::ISTAT0_DMA_PENDING != 0 {
            // Bit 7 says that the DMA FIFO is empty, which is no cause.
            let dstat = self.registers.read8(register::DSTAT) & 0x7F;
            if dstat == register::DSTAT_SCRIPTS_INTERRUPT
                && self.registers.read32(register::DSPS) == stop::YIELD
            {
                self.registers.write32(register::DSP, self.start);
                causes |= CAUSE_ON_THE_FLY;
            } else {
                causes |= u32::from(dstat);
            }
        }
        if causes != 0 {
            self.causes.fetch_or(causes, Ordering::AcqRel);
        }
        causes != 0
    }
}
