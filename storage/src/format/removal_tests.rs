//! A volume is removed, and the power goes: it is there as it was, or not at all.

use std::sync::Arc;
use std::vec::Vec;

use super::*;
use crate::mirror::{Member, Mirror, Step, examine};
use crate::test_devices::{Generator, PowerLog, RamDisk, Recorder};
use crate::volume::tests::{Lock, assert_sound, fill, mount_journaled, units};
use crate::volume::{FileAttributes, NodeKind, Volume};

const BLOCKS: u64 = 24 << 11;

fn options(kind: Kind) -> Options {
    Options { kind, label: units("NAS DISK"), unique: [0xA7; 16], cluster: Some(512) }
}

fn content() -> Vec<u8> {
    fill(&mut Generator::new(4), 200_000)
}

fn mount(device: &Arc<dyn BlockDevice>, layout: &Layout) -> Volume<Lock> {
    mount_journaled(layout.data().unwrap().open(device).unwrap(), layout.journal(device), 2 << 20).unwrap()
}

fn write_file(device: &Arc<dyn BlockDevice>, name: &str) {
    let volume = mount(device, &Layout::read(&**device).unwrap());
    let node = volume.create(&units(name), NodeKind::File, FileAttributes(0)).unwrap();
    volume.write(node, 0, &content()).unwrap();
    volume.close(node).unwrap();
    volume.unmount().unwrap();
}

/// Whether there is a volume; it is whole then, and has its files. (A foreign checker is asked now and then: it takes its time.)
fn has_volume(device: &Arc<dyn BlockDevice>, kind: Kind, names: &[&str], random: &mut Generator) -> bool {
    let layout = Layout::read(&**device).unwrap();
    let Some(data) = layout.data() else { return false };
    let volume = mount(device, &layout);
    assert!(!volume.status().read_only && !volume.status().found_dirty);
    for name in names {
        let node = volume.open(&units(name)).unwrap();
        assert!(volume.read(node, 0, u32::MAX).unwrap().to_vec() == content());
        volume.close(node).unwrap();
    }
    volume.unmount().unwrap();
    if !random.once_in(10) {
        return true;
    }
    let size = u64::from(device.block_size());
    let mut image = std::vec![0; (data.blocks * size) as usize];
    crate::device::read_bytes(&**device, data.first * size, &mut image).unwrap();
    assert_sound(&RamDisk::from_image(&image), kind);
    true
}

fn is_blank(disk: &dyn BlockDevice) -> bool {
    Layout::read(disk).unwrap().blank
}

/// Of how many events one is cut behind; the big-endian machine is an emulated one, and slow.
fn step() -> usize {
    if cfg!(target_endian = "big") { 9 } else { 1 }
}

#[test]
fn a_power_cut_leaves_a_disks_volume_or_none() {
    for kind in [Kind::Exfat, Kind::Fat16, Kind::Fat32] {
        let blocks = if kind == Kind::Fat32 { 48 << 11 } else { BLOCKS };
        let disk: Arc<RamDisk> = Arc::new(RamDisk::new(blocks, 512));
        let device: Arc<dyn BlockDevice> = disk.clone();
        super::disk(&device, &options(kind)).unwrap();
        write_file(&device, "kept");
        let log = PowerLog::new();
        let recorder = Recorder::new(&log, 0, disk.duplicate());
        blank(&*recorder).unwrap();
        let (mut random, mut seen) = (Generator::new(1), [0; 3]);
        for cut in (0..=log.now()).step_by(step()) {
            for _ in 0..2 {
                let device: Arc<dyn BlockDevice> = Arc::new(recorder.cut(cut, &mut random));
                if has_volume(&device, kind, &["kept"], &mut random) {
                    seen[0] += 1;
                } else {
                    seen[1 + usize::from(is_blank(&*device))] += 1;
                }
                blank(&*device).unwrap();
                assert!(is_blank(&*device));
            }
        }
        assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
    }
}

type Pair = [Arc<dyn BlockDevice>; 2];

type Array = Arc<Mirror<Lock>>;

/// An array as the appliance finds it at a start; what is beside it.
fn start(pair: &Pair) -> (Option<Array>, Vec<Arc<dyn BlockDevice>>) {
    let (mut members, mut others) = (Vec::new(), Vec::new());
    for disk in pair {
        let belongs = examine(&**disk).unwrap().is_some();
        if belongs { members.push(disk.clone()) } else { others.push(disk.clone()) }
    }
    let mut members = members.into_iter();
    let members = [members.next(), members.next()];
    let none = members.iter().all(Option::is_none);
    ((!none).then(|| Arc::new(Mirror::assemble(members).unwrap())), others)
}

/// What the appliance does; which of the disks has gone last.
fn remove(pair: &Pair) -> usize {
    let (array, _) = start(pair);
    let mut order = [0, 1];
    if let Some(array) = array {
        vacate(&*array).unwrap();
        let members = array.status().members;
        order.sort_by_key(|&number: &usize| members[number] == Member::Good);
        array.release();
    }
    for number in order {
        blank(&*pair[number]).unwrap();
    }
    order[1]
}

/// Whether the array has a volume, now that its disks are there, or what is left of them. No disk beside it has one.
fn finds_volume(pair: &Pair, random: &mut Generator) -> bool {
    let (array, others) = start(pair);
    assert!(others.iter().all(|disk| Layout::read(&**disk).unwrap().data().is_none()));
    let Some(array) = array else { return false };
    while array.resync().unwrap() != Step::Done {}
    let device: Arc<dyn BlockDevice> = array.clone();
    has_volume(&device, Kind::Exfat, &["kept", "later"], random)
}

#[test]
fn a_power_cut_leaves_an_arrays_volume_or_none() {
    for stale in [None, Some(0), Some(1)] {
        let disks = [1, 2].map(|number| {
            let disk = Arc::new(RamDisk::new(BLOCKS, 512));
            divide(&*disk, BLOCKS, [number; 16]).unwrap();
            disk
        });
        let pair = disks.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
        let array = Arc::new(Mirror::<Lock>::create(pair.clone(), [7; 16], true).unwrap());
        let device: Arc<dyn BlockDevice> = array.clone();
        data_partition(&device, &options(Kind::Exfat)).unwrap();
        write_file(&device, "kept");
        if let Some(number) = stale {
            array.fail(number).unwrap();
        }
        // What a disk that was taken out lacks.
        write_file(&device, "later");
        array.maintain().and_then(|()| array.maintain()).unwrap();
        drop((array, device));

        let log = PowerLog::new();
        let recorders = [0, 1].map(|number| Recorder::new(&log, number, disks[number].duplicate()));
        let pair = recorders.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
        let last = remove(&pair);
        assert!(stale.is_none_or(|stale| stale != last) && pair.iter().all(|disk| is_blank(&**disk)));
        let (mut random, mut seen) = (Generator::new(2), [0; 3]);
        for cut in (0..=log.now()).step_by(step()) {
            let left = recorders.each_ref().map(|disk| disk.cut(cut, &mut random));
            let copies = left.each_ref().map(|disk| -> Arc<dyn BlockDevice> { Arc::new(disk.duplicate()) });
            let found = finds_volume(&copies, &mut random);
            seen[0] += u32::from(found);
            // After the start there is no other answer.
            assert_eq!(finds_volume(&copies, &mut random), found);
            for disk in &copies {
                let array = Mirror::<Lock>::assemble([Some(disk.clone()), None]);
                let Ok(array) = array else { continue };
                let device: Arc<dyn BlockDevice> = Arc::new(array);
                assert_eq!(has_volume(&device, Kind::Exfat, &["kept", "later"], &mut random), found);
            }
            // Asked again, they are blank; also if one disk was blank already.
            let pair = left.map(|disk| -> Arc<dyn BlockDevice> { Arc::new(disk) });
            seen[1] += u32::from(pair.iter().filter(|disk| is_blank(&***disk)).count() == 1);
            // Perhaps after a start, which may have made one of the other.
            if random.once_in(2) {
                finds_volume(&pair, &mut random);
            }
            remove(&pair);
            assert!(pair.iter().all(|disk| is_blank(&**disk)));
            seen[2] += 1;
        }
        assert!(seen.iter().all(|&count| count > 1), "{seen:?}");
    }
}
