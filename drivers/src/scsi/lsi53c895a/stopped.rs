//! What to do when SCRIPTS have stopped: a target is gone, answered badly, or left a data phase early.

use super::*;

impl<R: Registers, D: Dma> Adapter<R, D> {
    /// SCRIPTS stopped for something.
    pub(super) fn stopped(&mut self, causes: u32, now: u64, complete: &mut dyn FnMut(Completion)) {
        let [_, sist1, sist0, dstat] = causes.to_be_bytes();
        if sist0 & register::SIST0_BUS_RESET != 0 {
            log::warn!("{}: bus reset by someone else", self.configuration.name);
            self.reset_bus_because("bus reset seen", now, complete);
            return;
        }
        if sist0 & (register::SIST0_GROSS_ERROR | register::SIST0_PARITY) != 0
            || dstat
                & (register::DSTAT_MASTER_PARITY
                    | register::DSTAT_BUS_FAULT
                    | register::DSTAT_ILLEGAL_INSTRUCTION)
                != 0
        {
            self.statistics.faults = self.statistics.faults.wrapping_add(1);
            log::error!("{}: fault, SIST0 {sist0:02x} DSTAT {dstat:02x}", self.configuration.name);
            self.reset_bus_because("fault", now, complete);
            return;
        }
        let slot = self.slot_at(self.registers().read32(register::DSA));
        let connected = slot.filter(|slot| *slot == MANAGEMENT || self.active & 1 << slot != 0);
        if sist1 & register::SIST1_SELECTION_TIME_OUT != 0 {
            self.gone(connected, Outcome::SelectionTimeOut, complete);
        } else if sist0 & register::SIST0_UNEXPECTED_DISCONNECT != 0 {
            self.gone(connected, Outcome::Disconnected, complete);
        } else if dstat & register::DSTAT_SCRIPTS_INTERRUPT != 0 {
            let reason = self.registers().read32(register::DSPS);
            self.stopped_by_scripts(reason, connected, now, complete);
        } else if sist0 & register::SIST0_PHASE_MISMATCH != 0 {
            self.stopped_by_scripts(stop::PHASE_MISMATCH, connected, now, complete);
        }
    }

    /// The target of the command in DSA did not answer, or left.
    pub(super) fn gone(
        &mut self,
        connected: Option<usize>,
        outcome: Outcome,
        complete: &mut dyn FnMut(Completion),
    ) {
        if let Some(slot) = connected {
            // Should the chip have stopped between SELECT and the step to the next ring entry, take that step.
            let consumer = self.consumer();
            if consumer != self.producer
                && self.area.read32(Self::ring_offset(consumer)) == self.area.block_bus(slot)
            {
                self.registers().write8(register::SCRATCHB, Self::ring_offset(consumer + 1) as u8);
            }
            if slot == MANAGEMENT {
                // Disconnecting is how a target obeys; not to answer is to be gone.
                let others = match outcome {
                    Outcome::Disconnected => Outcome::Aborted,
                    other => other,
                };
                self.management_done(others, complete);
            } else {
                self.finish(slot, outcome, complete);
            }
        }
        self.start_idle();
    }

    pub(super) fn stopped_by_scripts(
        &mut self,
        reason: u32,
        connected: Option<usize>,
        now: u64,
        complete: &mut dyn FnMut(Completion),
    ) {
        match (reason, connected) {
            (stop::BAD_STATUS, Some(slot)) if slot != MANAGEMENT => {
                self.bad_status(slot, now, complete);
            }
            (stop::PHASE_MISMATCH, Some(slot)) if slot != MANAGEMENT => {
                self.phase_mismatch(slot, now, complete);
            }
            (stop::RESTORE_POINTERS, Some(slot)) if slot != MANAGEMENT => {
                let base = Area::block(slot);
                let saved = self.area.read32(base + block::SAVED);
                self.position(slot, saved);
                self.registers().write32(register::CSBC, saved);
                self.start(self.program.ignore_message);
            }
            (stop::MESSAGE, Some(slot))
                if slot != MANAGEMENT && self.area.read8(shared::MESSAGE) == MESSAGE_REJECT =>
            {
                self.start(self.program.ignore_message);
            }
            (stop::MANAGEMENT, Some(MANAGEMENT)) => {
                self.management_done(Outcome::Aborted, complete);
                self.start_idle();
            }
            (stop::SPURIOUS, _) => self.spurious(now, complete),
            _ => {
                log::error!(
                    "{}: SCRIPTS stopped, reason {reason}, command {connected:?}, message {:02x}",
                    self.configuration.name,
                    self.area.read8(shared::MESSAGE)
                );
                self.reset_bus_because("protocol error", now, complete);
            }
        }
    }

    /// A command ended with a status that is not GOOD; the bus is free and SCRIPTS stand.
    pub(super) fn bad_status(&mut self, slot: usize, now: u64, complete: &mut dyn FnMut(Completion)) {
        let base = Area::block(slot);
        let status = self.area.read8(base + block::STATUS);
        let transferred = self.area.read32(base + block::TRANSFERRED);
        let entry = self.slots[slot];
        let whole = entry.expected != 0 && transferred == entry.expected;
        let others = self.active & !self.unsent() & !(1 << slot);
        if entry.state == State::Sensing {
            // REQUEST SENSE itself failed.
            let outcome = Outcome::Status {
                status: status::CHECK_CONDITION,
                transferred: entry.transferred,
                sense: None,
            };
            self.finish(slot, outcome, complete);
        } else if status == status::CHECK_CONDITION && others != 0 && !whole {
            // QEMU's chip reports the failure of a command that had disconnected as the status of whichever command is
            // connected then, and must not be given another command for the target before an ABORT. So with several
            // commands in flight such a status says nothing about this one: all are aborted, to be tried one by one.
            self.abort(entry.target, true, 0, now, complete);
            return;
        } else if status == status::CHECK_CONDITION {
            self.request_sense(slot);
        } else {
            let outcome = Outcome::Status { status, transferred, sense: None };
            self.finish(slot, outcome, complete);
        }
        self.start_idle();
    }

    /// Makes the slot's block a REQUEST SENSE, the next command to be started: another would destroy the sense data.
    pub(super) fn request_sense(&mut self, slot: usize) {
        let base = Area::block(slot);
        let target = self.slots[slot].target;
        let descriptor = [0x03, 0, 0, 0, block::SENSE_BYTES as u8, 0];
        for (index, byte) in descriptor.iter().enumerate() {
            self.area.write8(base + block::COMMAND + index, *byte);
        }
        for index in 0..block::SENSE_BYTES {
            self.area.write8(base + block::SENSE + index, 0);
        }
        self.area.write32(base + block::COMMAND_TABLE, descriptor.len() as u32);
        // Untagged and without leave to disconnect (SCSI-2, 7.5.2).
        self.area.write8(base + block::MESSAGES, IDENTIFY);
        self.area.write32(base + block::MESSAGE_TABLE, 1);
        self.set_untagged(target, slot);
        let last = base + block::TABLE + 8 * (ENTRIES - 1);
        self.area.write32(last, block::SENSE_BYTES as u32);
        self.area.write32(last + 4, self.area.block_bus(slot) + block::SENSE as u32);
        self.area.write32(base + block::RESUME, self.program.resume(true, 1));
        let transferred = self.area.read32(base + block::TRANSFERRED);
        self.clear_progress(slot);
        let entry = &mut self.slots[slot];
        entry.state = State::Sensing;
        entry.transferred = transferred;
        entry.from_target = true;
        entry.expected = block::SENSE_BYTES as u32;
        entry.first_entry = ENTRIES as u16 - 1;
        entry.patched = None;
        self.enqueue_first(slot);
    }

    /// The connected target left the data phase early, to disconnect or to send a message: remember where.
    pub(super) fn phase_mismatch(&mut self, slot: usize, now: u64, complete: &mut dyn FnMut(Completion)) {
        self.statistics.phase_mismatches = self.statistics.phase_mismatches.wrapping_add(1);
        let phase = u32::from(self.registers().read8(register::SSTAT1) & 7);
        if !matches!(phase, register::PHASE_MESSAGE_IN | register::PHASE_STATUS | register::PHASE_COMMAND) {
            log::error!(
                "{}: target {} in phase {phase} against the command's data",
                self.configuration.name,
                self.slots[slot].target
            );
            self.reset_bus_because("wrong phase", now, complete);
            return;
        }
        let transferred = self.registers().read32(register::CSBC);
        self.position(slot, transferred);
        self.start(self.program.dispatch);
    }

    /// Makes the command's next data phase go on after `transferred` bytes.
    pub(super) fn position(&mut self, slot: usize, transferred: u32) {
        let table = Area::block(slot) + block::TABLE;
        let mut entry = self.slots[slot];
        if let Some((index, count, address)) = entry.patched.take() {
            let offset = table + 8 * usize::from(index);
            self.area.write32(offset, count);
            self.area.write32(offset + 4, address);
        }
        let mut left = transferred;
        let mut index = usize::from(entry.first_entry);
        while index < ENTRIES {
            let offset = table + 8 * index;
            let count = self.area.read32(offset);
            if left < count {
                let address = self.area.read32(offset + 4);
                if left != 0 {
                    self.area.write32(offset, count - left);
                    self.area.write32(offset + 4, address.wrapping_add(left));
                    entry.patched = Some((index as u16, count, address));
                }
                break;
            }
            left -= count;
            index += 1;
        }
        self.area.write32(
            Area::block(slot) + block::RESUME,
            self.program.resume(entry.from_target, ENTRIES - index),
        );
        self.slots[slot] = entry;
    }

    /// A status without a reselection: QEMU's chip does this when a command fails that had disconnected, and does not say
    /// which. A real chip never comes here.
    pub(super) fn spurious(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        let sent = self.active & !self.unsent();
        let phase = u32::from(self.registers().read8(register::SSTAT1) & 7);
        let first = sent.trailing_zeros() as usize;
        if sent == 0 || phase != register::PHASE_STATUS {
            self.reset_bus_because("phase change on a free bus", now, complete);
        } else if sent.count_ones() == 1 {
            let base = Area::block(first);
            self.registers().write32(register::DSA, self.area.block_bus(first));
            let transferred = self.area.read32(base + block::TRANSFERRED);
            self.registers().write32(register::CSBC, transferred);
            self.start(self.program.status);
        } else {
            let target = self.slots[first].target;
            self.abort(target, true, 0, now, complete);
        }
    }
}
