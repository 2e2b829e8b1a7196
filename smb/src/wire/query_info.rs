//! QUERY_INFO (MS-SMB2 2.2.37, 2.2.38).

use super::FileId;
use crate::reader::Malformed;

/// InfoType: a file's.
pub const INFO_FILE: u8 = 1;
/// InfoType: the volume's.
pub const INFO_FILE_SYSTEM: u8 = 2;
/// InfoType: the security descriptor.
pub const INFO_SECURITY: u8 = 3;
/// InfoType: quotas.
pub const INFO_QUOTA: u8 = 4;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// InfoType.
    pub info_type: u8,
    /// FileInfoClass.
    pub class: u8,
    /// Bytes of the largest output.
    pub output_length: u32,
    /// AdditionalInformation: which parts of a security descriptor.
    pub additional: u32,
    /// The file.
    pub file_id: FileId,
    /// Input, for EAs and quotas.
    pub input: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the input lies outside the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 41)?;
        let info_type = reader.u8()?;
        let class = reader.u8()?;
        let output_length = reader.u32()?;
        let offset = reader.u16()?;
        reader.skip(2)?;
        let length = reader.u32()?;
        let additional = reader.u32()?;
        reader.skip(4)?;
        let file_id = FileId::parse(&mut reader)?;
        let input = super::buffer(message, offset.into(), length)?;
        Ok(Request { info_type, class, output_length, additional, file_id, input })
    }
}

pub use super::query_directory::emit;
