//! A fake 53C895A with fake disks behind it, for the tests: a SCRIPTS interpreter over fake bus memory and a model of the
//! SCSI bus with phases, arbitration, disconnection, tags and time-outs. It panics where a real chip or target would be
//! driven against its rules (a byte not acknowledged, a wait for a disconnect that does not come).

mod chip;
mod disk;
mod memory;

pub(super) use chip::FakeChip;
pub(super) use disk::{FakeDisk, Fault};
pub(super) use memory::FakeMemory;
