//! A mounted volume as the engine wants it: the same calls, the engine's types.

use alloc::vec::Vec;

use smb::environment as engine;
use smb::fscc::{FileAttributes, FileTime};

use crate::scheduler::RawMutex;

/// A volume that shares show.
pub struct ShareVolume {
    volume: alloc::sync::Arc<storage::Volume<RawMutex>>,
}

/// The bytes of a read: pinned cache pages.
pub struct PinnedPages(storage::Payload);

impl ShareVolume {
    /// The engine's view of `volume`.
    pub fn new(volume: alloc::sync::Arc<storage::Volume<RawMutex>>) -> Self {
        Self { volume }
    }
}

impl engine::Payload for PinnedPages {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        self.0.for_each(visit);
    }
}

fn error(error: storage::volume::VolumeError) -> engine::VolumeError {
    use storage::volume::VolumeError as From;
    match error {
        From::NotFound => engine::VolumeError::NotFound,
        From::PathNotFound => engine::VolumeError::PathNotFound,
        From::Exists => engine::VolumeError::Exists,
        From::IsADirectory => engine::VolumeError::IsADirectory,
        From::NotADirectory => engine::VolumeError::NotADirectory,
        From::NotEmpty => engine::VolumeError::NotEmpty,
        From::Full => engine::VolumeError::Full,
        From::TooLarge => engine::VolumeError::TooLarge,
        From::NameInvalid => engine::VolumeError::NameInvalid,
        From::ReadOnly => engine::VolumeError::ReadOnly,
        From::InUse => engine::VolumeError::InUse,
        From::Io => engine::VolumeError::Io,
        From::Corrupt => engine::VolumeError::Corrupt,
        From::NoResources => engine::VolumeError::NoResources,
        From::Stale => engine::VolumeError::Stale,
    }
}

fn kind_in(kind: engine::NodeKind) -> storage::volume::NodeKind {
    match kind {
        engine::NodeKind::File => storage::volume::NodeKind::File,
        engine::NodeKind::Directory => storage::volume::NodeKind::Directory,
    }
}

fn metadata(from: &storage::volume::Metadata) -> engine::Metadata {
    engine::Metadata {
        kind: match from.kind {
            storage::volume::NodeKind::File => engine::NodeKind::File,
            storage::volume::NodeKind::Directory => engine::NodeKind::Directory,
        },
        attributes: FileAttributes::from_bits_retain(from.attributes.0),
        size: from.size,
        // Clients take it for a sum of what is in it.
        allocated: if from.kind == storage::volume::NodeKind::Directory { 0 } else { from.allocated },
        created: FileTime(from.created.0),
        accessed: FileTime(from.accessed.0),
        modified: FileTime(from.modified.0),
        file_id: from.file_id,
    }
}

fn attributes_in(attributes: FileAttributes) -> storage::volume::FileAttributes {
    storage::volume::FileAttributes(attributes.bits())
}

fn time_in(time: FileTime) -> storage::volume::FileTime {
    storage::volume::FileTime(time.0)
}

impl engine::Volume for ShareVolume {
    type Node = storage::volume::Node;
    type Payload = PinnedPages;

    fn open(&self, path: &[u16]) -> Result<Self::Node, engine::VolumeError> {
        self.volume.open(path).map_err(error)
    }

    fn create(
        &self,
        path: &[u16],
        kind: engine::NodeKind,
        attributes: FileAttributes,
    ) -> Result<Self::Node, engine::VolumeError> {
        self.volume.create(path, kind_in(kind), attributes_in(attributes)).map_err(error)
    }

    fn close(&self, node: Self::Node) -> Result<(), engine::VolumeError> {
        self.volume.close(node).map_err(error)
    }

    fn metadata(&self, node: Self::Node) -> Result<engine::Metadata, engine::VolumeError> {
        self.volume.metadata(node).map(|from| metadata(&from)).map_err(error)
    }

    fn change_metadata(
        &self,
        node: Self::Node,
        change: &engine::MetadataChange,
    ) -> Result<(), engine::VolumeError> {
        let change = storage::volume::MetadataChange {
            attributes: change.attributes.map(attributes_in),
            created: change.created.map(time_in),
            accessed: change.accessed.map(time_in),
            modified: change.modified.map(time_in),
        };
        self.volume.change_metadata(node, &change).map_err(error)
    }

    fn path(&self, node: Self::Node, path: &mut Vec<u16>) -> Result<(), engine::VolumeError> {
        self.volume.path(node, path).map_err(error)
    }

    fn short_name(&self, node: Self::Node, name: &mut Vec<u16>) -> Result<(), engine::VolumeError> {
        self.volume.short_name(node, name).map_err(error)
    }

    fn read(&self, node: Self::Node, offset: u64, length: u32) -> Result<Self::Payload, engine::VolumeError> {
        self.volume.read(node, offset, length).map(PinnedPages).map_err(error)
    }

    fn write(&self, node: Self::Node, offset: u64, data: &[u8]) -> Result<(), engine::VolumeError> {
        self.volume.write(node, offset, data).map_err(error)
    }

    fn set_size(&self, node: Self::Node, size: u64) -> Result<(), engine::VolumeError> {
        self.volume.set_size(node, size).map_err(error)
    }

    fn rename(&self, node: Self::Node, path: &[u16], replace: bool) -> Result<(), engine::VolumeError> {
        self.volume.rename(node, path, replace).map_err(error)
    }

    fn remove(&self, node: Self::Node) -> Result<(), engine::VolumeError> {
        self.volume.remove(node).map_err(error)
    }

    fn list(
        &self,
        directory: Self::Node,
        cursor: u64,
        visit: &mut dyn FnMut(&engine::Entry<'_>) -> bool,
    ) -> Result<(), engine::VolumeError> {
        let mut visit = |entry: &storage::volume::Entry<'_>| {
            visit(&engine::Entry {
                name: entry.name,
                short_name: entry.short_name,
                metadata: metadata(&entry.metadata),
                cursor: entry.cursor,
            })
        };
        self.volume.list(directory, cursor, &mut visit).map_err(error)
    }

    fn flush(&self, node: Self::Node) -> Result<(), engine::VolumeError> {
        self.volume.flush(node).map_err(error)
    }

    fn space(&self) -> Result<engine::Space, engine::VolumeError> {
        let from = self.volume.space().map_err(error)?;
        Ok(engine::Space { total: from.total, free: from.free, cluster: from.cluster, sector: from.sector })
    }

    fn information(&self) -> engine::VolumeInformation {
        let from = self.volume.information();
        engine::VolumeInformation {
            label: from.label,
            serial: from.serial,
            file_system: from.file_system,
            maximum_component: from.maximum_component,
            created: time_in_back(from.created),
            read_only: from.read_only,
        }
    }
}

fn time_in_back(time: storage::volume::FileTime) -> FileTime {
    FileTime(time.0)
}
