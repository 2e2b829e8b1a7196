//! Power cuts: clients work on a volume whose disks record everything, and the disks are rebuilt as a cut at any moment would
//! leave them. Then the volume has to mount by replay alone, satisfy the [oracle], and be sound to a foreign checker. The
//! volume is on one disk, or on a mirror of two whose halves have to be equal afterwards; a disk of the mirror may be dead or
//! on its way back, and the cut may be followed by another while the first is recovered from.
//!
//! `STORAGE_CUTS` sets the number of cuts for each kind of volume, `STORAGE_SEED` where to start.

use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::tests::{mount_journaled, units};
use super::*;
use crate::format::{Kind, Options};
use crate::mirror::{Member, Mirror, MirrorError, Step};
use crate::partition::Layout;
use crate::test_devices::oracle::{self, Covered, Found, look};
use crate::test_devices::workload::{Answer, Diary, Failure, Files, Habits, Worker};
use crate::test_devices::{Faults, FaultyDisk, Generator, PowerLog, RamDisk, Recorder, judge};
use crate::{BlockDevice, Slice};

type Lock = parking_lot::RawMutex;

/// A volume as one of its clients sees it.
struct Direct<'a> {
    volume: &'a Volume<Lock>,
    log: &'a PowerLog,
}

fn refused(error: VolumeError) -> Failure {
    Failure::Refused(error.to_string())
}

impl Files for Direct<'_> {
    type Handle = Node;

    fn now(&self) -> u64 {
        self.log.now()
    }

    fn create(&mut self, path: &str) -> Answer<Node> {
        self.volume.create(&units(path), NodeKind::File, FileAttributes(0)).map_err(refused)
    }

    fn open(&mut self, path: &str) -> Answer<Node> {
        self.volume.open(&units(path)).map_err(refused)
    }

    fn make_directory(&mut self, path: &str) -> Answer<()> {
        let node =
            self.volume.create(&units(path), NodeKind::Directory, FileAttributes(0)).map_err(refused)?;
        self.close(node)
    }

    fn write(&mut self, file: Node, offset: u64, data: &[u8], through: bool) -> Answer<()> {
        self.volume.write(file, offset, data).map_err(refused)?;
        if through { self.flush(file) } else { Ok(()) }
    }

    fn resize(&mut self, file: Node, size: u64) -> Answer<()> {
        self.volume.set_size(file, size).map_err(refused)
    }

    fn flush(&mut self, file: Node) -> Answer<()> {
        self.volume.flush(file).map_err(refused)
    }

    fn close(&mut self, file: Node) -> Answer<()> {
        self.volume.close(file).map_err(refused)
    }

    fn rename(&mut self, path: &str, to: &str, replace: bool) -> Answer<()> {
        let node = self.open(path)?;
        let result = self.volume.rename(node, &units(to), replace).map_err(refused);
        self.close(node).and(result)
    }

    fn remove(&mut self, path: &str) -> Answer<()> {
        let node = self.open(path)?;
        let result = self.volume.remove(node).map_err(refused);
        self.close(node).and(result)
    }

    fn list(&mut self, path: &str) -> Answer<Vec<(String, bool)>> {
        let directory = self.open(path)?;
        let mut entries = vec![];
        let result = self.volume.list(directory, 0, &mut |entry| {
            entries.push((String::from_utf16_lossy(entry.name), entry.metadata.kind == NodeKind::Directory));
            true
        });
        self.close(directory)?;
        result.map_err(refused).map(|()| entries)
    }

    fn content(&mut self, path: &str) -> Answer<Vec<u8>> {
        let node = self.open(path)?;
        let size = self.volume.metadata(node).map_err(refused)?.size;
        let content = self.volume.read(node, 0, u32::MAX).map_err(refused)?.to_vec();
        self.close(node)?;
        if content.len() as u64 == size { Ok(content) } else { Err(Failure::Refused("a short read".into())) }
    }
}

/// What a test cuts the power of.
#[derive(Clone, Copy, Debug)]
struct Machine {
    kind: Kind,
    mebibytes: u64,
    cluster: u32,
    mirrored: bool,
}

/// When the mirror's disks were in which states.
struct Moment {
    at: u64,
    members: [Member; 2],
}

struct History {
    recorders: Vec<Arc<Recorder>>,
    log: Arc<PowerLog>,
    diaries: Vec<Diary>,
    /// When a timer's round began, and when it ended: what was answered before its beginning is safe after its end.
    rounds: Vec<(u64, u64)>,
    moments: Vec<Moment>,
    journal_blocks: u64,
}

/// Where journal and volume are on a single disk.
fn parts(
    device: Arc<dyn BlockDevice>,
    journal_blocks: u64,
) -> (Arc<dyn BlockDevice>, Option<Arc<dyn BlockDevice>>) {
    let volume = Slice::new(device.clone(), journal_blocks, device.blocks() - journal_blocks).unwrap();
    let journal = Slice::new(device, 0, journal_blocks).unwrap();
    (Arc::new(volume), Some(Arc::new(journal)))
}

/// Mounts what is on a divided device, with a journal of so many blocks, and says where the volume lies on it.
fn mount_divided(device: &Arc<dyn BlockDevice>, journal_blocks: u64) -> (Volume<Lock>, (u64, u64)) {
    let layout = Layout::read(&**device).unwrap();
    let data = layout.data().unwrap();
    let journal: Arc<dyn BlockDevice> =
        Arc::new(Slice::new(layout.journal(device).unwrap(), 0, journal_blocks).unwrap());
    let volume = mount_journaled(data.open(device).unwrap(), Some(journal), 2 << 20).unwrap();
    (volume, (data.first, data.blocks))
}

impl Machine {
    fn options(self, seed: u64) -> Options {
        Options { kind: self.kind, label: vec![], unique: [seed as u8; 16], cluster: Some(self.cluster) }
    }

    /// Runs three clients over a small volume, so that clusters and journal are soon used again.
    fn record(self, seed: u64, steps: usize) -> History {
        let mut random = Generator::new(seed);
        // Small journals wrap round often.
        let journal_blocks = [160, 256, 600, 2000][random.below(4) as usize];
        let log = PowerLog::new();
        let recorders: Vec<Arc<Recorder>> = if self.mirrored {
            let blocks = (self.mebibytes + 20) * 2048;
            let disks = [0, 1].map(|number| {
                let disk = Arc::new(RamDisk::new(blocks, 512));
                crate::format::divide(&*disk, blocks, [number; 16]).unwrap();
                disk
            });
            let array = disks.each_ref().map(|disk| -> Arc<dyn BlockDevice> { disk.clone() });
            let mirror: Arc<dyn BlockDevice> =
                Arc::new(Mirror::<Lock>::create(array, [7; 16], true).unwrap());
            crate::format::data_partition(&mirror, &self.options(seed)).unwrap();
            drop(mirror);
            disks
                .iter()
                .enumerate()
                .map(|(number, disk)| Recorder::new(&log, number, disk.duplicate()))
                .collect()
        } else {
            let disk: Arc<RamDisk> = Arc::new(RamDisk::new(journal_blocks + self.mebibytes * 2048, 512));
            let (volume, _) = parts(disk.clone(), journal_blocks);
            crate::format::volume(&*volume, 0, &self.options(seed)).unwrap();
            vec![Recorder::new(&log, 0, disk.duplicate())]
        };
        let mut history =
            History { recorders, log, diaries: vec![], rounds: vec![], moments: vec![], journal_blocks };
        self.work(&mut history, &mut random, seed, steps);
        history
    }

    fn work(self, history: &mut History, random: &mut Generator, seed: u64, steps: usize) {
        let log = history.log.clone();
        let disks: Vec<Arc<FaultyDisk>> = history
            .recorders
            .iter()
            .map(|recorder| Arc::new(FaultyDisk::new(recorder.clone(), seed, Faults::default())))
            .collect();
        let mirror = self.mirrored.then(|| {
            let array: [Arc<dyn BlockDevice>; 2] = [disks[0].clone(), disks[1].clone()];
            Arc::new(Mirror::<Lock>::assemble(array.map(Some)).unwrap())
        });
        let volume = match &mirror {
            Some(mirror) => {
                let device: Arc<dyn BlockDevice> = mirror.clone();
                mount_divided(&device, history.journal_blocks).0
            }
            None => {
                let (device, journal) = parts(disks[0].clone(), history.journal_blocks);
                mount_journaled(device, journal, 2 << 20).unwrap()
            }
        };
        let mut files = Direct { volume: &volume, log: &log };
        let small = self.mebibytes < 4;
        let habits = Habits {
            longest_write: if small { 20_000 } else { 60_000 },
            largest_file: if small { 100_000 } else { 300_000 },
            names: if small { 12 } else { 25 },
        };
        let mut workers: Vec<Worker<Node>> = (0..3)
            .map(|number| {
                let root = if number == 0 { String::new() } else { format!("client {number}") };
                Worker::new(random.bits(), &root, number * 1_000_000 + 1, habits)
            })
            .collect();
        for worker in &mut workers {
            worker.begin(&mut files).unwrap();
        }
        // Their directories are not in their diaries: safe before anything else.
        let begun = log.now();
        volume.sync().unwrap();
        volume.sync().unwrap();
        history.rounds.push((begun, log.now()));
        let troubled = self.mirrored && random.once_in(2);
        for _ in 0..steps {
            let worker = random.below(workers.len() as u64) as usize;
            // The first has the root to itself but for the others' directories.
            workers[worker].step(&mut files).unwrap();
            if random.once_in(40) {
                let begun = log.now();
                volume.sync().unwrap();
                history.rounds.push((begun, log.now()));
            }
            if let Some(mirror) = &mirror {
                self.mirror_round(mirror, &disks, random, troubled);
                let members = mirror.status().members;
                if history.moments.last().is_none_or(|last| last.members != members) {
                    history.moments.push(Moment { at: log.now(), members });
                }
            }
        }
        history.diaries = workers.into_iter().map(|worker| worker.diary).collect();
    }

    /// What the appliance's timer does for a mirror, and what befalls its disks.
    fn mirror_round(
        self,
        mirror: &Arc<Mirror<Lock>>,
        disks: &[Arc<FaultyDisk>],
        random: &mut Generator,
        troubled: bool,
    ) {
        if random.once_in(20) {
            mirror.maintain().unwrap();
        }
        if !troubled {
            return;
        }
        let members = mirror.status().members;
        match members {
            [Member::Good, Member::Good] => {
                // Not the second while the first is out, which the mirror may not have noticed yet.
                let there = disks.iter().all(|disk| !disk.is_pulled());
                if there && random.once_in(60) {
                    disks[random.below(2) as usize].pull(true);
                }
            }
            // An error means that a disk was pulled meanwhile.
            _ if members.contains(&Member::Resyncing) => drop(mirror.resync()),
            _ if random.once_in(40) => {
                for (index, disk) in disks.iter().enumerate() {
                    disk.pull(false);
                    if members[index] == Member::Failed {
                        mirror.replace(index, disk.clone(), None).unwrap();
                    }
                }
            }
            _ => {}
        }
    }

    /// Cuts the power, perhaps once more while it recovers, and looks at what is left.
    fn cut(self, history: &History, seed: u64) -> Covered {
        let mut random = Generator::new(seed);
        // Not before the clients' own directories are safe.
        let start = history.rounds[0].1;
        let cut = start + random.below(history.log.now() - start + 1);
        let settled = history.rounds.iter().filter(|round| round.1 <= cut).map(|round| round.0).max();
        let mut disks: Vec<RamDisk> =
            history.recorders.iter().map(|recorder| recorder.cut(cut, &mut random)).collect();
        while random.once_in(4) {
            disks = self.cut_recovery(history, disks, &mut random);
        }
        let disks: Vec<Arc<RamDisk>> = disks.into_iter().map(Arc::new).collect();
        let (found, image) = if self.mirrored {
            let calm = self.calm_since(history, cut);
            if calm && random.once_in(4) {
                self.look_at_one_half(history, &disks, &mut random)
            } else {
                self.look_at_the_mirror(history, &disks)
            }
        } else {
            let (device, journal) = parts(disks[0].clone(), history.journal_blocks);
            let volume = mount_journaled(device, journal, 2 << 20).unwrap();
            let found = self.look(history, &volume);
            volume.unmount().unwrap();
            (found, RamDisk::from_image(&disks[0].image()[history.journal_blocks as usize * 512..]))
        };
        let covered = oracle::judge(&history.diaries, &found, cut, settled.unwrap_or(0));
        let covered = covered.unwrap_or_else(|text| panic!("cut at {cut}: {text}"));
        if let Err(text) = judge::fsck(&image, self.kind) {
            panic!("cut at {cut}: {text}");
        }
        covered
    }

    /// Whether both disks were good for the last while.
    fn calm_since(self, history: &History, cut: u64) -> bool {
        let good =
            |moment: &&Moment| moment.members != [Member::Good; 2] && moment.at >= cut.saturating_sub(500);
        let near = history.moments.iter().filter(|moment| moment.at <= cut + 500).filter(good).count() == 0;
        let last = history.moments.iter().rfind(|moment| moment.at <= cut);
        near && last.is_none_or(|moment| moment.members == [Member::Good; 2])
    }

    /// Begins to recover, and is cut again.
    fn cut_recovery(self, history: &History, disks: Vec<RamDisk>, random: &mut Generator) -> Vec<RamDisk> {
        let log = PowerLog::new();
        let recorders: Vec<Arc<Recorder>> =
            disks.into_iter().enumerate().map(|(number, disk)| Recorder::new(&log, number, disk)).collect();
        if self.mirrored {
            let array: [Arc<dyn BlockDevice>; 2] = [recorders[0].clone(), recorders[1].clone()];
            let mirror = Arc::new(Mirror::<Lock>::assemble(array.map(Some)).unwrap());
            let device: Arc<dyn BlockDevice> = mirror.clone();
            let (volume, _) = mount_divided(&device, history.journal_blocks);
            for _ in 0..random.below(6) {
                mirror.resync().unwrap();
            }
            if random.once_in(2) {
                volume.unmount().unwrap();
            }
        } else {
            let (device, journal) = parts(recorders[0].clone(), history.journal_blocks);
            let volume = mount_journaled(device, journal, 2 << 20).unwrap();
            if random.once_in(2) {
                volume.unmount().unwrap();
            }
        }
        let cut = random.below(log.now() + 1);
        recorders.iter().map(|recorder| recorder.cut(cut, random)).collect()
    }

    /// What each client's diary is about.
    fn look(self, history: &History, volume: &Volume<Lock>) -> Vec<Found> {
        assert!(!volume.status().read_only);
        let mut files = Direct { volume, log: &history.log };
        let mine = |root: &str, path: &str| !root.is_empty() || !path.starts_with("client ");
        let roots = history.diaries.iter().map(|diary| &*diary.root);
        roots.map(|root| look(&mut files, root, &|path| mine(root, path)).unwrap()).collect()
    }

    /// Both disks come back: afterwards they hold the same.
    fn look_at_the_mirror(self, history: &History, disks: &[Arc<RamDisk>]) -> (Vec<Found>, RamDisk) {
        let array: [Arc<dyn BlockDevice>; 2] = [disks[0].clone(), disks[1].clone()];
        let mirror = Arc::new(Mirror::<Lock>::assemble(array.map(Some)).unwrap());
        let device: Arc<dyn BlockDevice> = mirror.clone();
        let (volume, data) = mount_divided(&device, history.journal_blocks);
        let found = self.look(history, &volume);
        while mirror.resync().unwrap() != Step::Done {}
        volume.unmount().unwrap();
        assert_eq!(mirror.status().members, [Member::Good; 2]);
        let layout = Layout::read(&*device).unwrap();
        let first = layout.private().unwrap().first as usize * 512 + (1 << 20);
        let end = (data.0 + data.1) as usize * 512;
        let images = disks.iter().map(|disk| disk.image()).collect::<Vec<_>>();
        assert!(images[0][first..end] == images[1][first..end], "the halves differ");
        (found, RamDisk::from_image(&images[1][data.0 as usize * 512..end]))
    }

    /// Only one disk survived the power cut: it has everything.
    fn look_at_one_half(
        self,
        history: &History,
        disks: &[Arc<RamDisk>],
        random: &mut Generator,
    ) -> (Vec<Found>, RamDisk) {
        let survivor = random.below(2) as usize;
        let mut array: [Option<Arc<dyn BlockDevice>>; 2] = [None, None];
        array[survivor] = Some(disks[survivor].clone());
        let mirror = match Mirror::<Lock>::assemble(array) {
            Ok(mirror) => mirror,
            // It was about to be brought up to date after the first of several cuts.
            Err(MirrorError::Incomplete) => return self.look_at_the_mirror(history, disks),
            Err(error) => panic!("disk {survivor} alone: {error:?}"),
        };
        let device: Arc<dyn BlockDevice> = Arc::new(mirror);
        let (volume, data) = mount_divided(&device, history.journal_blocks);
        let found = self.look(history, &volume);
        volume.unmount().unwrap();
        let image = disks[survivor].image();
        (found, RamDisk::from_image(&image[data.0 as usize * 512..(data.0 + data.1) as usize * 512]))
    }

    /// Many cuts, of several histories.
    fn cuts(self) {
        let wanted = environment("STORAGE_CUTS").unwrap_or(if cfg!(target_endian = "big") { 10 } else { 60 });
        let first = environment("STORAGE_SEED").unwrap_or(0);
        let per_history = wanted.min(30);
        let mut covered = Covered::default();
        for seed in first..first + wanted.div_ceil(per_history) {
            let history = self.record(seed, 350);
            for number in 0..per_history {
                let outcome = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
                    self.cut(&history, seed * per_history + number)
                }));
                match outcome {
                    Ok(more) => {
                        covered.files += more.files;
                        covered.promised_bytes += more.promised_bytes;
                    }
                    Err(_) => panic!("{self:?}: STORAGE_SEED={seed}, cut {number} of {per_history}"),
                }
            }
        }
        assert!(covered.promised_bytes > 0, "nothing was promised, so nothing was tested");
        std::eprintln!("{self:?}: {wanted} cuts, {covered:?}");
    }
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn exfat_survives_power_cuts() {
    for (mebibytes, cluster) in [(2, 1024), (6, 8192)] {
        Machine { kind: Kind::Exfat, mebibytes, cluster, mirrored: false }.cuts();
    }
}

#[test]
fn fat16_survives_power_cuts() {
    Machine { kind: Kind::Fat16, mebibytes: 5, cluster: 1024, mirrored: false }.cuts();
}

#[test]
fn fat32_survives_power_cuts() {
    Machine { kind: Kind::Fat32, mebibytes: 34, cluster: 512, mirrored: false }.cuts();
}

#[test]
fn an_exfat_mirror_survives_power_cuts() {
    Machine { kind: Kind::Exfat, mebibytes: 6, cluster: 4096, mirrored: true }.cuts();
}

#[test]
fn a_fat32_mirror_survives_power_cuts() {
    Machine { kind: Kind::Fat32, mebibytes: 34, cluster: 512, mirrored: true }.cuts();
}
