//! CLOSE (MS-SMB2 2.2.15, 2.2.16).

use super::FileId;
use crate::reader::{Malformed, Writer};

/// Flag: answer with the file's attributes after the close.
pub const POST_QUERY_ATTRIBUTES: u16 = 1;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Flags.
    pub flags: u16,
    /// The file.
    pub file_id: FileId,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when it is too short.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 24)?;
        let flags = reader.u16()?;
        reader.skip(4)?;
        Ok(Request { flags, file_id: FileId::parse(&mut reader)? })
    }
}

/// A response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response {
    /// Flags: whether the rest is filled in.
    pub flags: u16,
    /// Creation, last access, last write, change.
    pub times: [u64; 4],
    /// AllocationSize.
    pub allocated: u64,
    /// EndofFile.
    pub size: u64,
    /// FileAttributes.
    pub attributes: u32,
}

impl Response {
    /// Appends the body.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(60);
        writer.u16(self.flags);
        writer.u32(0);
        for time in self.times {
            writer.u64(time);
        }
        writer.u64(self.allocated);
        writer.u64(self.size);
        writer.u32(self.attributes);
    }
}
