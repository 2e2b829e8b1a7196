//! What QEMU's blklogwrites driver wrote down: the format of Linux' dm-log-writes.
//!
//! 512-byte sectors, little-endian. The first sector is a superblock that QEMU brings up to date now and then only, so it is
//! not read. Behind it come entries: a head of one sector (sector on the disk: 8 bytes, count of sectors: 8, flags: 8, length of
//! data: 8), then the data of a write. QEMU writes an entry when the disk's file has answered, before the guest is told.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use storage::test_devices::{Generator, Medium, RamDisk};

const SECTOR: u64 = 512;

const FLUSH: u64 = 1;
const FORCE_UNIT_ACCESS: u64 = 2;
const DISCARD: u64 = 4;

/// A log that is followed from its beginning, with the disk as it would be left.
pub struct Follower {
    file: File,
    medium: Medium,
    /// Where the next entry is.
    position: u64,
    /// Entries passed: writes and flushes.
    pub entries: u64,
}

impl Follower {
    /// The log at `path` of a disk that was `base` at its beginning.
    pub fn new(path: &Path, base: &RamDisk) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { file, medium: Medium::new(base.duplicate()), position: SECTOR, entries: 0 })
    }

    /// Follows the log as far as its first `length` bytes hold whole entries.
    pub fn advance(&mut self, length: u64) -> Result<(), String> {
        let read = |bytes: &mut [u8], at: u64| {
            self.file.read_exact_at(bytes, at).map_err(|error| format!("the log of the writes: {error}"))
        };
        while self.position + SECTOR <= length {
            let mut head = [0; SECTOR as usize];
            read(&mut head, self.position)?;
            let field = |at: usize| {
                let bytes = head.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
                u64::from_le_bytes(bytes.copied().unwrap_or_default())
            };
            let (sector, count, flags) = (field(0), field(8), field(16));
            if count == 0 && flags == 0 {
                // Room for an entry that was not written yet.
                break;
            }
            if flags & !(FLUSH | FORCE_UNIT_ACCESS) != 0 {
                let what = if flags & DISCARD != 0 { "a discard" } else { "something unknown" };
                return Err(format!(
                    "the log of the writes has {what} (flags {flags:#x}) at {}",
                    self.position
                ));
            }
            let bytes = count.checked_mul(SECTOR).filter(|&bytes| bytes <= 64 << 20);
            let bytes =
                bytes.ok_or_else(|| format!("the log of the writes is broken at {}", self.position))?;
            if self.position + SECTOR + bytes > length {
                break;
            }
            if flags & FLUSH != 0 {
                let flush = self.medium.flush();
                self.medium.answer(flush);
            }
            if count > 0 {
                let mut data = vec![0; bytes as usize];
                read(&mut data, self.position + SECTOR)?;
                let write = self.medium.write(sector * SECTOR, Arc::from(data));
                self.medium.answer(write);
            }
            self.position += SECTOR + bytes;
            self.entries += 1;
        }
        Ok(())
    }

    /// The disk after a power cut here.
    pub fn cut(&self, random: &mut Generator) -> RamDisk {
        self.medium.cut(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sector: u64, flags: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let fields = [sector, data.len() as u64 / 512, flags, data.len() as u64];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_log_is_followed_to_any_length() {
        let path = std::env::temp_dir().join(format!("nas-xtask-{}-writes", std::process::id()));
        let mut log = vec![0xEE; 512];
        log.extend(entry(3, 0, &[1; 1024]));
        let first = log.len() as u64;
        log.extend(entry(0, FLUSH, &[]));
        let second = log.len() as u64;
        log.extend(entry(4, 0, &[2; 512]));
        std::fs::write(&path, &log).unwrap();
        let base = RamDisk::new(100, 512);
        let byte = |disk: &RamDisk, sector: u64| {
            let mut byte = [0];
            disk.peek(sector * 512, &mut byte);
            byte[0]
        };
        let mut follower = Follower::new(&path, &base).unwrap();
        follower.advance(first).unwrap();
        let lost = |follower: &Follower, sector: u64, value: u8| {
            (0..64).any(|seed| byte(&follower.cut(&mut Generator::new(seed)), sector) != value)
        };
        assert!(lost(&follower, 3, 1));
        follower.advance(second).unwrap();
        assert!(!lost(&follower, 3, 1) && !lost(&follower, 4, 1));
        // An entry that is not whole yet is none.
        follower.advance(log.len() as u64 - 1).unwrap();
        assert_eq!(follower.entries, 2);
        follower.advance(log.len() as u64).unwrap();
        assert_eq!(follower.entries, 3);
        assert!(lost(&follower, 4, 2) && lost(&follower, 4, 1) && !lost(&follower, 3, 1));
        std::fs::remove_file(path).unwrap();
    }
}
