//! FLUSH (MS-SMB2 2.2.17, 2.2.18).

use super::FileId;
use crate::reader::{Malformed, Writer};

/// Reads a request: the file to flush.
///
/// # Errors
/// `Malformed` when it is too short.
pub fn parse(message: &[u8]) -> Result<FileId, Malformed> {
    let mut reader = super::body(message, 24)?;
    reader.skip(6)?;
    FileId::parse(&mut reader)
}

/// Appends a response's body.
pub fn emit(writer: &mut Writer<'_>) {
    writer.u16(4);
    writer.u16(0);
}
