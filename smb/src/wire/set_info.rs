//! SET_INFO (MS-SMB2 2.2.39, 2.2.40).

use super::FileId;
use crate::reader::{Malformed, Writer};

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// InfoType, as in QUERY_INFO.
    pub info_type: u8,
    /// FileInfoClass.
    pub class: u8,
    /// AdditionalInformation: which parts of a security descriptor.
    pub additional: u32,
    /// The file.
    pub file_id: FileId,
    /// The information.
    pub input: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// `Malformed` when the input lies outside the message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = super::body(message, 33)?;
        let info_type = reader.u8()?;
        let class = reader.u8()?;
        let length = reader.u32()?;
        let offset = reader.u16()?;
        reader.skip(2)?;
        let additional = reader.u32()?;
        let file_id = FileId::parse(&mut reader)?;
        let input = super::buffer(message, offset.into(), length)?;
        Ok(Request { info_type, class, additional, file_id, input })
    }
}

/// Appends a response's body.
pub fn emit(writer: &mut Writer<'_>) {
    writer.u16(2);
}
