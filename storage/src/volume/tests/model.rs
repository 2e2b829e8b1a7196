//! What a volume should hold, and random operation streams that keep a volume and the model in step.

use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::*;

/// A file or directory as it should be.
pub(crate) struct ModelNode {
    pub(crate) parent: usize,
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) children: Option<BTreeMap<String, usize>>,
    pub(crate) attributes: u32,
    pub(crate) alive: bool,
}

/// What the volume should hold.
pub(crate) struct Model {
    pub(crate) nodes: Vec<ModelNode>,
}

impl Model {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn path(&self, node: usize) -> String {
        if node == 0 {
            return String::new();
        }
        let parent = self.nodes[node].parent;
        let name = &self.nodes[node].name;
        if parent == 0 { name.clone() } else { format!("{}\\{name}", self.path(parent)) }
    }

    pub(crate) fn join(&self, directory: usize, name: &str) -> Vec<u16> {
        let path = self.path(directory);
        units(&if path.is_empty() { name.to_string() } else { format!("{path}\\{name}") })
    }

    pub(crate) fn child(&self, directory: usize, name: &str) -> Option<usize> {
        self.nodes[directory].children.as_ref().unwrap().get(&name.to_uppercase()).copied()
    }

    pub(crate) fn pick(&self, random: &mut Generator, want: impl Fn(&ModelNode) -> bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.nodes.len()).filter(|&node| self.nodes[node].alive && want(&self.nodes[node])).collect();
        if all.is_empty() { None } else { Some(all[random.below(all.len() as u64) as usize]) }
    }

    pub(crate) fn unlink(&mut self, node: usize) {
        let (parent, name) = (self.nodes[node].parent, self.nodes[node].name.to_uppercase());
        self.nodes[parent].children.as_mut().unwrap().remove(&name);
        self.nodes[node].alive = false;
    }

    pub(crate) fn link(&mut self, node: usize, parent: usize, name: &str) {
        self.nodes[node].parent = parent;
        self.nodes[node].name = name.to_string();
        self.nodes[parent].children.as_mut().unwrap().insert(name.to_uppercase(), node);
    }

    pub(crate) fn is_below(&self, mut node: usize, above: usize) -> bool {
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

pub(crate) fn random_name(random: &mut Generator) -> String {
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

/// A run: the volume, what it should hold, and what is open.
pub(crate) struct Run {
    pub(crate) disk: Arc<dyn BlockDevice>,
    pub(crate) journal: Option<Arc<dyn BlockDevice>>,
    pub(crate) volume: Volume<Lock>,
    pub(crate) model: Model,
    pub(crate) open: Vec<(Node, usize)>,
    pub(crate) random: Generator,
    pub(crate) cache: usize,
    pub(crate) largest: u64,
    pub(crate) trace: bool,
}

impl Run {
    pub(crate) fn new(disk: Arc<dyn BlockDevice>, seed: u64, cache: usize, largest: u64) -> Self {
        Self::journaled(disk, None, seed, cache, largest)
    }

    pub(crate) fn journaled(
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

    pub(crate) fn is_open(&self, node: usize) -> bool {
        self.open.iter().any(|&(_, open)| open == node)
    }

    pub(crate) fn directory(&mut self) -> usize {
        self.model.pick(&mut self.random, |node| node.children.is_some()).unwrap()
    }

    pub(crate) fn open_some(&mut self) -> Option<(Node, usize)> {
        if self.open.is_empty() || self.random.once_in(4) {
            let node = self.model.pick(&mut self.random, |node| node.children.is_none())?;
            let handle = self.volume.open(&units(&self.model.path(node))).unwrap();
            self.open.push((handle, node));
        }
        let place = self.random.below(self.open.len() as u64) as usize;
        Some(self.open[place])
    }

    pub(crate) fn close_all(&mut self) {
        for (handle, _) in self.open.drain(..) {
            self.volume.close(handle).unwrap();
        }
    }

    pub(crate) fn remount(&mut self) {
        self.close_all();
        self.volume.unmount().unwrap();
        self.volume = mount_journaled(self.disk.clone(), self.journal.clone(), self.cache).unwrap();
        assert!(!self.volume.status().found_dirty);
    }

    pub(crate) fn step(&mut self) {
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

    pub(crate) fn create(&mut self) {
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

    pub(crate) fn remove(&mut self) {
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

    pub(crate) fn rename(&mut self) {
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

    pub(crate) fn write(&mut self) {
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

    pub(crate) fn resize(&mut self) {
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

    pub(crate) fn read(&mut self) {
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

    pub(crate) fn change_attributes(&mut self) {
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

    pub(crate) fn list(&mut self) {
        let directory = self.directory();
        self.check_directory(directory);
    }

    /// The listing is the model's, also when it is read in pieces.
    pub(crate) fn check_directory(&mut self, directory: usize) {
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
    pub(crate) fn check_all(&mut self) {
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

    pub(crate) fn finish(&mut self, disk: &RamDisk, kind: Kind) {
        self.remount();
        self.check_all();
        self.volume.unmount().unwrap();
        assert_sound(disk, kind);
    }
}
