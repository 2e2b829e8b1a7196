//! Random operation streams against a model, judged by foreign checkers and readers.

use std::collections::BTreeMap;
use std::format;
use std::process::Command;
use std::string::{String, ToString};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::format::{Kind, Options};
use crate::test_devices::{Faults, FaultyDisk, Generator, RamDisk, judge};

type Lock = parking_lot::RawMutex;

/// How often the random tests go round; the big-endian machine is an emulated one, and slow.
const ROUNDS: u64 = if cfg!(target_endian = "big") { 1 } else { 3 };

/// A clock that goes on by 3.21 s at each look.
struct TestClock(AtomicU32);

impl Clock for TestClock {
    fn now(&self) -> FileTime {
        FileTime(133_800_000_000_000_000 + u64::from(self.0.fetch_add(1, Ordering::Relaxed)) * 32_100_000)
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(TestClock(AtomicU32::new(0)))
}

pub(crate) fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn options(kind: Kind, cluster: Option<u32>) -> Options {
    Options { kind, label: units("TESTDISK"), unique: [0x11; 16], cluster }
}

fn formatted(mebibytes: u64, kind: Kind, cluster: Option<u32>) -> Arc<RamDisk> {
    let disk = Arc::new(RamDisk::new(mebibytes * 2048, 512));
    crate::format::volume(&*disk, 0, &options(kind, cluster)).unwrap();
    disk
}

fn mount_with(disk: Arc<dyn BlockDevice>, cache: usize) -> Result<Volume<Lock>, VolumeError> {
    Volume::mount(Arc::new(Cache::new(cache)), disk, clock(), false)
}

pub(crate) fn mount_journaled(
    disk: Arc<dyn BlockDevice>,
    journal: Option<Arc<dyn BlockDevice>>,
    cache: usize,
) -> Result<Volume<Lock>, VolumeError> {
    Volume::mount_journaled(Arc::new(Cache::new(cache)), disk, journal, clock(), false)
}

/// The volume is sound in the eyes of fsck.
pub(crate) fn assert_sound(disk: &RamDisk, kind: Kind) {
    if let Err(text) = judge::fsck(disk, kind) {
        panic!("{text}");
    }
}

/// A file or directory as it should be.
struct ModelNode {
    parent: usize,
    name: String,
    data: Vec<u8>,
    children: Option<BTreeMap<String, usize>>,
    attributes: u32,
    alive: bool,
}

/// What the volume should hold.
struct Model {
    nodes: Vec<ModelNode>,
}

impl Model {
    fn new() -> Self {
        let root = ModelNode {
            parent: 0,
            name: String::new(),
            data: vec![],
            children: Some(BTreeMap::new()),
            attributes: 0,
            alive: true,
        };
        Self { nodes: vec![root] }
    }

    fn path(&self, node: usize) -> String {
        if node == 0 {
            return String::new();
        }
        let parent = self.nodes[node].parent;
        let name = &self.nodes[node].name;
        if parent == 0 { name.clone() } else { format!("{}\\{name}", self.path(parent)) }
    }

    fn join(&self, directory: usize, name: &str) -> Vec<u16> {
        let path = self.path(directory);
        units(&if path.is_empty() { name.to_string() } else { format!("{path}\\{name}") })
    }

    fn child(&self, directory: usize, name: &str) -> Option<usize> {
        self.nodes[directory].children.as_ref().unwrap().get(&name.to_uppercase()).copied()
    }

    fn pick(&self, random: &mut Generator, want: impl Fn(&ModelNode) -> bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.nodes.len()).filter(|&node| self.nodes[node].alive && want(&self.nodes[node])).collect();
        if all.is_empty() { None } else { Some(all[random.below(all.len() as u64) as usize]) }
    }

    fn unlink(&mut self, node: usize) {
        let (parent, name) = (self.nodes[node].parent, self.nodes[node].name.to_uppercase());
        self.nodes[parent].children.as_mut().unwrap().remove(&name);
        self.nodes[node].alive = false;
    }

    fn link(&mut self, node: usize, parent: usize, name: &str) {
        self.nodes[node].parent = parent;
        self.nodes[node].name = name.to_string();
        self.nodes[parent].children.as_mut().unwrap().insert(name.to_uppercase(), node);
    }

    fn is_below(&self, mut node: usize, above: usize) -> bool {
        loop {
            if node == above {
                return true;
            }
            if node == 0 {
                return false;
            }
            node = self.nodes[node].parent;
        }
    }
}

fn random_name(random: &mut Generator) -> String {
    const STEMS: [&str; 12] = [
        "a",
        "README.TXT",
        "Grüne",
        "long name with spaces and more.text",
        "ΑΒγ",
        "x.y.z",
        "日本語の名前",
        "UPPER",
        "mixedCase.Ext",
        "emoji 🦀 name",
        ".hidden",
        "0123456789abcdef0123456789abcdef",
    ];
    let stem = STEMS[random.below(12) as usize];
    match random.below(4) {
        0 => stem.to_string(),
        1 => stem.to_uppercase(),
        _ => format!("{stem}{}", random.below(40)),
    }
}

fn fill(random: &mut Generator, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize + 8);
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(length as usize);
    bytes
}

/// A run: the volume, what it should hold, and what is open.
struct Run {
    disk: Arc<dyn BlockDevice>,
    journal: Option<Arc<dyn BlockDevice>>,
    volume: Volume<Lock>,
    model: Model,
    open: Vec<(Node, usize)>,
    random: Generator,
    cache: usize,
    largest: u64,
    trace: bool,
}

impl Run {
    fn new(disk: Arc<dyn BlockDevice>, seed: u64, cache: usize, largest: u64) -> Self {
        Self::journaled(disk, None, seed, cache, largest)
    }

    fn journaled(
        disk: Arc<dyn BlockDevice>,
        journal: Option<Arc<dyn BlockDevice>>,
        seed: u64,
        cache: usize,
        largest: u64,
    ) -> Self {
        let volume = mount_journaled(disk.clone(), journal.clone(), cache).unwrap();
        let trace = std::env::var_os("STORAGE_TRACE").is_some();
        Self {
            disk,
            journal,
            volume,
            model: Model::new(),
            open: vec![],
            random: Generator::new(seed),
            cache,
            largest,
            trace,
        }
    }

    fn is_open(&self, node: usize) -> bool {
        self.open.iter().any(|&(_, open)| open == node)
    }

    fn directory(&mut self) -> usize {
        self.model.pick(&mut self.random, |node| node.children.is_some()).unwrap()
    }

    fn open_some(&mut self) -> Option<(Node, usize)> {
        if self.open.is_empty() || self.random.once_in(4) {
            let node = self.model.pick(&mut self.random, |node| node.children.is_none())?;
            let handle = self.volume.open(&units(&self.model.path(node))).unwrap();
            self.open.push((handle, node));
        }
        let place = self.random.below(self.open.len() as u64) as usize;
        Some(self.open[place])
    }

    fn close_all(&mut self) {
        for (handle, _) in self.open.drain(..) {
            self.volume.close(handle).unwrap();
        }
    }

    fn remount(&mut self) {
        self.close_all();
        self.volume.unmount().unwrap();
        self.volume = mount_journaled(self.disk.clone(), self.journal.clone(), self.cache).unwrap();
        assert!(!self.volume.status().found_dirty);
    }

    fn step(&mut self) {
        let choice = self.random.below(100);
        if self.trace {
            std::eprintln!("choice {choice}, {} open", self.open.len());
        }
        match choice {
            0..14 => self.create(),
            14..20 => self.remove(),
            20..30 => self.rename(),
            30..55 => self.write(),
            55..65 => self.resize(),
            65..80 => self.read(),
            80..90 => {
                if !self.open.is_empty() {
                    let place = self.random.below(self.open.len() as u64) as usize;
                    let (handle, _) = self.open.swap_remove(place);
                    self.volume.close(handle).unwrap();
                }
            }
            90..93 => self.change_attributes(),
            93..96 => self.list(),
            96 => {
                if let Some((handle, _)) = self.open_some() {
                    self.volume.flush(handle).unwrap();
                }
            }
            97 | 98 => self.volume.sync().unwrap(),
            _ => {
                if self.random.once_in(5) {
                    self.remount();
                }
            }
        }
    }

    fn create(&mut self) {
        let parent = self.directory();
        let name = random_name(&mut self.random);
        let is_directory = self.random.once_in(4);
        let kind = if is_directory { NodeKind::Directory } else { NodeKind::File };
        let result = self.volume.create(&self.model.join(parent, &name), kind, FileAttributes(0x20));
        if self.model.child(parent, &name).is_some() {
            assert_eq!(result, Err(VolumeError::Exists));
            return;
        }
        let handle = match result {
            Ok(handle) => handle,
            Err(VolumeError::Full) => return,
            Err(error) => panic!("{error:?}"),
        };
        self.model.nodes.push(ModelNode {
            parent,
            name: name.clone(),
            data: vec![],
            children: is_directory.then(BTreeMap::new),
            attributes: 0x20,
            alive: true,
        });
        let node = self.model.nodes.len() - 1;
        self.model.link(node, parent, &name);
        if is_directory {
            self.volume.close(handle).unwrap();
        } else {
            self.open.push((handle, node));
        }
    }

    fn remove(&mut self) {
        let Some(node) = self.model.pick(&mut self.random, |_| true).filter(|&node| node != 0) else {
            return;
        };
        let handle = self.volume.open(&units(&self.model.path(node))).unwrap();
        let empty = self.model.nodes[node].children.as_ref().is_none_or(|children| children.is_empty());
        let result = self.volume.remove(handle);
        if empty {
            result.unwrap();
            self.model.unlink(node);
        } else {
            assert_eq!(result, Err(VolumeError::NotEmpty));
        }
        self.volume.close(handle).unwrap();
    }

    fn rename(&mut self) {
        let Some(node) = self.model.pick(&mut self.random, |_| true).filter(|&node| node != 0) else {
            return;
        };
        let parent = if self.random.once_in(2) { self.model.nodes[node].parent } else { self.directory() };
        let name = random_name(&mut self.random);
        let replace = self.random.once_in(2);
        let handle = self.volume.open(&units(&self.model.path(node))).unwrap();
        let id = self.volume.metadata(handle).unwrap().file_id;
        let result = self.volume.rename(handle, &self.model.join(parent, &name), replace);
        let existing = self.model.child(parent, &name).filter(|&existing| existing != node);
        let expected = if self.model.nodes[node].children.is_some() && self.model.is_below(parent, node) {
            Err(VolumeError::NameInvalid)
        } else {
            match existing {
                Some(existing) if !replace || self.model.nodes[existing].children.is_some() => {
                    Err(VolumeError::Exists)
                }
                Some(existing) if self.is_open(existing) => Err(VolumeError::InUse),
                _ => Ok(()),
            }
        };
        if result == Err(VolumeError::Full) {
            self.volume.close(handle).unwrap();
            return;
        }
        assert_eq!(result, expected, "{} to {}", self.model.path(node), name);
        if result.is_ok() {
            if let Some(existing) = existing {
                self.model.unlink(existing);
            }
            let (old_parent, old_name) =
                (self.model.nodes[node].parent, self.model.nodes[node].name.to_uppercase());
            self.model.nodes[old_parent].children.as_mut().unwrap().remove(&old_name);
            self.model.link(node, parent, &name);
            assert_eq!(self.volume.metadata(handle).unwrap().file_id, id);
            let mut path = vec![];
            self.volume.path(handle, &mut path).unwrap();
            assert_eq!(path, units(&self.model.path(node)));
        }
        self.volume.close(handle).unwrap();
    }

    fn write(&mut self) {
        let Some((handle, node)) = self.open_some() else { return };
        let size = self.model.nodes[node].data.len() as u64;
        let offset = match self.random.below(4) {
            0 => self.random.below(self.largest),
            1 => self.random.below(size + 1),
            _ => size,
        };
        let length = match self.random.below(4) {
            0 => self.random.below(100),
            1 => self.random.below(self.largest / 4),
            _ => self.random.below(10_000),
        };
        let bytes = fill(&mut self.random, length);
        if self.trace {
            std::eprintln!("write {} at {offset}: {length}", self.model.path(node));
        }
        let end = (offset + length) as usize;
        match self.volume.write(handle, offset, &bytes) {
            Ok(()) => (),
            Err(VolumeError::Full) => {
                // What came of a gap is in the volume's hands: follow it.
                let now = self.volume.metadata(handle).unwrap().size;
                assert!(now as usize <= end.max(size as usize) && now >= size);
                self.model.nodes[node].data.resize(now as usize, 0);
                return;
            }
            Err(error) => panic!("{error:?}"),
        }
        self.model.nodes[node].attributes |= 0x20;
        if length > 0 {
            let data = &mut self.model.nodes[node].data;
            data.resize(data.len().max(end), 0);
            data[offset as usize..end].copy_from_slice(&bytes);
        }
    }

    fn resize(&mut self) {
        let Some((handle, node)) = self.open_some() else { return };
        let size = self.random.below(self.largest);
        if self.trace {
            std::eprintln!("resize {} to {size}", self.model.path(node));
        }
        match self.volume.set_size(handle, size) {
            Ok(()) => self.model.nodes[node].data.resize(size as usize, 0),
            Err(VolumeError::Full) => (),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn read(&mut self) {
        let Some((handle, node)) = self.open_some() else { return };
        let offset = self.random.below(self.largest);
        let length = self.random.below(self.largest.min(300_000)) as u32;
        let payload = self.volume.read(handle, offset, length).unwrap();
        let data = &self.model.nodes[node].data;
        let start = (offset as usize).min(data.len());
        let end = (offset as usize + length as usize).min(data.len());
        assert!(payload.to_vec() == data[start..end], "{} at {offset}", self.model.path(node));
        assert_eq!(self.volume.metadata(handle).unwrap().size as usize, data.len());
    }

    fn change_attributes(&mut self) {
        let Some((handle, node)) = self.open_some() else { return };
        let attributes = self.random.below(0x40) as u32 & FileAttributes::SETTABLE;
        let change = MetadataChange {
            attributes: Some(FileAttributes(attributes)),
            created: Some(FileTime(132_000_000_000_000_000)),
            ..MetadataChange::default()
        };
        self.volume.change_metadata(handle, &change).unwrap();
        self.model.nodes[node].attributes = attributes;
    }

    fn list(&mut self) {
        let directory = self.directory();
        self.check_directory(directory);
    }

    /// The listing is the model's, also when it is read in pieces.
    fn check_directory(&mut self, directory: usize) {
        let handle = self.volume.open(&units(&self.model.path(directory))).unwrap();
        let mut seen: Vec<(String, Metadata)> = vec![];
        let mut cursor = 0;
        loop {
            let mut left = 1 + self.random.below(20);
            let before = seen.len();
            self.volume
                .list(handle, cursor, &mut |entry| {
                    seen.push((String::from_utf16(entry.name).unwrap(), entry.metadata));
                    cursor = entry.cursor;
                    left -= 1;
                    left > 0
                })
                .unwrap();
            if seen.len() == before {
                break;
            }
        }
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        let children = self.model.nodes[directory].children.as_ref().unwrap();
        let mut expected: Vec<usize> = children.values().copied().collect();
        expected.sort_by(|&one, &other| self.model.nodes[one].name.cmp(&self.model.nodes[other].name));
        assert_eq!(seen.len(), expected.len(), "{}", self.model.path(directory));
        for ((name, metadata), node) in seen.iter().zip(expected) {
            let node = &self.model.nodes[node];
            assert_eq!(*name, node.name);
            match node.children {
                Some(_) => assert_eq!(metadata.kind, NodeKind::Directory),
                None => {
                    assert_eq!(metadata.size as usize, node.data.len(), "{name}");
                    assert_eq!(metadata.attributes.0, node.attributes, "{name}");
                }
            }
        }
        self.volume.close(handle).unwrap();
    }

    /// Everything is as in the model.
    fn check_all(&mut self) {
        for node in 0..self.model.nodes.len() {
            if !self.model.nodes[node].alive {
                continue;
            }
            if self.model.nodes[node].children.is_some() {
                self.check_directory(node);
            } else {
                let handle = self.volume.open(&units(&self.model.path(node))).unwrap();
                let data = &self.model.nodes[node].data;
                for offset in (0..data.len() + 1).step_by(100_000) {
                    let payload = self.volume.read(handle, offset as u64, 100_000).unwrap();
                    let end = data.len().min(offset + 100_000);
                    assert!(payload.to_vec() == data[offset..end], "{}", self.model.path(node));
                }
                self.volume.close(handle).unwrap();
            }
        }
    }

    fn finish(&mut self, disk: &RamDisk, kind: Kind) {
        self.remount();
        self.check_all();
        self.volume.unmount().unwrap();
        assert_sound(disk, kind);
    }
}

fn stream(kind: Kind, mebibytes: u64, cluster: u32, seed: u64, steps: usize, largest: u64) -> Arc<RamDisk> {
    let disk = formatted(mebibytes, kind, Some(cluster));
    let mut run = Run::new(disk.clone(), seed, 1 << 20, largest);
    for step in 0..steps {
        if run.trace {
            std::eprint!("step {step}: ");
        }
        run.step();
    }
    run.check_all();
    run.finish(&disk, kind);
    // The same again with a journal.
    crate::format::volume(&*disk, 0, &options(kind, Some(cluster))).unwrap();
    let journal = Arc::new(RamDisk::new(400 + 256 * (seed % 4), 512));
    let mut run = Run::journaled(disk.clone(), Some(journal), seed + 50, 1 << 20, largest);
    for _ in 0..steps {
        run.step();
    }
    run.check_all();
    run.finish(&disk, kind);
    disk
}

#[test]
fn exfat_streams() {
    for seed in 0..ROUNDS {
        stream(Kind::Exfat, 16, 4096, seed, 1500, 200_000);
        stream(Kind::Exfat, 8, 512, seed + 100, 1500, 60_000);
        stream(Kind::Exfat, 64, 32768, seed + 200, 1500, 400_000);
    }
}

#[test]
fn fat32_streams() {
    for seed in 0..ROUNDS {
        stream(Kind::Fat32, 40, 512, seed, 1500, 200_000);
    }
}

#[test]
fn fat16_streams() {
    for seed in 0..ROUNDS {
        stream(Kind::Fat16, 16, 2048, seed, 1500, 200_000);
        stream(Kind::Fat16, 5, 1024, seed + 100, 1000, 100_000);
    }
}

#[test]
fn a_full_volume_says_so_and_recovers() {
    for (kind, mebibytes, cluster) in [(Kind::Exfat, 4, 1024), (Kind::Fat16, 5, 1024)] {
        for seed in 0..ROUNDS {
            stream(kind, mebibytes, cluster, seed, 2500, 1_500_000);
        }
    }
}

/// Makes a disk with a foreign formatter. `None` if it is not installed.
fn foreign(mebibytes: u64, program: &str, arguments: &[&str]) -> Option<Arc<RamDisk>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("storage-mkfs-{}-{number}.img", std::process::id()));
    std::fs::File::create(&path).unwrap().set_len(mebibytes << 20).unwrap();
    // Looked for by its file: under qemu-user, starting what is not there is not an error.
    let output = ["/usr/sbin/", "/sbin/", "/usr/bin/", "/usr/local/sbin/"]
        .iter()
        .map(|place| format!("{place}{program}"))
        .find(|program| std::path::Path::new(program).exists())
        .and_then(|program| Command::new(program).args(arguments).arg(&path).output().ok());
    let image = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let Some(output) = output else {
        std::eprintln!("{program} is not installed: its volumes are not tried");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(Arc::new(RamDisk::from_image(&image)))
}

#[test]
fn volumes_made_by_others() {
    let cases: [(Kind, u64, &str, &[&str]); 8] = [
        (Kind::Exfat, 64, "mkfs.exfat", &["-L", "foreign"]),
        (Kind::Exfat, 8, "mkfs.exfat", &["-c", "512"]),
        (Kind::Exfat, 64, "mkfs.exfat", &["-c", "128K"]),
        (Kind::Fat32, 64, "mkfs.fat", &["-F", "32", "-s", "1"]),
        (Kind::Fat32, 300, "mkfs.fat", &["-F", "32"]),
        (Kind::Fat16, 32, "mkfs.fat", &["-F", "16"]),
        (Kind::Fat16, 4, "mkfs.fat", &["-F", "12"]),
        (Kind::Fat16, 16, "mkfs.fat", &["-F", "16", "-f", "1"]),
    ];
    for (kind, mebibytes, program, arguments) in cases {
        let Some(disk) = foreign(mebibytes, program, arguments) else { continue };
        let mut run = Run::new(disk.clone(), 9, 1 << 20, 150_000);
        for _ in 0..800 {
            run.step();
        }
        run.finish(&disk, kind);
    }
}

#[cfg(target_has_atomic = "64")]
#[test]
fn hadris_reads_what_we_wrote() {
    use hadris_fs::MountOptions;
    use hadris_storage::{BlockSize, MemDevice};
    for (kind, mebibytes, cluster) in
        [(Kind::Exfat, 16, 4096), (Kind::Fat32, 40, 512), (Kind::Fat16, 16, 2048)]
    {
        let disk = formatted(mebibytes, kind, Some(cluster));
        let mut run = Run::new(disk.clone(), 42, 1 << 20, 100_000);
        for _ in 0..1500 {
            run.step();
        }
        run.finish(&disk, kind);
        let device = MemDevice::new(disk.image(), BlockSize::new(512).unwrap());
        let count = if kind == Kind::Exfat {
            let mut fs = hadris_fat::exfat::sync::ExFatFs::mount(device, MountOptions::new()).unwrap();
            compare_with_hadris(&mut fs, &run.model)
        } else {
            let mut fs = hadris_fat::sync::FatFs::mount(device, MountOptions::new()).unwrap();
            compare_with_hadris(&mut fs, &run.model)
        };
        assert_eq!(count, run.model.nodes.iter().filter(|node| node.alive).count());
    }
}

/// Compares the whole tree; says how many nodes there were, root included.
#[cfg(target_has_atomic = "64")]
fn compare_with_hadris(fs: &mut impl hadris_fs::sync::FileSystem, model: &Model) -> usize {
    use hadris_fs::{DirCursor, Name};
    let mut todo = vec![(fs.root(), 0)];
    let mut count = 0;
    while let Some((node, expected)) = todo.pop() {
        count += 1;
        match &model.nodes[expected].children {
            None => {
                fs.open(node, hadris_fs::OpenMode::Read).unwrap();
                let mut data = vec![0; model.nodes[expected].data.len() + 10];
                let mut done = 0;
                loop {
                    let got = fs.read(node, done as u64, &mut data[done..]).unwrap();
                    if got == 0 {
                        break;
                    }
                    done += got;
                }
                assert!(data[..done] == model.nodes[expected].data, "{}", model.path(expected));
            }
            Some(children) => {
                let mut cursor = DirCursor::START;
                let mut seen = 0;
                while let Some(entry) = fs.readdir(node, cursor).unwrap() {
                    cursor = entry.next_cursor();
                    let name = entry.name().to_str().unwrap().to_string();
                    let child = children[&name.to_uppercase()];
                    assert_eq!(name, model.nodes[child].name);
                    let found = fs.lookup(node, Name::new(&name)).unwrap();
                    todo.push((found, child));
                    seen += 1;
                }
                assert_eq!(seen, children.len());
            }
        }
    }
    count
}

#[test]
fn fatfs_reads_what_we_wrote() {
    let disk = formatted(40, Kind::Fat32, Some(512));
    let mut run = Run::new(disk.clone(), 43, 1 << 20, 100_000);
    for _ in 0..1500 {
        run.step();
    }
    run.finish(&disk, Kind::Fat32);
    let fs = fatfs::FileSystem::new(std::io::Cursor::new(disk.image()), fatfs::FsOptions::new()).unwrap();
    let mut todo = vec![(fs.root_dir(), 0)];
    while let Some((directory, node)) = todo.pop() {
        let children = run.model.nodes[node].children.as_ref().unwrap();
        let mut seen = 0;
        for entry in directory.iter().map(|entry| entry.unwrap()) {
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            seen += 1;
            let child = children[&name.to_uppercase()];
            assert_eq!(name, run.model.nodes[child].name);
            if entry.is_dir() {
                todo.push((entry.to_dir(), child));
            } else {
                let mut data = vec![];
                std::io::Read::read_to_end(&mut entry.to_file(), &mut data).unwrap();
                assert!(data == run.model.nodes[child].data, "{name}");
            }
        }
        assert_eq!(seen, children.len());
    }
}

/// Does a bit of everything on a volume that may be damaged: errors are fine, panics and endless loops are not.
fn exercise(volume: &Volume<Lock>) {
    let mut todo = vec![(vec![], 0)];
    let mut budget = 400;
    while let Some((path, depth)) = todo.pop() {
        let Ok(node) = volume.open(&path) else { continue };
        let mut names = vec![];
        let _ = volume.list(node, 0, &mut |entry| {
            names.push((entry.name.to_vec(), entry.metadata.kind));
            names.len() < 100
        });
        let _ = volume.close(node);
        for (name, kind) in names {
            budget -= 1;
            if budget == 0 {
                return;
            }
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(u16::from(b'\\'));
            }
            below.extend_from_slice(&name);
            if kind == NodeKind::Directory && depth < 6 {
                todo.push((below.clone(), depth + 1));
            }
            let Ok(node) = volume.open(&below) else { continue };
            let _ = volume.read(node, 0, 50_000);
            let _ = volume.read(node, 3 << 20, 50_000);
            let _ = volume.path(node, &mut vec![]);
            match budget % 5 {
                0 => drop(volume.write(node, 1000, &[1; 20_000])),
                1 => drop(volume.set_size(node, 500)),
                2 => drop(volume.remove(node)),
                3 => {
                    let mut other = below.clone();
                    other.push(u16::from(b'x'));
                    let _ = volume.rename(node, &other, true);
                }
                _ => (),
            }
            let _ = volume.close(node);
        }
        let mut new = path.clone();
        if !new.is_empty() {
            new.push(u16::from(b'\\'));
        }
        new.extend(units("new"));
        for kind in [NodeKind::File, NodeKind::Directory] {
            if let Ok(node) = volume.create(&new, kind, FileAttributes(0)) {
                let _ = volume.write(node, 0, &[2; 5000]);
                let _ = volume.close(node);
            }
        }
    }
    let _ = volume.sync();
}

#[test]
fn damaged_volumes_give_errors() {
    for (kind, mebibytes, cluster) in
        [(Kind::Exfat, 16, 4096), (Kind::Fat32, 40, 512), (Kind::Fat16, 16, 2048), (Kind::Exfat, 4, 512)]
    {
        let disk = formatted(mebibytes, kind, Some(cluster));
        let mut run = Run::new(disk.clone(), 77, 1 << 20, 100_000);
        for _ in 0..700 {
            run.step();
        }
        run.finish(&disk, kind);
        // Where metadata lies: bytes that are not 0, in the first part and wherever directories are.
        let image = disk.image();
        let mut random = Generator::new(5);
        for round in 0..ROUNDS * 40 {
            let damaged = Arc::new(disk.duplicate());
            for _ in 0..1 + random.below(40) {
                let at = loop {
                    let limit = if round % 2 == 0 { image.len() as u64 / 8 } else { image.len() as u64 };
                    let at = random.below(limit);
                    if image[at as usize] != 0 {
                        break at;
                    }
                };
                let value = match random.below(3) {
                    0 => image[at as usize] ^ 1 << random.below(8),
                    1 => 0xFF,
                    _ => random.bits() as u8,
                };
                damaged.poke(at, &[value]);
            }
            if let Ok(volume) = mount_with(damaged, 1 << 20) {
                exercise(&volume);
                let _ = volume.unmount();
            }
        }
    }
}

#[test]
fn a_failing_disk_gives_errors() {
    for seed in 0..20 {
        let disk = formatted(16, Kind::Exfat, Some(4096));
        let faulty = Arc::new(FaultyDisk::new(disk.clone(), seed, Faults::default()));
        let volume = mount_with(faulty.clone(), 1 << 20).unwrap();
        exercise(&volume);
        faulty.set_faults(Faults { read: 10, write: 10, flush: 10 });
        for _ in 0..5 {
            exercise(&volume);
        }
        faulty.pull(true);
        exercise(&volume);
        let _ = volume.unmount();
    }
}

#[test]
fn a_file_beyond_eight_gibibytes() {
    let disk = Arc::new(RamDisk::new(20 << 21, 512));
    crate::format::volume(&*disk, 0, &options(Kind::Exfat, None)).unwrap();
    let volume = mount_with(disk.clone(), 4 << 20).unwrap();
    let node = volume.create(&units("huge"), NodeKind::File, FileAttributes(0)).unwrap();
    let size = (9 << 30) + 12_345;
    volume.set_size(node, size).unwrap();
    // Nothing was written, so nothing is read and no disk was filled with zeros.
    assert_eq!(volume.read(node, size - 100, 1000).unwrap().to_vec(), vec![0; 100]);
    volume.write(node, 1000, b"low").unwrap();
    assert_eq!(volume.read(node, 5 << 30, 4).unwrap().to_vec(), [0; 4]);
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    let volume = mount_with(disk.clone(), 4 << 20).unwrap();
    let node = volume.open(&units("HUGE")).unwrap();
    assert_eq!(volume.metadata(node).unwrap().size, size);
    assert_eq!(volume.read(node, 999, 5).unwrap().to_vec(), b"\0low\0");
    volume.close(node).unwrap();
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}

#[test]
fn names_cost_the_same_in_a_large_directory() {
    for (kind, mebibytes) in [(Kind::Exfat, 64), (Kind::Fat32, 64)] {
        let disk = formatted(mebibytes, kind, None);
        let volume = mount_with(disk.clone(), 8 << 20).unwrap();
        let directory = volume.create(&units("d"), NodeKind::Directory, FileAttributes(0)).unwrap();
        volume.close(directory).unwrap();
        let mut hits = vec![];
        for number in 0..10_000 {
            let path = units(&format!("d\\some file number {number}.txt"));
            let node = volume.create(&path, NodeKind::File, FileAttributes(0)).unwrap();
            volume.write(node, 0, b"x").unwrap();
            volume.close(node).unwrap();
            if number == 100 || number == 200 || number == 9_800 || number == 9_900 {
                hits.push(volume.cache.statistics().hits);
            }
        }
        let (small, large) = (hits[1] - hits[0], hits[3] - hits[2]);
        assert!(large < small * 2, "{kind:?}: {small} cache operations grew to {large}");
        for number in (0..10_000).rev() {
            let node = volume.open(&units(&format!("d\\SOME file number {number}.txt"))).unwrap();
            volume.remove(node).unwrap();
            volume.close(node).unwrap();
        }
        let free = volume.space().unwrap();
        let directory = volume.open(&units("d")).unwrap();
        volume.remove(directory).unwrap();
        volume.close(directory).unwrap();
        assert!(volume.space().unwrap().free > free.free);
        volume.unmount().unwrap();
        assert_sound(&disk, kind);
    }
}

#[test]
fn a_growing_file_stays_in_one_piece() {
    let disk = formatted(64, Kind::Exfat, Some(4096));
    let volume = mount_with(disk.clone(), 8 << 20).unwrap();
    let one = volume.create(&units("one"), NodeKind::File, FileAttributes(0)).unwrap();
    for number in 0..500 {
        volume.write(one, number * 10_000, &[1; 10_000]).unwrap();
        let other = volume.create(&units(&format!("o{number}")), NodeKind::File, FileAttributes(0)).unwrap();
        volume.write(other, 0, &[2; 5000]).unwrap();
        volume.close(other).unwrap();
    }
    let runs = volume.engine.lock().nodes.get(one.slot).unwrap().extents.runs().len();
    assert!(runs <= 12, "{runs} runs");
    volume.close(one).unwrap();
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}

#[test]
fn times_and_marks() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = formatted(64, kind, None);
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        assert_eq!(volume.information().label, units("TESTDISK"));
        let node = volume.create(&units("f"), NodeKind::File, FileAttributes(0)).unwrap();
        let change = MetadataChange {
            created: Some(FileTime(133_000_000_004_300_000)),
            modified: Some(FileTime(133_111_111_120_000_000)),
            accessed: Some(FileTime(133_222_222_220_000_000)),
            attributes: Some(FileAttributes(0x07)),
        };
        volume.change_metadata(node, &change).unwrap();
        volume.close(node).unwrap();
        // Marked dirty while in use, clean once all is written and nothing more comes.
        assert!(mount_with(Arc::new(disk.duplicate()), 1 << 20).unwrap().status().found_dirty);
        volume.sync().unwrap();
        volume.sync().unwrap();
        assert!(!mount_with(Arc::new(disk.duplicate()), 1 << 20).unwrap().status().found_dirty);
        volume.unmount().unwrap();
        assert_eq!(volume.open(&[]), Err(VolumeError::Stale));
        let volume = mount_with(disk.clone(), 1 << 20).unwrap();
        let node = volume.open(&units("F")).unwrap();
        let metadata = volume.metadata(node).unwrap();
        assert_eq!(metadata.created, FileTime(133_000_000_004_300_000));
        assert_eq!(metadata.modified, FileTime(133_111_111_120_000_000));
        assert_eq!(metadata.attributes, FileAttributes(0x07));
        volume.close(node).unwrap();
    }
}

#[test]
fn large_blocks() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = Arc::new(RamDisk::new((600 << 20) / 4096, 4096));
        crate::format::volume(&*disk, 0, &options(kind, None)).unwrap();
        let mut run = Run::new(disk, 4, 1 << 20, 150_000);
        for _ in 0..1500 {
            run.step();
        }
        run.remount();
        run.check_all();
    }
}

/// The same stream gives the same bytes on every machine: what is here was computed on a little-endian one.
#[test]
fn the_image_does_not_depend_on_the_machine() {
    let sums: Vec<u32> = [(Kind::Exfat, 8, 4096), (Kind::Fat32, 40, 512), (Kind::Fat16, 16, 2048)]
        .map(|(kind, mebibytes, cluster)| {
            let disk = formatted(mebibytes, kind, Some(cluster));
            let mut run = Run::new(disk.clone(), 1000, 1 << 20, 50_000);
            for _ in 0..500 {
                run.step();
            }
            run.finish(&disk, kind);
            crc32fast::hash(&disk.image())
        })
        .to_vec();
    assert_eq!(sums, [1_346_264_863, 302_813_775, 3_219_303_211]);
}

#[test]
fn many_clients_at_once() {
    let disk = Arc::new(RamDisk::new(64 << 11, 512));
    crate::format::volume(&*disk, 0, &options(Kind::Exfat, None)).unwrap();
    let journal: Arc<dyn BlockDevice> = Arc::new(RamDisk::new(1 << 11, 512));
    let volume = mount_journaled(disk.clone(), Some(journal), 2 << 20).unwrap();
    let volume = &volume;
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            scope.spawn(move || {
                let mut random = Generator::new(thread);
                let home = format!("client {thread}");
                let node = volume.create(&units(&home), NodeKind::Directory, FileAttributes(0)).unwrap();
                volume.close(node).unwrap();
                for round in 0..60 {
                    let path = units(&format!("{home}\\file {round}"));
                    let node = volume.create(&path, NodeKind::File, FileAttributes(0)).unwrap();
                    let data = fill(&mut random, 150_000);
                    for (number, piece) in data.chunks(20_000).enumerate() {
                        volume.write(node, number as u64 * 20_000, piece).unwrap();
                    }
                    if random.once_in(4) {
                        volume.flush(node).unwrap();
                    }
                    for _ in 0..5 {
                        let offset = random.below(150_000);
                        let read = volume.read(node, offset, 30_000).unwrap().to_vec();
                        assert!(read == data[offset as usize..(offset as usize + 30_000).min(150_000)]);
                    }
                    let other = units(&format!("moved {thread} {round}"));
                    volume.rename(node, &other, false).unwrap();
                    if random.once_in(2) {
                        volume.remove(node).unwrap();
                    }
                    volume.close(node).unwrap();
                    if random.once_in(10) {
                        volume.sync().unwrap();
                    }
                }
            });
        }
    });
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}
