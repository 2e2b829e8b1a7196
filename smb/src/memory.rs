//! A volume that lives in memory: for tests, fuzzing and demonstrations.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::environment::{
    Entry, Metadata, MetadataChange, NodeKind, Space, Volume, VolumeError, VolumeInformation,
};
use crate::fscc::{FileAttributes, FileTime, is_valid_component, upcase};

/// Bytes that a file or volume in memory may have.
const MAXIMUM_SIZE: u64 = 1 << 28;
/// Bytes a cluster.
const CLUSTER: u32 = 4096;

/// The number of the root.
const ROOT: u32 = 1;

/// A tree of files in memory.
pub struct MemoryVolume {
    inner: spin::Mutex<Inner>,
    clock: fn() -> FileTime,
    label: Vec<u16>,
}

struct Inner {
    nodes: BTreeMap<u32, Node>,
    next: u32,
}

struct Node {
    name: Vec<u16>,
    /// The directory it lies in, while it has a name there.
    parent: Option<u32>,
    metadata: Metadata,
    data: Vec<u8>,
    /// Entries by up-cased name.
    names: BTreeMap<Vec<u16>, u32>,
    /// Entries by number, which is the order in which they are listed.
    order: BTreeMap<u32, ()>,
    uses: u32,
}

fn key(name: &[u16]) -> Vec<u16> {
    name.iter().map(|unit| upcase(*unit)).collect()
}

impl Inner {
    fn node(&self, number: u32) -> Result<&Node, VolumeError> {
        self.nodes.get(&number).ok_or(VolumeError::Stale)
    }

    fn node_mut(&mut self, number: u32) -> Result<&mut Node, VolumeError> {
        self.nodes.get_mut(&number).ok_or(VolumeError::Stale)
    }

    fn child(&self, directory: u32, name: &[u16]) -> Result<Option<u32>, VolumeError> {
        let node = self.node(directory)?;
        if node.metadata.kind != NodeKind::Directory {
            return Err(VolumeError::PathNotFound);
        }
        Ok(node.names.get(&key(name)).copied())
    }

    /// The directory that `path` lies in, and its last component.
    fn locate<'a>(&self, path: &'a [u16]) -> Result<(u32, &'a [u16]), VolumeError> {
        let mut components = path.split(|unit| *unit == u16::from(b'\\'));
        let mut last = components.next().unwrap_or(&[]);
        let mut directory = ROOT;
        for component in components {
            directory = self.child(directory, last)?.ok_or(VolumeError::PathNotFound)?;
            last = component;
        }
        if self.node(directory)?.metadata.kind != NodeKind::Directory {
            return Err(VolumeError::PathNotFound);
        }
        Ok((directory, last))
    }

    fn unlink(&mut self, number: u32) -> Result<(), VolumeError> {
        let node = self.node_mut(number)?;
        let Some(parent) = node.parent.take() else { return Err(VolumeError::NotFound) };
        let name = key(&node.name);
        let parent = self.node_mut(parent)?;
        parent.names.remove(&name);
        parent.order.remove(&number);
        Ok(())
    }

    fn forget_if_unused(&mut self, number: u32) {
        if self
            .nodes
            .get(&number)
            .is_some_and(|node| node.uses == 0 && node.parent.is_none() && number != ROOT)
        {
            self.nodes.remove(&number);
        }
    }
}

impl MemoryVolume {
    /// An empty volume whose time stamps come from `clock`.
    pub fn new(label: &str, clock: fn() -> FileTime) -> MemoryVolume {
        let now = clock();
        let metadata = Metadata {
            kind: NodeKind::Directory,
            attributes: FileAttributes::DIRECTORY,
            size: 0,
            allocated: 0,
            created: now,
            accessed: now,
            modified: now,
            file_id: u64::from(ROOT),
        };
        let root = Node {
            name: Vec::new(),
            parent: None,
            metadata,
            data: Vec::new(),
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            uses: 0,
        };
        let mut nodes = BTreeMap::new();
        nodes.insert(ROOT, root);
        MemoryVolume {
            inner: spin::Mutex::new(Inner { nodes, next: ROOT + 1 }),
            clock,
            label: label.encode_utf16().collect(),
        }
    }

    /// Nodes that are open, each counted as often as it is: 0 when no use was leaked.
    pub fn uses(&self) -> u32 {
        self.inner.lock().nodes.values().map(|node| node.uses).sum()
    }
}

impl Volume for MemoryVolume {
    type Node = u32;
    type Payload = Vec<u8>;

    fn open(&self, path: &[u16]) -> Result<u32, VolumeError> {
        let mut inner = self.inner.lock();
        let number = if path.is_empty() {
            ROOT
        } else {
            let (directory, name) = inner.locate(path)?;
            inner.child(directory, name)?.ok_or(VolumeError::NotFound)?
        };
        inner.node_mut(number)?.uses += 1;
        Ok(number)
    }

    fn create(&self, path: &[u16], kind: NodeKind, attributes: FileAttributes) -> Result<u32, VolumeError> {
        let now = (self.clock)();
        let mut inner = self.inner.lock();
        let (directory, name) = inner.locate(path)?;
        if !is_valid_component(name) {
            return Err(VolumeError::NameInvalid);
        }
        if inner.child(directory, name)?.is_some() {
            return Err(VolumeError::Exists);
        }
        if inner.nodes.len() > 200_000 {
            return Err(VolumeError::Full);
        }
        let number = inner.next;
        inner.next = number.checked_add(1).ok_or(VolumeError::NoResources)?;
        let mut attributes = attributes & FileAttributes::STORED;
        if kind == NodeKind::Directory {
            attributes |= FileAttributes::DIRECTORY;
        }
        let metadata = Metadata {
            kind,
            attributes,
            size: 0,
            allocated: 0,
            created: now,
            accessed: now,
            modified: now,
            file_id: u64::from(number),
        };
        let node = Node {
            name: name.to_vec(),
            parent: Some(directory),
            metadata,
            data: Vec::new(),
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            uses: 1,
        };
        inner.nodes.insert(number, node);
        let parent = inner.node_mut(directory)?;
        parent.names.insert(key(name), number);
        parent.order.insert(number, ());
        parent.metadata.modified = now;
        Ok(number)
    }

    fn close(&self, node: u32) -> Result<(), VolumeError> {
        let mut inner = self.inner.lock();
        let entry = inner.node_mut(node)?;
        entry.uses = entry.uses.checked_sub(1).ok_or(VolumeError::Stale)?;
        inner.forget_if_unused(node);
        Ok(())
    }

    fn metadata(&self, node: u32) -> Result<Metadata, VolumeError> {
        Ok(self.inner.lock().node(node)?.metadata)
    }

    fn change_metadata(&self, node: u32, change: &MetadataChange) -> Result<(), VolumeError> {
        let mut inner = self.inner.lock();
        let metadata = &mut inner.node_mut(node)?.metadata;
        if let Some(attributes) = change.attributes {
            metadata.attributes =
                (metadata.attributes & FileAttributes::DIRECTORY) | (attributes & FileAttributes::STORED);
        }
        metadata.created = change.created.unwrap_or(metadata.created);
        metadata.accessed = change.accessed.unwrap_or(metadata.accessed);
        metadata.modified = change.modified.unwrap_or(metadata.modified);
        Ok(())
    }

    fn path(&self, node: u32, path: &mut Vec<u16>) -> Result<(), VolumeError> {
        let inner = self.inner.lock();
        let mut components = Vec::new();
        let mut at = node;
        while at != ROOT {
            let entry = inner.node(at)?;
            components.push(entry.name.as_slice());
            match entry.parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
        for (index, component) in components.iter().rev().enumerate() {
            if index > 0 {
                path.push(u16::from(b'\\'));
            }
            path.extend_from_slice(component);
        }
        Ok(())
    }

    fn read(&self, node: u32, offset: u64, length: u32) -> Result<Vec<u8>, VolumeError> {
        let inner = self.inner.lock();
        let node = inner.node(node)?;
        if node.metadata.kind == NodeKind::Directory {
            return Err(VolumeError::IsADirectory);
        }
        let rest = usize::try_from(offset).ok().and_then(|offset| node.data.get(offset..)).unwrap_or(&[]);
        Ok(rest.iter().copied().take(length as usize).collect())
    }

    fn write(&self, node: u32, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let end = offset.checked_add(data.len() as u64).ok_or(VolumeError::TooLarge)?;
        if end > MAXIMUM_SIZE {
            return Err(VolumeError::TooLarge);
        }
        let mut inner = self.inner.lock();
        let node = inner.node_mut(node)?;
        if node.metadata.kind == NodeKind::Directory {
            return Err(VolumeError::IsADirectory);
        }
        let (start, end) = (offset as usize, end as usize);
        if node.data.len() < end {
            node.data.resize(end, 0);
        }
        if let Some(place) = node.data.get_mut(start..end) {
            place.copy_from_slice(data);
        }
        node.metadata.size = node.data.len() as u64;
        node.metadata.allocated = node.metadata.size.next_multiple_of(u64::from(CLUSTER));
        Ok(())
    }

    fn set_size(&self, node: u32, size: u64) -> Result<(), VolumeError> {
        if size > MAXIMUM_SIZE {
            return Err(VolumeError::TooLarge);
        }
        let mut inner = self.inner.lock();
        let node = inner.node_mut(node)?;
        if node.metadata.kind == NodeKind::Directory {
            return Err(VolumeError::IsADirectory);
        }
        node.data.resize(size as usize, 0);
        node.metadata.size = size;
        node.metadata.allocated = size.next_multiple_of(u64::from(CLUSTER));
        Ok(())
    }

    fn rename(&self, node: u32, path: &[u16], replace: bool) -> Result<(), VolumeError> {
        let mut inner = self.inner.lock();
        let (directory, name) = inner.locate(path)?;
        if !is_valid_component(name) {
            return Err(VolumeError::NameInvalid);
        }
        // Not into itself or what lies below.
        let mut at = Some(directory);
        while let Some(number) = at {
            if number == node {
                return Err(VolumeError::PathNotFound);
            }
            at = inner.node(number)?.parent;
        }
        if let Some(other) = inner.child(directory, name)?
            && other != node
        {
            let entry = inner.node(other)?;
            if !replace {
                return Err(VolumeError::Exists);
            }
            if entry.metadata.kind == NodeKind::Directory {
                return Err(VolumeError::IsADirectory);
            }
            if entry.uses > 0 {
                return Err(VolumeError::InUse);
            }
            inner.unlink(other)?;
            inner.forget_if_unused(other);
        }
        inner.unlink(node)?;
        let entry = inner.node_mut(node)?;
        entry.name = name.to_vec();
        entry.parent = Some(directory);
        let parent = inner.node_mut(directory)?;
        parent.names.insert(key(name), node);
        parent.order.insert(node, ());
        Ok(())
    }

    fn remove(&self, node: u32) -> Result<(), VolumeError> {
        let mut inner = self.inner.lock();
        if !inner.node(node)?.names.is_empty() {
            return Err(VolumeError::NotEmpty);
        }
        inner.unlink(node)?;
        inner.forget_if_unused(node);
        Ok(())
    }

    fn list(
        &self,
        directory: u32,
        cursor: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), VolumeError> {
        let inner = self.inner.lock();
        let node = inner.node(directory)?;
        if node.metadata.kind != NodeKind::Directory {
            return Err(VolumeError::NotADirectory);
        }
        let start = u32::try_from(cursor).unwrap_or(u32::MAX);
        for number in node.order.range(start.saturating_add(1)..).map(|(number, ())| *number) {
            let child = inner.node(number)?;
            let entry = Entry {
                name: &child.name,
                short_name: None,
                metadata: child.metadata,
                cursor: u64::from(number),
            };
            if !visit(&entry) {
                break;
            }
        }
        Ok(())
    }

    fn flush(&self, node: u32) -> Result<(), VolumeError> {
        self.inner.lock().node(node).map(|_| ())
    }

    fn space(&self) -> Result<Space, VolumeError> {
        let used: u64 = self.inner.lock().nodes.values().map(|node| node.metadata.allocated).sum();
        let total = MAXIMUM_SIZE * 16;
        Ok(Space { total, free: total.saturating_sub(used), cluster: CLUSTER, sector: 512 })
    }

    fn information(&self) -> VolumeInformation {
        VolumeInformation {
            label: self.label.clone(),
            serial: 0x4D45_4D31,
            file_system: "exFAT",
            maximum_component: 255,
            created: FileTime::ZERO,
            read_only: false,
        }
    }
}
