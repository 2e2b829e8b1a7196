//! The log: the last lines of all crates, kept in a ring in memory.
//!
//! Not for interrupt handlers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use log::{LevelFilter, Log, Metadata, Record};

/// Bytes of text that are kept.
const RING: usize = 32 * 1024;

/// Bytes of the longest line; the rest of a longer one is lost.
const LINE: usize = 200;

/// Lines, oldest first, each ended by a line feed.
struct Ring {
    bytes: [u8; RING],
    /// How many bytes were ever written; the last RING of them are here.
    written: usize,
}

/// The ring as the `log` crate's backend.
pub struct LogRing {
    ring: spin::Mutex<Ring>,
}

static LOG: LogRing = LogRing { ring: spin::Mutex::new(Ring { bytes: [0; RING], written: 0 }) };

/// Makes the ring the backend of the `log` crate, from Info up. More than once does nothing.
pub fn install() {
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Where the log stands: a position for [`read_since`].
pub fn position() -> usize {
    LOG.ring.lock().written
}

/// Calls `visit` with each line written since `position` that is still there (0 for all), oldest first; returns the
/// new position.
pub fn read_since(position: usize, visit: &mut dyn FnMut(&str)) -> usize {
    let (text, written) = LOG.ring.lock().copy_since(position);
    let text = String::from_utf8_lossy(&text);
    // The first line may have lost its beginning.
    text.lines().for_each(visit);
    written
}

impl Ring {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.written % RING) {
                *place = byte;
            }
            self.written += 1;
        }
    }

    fn copy_since(&self, position: usize) -> (Vec<u8>, usize) {
        let from = position.max(self.written.saturating_sub(RING));
        let whole = from == position;
        let bytes = (from..self.written)
            .filter_map(|index| self.bytes.get(index % RING).copied())
            .collect::<Vec<u8>>();
        let skip =
            if whole { 0 } else { bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1) };
        (bytes.get(skip..).unwrap_or_default().to_vec(), self.written)
    }
}

impl Log for LogRing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let microseconds = crate::scheduler::now();
        let mut line = heapless::String::<LINE>::new();
        // What does not fit is lost.
        let _ = write!(
            line,
            "[{:6}.{:03}] {:5} {}",
            microseconds / 1_000_000,
            microseconds / 1_000 % 1_000,
            record.level(),
            record.args()
        );
        let mut ring = self.ring.lock();
        for part in line.split(|character: char| character.is_control()) {
            ring.push(part.as_bytes());
        }
        ring.push(b"\n");
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_make_room() {
        let mut ring = Ring { bytes: [0; RING], written: 0 };
        for number in 0..10_000 {
            ring.push(format!("line {number}\n").as_bytes());
        }
        let (text, position) = ring.copy_since(0);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("line "));
        assert!(text.ends_with("line 9999\n"));
        assert!(text.len() > RING - 20);
        ring.push(b"last\n");
        assert_eq!(ring.copy_since(position).0, b"last\n");
    }
}
