//! An array and its volume grow, and the power goes: at every event, with any part of what the disks' caches held, again while it
//! is recovered from, with one disk alone for a while, which comes up with the other or sees it come back while it runs.
//!
//! `STORAGE_CUTS` sets the number of cuts beyond one for each event, `STORAGE_SEED` where to start.

use std::sync::{Arc, OnceLock};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::mirror::{self, Member, Mirror, MirrorError, Step};
use crate::partition::usable_end;

type Array = Arc<Mirror<Lock>>;
type Pair = [Arc<dyn BlockDevice>; 2];

/// Bytes of the file that is written to when the volume has just grown, and of each piece.
const BESIDE: usize = 800 << 10;
const PIECE: usize = 40 << 10;

fn as_device(array: &Array) -> Arc<dyn BlockDevice> {
    array.clone()
}

fn assemble(disks: &Pair) -> Array {
    Arc::new(Mirror::assemble(disks.clone().map(Some)).unwrap())
}

/// Brings all of it to rest.
fn settle(array: &Array) {
    while array.resync().unwrap() != Step::Done {}
    while array.scrub().unwrap() != Step::Done {}
    array.maintain().unwrap();
    array.maintain().unwrap();
    assert_eq!((array.status().members, array.status().dirty_regions), ([Member::Good; 2], 0));
}

fn assert_equal(disks: &[Arc<RamDisk>; 2]) {
    let end = disks.each_ref().map(|disk| {
        let data = Layout::read(&**disk).unwrap().data().unwrap();
        (data.first + data.blocks) * 512
    });
    assert_eq!(end[0], end[1]);
    for at in (2 * MEBIBYTE..end[0]).step_by(1 << 16) {
        let pieces = disks.each_ref().map(|disk| {
            let mut piece = [0; 1 << 16];
            disk.peek(at, &mut piece);
            piece
        });
        assert!(pieces[0] == pieces[1], "the halves differ near {at}");
    }
}

/// The checker finds nothing on a disk that is not in use; nor does a foreign one, which is asked now and then: it takes its time.
fn judge_disk(disk: &Arc<RamDisk>, random: &mut Generator) {
    if random.once_in(4) {
        judge_data(disk);
    }
    let device: Arc<dyn BlockDevice> = disk.clone();
    let part = Layout::read(&*device).unwrap().data().unwrap().open(&device).unwrap();
    let report = crate::check::check(&Arc::new(Cache::<Lock>::new(2 << 20)), part, false, &mut |_| ());
    assert!(report.unwrap().is_clean());
}

fn late() -> Vec<u8> {
    content(3)
}

fn beside() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| fill(&mut Generator::new(77), BESIDE as u64))
}

/// What all but fills the volume; as much of it as has room.
fn filler() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| fill(&mut Generator::new(5), SMALL))
}

/// The content of a file, if it is there.
fn find(volume: &Volume<Lock>, name: &str) -> Option<Vec<u8>> {
    let node = volume.open(&units(name)).ok()?;
    let size = volume.metadata(node).unwrap().size;
    let mut found = vec![];
    while (found.len() as u64) < size {
        found.extend(volume.read(node, found.len() as u64, 1 << 18).unwrap().to_vec());
    }
    assert_eq!(found.len() as u64, size);
    volume.close(node).unwrap();
    Some(found)
}

fn open_or_create(volume: &Volume<Lock>, name: &str) -> crate::volume::Node {
    let created = volume.create(&units(name), NodeKind::File, FileAttributes(0));
    created.or_else(|_| volume.open(&units(name))).unwrap()
}

/// What a client was promised.
enum Promise {
    /// The volume has its size.
    Grown,
    /// So many bytes of the file that was written to beside the growth.
    Beside(usize),
    /// The file that was written when this disk was alone.
    Late(usize),
    /// All that the disk in this place has, the other has as well.
    Joined(usize),
}

/// The disks between two starts, and what has to be there.
#[derive(Clone)]
struct Case {
    disks: [Arc<RamDisk>; 2],
    before: u64,
    after: u64,
    beside: usize,
    /// Which disk has what was written when one was alone.
    late: [bool; 2],
    serial: u64,
}

/// How often what was tried.
#[derive(Debug, Default)]
struct Seen {
    /// The volume was as before, or grown.
    sizes: [u32; 2],
    /// The disks were divided differently.
    apart: u32,
    alone: u32,
    /// Came back while the other ran, and when it was divided differently.
    returned: u32,
    returned_apart: u32,
    /// Each had been alone, and that was said.
    split: u32,
    /// One was refused because it was alone and lacked the other's last record.
    older: u32,
    cuts: u32,
}

impl Case {
    /// Does something that may be cut off.
    fn phase(
        &mut self,
        random: &mut Generator,
        seen: &mut Seen,
        body: impl FnOnce(&Case, &Pair, &mut Generator, &mut Seen, &mut dyn FnMut(Promise)),
    ) {
        let log = PowerLog::new();
        let cut = random.once_in(2);
        let recorders = [0, 1].map(|number| Recorder::new(&log, number, self.disks[number].duplicate()));
        let pair = [0, 1].map(|number| -> Arc<dyn BlockDevice> {
            if cut { recorders[number].clone() } else { self.disks[number].clone() }
        });
        let mut promises = vec![];
        body(self, &pair, random, seen, &mut |promise| promises.push((log.now(), promise)));
        let mut moment = log.now();
        if cut {
            moment = random.below(log.now() + 1);
            self.disks = recorders.each_ref().map(|disk| Arc::new(disk.cut(moment, random)));
            seen.cuts += 1;
        }
        for (_, promise) in promises.iter().filter(|(made, _)| *made <= moment) {
            self.promised(promise);
        }
    }

    fn promised(&mut self, promise: &Promise) {
        match *promise {
            Promise::Grown => {}
            Promise::Beside(bytes) => self.beside = self.beside.max(bytes),
            Promise::Late(number) => self.late[number] = true,
            Promise::Joined(source) => self.late = [self.late[source]; 2],
        }
    }

    /// All that has to be on the volume, which the disk in this place has a half of, is there by replay alone.
    fn check(&self, volume: &Volume<Lock>, number: usize) {
        check_files(volume);
        let found = find(volume, "filler").unwrap();
        assert!(filler().starts_with(&found) && found.len() as u64 > 9 * MEBIBYTE);
        let late_one = find(volume, "late");
        assert!(!self.late[number] || late_one.as_ref() == Some(&late()));
        assert!(late_one.is_none_or(|found| late().starts_with(&found)));
        let found = find(volume, "beside").unwrap_or_default();
        assert!(found.len() >= self.beside && beside().starts_with(&found), "{} bytes beside", found.len());
        let size = volume.space().unwrap().total;
        assert!(size == self.before || size == self.after, "{size}");
    }

    fn ends(&self) -> [u64; 2] {
        self.disks.each_ref().map(|disk| Layout::read(&**disk).unwrap().data().unwrap().blocks)
    }

    /// One disk comes up alone and works; perhaps the other comes back meanwhile.
    fn alone(&mut self, number: usize, random: &mut Generator, seen: &mut Seen) {
        let apart = self.ends()[0] != self.ends()[1];
        self.phase(random, seen, |case, pair, random, seen, promise| {
            let known = mirror::examine(&*pair[number]).unwrap().unwrap();
            let others = mirror::examine(&*pair[1 - number]).unwrap();
            let mut disks = [None, None];
            disks[number] = Some(pair[number].clone());
            let array: Array = match Mirror::assemble(disks) {
                Ok(array) => Arc::new(array),
                Err(error) => {
                    assert!(error == MirrorError::Incomplete && known.own() != Member::Good);
                    return;
                }
            };
            seen.alone += 1;
            let volume = mount_divided(&as_device(&array));
            case.check(&volume, number);
            let write_late = |promise: &mut dyn FnMut(Promise)| {
                let node = open_or_create(&volume, "late");
                volume.write(node, 0, &late()).unwrap();
                volume.flush(node).unwrap();
                volume.close(node).unwrap();
                promise(Promise::Late(number));
            };
            write_late(promise);
            // It takes two.
            array.maintain().unwrap();
            assert_eq!(array.enlarge(), Err(MirrorError::Incomplete));
            if random.once_in(2) {
                let other = pair[1 - number].clone();
                let others = others.unwrap();
                match array.replace(1 - number, other.clone(), None) {
                    Ok(()) => {
                        assert!(others.twin() != Member::Failed);
                        let ends = pair
                            .each_ref()
                            .map(|disk| Layout::read(&**disk).unwrap().data().map(|data| data.blocks));
                        assert!(ends[0] == ends[1] || ends[1 - number].is_none(), "{ends:?}");
                        seen.returned += 1;
                        seen.returned_apart += u32::from(apart);
                        while array.resync().unwrap() == Step::More {
                            if random.once_in(10) {
                                write_late(promise);
                            }
                        }
                        assert_eq!(array.status().members, [Member::Good; 2]);
                        promise(Promise::Joined(number));
                    }
                    Err(MirrorError::SplitBrain) => {
                        assert!(others.twin() == Member::Failed || others.generation > known.generation);
                        seen.split += 1;
                    }
                    // It was replaced, and is from before.
                    Err(error) => assert!(error == MirrorError::Foreign && others.serials != known.serials),
                }
            }
            volume.unmount().unwrap();
        });
    }

    /// Makes an array again of what each went its own way with, as the console does.
    fn choose(&self, pair: &Pair, promise: &mut dyn FnMut(Promise)) -> (Array, usize) {
        let good = |number: usize| mirror::examine(&*pair[number]).unwrap().unwrap().own() == Member::Good;
        let kept = usize::from(self.late[1] && good(1) || !good(0));
        let array: Array = Arc::new(Mirror::choose(pair[kept].clone(), self.serial).unwrap());
        self.refill(&array, kept, pair);
        promise(Promise::Joined(kept));
        (array, kept)
    }

    /// The other disk is overwritten.
    fn refill(&self, array: &Array, kept: usize, pair: &Pair) {
        let other = pair[1 - kept].clone();
        array.divide_like(&*other, [9; 16]).unwrap();
        array.replace(1 - kept, other, Some(self.serial + 1)).unwrap();
        while array.resync().unwrap() != Step::Done {}
    }

    /// Both come up.
    fn join(&mut self, random: &mut Generator, seen: &mut Seen) {
        self.serial += 10;
        self.phase(random, seen, |case, pair, _, seen, promise| {
            let known = pair.each_ref().map(|disk| mirror::examine(&**disk).unwrap());
            let twins = known.map(|known| known.is_some_and(|known| known.twin() == Member::Failed));
            let (array, source) = match Mirror::assemble(pair.clone().map(Some)) {
                Ok(array) => {
                    assert!(twins != [true; 2], "each was alone");
                    let array: Array = Arc::new(array);
                    let members = array.status().members;
                    let source = usize::from(members[0] != Member::Good);
                    // Of two that are good either has everything.
                    let source =
                        if members == [Member::Good; 2] { usize::from(case.late[1]) } else { source };
                    if members.contains(&Member::Failed) {
                        case.refill(&array, source, pair);
                    }
                    (array, source)
                }
                Err(error) => {
                    assert_eq!(error, MirrorError::SplitBrain);
                    assert!(twins.contains(&true));
                    if twins == [true; 2] {
                        seen.split += 1;
                    } else {
                        seen.older += 1;
                    }
                    case.choose(pair, promise)
                }
            };
            let volume = mount_divided(&as_device(&array));
            case.check(&volume, source);
            volume.unmount().unwrap();
            settle(&array);
            promise(Promise::Joined(source));
        });
    }

    /// Both come up, and are told to grow, as the appliance does it: with no volume in use, and then it is used at once.
    fn grow(&mut self, random: &mut Generator, seen: &mut Seen) {
        self.phase(random, seen, |case, pair, random, seen, promise| {
            if let Ok(array) = Mirror::assemble(pair.clone().map(Some)) {
                let array = Arc::new(array);
                if array.status().members.contains(&Member::Failed) {
                    return;
                }
                let volume = mount_divided(&as_device(&array));
                let size = volume.space().unwrap().total;
                seen.sizes[usize::from(size == case.after)] += 1;
                volume.unmount().unwrap();
                settle(&array);
                drop(array);
                let grown = grow_array(pair, random, promise);
                assert_eq!(grown.is_ok(), size == case.before, "{grown:?}");
            }
        });
    }
}

/// What the appliance does; and then clients write while the new room is made equal.
fn grow_array(
    pair: &Pair,
    random: &mut Generator,
    promise: &mut dyn FnMut(Promise),
) -> Result<Grown, GrowError> {
    let mut array = assemble(pair);
    settle(&array);
    if array.enlarge().unwrap() {
        array = assemble(pair);
    }
    let grown = grow_divided(&as_device(&array));
    promise(Promise::Grown);
    let volume = mount_divided(&as_device(&array));
    let node = open_or_create(&volume, "beside");
    for (number, piece) in beside().chunks(PIECE).enumerate() {
        volume.write(node, (number * PIECE) as u64, piece).unwrap();
        for _ in 0..random.below(4) {
            array.scrub().unwrap();
        }
        match random.below(8) {
            0 | 1 => {
                volume.flush(node).unwrap();
                promise(Promise::Beside((number + 1) * PIECE));
            }
            2 => volume.sync().unwrap(),
            3 => array.maintain().unwrap(),
            _ => {}
        }
    }
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    grown
}

/// Two large disks with what two small ones of an array held, whose volume is all but full.
fn moved_array(seed: u64) -> [RamDisk; 2] {
    let small = [1, 2].map(|seed| {
        let disk = Arc::new(RamDisk::new(SMALL / 512, 512));
        format::divide(&*disk, SMALL / 512, [seed; 16]).unwrap();
        disk
    });
    let pair = small.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
    let array: Array = Arc::new(Mirror::create(pair.clone(), [7; 16], true).unwrap());
    let cluster = 512 << (seed % 4);
    format::data_partition(&as_device(&array), &options(Format::Exfat, Some(cluster))).unwrap();
    let volume = mount_divided(&as_device(&array));
    write_files(&volume);
    let node = volume.create(&units("filler"), NodeKind::File, FileAttributes(0)).unwrap();
    let free = volume.space().unwrap().free;
    volume.write(node, 0, &filler()[..free as usize - (120 << 10)]).unwrap();
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    settle(&array);
    assert_eq!(array.enlarge(), Ok(false));
    assert_eq!(grow_divided(&as_device(&array)), Err(GrowError::NoRoom));
    drop(array);
    [0, 1].map(|number| moved(&small[number], LARGE[number], seed * 2 + number as u64))
}

/// Cuts the power at a moment, recovers in one way or another, and brings it to its end.
fn recover(mut case: Case, random: &mut Generator, seen: &mut Seen) {
    seen.apart += u32::from(case.ends()[0] != case.ends()[1]);
    for _ in 0..random.below(4) {
        match random.below(5) {
            0 => case.grow(random, seen),
            1 => case.join(random, seen),
            _ => {
                let number = random.below(2) as usize;
                case.alone(number, random, seen);
            }
        }
    }
    // Nothing hinders it any more; what was promised on the way is there.
    let mut calm = case.clone();
    let mut none = Generator::new(0);
    loop {
        calm.join(&mut none, seen);
        let settled = calm.disks.each_ref().map(|disk| mirror::examine(&**disk).unwrap());
        if settled.iter().all(|known| known.is_some_and(|known| known.members == [Member::Good; 2])) {
            break;
        }
    }
    let pair = calm.disks.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
    let array = assemble(&pair);
    settle(&array);
    drop(array);
    assert_equal(&calm.disks);
    judge_disk(&calm.disks[0], random);
    let _ = grow_array(&pair, random, &mut |promise| calm.promised(&promise));
    let array = assemble(&pair);
    let volume = mount_divided(&as_device(&array));
    calm.check(&volume, 0);
    assert_eq!(volume.space().unwrap().total, calm.after);
    assert_eq!(find(&volume, "beside"), Some(beside().to_vec()));
    volume.unmount().unwrap();
    settle(&array);
    assert_equal(&calm.disks);
    judge_disk(&calm.disks[1], random);
    let data = Layout::read(&*calm.disks[1]).unwrap().data().unwrap();
    assert_eq!(data.first + data.blocks, usable_end(LARGE[1] / 512, 512));
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_growing_array_survives_power_cuts() {
    let slow = cfg!(target_endian = "big");
    let seed = environment("STORAGE_SEED").unwrap_or(0);
    let more = environment("STORAGE_CUTS").unwrap_or(0);
    let disks = moved_array(seed);
    let log = PowerLog::new();
    let [one, two] = disks;
    let recorders = [Recorder::new(&log, 0, one), Recorder::new(&log, 1, two)];
    let pair = recorders.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
    let mut promises = vec![];
    let grown =
        grow_array(&pair, &mut Generator::new(seed), &mut |promise| promises.push((log.now(), promise)));
    let Grown { before, after, .. } = grown.unwrap();
    assert!(after > before + 10 * MEBIBYTE && promises.len() > 1, "{grown:?}");
    let mut seen = Seen::default();
    let events = log.now();
    // Each event while it grows, and some of those when it is used again.
    let over = promises.iter().find(|(_, promise)| matches!(promise, Promise::Grown)).unwrap().0;
    let every = (0..=over).step_by(if slow { 20 } else { 1 });
    let mut chosen = Generator::new(seed);
    let cuts: Vec<u64> = every.chain((0..over / 2 + more).map(|_| chosen.below(events + 1))).collect();
    for (number, &cut) in cuts.iter().enumerate() {
        let outcome = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            let mut random = Generator::new(seed << 32 | number as u64);
            let left = recorders.each_ref().map(|disk| Arc::new(disk.cut(cut, &mut random)));
            let mut case = Case { disks: left, before, after, beside: 0, late: [false; 2], serial: 1 << 40 };
            promises.iter().filter(|(made, _)| *made <= cut).for_each(|(_, promise)| case.promised(promise));
            recover(case, &mut random, &mut seen);
        }));
        assert!(outcome.is_ok(), "STORAGE_SEED={seed}, cut {number} at {cut} of {events}");
    }
    std::eprintln!("{} first cuts at {over} and more events: {seen:?}", cuts.len());
    assert!(slow || seen.sizes.iter().all(|&count| count > 5) && seen.apart > 5, "{seen:?}");
    assert!(slow || seen.returned > 20 && seen.returned_apart > 0 && seen.split > 5, "{seen:?}");
}
