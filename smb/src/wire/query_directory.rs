//! QUERY_DIRECTORY (MS-SMB2 2.2.33, 2.2.34).

use alloc::vec::Vec;

use super::{FileId, HEADER_LENGTH};
use crate::reader::{Malformed, Writer};

/// Start from the beginning.
pub const RESTART_SCANS: u8 = 1;
/// Only one entry.
pub const RETURN_SINGLE_ENTRY: u8 = 2;
/// Go on from FileIndex.
pub const INDEX_SPECIFIED: u8 = 4;
/// Start from the beginning with a new pattern.
pub const REOPEN: u8 = 0x10;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// FileInformationClass.
    pub class: u8,
    /// Flags.
    pub flags: u8,
    /// FileIndex.
    pub index: u32,
    /// The directory.
    pub file_id: FileId,
    /// Bytes of the largest output.
    pub output_length: u32,
    /// The pattern, UTF-16; empty means "as before", or everything.
    pub pattern: Vec<u16>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the pattern lies outside the message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 33)?;
        let class = reader.u8()?;
        let flags = reader.u8()?;
        let index = reader.u32()?;
        let file_id = FileId::parse(&mut reader)?;
        let offset = reader.u16()?;
        let length = reader.u16()?;
        let output_length = reader.u32()?;
        let pattern = super::utf16(super::buffer(message, offset.into(), length.into())?)?;
        Ok(Request { class, flags, index, file_id, output_length, pattern })
    }
}

/// Bytes of a response's body before its output.
pub const OUTPUT_START: usize = 8;

/// Appends the part of a response's body before its output; also that of CHANGE_NOTIFY and QUERY_INFO, which is the same.
pub fn emit(writer: &mut Writer<'_>, output_length: u32) {
    writer.u16(9);
    writer.u16(if output_length == 0 { 0 } else { (HEADER_LENGTH + OUTPUT_START) as u16 });
    writer.u32(output_length);
}
