//! SCSI: the LSI 53C895A host adapter and the disks behind it.
//!
//! [`Adapter`] runs commands on one channel without ever blocking; [`Disk`] speaks to one disk in terms of blocks and typed
//! errors, over a [`Transport`] that the firmware makes of an adapter and its scheduler.

mod disk;
#[cfg(test)]
mod fake;
mod lsi53c895a;
mod registers;
mod scripts;
mod sense;

pub use disk::{Data, Disk, DiskError, Identity, Request, Transport, scan};
pub use lsi53c895a::{
    Adapter, Command, Completion, Configuration, Direction, InitError, Port, ScriptsRam, Segment, Statistics,
    SubmitError, Tag,
};
pub use sense::{Sense, SenseKey};

/// Targets of a channel: identities 0 to 15, of which one is the adapter's own.
pub const TARGETS: u8 = 16;
/// The adapter's own identity.
pub const OWN_IDENTITY: u8 = 7;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The target answered.
    Status {
        /// The SCSI status byte ([`status`]).
        status: u8,
        /// Data bytes moved; may be less than asked for.
        transferred: u32,
        /// What REQUEST SENSE said, fetched by the adapter after CHECK CONDITION.
        sense: Option<Sense>,
    },
    /// No target answered the selection.
    SelectionTimeOut,
    /// The target did not finish in time; the command was aborted or the bus was reset.
    TimedOut,
    /// Aborted together with another command that failed; says nothing about this one. To be tried again, alone on the
    /// channel ([`Command::exclusive`]).
    Aborted,
    /// The bus was reset meanwhile; the command may or may not have been carried out.
    BusReset,
    /// The target left the bus in the middle.
    Disconnected,
    /// The target moved more data than the command has room for; the surplus was thrown away.
    Overrun,
}

/// SCSI status bytes (SAM).
pub mod status {
    /// Done.
    pub const GOOD: u8 = 0x00;
    /// There is sense data.
    pub const CHECK_CONDITION: u8 = 0x02;
    /// Try again later.
    pub const BUSY: u8 = 0x08;
    /// Another initiator holds the target.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// The target's queue is full: try again later.
    pub const QUEUE_FULL: u8 = 0x28;
}
