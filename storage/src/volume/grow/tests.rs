use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::format::{self, Kind as Format};
use crate::partition::{Layout, enlarge};
use crate::test_devices::{Generator, PowerLog, RamDisk, Recorder};
use crate::volume::tests::{assert_sound, fill, foreign, mount_journaled, options, units};
use crate::volume::{FileAttributes, NodeKind, Volume};
use crate::{Cache, Slice};

mod array;

type Lock = parking_lot::RawMutex;

const MEBIBYTE: u64 = 1 << 20;

/// What file `number` holds.
fn content(number: u64) -> Vec<u8> {
    fill(&mut Generator::new(number), 9_000 + number * 7_777)
}

const FILES: u64 = 6;

fn write_files(volume: &Volume<Lock>) {
    let directory = volume.create(&units("in"), NodeKind::Directory, FileAttributes(0)).unwrap();
    volume.close(directory).unwrap();
    for number in 0..FILES {
        let path = units(&std::format!("in\\file {number}"));
        let node = volume.create(&path, NodeKind::File, FileAttributes(0)).unwrap();
        volume.write(node, 0, &content(number)).unwrap();
        volume.flush(node).unwrap();
        volume.close(node).unwrap();
    }
}

fn check_files(volume: &Volume<Lock>) {
    assert!(!volume.status().read_only && !volume.status().found_dirty);
    for number in 0..FILES {
        let node = volume.open(&units(&std::format!("in\\file {number}"))).unwrap();
        assert!(volume.read(node, 0, u32::MAX).unwrap().to_vec() == content(number), "file {number}");
        volume.close(node).unwrap();
    }
}

/// Fills the volume and takes the file away again: all its clusters can be used.
fn use_all(volume: &Volume<Lock>) {
    let space = volume.space().unwrap();
    let node = volume.create(&units("all"), NodeKind::File, FileAttributes(0)).unwrap();
    let clusters = space.free / u64::from(space.cluster);
    let piece = vec![0xA5; 1 << 16];
    let size = clusters * u64::from(space.cluster) - 2 * u64::from(space.cluster);
    let mut at = 0;
    while at < size {
        let length = (size - at).min(piece.len() as u64) as usize;
        volume.write(node, at, &piece[..length]).unwrap();
        at += length as u64;
    }
    let last = volume.read(node, size - 100, 100).unwrap().to_vec();
    assert_eq!(last, [0xA5; 100]);
    volume.remove(node).unwrap();
    volume.close(node).unwrap();
    volume.sync().unwrap();
}

/// A disk with a journal of a MiB in front of a volume.
struct Bench {
    ram: Arc<RamDisk>,
    disk: Arc<dyn BlockDevice>,
}

impl Bench {
    fn new(bytes: u64, block_size: u32) -> Self {
        let ram = Arc::new(RamDisk::new(bytes / u64::from(block_size), block_size));
        Self { ram: ram.clone(), disk: ram }
    }

    fn slice(&self, start: u64, length: u64) -> Arc<dyn BlockDevice> {
        let size = u64::from(self.disk.block_size());
        Arc::new(Slice::new(self.disk.clone(), start / size, length / size).unwrap())
    }

    fn journal(&self) -> Arc<dyn BlockDevice> {
        self.slice(0, MEBIBYTE)
    }

    /// The volume's partition of so many bytes.
    fn part(&self, length: u64) -> Arc<dyn BlockDevice> {
        self.slice(MEBIBYTE, length)
    }

    fn mount(&self, length: u64) -> Volume<Lock> {
        mount_journaled(self.part(length), Some(self.journal()), 2 << 20).unwrap()
    }

    fn formatted(&self, length: u64, kind: Format, cluster: Option<u32>) {
        format::volume(&*self.part(length), 0, &options(kind, cluster)).unwrap();
        let volume = self.mount(length);
        write_files(&volume);
        volume.unmount().unwrap();
    }

    fn assert_sound(&self, length: u64) {
        let mut report = crate::check::check(
            &Arc::new(Cache::<Lock>::new(2 << 20)),
            self.part(length),
            false,
            &mut |event| {
                if let crate::check::Event::Found(finding, _) = event {
                    std::eprintln!("{}", finding.text());
                }
            },
        );
        assert!(report.as_mut().is_ok_and(|report| report.is_clean()));
        if self.disk.block_size() == 512 {
            let mut bytes = vec![0; length as usize];
            self.ram.peek(MEBIBYTE, &mut bytes);
            assert_sound(&RamDisk::from_image(&bytes), Format::Exfat);
        }
    }
}

#[test]
fn it_grows_and_all_of_it_can_be_used() {
    for (block_size, cluster, old, new) in
        [(512, 512, 6, 8), (512, 1024, 6, 11), (512, 8192, 5, 20), (4096, 4096, 10, 40), (512, 65536, 8, 33)]
    {
        let (old, new) = (old * MEBIBYTE + 12_288, new * MEBIBYTE + 20_480);
        let bench = Bench::new(new + 2 * MEBIBYTE, block_size);
        bench.formatted(old, Format::Exfat, Some(cluster));
        // Garbage where nothing was yet.
        let mut random = Generator::new(cluster.into());
        for at in ((MEBIBYTE + old)..(MEBIBYTE + new)).step_by(1 << 16) {
            bench.ram.poke(at, &fill(&mut random, 1 << 12));
        }
        let grown = grow(&*bench.part(new), bench.journal()).unwrap();
        assert!(!grown.limited && grown.before < old && grown.after > new - 3 * MEBIBYTE / 2, "{grown:?}");
        bench.assert_sound(new);
        let volume = bench.mount(new);
        check_files(&volume);
        let space = volume.space().unwrap();
        assert_eq!(space.total, grown.after);
        assert!(space.free > grown.after - 2 * MEBIBYTE, "{space:?}");
        use_all(&volume);
        check_files(&volume);
        volume.unmount().unwrap();
        bench.assert_sound(new);
        assert_eq!(grow(&*bench.part(new), bench.journal()), Err(GrowError::NoRoom));
    }
}

#[test]
fn it_grows_as_far_as_its_fat_has_entries() {
    let (old, new) = (8 * MEBIBYTE, 60 * MEBIBYTE);
    let bench = Bench::new(new + 2 * MEBIBYTE, 512);
    bench.formatted(old, Format::Exfat, Some(1024));
    let grown = grow(&*bench.part(new), bench.journal()).unwrap();
    assert!(grown.limited && grown.after > 12 * MEBIBYTE && grown.after < new, "{grown:?}");
    bench.assert_sound(new);
    let volume = bench.mount(new);
    check_files(&volume);
    use_all(&volume);
    volume.unmount().unwrap();
    bench.assert_sound(new);
    assert_eq!(grow(&*bench.part(new), bench.journal()), Err(GrowError::FatFull));
}

#[test]
fn what_windows_and_linux_have_made_grows_where_its_fat_allows() {
    let Some(made) = foreign(40, "mkfs.exfat", &["-c", "4K"]) else { return };
    let bench = Bench::new(102 * MEBIBYTE, 512);
    made.for_each_chunk(|offset, bytes| bench.ram.poke(MEBIBYTE + offset, bytes));
    let volume = bench.mount(40 * MEBIBYTE);
    write_files(&volume);
    volume.unmount().unwrap();
    let outcome = grow(&*bench.part(100 * MEBIBYTE), bench.journal());
    assert!(matches!(outcome, Ok(_) | Err(GrowError::FatFull)), "{outcome:?}");
    bench.assert_sound(100 * MEBIBYTE);
    check_files(&bench.mount(100 * MEBIBYTE));
}

#[test]
fn what_cannot_grow_stays_as_it_is() {
    let new = 50 * MEBIBYTE;
    for (kind, mark, expected) in [
        (Format::Fat32, None, GrowError::NotExfat),
        (Format::Fat16, None, GrowError::NotExfat),
        (Format::Exfat, Some((106, 2)), GrowError::Unsound),
        (Format::Exfat, Some((200, 1)), GrowError::Unsound),
        // The bitmap's chain leads nowhere.
        (Format::Exfat, Some((65_536 + 8, 0)), GrowError::Volume(VolumeError::Corrupt)),
    ] {
        let bench = Bench::new(new + 2 * MEBIBYTE, 512);
        bench.formatted(if kind == Format::Fat32 { 40 << 20 } else { 8 << 20 }, kind, Some(512));
        if let Some((at, value)) = mark {
            bench.ram.poke(MEBIBYTE + at, &[value]);
        }
        let before = bench.ram.duplicate();
        assert_eq!(grow(&*bench.part(new), bench.journal()), Err(expected));
        let volume = |disk: &RamDisk| disk.image()[MEBIBYTE as usize..].to_vec();
        assert!(volume(&before) == volume(&bench.ram));
    }
}

#[test]
fn garbage_never_panics() {
    let mut random = Generator::new(9);
    let new = 12 * MEBIBYTE;
    let bench = Bench::new(new + 2 * MEBIBYTE, 512);
    bench.formatted(6 * MEBIBYTE, Format::Exfat, Some(4096));
    let sound = bench.ram.duplicate();
    for _ in 0..if cfg!(target_endian = "big") { 30 } else { 400 } {
        let ram = Arc::new(sound.duplicate());
        let bench = Bench { disk: ram.clone(), ram };
        let part = bench.part(new);
        for _ in 0..3 {
            let at = match random.below(3) {
                0 => 64 + random.below(50),
                1 => 65_536 + random.below(64),
                _ => 131_072 + random.below(24_000),
            };
            bench.ram.poke(MEBIBYTE + at, &[random.bits() as u8]);
        }
        // Sums made right again let the damage through to the code behind them.
        let mut boot = vec![0; 12 * 512];
        bench.ram.peek(MEBIBYTE, &mut boot);
        let sum = boot_checksum(&boot[..11 * 512]);
        bench.ram.poke(MEBIBYTE + 11 * 512, &sum.to_le_bytes().repeat(128));
        let _ = grow(&*part, bench.journal());
    }
}

/// Sizes of the disks before and after.
const SMALL: u64 = 18 * MEBIBYTE;
const LARGE: [u64; 2] = [34 * MEBIBYTE, 31 * MEBIBYTE + 4096];

/// The divided disk as its volume sees it.
fn mount_divided(device: &Arc<dyn BlockDevice>) -> Volume<Lock> {
    let layout = Layout::read(&**device).unwrap();
    mount_journaled(layout.data().unwrap().open(device).unwrap(), layout.journal(device), 2 << 20).unwrap()
}

fn grow_divided(device: &Arc<dyn BlockDevice>) -> Result<Grown, GrowError> {
    let layout = Layout::read(&**device).unwrap();
    grow(&*layout.data().unwrap().open(device).unwrap(), layout.journal(device).unwrap())
}

/// A disk of `bytes` bytes with the contents of a smaller one, and different garbage behind them.
fn moved(small: &RamDisk, bytes: u64, seed: u64) -> RamDisk {
    let disk = RamDisk::new(bytes / 512, 512);
    let mut random = Generator::new(seed);
    for at in (SMALL..bytes - MEBIBYTE).step_by(1 << 17) {
        disk.poke(at, &fill(&mut random, 1 << 14));
    }
    small.for_each_chunk(|offset, bytes| disk.poke(offset, bytes));
    disk
}

/// Judges the volume on a disk, which is not in use.
fn judge_data(disk: &RamDisk) {
    let data = Layout::read(disk).unwrap().data().unwrap();
    let mut bytes = vec![0; data.blocks as usize * 512];
    disk.peek(data.first * 512, &mut bytes);
    assert_sound(&RamDisk::from_image(&bytes), Format::Exfat);
}

fn per_cut() -> u64 {
    if cfg!(target_endian = "big") { 1 } else { 4 }
}

#[test]
fn a_power_cut_leaves_a_disks_volume_as_it_was_or_grown() {
    let small = Arc::new(RamDisk::new(SMALL / 512, 512));
    let device: Arc<dyn BlockDevice> = small.clone();
    format::disk(&device, &options(Format::Exfat, Some(1024))).unwrap();
    let volume = mount_divided(&device);
    write_files(&volume);
    volume.unmount().unwrap();
    let old = volume_size(&device);

    let log = PowerLog::new();
    let recorder = Recorder::new(&log, 0, moved(&small, LARGE[0], 1));
    let device: Arc<dyn BlockDevice> = recorder.clone();
    assert!(enlarge(&*device).unwrap());
    let grown = grow_divided(&device).unwrap();
    assert_eq!(grown.before, old);
    let (mut random, mut seen) = (Generator::new(11), [0; 2]);
    for cut in 0..=log.now() {
        for _ in 0..per_cut() {
            let left = Arc::new(recorder.cut(cut, &mut random));
            let device: Arc<dyn BlockDevice> = left.clone();
            let volume = mount_divided(&device);
            check_files(&volume);
            let size = volume.space().unwrap().total;
            assert!(size == grown.before || size == grown.after, "cut at {cut}: {size}");
            seen[usize::from(size == grown.after)] += 1;
            volume.unmount().unwrap();
            judge_data(&left);
            // Asked again, it goes on from there.
            enlarge(&*device).unwrap();
            let again = grow_divided(&device);
            assert_eq!(again.is_ok(), size == grown.before, "{again:?}");
            assert_eq!(volume_size(&device), grown.after);
            judge_data(&left);
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

fn volume_size(device: &Arc<dyn BlockDevice>) -> u64 {
    let volume = mount_divided(device);
    check_files(&volume);
    let size = volume.space().unwrap().total;
    volume.unmount().unwrap();
    size
}
