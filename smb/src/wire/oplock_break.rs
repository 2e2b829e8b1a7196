//! OPLOCK_BREAK (MS-SMB2 2.2.23 to 2.2.25): notification, acknowledgment, response, for oplocks and leases.

use super::FileId;
use crate::reader::{Malformed, Writer};

/// OplockLevel values.
pub mod level {
    /// None.
    pub const NONE: u8 = 0;
    /// Level II.
    pub const LEVEL_II: u8 = 1;
    /// Exclusive.
    pub const EXCLUSIVE: u8 = 8;
    /// Batch.
    pub const BATCH: u8 = 9;
    /// A lease, described by the create context.
    pub const LEASE: u8 = 0xFF;
}

/// An acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgment {
    /// Of an oplock break (2.2.24.1).
    Oplock {
        /// The level kept.
        level: u8,
        /// The file.
        file_id: FileId,
    },
    /// Of a lease break (2.2.24.2).
    Lease {
        /// The lease's key.
        key: [u8; 16],
        /// The state kept.
        state: u32,
    },
}

impl Acknowledgment {
    /// Reads an acknowledgment; its StructureSize says which.
    ///
    /// # Errors
    /// `Malformed` when it is neither.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        if let Ok(mut reader) = super::body(message, 24) {
            let level = reader.u8()?;
            reader.skip(5)?;
            return Ok(Acknowledgment::Oplock { level, file_id: FileId::parse(&mut reader)? });
        }
        let mut reader = super::body(message, 36)?;
        reader.skip(6)?;
        Ok(Acknowledgment::Lease { key: reader.array::<16>()?, state: reader.u32()? })
    }
}

/// Appends an oplock break notification's or response's body.
pub fn emit_oplock(writer: &mut Writer<'_>, level: u8, file_id: FileId) {
    writer.u16(24);
    writer.u8(level);
    writer.u8(0);
    writer.u32(0);
    file_id.emit(writer);
}

/// A lease break notification (2.2.23.2).
#[derive(Clone, Copy, Debug)]
pub struct LeaseNotification {
    /// The new epoch (version 2 leases).
    pub epoch: u16,
    /// Whether an acknowledgment must come.
    pub acknowledge: bool,
    /// The lease's key.
    pub key: [u8; 16],
    /// What the client has.
    pub current: u32,
    /// What it will have.
    pub new: u32,
}

impl LeaseNotification {
    /// Appends the body.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(44);
        writer.u16(self.epoch);
        writer.u32(u32::from(self.acknowledge));
        writer.bytes(&self.key);
        writer.u32(self.current);
        writer.u32(self.new);
        writer.zeros(12);
    }
}

/// Appends a lease break response's body (2.2.25.2).
pub fn emit_lease(writer: &mut Writer<'_>, key: &[u8; 16], state: u32) {
    writer.u16(36);
    writer.u16(0);
    writer.u32(0);
    writer.bytes(key);
    writer.u32(state);
    writer.u64(0);
}
