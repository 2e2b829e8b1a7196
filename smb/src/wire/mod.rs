//! The SMB 2/3 messages (MS-SMB2 2.2), one file a command: a checked `parse` of what a client sends, an `emit` of
//! what a server answers, both over plain structures.
//!
//! A request is parsed from its whole message, that is from the first byte of its SMB2 header on: every offset on the
//! wire counts from there. Responses are appended behind a header that the caller has put in place, so the fixed
//! offsets below are constants. All numbers are little-endian.

pub mod change_notify;
pub mod close;
pub mod create;
pub mod error;
pub mod flush;
pub mod header;
pub mod ioctl;
pub mod lock;
pub mod negotiate;
pub mod oplock_break;
pub mod query_directory;
pub mod query_info;
pub mod read;
pub mod session_setup;
pub mod set_info;
pub mod simple;
pub mod tree_connect;
pub mod write;

use crate::reader::{Malformed, Reader};

pub use header::{Command, HEADER_LENGTH, Header};

/// A reader over the body that follows the header in `message`, after its StructureSize was found to be `structure_size`.
///
/// # Errors
/// `Malformed` when the message is shorter than its fixed part or says another size.
pub(crate) fn body<'a>(message: &'a [u8], structure_size: u16) -> Result<Reader<'a>, Malformed> {
    let mut reader = Reader::new(message);
    reader.skip(HEADER_LENGTH)?;
    // The odd sizes count one byte of the variable part, which need not be there.
    if reader.remaining() < usize::from(structure_size & !1) || reader.u16()? != structure_size {
        return Err(Malformed);
    }
    Ok(reader)
}

/// The bytes of `message` at `offset`; an empty buffer may have any offset.
///
/// # Errors
/// `Malformed` when they do not lie between the header's end and the message's.
pub(crate) fn buffer(message: &[u8], offset: u32, length: u32) -> Result<&[u8], Malformed> {
    if length == 0 {
        return Ok(&[]);
    }
    let start = usize::try_from(offset).map_err(|_| Malformed)?;
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    if start < HEADER_LENGTH {
        return Err(Malformed);
    }
    let end = start.checked_add(length).ok_or(Malformed)?;
    message.get(start..end).ok_or(Malformed)
}

/// The UTF-16 code units of `bytes` in the machine's order.
///
/// # Errors
/// `Malformed` when the length is odd.
pub(crate) fn utf16(bytes: &[u8]) -> Result<alloc::vec::Vec<u16>, Malformed> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Malformed);
    }
    Ok(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
}

/// A file's name on the wire (MS-SMB2 2.2.14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Stays the same when a durable handle is reconnected.
    pub persistent: u64,
    /// Names the open on its session.
    pub volatile: u64,
}

impl FileId {
    /// "The file of the request before" in a related compound.
    pub const PREVIOUS: FileId = FileId { persistent: u64::MAX, volatile: u64::MAX };

    /// Reads the 16 bytes.
    ///
    /// # Errors
    /// `Malformed` at the end of the message.
    pub fn parse(reader: &mut Reader<'_>) -> Result<FileId, Malformed> {
        Ok(FileId { persistent: reader.u64()?, volatile: reader.u64()? })
    }

    /// Appends the 16 bytes.
    pub fn emit(self, writer: &mut crate::reader::Writer<'_>) {
        writer.u64(self.persistent);
        writer.u64(self.volatile);
    }
}
