//! Power cuts: a stream of operations is recorded with its flushes, and the disk rebuilt as any cut would leave it, with
//! any of the writes since the last flush lost, reordered or torn. Then the volume has to mount by replay alone, be
//! sound to a foreign checker, show exactly the names of some moment not before the last acknowledged flush, every byte
//! acknowledged, and no byte of anybody else.
//!
//! `STORAGE_CUTS` sets the number of cuts for each kind of volume, `STORAGE_SEED` where to start.

use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::tests::{assert_sound, mount_journaled, units};
use super::*;
use crate::format::{Kind, Options};
use crate::test_devices::{Generator, RamDisk, Recorder};
use crate::{BlockDevice, Slice};

type Lock = parking_lot::RawMutex;

/// The byte that file `tag` has at `offset`; never 0.
fn byte(tag: u32, offset: u64) -> u8 {
    let mixed = (tag.wrapping_mul(0x9E37_79B1) ^ (offset / 16) as u32).wrapping_mul(0x85EB_CA6B);
    (mixed >> 24) as u8 | 1
}

/// All names after an operation: files with their tags, directories with `None`.
type Names = BTreeMap<String, Option<u32>>;

/// Bytes acknowledged by a flush.
struct Promise {
    tag: u32,
    length: u64,
    operation: usize,
}

struct History {
    recorder: Arc<Recorder>,
    journal_blocks: u64,
    /// Names after each operation.
    names: Vec<Names>,
    promises: Vec<Promise>,
    /// When a file was last made shorter.
    cut_short: BTreeMap<u32, usize>,
}

fn parts(
    device: Arc<dyn BlockDevice>,
    journal_blocks: u64,
) -> (Arc<dyn BlockDevice>, Option<Arc<dyn BlockDevice>>) {
    let volume = Slice::new(device.clone(), journal_blocks, device.blocks() - journal_blocks).unwrap();
    let journal = Slice::new(device, 0, journal_blocks).unwrap();
    (Arc::new(volume), Some(Arc::new(journal)))
}

/// Runs a stream of operations over a small volume, so that clusters are soon used again.
fn record(kind: Kind, mebibytes: u64, cluster: u32, seed: u64, steps: usize) -> History {
    let mut random = Generator::new(seed);
    let journal_blocks = [160, 256, 600, 2000][random.below(4) as usize];
    let disk = RamDisk::new(journal_blocks + mebibytes * 2048, 512);
    let ram = Arc::new(disk);
    let options = Options { kind, label: vec![], unique: [seed as u8; 16], cluster: Some(cluster) };
    let (volume, _) = parts(ram.clone(), journal_blocks);
    crate::format::volume(&*volume, 0, &options).unwrap();
    let recorder = Recorder::new(ram.duplicate());
    let (device, journal) = parts(recorder.clone(), journal_blocks);
    let volume = mount_journaled(device, journal, 2 << 20).unwrap();
    let mut history = History {
        recorder,
        journal_blocks,
        names: vec![Names::new()],
        promises: vec![],
        cut_short: BTreeMap::new(),
    };
    let mut names = Names::new();
    let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
    let mut next_tag = 1;
    for _ in 0..steps {
        let operation = history.names.len();
        step(&volume, &mut random, &mut names, &mut sizes, &mut next_tag, &mut history, operation);
        history.names.push(names.clone());
    }
    history
}

fn pick(random: &mut Generator, names: &Names, want: impl Fn(&Option<u32>) -> bool) -> Option<String> {
    let all: Vec<&String> = names.iter().filter(|entry| want(entry.1)).map(|entry| entry.0).collect();
    if all.is_empty() { None } else { Some(all[random.below(all.len() as u64) as usize].to_string()) }
}

fn new_path(random: &mut Generator, names: &Names) -> String {
    let name = match random.below(3) {
        0 => format!("f{}", random.below(30)),
        _ => format!("a rather long name, number {}", random.below(60)),
    };
    match pick(random, names, Option::is_none).filter(|_| random.below(3) > 0) {
        Some(directory) if directory.matches('\\').count() < 3 => format!("{directory}\\{name}"),
        _ => name,
    }
}

fn step(
    volume: &Volume<Lock>,
    random: &mut Generator,
    names: &mut Names,
    sizes: &mut BTreeMap<u32, u64>,
    next_tag: &mut u32,
    history: &mut History,
    operation: usize,
) {
    let file = pick(random, names, Option::is_some);
    match random.below(100) {
        0..30 => {
            let path = new_path(random, names);
            if names.contains_key(&path) {
                return;
            }
            let Ok(node) = volume.create(&units(&path), NodeKind::File, FileAttributes(0)) else { return };
            let tag = *next_tag;
            *next_tag += 1;
            names.insert(path, Some(tag));
            sizes.insert(tag, 0);
            let length = if random.once_in(3) { random.below(60_000) } else { random.below(3000) };
            append(volume, node, tag, length, sizes);
            if random.once_in(3) {
                promise(volume, node, tag, sizes, history, operation, names);
            }
            volume.close(node).unwrap();
        }
        30..36 => {
            let path = new_path(random, names);
            if names.contains_key(&path) {
                return;
            }
            if let Ok(node) = volume.create(&units(&path), NodeKind::Directory, FileAttributes(0)) {
                names.insert(path, None);
                volume.close(node).unwrap();
            }
        }
        36..55 => {
            let Some(path) = file else { return };
            let tag = names[&path].unwrap();
            let node = volume.open(&units(&path)).unwrap();
            append(volume, node, tag, random.below(20_000), sizes);
            if random.once_in(3) {
                promise(volume, node, tag, sizes, history, operation, names);
            }
            volume.close(node).unwrap();
        }
        55..75 => {
            let Some(path) = pick(random, names, |_| true) else { return };
            let node = volume.open(&units(&path)).unwrap();
            if volume.remove(node).is_ok() {
                names.remove(&path);
            }
            volume.close(node).unwrap();
        }
        75..87 => {
            let Some(path) = pick(random, names, |_| true) else { return };
            let target = new_path(random, names);
            if target == path {
                return;
            }
            let node = volume.open(&units(&path)).unwrap();
            if volume.rename(node, &units(&target), true).is_ok() {
                names.remove(&target);
                let prefix = format!("{path}\\");
                let moved: Vec<(String, Option<u32>)> = names
                    .iter()
                    .filter(|entry| *entry.0 == path || entry.0.starts_with(&prefix))
                    .map(|entry| (entry.0.clone(), *entry.1))
                    .collect();
                for (old, what) in moved {
                    names.remove(&old);
                    names.insert(format!("{target}{}", &old[path.len()..]), what);
                }
            }
            volume.close(node).unwrap();
        }
        87..93 => {
            let Some(path) = file else { return };
            let tag = names[&path].unwrap();
            let node = volume.open(&units(&path)).unwrap();
            let size = random.below(sizes[&tag] + 1);
            volume.set_size(node, size).unwrap();
            sizes.insert(tag, size);
            history.cut_short.insert(tag, operation);
            volume.close(node).unwrap();
        }
        93..98 => volume.sync().unwrap(),
        _ => {
            volume.sync().unwrap();
            volume.sync().unwrap();
            // All names up to the operation before are safe.
            history.recorder.mark(operation as u64 - 1);
        }
    }
}

fn append(volume: &Volume<Lock>, node: Node, tag: u32, length: u64, sizes: &mut BTreeMap<u32, u64>) {
    let size = sizes[&tag];
    let bytes: Vec<u8> = (size..size + length).map(|offset| byte(tag, offset)).collect();
    if volume.write(node, size, &bytes).is_ok() {
        sizes.insert(tag, size + length);
    }
}

fn promise(
    volume: &Volume<Lock>,
    node: Node,
    tag: u32,
    sizes: &BTreeMap<u32, u64>,
    history: &mut History,
    operation: usize,
    names: &Names,
) {
    volume.flush(node).unwrap();
    history.promises.push(Promise { tag, length: sizes[&tag], operation });
    // The operation itself counts as done, with these names.
    assert_eq!(history.names.len(), operation);
    let _ = names;
    history.recorder.mark(operation as u64);
}

/// Cuts the power and looks at what is left.
fn cut(history: &History, kind: Kind, seed: u64) {
    let mut random = Generator::new(seed);
    let place = random.below(history.recorder.events() as u64 + 1) as usize;
    let (disk, mark) = history.recorder.cut(place, &mut random);
    let disk = Arc::new(disk);
    let (device, journal) = parts(disk.clone(), history.journal_blocks);
    let volume = mount_journaled(device, journal, 2 << 20).unwrap();
    assert!(!volume.status().read_only);
    let mark = mark.unwrap_or(0) as usize;

    // Every name, with what its file holds.
    let mut found: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let directory = volume.open(&units(&path)).unwrap();
        let mut entries = vec![];
        volume
            .list(directory, 0, &mut |entry| {
                entries.push((String::from_utf16(entry.name).unwrap(), entry.metadata));
                true
            })
            .unwrap();
        volume.close(directory).unwrap();
        for (name, metadata) in entries {
            let path = if path.is_empty() { name } else { format!("{path}\\{name}") };
            if metadata.kind == NodeKind::Directory {
                found.insert(path.clone(), None);
                todo.push(path);
            } else {
                let node = volume.open(&units(&path)).unwrap();
                let content = volume.read(node, 0, u32::MAX).unwrap().to_vec();
                assert_eq!(content.len() as u64, metadata.size);
                found.insert(path, Some(content));
                volume.close(node).unwrap();
            }
        }
    }
    let same_names = |names: &Names| {
        names.len() == found.len()
            && names
                .iter()
                .zip(&found)
                .all(|(name, found)| name.0 == found.0 && name.1.is_some() == found.1.is_some())
    };
    // Several moments may have the same names with other files behind them: one of them has to fit altogether.
    let clean = |names: &Names| {
        names.iter().all(|(path, tag)| match (tag, &found[path]) {
            (Some(tag), Some(content)) => content
                .iter()
                .enumerate()
                .all(|(offset, &value)| value == 0 || value == byte(*tag, offset as u64)),
            _ => true,
        })
    };
    let moments = (mark..history.names.len()).filter(|&moment| same_names(&history.names[moment]));
    let moments: Vec<usize> = moments.collect();
    assert!(!moments.is_empty(), "the names are of no moment since operation {mark}: {:?}", found.keys());
    let moments: Vec<usize> = moments.into_iter().filter(|&moment| clean(&history.names[moment])).collect();
    assert!(!moments.is_empty(), "a file has bytes that it never had");
    let kept = |moment: usize| {
        let names = &history.names[moment];
        history.promises.iter().filter(|promise| promise.operation <= mark).all(|promise| {
            let later = history.cut_short.get(&promise.tag).is_some_and(|&when| when > promise.operation);
            let path = names.iter().find(|entry| *entry.1 == Some(promise.tag)).map(|entry| entry.0);
            match path {
                Some(path) if !later => {
                    let content = found[path].as_ref().unwrap();
                    let length = promise.length as usize;
                    content.len() >= length
                        && (0..length).all(|offset| content[offset] == byte(promise.tag, offset as u64))
                }
                _ => true,
            }
        })
    };
    assert!(moments.into_iter().any(kept), "bytes that a flush acknowledged are not there");

    volume.unmount().unwrap();
    let image = disk.image();
    let part = RamDisk::from_image(&image[history.journal_blocks as usize * 512..]);
    assert_sound(&part, kind);
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn cuts(kind: Kind, mebibytes: u64, cluster: u32) {
    let wanted = environment("STORAGE_CUTS").unwrap_or(if cfg!(target_endian = "big") { 20 } else { 100 });
    let first = environment("STORAGE_SEED").unwrap_or(0);
    let per_history = wanted.min(50);
    for seed in first..first + wanted.div_ceil(per_history) {
        let history = record(kind, mebibytes, cluster, seed, 250);
        for number in 0..per_history {
            let seed_of_cut = seed * per_history + number;
            let outcome = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
                cut(&history, kind, seed_of_cut);
            }));
            assert!(outcome.is_ok(), "STORAGE_SEED={seed}, cut {number}");
        }
    }
}

#[test]
fn exfat_survives_power_cuts() {
    cuts(Kind::Exfat, 2, 1024);
    cuts(Kind::Exfat, 4, 8192);
}

#[test]
fn fat_survives_power_cuts() {
    cuts(Kind::Fat16, 5, 1024);
    cuts(Kind::Fat32, 34, 512);
}
