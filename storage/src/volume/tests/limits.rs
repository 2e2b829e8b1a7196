//! Large files and directories, times and marks.

use std::vec;

use super::*;

#[test]
fn a_file_beyond_eight_gibibytes() {
    let disk = Arc::new(RamDisk::new(20 << 21, 512));
    crate::format::volume(&*disk, 0, &options(Kind::Exfat, None)).unwrap();
    let volume = mount_with(disk.clone(), 4 << 20).unwrap();
    let node = volume.create(&units("huge"), NodeKind::File, FileAttributes(0)).unwrap();
    let size = (9 << 30) + 12_345;
    volume.set_size(node, size).unwrap();
    // Nothing was written, so nothing is read and no disk was filled with zeros.
    assert_eq!(volume.read(node, size - 100, 1000).unwrap().to_vec(), vec![0; 100]);
    volume.write(node, 1000, b"low").unwrap();
    assert_eq!(volume.read(node, 5 << 30, 4).unwrap().to_vec(), [0; 4]);
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    let volume = mount_with(disk.clone(), 4 << 20).unwrap();
    let node = volume.open(&units("HUGE")).unwrap();
    assert_eq!(volume.metadata(node).unwrap().size, size);
    assert_eq!(volume.read(node, 999, 5).unwrap().to_vec(), b"\0low\0");
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}

#[test]
fn names_cost_the_same_in_a_large_directory() {
    for (kind, mebibytes) in [(Kind::Exfat, 64), (Kind::Fat32, 64)] {
        let disk = formatted(mebibytes, kind, None);
        let volume = mount_with(disk.clone(), 8 << 20).unwrap();
        let directory = volume.create(&units("d"), NodeKind::Directory, FileAttributes(0)).unwrap();
        volume.close(directory).unwrap();
        let mut hits = vec![];
        for number in 0..10_000 {
            let path = units(&format!("d\\some file number {number}.txt"));
            let node = volume.create(&path, NodeKind::File, FileAttributes(0)).unwrap();
            volume.write(node, 0, b"x").unwrap();
            volume.close(node).unwrap();
            if number == 100 || number == 200 || number == 9_800 || number == 9_900 {
                hits.push(volume.cache.statistics().hits);
            }
        }
        let (small, large) = (hits[1] - hits[0], hits[3] - hits[2]);
        assert!(large < small * 2, "{kind:?}: {small} cache operations grew to {large}");
        for number in (0..10_000).rev() {
            let node = volume.open(&units(&format!("d\\SOME file number {number}.txt"))).unwrap();
            volume.remove(node).unwrap();
            volume.close(node).unwrap();
        }
        let free = volume.space().unwrap();
        let directory = volume.open(&units("d")).unwrap();
        volume.remove(directory).unwrap();
        volume.close(directory).unwrap();
        assert!(volume.space().unwrap().free > free.free);
        volume.unmount().unwrap();
        assert_sound(&disk, kind);
    }
}

#[test]
fn a_growing_file_stays_in_one_piece() {
    let disk = formatted(64, Kind::Exfat, Some(4096));
    let volume = mount_with(disk.clone(), 8 << 20).unwrap();
    let one = volume.create(&units("one"), NodeKind::File, FileAttributes(0)).unwrap();
    for number in 0..500 {
        volume.write(one, number * 10_000, &[1; 10_000]).unwrap();
        let other = volume.create(&units(&format!("o{number}")), NodeKind::File, FileAttributes(0)).unwrap();
        volume.write(other, 0, &[2; 5000]).unwrap();
        volume.close(other).unwrap();
    }
    let runs = volume.engine.lock().nodes.get(one.slot).unwrap().extents.runs().len();
    assert!(runs <= 12, "{runs} runs");
    volume.close(one).unwrap();
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}

#[test]
fn times_and_marks() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = formatted(64, kind, None);
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        assert_eq!(volume.information().label, units("TESTDISK"));
        let node = volume.create(&units("f"), NodeKind::File, FileAttributes(0)).unwrap();
        let change = MetadataChange {
            created: Some(FileTime(133_000_000_004_300_000)),
            modified: Some(FileTime(133_111_111_120_000_000)),
            accessed: Some(FileTime(133_222_222_220_000_000)),
            attributes: Some(FileAttributes(0x07)),
        };
        volume.change_metadata(node, &change).unwrap();
        volume.close(node).unwrap();
        // Marked dirty while in use, clean once all is written and nothing more comes.
        assert!(mount_with(Arc::new(disk.duplicate()), 1 << 20).unwrap().status().found_dirty);
        volume.sync().unwrap();
        volume.sync().unwrap();
        assert!(!mount_with(Arc::new(disk.duplicate()), 1 << 20).unwrap().status().found_dirty);
        volume.unmount().unwrap();
        assert_eq!(volume.open(&[]), Err(VolumeError::Stale));
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        let node = volume.open(&units("F")).unwrap();
        let metadata = volume.metadata(node).unwrap();
        assert_eq!(metadata.created, FileTime(133_000_000_004_300_000));
        assert_eq!(metadata.modified, FileTime(133_111_111_120_000_000));
        assert_eq!(metadata.attributes, FileAttributes(0x07));
        volume.close(node).unwrap();
    }
}

#[test]
fn a_full_volume_has_room_as_soon_as_something_is_deleted() {
    for (kind, cluster) in [(Kind::Exfat, 4096), (Kind::Fat16, 1024)] {
        let disk = formatted(8, kind, Some(cluster));
        let journal: Arc<dyn BlockDevice> = Arc::new(RamDisk::new(2 << 11, 512));
        let volume = mount_journaled(disk.clone(), Some(journal), 2 << 20).unwrap();
        let path = |number: usize| units(&std::format!("file {number}"));
        let put = |number: usize, byte: u8| -> Result<(), VolumeError> {
            let node = volume.create(&path(number), NodeKind::File, FileAttributes(0))?;
            let result = volume.write(node, 0, &[byte; 100_000]);
            if result.is_err() {
                volume.remove(node).unwrap();
            }
            volume.close(node).unwrap();
            result
        };
        let remove = |number: usize| {
            let node = volume.open(&path(number)).unwrap();
            volume.remove(node).unwrap();
            volume.close(node).unwrap();
        };
        let mut count = 0;
        while put(count, count as u8) == Ok(()) {
            count += 1;
        }
        assert_eq!(put(count, 0), Err(VolumeError::Full));
        assert!(count > 60, "{count}");
        for round in 0..count {
            // Freed clusters wait for their group; who needs them does not.
            let number = round * 7 % count;
            let before = volume.space().unwrap().free;
            remove(number);
            assert!(volume.space().unwrap().free >= before + 100_000, "free at once");
            assert_eq!(put(number, number as u8), Ok(()), "{kind:?}: {number}");
            assert_eq!(put(count, 0), Err(VolumeError::Full));
        }
        for number in 0..count {
            let node = volume.open(&path(number)).unwrap();
            assert_eq!(volume.read(node, 0, 200_000).unwrap().to_vec(), vec![number as u8; 100_000]);
            volume.close(node).unwrap();
        }
        volume.unmount().unwrap();
        assert_sound(&disk, kind);
    }
}

#[test]
fn files_end_where_their_format_ends() {
    for kind in [Kind::Fat32, Kind::Fat16] {
        let disk = formatted(if kind == Kind::Fat32 { 40 } else { 16 }, kind, None);
        let volume = mount_with(disk, 1 << 20).unwrap();
        let node = volume.create(&units("f"), NodeKind::File, FileAttributes(0)).unwrap();
        let most = u64::from(u32::MAX);
        assert_eq!(volume.set_size(node, most + 1), Err(VolumeError::TooLarge));
        assert_eq!(volume.set_size(node, most), Err(VolumeError::Full));
        assert_eq!(volume.write(node, most, b"x"), Err(VolumeError::TooLarge));
        assert_eq!(volume.write(node, u64::MAX, b"x"), Err(VolumeError::TooLarge));
        assert_eq!(volume.write(node, most - 1, b"x"), Err(VolumeError::Full));
        assert_eq!(volume.metadata(node).unwrap().size, 0);
        volume.close(node).unwrap();
        volume.unmount().unwrap();
    }
}

/// As long as nobody needs them, the clusters between are only counted: random access finds one among many runs quickly.
#[test]
fn a_file_in_ten_thousand_runs() {
    let disk = formatted(64, Kind::Exfat, Some(512));
    let volume = mount_with(disk.clone(), 8 << 20).unwrap();
    let [one, two] =
        ["one", "two"].map(|name| volume.create(&units(name), NodeKind::File, FileAttributes(0)).unwrap());
    for number in 0..10_000u64 {
        // Two that grow in turn, each written through at once, so that nothing is taken in advance.
        for node in [one, two] {
            volume.set_size(node, (number + 1) * 512).unwrap();
        }
    }
    let runs = volume.engine.lock().nodes.get(one.slot).unwrap().extents.runs().len();
    assert!(runs >= 9_000, "{runs} runs");
    volume.write(one, 0, &vec![7; 5_120_000]).unwrap();
    volume.close(one).unwrap();
    volume.close(two).unwrap();
    let node = volume.open(&units("one")).unwrap();
    for number in (0..10_000u64).step_by(77) {
        assert_eq!(volume.read(node, number * 512, 512).unwrap().to_vec(), vec![7; 512]);
    }
    volume.remove(node).unwrap();
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}
