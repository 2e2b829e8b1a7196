//! Volumes are damaged in known and in random ways, repaired, and judged by foreign checkers.

use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::format::Kind as FormatKind;
use crate::test_devices::{Generator, RamDisk, judge};
use crate::volume::tests::model::Run;
use crate::volume::tests::{Lock, exercise, formatted, mount_with};

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
    let wanted = std::env::var("STORAGE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = wanted.unwrap_or(if cfg!(target_endian = "big") { 3 } else { 40 });
    for (kind, original) in originals(6) {
        for seed in 0..seeds {
            let mut random = Generator::new(seed);
            let disk = Arc::new(original.duplicate());
            let flips = [1, 3, 10, 100, 1000][(seed % 5) as usize];
            flip(&disk, &original, kind, &mut random, flips);
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
