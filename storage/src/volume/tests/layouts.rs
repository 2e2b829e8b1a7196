//! Volumes and disks as others lay them out: Windows, macOS, Linux, cameras, other engines. Each is mounted, worked on, and
//! sound afterwards, and what was on it is still there. What the formatters here cannot make is patched in.

use std::collections::BTreeMap;
use std::string::ToString;
use std::vec;

use super::model::{ModelNode, Run};
use super::*;
use crate::partition::{Layout, Scheme};
use crate::upcase::{UpcaseTable, table_checksum};
use crate::volume::bytes::{get8, get16, get32, get64};

const BITMAP: u8 = 0x81;
const UPCASE: u8 = 0x82;
const FILE: u8 = 0x85;
const VOLUME_GUID: u8 = 0xA0;
const RECORD: usize = 32;

/// Mounts what is on `device` with `there` (paths and contents; `None`: a directory), works on it, and looks whether all is
/// as it should be.
fn work(
    name: &str,
    device: Arc<dyn BlockDevice>,
    steps: u32,
    there: &[(&str, Option<&[u8]>)],
) -> Volume<Lock> {
    let mut run = Run::new(device, 9, 2 << 20, 100_000);
    assert!(!run.volume.status().read_only, "{name}");
    for &(path, content) in there {
        let (parent, last) = path.rsplit_once('\\').unwrap_or(("", path));
        let parent = (0..run.model.nodes.len()).find(|&node| run.model.path(node) == parent).unwrap();
        let node = run.volume.open(&units(path)).unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
        let attributes = run.volume.metadata(node).unwrap().attributes.0;
        run.volume.close(node).unwrap();
        run.model.nodes.push(ModelNode {
            parent,
            name: last.to_string(),
            data: content.unwrap_or_default().to_vec(),
            children: content.is_none().then(BTreeMap::new),
            attributes,
            alive: true,
        });
        run.model.link(run.model.nodes.len() - 1, parent, last);
    }
    run.check_all();
    for _ in 0..steps {
        run.step();
    }
    run.close_all();
    run.volume.unmount().unwrap();
    run.volume = mount_with(run.disk.clone(), 2 << 20).unwrap();
    run.check_all();
    run.volume
}

fn work_and_judge(name: &str, disk: &Arc<RamDisk>, kind: Kind, there: &[(&str, Option<&[u8]>)]) {
    let volume = work(name, disk.clone(), 250, there);
    assert!(!volume.status().found_dirty, "{name}");
    volume.unmount().unwrap();
    if let Err(text) = judge::fsck(disk, kind) {
        panic!("{name}: {text}");
    }
}

/// An image on a disk with blocks of another size.
fn with_blocks(disk: &RamDisk, block_size: u32) -> Arc<RamDisk> {
    let other = RamDisk::new(disk.bytes() / u64::from(block_size), block_size);
    disk.for_each_chunk(|offset, bytes| other.poke(offset, bytes));
    Arc::new(other)
}

fn peek<const LENGTH: usize>(disk: &RamDisk, offset: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    disk.peek(offset, &mut bytes);
    bytes
}

#[test]
fn fat_volumes_of_many_shapes() {
    let cases: &[(&str, u64, Kind, &[&str])] = &[
        ("floppy", 1, Kind::Fat16, &["-F", "12", "-M", "0xF0", "-r", "224", "-f", "2"]),
        ("FAT12, clusters of 8 KiB", 30, Kind::Fat16, &["-F", "12", "-s", "16"]),
        ("FAT16, 512 root entries", 40, Kind::Fat16, &["-F", "16", "-r", "512", "-s", "2"]),
        ("FAT16, one FAT, 112 root entries", 20, Kind::Fat16, &["-F", "16", "-r", "112", "-f", "1"]),
        ("FAT16, clusters of 64 KiB", 600, Kind::Fat16, &["-F", "16", "-s", "128"]),
        ("FAT16, sectors of 2048", 64, Kind::Fat16, &["-F", "16", "-S", "2048"]),
        ("FAT32, clusters of 512", 40, Kind::Fat32, &["-F", "32", "-s", "1", "-a"]),
        ("FAT32, clusters of 4 KiB", 280, Kind::Fat32, &["-F", "32", "-s", "8"]),
        ("FAT32, sectors of 4096", 300, Kind::Fat32, &["-F", "32", "-S", "4096", "-s", "1"]),
        ("FAT32, one FAT", 64, Kind::Fat32, &["-F", "32", "-s", "1", "-f", "1"]),
        // As SD cards come: the partition's place in the boot sector, the heap on a boundary of 4 MiB.
        ("card", 64, Kind::Fat32, &["-F", "32", "-s", "1", "-h", "8192", "-R", "7174", "-n", "CARD"]),
        ("backup elsewhere", 64, Kind::Fat32, &["-F", "32", "-s", "1", "-b", "12", "-R", "64"]),
        ("a table in its boot sector", 64, Kind::Fat32, &["-F", "32", "-s", "1", "--mbr=y"]),
    ];
    for &(name, mebibytes, kind, arguments) in cases {
        let Some(disk) = foreign(mebibytes, "mkfs.fat", arguments) else { return };
        let layout = Layout::read(&*disk).unwrap();
        assert_eq!(layout.scheme, Scheme::Whole, "{name}");
        work_and_judge(name, &disk, kind, &[]);
        if arguments.contains(&"4096") {
            let disk = foreign(mebibytes, "mkfs.fat", arguments).unwrap();
            let large = with_blocks(&disk, 4096);
            work(name, large.clone(), 250, &[]).unmount().unwrap();
            assert_sound(&large, kind);
        } else if kind == Kind::Fat32 {
            // Clusters of several files in a block: nobody reads such a disk.
            let large = with_blocks(&disk, 4096);
            assert_eq!(mount_with(large, 1 << 20).err(), Some(VolumeError::Corrupt), "{name}");
        }
    }
}

/// fsck.fat wants a backup of the boot sector; the volume does not.
#[test]
fn fat32_without_a_backup_boot_sector() {
    let Some(disk) = foreign(64, "mkfs.fat", &["-F", "32", "-s", "1", "-b", "0"]) else { return };
    work("no backup", disk.clone(), 250, &[]).unmount().unwrap();
    assert_eq!(peek(&disk, 50), [0, 0]);
}

/// No tool here makes exFAT with sectors of 4096 in a file, so this is our own.
#[test]
fn disks_with_blocks_of_4096() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = Arc::new(RamDisk::new((400 << 20) / 4096, 4096));
        crate::format::volume(&*disk, 0, &options(kind, Some(4096))).unwrap();
        work("blocks of 4096", disk.clone(), 400, &[]).unmount().unwrap();
        if kind == Kind::Exfat {
            assert_hadris_finds_nothing(&disk, 4096);
        } else {
            assert_sound(&disk, kind);
        }
        // Its image on a disk with small blocks.
        let small = with_blocks(&disk, 512);
        mount_with(small, 1 << 20).unwrap().unmount().unwrap();
    }
    let Some(disk) = foreign(64, "mkfs.exfat", &["-c", "4K"]) else { return };
    assert_eq!(mount_with(with_blocks(&disk, 4096), 1 << 20).err(), Some(VolumeError::Corrupt));
}

#[test]
fn exfat_volumes_of_many_shapes() {
    let cases: &[(&str, u64, &[&str])] = &[
        ("clusters of 512", 6, &["-c", "512"]),
        ("clusters of 2 KiB, heap on 64 KiB", 20, &["-c", "2K", "-b", "64K"]),
        ("heap on 4 MiB, as on a card", 64, &["-c", "32K", "-b", "4M", "-L", "CARD"]),
        ("heap on 16 MiB", 100, &["-c", "128K", "-b", "16M"]),
        ("the bitmap near the FAT", 64, &["-c", "4K", "--pack-bitmap"]),
        ("clusters of 1 MiB", 200, &["-c", "1M"]),
        ("clusters of 32 MiB", 500, &["-c", "32M"]),
        ("a label of eleven", 16, &["-L", "Größe 日本 🦀"]),
    ];
    for &(name, mebibytes, arguments) in cases {
        let Some(disk) = foreign(mebibytes, "mkfs.exfat", arguments) else { return };
        let few = mebibytes > 150;
        let volume = work(name, disk.clone(), if few { 60 } else { 250 }, &[]);
        volume.unmount().unwrap();
        if let Err(text) = judge::fsck(&disk, Kind::Exfat) {
            panic!("{name}: {text}");
        }
    }
}

/// A FAT32 volume's FSInfo may know nothing, or the wrong: neither is believed, and both are put right.
#[test]
fn free_counts_are_not_believed() {
    for count in [0xFFFF_FFFFu32, 0, 5, 0x0FFF_FFF0] {
        let Some(disk) = foreign(64, "mkfs.fat", &["-F", "32", "-s", "1"]) else { return };
        let volume = mount_with(Arc::new(disk.duplicate()), 1 << 20).unwrap();
        let free = volume.space().unwrap().free;
        disk.poke(512 + 488, &count.to_le_bytes());
        disk.poke(512 + 492, &count.to_le_bytes());
        let volume = mount_with(Arc::new(disk.duplicate()), 1 << 20).unwrap();
        assert_eq!(volume.space().unwrap().free, free);
        work_and_judge("free count", &disk, Kind::Fat32, &[]);
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        let stored = u64::from(u32::from_le_bytes(peek(&disk, 512 + 488)));
        assert_eq!(stored * 512, volume.space().unwrap().free);
    }
    // A sector that is none at all is left alone.
    let Some(disk) = foreign(64, "mkfs.fat", &["-F", "32", "-s", "1"]) else { return };
    disk.poke(512, &[0xA5; 512]);
    work("no FSInfo", disk.clone(), 250, &[]).unmount().unwrap();
    assert_eq!(peek::<512>(&disk, 512), [0xA5; 512]);
}

/// A volume that was not left cleanly says so until it was checked, however well it goes.
#[test]
fn the_dirty_mark_of_others_stays() {
    for (kind, program, arguments, place, bit) in [
        (Kind::Exfat, "mkfs.exfat", &["-c", "4K"][..], 106, 2u8),
        (Kind::Fat32, "mkfs.fat", &["-F", "32", "-s", "1"], 65, 1),
        (Kind::Fat16, "mkfs.fat", &["-F", "16"], 37, 1),
    ] {
        let Some(disk) = foreign(64, program, arguments) else { continue };
        let [state] = peek(&disk, place);
        disk.poke(place, &[state | bit]);
        let mut run = Run::new(disk.clone(), 3, 1 << 20, 100_000);
        assert!(run.volume.status().found_dirty && !run.volume.status().read_only);
        for _ in 0..100 {
            run.create();
            run.write();
        }
        run.close_all();
        run.volume.sync().unwrap();
        run.volume.sync().unwrap();
        run.volume.unmount().unwrap();
        let [state] = peek(&disk, place);
        assert_eq!(state & bit, bit, "{kind:?}");
        // Apart from the mark it is sound.
        disk.poke(place, &[state & !bit]);
        assert_sound(&disk, kind);
    }
}

// ---- exFAT volumes patched by hand ----

struct Exfat {
    disk: Arc<RamDisk>,
    heap: u64,
    cluster: u64,
    root: u32,
}

impl Exfat {
    fn made(mebibytes: u64, arguments: &[&str]) -> Option<Self> {
        let disk = foreign(mebibytes, "mkfs.exfat", arguments)?;
        let boot: [u8; 512] = peek(&disk, 0);
        let cluster = 512u64 << get8(&boot, 109);
        Some(Self { heap: u64::from(get32(&boot, 88)) * 512, cluster, root: get32(&boot, 96), disk })
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.heap + u64::from(cluster - 2) * self.cluster
    }

    /// The records of the root's first cluster in use.
    fn root_records(&self) -> Vec<[u8; RECORD]> {
        let places = (0..self.cluster).step_by(RECORD).map(|at| self.offset(self.root) + at);
        places
            .map(|place| peek(&self.disk, place))
            .take_while(|record: &[u8; RECORD]| record[0] != 0)
            .collect()
    }

    fn set_root(&self, records: &[[u8; RECORD]]) {
        self.disk.poke(self.offset(self.root), &records.concat());
    }

    fn record(&self, kind: u8) -> [u8; RECORD] {
        self.root_records().into_iter().find(|record| record[0] == kind).unwrap()
    }

    /// Takes clusters at the volume's end: the first of them.
    fn take(&self, count: u32) -> u32 {
        let boot: [u8; 512] = peek(&self.disk, 0);
        let first = get32(&boot, 92) + 2 - count;
        let bitmap = self.offset(get32(&self.record(BITMAP), 20));
        for index in first - 2..first - 2 + count {
            let place = bitmap + u64::from(index / 8);
            let [byte] = peek(&self.disk, place);
            assert_eq!(byte & 1 << (index % 8), 0, "in use");
            self.disk.poke(place, &[byte | 1 << (index % 8)]);
        }
        // A chain too, as the root's records have no way to say that there is none.
        for cluster in first..first + count {
            let next = if cluster + 1 < first + count { cluster + 1 } else { u32::MAX };
            let fat = u64::from(get32(&boot, 80)) * 512;
            self.disk.poke(fat + u64::from(cluster) * 4, &next.to_le_bytes());
        }
        first
    }

    /// The boot region's sum made right again, in both copies.
    fn seal(&self) {
        for start in [0, 12 * 512] {
            let mut sectors = vec![0; 11 * 512];
            self.disk.peek(start, &mut sectors);
            let sum = crate::volume::geometry::boot_checksum(&sectors).to_le_bytes();
            for word in 0..128 {
                self.disk.poke(start + 11 * 512 + word * 4, &sum);
            }
        }
    }

    fn poke_boot(&self, offset: u64, bytes: &[u8]) {
        self.disk.poke(offset, bytes);
        self.disk.poke(12 * 512 + offset, bytes);
        self.seal();
    }
}

fn set_sum(set: &mut [u8]) {
    let sum = set.iter().enumerate().filter(|(at, _)| !matches!(at, 2 | 3));
    let sum = sum.fold(0u16, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(u16::from(byte)));
    set[2..4].copy_from_slice(&sum.to_le_bytes());
}

/// Windows' table is compressed; the specification's also comes whole, and a short one maps what it has to, ASCII.
#[test]
fn up_case_tables_of_all_lengths() {
    let generated = UpcaseTable::generate();
    let all = |range: core::ops::RangeInclusive<u16>| {
        range.flat_map(|unit| generated.upper(unit).to_le_bytes()).collect::<Vec<u8>>()
    };
    let mut filled = all(0..=127);
    // ASCII, and then one run to the end.
    filled.extend_from_slice(&[0xFF, 0xFF]);
    filled.extend_from_slice(&(0xFFFF_u16 - 127).to_le_bytes());
    for (name, table, folds) in [
        ("whole", all(0..=u16::MAX), true),
        ("compressed", generated.store(), true),
        ("ASCII only", all(0..=127), false),
        ("ASCII and a run", filled, false),
    ] {
        let Some(volume) = Exfat::made(64, &["-c", "4K"]) else { return };
        let clusters = (table.len() as u64).div_ceil(volume.cluster) as u32;
        let first = volume.take(clusters);
        volume.disk.poke(volume.offset(first), &table);
        let mut records = volume.root_records();
        for record in &mut records {
            if record[0] == UPCASE {
                // The old table's clusters stay taken: what a check would call lost.
                let old = (u64::from(get32(record, 20)), get64(record, 24).div_ceil(volume.cluster));
                let bitmap = volume.offset(get32(&volume.record(BITMAP), 20));
                for index in old.0 - 2..old.0 - 2 + old.1 {
                    let [byte] = peek(&volume.disk, bitmap + index / 8);
                    volume.disk.poke(bitmap + index / 8, &[byte & !(1 << (index % 8))]);
                }
                record[4..8].copy_from_slice(&table_checksum(&table).to_le_bytes());
                record[20..24].copy_from_slice(&first.to_le_bytes());
                record[24..32].copy_from_slice(&(table.len() as u64).to_le_bytes());
            }
        }
        volume.set_root(&records);
        let mounted = mount_with(volume.disk.clone(), 1 << 20).unwrap();
        assert!(!mounted.status().read_only, "{name}");
        for (path, same) in [("straße ü", true), ("STRAßE ü", true), ("straße Ü", folds)] {
            let made = mounted.create(&units(path), NodeKind::File, FileAttributes(0));
            match made {
                Ok(node) => {
                    mounted.write(node, 0, path.as_bytes()).unwrap();
                    mounted.close(node).unwrap();
                    assert!(!same || path == "straße ü", "{name}: {path}");
                }
                Err(error) => assert!(error == VolumeError::Exists && same, "{name}: {path}"),
            }
        }
        mounted.unmount().unwrap();
        assert_hadris_finds_nothing(&volume.disk, 512);
        if name != "whole" {
            // (fsck.exfat 1.2 sums it up with a length of 16 bits, which is 0 here.)
            assert_sound(&volume.disk, Kind::Exfat);
        }
    }
}

/// Windows and macOS put a volume GUID into the root, Windows a directory for itself.
#[test]
fn records_of_others_in_the_root_stay() {
    let Some(volume) = Exfat::made(64, &["-c", "4K", "-L", "WINDOWS"]) else { return };
    let mounted = mount_with(volume.disk.clone(), 1 << 20).unwrap();
    for (path, kind) in [
        ("System Volume Information", NodeKind::Directory),
        ("System Volume Information\\IndexerVolumeGuid", NodeKind::File),
        ("System Volume Information\\WPSettings.dat", NodeKind::File),
        (".Spotlight-V100", NodeKind::Directory),
        ("._photo.jpg", NodeKind::File),
    ] {
        let node = mounted.create(&units(path), kind, FileAttributes(0x06)).unwrap();
        if kind == NodeKind::File {
            mounted.write(node, 0, &[0x42; 76]).unwrap();
        }
        mounted.close(node).unwrap();
    }
    mounted.unmount().unwrap();
    // In front of all sets, as both do; and a place that was deleted between.
    let mut guid = [0; RECORD];
    guid[0] = VOLUME_GUID;
    guid[6..22].copy_from_slice(&[0x5A; 16]);
    set_sum(&mut guid);
    let mut deleted = guid;
    deleted[0] = 0x05;
    let mut records = volume.root_records();
    let first = records.iter().position(|record| record[0] == FILE).unwrap();
    records.insert(first, guid);
    records.insert(first, deleted);
    volume.set_root(&records);
    work_and_judge(
        "GUID",
        &volume.disk,
        Kind::Exfat,
        &[
            ("System Volume Information", None),
            ("System Volume Information\\IndexerVolumeGuid", Some(&[0x42; 76])),
            ("System Volume Information\\WPSettings.dat", Some(&[0x42; 76])),
            (".Spotlight-V100", None),
            ("._photo.jpg", Some(&[0x42; 76])),
        ],
    );
    assert_eq!(volume.record(VOLUME_GUID), guid);
}

#[cfg(target_has_atomic = "64")]
fn assert_hadris_finds_nothing(disk: &RamDisk, block_size: u32) {
    let mut device =
        hadris_storage::MemDevice::new(disk.image(), hadris_storage::BlockSize::new(block_size).unwrap());
    let report = hadris_fat::exfat::sync::check(&mut device, &mut [0u8; 65536], |finding| {
        std::eprintln!("hadris: {finding:?}");
    });
    assert!(report.unwrap().is_clean());
}

#[cfg(not(target_has_atomic = "64"))]
fn assert_hadris_finds_nothing(_: &RamDisk, _: u32) {}

/// Vendors' records at the end of a file's set (7.8, 7.9): nothing to us, but the file's own. They move with it, and their
/// clusters are free when it is removed.
#[test]
fn vendors_records_stay_with_their_file() {
    let Some(volume) = Exfat::made(64, &["-c", "4K"]) else { return };
    let mounted = mount_with(volume.disk.clone(), 1 << 20).unwrap();
    let node = mounted.create(&units("file"), NodeKind::File, FileAttributes(0)).unwrap();
    mounted.write(node, 0, &[7; 10_000]).unwrap();
    mounted.close(node).unwrap();
    let space = mounted.space().unwrap().free;
    mounted.unmount().unwrap();
    let first = volume.take(3);
    volume.disk.poke(volume.offset(first), b"a vendor's own");
    let mut records = volume.root_records();
    let place = records.iter().position(|record| record[0] == FILE).unwrap();
    let mut set = records[place..place + 3].concat();
    let (mut extension, mut allocation) = ([0x5A; RECORD], [0; RECORD]);
    (extension[0], extension[1]) = (0xE0, 0);
    (allocation[0], allocation[1]) = (0xE1, 3);
    allocation[2..18].fill(0x77);
    allocation[20..24].copy_from_slice(&first.to_le_bytes());
    allocation[24..32].copy_from_slice(&9000u64.to_le_bytes());
    set.extend_from_slice(&extension);
    set.extend_from_slice(&allocation);
    set[1] = 4;
    set_sum(&mut set);
    records.truncate(place);
    records.extend(set.chunks_exact(RECORD).map(|record| <[u8; RECORD]>::try_from(record).unwrap()));
    volume.set_root(&records);
    let there = |name: &str| {
        let records = volume.root_records();
        for kind in [0xE0, 0xE1] {
            assert_eq!(records.iter().filter(|record| record[0] == kind).count(), 1, "{name}");
        }
        assert_eq!(volume.record(0xE0), extension, "{name}");
        assert_eq!(volume.record(0xE1), allocation, "{name}");
        assert_eq!(peek(&volume.disk, volume.offset(first)), *b"a vendor's own");
        let place = records.iter().position(|record| record[0] == FILE).unwrap();
        let mut set = records[place..=place + usize::from(records[place][1])].concat();
        let sum = get16(&set, 2);
        set_sum(&mut set);
        assert_eq!(get16(&set, 2), sum, "{name}");
        // (fsck.exfat 1.2 takes them for damage.)
        assert_hadris_finds_nothing(&volume.disk, 512);
        // Our own check finds the clusters taken, and by whom.
        let cache = Arc::new(Cache::<Lock>::new(1 << 20));
        let report = crate::check::check(&cache, volume.disk.clone(), false, &mut |_| ()).unwrap();
        assert!(report.is_clean(), "{name}: {report:?}");
    };
    there("as made");
    let mounted = mount_with(volume.disk.clone(), 1 << 20).unwrap();
    assert_eq!(mounted.space().unwrap().free, space - 3 * 4096);
    let node = mounted.open(&units("FILE")).unwrap();
    assert_eq!(mounted.read(node, 0, 20_000).unwrap().to_vec(), [7; 10_000]);
    mounted.write(node, 8000, &[8; 8000]).unwrap();
    mounted.sync().unwrap();
    mounted.sync().unwrap();
    there("written");
    mounted.rename(node, &units("a name that takes some records more than it did before"), false).unwrap();
    mounted.close(node).unwrap();
    mounted.unmount().unwrap();
    there("renamed");
    for replace in [false, true] {
        let disk = Arc::new(volume.disk.duplicate());
        let mounted = mount_with(disk.clone(), 1 << 20).unwrap();
        let path = units("a name that takes some records more than it did before");
        if replace {
            let other = mounted.create(&units("other"), NodeKind::File, FileAttributes(0)).unwrap();
            mounted.rename(other, &path, true).unwrap();
            mounted.close(other).unwrap();
        } else {
            let node = mounted.open(&path).unwrap();
            mounted.remove(node).unwrap();
            mounted.close(node).unwrap();
        }
        assert_eq!(mounted.space().unwrap().free, space + 3 * 4096);
        mounted.unmount().unwrap();
        assert_sound(&disk, Kind::Exfat);
    }
}

#[test]
fn fields_of_the_boot_sector_that_say_nothing_to_us() {
    let Some(volume) = Exfat::made(64, &["-c", "4K"]) else { return };
    // PartitionOffset as Windows sets it, DriveSelect, PercentInUse unknown, BootCode.
    volume.poke_boot(64, &2048u64.to_le_bytes());
    volume.poke_boot(111, &[0x81, 0xFF]);
    volume.poke_boot(120, &[0xEB, 0xFE, 0x90, 0x42]);
    work_and_judge("boot sector", &volume.disk, Kind::Exfat, &[]);
    // The partition is larger than the volume.
    let larger = Arc::new(RamDisk::new(80 << 11, 512));
    volume.disk.for_each_chunk(|offset, bytes| larger.poke(offset, bytes));
    assert!(!mount_with(larger, 1 << 20).unwrap().status().read_only);
    // TexFAT's two FATs, and a revision to come, are not ours to change.
    for (place, bytes) in [(110, &[2][..]), (104, &[0, 2])] {
        let Some(volume) = Exfat::made(64, &["-c", "4K"]) else { return };
        volume.poke_boot(place, bytes);
        assert_eq!(mount_with(volume.disk.clone(), 1 << 20).err(), Some(VolumeError::Corrupt));
    }
}

// ---- other engines ----

#[test]
fn volumes_made_and_filled_by_fatfs() {
    for (mebibytes, kind, fat) in [
        (4, Kind::Fat16, fatfs::FatType::Fat12),
        (32, Kind::Fat16, fatfs::FatType::Fat16),
        (64, Kind::Fat32, fatfs::FatType::Fat32),
    ] {
        for with_directory in [false, true] {
            let mut image = std::io::Cursor::new(vec![0; mebibytes << 20]);
            let options = fatfs::FormatVolumeOptions::new().fat_type(fat).volume_label(*b"FATFS      ");
            fatfs::format_volume(&mut image, options).unwrap();
            {
                let fs = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new()).unwrap();
                let put = |directory: fatfs::Dir<'_, _>| {
                    let mut file = directory.create_file("a picture with a long name.jpeg").unwrap();
                    std::io::Write::write_all(&mut file, &[0x21; 50_000]).unwrap();
                };
                if with_directory {
                    put(fs.root_dir().create_dir("DCIM").unwrap());
                } else {
                    put(fs.root_dir());
                }
                let mut file = fs.root_dir().create_file("SHORT.TXT").unwrap();
                std::io::Write::write_all(&mut file, b"short").unwrap();
            }
            let disk = Arc::new(RamDisk::from_image(image.get_ref()));
            let picture: Option<&[u8]> = Some(&[0x21; 50_000]);
            let short: (&str, Option<&[u8]>) = ("SHORT.TXT", Some(b"short"));
            if with_directory {
                // Its directories have long names for `.` and `..`, which fsck.fat takes for damage.
                let there = [("DCIM", None), ("DCIM\\a picture with a long name.jpeg", picture), short];
                work("fatfs", disk.clone(), 250, &there).unmount().unwrap();
            } else {
                work_and_judge("fatfs", &disk, kind, &[("a picture with a long name.jpeg", picture), short]);
            }
        }
    }
}

#[cfg(target_has_atomic = "64")]
#[test]
fn volumes_made_and_filled_by_hadris() {
    use hadris_fat::exfat::ExFatOptions;
    use hadris_fat::{FatKind, FatOptions};
    use hadris_fs::sync::Volume as Hadris;
    use hadris_fs::{MountOptions, OpenOptions};
    use hadris_storage::{BlockSize, MemDevice};
    macro_rules! filled {
        ($fs:expr) => {{
            let volume = Hadris::new($fs);
            volume.create_dir_all("/Photos/Été").unwrap();
            let mut file = volume.open("/Photos/Été/one.jpg", OpenOptions::new().write().create()).unwrap();
            file.write(&[0x33; 4000]).unwrap();
            file.close().unwrap();
            volume.into_inner().ok().unwrap().unmount().ok().unwrap().into_inner()
        }};
    }
    let there: [(&str, Option<&[u8]>); 3] =
        [("Photos", None), ("Photos\\Été", None), ("Photos\\Été\\one.jpg", Some(&[0x33; 4000]))];
    for (kind, mebibytes, fat) in [
        (Kind::Fat16, 4, FatKind::Fat12),
        (Kind::Fat16, 32, FatKind::Fat16),
        (Kind::Fat32, 64, FatKind::Fat32),
    ] {
        let mut device = MemDevice::new(vec![0u8; mebibytes << 20], BlockSize::new(512).unwrap());
        hadris_fat::sync::format(&mut device, &FatOptions::new().with_kind(fat)).unwrap();
        let image = filled!(hadris_fat::sync::FatFs::mount(device, MountOptions::new()).unwrap());
        work_and_judge("hadris", &Arc::new(RamDisk::from_image(&image)), kind, &there);
    }
    for cluster in [512, 4096, 262_144] {
        let mut device = MemDevice::new(vec![0u8; 64 << 20], BlockSize::new(512).unwrap());
        let guid = hadris_fat::exfat::Guid::from_bytes([9; 16]);
        let options = ExFatOptions::new().with_cluster_size(cluster).with_volume_guid(Some(guid));
        hadris_fat::exfat::sync::format(&mut device, &options).unwrap();
        let image = filled!(hadris_fat::exfat::sync::ExFatFs::mount(device, MountOptions::new()).unwrap());
        work_and_judge("hadris", &Arc::new(RamDisk::from_image(&image)), Kind::Exfat, &there);
    }
}

// ---- partitions ----

fn mbr_entry(kind: u8, first: u64, blocks: u64) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&(first as u32).to_le_bytes());
    entry[12..].copy_from_slice(&(blocks as u32).to_le_bytes());
    entry
}

fn poke_table(disk: &RamDisk, block: u64, entries: &[[u8; 16]]) {
    disk.poke(block * 512 + 446, &entries.concat());
    disk.poke(block * 512 + 510, &[0x55, 0xAA]);
}

/// Works on the volume that the table leads to, which has to be the one at `first`.
fn work_on_partition(name: &str, disk: &Arc<RamDisk>, scheme: Scheme, first: u64, kind: Kind) {
    let device: Arc<dyn BlockDevice> = disk.clone();
    let layout = Layout::read(&*device).unwrap();
    assert_eq!(layout.scheme, scheme, "{name}");
    let data = layout.data().unwrap();
    assert_eq!(data.first, first, "{name}");
    let before = peek::<512>(disk, 0);
    work(name, data.open(&device).unwrap(), 150, &[]).unmount().unwrap();
    assert_eq!(peek::<512>(disk, 0), before, "{name}");
    let (from, to) = (first as usize * 512, (first + data.blocks) as usize * 512);
    if let Err(text) = judge::fsck(&RamDisk::from_image(&disk.image()[from..to]), kind) {
        panic!("{name}: {text}");
    }
}

fn put(disk: &RamDisk, first: u64, part: &RamDisk) {
    part.for_each_chunk(|offset, bytes| disk.poke(first * 512 + offset, bytes));
}

#[test]
fn partitions_in_a_master_boot_record() {
    let part = 40u64 << 11;
    // DOS's track of 63 sectors, Windows' 1 MiB, the 4 MiB and 16 MiB of cards, an odd one.
    for (first, kind, program, arguments, mark) in [
        (63, Kind::Fat32, "mkfs.fat", &["-F", "32", "-s", "1", "-h", "63"][..], 0x0B),
        (2048, Kind::Exfat, "mkfs.exfat", &["-c", "4K"], 0x07),
        (8192, Kind::Fat32, "mkfs.fat", &["-F", "32", "-s", "1", "-h", "8192"], 0x0C),
        (32768, Kind::Exfat, "mkfs.exfat", &["-c", "32K", "-b", "4M"], 0x07),
        (249, Kind::Fat16, "mkfs.fat", &["-F", "16", "-h", "249"], 0x06),
    ] {
        let Some(volume) = foreign(40, program, arguments) else { continue };
        let disk = Arc::new(RamDisk::new(first + part + 100, 512));
        poke_table(&disk, 0, &[mbr_entry(mark, first, part)]);
        put(&disk, first, &volume);
        work_on_partition(&format!("at {first}"), &disk, Scheme::Mbr, first, kind);
        // The same as the second entry, behind an EFI system partition, and as a logical drive.
        let disk = Arc::new(RamDisk::new(200_000 + first + part + 100, 512));
        let system = foreign(40, "mkfs.fat", &["-F", "32", "-s", "1"]).unwrap();
        poke_table(&disk, 0, &[mbr_entry(0xEF, 2048, part), mbr_entry(mark, 200_000, part)]);
        put(&disk, 2048, &system);
        put(&disk, 200_000, &volume);
        work_on_partition("behind a system partition", &disk, Scheme::Mbr, 200_000, kind);
        for extended in [0x05, 0x0F, 0x85] {
            let disk = Arc::new(RamDisk::new(20_000 + first + part + 100, 512));
            poke_table(&disk, 0, &[mbr_entry(0x83, 2048, 1000), mbr_entry(extended, 10_000, 180_000)]);
            // A first logical drive that is Linux's, then ours.
            poke_table(&disk, 10_000, &[mbr_entry(0x82, 63, 1000), mbr_entry(0x05, 10_000, 90_000)]);
            poke_table(&disk, 20_000, &[mbr_entry(mark, first, part)]);
            put(&disk, 20_000 + first, &volume);
            work_on_partition("a logical drive", &disk, Scheme::Mbr, 20_000 + first, kind);
        }
    }
}

#[test]
fn partitions_in_a_guid_partition_table() {
    const SYSTEM: [u8; 16] =
        [0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B];
    // E3C9E316-0B5C-4DB8-817D-F92DF00215AE.
    const RESERVED: [u8; 16] =
        [0x16, 0xE3, 0xC9, 0xE3, 0x5C, 0x0B, 0xB8, 0x4D, 0x81, 0x7D, 0xF9, 0x2D, 0xF0, 0x02, 0x15, 0xAE];
    // EBD0A0A2-B9E5-4433-87C0-68B6B72699C7.
    const BASIC: [u8; 16] =
        [0xA2, 0xA0, 0xD0, 0xEB, 0xE5, 0xB9, 0x33, 0x44, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7];
    let part = 40u64 << 11;
    let (Some(volume), Some(system)) =
        (foreign(40, "mkfs.exfat", &["-c", "4K"]), foreign(40, "mkfs.fat", &["-F", "32", "-s", "1"]))
    else {
        return;
    };
    /// Type, first block, blocks.
    type Part = ([u8; 16], u64, u64);
    let cases: [(&str, &[Part], u64, u32); 4] = [
        // macOS: an EFI system partition at 40, the data behind it, entries of 128 bytes.
        ("macOS", &[(SYSTEM, 40, 81_920), (BASIC, 90_000, part)], 90_000, 128),
        // Windows: a reserved partition without a file system first.
        ("Windows", &[(RESERVED, 34, 32_734), (BASIC, 32_768, part)], 32_768, 128),
        ("one, at 1 MiB", &[(BASIC, 2048, part)], 2048, 128),
        ("entries of 256 bytes", &[(BASIC, 4096, part)], 4096, 256),
    ];
    for (name, parts, first, size) in cases {
        let blocks = first + part + 100;
        let disk = Arc::new(RamDisk::new(blocks, 512));
        let mut array = vec![0; 128 * size as usize];
        for (entry, (kind, start, count)) in array.chunks_exact_mut(size as usize).zip(parts) {
            entry[..16].copy_from_slice(kind);
            entry[16..32].fill(*start as u8);
            entry[32..40].copy_from_slice(&start.to_le_bytes());
            entry[40..48].copy_from_slice(&(start + count - 1).to_le_bytes());
        }
        let array_blocks = array.len() as u64 / 512;
        for (own, other, entries) in [(1, blocks - 1, 2), (blocks - 1, 1, blocks - 1 - array_blocks)] {
            let mut header = vec![0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
            for (place, value) in [(24, own), (32, other), (40, 34), (48, blocks - 34), (72, entries)] {
                header[place..place + 8].copy_from_slice(&value.to_le_bytes());
            }
            for (place, value) in [(80, 128), (84, size), (88, crc32fast::hash(&array))] {
                header[place..place + 4].copy_from_slice(&value.to_le_bytes());
            }
            let sum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            // (With entries of 256 bytes the backup's array would reach into the partition.)
            if own == 1 || size == 128 {
                disk.poke(own * 512, &header);
                disk.poke(entries * 512, &array);
            }
        }
        poke_table(&disk, 0, &[mbr_entry(0xEE, 1, blocks - 1)]);
        for (kind, start, _) in parts {
            match *kind {
                SYSTEM => put(&disk, *start, &system),
                BASIC => put(&disk, *start, &volume),
                _ => (),
            }
        }
        if size == 128 {
            // The backup alone.
            let backup = Arc::new(disk.duplicate());
            backup.poke(512, &[0; 512]);
            work_on_partition(name, &backup, Scheme::Gpt, first, Kind::Exfat);
        }
        work_on_partition(name, &disk, Scheme::Gpt, first, Kind::Exfat);
    }
}
