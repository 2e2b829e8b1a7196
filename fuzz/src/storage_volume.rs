//! A damaged disk: a volume with some files is made, bytes of its metadata are overwritten, and everything is done to it that a
//! server does, a replay of its journal included. Whatever the damage: no panic, no endless walk, and errors instead of both.
//!
//! Input: a byte that chooses the kind of volume, a byte of options, then patches: where (a region and an offset), and a
//! piece. exFAT's checksums over the boot sectors and over the patched record sets, and those of the journal, are made right
//! again, so that the damage behind them is looked at.

use std::sync::{Arc, OnceLock};

use storage::format::{Kind, Options};
use storage::partition::{Layout, Partition};
use storage::test_devices::RamDisk;
use storage::time::{Clock, FileTime};
use storage::volume::{FileAttributes, MetadataChange, NodeKind, VolumeError};
use storage::{BlockDevice, Cache, Volume};

use crate::input::Input;

/// Options.
pub mod option {
    /// Checksums are left wrong.
    pub const NO_REPAIR: u8 = 1;
    /// Mounted for reading only.
    pub const READ_ONLY: u8 = 2;
}

/// The kinds of volume, as the first byte chooses them; 3 is a whole disk with a GPT and a journal, 4 the same after a power
/// cut.
pub const KINDS: u8 = 5;

/// Where the journal starts on a divided disk, in bytes: behind the table's MiB and that of array records.
const JOURNAL: u64 = 2 << 20;
/// Where its groups start.
const LOG: u64 = JOURNAL + 16384;

type Mounted = Volume<parking_lot::RawMutex>;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> FileTime {
        FileTime(133_800_000_000_000_000)
    }
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn mount(
    device: Arc<dyn BlockDevice>,
    journal: Option<Arc<dyn BlockDevice>>,
    read_only: bool,
) -> Result<Mounted, VolumeError> {
    let cache = Arc::new(Cache::<parking_lot::RawMutex>::new(2 << 20));
    Volume::mount_journaled(cache, device, journal, Arc::new(Fixed), read_only)
}

/// The undamaged disk of a kind, and where in bytes its volume starts.
fn original(kind: u8) -> &'static (RamDisk, u64) {
    static DISKS: [OnceLock<(RamDisk, u64)>; KINDS as usize] = [const { OnceLock::new() }; KINDS as usize];
    DISKS[usize::from(kind)].get_or_init(|| {
        let (file_system, blocks, cluster) = match kind {
            0 => (Kind::Exfat, 8 << 11, Some(4096)),
            1 => (Kind::Fat32, 40 << 11, Some(512)),
            2 => (Kind::Fat16, 8 << 11, Some(512)),
            _ => (Kind::Exfat, 64 << 11, None),
        };
        let options = Options { kind: file_system, label: units("FUZZ"), unique: [7; 16], cluster };
        let disk = Arc::new(RamDisk::new(blocks, 512));
        let device: Arc<dyn BlockDevice> = disk.clone();
        let mut start = 0;
        let mut journal = None;
        let part = if kind >= 3 {
            let layout = storage::format::disk(&device, &options).unwrap();
            let part = layout.data().unwrap();
            start = part.first * 512;
            journal = layout.journal(&device);
            part.open(&device).unwrap()
        } else {
            storage::format::volume(&*device, 0, &options).unwrap();
            device
        };
        let volume = mount(part, journal, false).unwrap();
        fill(&volume);
        if kind == 4 {
            // All is safe in the journal; no unmount empties it.
            let node = volume.open(&units("SHORT.TXT")).unwrap();
            volume.flush(node).unwrap();
            let mut group = [0; 8];
            disk.peek(LOG, &mut group);
            assert_eq!(group, *b"NASGROUP", "there is something to replay");
            return (disk.duplicate(), start);
        }
        volume.unmount().unwrap();
        drop(volume);
        (disk.duplicate(), start)
    })
}

/// Some folders, long and short names, a file in pieces, an empty file.
fn fill(volume: &Mounted) {
    let file = |path: &str, data: &[u8]| {
        let node = volume.create(&units(path), NodeKind::File, FileAttributes(0x20)).unwrap();
        volume.write(node, 0, data).unwrap();
        node
    };
    for folder in ["folder", "folder\\deeper", "A long folder name, longer than one record"] {
        let node = volume.create(&units(folder), NodeKind::Directory, FileAttributes(0)).unwrap();
        volume.close(node).unwrap();
    }
    let pieces = [file("folder\\one", &[1; 5000]), file("folder\\two", &[2; 5000])];
    for round in 1..4 {
        for node in pieces {
            volume.write(node, round * 5000, &[3; 5000]).unwrap();
        }
    }
    for node in pieces {
        volume.close(node).unwrap();
    }
    for (path, data) in
        [("empty", &[][..]), ("SHORT.TXT", b"text"), ("folder\\deeper\\ünïcode näme.dat", &[9; 100])]
    {
        volume.close(file(path, data)).unwrap();
    }
}

/// Where a volume's structures lie, in bytes from its start.
struct Places {
    fat: u64,
    heap: u64,
    root: u64,
    cluster: u64,
    exfat: bool,
}

fn places(disk: &RamDisk, start: u64) -> Places {
    let mut boot = [0; 512];
    disk.peek(start, &mut boot);
    let short = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let long = |at: usize| u64::from(u32::from_le_bytes(boot[at..at + 4].try_into().unwrap()));
    if boot[3..11] == *b"EXFAT   " {
        let cluster = 512 << boot[109];
        let heap = long(88) * 512;
        return Places {
            fat: long(80) * 512,
            heap,
            root: heap + (long(96) - 2) * cluster,
            cluster,
            exfat: true,
        };
    }
    let cluster = u64::from(boot[13]) * 512;
    let fat = short(14) * 512;
    let fat_size = if short(22) != 0 { short(22) } else { long(36) } * 512;
    let root = fat + u64::from(boot[16]) * fat_size;
    Places { fat, heap: root + short(17) * 32, root, cluster, exfat: false }
}

/// Makes exFAT's checksum over its boot sectors right.
fn repair_boot(disk: &RamDisk, start: u64) {
    for region in [0, 12 * 512] {
        let mut sectors = [0; 11 * 512];
        disk.peek(start + region, &mut sectors);
        let sum = sectors.iter().enumerate().fold(0u32, |sum, (at, byte)| match at {
            106 | 107 | 112 => sum,
            _ => sum.rotate_right(1).wrapping_add(u32::from(*byte)),
        });
        disk.poke(start + region + 11 * 512, &sum.to_le_bytes().repeat(128));
    }
}

/// Makes the checksums of all record sets of exFAT right that lie in `length` bytes at `at`.
fn repair_sets(disk: &RamDisk, at: u64, length: u64) {
    let mut records = vec![0; length as usize];
    disk.peek(at, &mut records);
    let mut number = 0;
    while number + 32 <= records.len() {
        if records[number] == 0x85 {
            let end = number + 32 * (usize::from(records[number + 1]) + 1);
            if let Some(set) = records.get_mut(number..end) {
                let sum = set.iter().enumerate().fold(0u16, |sum, (at, byte)| match at {
                    2 | 3 => sum,
                    _ => sum.rotate_right(1).wrapping_add(u16::from(*byte)),
                });
                set[2..4].copy_from_slice(&sum.to_le_bytes());
            }
        }
        number += 32;
    }
    disk.poke(at, &records);
}

/// Makes the sums of the journal's headers and of its groups right, up to the first place that is no group
/// (docs/journal-format.md).
fn repair_journal(disk: &RamDisk) {
    for at in [JOURNAL, JOURNAL + 4096] {
        let mut header = [0; 36];
        disk.peek(at, &mut header);
        disk.poke(at + 36, &crc32fast::hash(&header).to_le_bytes());
    }
    let mut at = LOG;
    for _ in 0..64 {
        let mut head = vec![0; 512];
        disk.peek(at, &mut head);
        let count = u32::from_le_bytes(head[20..24].try_into().unwrap());
        if head[..8] != *b"NASGROUP" || count > 4096 {
            break;
        }
        head.resize((32 + 16 * count as usize).next_multiple_of(512), 0);
        disk.peek(at, &mut head);
        let images = at + head.len() as u64;
        for number in 0..count as usize {
            let mut image = [0; 512];
            disk.peek(images + 512 * number as u64, &mut image);
            head[32 + 16 * number + 12..][..4].copy_from_slice(&crc32fast::hash(&image).to_le_bytes());
        }
        head[24..28].fill(0);
        let sum = crc32fast::hash(&head);
        head[24..28].copy_from_slice(&sum.to_le_bytes());
        disk.poke(at, &head);
        at = images + 512 * u64::from(count);
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte() % KINDS;
    let options = input.byte();
    let (original, start) = original(kind);
    let disk = original.duplicate();
    let places = places(&disk, *start);
    let mut directories = Vec::new();
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let region = input.byte();
        let offset = u64::from(input.short());
        let (at, directory) = match region {
            0 => (start + offset % 512, false),
            1 => (start + offset, false),
            2 => (start + places.fat + offset, false),
            3 => (start + places.root + offset % places.cluster.max(4096), true),
            // The partition table and its copy at the end.
            4 => (offset, false),
            5 => (disk.bytes() - 1 - offset, false),
            number => {
                (start + places.heap + u64::from(number - 6) * places.cluster + offset % places.cluster, true)
            }
        };
        let piece = input.piece();
        let piece = &piece[..piece.len().min(512)];
        if at + piece.len() as u64 > disk.bytes() {
            continue;
        }
        disk.poke(at, piece);
        if directory {
            directories.push(at / places.cluster * places.cluster);
        }
    }
    if places.exfat && options & option::NO_REPAIR == 0 {
        repair_boot(&disk, *start);
        for at in directories {
            // Up-case table and bitmap have no record sets: nothing is found there, or hardly ever.
            repair_sets(&disk, at, places.cluster);
        }
    }
    if kind >= 3 && options & option::NO_REPAIR == 0 {
        repair_journal(&disk);
    }
    let device: Arc<dyn BlockDevice> = Arc::new(disk);
    let Ok(layout) = Layout::read(&*device) else { return };
    for part in &layout.partitions {
        let journal = layout.journal(&device).filter(|_| layout.data() == Some(*part));
        if let Some(part) = part.open(&device)
            && let Ok(volume) = mount(part, journal, options & option::READ_ONLY != 0)
        {
            use_volume(&volume);
        }
        check(part, &device);
    }
}

/// The check says what is wrong, the repair puts it right, and a second check finds nothing.
fn check(part: &Partition, device: &Arc<dyn BlockDevice>) {
    let Some(part) = part.open(device) else { return };
    let cache = Arc::new(Cache::<parking_lot::RawMutex>::new(2 << 20));
    let check = |repair| storage::check::check(&cache, part.clone(), repair, &mut |_| ());
    let looked = check(false);
    let repaired = check(true);
    assert_eq!(looked.is_ok(), repaired.is_ok());
    if repaired.is_ok() {
        assert!(check(false).is_ok_and(|report| report.is_clean()));
    }
}

/// All that a server does, on whatever is there. Errors are fine.
fn use_volume(volume: &Mounted) {
    let mut budget = 200;
    walk(volume, &[], 0, &mut budget);
    for path in ["folder", "folder\\deeper", "empty", "folder\\one", "no such"] {
        let _ = volume.open(&units(path)).map(|node| volume.close(node));
    }
    let new = |path: &str, kind| volume.create(&units(path), kind, FileAttributes(0x20));
    if let Ok(node) = new("folder\\new file with a long name.txt", NodeKind::File) {
        let _ = volume.write(node, 100, &[5; 9000]);
        let _ = volume.set_size(node, 70_000);
        let _ = volume.rename(node, &units("moved"), true);
        let _ = volume.flush(node);
        let _ = volume.close(node);
    }
    if let Ok(node) = new("new folder", NodeKind::Directory) {
        let _ = volume.close(node);
    }
    for path in ["folder\\one", "folder\\two", "empty", "new folder", "folder"] {
        if let Ok(node) = volume.open(&units(path)) {
            let _ = volume.write(node, 3, b"bytes");
            let _ = volume.set_size(node, 10);
            let _ = volume.remove(node);
            let _ = volume.close(node);
        }
    }
    let _ = volume.space();
    let _ = volume.information();
    let _ = volume.sync();
    let _ = volume.unmount();
}

fn walk(volume: &Mounted, path: &[u16], depth: u32, budget: &mut u32) {
    let Ok(directory) = volume.open(path) else { return };
    let mut names = Vec::new();
    // A damaged directory may be long: a server stops at its client's buffer.
    let _ = volume.list(directory, 0, &mut |entry| {
        assert!(!entry.name.is_empty() && entry.name.len() <= 255);
        names.push(entry.name.to_vec());
        names.len() < 64
    });
    let _ = volume.close(directory);
    for name in names {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let mut path = path.to_vec();
        if !path.is_empty() {
            path.push(u16::from(b'\\'));
        }
        path.extend(name);
        let Ok(node) = volume.open(&path) else { continue };
        let size = volume.metadata(node).map_or(0, |metadata| metadata.size);
        for offset in [0, size / 2, size.saturating_sub(10), size, u64::MAX - 5] {
            if let Ok(payload) = volume.read(node, offset, 6000) {
                assert!(payload.len() <= 6000 && (payload.is_empty() || offset < size));
            }
        }
        let _ = volume.change_metadata(node, &MetadataChange::default());
        let mut again = Vec::new();
        let _ = volume.path(node, &mut again);
        let _ = volume.close(node);
        if depth < 5 {
            walk(volume, &path, depth + 1, budget);
        }
    }
}
