//! WRITE (MS-SMB2 2.2.21, 2.2.22).

use super::FileId;
use crate::reader::{Malformed, Writer};

/// Flag: on disk before the answer (2.1 and later).
pub const WRITE_THROUGH: u32 = 1;
/// Flag: past the caches (3.0.2 and later).
pub const WRITE_UNBUFFERED: u32 = 2;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// To this byte of the file.
    pub offset: u64,
    /// The file.
    pub file_id: FileId,
    /// RDMA channel, which must be none.
    pub channel: u32,
    /// Flags.
    pub flags: u32,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the data lies outside the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 49)?;
        let data_offset = reader.u16()?;
        let length = reader.u32()?;
        let offset = reader.u64()?;
        let file_id = FileId::parse(&mut reader)?;
        let channel = reader.u32()?;
        reader.skip(8)?;
        let flags = reader.u32()?;
        let data = super::buffer(message, data_offset.into(), length)?;
        Ok(Request { offset, file_id, channel, flags, data })
    }
}

/// Appends a response's body.
pub fn emit(writer: &mut Writer<'_>, count: u32) {
    writer.u16(17);
    writer.u16(0);
    writer.u32(count);
    writer.u32(0);
    writer.u16(0);
    writer.u16(0);
}
