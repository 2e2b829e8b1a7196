//! FLUSH: what it makes safe, what it leaves alone, and what a disk that fails it may have lost.

use std::sync::Arc;
use std::vec;

use super::tests::{mount_journaled, units};
use super::*;
use crate::Slice;
use crate::format::{Kind, Options};
use crate::test_devices::{Faults, FaultyDisk, RamDisk};

type TestVolume = Volume<parking_lot::RawMutex>;

const JOURNAL: u64 = 4096;

fn setup(cache: usize) -> (Arc<RamDisk>, Arc<FaultyDisk>, TestVolume) {
    let disk = Arc::new(RamDisk::new(JOURNAL + (256 << 11), 512));
    let faulty = Arc::new(FaultyDisk::new(disk.clone(), 1, Faults::default()));
    let options = Options { kind: Kind::Exfat, label: vec![], unique: [4; 16], cluster: None };
    crate::format::volume(&Slice::new(disk.clone(), JOURNAL, 256 << 11).unwrap(), 0, &options).unwrap();
    let volume = mount(faulty.clone(), cache);
    (disk, faulty, volume)
}

fn mount(disk: Arc<dyn BlockDevice>, cache: usize) -> TestVolume {
    let volume = Slice::new(disk.clone(), JOURNAL, disk.blocks() - JOURNAL).unwrap();
    let journal = Slice::new(disk, 0, JOURNAL).unwrap();
    mount_journaled(Arc::new(volume), Some(Arc::new(journal)), cache).unwrap()
}

fn create(volume: &TestVolume, name: &str) -> Node {
    volume.create(&units(name), NodeKind::File, FileAttributes(0)).unwrap()
}

#[test]
fn a_flush_leaves_other_files_alone() {
    let (_, faulty, volume) = setup(512 << 20);
    let (small, large) = (create(&volume, "small"), create(&volume, "large"));
    volume.write(small, 0, &[1; 100_000]).unwrap();
    volume.sync().unwrap();
    for number in 0..100 {
        volume.write(large, number << 20, &[2; 1 << 20]).unwrap();
    }
    let dirty = volume.cache.statistics().dirty_pages;
    assert!(dirty >= 6400);
    for round in 0..20 {
        volume.write(small, round * 4096, &[3; 4096]).unwrap();
        let (before, flushes) = (faulty.commands().1, volume.cache.statistics().flushes);
        volume.flush(small).unwrap();
        // Its data and the journal's group, and one flush for both.
        assert_eq!(faulty.commands().1 - before, 2, "{round}");
        assert_eq!(volume.cache.statistics().flushes - flushes, 1);
    }
    // Growing, the data has to be safe before the size: one more flush.
    volume.write(small, 100_000, &[4; 50_000]).unwrap();
    let flushes = volume.cache.statistics().flushes;
    volume.flush(small).unwrap();
    assert_eq!(volume.cache.statistics().flushes - flushes, 2);
    // (Dirty neighbours on the disk went along in the same command.)
    assert!(volume.cache.statistics().dirty_pages >= 6300);
    // The large one's flush takes it all.
    volume.flush(large).unwrap();
    assert!(volume.cache.statistics().dirty_pages < 20);
}

#[test]
fn what_was_written_before_the_file_was_closed_and_opened_is_flushed() {
    let (disk, _, volume) = setup(16 << 20);
    let node = create(&volume, "file");
    volume.write(node, 0, &[1; 100_000]).unwrap();
    volume.flush(node).unwrap();
    volume.write(node, 50_000, &[2; 1000]).unwrap();
    volume.close(node).unwrap();
    let node = volume.open(&units("file")).unwrap();
    volume.flush(node).unwrap();
    let after = mount(Arc::new(disk.duplicate()), 16 << 20);
    let node = after.open(&units("file")).unwrap();
    assert_eq!(after.read(node, 50_000, 1000).unwrap().to_vec(), [2; 1000]);
}

#[test]
fn a_failed_flush_is_an_error_and_nothing_that_comes_later_is_lost() {
    let (disk, faulty, volume) = setup(16 << 20);
    let node = create(&volume, "file");
    volume.write(node, 0, &[1; 100_000]).unwrap();
    volume.flush(node).unwrap();
    for (value, length) in [(2, 100_000), (3, 250_000)] {
        let safe = disk.duplicate();
        volume.write(node, 0, &vec![value; length]).unwrap();
        faulty.set_faults(Faults { flush: 1, ..Faults::default() });
        assert_eq!(volume.flush(node), Err(VolumeError::Io));
        assert_eq!(volume.flush(node), Err(VolumeError::Io));
        faulty.set_faults(Faults::default());
        // The disk has lost what it had in its own cache.
        let now = disk.duplicate();
        now.for_each_chunk(|offset, chunk| {
            let mut bytes = vec![0; chunk.len()];
            safe.peek(offset, &mut bytes);
            disk.poke(offset, &bytes);
        });
        volume.flush(node).unwrap();
        let after = mount(Arc::new(disk.duplicate()), 16 << 20);
        let node = after.open(&units("file")).unwrap();
        assert!(after.read(node, 0, 1 << 20).unwrap().to_vec() == vec![value; length]);
    }
}

/// A disk that takes its time to flush, as all do.
struct Slow(Arc<RamDisk>);

impl BlockDevice for Slow {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }

    fn block_size(&self) -> u32 {
        self.0.block_size()
    }

    fn execute(
        &self,
        command: crate::Command<'_, '_>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), crate::DeviceError> {
        if matches!(command, crate::Command::Flush) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.0.execute(command, meanwhile)
    }
}

#[test]
fn flushes_at_once_share_a_commit() {
    let (disk, _, volume) = setup(1 << 20);
    volume.unmount().unwrap();
    let volume = &mount(Arc::new(Slow(disk.clone())), 64 << 20);
    let before = volume.cache.statistics().flushes;
    let barrier = &std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for thread in 0..16u8 {
            scope.spawn(move || {
                let node = create(volume, &std::format!("file {thread}"));
                for round in 0..20 {
                    volume.write(node, round * 5000, &[thread + 1; 5000]).unwrap();
                    barrier.wait();
                    volume.flush(node).unwrap();
                }
            });
        }
    });
    // Each on its own would take two.
    let flushes = volume.cache.statistics().flushes - before;
    assert!(flushes < 16 * 20 * 2, "{flushes}");
    std::eprintln!("{flushes} flushes of the disk for 320 of files");
    let after = mount(Arc::new(disk.duplicate()), 64 << 20);
    for thread in 0..16u8 {
        let node = after.open(&units(&std::format!("file {thread}"))).unwrap();
        assert!(after.read(node, 0, 1 << 20).unwrap().to_vec() == vec![thread + 1; 100_000]);
    }
}
