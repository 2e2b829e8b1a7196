//! Does one kind of operation over and over, to count its instructions from outside:
//! `perf stat -e instructions:u cost create 1000` against `... create 2000`, or under callgrind.

use std::sync::Arc;

use storage::format::{Kind, Options};
use storage::test_devices::RamDisk;
use storage::time::{Clock, FileTime};
use storage::volume::{FileAttributes, NodeKind};
use storage::{Cache, Volume};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> FileTime {
        FileTime(133_800_000_000_000_000)
    }
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count: u64 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let disk = Arc::new(RamDisk::new(1 << 21, 512));
    let options = Options { kind: Kind::Exfat, label: vec![], unique: [1; 16], cluster: None };
    storage::format::volume(&*disk, 0, &options).unwrap();
    let cache = Arc::new(Cache::<parking_lot::RawMutex>::new(128 << 20));
    let volume = Volume::mount(cache, disk, Arc::new(Fixed), false).unwrap();
    let directory = volume.create(&units("folder"), NodeKind::Directory, FileAttributes(0)).unwrap();
    let big = volume.create(&units("folder\\big"), NodeKind::File, FileAttributes(0)).unwrap();
    let chunk = vec![7; 65536];
    for number in 0..256 {
        volume.write(big, number * 65536, &chunk).unwrap();
    }
    volume.sync().unwrap();
    let names: Vec<Vec<u16>> = (0..if what == "create" { count } else { 0 })
        .map(|number| units(&format!("folder\\file{number:08}.txt")))
        .collect();
    let read = |length: u32| {
        let mut sum = 0;
        for number in 0..count {
            let payload = volume.read(big, number * u64::from(length) % (16 << 20), length).unwrap();
            sum += payload.len();
        }
        assert_eq!(sum as u64, count * u64::from(length));
    };
    match what.as_str() {
        "create" => {
            for name in &names {
                let node = volume.create(name, NodeKind::File, FileAttributes(0x20)).unwrap();
                volume.write(node, 0, &chunk[..1024]).unwrap();
                volume.close(node).unwrap();
            }
        }
        "open" => {
            for _ in 0..count {
                let node = volume.open(&units("folder\\big")).unwrap();
                volume.close(node).unwrap();
            }
        }
        "openclosed" => {
            volume.close(big).unwrap();
            for _ in 0..count {
                let node = volume.open(&units("folder\\big")).unwrap();
                volume.close(node).unwrap();
            }
        }
        "read4k" => read(4096),
        "read64k" => read(65536),
        "write64k" => {
            for number in 0..count {
                volume.write(big, number * 65536 % (16 << 20), &chunk).unwrap();
            }
        }
        _ => println!("create, open, openclosed, read4k, read64k or write64k"),
    }
    volume.close(directory).unwrap();
}
