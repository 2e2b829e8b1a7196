//! Messages whose body is four bytes: LOGOFF, TREE_DISCONNECT, ECHO, CANCEL (MS-SMB2 2.2.7, 2.2.11, 2.2.28, 2.2.30).

use crate::reader::{Malformed, Writer};

/// Checks the four bytes.
///
/// # Errors
/// `Malformed` when they are missing or say another size.
pub fn parse(message: &[u8]) -> Result<(), Malformed> {
    super::body(message, 4).map(|_| ())
}

/// Appends the four bytes.
pub fn emit(writer: &mut Writer<'_>) {
    writer.u16(4);
    writer.u16(0);
}
