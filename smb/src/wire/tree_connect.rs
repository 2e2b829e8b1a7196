//! TREE_CONNECT (MS-SMB2 2.2.9, 2.2.10).

use alloc::vec::Vec;

use crate::reader::{Malformed, Writer};

/// ShareType: files.
pub const SHARE_DISK: u8 = 1;
/// ShareType: named pipes.
pub const SHARE_PIPE: u8 = 2;
/// ShareFlags: no offline caching.
pub const SHARE_FLAG_NO_CACHING: u32 = 0x30;
/// ShareFlags: every message of the tree must be encrypted.
pub const SHARE_FLAG_ENCRYPT_DATA: u32 = 0x8000;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Flags (3.1.1).
    pub flags: u16,
    /// `\\server\share`, UTF-16.
    pub path: Vec<u16>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the path lies outside the message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 9)?;
        let flags = reader.u16()?;
        let offset = reader.u16()?;
        let length = reader.u16()?;
        Ok(Request { flags, path: super::utf16(super::buffer(message, offset.into(), length.into())?)? })
    }

    /// The share's name: what follows the last backslash.
    pub fn share(&self) -> &[u16] {
        self.path.rsplit(|unit| *unit == u16::from(b'\\')).next().unwrap_or(&[])
    }
}

/// A response.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    /// ShareType.
    pub share_type: u8,
    /// ShareFlags.
    pub share_flags: u32,
    /// Capabilities.
    pub capabilities: u32,
    /// MaximalAccess.
    pub maximal_access: u32,
}

impl Response {
    /// Appends the body.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(16);
        writer.u8(self.share_type);
        writer.u8(0);
        writer.u32(self.share_flags);
        writer.u32(self.capabilities);
        writer.u32(self.maximal_access);
    }
}
