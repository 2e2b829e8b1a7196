//! Volumes are damaged in known and in random ways, repaired, and judged by foreign checkers.

use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::format::Kind as FormatKind;
use crate::test_devices::{Generator, RamDisk, judge};
use crate::volume::tests::model::Run;
use crate::volume::tests::{Lock, exercise, formatted, mount_with, units};
use crate::volume::{FileAttributes, NodeKind};

fn run_check(disk: &Arc<RamDisk>, repair: bool) -> Result<Report, VolumeError> {
    let cache = Arc::new(Cache::<Lock>::new(1 << 20));
    check(&cache, disk.clone(), repair, &mut |_| ())
}

fn check_traced(disk: &Arc<RamDisk>, repair: bool) -> Result<Report, VolumeError> {
    let cache = Arc::new(Cache::<Lock>::new(1 << 20));
    check(&cache, disk.clone(), repair, &mut |event| {
        if let Event::Found(finding, path) = event {
            std::eprintln!("    {finding:?}: {}", String::from_utf16_lossy(path));
        }
    })
}

/// Volumes with a tree in them, of each kind.
fn originals(seed: u64) -> Vec<(FormatKind, Arc<RamDisk>)> {
    [
        (FormatKind::Exfat, 16, 4096),
        (FormatKind::Fat32, 40, 512),
        (FormatKind::Fat16, 16, 2048),
        (FormatKind::Exfat, 8, 512),
    ]
    .into_iter()
    .map(|(kind, mebibytes, cluster)| {
        let disk = formatted(mebibytes, kind, Some(cluster));
        let mut run = Run::new(disk.clone(), seed, 1 << 20, 100_000);
        for _ in 0..700 {
            run.step();
        }
        run.finish(&disk, kind);
        (kind, disk)
    })
    .collect()
}

#[test]
fn sound_volumes_are_called_so_and_left_alone() {
    for (kind, disk) in originals(5) {
        let before = crc32fast::hash(&disk.image());
        let report = check_traced(&disk, false).unwrap();
        assert!(report.is_clean(), "{kind:?}: {report:?}");
        let report = check_traced(&disk, true).unwrap();
        assert!(report.is_clean(), "{kind:?}: {report:?}");
        assert_eq!(before, crc32fast::hash(&disk.image()), "{kind:?}");
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        assert_eq!(volume.space().unwrap().free, u64::from(report.free) * u64::from(report.cluster));
    }
}

/// Flips bits where metadata is: in the boot sector, FAT, bitmap, up-case table and directories.
fn flip(disk: &RamDisk, original: &RamDisk, kind: FormatKind, random: &mut Generator, flips: u64) {
    let mut places: Vec<(u64, u64)> = vec![(0, 512)];
    let mut boot = [0; 512];
    original.peek(0, &mut boot);
    let geometry = Geometry::parse(&boot, original.bytes()).unwrap();
    places.push((geometry.fat, geometry.fat_bytes.min(32768)));
    places.push((geometry.heap, geometry.cluster_bytes() * 4));
    if geometry.fixed_root.1 > 0 {
        places.push((geometry.fixed_root.0, u64::from(geometry.fixed_root.1)));
    }
    // Directories: clusters that begin with what a directory begins with.
    let mut head = [0; 64];
    for cluster in 2..geometry.clusters + 2 {
        let at = geometry.offset_of(cluster);
        original.peek(at, &mut head);
        let is_directory = match kind {
            FormatKind::Exfat => head[0] == 0x85 && head[32] == 0xC0,
            _ => head.starts_with(b".       ") && head[32..].starts_with(b"..      "),
        };
        if is_directory {
            places.push((at, geometry.cluster_bytes().min(1024)));
        }
    }
    for _ in 0..flips {
        let (start, length) = places[random.below(places.len() as u64) as usize];
        let at = start + random.below(length);
        let mut byte = [0];
        disk.peek(at, &mut byte);
        disk.poke(at, &[byte[0] ^ 1 << random.below(8)]);
    }
}

#[test]
fn what_was_flipped_is_repaired_or_refused() {
    let trace = std::env::var_os("STORAGE_TRACE").is_some();
    let environment = |name: &str| std::env::var(name).ok().and_then(|seeds| seeds.parse().ok());
    let first = environment("STORAGE_SEED").unwrap_or(0);
    let count = environment("STORAGE_SEEDS").unwrap_or(if cfg!(target_endian = "big") { 2 } else { 20 });
    for (kind, original) in originals(6) {
        for seed in first..first + count {
            let mut random = Generator::new(seed);
            let disk = Arc::new(original.duplicate());
            let flips = [1, 3, 10, 100, 1000][(seed % 5) as usize];
            flip(&disk, &original, kind, &mut random, flips);
            // In use it gives errors, and a repair still takes care of what that left behind.
            let used = Arc::new(disk.duplicate());
            if let Ok(volume) = mount_with(used.clone(), 1 << 20) {
                exercise(&volume);
                let _ = volume.unmount();
            }
            let before_repair = Arc::new(used.duplicate());
            if run_check(&used, true).is_ok() {
                let again = run_check(&used, false).unwrap();
                let found = again.found().collect::<Vec<_>>();
                if trace && !again.is_clean() {
                    let _ = check_traced(&before_repair, true);
                    std::eprintln!("again:");
                    let _ = check_traced(&used, false);
                    std::fs::write("/tmp/check-bad.img", used.image()).unwrap();
                }
                assert!(again.is_clean(), "{kind:?} seed {seed}, used, again: {found:?}");
                if seed % 4 == 0 {
                    judge::fsck(&used, kind).unwrap();
                }
            }
            let seen = run_check(&disk, false);
            let copy = if trace { Some(disk.duplicate()) } else { None };
            let Ok(report) = run_check(&disk, true) else {
                assert!(seen.is_err());
                continue;
            };
            assert!(seen.is_ok());
            let again = run_check(&disk, false).unwrap();
            let verdict = judge::fsck(&disk, kind);
            if !again.is_clean() || verdict.is_err() {
                if trace {
                    std::fs::write("/tmp/check-bad.img", disk.image()).unwrap();
                }
                if let Some(copy) = copy {
                    let _ = check_traced(&Arc::new(copy), true);
                    std::eprintln!("again:");
                    let _ = check_traced(&disk, false);
                }
                panic!(
                    "{kind:?} seed {seed}, {flips} flips\n{report:?}\nagain: {:?}\n{}",
                    again.found().collect::<Vec<_>>(),
                    verdict.err().unwrap_or_default()
                );
            }
            let volume = mount_with(disk.clone(), 1 << 20).unwrap();
            assert!(!volume.status().found_dirty && !volume.status().read_only);
            exercise(&volume);
            volume.unmount().unwrap();
            assert!(run_check(&disk, false).unwrap().is_clean(), "{kind:?} seed {seed}");
        }
    }
}

/// Linux and fsck.fat refuse them, too.
#[test]
fn boot_sectors_that_nobody_makes_are_no_volume() {
    let original = formatted(16, FormatKind::Fat16, Some(2048));
    assert!(run_check(&original, false).unwrap().is_clean());
    // Count of FATs, medium, entries of the root.
    for (at, value) in [(16, 0), (16, 3), (16, 6), (16, 255), (21, 0xD8), (21, 0xF7), (17, 4), (17, 1)] {
        let disk = Arc::new(original.duplicate());
        disk.poke(at, &[value]);
        assert!(run_check(&disk, true).is_err(), "{at}: {value}");
        assert!(mount_with(disk, 1 << 20).is_err(), "{at}: {value}");
    }
}

/// A FAT32 volume with `A.BIN` and `B.BIN` of five clusters each in the folder `D`, in one piece each, filled with 1 and 2.
fn small_tree(kind: FormatKind) -> Arc<RamDisk> {
    let disk = formatted(if kind == FormatKind::Exfat { 8 } else { 40 }, kind, Some(512));
    let volume = mount_with(disk.clone(), 1 << 20).unwrap();
    let folder = volume.create(&units("D"), NodeKind::Directory, FileAttributes(0)).unwrap();
    volume.close(folder).unwrap();
    for (name, byte) in [("D\\A.BIN", 1), ("D\\B.BIN", 2)] {
        let node = volume.create(&units(name), NodeKind::File, FileAttributes(0)).unwrap();
        volume.write(node, 0, &[byte; 2500]).unwrap();
        volume.close(node).unwrap();
    }
    volume.unmount().unwrap();
    disk
}

/// Where `pattern` is on the disk for the first time.
fn find(disk: &RamDisk, pattern: &[u8]) -> u64 {
    let image = disk.image();
    image.windows(pattern.len()).position(|window| window == pattern).unwrap() as u64
}

fn geometry(disk: &RamDisk) -> Geometry {
    let mut boot = [0; 512];
    disk.peek(0, &mut boot);
    Geometry::parse(&boot, disk.bytes()).unwrap()
}

/// Damages a small tree; the check names just that, repairs it, and fsck has nothing to say. The repaired disk.
fn damaged(
    kind: FormatKind,
    expected: &[Finding],
    damage: impl FnOnce(&RamDisk, &Geometry),
) -> (Arc<RamDisk>, Report) {
    let disk = small_tree(kind);
    damage(&disk, &geometry(&disk));
    let before = crc32fast::hash(&disk.image());
    let seen = check_traced(&disk, false).unwrap();
    let found: Vec<Finding> = seen.found().map(|found| found.0).collect();
    assert_eq!(found, expected, "{kind:?}: {seen:?}");
    assert_eq!(before, crc32fast::hash(&disk.image()), "looking changes nothing");
    let report = run_check(&disk, true).unwrap();
    assert_eq!(report.found().collect::<Vec<_>>(), seen.found().collect::<Vec<_>>());
    judge::fsck(&disk, kind).unwrap();
    assert!(run_check(&disk, false).unwrap().is_clean());
    (disk, report)
}

fn content(disk: &Arc<RamDisk>, path: &str) -> Option<Vec<u8>> {
    let volume = mount_with(disk.clone(), 1 << 20).unwrap();
    let node = volume.open(&units(path)).ok()?;
    Some(volume.read(node, 0, 100_000).unwrap().to_vec())
}

#[test]
fn lost_clusters_become_files() {
    for kind in [FormatKind::Exfat, FormatKind::Fat32] {
        let (disk, report) = damaged(kind, &[Finding::LostClusters], |disk, _| {
            let (at, mark) = match kind {
                FormatKind::Exfat => (find(disk, b"A\0.\0B\0I\0N\0") - 66, [0x05]),
                _ => (find(disk, b"A       BIN"), [0xE5]),
            };
            disk.poke(at, &mark);
            if kind == FormatKind::Exfat {
                disk.poke(at + 32, &[0x40]);
                disk.poke(at + 64, &[0x41]);
            }
        });
        assert_eq!((report.kept, report.freed), ((1, 5), 0), "{kind:?}");
        let mut kept = content(&disk, "FOUND.000\\FILE0000.CHK").unwrap();
        assert_eq!(kept.len(), 2560);
        kept.truncate(2500);
        assert_eq!(kept, vec![1; 2500]);
        assert_eq!(content(&disk, "D\\A.BIN"), None);
        assert_eq!(content(&disk, "D\\B.BIN").unwrap(), vec![2; 2500]);
    }
}

#[test]
fn each_damage_is_named_and_repaired() {
    let entry = |disk: &RamDisk, name: &[u8; 11]| find(disk, name);
    let first = |disk: &RamDisk, at: u64| {
        let mut field = [0; 2];
        disk.peek(at + 26, &mut field);
        u32::from(u16::from_le_bytes(field))
    };
    let set = |disk: &RamDisk, geometry: &Geometry, cluster: u32, value: u32| {
        for copy in 0..u64::from(geometry.fat_copies) {
            let at = geometry.fat + copy * geometry.fat_bytes + u64::from(cluster) * 4;
            disk.poke(at, &value.to_le_bytes());
        }
    };
    let (a, b) = (b"A       BIN", b"B       BIN");
    let fat = FormatKind::Fat32;

    // B begins with A's clusters: A stays whole, what was B's is kept.
    let found = [Finding::CrossLinked, Finding::LostClusters];
    let (disk, report) = damaged(fat, &found, |disk, _| {
        let cluster = first(disk, entry(disk, a));
        disk.poke(entry(disk, b) + 26, &(cluster as u16).to_le_bytes());
    });
    assert_eq!(content(&disk, "D\\A.BIN").unwrap(), vec![1; 2500]);
    assert_eq!(content(&disk, "D\\B.BIN").unwrap(), [0; 0]);
    assert_eq!(report.kept, (1, 5));

    // A's third cluster leads to its first; the last two are lost.
    let found = [Finding::ChainLoop, Finding::LostClusters];
    let (disk, _) = damaged(fat, &found, |disk, geometry| {
        let cluster = first(disk, entry(disk, a));
        set(disk, geometry, cluster + 2, cluster);
    });
    assert_eq!(content(&disk, "D\\A.BIN").unwrap(), vec![1; 1536]);

    let found = [Finding::ChainBroken, Finding::LostClusters];
    damaged(fat, &found, |disk, geometry| {
        set(disk, geometry, first(disk, entry(disk, a)) + 2, 0x00FF_FFF0);
    });
    let (disk, _) = damaged(fat, &[Finding::ChainShort], |disk, _| {
        disk.poke(entry(disk, a) + 28, &9999u32.to_le_bytes());
    });
    assert_eq!(content(&disk, "D\\A.BIN").unwrap().len(), 2560);
    damaged(fat, &[Finding::ChainLong, Finding::LostClusters], |disk, _| {
        disk.poke(entry(disk, a) + 28, &600u32.to_le_bytes());
    });
    damaged(fat, &[Finding::FatCopies], |disk, geometry| {
        disk.poke(geometry.fat + geometry.fat_bytes + 4000, &[7]);
    });
    damaged(fat, &[Finding::DotEntries], |disk, _| {
        disk.poke(find(disk, b"..         ") + 26, &[9]);
    });
    damaged(fat, &[Finding::OrphanLongName], |disk, geometry| {
        let mut record = [b'x'; 32];
        (record[0], record[11], record[12]) = (0x41, 0x0F, 0);
        record[26..28].fill(0);
        disk.poke(geometry.offset_of(geometry.root_cluster) + 2 * 32, &record);
    });
    damaged(fat, &[Finding::FreeCount], |disk, geometry| {
        disk.poke(geometry.information_sector.unwrap() + 488, &77u32.to_le_bytes());
    });
    damaged(fat, &[Finding::DirtyMark], |disk, geometry| disk.poke(geometry.dirty_mark().0, &[1]));
    damaged(fat, &[Finding::BootSectors], |disk, _| disk.poke(3, b"NOBODY"));
    damaged(fat, &[Finding::DuplicateName], |disk, _| disk.poke(entry(disk, b), a));

    let exfat = FormatKind::Exfat;
    let at = |disk: &RamDisk| find(disk, b"A\0.\0B\0I\0N\0") - 66;
    let resum = |disk: &RamDisk, at: u64| {
        let mut set = [0; 96];
        disk.peek(at, &mut set);
        let sum = set.iter().enumerate().fold(0u16, |sum, (at, byte)| match at {
            2 | 3 => sum,
            _ => sum.rotate_right(1).wrapping_add(u16::from(*byte)),
        });
        disk.poke(at + 2, &sum.to_le_bytes());
    };
    let (disk, _) = damaged(exfat, &[Finding::SetChecksum], |disk, _| disk.poke(at(disk) + 2, &[0, 0]));
    assert_eq!(content(&disk, "D\\A.BIN").unwrap(), vec![1; 2500]);
    damaged(exfat, &[Finding::ValidLength], |disk, _| {
        disk.poke(at(disk) + 32 + 8, &9000u64.to_le_bytes());
        resum(disk, at(disk));
    });
    damaged(exfat, &[Finding::CrossLinked, Finding::LostClusters], |disk, _| {
        let mut field = [0; 4];
        disk.peek(at(disk) + 32 + 20, &mut field);
        let other = find(disk, b"B\0.\0B\0I\0N\0") - 66;
        disk.poke(other + 32 + 20, &field);
        resum(disk, other);
    });
    damaged(exfat, &[Finding::BootSectors], |disk, _| disk.poke(80, &[1]));
    damaged(exfat, &[Finding::DirtyMark], |disk, _| disk.poke(106, &[2]));
    damaged(exfat, &[Finding::NotInBitmap], |disk, geometry| {
        let mut byte = [0];
        let bitmap = geometry.heap;
        disk.peek(bitmap, &mut byte);
        disk.poke(bitmap, &[byte[0] & 0xFE]);
    });
    damaged(exfat, &[Finding::SystemRecords], |disk, geometry| {
        disk.poke(geometry.offset_of(geometry.root_cluster) + 32 + 20, &[0xFF; 4]);
    });
    // A record and a folder for lost clusters, more than the root has room for: it grows, and its end moves.
    let (disk, _) = damaged(exfat, &[Finding::SystemRecords, Finding::LostClusters], |disk, geometry| {
        disk.poke(geometry.offset_of(geometry.root_cluster) + 2 * 32, &[0x02]);
        disk.poke(geometry.heap + 1000, &[1]);
    });
    assert!(content(&disk, "FOUND.000\\FILE0000.CHK").is_some());
    // A root of nothing but two stray parts of names: bitmap and table get records in a row, those places included.
    damaged(exfat, &[Finding::BehindEnd, Finding::SystemRecords], |disk, geometry| {
        let root = geometry.offset_of(geometry.root_cluster);
        disk.poke(root, &[0; 512]);
        disk.poke(root + 32, &[0xC1]);
        disk.poke(root + 3 * 32, &[0xC1]);
    });
    // The bitmap's four clusters, the third of them elsewhere.
    damaged(exfat, &[Finding::SystemRecords], |disk, geometry| {
        let elsewhere = geometry.clusters - 10;
        disk.poke(geometry.fat + 4 * 3, &elsewhere.to_le_bytes());
        disk.poke(geometry.fat + 4 * u64::from(elsewhere), &5u32.to_le_bytes());
    });
}

/// What cannot be read right is mounted all the same, for reading only, until it is repaired.
#[test]
fn a_damaged_volume_can_be_read_before_it_is_repaired() {
    for at in [32u64, 64] {
        let disk = small_tree(FormatKind::Exfat);
        disk.poke(geometry(&disk).offset_of(geometry(&disk).root_cluster) + at + 24, &[1]);
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        assert!(volume.status().damaged && volume.information().read_only);
        let node = volume.open(&units("D\\A.BIN")).unwrap();
        assert_eq!(volume.read(node, 0, 3000).unwrap().to_vec(), vec![1; 2500]);
        assert_eq!(volume.write(node, 0, b"x"), Err(VolumeError::ReadOnly));
        volume.close(node).unwrap();
        volume.unmount().unwrap();
        assert!(run_check(&disk, true).unwrap().count(Finding::SystemRecords) > 0);
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        assert!(!volume.status().damaged && !volume.information().read_only);
    }
}

#[test]
fn a_contradiction_met_in_use_ends_all_changes() {
    let disk = small_tree(FormatKind::Fat32);
    // A's chain leads out of the volume.
    let mut field = [0; 2];
    disk.peek(find(&disk, b"A       BIN") + 26, &mut field);
    let at = geometry(&disk).fat + u64::from(u16::from_le_bytes(field)) * 4;
    for copy in [0, geometry(&disk).fat_bytes] {
        disk.poke(at + copy, &0x00FF_FFF0u32.to_le_bytes());
    }
    let volume = mount_with(disk.clone(), 1 << 20).unwrap();
    let other = volume.create(&units("before"), NodeKind::File, FileAttributes(0)).unwrap();
    volume.close(other).unwrap();
    let node = volume.open(&units("D\\A.BIN")).unwrap();
    assert_eq!(volume.read(node, 0, 3000).map(|bytes| bytes.len()), Err(VolumeError::Corrupt));
    assert!(volume.status().damaged);
    let result = volume.create(&units("after"), NodeKind::File, FileAttributes(0));
    assert_eq!(result, Err(VolumeError::ReadOnly));
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    let report = run_check(&disk, true).unwrap();
    assert!(report.count(Finding::ChainBroken) == 1 && report.count(Finding::DirtyMark) == 1);
    judge::fsck(&disk, FormatKind::Fat32).unwrap();
    assert_eq!(content(&disk, "before").unwrap(), [0; 0]);
}
