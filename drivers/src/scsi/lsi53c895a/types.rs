//! What goes into an adapter and comes out of it.

use super::super::Outcome;
use super::MANAGEMENT;
use crate::Registers;

/// What the board knows about a channel.
#[derive(Debug, Clone, Copy)]
pub struct Configuration {
    /// For log lines.
    pub name: &'static str,
    /// Whether to reset the bus first: after anything but a power-on.
    pub reset_bus: bool,
    /// How long the targets are left alone after a bus reset, in milliseconds (SCSI-2, 5.1.7: 250 recommended).
    pub settle_milliseconds: u32,
}

/// The chip's own RAM, 8 KiB, for the SCRIPTS program.
pub struct ScriptsRam<'a> {
    /// Its window (BAR2).
    pub registers: &'a dyn Registers,
    /// The window's bus address.
    pub bus_address: u32,
}

/// Why a channel can't be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitError {
    /// Not enough memory for bus masters.
    Memory,
    /// The chip does not hold what is written to it.
    Chip,
}

/// Which way a command's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// The target sends.
    FromTarget,
    /// The target receives.
    ToTarget,
}

/// A piece of memory for a command's data.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// Where it is.
    pub pointer: *mut u8,
    /// How many bytes.
    pub length: u32,
}

/// A SCSI command for LUN 0 of a target.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The target's identity, 0 to 15.
    pub target: u8,
    /// The command descriptor block, 6 to 16 bytes.
    pub descriptor: &'a [u8],
    /// Which way the data goes.
    pub direction: Direction,
    /// Where the data lies, in order.
    pub segments: &'a [Segment],
    /// Whether to send a SIMPLE QUEUE TAG. Untagged, a command has its target for itself.
    pub tagged: bool,
    /// Whether the command must have the whole channel for itself, so that no other's failure can touch it. Once turned
    /// away as [`SubmitError::Busy`], it keeps others out, so it has to be submitted again until it is taken.
    pub exclusive: bool,
    /// How long it may take from now, in milliseconds.
    pub timeout_milliseconds: u32,
}

/// Names a command in flight; given again only after its completion was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub(super) u8);

impl Tag {
    /// Tags are below this number, so that they can index an array.
    pub const LIMIT: usize = MANAGEMENT;

    /// The tag as an array index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// No room, or someone needs to be alone: try again after any completion.
    Busy,
    /// More pieces of memory than the table has entries.
    TooManySegments,
    /// A target or descriptor length that does not exist, or data without direction.
    Invalid,
}

/// A command that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Which.
    pub tag: Tag,
    /// How.
    pub outcome: Outcome,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Commands submitted.
    pub commands: u32,
    /// Times SCRIPTS stopped for the driver's help.
    pub stops: u32,
    /// Targets that left a data phase early.
    pub phase_mismatches: u32,
    /// Commands that took too long.
    pub time_outs: u32,
    /// ABORT and BUS DEVICE RESET messages sent.
    pub aborts: u32,
    /// Bus resets, one's own and others'.
    pub bus_resets: u32,
    /// Parity errors, gross errors, PCI faults, illegal instructions.
    pub faults: u32,
}
