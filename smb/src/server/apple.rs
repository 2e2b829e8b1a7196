//! The AAPL create context: what macOS asks a server about its extensions when it opens a share's root. Apple describes
//! it in its own client's source only; Samba's `vfs_fruit` answers the same layout.
//!
//! Nothing is claimed that is not there: no attributes in directory listings, no copies of whole files by name, no UNIX
//! modes. Without named streams macOS keeps resource forks and Finder information in `._` files, which are files like others.

use alloc::vec::Vec;

use crate::reader::{Reader, Writer};
use crate::status::NtStatus;

/// kAAPL_SERVER_QUERY, the one command that servers answer.
const SERVER_QUERY: u32 = 1;
/// What can be asked for: kAAPL_SERVER_CAPS, kAAPL_VOLUME_CAPS, kAAPL_MODEL_INFO.
const SERVER_CAPABILITIES: u64 = 1;
const VOLUME_CAPABILITIES: u64 = 2;
const MODEL: u64 = 4;
/// kAAPL_SUPPORTS_FULL_SYNC: FLUSH comes back when the disks have it. (Neither case-sensitive nor opened by number.)
const FULL_SYNC: u64 = 4;
/// What the Finder chooses an icon by: the general one, for this is none of Apple's machines.
const MODEL_NAME: &str = "NAS";

/// The answer to the context's data.
///
/// # Errors
/// INVALID_PARAMETER for another command, or another length than a query has.
pub(super) fn answer(data: &[u8]) -> Result<Vec<u8>, NtStatus> {
    let mut reader = Reader::new(data);
    let command = reader.u32()?;
    reader.skip(4usize)?;
    let asked = reader.u64()? & (SERVER_CAPABILITIES | VOLUME_CAPABILITIES | MODEL);
    // What the client can do, which no answer here depends on.
    reader.u64()?;
    if command != SERVER_QUERY || !reader.is_empty() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.u32(SERVER_QUERY);
    writer.u32(0);
    writer.u64(asked);
    if asked & SERVER_CAPABILITIES != 0 {
        writer.u64(0);
    }
    if asked & VOLUME_CAPABILITIES != 0 {
        writer.u64(FULL_SYNC);
    }
    if asked & MODEL != 0 {
        writer.u32(0);
        writer.u32(2 * MODEL_NAME.len() as u32);
        writer.utf16_text(MODEL_NAME);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(command: u32, asked: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.u32(command);
        writer.u32(0);
        writer.u64(asked);
        writer.u64(7);
        out
    }

    #[test]
    fn each_part_is_there_when_asked_for() {
        let all = answer(&query(1, u64::MAX)).unwrap();
        assert_eq!(all[..16], [1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(all[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(all[32..40], [0, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(all[40..], *b"N\0A\0S\0");
        assert_eq!(answer(&query(1, 0)).unwrap().len(), 16);
        assert_eq!(answer(&query(1, 2)).unwrap().len(), 24);
    }

    #[test]
    fn other_commands_and_lengths_are_refused() {
        assert_eq!(answer(&query(2, 7)), Err(NtStatus::INVALID_PARAMETER));
        let long = [query(1, 7), Vec::from([0])].concat();
        assert_eq!(answer(&long), Err(NtStatus::INVALID_PARAMETER));
        for length in 0..24 {
            assert_eq!(answer(&long[..length]), Err(NtStatus::INVALID_PARAMETER));
        }
    }
}
