//! Why a disk did not do as told.

use super::super::Sense;

/// Why a disk did not do as told. Whatever could be cured by trying again was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskError {
    /// Blocks can't be read or written; the first of them, where the disk said so.
    Medium {
        /// Logical block address.
        block: Option<u64>,
    },
    /// The disk says that it is broken.
    Hardware(Sense),
    /// There is no medium in the drive.
    NoMedium,
    /// The disk does not become ready.
    NotReady(Sense),
    /// The disk is write-protected.
    WriteProtected,
    /// The disk did not finish in time.
    TimedOut,
    /// No disk answers (any more).
    Gone,
    /// Another disk, or another capacity, than when it was attached.
    Changed,
    /// The disk started anew, or came back, with writes in its cache: some may be lost.
    Restarted,
    /// Blocks beyond the disk's end.
    OutOfRange,
    /// Not a disk, or a command or block size that is not supported.
    Unsupported,
    /// Busy for too long, too many aborts and resets, or answers that make no sense.
    Protocol,
}

impl core::fmt::Display for DiskError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DiskError::Medium { block: Some(block) } => {
                write!(formatter, "medium error at block {block}")
            }
            DiskError::Medium { block: None } => write!(formatter, "medium error"),
            DiskError::Hardware(sense) => write!(formatter, "hardware error ({sense:?})"),
            DiskError::NoMedium => write!(formatter, "no medium"),
            DiskError::NotReady(sense) => write!(formatter, "not ready ({sense:?})"),
            DiskError::WriteProtected => write!(formatter, "write-protected"),
            DiskError::TimedOut => write!(formatter, "no answer in time"),
            DiskError::Gone => write!(formatter, "no disk answers"),
            DiskError::Changed => write!(formatter, "another disk than before"),
            DiskError::Restarted => write!(formatter, "started anew with writes in its cache"),
            DiskError::OutOfRange => write!(formatter, "beyond the end of the disk"),
            DiskError::Unsupported => write!(formatter, "not supported"),
            DiskError::Protocol => write!(formatter, "no sensible answer"),
        }
    }
}

impl core::error::Error for DiskError {}
