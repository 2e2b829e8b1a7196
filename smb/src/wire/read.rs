//! READ (MS-SMB2 2.2.19, 2.2.20).

use super::{FileId, HEADER_LENGTH};
use crate::reader::{Malformed, Writer};

/// Where a response's data begins, counted from its header.
pub const DATA_OFFSET: u8 = HEADER_LENGTH as u8 + 16;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Flags (3.0.2: unbuffered).
    pub flags: u8,
    /// Bytes wanted.
    pub length: u32,
    /// From this byte of the file on.
    pub offset: u64,
    /// The file.
    pub file_id: FileId,
    /// Fewer bytes than this are an error.
    pub minimum_count: u32,
    /// RDMA channel, which must be none.
    pub channel: u32,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when it is too short.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 49)?;
        reader.skip(1)?;
        Ok(Request {
            flags: reader.u8()?,
            length: reader.u32()?,
            offset: reader.u64()?,
            file_id: FileId::parse(&mut reader)?,
            minimum_count: reader.u32()?,
            channel: reader.u32()?,
        })
    }
}

/// Appends a response's body; `length` bytes of data are to follow.
pub fn emit(writer: &mut Writer<'_>, length: u32) {
    writer.u16(17);
    writer.u8(DATA_OFFSET);
    writer.u8(0);
    writer.u32(length);
    writer.u32(0);
    writer.u32(0);
}
