//! The chip from reset to its first wait.

use super::*;

impl<R: Registers, D: Dma> Adapter<R, D> {
    pub(super) fn lay_out_area(&self) {
        self.area.write32(shared::AREA, self.area.bus);
        self.area.write8(shared::MESSAGE_REJECT, MESSAGE_REJECT);
        for slot in 1..=MANAGEMENT {
            let base = Area::block(slot);
            let bus = self.area.block_bus(slot);
            for (table, place) in [
                (block::MESSAGE_TABLE, block::MESSAGES),
                (block::COMMAND_TABLE, block::COMMAND),
                (block::STATUS_TABLE, block::STATUS),
            ] {
                self.area.write32(base + table, 1);
                self.area.write32(base + table + 4, bus + place as u32);
            }
            self.free_block(slot);
        }
    }

    pub(super) fn reset_chip(&self) {
        let registers = self.registers();
        registers.write8(register::ISTAT0, register::ISTAT0_SOFTWARE_RESET);
        // The reset lasts as long as the bit is set; a few PCI reads are more than the chip needs.
        for _ in 0..16 {
            registers.read8(register::ISTAT0);
        }
        registers.write8(register::ISTAT0, 0);
        for (offset, value) in [
            (register::SCNTL0, register::SCNTL0_FULL_ARBITRATION | register::SCNTL0_ENABLE_PARITY_CHECKING),
            (register::SCNTL3, register::SCNTL3_ASYNCHRONOUS),
            (register::SCID, register::SCID_RESPOND_TO_RESELECTION | OWN_IDENTITY),
            (register::RESPID0, 1 << OWN_IDENTITY),
            (register::SXFER, 0),
            (register::STIME0, register::STIME0_SELECTION_205_MILLISECONDS),
            (register::CTEST4, register::CTEST4_MASTER_PARITY),
            (register::DMODE, register::DMODE_BURST_16_READ_LINE_MULTIPLE),
            (register::DCNTL, register::DCNTL_CACHE_LINE_PREFETCH),
            (register::STEST3, register::STEST3_TOLERANT),
            (register::CCNTL0, register::CCNTL0_PHASE_MISMATCH_JUMP),
            (register::CCNTL1, register::CCNTL1_NO_DUAL_ADDRESS),
            (
                register::SIEN0,
                register::SIST0_PHASE_MISMATCH
                    | register::SIST0_GROSS_ERROR
                    | register::SIST0_UNEXPECTED_DISCONNECT
                    | register::SIST0_BUS_RESET
                    | register::SIST0_PARITY,
            ),
            (register::SIEN1, register::SIST1_SELECTION_TIME_OUT),
            (
                register::DIEN,
                register::DSTAT_MASTER_PARITY
                    | register::DSTAT_BUS_FAULT
                    | register::DSTAT_ABORTED
                    | register::DSTAT_SCRIPTS_INTERRUPT
                    | register::DSTAT_ILLEGAL_INSTRUCTION,
            ),
        ] {
            registers.write8(offset, value);
        }
        registers.write32(register::PMJAD1, self.program.mismatch);
        registers.write32(register::PMJAD2, self.program.mismatch);
        registers.write32(register::SCRATCHB, shared::RING as u32);
        registers.write32(register::SCRATCHC, self.program.discard);
    }
}
