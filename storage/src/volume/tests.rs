//! Support for the tests of volumes: disks, clocks, foreign checkers. The tests are in the modules below, by subject.

use std::format;
use std::process::Command;
use std::string::String;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use super::*;
use crate::format::{Kind, Options};
use crate::test_devices::{Generator, RamDisk, judge};

mod damage;
mod foreign;
mod layouts;
mod limits;
pub(crate) mod model;
mod names;
mod streams;
mod valid_data;

pub(crate) use damage::exercise;

pub(crate) type Lock = parking_lot::RawMutex;

/// How often the random tests go round; the big-endian machine is an emulated one, and slow.
pub(crate) const ROUNDS: u64 = if cfg!(target_endian = "big") { 1 } else { 3 };

/// A clock that goes on by 3.21 s at each look.
pub(crate) struct TestClock(AtomicU32);

impl Clock for TestClock {
    fn now(&self) -> FileTime {
        FileTime(133_800_000_000_000_000 + u64::from(self.0.fetch_add(1, Ordering::Relaxed)) * 32_100_000)
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(TestClock(AtomicU32::new(0)))
}

pub(crate) fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

pub(crate) fn options(kind: Kind, cluster: Option<u32>) -> Options {
    Options { kind, label: units("TESTDISK"), unique: [0x11; 16], cluster }
}

pub(crate) fn formatted(mebibytes: u64, kind: Kind, cluster: Option<u32>) -> Arc<RamDisk> {
    let disk = Arc::new(RamDisk::new(mebibytes * 2048, 512));
    crate::format::volume(&*disk, 0, &options(kind, cluster)).unwrap();
    disk
}

pub(crate) fn mount_with(disk: Arc<dyn BlockDevice>, cache: usize) -> Result<Volume<Lock>, VolumeError> {
    Volume::mount(Arc::new(Cache::new(cache)), disk, clock(), false)
}

pub(crate) fn mount_journaled(
    disk: Arc<dyn BlockDevice>,
    journal: Option<Arc<dyn BlockDevice>>,
    cache: usize,
) -> Result<Volume<Lock>, VolumeError> {
    Volume::mount_journaled(Arc::new(Cache::new(cache)), disk, journal, clock(), false)
}

/// The volume is sound in the eyes of fsck.
pub(crate) fn assert_sound(disk: &RamDisk, kind: Kind) {
    if let Err(text) = judge::fsck(disk, kind) {
        panic!("{text}");
    }
}

pub(crate) fn fill(random: &mut Generator, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

/// Makes a disk with a foreign formatter. `None` if it is not installed.
pub(crate) fn foreign(mebibytes: u64, program: &str, arguments: &[&str]) -> Option<Arc<RamDisk>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("storage-mkfs-{}-{number}.img", std::process::id()));
    std::fs::File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
    // Looked for by its file: under qemu-user, starting what is not there is not an error.
    let output = ["/usr/sbin/", "/sbin/", "/usr/bin/", "/usr/local/sbin/"]
        .iter()
        .map(|place| format!("{place}{program}"))
        .find(|program| std::path::Path::new(program).exists())
        .and_then(|program| Command::new(program).args(arguments).arg(&path).output().ok());
    let image = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let Some(output) = output else {
        std::eprintln!("{program} is not installed: its volumes are not tried");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(Arc::new(RamDisk::from_image(&image)))
}
