//! What to do about the outcome of a command: done, again, or failed, and what it says about the disk.

use super::super::{Outcome, Sense, SenseKey, status};
use super::DiskError;
use core::sync::atomic::{AtomicBool, Ordering};

/// A disk may take this long to spin up, in pauses of half a second.
const BECOMING_READY_TRIES: u32 = 60;

/// How often a command may fail for each reason before the failure is final.
pub(super) struct Patience {
    unit_attention: u32,
    becoming_ready: u32,
    not_ready: u32,
    busy: u32,
    medium: u32,
    hardware: u32,
    aborted: u32,
    bus_reset: u32,
    selection: u32,
    timed_out: u32,
    disconnected: u32,
    started: bool,
    pub(super) exclusive: bool,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience {
            unit_attention: 8,
            becoming_ready: BECOMING_READY_TRIES,
            not_ready: 3,
            busy: 20,
            medium: 2,
            hardware: 1,
            aborted: 5,
            bus_reset: 4,
            selection: 1,
            timed_out: 1,
            disconnected: 2,
            started: false,
            exclusive: false,
        }
    }
}

/// What to do about an outcome.
pub(super) enum Verdict {
    Done(u32),
    Again,
    AgainAfter(u32),
    Start,
    Failed(DiskError),
}

fn spend(budget: &mut u32, again: Verdict, error: DiskError) -> Verdict {
    if *budget == 0 {
        return Verdict::Failed(error);
    }
    *budget -= 1;
    again
}

/// What happened to a disk that its user has to know of.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Before the next command the disk has to prove that it is still the same.
    pub(super) raised: AtomicBool,
    /// The disk started anew: what its write cache held may be lost.
    pub(super) restarted: AtomicBool,
}

impl Doubt {
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }
}

/// Decides about an outcome, and spends patience.
pub(super) fn judge(outcome: Outcome, length: u64, patience: &mut Patience, doubt: &Doubt) -> Verdict {
    match outcome {
        Outcome::Status { status: status::GOOD, transferred, .. } => Verdict::Done(transferred),
        Outcome::Status { status: status::CHECK_CONDITION, transferred, sense: Some(sense) } => {
            judge_sense(sense, transferred, length, patience, doubt)
        }
        Outcome::Status { status: status::CHECK_CONDITION, .. } => {
            patience.exclusive = true;
            spend(&mut patience.aborted, Verdict::Again, DiskError::Protocol)
        }
        Outcome::Status { status: status::BUSY | status::QUEUE_FULL, .. } => {
            spend(&mut patience.busy, Verdict::AgainAfter(50), DiskError::Protocol)
        }
        Outcome::Status { .. } | Outcome::Overrun => Verdict::Failed(DiskError::Protocol),
        Outcome::SelectionTimeOut => {
            doubt.raise();
            spend(&mut patience.selection, Verdict::AgainAfter(20), DiskError::Gone)
        }
        Outcome::TimedOut => {
            doubt.raise();
            patience.exclusive = true;
            spend(&mut patience.timed_out, Verdict::Again, DiskError::TimedOut)
        }
        Outcome::Aborted => {
            patience.exclusive = true;
            spend(&mut patience.aborted, Verdict::Again, DiskError::Protocol)
        }
        Outcome::BusReset => {
            doubt.raise();
            patience.exclusive = true;
            spend(&mut patience.bus_reset, Verdict::AgainAfter(100), DiskError::Protocol)
        }
        Outcome::Disconnected => {
            doubt.raise();
            spend(&mut patience.disconnected, Verdict::AgainAfter(100), DiskError::Gone)
        }
    }
}

fn judge_sense(
    sense: Sense,
    transferred: u32,
    length: u64,
    patience: &mut Patience,
    doubt: &Doubt,
) -> Verdict {
    match (sense.key(), sense.additional()) {
        (SenseKey::NoSense | SenseKey::RecoveredError, _) if u64::from(transferred) == length => {
            Verdict::Done(transferred)
        }
        (SenseKey::UnitAttention, what) => {
            // Power on, and a reset of the disk's own; a reset of the bus leaves the cache alone (SAM-4, 6.3).
            if matches!(what, (0x29, 0x00 | 0x01 | 0x04)) {
                doubt.restarted.store(true, Ordering::Release);
            }
            doubt.raise();
            spend(&mut patience.unit_attention, Verdict::Again, DiskError::Protocol)
        }
        (SenseKey::NotReady, (0x3A, _)) => {
            doubt.raise();
            Verdict::Failed(DiskError::NoMedium)
        }
        (SenseKey::NotReady, (0x04, 0x02)) if !patience.started => {
            patience.started = true;
            Verdict::Start
        }
        (SenseKey::NotReady, (0x04, 0x01 | 0x02)) => {
            spend(&mut patience.becoming_ready, Verdict::AgainAfter(500), DiskError::NotReady(sense))
        }
        (SenseKey::NotReady, _) => {
            spend(&mut patience.not_ready, Verdict::AgainAfter(100), DiskError::NotReady(sense))
        }
        (SenseKey::MediumError, _) => {
            patience.exclusive = true;
            let block = sense.block();
            spend(&mut patience.medium, Verdict::Again, DiskError::Medium { block })
        }
        (SenseKey::HardwareError, _) => {
            patience.exclusive = true;
            spend(&mut patience.hardware, Verdict::Again, DiskError::Hardware(sense))
        }
        (SenseKey::IllegalRequest, (0x21, _)) => Verdict::Failed(DiskError::OutOfRange),
        (SenseKey::IllegalRequest, (0x25, _)) => Verdict::Failed(DiskError::Gone),
        (SenseKey::IllegalRequest, _) => Verdict::Failed(DiskError::Unsupported),
        (SenseKey::DataProtect, _) => Verdict::Failed(DiskError::WriteProtected),
        // A disk that aborts the same command again and again, alone on the bus, can't do it with these blocks. So does
        // QEMU's for every error of the host's file, with 00/06 "I/O process terminated".
        (SenseKey::AbortedCommand, _) => {
            patience.exclusive = true;
            let block = sense.block();
            spend(&mut patience.medium, Verdict::Again, DiskError::Medium { block })
        }
        _ => {
            patience.exclusive = true;
            spend(&mut patience.aborted, Verdict::Again, DiskError::Protocol)
        }
    }
}
