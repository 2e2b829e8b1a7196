//! Time-outs, and the ladder from ABORT over BUS DEVICE RESET to the bus reset.

use super::*;

impl<R: Registers, D: Dma> Adapter<R, D> {
    /// Sends ABORT, or what else the target has earned by now, and then ends all of its commands.
    ///
    /// `stopped` says that SCRIPTS stand: then nothing that waits in the ring is touched.
    pub(super) fn abort(
        &mut self,
        target: u8,
        stopped: bool,
        expired: u16,
        now: u64,
        complete: &mut dyn FnMut(Completion),
    ) {
        let unsent = if stopped { self.unsent() } else { 0 };
        let mut covered = 0;
        for slot in 1..Tag::LIMIT {
            if self.active & !unsent & 1 << slot != 0 && self.slots[slot].target == target {
                covered |= 1 << slot;
            }
        }
        let level = &mut self.escalation[usize::from(target)];
        let message = match *level {
            0 => MESSAGE_ABORT,
            1 => MESSAGE_BUS_DEVICE_RESET,
            _ => 0,
        };
        if expired != 0 {
            *level = level.saturating_add(1);
        }
        if message == 0 || self.management.is_some() {
            self.expire(expired, complete);
            self.reset_bus_because("target does not obey", now, complete);
            return;
        }
        log::warn!(
            "{}: {} to target {target}",
            self.configuration.name,
            if message == MESSAGE_ABORT { "ABORT" } else { "BUS DEVICE RESET" }
        );
        self.statistics.aborts = self.statistics.aborts.wrapping_add(1);
        let base = Area::block(MANAGEMENT);
        self.set_target(MANAGEMENT, target);
        self.area.write8(base + block::MESSAGES, IDENTIFY);
        self.area.write8(base + block::MESSAGES + 1, message);
        self.area.write32(base + block::MESSAGE_TABLE, 2);
        self.area.write32(base + block::RESUME, self.program.management);
        self.clear_progress(MANAGEMENT);
        self.management =
            Some(Management { target, covered, expired, deadline: now + MANAGEMENT_MILLISECONDS });
        if stopped {
            self.enqueue_first(MANAGEMENT);
            self.start_idle();
        } else {
            self.enqueue(MANAGEMENT);
            if self.held_until.is_none() {
                self.signal();
            }
        }
    }

    /// The target obeyed (or is gone): its commands have ended.
    pub(super) fn management_done(&mut self, others: Outcome, complete: &mut dyn FnMut(Completion)) {
        let Some(management) = self.management.take() else {
            return;
        };
        log::info!("{}: target {}: commands dropped", self.configuration.name, management.target);
        self.free_block(MANAGEMENT);
        for slot in 1..Tag::LIMIT {
            let bit = 1 << slot;
            if management.covered & self.active & bit == 0 {
                continue;
            }
            let outcome = if management.expired & bit != 0 && others == Outcome::Aborted {
                Outcome::TimedOut
            } else {
                others
            };
            self.finish(slot, outcome, complete);
        }
    }

    pub(super) fn watch_time(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        if self.active == 0 || self.first_deadline().is_none_or(|deadline| now < deadline) {
            self.grace = (GRACE_LOOKS, 0);
            return;
        }
        if now < self.grace.1 || self.give_grace(now) {
            return;
        }
        if let Some(management) = self.management
            && now >= management.deadline
        {
            self.expire(management.expired, complete);
            self.reset_bus_because("target does not obey", now, complete);
            return;
        }
        let covered = self.management.map_or(0, |management| management.covered);
        let mut expired = 0u16;
        for slot in 1..Tag::LIMIT {
            if self.active & !covered & 1 << slot != 0 && now >= self.slots[slot].deadline {
                expired |= 1 << slot;
            }
        }
        if expired == 0 || self.management.is_some() {
            return;
        }
        let first = expired.trailing_zeros() as usize;
        let target = self.slots[first].target;
        self.statistics.time_outs = self.statistics.time_outs.wrapping_add(expired.count_ones());
        log::warn!(
            "{}: target {target}: {} of {} commands took too long",
            self.configuration.name,
            expired.count_ones(),
            self.active.count_ones()
        );
        self.abort(target, false, expired, now, complete);
    }

    /// Looks once more whether the chip has something to say, before a command is late. False when that was the last time.
    ///
    /// A clock that jumps while the CPU idles (an emulator's that counts instructions, or a debugger's) is no evidence that
    /// a target hangs: the reads take time that really passes.
    pub(super) fn give_grace(&mut self, now: u64) -> bool {
        let (looks, _) = self.grace;
        if looks == 0 {
            self.grace = (GRACE_LOOKS, 0);
            return false;
        }
        self.grace = (looks - 1, now + GRACE_MILLISECONDS);
        let pending =
            register::ISTAT0_ON_THE_FLY | register::ISTAT0_SCSI_PENDING | register::ISTAT0_DMA_PENDING;
        for _ in 0..GRACE_READS {
            let istat = self.registers().read8(register::ISTAT0);
            if istat & pending != 0 || self.port.causes.load(Ordering::Acquire) != 0 {
                break;
            }
        }
        true
    }

    /// Ends commands that took too long.
    pub(super) fn expire(&mut self, expired: u16, complete: &mut dyn FnMut(Completion)) {
        for slot in 1..Tag::LIMIT {
            if expired & self.active & 1 << slot != 0 {
                // The chip may still move data for it: it is stopped first.
                self.stop_scripts();
                self.finish(slot, Outcome::TimedOut, complete);
            }
        }
    }

    /// Makes SCRIPTS stop, wherever they are.
    pub(super) fn stop_scripts(&self) {
        let registers = self.registers();
        registers.write8(register::ISTAT0, register::ISTAT0_ABORT);
        for _ in 0..POLLS {
            let istat = registers.read8(register::ISTAT0);
            if istat & register::ISTAT0_SCSI_PENDING != 0 {
                registers.read16(register::SIST0);
            }
            // The interrupt handler may be faster.
            let seen = self.port.causes.load(Ordering::Acquire) & u32::from(register::DSTAT_ABORTED);
            if istat & register::ISTAT0_DMA_PENDING != 0 || seen != 0 {
                break;
            }
        }
        registers.write8(register::ISTAT0, 0);
        registers.read8(register::DSTAT);
    }

    /// Holds the bus's RST line for long enough, and clears what the chip says to that.
    pub(super) fn pulse_reset(&self) {
        let registers = self.registers();
        registers.write8(register::SCNTL1, register::SCNTL1_RESET);
        for _ in 0..RESET_HOLD_READS {
            registers.read8(register::ISTAT0);
        }
        registers.write8(register::SCNTL1, 0);
        registers.write8(register::ISTAT0, register::ISTAT0_ON_THE_FLY);
        registers.read16(register::SIST0);
        registers.read8(register::DSTAT);
        self.port.causes.store(0, Ordering::Release);
    }

    pub(super) fn reset_bus_because(&mut self, reason: &str, now: u64, complete: &mut dyn FnMut(Completion)) {
        log::warn!("{}: bus reset: {reason}", self.configuration.name);
        self.statistics.bus_resets = self.statistics.bus_resets.wrapping_add(1);
        self.stop_scripts();
        self.pulse_reset();
        self.collect_done(complete);
        self.management = None;
        self.free_block(MANAGEMENT);
        for index in 0..shared::RING_ENTRIES {
            self.area.write32(shared::RING + 4 * index, 0);
        }
        self.producer = 0;
        self.registers().write32(register::SCRATCHB, shared::RING as u32);
        for slot in 1..Tag::LIMIT {
            if self.active & 1 << slot != 0 {
                self.finish(slot, Outcome::BusReset, complete);
            }
        }
        if self.configuration.settle_milliseconds == 0 {
            self.start_idle();
        } else {
            self.held_until = Some(now + u64::from(self.configuration.settle_milliseconds));
        }
    }
}
