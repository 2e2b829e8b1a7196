//! The crash record: what the last panic or unexpected exception printed, kept over the reboot that follows.
//!
//! It starts the crash area. A panic erases the area and programs the text first and the 16-byte head last, so that a
//! record cut off by a power loss is not taken for one.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic, [`MAGIC`] |
//! | 4 | length of the text in bytes |
//! | 8 | CRC-32 of the text |
//! | 12 | seconds since power-on |
//! | 16 | the text, UTF-8 |

use crate::area::CRASH;

/// The first four bytes of a record.
pub const MAGIC: u32 = u32::from_be_bytes(*b"OOPS");
/// Bytes before the text.
pub const HEAD_LENGTH: usize = 16;
/// The longest text.
pub const MAXIMUM_TEXT: usize = CRASH.length as usize - HEAD_LENGTH;

/// A crash record as read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashRecord<'a> {
    /// How long the board had been up, in seconds.
    pub uptime_seconds: u32,
    /// What was printed.
    pub text: &'a str,
}

/// The head for `text`, to be programmed after the text itself.
pub fn head(text: &[u8], uptime_seconds: u32) -> [u8; HEAD_LENGTH] {
    let mut bytes = [0; HEAD_LENGTH];
    let words = [MAGIC, text.len() as u32, crate::bytes::crc32(text), uptime_seconds];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Reads the record out of the crash area's bytes; `None` when there is none, or not a whole one.
pub fn parse(area: &[u8]) -> Option<CrashRecord<'_>> {
    let word = |offset: usize| Some(u32::from_be_bytes(*area.get(offset..)?.first_chunk()?));
    if word(0)? != MAGIC {
        return None;
    }
    let length = usize::try_from(word(4)?).ok()?;
    let text = area.get(HEAD_LENGTH..)?.get(..length)?;
    if crate::bytes::crc32(text) != word(8)? {
        return None;
    }
    Some(CrashRecord { uptime_seconds: word(12)?, text: core::str::from_utf8(text).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written() {
        let text = "panic: index out of bounds";
        let mut area = vec![0xFF; 256];
        area[..HEAD_LENGTH].copy_from_slice(&head(text.as_bytes(), 42));
        area[HEAD_LENGTH..][..text.len()].copy_from_slice(text.as_bytes());
        assert_eq!(parse(&area), Some(CrashRecord { uptime_seconds: 42, text }));
        area[HEAD_LENGTH] ^= 1;
        assert_eq!(parse(&area), None);
    }

    #[test]
    fn nothing_and_nonsense_are_no_record() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0xFF; 256]), None);
        let mut area = head(b"text", 1).to_vec();
        area[4] = 0xFF;
        assert_eq!(parse(&area), None);
    }
}
