use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::Command;
use crate::test_devices::{Faults, FaultyDisk, Generator, RamDisk};

type TestCache = Cache<parking_lot::RawMutex>;

const KIB: usize = 1024;

fn setup(mebibytes: u64, pages: usize) -> (Arc<RamDisk>, Arc<FaultyDisk>, TestCache, DeviceIndex) {
    let disk = Arc::new(RamDisk::new(mebibytes * 2048, 512));
    let faulty = Arc::new(FaultyDisk::new(disk.clone(), 1, Faults::default()));
    let cache = Cache::new(pages * PAGE_SIZE);
    let device = cache.attach(faulty.clone()).unwrap();
    (disk, faulty, cache, device)
}

fn read(cache: &TestCache, device: DeviceIndex, offset: u64, length: usize) -> Vec<u8> {
    let mut payload = Payload::new();
    cache.read(device, offset, length, &mut payload).unwrap();
    assert_eq!(payload.len(), length);
    payload.to_vec()
}

#[test]
fn what_was_written_is_read_and_reaches_the_device() {
    let (disk, _, cache, device) = setup(8, 40);
    let mut model = vec![0u8; 8 << 20];
    let mut random = Generator::new(1);
    for step in 0..5000u64 {
        let offset = random.below(8 << 20) as usize;
        let length = (random.below(40_000) as usize).min((8 << 20) - offset);
        match random.below(5) {
            0 | 1 => {
                let bytes = vec![step as u8 | 1; length];
                cache.write(device, offset as u64, &bytes, u64::MAX).unwrap();
                model[offset..offset + length].copy_from_slice(&bytes);
            }
            2 if step % 50 == 0 => cache.flush(device).unwrap(),
            _ => assert!(read(&cache, device, offset as u64, length) == model[offset..offset + length]),
        }
        cache.throttle(device).unwrap();
    }
    cache.flush(device).unwrap();
    assert!(disk.image() == model);
    assert_eq!(cache.statistics().dirty_pages, 0);
}

#[test]
fn a_pinned_page_stays_as_it_was() {
    let (disk, _, cache, device) = setup(4, 64);
    cache.write(device, 0, &[1; 32 * KIB], u64::MAX).unwrap();
    let mut payload = Payload::new();
    cache.read(device, 100, 20 * KIB, &mut payload).unwrap();
    cache.write(device, 0, &[2; 32 * KIB], u64::MAX).unwrap();
    assert_eq!(payload.to_vec(), vec![1; 20 * KIB]);
    assert_eq!(read(&cache, device, 100, 20 * KIB), vec![2; 20 * KIB]);
    assert_eq!(cache.statistics().copies, 2);
    cache.flush(device).unwrap();
    let mut byte = [0];
    disk.peek(5000, &mut byte);
    assert_eq!(byte, [2]);
    // It outlives even its device.
    cache.detach(device);
    assert_eq!(payload.to_vec(), vec![1; 20 * KIB]);
}

#[test]
fn small_writes_need_no_read_and_sequential_ones_few_commands() {
    let (_, faulty, cache, device) = setup(16, 256);
    for number in 0..128u64 {
        cache.write(device, number * 16384, &[7; 16 * KIB], u64::MAX).unwrap();
    }
    cache.write(device, 12 << 20, &[7; 512], u64::MAX).unwrap();
    assert_eq!(faulty.commands(), (0, 0));
    cache.flush(device).unwrap();
    // 2 MiB in commands of 1 MiB, and the sector.
    assert_eq!(faulty.commands(), (0, 3));
    // A part of a sector does need its rest; and of a page known in part only what is missing is read.
    cache.write(device, (12 << 20) + 600, &[8; 10], u64::MAX).unwrap();
    assert_eq!(faulty.commands(), (1, 3));
    assert_eq!(read(&cache, device, (12 << 20) + 500, 112)[..12], [7; 12]);
    assert_eq!(faulty.commands(), (1, 3));
    // Unless what is there does not matter.
    cache.write(device, (13 << 20) + 600, &[9; 10], 13 << 20).unwrap();
    assert_eq!(faulty.commands(), (1, 3));
    assert_eq!(read(&cache, device, (13 << 20) + 512, 1)[0], 0);
}

#[test]
fn read_ahead_makes_few_commands_and_a_bad_block_hurts_only_itself() {
    let (_, faulty, cache, device) = setup(16, 512);
    let mut payload = Payload::new();
    for number in 0..64 {
        if number % 16 == 0 {
            cache.prefetch(device, number * 65536, 1 << 20);
        }
        cache.read(device, number * 65536, 65536, &mut payload).unwrap();
    }
    assert!(faulty.commands().0 == 4, "{:?}", faulty.commands());
    faulty.set_faults(Faults { read: 2, ..Faults::default() });
    let mut good = 0;
    for number in 300..600 {
        cache.prefetch(device, number * 16384, 1 << 20);
        good += usize::from(cache.read(device, number * 16384, 16384, &mut payload).is_ok());
    }
    assert!(good > 30, "{good}");
}

#[test]
fn a_long_scan_leaves_the_pages_in_use() {
    let (_, faulty, cache, device) = setup(64, 128);
    let mut payload = Payload::new();
    // 32 pages that are used again and again, with other reads between.
    for round in 0..20u64 {
        for page in 0..32 {
            read(&cache, device, page * PAGE, 100);
        }
        for page in 0..20 {
            read(&cache, device, (100 + round * 20 + page) * PAGE, 100);
        }
    }
    for page in 1000..3000 {
        payload = Payload::new();
        cache.read(device, page * PAGE, PAGE_SIZE, &mut payload).unwrap();
    }
    drop(payload);
    let before = faulty.commands().0;
    for page in 0..32 {
        read(&cache, device, page * PAGE, 100);
    }
    let missed = faulty.commands().0 - before;
    assert!(missed <= 4, "{missed} of 32 were lost to the scan");
}

#[test]
fn held_sectors_wait_for_their_group() {
    let (disk, _, cache, device) = setup(4, 64);
    cache.write(device, 0, &[1; 2048], u64::MAX).unwrap();
    cache.write_held(device, 512, &[2; 512], 5).unwrap();
    cache.flush(device).unwrap();
    let mut bytes = [0; 2048];
    disk.peek(0, &mut bytes);
    assert_eq!((bytes[0], bytes[512], bytes[1024]), (1, 0, 1));
    cache.release(device, 4);
    cache.flush(device).unwrap();
    disk.peek(0, &mut bytes);
    assert_eq!(bytes[512], 0);
    cache.release(device, 5);
    cache.flush(device).unwrap();
    disk.peek(0, &mut bytes);
    assert_eq!(bytes[512..1024], [2; 512]);
}

#[test]
fn failed_writes_are_kept_and_tried_again_and_a_dead_disk_does_not_fill_the_cache() {
    let (disk, faulty, cache, device) = setup(8, 64);
    faulty.set_faults(Faults { write: 1, ..Faults::default() });
    cache.write(device, 0, &[3; 1000], u64::MAX).unwrap();
    assert!(cache.flush(device).is_err());
    assert_eq!(read(&cache, device, 0, 1000), [3; 1000]);
    faulty.set_faults(Faults::default());
    cache.flush(device).unwrap();
    let mut byte = [0];
    disk.peek(999, &mut byte);
    assert_eq!(byte, [3]);
    cache.write(device, 0, &[4; 1000], u64::MAX).unwrap();
    faulty.pull(true);
    assert!(cache.flush(device).is_err());
    assert_eq!(cache.statistics().dirty_pages, 0);
    assert!(cache.write(device, 0, &[4; 1000], u64::MAX).is_err());
}

#[test]
fn all_pages_pinned_is_an_error_and_passes() {
    let (_, _, cache, device) = setup(8, 32);
    let mut payload = Payload::new();
    // A few more than the budget are given while there is no other way.
    let result = cache.read(device, 0, 41 * PAGE_SIZE, &mut payload);
    assert_eq!(result, Err(CacheError::NoResources));
    drop(payload);
    assert_eq!(read(&cache, device, 40 * PAGE, 100), [0; 100]);
}

#[test]
fn many_threads_at_once() {
    let (disk, _, cache, device) = setup(16, 48);
    let (cache, stop) = (&cache, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Each thread has every eighth 4 KiB piece for itself; pages are shared by four.
        let workers: Vec<_> = (0..8u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Generator::new(thread);
                    let mut model = vec![0u8; 512];
                    for step in 0..3000u64 {
                        let piece = random.below(512);
                        let offset = (piece * 8 + thread) * 4096;
                        if random.once_in(2) {
                            let value = (step % 250) as u8 + 1;
                            cache.throttle(device).unwrap();
                            cache.write(device, offset + 100, &[value; 3000], u64::MAX).unwrap();
                            model[piece as usize] = value;
                        } else {
                            let bytes = read(cache, device, offset + 100, 3000);
                            assert!(bytes.iter().all(|&byte| byte == model[piece as usize]));
                        }
                    }
                    model
                })
            })
            .collect();
        let flusher = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                cache.flush(device).unwrap();
            }
        });
        let models: Vec<Vec<u8>> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        flusher.join().unwrap();
        cache.flush(device).unwrap();
        let image = disk.image();
        for (thread, model) in models.iter().enumerate() {
            for (piece, &value) in model.iter().enumerate() {
                assert_eq!(image[(piece * 8 + thread) * 4096 + 2000], value);
            }
        }
    });
}

#[test]
fn what_a_failed_flush_may_have_lost_is_written_again() {
    let (disk, faulty, cache, device) = setup(8, 64);
    cache.write(device, 0, &[5; 3000], u64::MAX).unwrap();
    faulty.set_faults(Faults { flush: 1, ..Faults::default() });
    assert!(cache.flush(device).is_err());
    // The device had it in its own cache, and lost it there.
    let mut byte = [0];
    disk.peek(2999, &mut byte);
    assert_eq!(byte, [5]);
    disk.poke(0, &[0; 3000]);
    faulty.set_faults(Faults::default());
    cache.flush(device).unwrap();
    disk.peek(2999, &mut byte);
    assert_eq!(byte, [5]);
    assert_eq!(cache.statistics().dirty_pages, 0);
    // What was safe before stays clean.
    faulty.set_faults(Faults { flush: 1, ..Faults::default() });
    assert!(cache.barrier(device).is_err());
    assert_eq!(cache.statistics().dirty_pages, 0);
}

#[test]
fn pages_are_not_forgotten_before_they_are_safe() {
    let (disk, faulty, cache, device) = setup(64, 64);
    cache.write(device, 0, &[6; 16 * KIB], u64::MAX).unwrap();
    cache.write_back(device).unwrap();
    // Much else passes through the cache. To make room, the device is flushed first.
    for page in 100..600 {
        read(&cache, device, page * PAGE, 100);
    }
    assert!(cache.statistics().flushes > 0);
    disk.poke(0, &[0; 512]);
    faulty.set_faults(Faults { flush: 1, ..Faults::default() });
    assert!(cache.flush(device).is_err());
    faulty.set_faults(Faults::default());
    cache.flush(device).unwrap();
    // Which was the last that the cache had to do with it.
    assert_eq!(read(&cache, device, 0, 512), [0; 512]);
}

#[test]
fn a_block_that_cannot_be_written_keeps_no_other() {
    struct Bad(Arc<RamDisk>);
    impl BlockDevice for Bad {
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
        ) -> Result<(), DeviceError> {
            let (block, bytes) = command.range().unwrap_or_default();
            let bad = matches!(command, crate::Command::Write { .. })
                && (block..block + bytes / 512).contains(&333);
            let result = self.0.execute(command, meanwhile);
            if bad { Err(DeviceError::Medium) } else { result }
        }
    }
    let disk = Arc::new(RamDisk::new(16384, 512));
    let cache = TestCache::new(256 * PAGE_SIZE);
    let device = cache.attach(Arc::new(Bad(disk.clone()))).unwrap();
    cache.write(device, 0, &vec![7; 100 * PAGE_SIZE], u64::MAX).unwrap();
    assert_eq!(cache.flush(device), Err(CacheError::Device(DeviceError::Medium)));
    assert_eq!(cache.statistics().dirty_pages, 1);
    let page = 333 / 32 * PAGE;
    cache.write(device, 0, &[8; 512], u64::MAX).unwrap();
    cache.write_back_ranges(device, &[(0, page), (page + PAGE, 100 * PAGE)]).unwrap();
    assert!(cache.write_back_ranges(device, &[(page, page + 1)]).is_err());
    assert_eq!(cache.statistics().dirty_pages, 1);
    let mut byte = [0];
    disk.peek(0, &mut byte);
    assert_eq!(byte, [8]);
}

#[test]
fn of_ranges_only_what_is_in_them_is_written() {
    let (disk, faulty, cache, device) = setup(64, 2000);
    for page in 0..1000 {
        cache.write(device, page * 2 * PAGE, &[9; 512], u64::MAX).unwrap();
    }
    // A few pages, and more than are dirty.
    for (range, commands) in [((0, 3 * PAGE), 2), ((100 * PAGE, 2000 * PAGE), 950)] {
        let before = faulty.commands().1;
        cache.write_back_ranges(device, &[range]).unwrap();
        assert_eq!(faulty.commands().1 - before, commands);
    }
    assert_eq!(cache.statistics().dirty_pages, 48);
    let mut byte = [0];
    disk.peek(2 * PAGE, &mut byte);
    assert_eq!(byte, [9]);
}

#[test]
fn a_stream_larger_than_the_cache_leaves_the_pages_in_use_though_it_is_read_ahead() {
    let (_, faulty, cache, device) = setup(64, 256);
    for _ in 0..4 {
        for page in 0..100 {
            read(&cache, device, page * PAGE, 100);
        }
        for page in 0..70 {
            read(&cache, device, (200 + page) * PAGE, 100);
        }
    }
    // Twice over the same 48 MiB, in small reads that meet each page several times.
    for _ in 0..2 {
        for page in 1000..4000 {
            if page % 32 == 0 {
                cache.prefetch(device, (page + 16) * PAGE, 32 * PAGE);
            }
            for part in 0..4 {
                read(&cache, device, page * PAGE + part * 4096, 4096);
            }
        }
    }
    let before = faulty.commands().0;
    for page in 0..100 {
        read(&cache, device, page * PAGE, 100);
    }
    let missed = faulty.commands().0 - before;
    assert!(missed <= 5, "{missed} of 100 were lost to the stream");
}

/// A device that takes its time over writes, so that threads meet there.
struct Slow(RamDisk);

impl BlockDevice for Slow {
    fn blocks(&self) -> u64 {
        self.0.blocks()
    }

    fn block_size(&self) -> u32 {
        512
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        meanwhile();
        if let Command::Write { .. } = command {
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        self.0.execute(command, &mut || ())
    }
}

#[test]
fn what_one_writes_back_others_may_be_writing() {
    // Each thread has a sector of the same page: whoever carries it to the device, it is there when it was asked for.
    let disk = Arc::new(Slow(RamDisk::new(2048, 512)));
    let cache = TestCache::new(64 * PAGE_SIZE);
    let device = cache.attach(disk.clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (disk, cache) = (&disk, &cache);
            scope.spawn(move || {
                let at = thread * 512;
                for round in 0..300u32 {
                    cache.write(device, at, &[round as u8; 512], u64::MAX).unwrap();
                    match thread % 2 {
                        0 => cache.write_back(device).unwrap(),
                        _ => cache.write_back_ranges(device, &[(at, at + 512)]).unwrap(),
                    }
                    let mut there = [0; 512];
                    disk.0.peek(at, &mut there);
                    assert_eq!(there, [round as u8; 512], "thread {thread}, round {round}");
                }
            });
        }
    });
}

#[test]
fn what_a_disk_took_along_unflushed_is_in_nobodys_way() {
    let (_, faulty, cache, device) = setup(64, 64);
    cache.write(device, 0, &vec![6; 40 * PAGE_SIZE], u64::MAX).unwrap();
    cache.write_back(device).unwrap();
    faulty.pull(true);
    assert!(cache.flush(device).is_err());
    assert_eq!(cache.statistics().dirty_pages, 0);
    // Another disk gets the memory.
    let other = cache.attach(Arc::new(RamDisk::new(16384, 512))).unwrap();
    for page in 0..200 {
        read(&cache, other, page * PAGE, 100);
    }
}
