//! The error response (MS-SMB2 2.2.2).

use crate::reader::Writer;

/// Appends an error response's body with `data` as its ErrorData, which is a single context when `contexts` is 1.
pub fn emit(writer: &mut Writer<'_>, contexts: u8, data: &[u8]) {
    writer.u16(9);
    writer.u8(contexts);
    writer.u8(0);
    writer.u32(data.len() as u32);
    if data.is_empty() {
        // One byte of padding, as Windows sends it.
        writer.u8(0);
    } else {
        writer.bytes(data);
    }
}
