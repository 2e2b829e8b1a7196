//! CREATE (MS-SMB2 2.2.13, 2.2.14) and its contexts (2.2.13.2, 2.2.14.2).

use alloc::vec::Vec;

use super::{FileId, HEADER_LENGTH};
use crate::reader::{Malformed, Reader, Writer};

/// CreateDisposition values.
pub mod disposition {
    /// Replace or make.
    pub const SUPERSEDE: u32 = 0;
    /// Open what is there.
    pub const OPEN: u32 = 1;
    /// Make what is not.
    pub const CREATE: u32 = 2;
    /// Open or make.
    pub const OPEN_IF: u32 = 3;
    /// Cut what is there.
    pub const OVERWRITE: u32 = 4;
    /// Cut or make.
    pub const OVERWRITE_IF: u32 = 5;
}

/// CreateOptions bits.
pub mod option {
    /// Must be a directory.
    pub const DIRECTORY_FILE: u32 = 0x1;
    /// Writes go to disk before their answer.
    pub const WRITE_THROUGH: u32 = 0x2;
    /// Will be read from start to end.
    pub const SEQUENTIAL_ONLY: u32 = 0x4;
    /// Past the caches.
    pub const NO_INTERMEDIATE_BUFFERING: u32 = 0x8;
    /// Keeps a position.
    pub const SYNCHRONOUS_IO_ALERT: u32 = 0x10;
    /// Keeps a position.
    pub const SYNCHRONOUS_IO_NONALERT: u32 = 0x20;
    /// Must not be a directory.
    pub const NON_DIRECTORY_FILE: u32 = 0x40;
    /// Not for the network.
    pub const CREATE_TREE_CONNECTION: u32 = 0x80;
    /// Fail if the oplock breaks.
    pub const COMPLETE_IF_OPLOCKED: u32 = 0x100;
    /// Knows nothing of EAs.
    pub const NO_EA_KNOWLEDGE: u32 = 0x200;
    /// Will be read at random.
    pub const RANDOM_ACCESS: u32 = 0x800;
    /// Delete it when the handle is closed.
    pub const DELETE_ON_CLOSE: u32 = 0x1000;
    /// The name is a file id.
    pub const OPEN_BY_FILE_ID: u32 = 0x2000;
    /// Not to be compressed.
    pub const NO_COMPRESSION: u32 = 0x8000;
    /// Opportunistic.
    pub const OPEN_REQUIRING_OPLOCK: u32 = 0x1_0000;
    /// No more exclusive access than that.
    pub const DISALLOW_EXCLUSIVE: u32 = 0x2_0000;
    /// Not for the network.
    pub const RESERVE_OPFILTER: u32 = 0x10_0000;
    /// The reparse point itself.
    pub const OPEN_REPARSE_POINT: u32 = 0x20_0000;
}

/// Names of contexts.
pub mod context {
    /// Extended attributes.
    pub const EXTENDED_ATTRIBUTES: &[u8] = b"ExtA";
    /// Security descriptor.
    pub const SECURITY_DESCRIPTOR: &[u8] = b"SecD";
    /// Durable handle request.
    pub const DURABLE_REQUEST: &[u8] = b"DHnQ";
    /// Durable handle reconnect.
    pub const DURABLE_RECONNECT: &[u8] = b"DHnC";
    /// Allocation size.
    pub const ALLOCATION_SIZE: &[u8] = b"AlSi";
    /// Maximal access.
    pub const MAXIMAL_ACCESS: &[u8] = b"MxAc";
    /// A snapshot's time.
    pub const TIMEWARP: &[u8] = b"TWrp";
    /// The file's id on disk.
    pub const QUERY_FILE_ID: &[u8] = b"QFid";
    /// Lease, version 1 or 2.
    pub const LEASE: &[u8] = b"RqLs";
    /// Durable handle request, version 2.
    pub const DURABLE_REQUEST_2: &[u8] = b"DH2Q";
    /// Durable handle reconnect, version 2.
    pub const DURABLE_RECONNECT_2: &[u8] = b"DH2C";
    /// Apple's extensions.
    pub const APPLE: &[u8] = b"AAPL";
    /// Application instance.
    pub const APPLICATION_INSTANCE: &[u8] =
        &[0x45, 0xBC, 0xA6, 0x6A, 0xEF, 0xA7, 0xF7, 0x4A, 0x90, 0x08, 0xFA, 0x46, 0x2E, 0x14, 0x4D, 0x74];
}

/// A context: its name and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// The name, usually four letters.
    pub name: &'a [u8],
    /// The data.
    pub data: &'a [u8],
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// RequestedOplockLevel.
    pub oplock: u8,
    /// ImpersonationLevel.
    pub impersonation: u32,
    /// DesiredAccess.
    pub access: u32,
    /// FileAttributes.
    pub attributes: u32,
    /// ShareAccess.
    pub share: u32,
    /// CreateDisposition.
    pub disposition: u32,
    /// CreateOptions.
    pub options: u32,
    /// The path, UTF-16.
    pub name: Vec<u16>,
    /// The contexts.
    pub contexts: Vec<Context<'a>>,
}

/// Contexts that a request may have: there are not that many kinds.
const MAXIMUM_CONTEXTS: usize = 32;

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when a name, context or offset leads out of the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 57)?;
        reader.skip(1)?;
        let oplock = reader.u8()?;
        let impersonation = reader.u32()?;
        reader.skip(16)?;
        let access = reader.u32()?;
        let attributes = reader.u32()?;
        let share = reader.u32()?;
        let disposition = reader.u32()?;
        let options = reader.u32()?;
        let name_offset = reader.u16()?;
        let name_length = reader.u16()?;
        let contexts_offset = reader.u32()?;
        let contexts_length = reader.u32()?;
        let name = super::utf16(super::buffer(message, name_offset.into(), name_length.into())?)?;
        let contexts = parse_contexts(super::buffer(message, contexts_offset, contexts_length)?)?;
        Ok(Request { oplock, impersonation, access, attributes, share, disposition, options, name, contexts })
    }

    /// The data of the context `name`.
    pub fn context(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.contexts.iter().find(|context| context.name == name).map(|context| context.data)
    }
}

/// Reads a chain of contexts. Each step goes forward, so the chain ends.
fn parse_contexts(mut bytes: &[u8]) -> Result<Vec<Context<'_>>, Malformed> {
    let mut contexts = Vec::new();
    if bytes.is_empty() {
        return Ok(contexts);
    }
    loop {
        let mut reader = Reader::new(bytes);
        let next = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
        let name_offset = reader.u16()?;
        let name_length = reader.u16()?;
        reader.skip(2)?;
        let data_offset = reader.u16()?;
        let data_length = reader.u32()?;
        let own = if next == 0 { bytes } else { bytes.get(..next).ok_or(Malformed)? };
        if (next != 0 && (next < 16 || next % 8 != 0)) || name_length == 0 || name_offset < 16 {
            return Err(Malformed);
        }
        let whole = Reader::new(own);
        let name = whole.sub(name_offset, name_length)?.whole();
        let data = if data_length == 0 { &[][..] } else { whole.sub(data_offset, data_length)?.whole() };
        contexts.push(Context { name, data });
        if next == 0 {
            return Ok(contexts);
        }
        if contexts.len() == MAXIMUM_CONTEXTS {
            return Err(Malformed);
        }
        bytes = bytes.get(next..).ok_or(Malformed)?;
    }
}

/// CreateAction values.
pub mod action {
    /// Replaced.
    pub const SUPERSEDED: u32 = 0;
    /// Opened.
    pub const OPENED: u32 = 1;
    /// Made.
    pub const CREATED: u32 = 2;
    /// Cut.
    pub const OVERWRITTEN: u32 = 3;
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    /// The oplock granted.
    pub oplock: u8,
    /// CreateAction.
    pub action: u32,
    /// Creation, last access, last write, change.
    pub times: [u64; 4],
    /// AllocationSize.
    pub allocated: u64,
    /// EndofFile.
    pub size: u64,
    /// FileAttributes.
    pub attributes: u32,
    /// The new handle.
    pub file_id: FileId,
    /// Contexts: names of four bytes.
    pub contexts: &'a [(&'a [u8], Vec<u8>)],
}

impl Response<'_> {
    /// Appends the body.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.u16(89);
        writer.u8(self.oplock);
        writer.u8(0);
        writer.u32(self.action);
        for time in self.times {
            writer.u64(time);
        }
        writer.u64(self.allocated);
        writer.u64(self.size);
        writer.u32(self.attributes);
        writer.u32(0);
        self.file_id.emit(writer);
        let offset = (HEADER_LENGTH + 88) as u32;
        // Each context but the last is padded to 8 bytes.
        let count = self.contexts.len();
        let sizes = self.contexts.iter().enumerate().map(|(index, (_, data))| {
            let size = 24 + data.len();
            if index + 1 == count { size } else { size.next_multiple_of(8) }
        });
        let length: usize = sizes.sum();
        writer.u32(if count == 0 { 0 } else { offset });
        writer.u32(length as u32);
        for (index, (name, data)) in self.contexts.iter().enumerate() {
            let size = 24 + data.len();
            let padded = size.next_multiple_of(8);
            let last = index + 1 == count;
            writer.u32(if last { 0 } else { padded as u32 });
            writer.u16(16);
            writer.u16(4);
            writer.u16(0);
            writer.u16(if data.is_empty() { 0 } else { 24 });
            writer.u32(data.len() as u32);
            writer.bytes(name);
            writer.zeros(4);
            writer.bytes(data);
            if !last {
                writer.zeros(padded - size);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_chains_end() {
        // Next = 0 with room behind it, then a Next that points at itself, before itself and beyond the buffer.
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.u32(0);
        writer.u16(16);
        writer.u16(4);
        writer.u16(0);
        writer.u16(24);
        writer.u32(8);
        writer.bytes(b"AlSi\0\0\0\0");
        writer.u64(77);
        assert_eq!(parse_contexts(&bytes).unwrap()[0].data, 77u64.to_le_bytes());
        for next in [1u32, 8, 12, 17, 40, u32::MAX] {
            let mut bad = bytes.clone();
            bad[..4].copy_from_slice(&next.to_le_bytes());
            assert!(parse_contexts(&bad).is_err(), "{next}");
        }
        for (at, value) in [(4, 0xFFFFu16), (6, 0), (6, 0xFFFF), (10, 0xFFF0)] {
            let mut bad = bytes.clone();
            bad[at..at + 2].copy_from_slice(&value.to_le_bytes());
            assert!(parse_contexts(&bad).is_err(), "{at} {value}");
        }
    }
}
