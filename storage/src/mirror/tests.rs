use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec;

use super::*;
use crate::test_devices::{Faults, FaultyDisk, Generator, PowerLog, RamDisk, Recorder};

type TestMirror = Mirror<parking_lot::RawMutex>;

const SIZE: u64 = 32 << 20;

fn disks() -> [(Arc<RamDisk>, Arc<FaultyDisk>); 2] {
    [1, 2].map(|seed| {
        let disk = Arc::new(RamDisk::new(SIZE / 512, 512));
        crate::format::divide(&*disk, SIZE / 512, [seed; 16]).unwrap();
        let faulty = Arc::new(FaultyDisk::new(disk.clone(), u64::from(seed), Faults::default()));
        (disk, faulty)
    })
}

fn devices(disks: &[(Arc<RamDisk>, Arc<FaultyDisk>); 2]) -> [Arc<dyn BlockDevice>; 2] {
    [disks[0].1.clone(), disks[1].1.clone()]
}

fn assemble(disks: &[(Arc<RamDisk>, Arc<FaultyDisk>); 2]) -> Result<TestMirror, MirrorError> {
    TestMirror::assemble(devices(disks).map(Some))
}

/// Whether both disks hold the same in the mirrored part.
fn equal(mirror: &TestMirror, disks: &[(Arc<RamDisk>, Arc<FaultyDisk>); 2]) -> bool {
    let piece = |number: usize, at: u64| {
        let mut piece = [0; 1 << 16];
        disks[number].0.peek(at, &mut piece);
        piece
    };
    (mirror.place.first()..mirror.place.end()).step_by(1 << 16).all(|at| piece(0, at) == piece(1, at))
}

fn write(mirror: &TestMirror, offset: u64, value: u8, length: usize) -> Result<(), DeviceError> {
    mirror.write((mirror.place.first() + offset) / 512, &[&vec![value; length]])
}

fn read(mirror: &TestMirror, offset: u64) -> Result<u8, DeviceError> {
    let mut block = [0; 512];
    mirror.read((mirror.place.first() + offset) / 512, &mut [&mut block])?;
    Ok(block[100])
}

fn resync(mirror: &TestMirror) {
    while mirror.resync().unwrap() != Step::Done {}
}

fn scrub(mirror: &TestMirror) {
    mirror.start_scrub().unwrap();
    while mirror.scrub().unwrap() != Step::Done {}
}

#[test]
fn a_disk_fails_comes_back_and_the_other_fails() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    write(&mirror, 0, 1, 65536).unwrap();
    write(&mirror, 5 << 20, 2, 65536).unwrap();
    assert!(equal(&mirror, &disks));
    disks[0].1.pull(true);
    write(&mirror, 5 << 20, 3, 65536).unwrap();
    assert_eq!(mirror.status().members, [Member::Failed, Member::Good]);
    assert_eq!((read(&mirror, 0), read(&mirror, 5 << 20)), (Ok(1), Ok(3)));
    // The last good disk stays.
    assert!(mirror.fail(1).is_err());
    disks[0].1.pull(false);
    mirror.replace(0, disks[0].1.clone(), None).unwrap();
    // Only what it lacks is copied, and writes meanwhile go to both.
    assert!(mirror.status().dirty_regions <= 2);
    write(&mirror, 9 << 20, 4, 65536).unwrap();
    resync(&mirror);
    assert_eq!(mirror.status().members, [Member::Good; 2]);
    assert!(equal(&mirror, &disks));
    disks[1].1.pull(true);
    assert_eq!((read(&mirror, 0), read(&mirror, 5 << 20), read(&mirror, 9 << 20)), (Ok(1), Ok(3), Ok(4)));
    write(&mirror, 0, 5, 512).unwrap();
    disks[1].1.pull(false);
    // After a restart the disk that missed something is brought up to date, not believed.
    drop(mirror);
    let mirror = assemble(&disks).unwrap();
    assert_eq!(mirror.status().members, [Member::Good, Member::Resyncing]);
    assert_eq!(read(&mirror, 0), Ok(5));
    resync(&mirror);
    assert!(equal(&mirror, &disks));
    assert_eq!(mirror.status().members, [Member::Good; 2]);
}

#[test]
fn a_new_disk_is_filled() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    write(&mirror, 3 << 20, 9, 1 << 20).unwrap();
    mirror.fail(1).unwrap();
    let fresh = self::disks();
    assert_eq!(mirror.replace(1, fresh[1].1.clone(), None), Err(MirrorError::Foreign));
    mirror.replace(1, fresh[1].1.clone(), Some(99)).unwrap();
    resync(&mirror);
    assert!(equal(&mirror, &[disks[0].clone(), fresh[1].clone()]));
    // An unequal start is made equal in the same way.
    let disks = self::disks();
    disks[0].0.poke(20 << 20, &[1; 1000]);
    let mirror = TestMirror::create(devices(&disks), [8; 16], false).unwrap();
    resync(&mirror);
    assert!(equal(&mirror, &disks));
}

#[test]
fn separate_ways_are_refused() {
    let disks = disks();
    drop(TestMirror::create(devices(&disks), [7; 16], true).unwrap());
    let [one, two] = devices(&disks);
    let alone = TestMirror::assemble([Some(one.clone()), None]).unwrap();
    write(&alone, 0, 1, 512).unwrap();
    drop(alone);
    let alone = TestMirror::assemble([Some(two.clone()), None]).unwrap();
    write(&alone, 0, 2, 512).unwrap();
    drop(alone);
    assert!(matches!(assemble(&disks), Err(MirrorError::SplitBrain)));
    // One at a time still works: somebody who knows may choose. Then the other may be put back as a new disk.
    assert!(TestMirror::assemble([Some(one), None]).is_ok());
    assert!(matches!(TestMirror::assemble([None, None]), Err(MirrorError::NoArray)));
}

#[test]
fn the_order_of_the_channels_does_not_matter() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    write(&mirror, 0, 1, 512).unwrap();
    mirror.fail(0).unwrap();
    write(&mirror, 0, 2, 512).unwrap();
    drop(mirror);
    let [one, two] = devices(&disks);
    let mirror = TestMirror::assemble([Some(two), Some(one)]).unwrap();
    assert_eq!(read(&mirror, 0), Ok(2));
    assert_eq!(mirror.status().members, [Member::Resyncing, Member::Good]);
    // The good disk alone is enough, the stale one is not.
    drop(mirror);
    let [one, two] = devices(&disks);
    assert!(TestMirror::assemble([None, Some(two)]).is_ok());
    assert!(matches!(TestMirror::assemble([Some(one), None]), Err(MirrorError::Incomplete)));
}

#[test]
fn media_errors_are_repaired_from_the_twin() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    write(&mirror, 0, 6, 4 << 20).unwrap();
    mirror.maintain().unwrap();
    mirror.maintain().unwrap();
    assert_eq!(mirror.status().dirty_regions, 0);
    let spoil = |disk: usize, offset: u64| disks[disk].1.spoil((mirror.place.first() + offset) / 512);
    let places = || (0..4 << 20).step_by(65536);
    // The disk that is asked first, in turn by MiB of the disk.
    let asked = |offset: u64| ((mirror.place.first() + offset) >> 20) as usize % 2;
    places().for_each(|offset| spoil(asked(offset), offset));
    for _ in 0..2 {
        places().for_each(|offset| assert_eq!(read(&mirror, offset), Ok(6)));
    }
    assert_eq!(mirror.status().repaired, [32, 32]);
    assert_eq!(mirror.status().members, [Member::Good; 2]);
    // A disk that cannot be repaired stays in use where it can be read.
    disks[0].1.set_faults(Faults { read: 1, ..Faults::default() });
    places().for_each(|offset| assert_eq!(read(&mirror, offset), Ok(6)));
    assert_eq!(mirror.status().members, [Member::Good; 2]);
    disks[0].1.set_faults(Faults::default());
    // A scrub repairs what nobody reads.
    spoil(0, (5 << 20) + 512);
    spoil(1, (7 << 20) + 1024);
    // A scrub finds what nobody read.
    disks[1].0.poke(mirror.place.first() + (6 << 20) + 5, &[1]);
    scrub(&mirror);
    assert_eq!((mirror.status().differences, mirror.status().scrubbed), (1, true));
    assert_eq!(mirror.status().repaired, [33, 33]);
    assert!(equal(&mirror, &disks));
}

#[test]
fn random_failures_never_reach_the_reader() {
    for seed in 0..4 {
        let mut random = Generator::new(seed);
        let disks = disks();
        let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
        let mut model = [0u8; 200];
        for step in 0..1500u64 {
            let place = random.below(200);
            match random.below(20) {
                0 => mirror.maintain().unwrap(),
                1 if mirror.status().members == [Member::Good; 2] => {
                    let victim = random.below(2) as usize;
                    disks[victim].1.pull(true);
                }
                2..5 => {
                    for (index, disk) in disks.iter().enumerate() {
                        disk.1.pull(false);
                        if mirror.status().members[index] == Member::Failed {
                            mirror.replace(index, disk.1.clone(), None).unwrap();
                        }
                    }
                }
                5..9 => drop(mirror.resync()),
                9..14 => {
                    model[place as usize] = step as u8;
                    write(&mirror, place * 90_112, step as u8, 4096).unwrap();
                }
                _ => assert_eq!(read(&mirror, place * 90_112), Ok(model[place as usize])),
            }
            // A disk that was pulled is out only when the mirror has noticed; put one that was not back in.
            if mirror.status().members == [Member::Good; 2] && random.once_in(3) {
                disks.iter().for_each(|disk| disk.1.pull(false));
            }
        }
    }
}

/// Notes which commands are in flight at once.
struct Watched {
    disk: Arc<RamDisk>,
    in_flight: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}

impl BlockDevice for Watched {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        let result = self.disk.execute(command, meanwhile);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        result
    }
}

#[test]
fn both_disks_write_at_once() {
    let (in_flight, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let watched = disks().map(|(disk, _)| {
        Arc::new(Watched { disk, in_flight: in_flight.clone(), most: most.clone() }) as Arc<dyn BlockDevice>
    });
    let mirror = TestMirror::create(watched, [7; 16], true).unwrap();
    most.store(0, Ordering::Relaxed);
    write(&mirror, 0, 1, 4096).unwrap();
    assert_eq!(most.swap(0, Ordering::Relaxed), 2);
    mirror.flush().unwrap();
    assert_eq!(most.swap(0, Ordering::Relaxed), 2);
    // And what goes beside a write goes beside both halves of it.
    let block = mirror.place.first() / 512;
    let mut beside = Err(DeviceError::Gone);
    mirror
        .execute(Command::Write { block, buffers: &[&[1; 512]] }, &mut || {
            beside = mirror.write(block + 8, &[&[2; 512]]);
        })
        .unwrap();
    assert_eq!(beside, Ok(()));
    assert_eq!(most.load(Ordering::Relaxed), 4);
}

#[test]
fn nothing_is_acknowledged_before_the_failure_is_written_down() {
    for (victim, survivor) in [(1, 0), (0, 1)] {
        let disks = disks();
        let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
        write(&mirror, 0, 1, 512).unwrap();
        disks[victim].1.pull(true);
        disks[survivor].1.set_faults(Faults { flush: 1, ..Faults::default() });
        assert!(write(&mirror, 0, 2, 512).is_err());
        assert!(write(&mirror, 0, 3, 512).is_err() && mirror.flush().is_err());
        disks[survivor].1.set_faults(Faults::default());
        write(&mirror, 0, 4, 512).unwrap();
        drop(mirror);
        disks[victim].1.pull(false);
        let mirror = assemble(&disks).unwrap();
        assert_eq!(mirror.status().members[survivor], Member::Good);
        assert_eq!((read(&mirror, 0), mirror.status().members[victim]), (Ok(4), Member::Resyncing));
    }
}

#[test]
fn a_disk_that_was_replaced_is_not_believed() {
    let old = disks();
    let mirror = TestMirror::create(devices(&old), [7; 16], true).unwrap();
    write(&mirror, 0, 1, 512).unwrap();
    mirror.fail(1).unwrap();
    let new = disks();
    mirror.replace(1, new[1].1.clone(), Some(50)).unwrap();
    resync(&mirror);
    write(&mirror, 0, 2, 512).unwrap();
    mirror.maintain().and_then(|()| mirror.maintain()).unwrap();
    assert_eq!(mirror.status().dirty_regions, 0);
    // It comes back into the running array, and at a start.
    mirror.fail(1).unwrap();
    assert_eq!(mirror.is_returning(1, &*old[1].1), Ok(false));
    assert_eq!(mirror.is_returning(1, &*new[1].1), Ok(true));
    drop(mirror);
    let [first, stale] = devices(&old);
    let mirror = TestMirror::assemble([Some(stale.clone()), Some(first.clone())]).unwrap();
    assert_eq!((mirror.status().members, mirror.index_of(&stale)), ([Member::Good, Member::Failed], None));
    assert_eq!(read(&mirror, 0), Ok(2));
    drop(mirror);
    // Had it been used meanwhile, somebody would have to choose.
    drop(TestMirror::assemble([Some(stale.clone()), None]).unwrap());
    assert!(matches!(
        TestMirror::assemble([Some(stale.clone()), Some(first.clone())]),
        Err(MirrorError::SplitBrain)
    ));
    let mirror = TestMirror::choose(stale, 51).unwrap();
    assert_eq!((read(&mirror, 0), mirror.status().members), (Ok(1), [Member::Failed, Member::Good]));
    assert!(matches!(mirror.replace(0, first.clone(), None), Err(MirrorError::SplitBrain)));
    mirror.replace(0, first, Some(52)).unwrap();
    resync(&mirror);
    assert!(equal(&mirror, &old));
}

#[test]
fn a_disk_that_does_not_know_that_it_failed_is_not_believed() {
    let disks = disks();
    drop(TestMirror::create(devices(&disks), [7; 16], true).unwrap());
    let [one, two] = devices(&disks);
    // The first goes on alone; the second starts as a pair with a copy of the first from before.
    let copy: Arc<dyn BlockDevice> = Arc::new(disks[0].0.duplicate());
    drop(TestMirror::assemble([Some(one.clone()), None]).unwrap());
    for _ in 0..3 {
        drop(TestMirror::assemble([Some(copy.clone()), Some(two.clone())]).unwrap());
    }
    assert!(matches!(TestMirror::assemble([Some(one), Some(two.clone())]), Err(MirrorError::SplitBrain)));
    // And two disks in the same place are no pair.
    let twin: Arc<dyn BlockDevice> = Arc::new(disks[1].0.duplicate());
    assert!(matches!(TestMirror::assemble([Some(twin), Some(two)]), Err(MirrorError::Strangers)));
}

#[test]
fn a_write_that_fails_on_both_leaves_one_that_counts() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    write(&mirror, 0, 1, 512).unwrap();
    // It got through to the second before that failed.
    disks.iter().for_each(|disk| disk.1.set_faults(Faults { write: 1, ..Faults::default() }));
    disks[1].0.poke(mirror.place.first(), &[2; 512]);
    assert!(write(&mirror, 0, 2, 512).is_err());
    disks.iter().for_each(|disk| disk.1.set_faults(Faults::default()));
    for _ in 0..4 {
        assert_eq!(read(&mirror, 0), Ok(1));
    }
    resync(&mirror);
    assert!(equal(&mirror, &disks));
    assert_eq!(mirror.status().members, [Member::Good; 2]);
}

#[test]
fn what_cannot_be_copied_is_tried_again() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    write(&mirror, 3 << 20, 9, 1 << 20).unwrap();
    mirror.fail(1).unwrap();
    let fresh = self::disks();
    mirror.replace(1, fresh[1].1.clone(), Some(99)).unwrap();
    disks[0].1.spoil((mirror.place.first() + (3 << 20)) / 512 + 7);
    while mirror.resync().unwrap() == Step::More {}
    let status = mirror.status();
    assert_eq!((status.members[1], status.lacking.0, status.unreadable), (Member::Resyncing, 1, 1));
    // A place that neither has is an error, not zeros; beside it all is there.
    let mut block = [0; 512];
    let first = (mirror.place.first() + (3 << 20)) / 512;
    assert_eq!(mirror.read(first + 7, &mut [&mut block]), Err(DeviceError::Medium));
    assert_eq!(mirror.read(first + 8, &mut [&mut block]), Ok(()));
    mirror.write(first + 7, &[&[5; 512]]).unwrap();
    resync(&mirror);
    assert!(equal(&mirror, &[disks[0].clone(), fresh[1].clone()]));
}

/// A disk whose writes wait while it is shut.
struct Gate {
    disk: Arc<FaultyDisk>,
    shut: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
    waiting: AtomicU32,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }
}

impl BlockDevice for Gate {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        // Records pass: they are in the first MiBs.
        if let Command::Write { block, .. } = &command
            && *block > 4 << 11
        {
            let mut shut = self.shut.lock().unwrap();
            self.waiting.fetch_add(u32::from(*shut), Ordering::SeqCst);
            while *shut {
                shut = self.changed.wait(shut).unwrap();
            }
        }
        self.disk.execute(command, meanwhile)
    }
}

#[test]
fn a_write_that_began_before_a_disk_came_back_is_copied_too() {
    let disks = disks();
    let gate = Arc::new(Gate {
        disk: disks[0].1.clone(),
        shut: std::sync::Mutex::new(false),
        changed: std::sync::Condvar::new(),
        waiting: AtomicU32::new(0),
    });
    let mirror = TestMirror::create([gate.clone(), disks[1].1.clone()], [7; 16], true).unwrap();
    let mirror = Arc::new(mirror);
    mirror.fail(1).unwrap();
    write(&mirror, 5 << 20, 1, 65536).unwrap();
    gate.set(true);
    let writer = mirror.clone();
    let writing = std::thread::spawn(move || write(&writer, 5 << 20, 2, 65536));
    while gate.waiting.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    // The write goes to the first disk only, and has not arrived there.
    mirror.replace(1, disks[1].1.clone(), None).unwrap();
    let copier = mirror.clone();
    let copying = std::thread::spawn(move || resync(&copier));
    for _ in 0..1000 {
        std::thread::yield_now();
    }
    gate.set(false);
    writing.join().unwrap().unwrap();
    copying.join().unwrap();
    assert_eq!(mirror.status().members, [Member::Good; 2]);
    assert!(equal(&mirror, &disks));
    assert_eq!(read(&mirror, 5 << 20), Ok(2));
}

#[test]
fn what_was_let_go_of_is_left_alone() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], false).unwrap();
    write(&mirror, 0, 1, 512).unwrap();
    assert_eq!(mirror.resync(), Ok(Step::More));
    mirror.release();
    let before = disks.each_ref().map(|disk| disk.0.image());
    assert!(mirror.resync().is_err());
    assert_eq!(
        (read(&mirror, 0), write(&mirror, 0, 2, 512)),
        (Err(DeviceError::Gone), Err(DeviceError::Gone))
    );
    assert_eq!(mirror.flush(), Err(DeviceError::Gone));
    let _ = (mirror.maintain(), mirror.fail(1));
    assert!(before == disks.each_ref().map(|disk| disk.0.image()));
}

#[test]
fn a_write_in_progress_keeps_its_bit() {
    let disks = disks();
    let mirror = TestMirror::create(devices(&disks), [7; 16], true).unwrap();
    let block = mirror.place.first() / 512;
    let mut bits = 0;
    mirror
        .execute(Command::Write { block, buffers: &[&[1; 512]] }, &mut || {
            for _ in 0..3 {
                mirror.maintain().unwrap();
            }
            bits = mirror.status().dirty_regions;
        })
        .unwrap();
    assert_eq!(bits, 1);
    mirror.maintain().and_then(|()| mirror.maintain()).unwrap();
    assert_eq!(mirror.status().dirty_regions, 0);
    // A stream has regions marked ahead of it.
    (0..3).for_each(|region| write(&mirror, region << 20, 1, 4096).unwrap());
    assert!(mirror.status().dirty_regions > 10);
}

/// Disks of so many MiB with the contents of others, and different bytes at a place behind them.
fn moved(
    disks: &[(Arc<RamDisk>, Arc<FaultyDisk>); 2],
    mebibytes: u64,
) -> [(Arc<RamDisk>, Arc<FaultyDisk>); 2] {
    [0, 1].map(|number| {
        let disk = RamDisk::new(mebibytes * 2048, 512);
        disks[number].0.for_each_chunk(|offset, bytes| disk.poke(offset, bytes));
        disk.poke((mebibytes - 3) << 20, &[number as u8 + 1; 512]);
        let disk = Arc::new(disk);
        (disk.clone(), Arc::new(FaultyDisk::new(disk, number as u64, Faults::default())))
    })
}

#[test]
fn an_array_grows_and_its_new_room_becomes_equal() {
    let small = disks();
    let mirror = TestMirror::create(devices(&small), [7; 16], true).unwrap();
    write(&mirror, 0, 1, 65536).unwrap();
    assert_eq!(mirror.enlarge(), Err(MirrorError::Incomplete));
    assert_eq!((mirror.maintain(), mirror.maintain()), (Ok(()), Ok(())));
    assert_eq!(mirror.enlarge(), Ok(false));
    drop(mirror);

    let large = moved(&small, 75);
    let mirror = assemble(&large).unwrap();
    // A comparison of all of it does not go on, but is no hindrance.
    mirror.start_scrub().unwrap();
    mirror.scrub().unwrap();
    let old = mirror.place;
    assert_eq!(mirror.enlarge(), Ok(true));
    assert_eq!(write(&mirror, 0, 2, 512), Err(DeviceError::Gone));
    assert_eq!(mirror.scrub(), Ok(Step::Done));

    // A start in the middle of it takes it up again.
    for _ in 0..2 {
        let mirror = assemble(&large).unwrap();
        assert_eq!((mirror.place.first(), mirror.place.end()), (old.first(), 74 << 20));
        assert_eq!(mirror.status().members, [Member::Good; 2]);
        assert_eq!(mirror.scrub(), Ok(Step::More));
        let status = mirror.status();
        let (done, all) = status.scrub.unwrap();
        assert!(status.settles && done > (27 << 20) && done < all);
        assert!(!equal(&mirror, &large));
    }
    let mirror = assemble(&large).unwrap();
    while mirror.scrub().unwrap() != Step::Done {}
    let status = mirror.status();
    assert_eq!((status.scrub, status.differences, status.scrubbed), (None, 0, false));
    assert!(equal(&mirror, &large));
    assert_eq!((read(&mirror, 0), read(&mirror, (72 << 20) - (2 << 20))), (Ok(1), Ok(1)));
    // That it is done is known to the next start.
    let mirror = assemble(&large).unwrap();
    assert_eq!(mirror.scrub(), Ok(Step::Done));
    assert_eq!(mirror.status().scrub, None);

    // Whoever stops it does not want it.
    let larger = moved(&large, 100);
    assert_eq!(assemble(&larger).unwrap().enlarge(), Ok(true));
    let mirror = assemble(&larger).unwrap();
    mirror.scrub().unwrap();
    mirror.stop_scrub();
    assert_eq!((mirror.scrub(), mirror.status().scrub), (Ok(Step::Done), None));
    scrub(&mirror);
    // And two blocks of the tables that were at the disks' ends.
    assert_eq!(mirror.status().differences, 1 + 2);
    assert!(equal(&mirror, &larger));
}

#[test]
fn new_room_counts_as_equal_when_it_is_safe() {
    let small = disks();
    let mirror = TestMirror::create(devices(&small), [7; 16], true).unwrap();
    drop(mirror);
    let large = moved(&small, 36);
    assert_eq!(assemble(&large).unwrap().enlarge(), Ok(true));
    let log = PowerLog::new();
    let recorders = [0, 1].map(|number| Recorder::new(&log, number, large[number].0.duplicate()));
    let pair = recorders.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
    let mirror = TestMirror::assemble(pair.map(Some)).unwrap();
    while mirror.scrub().unwrap() != Step::Done {}
    drop(mirror);
    let mut random = Generator::new(3);
    let mut done = 0;
    for cut in 0..=log.now() {
        for _ in 0..6 {
            let left = recorders.each_ref().map(|recorder| {
                let disk = Arc::new(recorder.cut(cut, &mut random));
                (disk.clone(), Arc::new(FaultyDisk::new(disk, 0, Faults::default())))
            });
            let mirror = assemble(&left).unwrap();
            resync(&mirror);
            done += u32::from(mirror.scrub().unwrap() == Step::Done);
            while mirror.scrub().unwrap() != Step::Done {}
            assert!(equal(&mirror, &left), "cut at {cut}");
        }
    }
    assert!(done > 0);
}

#[test]
fn a_disk_that_was_left_with_the_old_size_comes_back_while_the_other_runs() {
    let table = |disks: &[(Arc<RamDisk>, Arc<FaultyDisk>); 2], number: usize| {
        let image = disks[number].0.duplicate();
        move |to: &RamDisk| {
            for (start, length) in [(0, 17_408), (to.bytes() - 16_896, 16_896)] {
                let mut bytes = vec![0; length];
                image.peek(start, &mut bytes);
                to.poke(start, &bytes);
            }
        }
    };
    for (behind, size) in [(0, 60), (1, 60), (1, 36)] {
        let small = disks();
        let mirror = TestMirror::create(devices(&small), [7; 16], true).unwrap();
        write(&mirror, 0, 1, 65536).unwrap();
        mirror.maintain().and_then(|()| mirror.maintain()).unwrap();
        drop(mirror);
        let large = moved(&small, size);
        let old_table = table(&large, behind);
        assert_eq!(assemble(&large).unwrap().enlarge(), Ok(true));
        old_table(&large[behind].0);
        let place = |number: usize| Place::of(&*large[number].0).unwrap();
        assert!(place(0) != place(1) && place(0).starts_like(&place(1)));

        // The one with the new size runs, and what it writes lies behind the old end, too.
        let [one, two] = devices(&large);
        let mut alone = [Some(one.clone()), Some(two.clone())];
        alone[behind] = None;
        let mirror = TestMirror::assemble(alone).unwrap();
        let far = mirror.place.end() - mirror.place.first() - 65536;
        write(&mirror, 0, 2, 65536).unwrap();
        write(&mirror, far, 3, 65536).unwrap();
        let late = [one, two][behind].clone();
        assert_eq!(mirror.is_returning(behind, &*late), Ok(true));
        mirror.replace(behind, late, None).unwrap();
        assert_eq!(place(0), place(1));
        assert!(mirror.status().dirty_regions < 5);
        resync(&mirror);
        while mirror.scrub().unwrap() != Step::Done {}
        assert_eq!(mirror.status().members, [Member::Good; 2]);
        assert!(equal(&mirror, &large));

        // Had it been used by itself, somebody would have to choose, whatever its size.
        mirror.maintain().and_then(|()| mirror.maintain()).unwrap();
        drop(mirror);
        let apart = large.each_ref().map(|disk| {
            let disk = Arc::new(disk.0.duplicate());
            (disk.clone(), Arc::new(FaultyDisk::new(disk, 0, Faults::default())))
        });
        old_table(&apart[behind].0);
        let [one, two] = devices(&apart);
        let mut pair = [Some(one.clone()), Some(two.clone())];
        let stray = pair[behind].take();
        let mirror = TestMirror::assemble(pair).unwrap();
        let mut pair = [None, None];
        pair[behind] = stray.clone();
        drop(TestMirror::assemble(pair).unwrap());
        let stray = stray.unwrap();
        assert_eq!(mirror.is_returning(behind, &*stray), Err(MirrorError::SplitBrain));
        assert_eq!(mirror.replace(behind, stray, None), Err(MirrorError::SplitBrain));
        drop(mirror);
        assert!(matches!(assemble(&apart), Err(MirrorError::SplitBrain)));

        // A disk with no room for the array's end is not taken.
        let mirror = assemble(&large).unwrap();
        mirror.fail(behind).unwrap();
        let short = RamDisk::new(SIZE / 512, 512);
        let mut bytes = vec![0; (SIZE - (1 << 20)) as usize];
        large[behind].0.peek(0, &mut bytes);
        short.poke(0, &bytes);
        old_table(&short);
        crate::partition::write_gpt(&short, &crate::partition::plan(SIZE / 512, 512).unwrap(), [1; 16])
            .unwrap();
        assert_eq!(mirror.is_returning(behind, &short), Err(MirrorError::Layout));
        assert_eq!(mirror.replace(behind, Arc::new(short), None), Err(MirrorError::Layout));
    }
}

#[test]
fn larger_regions_go_with_a_larger_array() {
    let pair = |mebibytes: u64, from: Option<&[(Arc<RamDisk>, Arc<FaultyDisk>); 2]>| match from {
        Some(disks) => moved(disks, mebibytes),
        None => [1, 2].map(|seed| {
            let disk = Arc::new(RamDisk::new(mebibytes * 2048, 512));
            crate::format::divide(&*disk, mebibytes * 2048, [seed; 16]).unwrap();
            (disk.clone(), Arc::new(FaultyDisk::new(disk, u64::from(seed), Faults::default())))
        }),
    };
    let small = pair(20 << 10, None);
    let mirror = TestMirror::create(devices(&small), [7; 16], true).unwrap();
    assert_eq!(mirror.place.region_shift, 20);
    write(&mirror, 19 << 30, 1, 512).unwrap();
    assert_eq!((mirror.maintain(), mirror.maintain()), (Ok(()), Ok(())));
    drop(mirror);
    let large = pair(90 << 10, Some(&small));
    let behind = pair(90 << 10, Some(&small));
    assert_eq!(assemble(&large).unwrap().enlarge(), Ok(true));
    // A disk that was left with the old size, and smaller regions, lacks no more for that.
    for runs in [true, false] {
        let disks = [0, 1].map(|number: usize| {
            let disk = Arc::new([&large, &behind][number][number].0.duplicate());
            (disk.clone(), Arc::new(FaultyDisk::new(disk, 0, Faults::default())))
        });
        let [one, two] = devices(&disks);
        let mut mirror = TestMirror::assemble([Some(one), None]).unwrap();
        write(&mirror, 80 << 30, 7, 512).unwrap();
        if runs {
            mirror.replace(1, two, None).unwrap();
        } else {
            mirror = assemble(&disks).unwrap();
        }
        assert_eq!((mirror.place.region_shift, mirror.status().lacking), (22, (1, 1)));
        resync(&mirror);
        let mut byte = [0];
        disks[1].0.peek(mirror.place.first() + (80 << 30), &mut byte);
        assert_eq!(byte, [7]);
    }
    let mirror = assemble(&large).unwrap();
    assert_eq!((mirror.place.region_shift, mirror.status().members), (22, [Member::Good; 2]));
    // What a disk missed is found again.
    large[1].1.pull(true);
    write(&mirror, 19 << 30, 3, 512).unwrap();
    write(&mirror, 80 << 30, 4, 512).unwrap();
    drop(mirror);
    large[1].1.pull(false);
    let mirror = assemble(&large).unwrap();
    assert_eq!(mirror.status().lacking.1, 2);
    resync(&mirror);
    for (offset, value) in [(19 << 30, 3), (80 << 30, 4)] {
        let mut byte = [0];
        large[1].0.peek(mirror.place.first() + offset, &mut byte);
        assert_eq!(byte, [value]);
    }
}
