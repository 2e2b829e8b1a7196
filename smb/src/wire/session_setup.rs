//! SESSION_SETUP (MS-SMB2 2.2.5, 2.2.6).

use super::header::HEADER_LENGTH;
use crate::reader::{Malformed, Writer};

/// Request flag: bind this connection to an existing session.
pub const FLAG_BINDING: u8 = 1;
/// Response flag: the user is a guest.
pub const SESSION_IS_GUEST: u16 = 1;
/// Response flag: the user is anonymous.
pub const SESSION_IS_NULL: u16 = 2;
/// Response flag: all of the session must be encrypted.
pub const SESSION_ENCRYPT_DATA: u16 = 4;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Flags.
    pub flags: u8,
    /// SecurityMode.
    pub security_mode: u8,
    /// Capabilities.
    pub capabilities: u32,
    /// A session of the same client to be closed when this one stands.
    pub previous_session_id: u64,
    /// The security token.
    pub token: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the token lies outside the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 25)?;
        let flags = reader.u8()?;
        let security_mode = reader.u8()?;
        let capabilities = reader.u32()?;
        reader.skip(4)?;
        let offset = reader.u16()?;
        let length = reader.u16()?;
        let previous_session_id = reader.u64()?;
        let token = super::buffer(message, offset.into(), length.into())?;
        Ok(Request { flags, security_mode, capabilities, previous_session_id, token })
    }
}

/// Appends a response's body.
pub fn emit(writer: &mut Writer<'_>, session_flags: u16, token: &[u8]) {
    writer.u16(9);
    writer.u16(session_flags);
    writer.u16(HEADER_LENGTH as u16 + 8);
    writer.u16(token.len() as u16);
    writer.bytes(token);
}
