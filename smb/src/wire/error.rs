//! The error response (MS-SMB2 2.2.2).

use super::negotiate::Dialect;
use crate::reader::Writer;

/// SMB2_ERROR_ID_DEFAULT.
const DEFAULT_ID: u32 = 0;

/// Appends an error response's body with `data` as its ErrorData; in 3.1.1 it is in an error context (2.2.2.1).
pub fn emit(writer: &mut Writer<'_>, dialect: Option<Dialect>, data: &[u8]) {
    let in_context = dialect == Some(Dialect::Smb311) && !data.is_empty();
    writer.u16(9);
    writer.u8(u8::from(in_context));
    writer.u8(0);
    writer.u32(data.len() as u32 + if in_context { 8 } else { 0 });
    if in_context {
        writer.u32(data.len() as u32);
        writer.u32(DEFAULT_ID);
    }
    if data.is_empty() {
        // One byte of padding, as Windows sends it.
        writer.u8(0);
    } else {
        writer.bytes(data);
    }
}
