//! LOCK (MS-SMB2 2.2.26, 2.2.27).

use alloc::vec::Vec;

use super::FileId;
use crate::reader::{Malformed, Writer};

/// Shared lock.
pub const SHARED: u32 = 1;
/// Exclusive lock.
pub const EXCLUSIVE: u32 = 2;
/// Unlock.
pub const UNLOCK: u32 = 4;
/// Do not wait.
pub const FAIL_IMMEDIATELY: u32 = 0x10;

/// One SMB2_LOCK_ELEMENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Flags.
    pub flags: u32,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// LockSequenceNumber (low 4 bits) and LockSequenceIndex.
    pub sequence: u32,
    /// The file.
    pub file_id: FileId,
    /// Its elements; none, which is not valid, when the message has fewer than it says.
    pub elements: Vec<Element>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when it is too short.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 48)?;
        let count = usize::from(reader.u16()?);
        let sequence = reader.u32()?;
        let file_id = FileId::parse(&mut reader)?;
        // A file that is not open matters more than elements that are not there: they are then simply left out.
        let count = if count > reader.remaining() / 24 { 0 } else { count };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(Element { offset: reader.u64()?, length: reader.u64()?, flags: reader.u32()? });
            reader.skip(4)?;
        }
        Ok(Request { sequence, file_id, elements })
    }
}

/// Appends a response's body.
pub fn emit(writer: &mut Writer<'_>) {
    writer.u16(4);
    writer.u16(0);
}
