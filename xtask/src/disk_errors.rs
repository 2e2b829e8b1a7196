//! A disk that fails at two sectors and, after a while, in its flushes: QEMU's blkdebug.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use crate::machine::Options;

/// What the client suite put at the start of the sectors that shall be bad.
const MARKS: [(&str, &str); 2] =
    [("read", "this sector cannot be read "), ("write", "this sector cannot be written ")];
/// Flushes after which some fail: more than the tests before that take.
const GOOD_FLUSHES: u32 = 120;
/// How many fail: the driver tries each a few times.
const BAD_FLUSHES: u32 = 24;

/// Writes blkdebug's rules for the disk on `channel`, whose image has the marks.
pub fn write_rules(options: &Options, channel: usize) -> Result<(), String> {
    let mut rules = String::new();
    for (kind, mark) in MARKS {
        let sector = find(&options.disk(channel), mark.as_bytes())?;
        let sector = sector.ok_or_else(|| format!("disk {channel} does not hold \"{mark}\""))?;
        // Active from the start, until the first rule that an event makes active.
        let rule = format!("event = \"none\"\niotype = \"{kind}\"\nsector = \"{sector}\"\nerrno = \"5\"\n");
        let _ = writeln!(rules, "[inject-error]\n{rule}");
    }
    for flush in 1..GOOD_FLUSHES + BAD_FLUSHES {
        let next = flush + 1;
        let rule = format!("event = \"flush_to_disk\"\nstate = \"{flush}\"\n");
        let _ = writeln!(rules, "[set-state]\n{rule}new_state = \"{next}\"\n");
        if flush >= GOOD_FLUSHES {
            let error = "iotype = \"flush\"\nerrno = \"5\"\nonce = \"on\"\n";
            let _ = writeln!(rules, "[inject-error]\n{rule}{error}");
        }
    }
    let path = options.rules(channel);
    std::fs::write(&path, rules).map_err(|error| format!("{}: {error}", path.display()))
}

/// The first sector of a file that starts with `mark`.
fn find(path: &Path, mark: &[u8]) -> Result<Option<u64>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut piece = vec![0; 1 << 20];
    for number in 0u64.. {
        if file.read_exact(&mut piece).is_err() {
            break;
        }
        if let Some(place) = piece.chunks(512).position(|sector| sector.starts_with(mark)) {
            return Ok(Some(number * 2048 + place as u64));
        }
    }
    Ok(None)
}
