//! IOCTL (MS-SMB2 2.2.31, 2.2.32).

use super::{FileId, HEADER_LENGTH};
use crate::reader::{Malformed, Writer};

/// Flag: an FSCTL, which is the only kind there is.
pub const IS_FSCTL: u32 = 1;
/// Where a response's output begins, counted from its header.
pub const OUTPUT_OFFSET: u32 = HEADER_LENGTH as u32 + 48;

/// FSCTL numbers (MS-FSCC 2.3, MS-SMB2 2.2.31).
pub mod control {
    /// FSCTL_DFS_GET_REFERRALS
    pub const DFS_GET_REFERRALS: u32 = 0x0006_0194;
    /// FSCTL_DFS_GET_REFERRALS_EX
    pub const DFS_GET_REFERRALS_EX: u32 = 0x0006_01B0;
    /// FSCTL_PIPE_PEEK
    pub const PIPE_PEEK: u32 = 0x0011_400C;
    /// FSCTL_PIPE_WAIT
    pub const PIPE_WAIT: u32 = 0x0011_0018;
    /// FSCTL_PIPE_TRANSCEIVE
    pub const PIPE_TRANSCEIVE: u32 = 0x0011_C017;
    /// FSCTL_SRV_COPYCHUNK
    pub const COPYCHUNK: u32 = 0x0014_40F2;
    /// FSCTL_SRV_COPYCHUNK_WRITE
    pub const COPYCHUNK_WRITE: u32 = 0x0014_80F2;
    /// FSCTL_SRV_REQUEST_RESUME_KEY
    pub const REQUEST_RESUME_KEY: u32 = 0x0014_0078;
    /// FSCTL_SRV_ENUMERATE_SNAPSHOTS
    pub const ENUMERATE_SNAPSHOTS: u32 = 0x0014_4064;
    /// FSCTL_LMR_REQUEST_RESILIENCY
    pub const REQUEST_RESILIENCY: u32 = 0x0014_01D4;
    /// FSCTL_QUERY_NETWORK_INTERFACE_INFO
    pub const QUERY_NETWORK_INTERFACE_INFO: u32 = 0x0014_01FC;
    /// FSCTL_VALIDATE_NEGOTIATE_INFO
    pub const VALIDATE_NEGOTIATE_INFO: u32 = 0x0014_0204;
    /// FSCTL_SET_COMPRESSION
    pub const SET_COMPRESSION: u32 = 0x0009_C040;
    /// FSCTL_GET_COMPRESSION
    pub const GET_COMPRESSION: u32 = 0x0009_003C;
    /// FSCTL_SET_SPARSE
    pub const SET_SPARSE: u32 = 0x0009_00C4;
    /// FSCTL_SET_ZERO_DATA
    pub const SET_ZERO_DATA: u32 = 0x0009_80C8;
    /// FSCTL_QUERY_ALLOCATED_RANGES
    pub const QUERY_ALLOCATED_RANGES: u32 = 0x0009_40CF;
    /// FSCTL_CREATE_OR_GET_OBJECT_ID
    pub const CREATE_OR_GET_OBJECT_ID: u32 = 0x0009_00C0;
    /// FSCTL_GET_REPARSE_POINT
    pub const GET_REPARSE_POINT: u32 = 0x0009_00A8;
    /// FSCTL_SET_REPARSE_POINT
    pub const SET_REPARSE_POINT: u32 = 0x0009_00A4;
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The FSCTL's number.
    pub control: u32,
    /// The file, or [`FileId::PREVIOUS`] for those that need none.
    pub file_id: FileId,
    /// The bytes of the largest output that the client takes.
    pub maximum_output: u32,
    /// The bytes of the largest input that the client takes back.
    pub maximum_input: u32,
    /// Flags.
    pub flags: u32,
    /// The input.
    pub input: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the input lies outside the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 57)?;
        reader.skip(2)?;
        let control = reader.u32()?;
        let file_id = FileId::parse(&mut reader)?;
        let offset = reader.u32()?;
        let length = reader.u32()?;
        let maximum_input = reader.u32()?;
        reader.skip(8)?;
        let maximum_output = reader.u32()?;
        let flags = reader.u32()?;
        let input = super::buffer(message, offset, length)?;
        Ok(Request { control, file_id, maximum_output, maximum_input, flags, input })
    }
}

/// Appends a response's body.
pub fn emit(writer: &mut Writer<'_>, control: u32, file_id: FileId, output: &[u8]) {
    writer.u16(49);
    writer.u16(0);
    writer.u32(control);
    file_id.emit(writer);
    writer.u32(OUTPUT_OFFSET);
    writer.u32(0);
    writer.u32(OUTPUT_OFFSET);
    writer.u32(output.len() as u32);
    writer.u32(0);
    writer.u32(0);
    writer.bytes(output);
}
