//! NEGOTIATE (MS-SMB2 2.2.3, 2.2.4), its contexts, and the SMB1 NEGOTIATE that may come before it.

use alloc::vec::Vec;

use super::header::HEADER_LENGTH;
use crate::reader::{Malformed, Reader, Writer};

/// A dialect's number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Dialect {
    /// SMB 2.0.2
    Smb202 = 0x0202,
    /// SMB 2.1
    Smb210 = 0x0210,
    /// SMB 3.0
    Smb300 = 0x0300,
    /// SMB 3.0.2
    Smb302 = 0x0302,
    /// SMB 3.1.1
    Smb311 = 0x0311,
}

impl Dialect {
    /// All of them, the best first.
    pub const BEST_FIRST: [Dialect; 5] =
        [Dialect::Smb311, Dialect::Smb302, Dialect::Smb300, Dialect::Smb210, Dialect::Smb202];
}

/// "Any SMB2 dialect" in the answer to an SMB1 negotiate.
pub const DIALECT_WILDCARD: u16 = 0x02FF;

/// SecurityMode: signing is enabled.
pub const SIGNING_ENABLED: u16 = 1;
/// SecurityMode: signing is required.
pub const SIGNING_REQUIRED: u16 = 2;

/// Capabilities.
pub mod capability {
    /// DFS.
    pub const DFS: u32 = 0x01;
    /// Leases.
    pub const LEASING: u32 = 0x02;
    /// Multi-credit operations.
    pub const LARGE_MTU: u32 = 0x04;
    /// Several channels a session.
    pub const MULTI_CHANNEL: u32 = 0x08;
    /// Persistent handles.
    pub const PERSISTENT_HANDLES: u32 = 0x10;
    /// Directory leases.
    pub const DIRECTORY_LEASING: u32 = 0x20;
    /// Encryption (3.0, 3.0.2).
    pub const ENCRYPTION: u32 = 0x40;
}

/// A NEGOTIATE request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// SecurityMode.
    pub security_mode: u16,
    /// Capabilities.
    pub capabilities: u32,
    /// The client's GUID.
    pub client_guid: [u8; 16],
    /// Dialect numbers, as sent.
    pub dialects: Vec<u16>,
    /// The contexts, present when 3.1.1 is among the dialects.
    pub contexts: Vec<Context<'a>>,
}

/// One context: its type and its bytes (2.2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// Its ContextType.
    pub kind: u16,
    /// Its data.
    pub data: &'a [u8],
}

/// ContextType values.
pub mod context {
    /// 2.2.3.1.1
    pub const PREAUTH_INTEGRITY: u16 = 1;
    /// 2.2.3.1.2
    pub const ENCRYPTION: u16 = 2;
    /// 2.2.3.1.3
    pub const COMPRESSION: u16 = 3;
    /// 2.2.3.1.4
    pub const NETNAME: u16 = 5;
    /// 2.2.3.1.5
    pub const TRANSPORT: u16 = 6;
    /// 2.2.3.1.6
    pub const RDMA: u16 = 7;
    /// 2.2.3.1.7
    pub const SIGNING: u16 = 8;
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when a count or offset leads out of the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 36)?;
        let dialect_count = reader.u16()?;
        let security_mode = reader.u16()?;
        reader.skip(2)?;
        let capabilities = reader.u32()?;
        let client_guid = reader.array::<16>()?;
        let context_offset = reader.u32()?;
        let context_count = reader.u16()?;
        reader.skip(2)?;
        // 3.3.5.4: no dialects is invalid; the count bounds the allocation by what is really there.
        if usize::from(dialect_count) > reader.remaining() / 2 {
            return Err(Malformed);
        }
        let mut dialects = Vec::with_capacity(usize::from(dialect_count));
        for _ in 0..dialect_count {
            dialects.push(reader.u16()?);
        }
        let mut contexts = Vec::new();
        if dialects.contains(&(Dialect::Smb311 as u16)) {
            let mut offset = usize::try_from(context_offset).map_err(|_| Malformed)?;
            if context_count > 0 && offset < HEADER_LENGTH {
                return Err(Malformed);
            }
            for index in 0..context_count {
                if index > 0 {
                    offset = offset.checked_next_multiple_of(8).ok_or(Malformed)?;
                }
                let mut reader = Reader::new(message.get(offset..).ok_or(Malformed)?);
                let kind = reader.u16()?;
                let length = usize::from(reader.u16()?);
                reader.skip(4)?;
                contexts.push(Context { kind, data: reader.bytes(length)? });
                offset = offset.checked_add(8 + length).ok_or(Malformed)?;
            }
        }
        Ok(Request { security_mode, capabilities, client_guid, dialects, contexts })
    }
}

/// The u16 list that encryption and signing contexts are: a count, then as many identifiers.
///
/// # Errors
/// `Malformed` when the count is zero or leads out of the context.
pub fn identifier_list(data: &[u8]) -> Result<Vec<u16>, Malformed> {
    let mut reader = Reader::new(data);
    let count = usize::from(reader.u16()?);
    if count == 0 || count > reader.remaining() / 2 {
        return Err(Malformed);
    }
    (0..count).map(|_| reader.u16()).collect()
}

/// The hash algorithms of a preauthentication context; the salt is checked and passed over.
///
/// # Errors
/// `Malformed` when a count leads out of the context.
pub fn preauth_algorithms(data: &[u8]) -> Result<Vec<u16>, Malformed> {
    let mut reader = Reader::new(data);
    let count = usize::from(reader.u16()?);
    let salt = usize::from(reader.u16()?);
    if count == 0 || count > reader.remaining() / 2 {
        return Err(Malformed);
    }
    let list = (0..count).map(|_| reader.u16()).collect();
    reader.bytes(salt)?;
    list
}

/// A NEGOTIATE response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// SecurityMode.
    pub security_mode: u16,
    /// DialectRevision.
    pub dialect: u16,
    /// The server's GUID.
    pub server_guid: [u8; 16],
    /// Capabilities.
    pub capabilities: u32,
    /// MaxTransactSize.
    pub maximum_transact: u32,
    /// MaxReadSize.
    pub maximum_read: u32,
    /// MaxWriteSize.
    pub maximum_write: u32,
    /// SystemTime.
    pub system_time: u64,
    /// The security token offered.
    pub token: &'a [u8],
    /// Contexts (3.1.1).
    pub contexts: &'a [Context<'a>],
}

impl Response<'_> {
    /// Appends the body.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        let token_offset = HEADER_LENGTH + 64;
        let context_offset = (token_offset + self.token.len()).next_multiple_of(8);
        writer.u16(65);
        writer.u16(self.security_mode);
        writer.u16(self.dialect);
        writer.u16(self.contexts.len() as u16);
        writer.bytes(&self.server_guid);
        writer.u32(self.capabilities);
        writer.u32(self.maximum_transact);
        writer.u32(self.maximum_read);
        writer.u32(self.maximum_write);
        writer.u64(self.system_time);
        writer.u64(0);
        writer.u16(token_offset as u16);
        writer.u16(self.token.len() as u16);
        writer.u32(if self.contexts.is_empty() { 0 } else { context_offset as u32 });
        writer.bytes(self.token);
        let mut at = token_offset + self.token.len();
        for context in self.contexts {
            let aligned = at.next_multiple_of(8);
            writer.zeros(aligned - at);
            writer.u16(context.kind);
            writer.u16(context.data.len() as u16);
            writer.u32(0);
            writer.bytes(context.data);
            at = aligned + 8 + context.data.len();
        }
    }
}

/// What an SMB1 NEGOTIATE offers of SMB2 (3.3.5.3): whether "SMB 2.002" and whether "SMB 2.???" is in its list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MultiProtocol {
    /// "SMB 2.002"
    pub smb_2_002: bool,
    /// "SMB 2.???"
    pub smb_2_wildcard: bool,
}

impl MultiProtocol {
    /// Reads an SMB1 message, which must be a NEGOTIATE.
    ///
    /// # Errors
    /// `Malformed` when it is something else or cut short.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        if reader.bytes(4)? != super::header::SMB1_PROTOCOL_ID || reader.u8()? != 0x72 {
            return Err(Malformed);
        }
        reader.skip(27)?;
        let words = usize::from(reader.u8()?);
        reader.skip(words * 2)?;
        let length = usize::from(reader.u16()?);
        let bytes = reader.bytes(length)?;
        let mut offer = MultiProtocol::default();
        for name in bytes.split(|byte| *byte == 0) {
            match name {
                b"\x02SMB 2.002" => offer.smb_2_002 = true,
                b"\x02SMB 2.???" => offer.smb_2_wildcard = true,
                _ => {}
            }
        }
        Ok(offer)
    }
}
