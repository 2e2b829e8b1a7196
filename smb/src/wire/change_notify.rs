//! CHANGE_NOTIFY (MS-SMB2 2.2.35, 2.2.36).

use super::FileId;
use crate::reader::Malformed;

/// Flag: everything below the directory, too.
pub const WATCH_TREE: u16 = 1;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Flags.
    pub flags: u16,
    /// Bytes of the largest output.
    pub output_length: u32,
    /// The directory.
    pub file_id: FileId,
    /// CompletionFilter: which changes.
    pub filter: u32,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when it is too short.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 32)?;
        Ok(Request {
            flags: reader.u16()?,
            output_length: reader.u32()?,
            file_id: FileId::parse(&mut reader)?,
            filter: reader.u32()?,
        })
    }
}

pub use super::query_directory::emit;
