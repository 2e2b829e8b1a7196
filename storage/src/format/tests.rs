use std::sync::Arc;
use std::vec::Vec;

use super::*;
use crate::partition::{FileSystem, Role, Scheme};
use crate::test_devices::RamDisk;
use crate::test_devices::judge::check;
use crate::volume::tests::assert_sound;

fn options(kind: Kind) -> Options {
    Options { kind, label: "NAS DISK".encode_utf16().collect(), unique: [0xA7; 16], cluster: None }
}

#[test]
fn foreign_checkers_find_nothing_wrong() {
    for (kind, mebibytes) in [
        (Kind::Exfat, 2),
        (Kind::Exfat, 63),
        (Kind::Exfat, 4096),
        (Kind::Exfat, 600 << 10),
        (Kind::Fat32, 40),
        (Kind::Fat32, 259),
        (Kind::Fat32, 4096),
        (Kind::Fat16, 16),
        (Kind::Fat16, 1000),
    ] {
        let disk = RamDisk::new(mebibytes * 2048, 512);
        volume(&disk, 2048, &options(kind)).unwrap();
        assert_sound(&disk, kind);
    }
}

#[test]
fn large_sectors() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = RamDisk::new((600 << 20) / 4096, 4096);
        volume(&disk, 0, &options(kind)).unwrap();
        if kind == Kind::Fat32 {
            // fsck.exfat wants the device's own sector size, which a file has not.
            assert_sound(&disk, kind);
        }
    }
}

#[test]
fn a_divided_disk_has_a_private_and_a_data_partition() {
    for (mebibytes, kind) in [(64, Kind::Exfat), (4096, Kind::Exfat), (300, Kind::Fat32)] {
        let ram = Arc::new(RamDisk::new(mebibytes * 2048, 512));
        let device: Arc<dyn BlockDevice> = ram.clone();
        let layout = disk(&device, &options(kind)).unwrap();
        assert_eq!(layout.scheme, Scheme::Gpt);
        let roles: Vec<Role> = layout.partitions.iter().map(|part| part.role).collect();
        assert_eq!(roles, [Role::Private, Role::Data]);
        let data = layout.data().unwrap();
        let expected = if kind == Kind::Exfat { FileSystem::Exfat } else { FileSystem::Fat };
        assert_eq!(data.file_system, Some(expected));
        // (Under QEMU's user emulation sfdisk fails without a word.)
        if cfg!(target_endian = "little")
            && let Some(Err(text)) = check(&ram, "sfdisk", &["--verify"])
        {
            panic!("{text}");
        }
        // The partition alone, as fsck sees it.
        let part = RamDisk::new(data.blocks, 512);
        ram.for_each_chunk(|offset, bytes| {
            if let Some(offset) = offset.checked_sub(data.first * 512).filter(|offset| *offset < part.bytes())
            {
                part.poke(offset, bytes);
            }
        });
        assert_sound(&part, kind);
    }
}

#[test]
fn impossible_wishes() {
    let disk = RamDisk::new(1000, 512);
    assert_eq!(volume(&disk, 0, &options(Kind::Fat32)), Err(FormatError::Size));
    let disk = RamDisk::new(100_000, 512);
    let mut wish = options(Kind::Exfat);
    wish.cluster = Some(5000);
    assert_eq!(volume(&disk, 0, &wish), Err(FormatError::Options));
    wish.label = std::vec![65; 12];
    assert_eq!(volume(&disk, 0, &wish), Err(FormatError::Options));
}

#[test]
fn a_disk_that_was_made_blank_shows_nothing_of_what_it_held() {
    let ram = Arc::new(RamDisk::new(64 * 2048, 512));
    let device: Arc<dyn BlockDevice> = ram.clone();
    let finds = |ram: &RamDisk| check(ram, "blkid", &["-p"]).map(|found| found.is_ok());
    for kind in [Kind::Exfat, Kind::Fat32] {
        // Divided, and without a table.
        for divided in [true, false] {
            let layout = if divided {
                disk(&device, &options(kind)).unwrap()
            } else {
                volume(&*device, 0, &options(kind)).unwrap();
                Layout::read(&*device).unwrap()
            };
            let data = layout.data().unwrap();
            assert!(!layout.blank && finds(&ram) != Some(false));
            blank(&*device).unwrap();
            assert!(Layout::read(&*device).unwrap().blank);
            assert_ne!(finds(&ram), Some(true));
            // The same division again does not bring the volume back.
            let plan = partition::plan(device.blocks(), 512).unwrap();
            partition::write_gpt(&*device, &plan, [3; 16]).unwrap();
            let again = Layout::read(&*device).unwrap();
            assert_eq!((again.data(), again.partitions.len()), (None, 2));
            assert!(!divided || again.partitions[1].first == data.first);
            assert_eq!(crate::mirror::examine(&*device), Ok(None));
        }
    }
    let tiny = RamDisk::new(100, 512);
    tiny.poke(0, &[7; 51_200]);
    blank(&tiny).unwrap();
    assert!(tiny.image().iter().all(|&byte| byte == 0));
}
