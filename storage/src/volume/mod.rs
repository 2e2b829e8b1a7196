//! Mounted volumes: exFAT, FAT32, FAT16 and FAT12.
//!
//! [`Volume`] has one lock over the volume's structure. Reads of data in memory and all changes of structure happen
//! under it; reads that wait for the device, and overwriting, happen outside. Metadata changes of an operation are
//! collected in a transaction and reach the cache together.

pub(crate) mod bytes;
mod directory;
mod engine;
pub(crate) mod entry;
mod extents;
pub(crate) mod geometry;
mod group;
mod grow;
mod node;
mod operations;
mod ranges;
pub(crate) mod space_map;
mod streams;
mod transaction;
mod types;
mod valid_data;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use lock_api::{Mutex, RawMutex};

use crate::BlockDevice;
use crate::cache::{Cache, DeviceIndex, Payload};
use crate::hash_index::NONE;
use crate::journal::{Journal, Owner, Replay, ReplayError};
use crate::time::Clock;
use engine::Engine;
use group::Log;
pub use grow::{GrowError, Grown, grow};
pub use types::{
    Entry, FileAttributes, FileTime, Metadata, MetadataChange, Node, NodeKind, Space, VolumeError,
    VolumeInformation,
};

/// A mounted volume. Operations may be called from several threads at once; they may wait for the device.
pub struct Volume<R: RawMutex> {
    engine: Mutex<R, Engine<R>>,
    /// Locked by who brings a group to it; taken before `engine`.
    journal: Mutex<R, Option<Log>>,
    /// Flushes of the device begun, to make groups safe.
    flushes: AtomicU32,
    cache: Arc<Cache<R>>,
    device: DeviceIndex,
}

/// Counters for the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Files and directories open.
    pub open_nodes: usize,
    /// The volume was not left cleanly before it was mounted.
    pub found_dirty: bool,
    /// No changes: asked for at mount, or because the structure is damaged.
    pub read_only: bool,
    /// The structure is damaged: a check is needed.
    pub damaged: bool,
    /// Metadata changes since mount.
    pub changes: u32,
}

impl<R: RawMutex> Volume<R> {
    /// Mounts the volume that fills `device` (a whole disk, or a partition's [`Slice`](crate::Slice)).
    pub fn mount(
        cache: Arc<Cache<R>>,
        device: Arc<dyn BlockDevice>,
        clock: Arc<dyn Clock>,
        read_only: bool,
    ) -> Result<Self, VolumeError> {
        Self::mount_journaled(cache, device, None, clock, read_only)
    }

    /// As [`mount`](Self::mount), with a journal in `journal`: what was interrupted by a power cut is completed first,
    /// and from then on every change of the structure is atomic. The journal lies outside the volume, in the private
    /// partition of the same disk (or array), so that a flush of the one flushes the other: see
    /// [`Layout::journal`](crate::partition::Layout::journal).
    pub fn mount_journaled(
        cache: Arc<Cache<R>>,
        device: Arc<dyn BlockDevice>,
        journal: Option<Arc<dyn BlockDevice>>,
        clock: Arc<dyn Clock>,
        mut read_only: bool,
    ) -> Result<Self, VolumeError> {
        let mut replay = Replay::default();
        let mut opened = None;
        if let Some(journal) = journal {
            match open_journal(journal, &*device)? {
                Some((journal, done)) => {
                    replay = done;
                    opened = Some(journal);
                }
                None => read_only = true,
            }
        }
        if replay.groups > 0 {
            log::info!("volume: {} groups, {} sectors from the journal", replay.groups, replay.sectors);
        }
        let device = cache.attach(device).ok_or(VolumeError::NoResources)?;
        match Engine::mount(cache.clone(), device, clock, read_only) {
            Ok(mut engine) => {
                if opened.is_some() {
                    let log = opened
                        .as_ref()
                        .map_or(0, |journal| journal.fill().1 as usize / crate::journal::IMAGE);
                    let pages = cache.statistics().maximum_pages as usize;
                    engine.groups = Some(group::Groups::new((log / 8).min(pages / 8)));
                    if replay.trusted {
                        engine.found_sound();
                    }
                }
                let journal = Mutex::new(opened.map(Log::new));
                Ok(Self { engine: Mutex::new(engine), journal, flushes: AtomicU32::new(0), cache, device })
            }
            Err(error) => {
                cache.detach(device);
                Err(error)
            }
        }
    }

    fn with<T>(
        &self,
        operation: impl FnOnce(&mut Engine<R>) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        let mut engine = self.engine.lock();
        if engine.unmounted {
            return Err(VolumeError::Stale);
        }
        let result = operation(&mut engine);
        if matches!(result, Err(VolumeError::Corrupt)) {
            // Nothing is built on a contradiction, wherever it was met.
            let _ = engine.corrupt("its structure contradicts itself");
        }
        result
    }

    fn with_node<T>(
        &self,
        node: Node,
        operation: impl FnOnce(&mut Engine<R>, u32) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        self.with(|engine| {
            let slot = engine.nodes.resolve(node)?;
            operation(engine, slot)
        })
    }

    /// Finds `path`: UTF-16 in the machine's order, components parted by `\`, none in front or behind; empty is the
    /// root. NotFound when the last component is missing, PathNotFound when one before it is.
    pub fn open(&self, path: &[u16]) -> Result<Node, VolumeError> {
        self.with(|engine| engine.open_path(path))
    }

    /// Makes a new file or directory at `path`, which must not exist (Exists).
    pub fn create(
        &self,
        path: &[u16],
        kind: NodeKind,
        attributes: FileAttributes,
    ) -> Result<Node, VolumeError> {
        self.before_change()?;
        self.with_space(|| self.with(|engine| engine.create_path(path, kind, attributes)))
    }

    /// Gives one use back. The data of a file that was removed meanwhile is freed with its last use.
    pub fn close(&self, node: Node) -> Result<(), VolumeError> {
        // Whatever happens there, the use is given back.
        let relieved = self.relieve();
        if let Err(error) = relieved {
            log::warn!("volume: the journal could not be written: {error}");
        }
        let closed = self.when_whole(node, true, |engine, slot| engine.close_node(slot));
        if closed.is_err() {
            // Perhaps its gaps could not be filled. If it is closed already, this does nothing.
            let _ = self.with_node(node, |engine, slot| engine.close_node(slot));
        }
        closed
    }

    /// Sizes, times and attributes.
    pub fn metadata(&self, node: Node) -> Result<Metadata, VolumeError> {
        self.with_node(node, |engine, slot| Ok(engine.node_metadata(engine.nodes.get(slot)?)))
    }

    /// Sets what is `Some` in `change`.
    pub fn change_metadata(&self, node: Node, change: &MetadataChange) -> Result<(), VolumeError> {
        self.with_node(node, |engine, slot| {
            engine.check_writable()?;
            let steps = engine.time_steps();
            let node = engine.nodes.get_mut(slot)?;
            if node.directory == NONE {
                // The root has no entry that could keep them.
                return Ok(());
            }
            let record = &mut node.record;
            if let Some(attributes) = change.attributes {
                record.attributes =
                    record.attributes & !FileAttributes::SETTABLE | attributes.0 & FileAttributes::SETTABLE;
            }
            let times = &mut record.times;
            for (time, wanted, step) in [
                (&mut times.created, change.created, steps.created),
                (&mut times.accessed, change.accessed, steps.accessed),
                (&mut times.modified, change.modified, steps.modified),
            ] {
                *time = wanted.map_or(*time, |wanted| wanted.as_stored(step));
            }
            node.dirty = true;
            Ok(())
        })
    }

    /// The node's path as stored (case as created), appended to `path`. Stale once it was removed.
    pub fn path(&self, node: Node, path: &mut Vec<u16>) -> Result<(), VolumeError> {
        self.with_node(node, |engine, slot| engine.path_of(slot, path))
    }

    /// The 8.3 name stored beside the node's name, appended to `name`: nothing where there is none.
    pub fn short_name(&self, node: Node, name: &mut Vec<u16>) -> Result<(), VolumeError> {
        self.with_node(node, |engine, slot| {
            name.extend_from_slice(engine.nodes.get(slot)?.record.short_name().unwrap_or(&[]));
            Ok(())
        })
    }

    /// Up to `length` bytes at `offset`; shorter only at the end of the file, empty beyond it.
    pub fn read(&self, node: Node, offset: u64, length: u32) -> Result<Payload, VolumeError> {
        let mut payload = Payload::new();
        let mut pieces = Vec::new();
        let mut ahead = Vec::new();
        let waits = self.with_node(node, |engine, slot| {
            let file = engine.nodes.get(slot)?;
            if file.own != NONE {
                return Err(VolumeError::IsADirectory);
            }
            let end = offset.saturating_add(u64::from(length)).min(file.record.size);
            if offset >= end {
                return Ok(false);
            }
            let valid = file.record.valid;
            if offset < valid {
                engine.load_extents(slot)?;
                payload.reserve(((end.min(valid) - offset) / crate::cache::PAGE_SIZE as u64) as usize + 2);
                engine.read_ahead(slot, offset, end, &mut ahead)?;
            }
            let mut position = offset;
            while position < end {
                let (is_written, until) = engine.nodes.get(slot)?.written_at(position);
                let mut count = until.min(end) - position;
                let mut place = None;
                if is_written {
                    let (from, room) = engine.map_position(slot, position)?;
                    count = count.min(room);
                    place = Some(from);
                }
                // In order: behind a piece that has to be waited for, all others are waited for.
                let is_there = pieces.is_empty()
                    && match place {
                        Some(place) => {
                            self.cache.read_now(self.device, place, count as usize, &mut payload)?
                        }
                        None => {
                            payload.push_zeros(count as usize);
                            true
                        }
                    };
                if !is_there {
                    pieces.push((place, count as usize));
                }
                position += count;
            }
            if pieces.is_empty() {
                return Ok(false);
            }
            engine.begin_io(slot)?;
            Ok(true)
        })?;
        for (place, length) in ahead {
            self.cache.prefetch(self.device, place, length);
        }
        if waits {
            let mut result = Ok(());
            for (place, count) in pieces {
                match place {
                    Some(place) if result.is_ok() => {
                        result = self.cache.read(self.device, place, count, &mut payload);
                    }
                    _ => payload.push_zeros(count),
                }
            }
            self.engine.lock().end_io(node.slot)?;
            result?;
        }
        Ok(payload)
    }

    /// Writes all of `data` at `offset`, growing the file as needed; a gap reads as zeros.
    pub fn write(&self, node: Node, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let mut pieces: Vec<(u64, usize)> = Vec::new();
        loop {
            self.before_change()?;
            let mut zeros = Vec::new();
            let done = self.with_space(|| {
                self.with_node(node, |engine, slot| engine.write(slot, offset, data, &mut pieces, &mut zeros))
            })?;
            if done {
                break;
            }
            self.cache.write_back_ranges(self.device, &zeros)?;
        }
        if !pieces.is_empty() {
            let mut result = Ok(());
            let mut rest = data;
            for (place, count) in pieces {
                let (now, later) = rest.split_at(count.min(rest.len()));
                rest = later;
                result = result.and_then(|()| self.cache.write(self.device, place, now, u64::MAX));
            }
            let mut engine = self.engine.lock();
            // Not before it is in the cache: a flush may have come meanwhile.
            engine.nodes.get_mut(node.slot)?.note_written(offset, offset.saturating_add(data.len() as u64));
            engine.end_io(node.slot)?;
            result?;
        }
        Ok(())
    }

    /// Sets the end of the file, cutting or growing with zeros.
    pub fn set_size(&self, node: Node, size: u64) -> Result<(), VolumeError> {
        self.before_change()?;
        self.with_space(|| {
            self.with_node(node, |engine, slot| {
                engine.check_writable()?;
                if engine.nodes.get(slot)?.own != NONE {
                    return Err(VolumeError::IsADirectory);
                }
                engine.resize(slot, size)
            })
        })
    }

    /// Moves `node` to `path`. When something is there: Exists, unless `replace` and it is a file nobody has open.
    pub fn rename(&self, node: Node, path: &[u16], replace: bool) -> Result<(), VolumeError> {
        self.before_change()?;
        self.with_space(|| self.with_node(node, |engine, slot| engine.rename_node(slot, path, replace)))
    }

    /// Takes the name away at once; the data goes with the last use. A directory must be empty (NotEmpty).
    pub fn remove(&self, node: Node) -> Result<(), VolumeError> {
        self.relieve()?;
        self.with_node(node, |engine, slot| engine.remove_node(slot))
    }

    /// Visits a directory's entries from `cursor` on (0 is the start) until `visit` returns false. An entry's own cursor
    /// says where to go on after it; cursors stay good across creation and removal of other entries. `visit` runs under
    /// the volume's lock: it must not call the volume.
    pub fn list(
        &self,
        directory: Node,
        cursor: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), VolumeError> {
        self.with_node(directory, |engine, slot| engine.list_node(slot, cursor, visit))
    }

    /// When it returns, all that was written to `node` and its name survive a power cut. Of other files, only that is
    /// written which the journal's running group speaks of.
    pub fn flush(&self, node: Node) -> Result<(), VolumeError> {
        let (ranges, places, group) = self.when_whole(node, false, |engine, slot| {
            if !engine.read_only {
                engine.persist(slot, true)?;
            }
            let (ranges, places) = engine.take_unflushed(slot)?;
            Ok((ranges, places, engine.latest_group()))
        })?;
        let written = if group.is_some() {
            self.cache.write_back_ranges(self.device, &places)
        } else {
            // Without a journal nobody knows where the structure changed.
            self.cache.write_back(self.device)
        };
        let result = written.map_err(VolumeError::from).and_then(|()| self.commit_up_to(group));
        if result.is_err() {
            // Another flush has to try again. The node may be gone: then with its last use, or the timer.
            let _ = self.with_node(node, |engine, slot| engine.add_unflushed(slot, &ranges));
        }
        result
    }

    /// Total and free space.
    pub fn space(&self) -> Result<Space, VolumeError> {
        self.with(|engine| {
            let geometry = &engine.geometry;
            Ok(Space {
                total: u64::from(geometry.clusters) << geometry.cluster_shift,
                free: (u64::from(engine.map.free()) + engine.waiting_clusters()) << geometry.cluster_shift,
                cluster: 1 << geometry.cluster_shift,
                sector: geometry.sector_size,
            })
        })
    }

    /// Label, serial number, kind.
    pub fn information(&self) -> VolumeInformation {
        let engine = self.engine.lock();
        VolumeInformation {
            label: engine.label.clone(),
            serial: engine.geometry.serial,
            file_system: engine.geometry.kind.name(),
            maximum_component: 255,
            created: FileTime(0),
            read_only: engine.read_only,
        }
    }

    /// Counters for the console.
    pub fn status(&self) -> Status {
        let engine = self.engine.lock();
        Status {
            open_nodes: engine.nodes.open(),
            found_dirty: engine.found_dirty,
            read_only: engine.read_only,
            damaged: engine.damaged,
            changes: engine.changes,
        }
    }

    /// Brings everything to the disk: for a timer, every few seconds. When nothing was changed since the last call, the
    /// volume is marked clean until the next change.
    pub fn sync(&self) -> Result<(), VolumeError> {
        let closed = self.with(|engine| Ok(core::mem::take(&mut engine.closed_unflushed)))?;
        let result = self.sync_all();
        if closed && result.is_err() {
            self.engine.lock().closed_unflushed = true;
        }
        result
    }

    fn sync_all(&self) -> Result<(), VolumeError> {
        // First the data, without a lock, so that the group that speaks of it has little left to wait for.
        let written = self.cache.write_back(self.device);
        self.fill_some_waiting()?;
        let idle = self.with(|engine| engine.sync())?;
        if !idle || self.cache.is_dirty(self.device) {
            self.commit()?;
        } else if self.with(|engine| Ok(engine.is_marked()))? {
            self.checkpoint()?;
            self.with(|engine| if engine.is_idle() { engine.set_dirty_mark(false) } else { Ok(()) })?;
        }
        written?;
        Ok(())
    }

    /// Brings everything to the disk, marks the volume clean and takes it out of use: every later call is Stale.
    pub fn unmount(&self) -> Result<(), VolumeError> {
        // If this fails for a file, so does the next, for that file alone.
        let _ = self.fill_all();
        let persisted = self.with(|engine| engine.persist_all());
        let committed = if persisted == Err(VolumeError::Stale) {
            Ok(())
        } else {
            self.cache.write_back(self.device).map_err(VolumeError::from).and_then(|()| self.checkpoint())
        };
        let marked = self.with(|engine| {
            engine.unmounted = true;
            if persisted.is_ok() && committed.is_ok() { engine.set_dirty_mark(false) } else { Ok(()) }
        });
        let result = persisted.and(committed).and(marked);
        if result != Err(VolumeError::Stale) {
            if let Some(log) = &mut *self.journal.lock()
                && result.is_ok()
            {
                log.journal.reset(false).map_err(|_| VolumeError::Io)?;
            }
            self.cache.detach(self.device);
        }
        result
    }

    /// Before anything that adds dirty pages: waits while there are too many.
    fn before_change(&self) -> Result<(), VolumeError> {
        self.cache.throttle(self.device)?;
        self.relieve()
    }
}

/// Opens a volume's journal and replays it. `None`: the volume was changed by somebody else since.
fn open_journal(
    journal: Arc<dyn BlockDevice>,
    device: &dyn BlockDevice,
) -> Result<Option<(Journal, Replay)>, VolumeError> {
    match Journal::open(journal, device, owner(device)?) {
        Ok(opened) => Ok(Some(opened)),
        Err(ReplayError::Foreign) => {
            log::error!(
                "volume: changed elsewhere after a power cut: its journal does not fit, so read-only"
            );
            Ok(None)
        }
        Err(ReplayError::Device(_)) => Err(VolumeError::Io),
    }
}

/// Whose journal it has to be.
fn owner(device: &dyn BlockDevice) -> Result<Owner, VolumeError> {
    let mut boot = alloc::vec![0; device.block_size() as usize];
    device.read(0, &mut [&mut boot]).map_err(|_| VolumeError::Io)?;
    let bytes = device.blocks() * u64::from(device.block_size());
    let geometry = geometry::Geometry::parse(boot.get(..512).unwrap_or(&[]), bytes)?;
    Ok(Owner { serial: geometry.serial, bytes })
}

/// For a volume that is not mounted: brings what its journal holds to its place and empties it. A journal that does not
/// fit the volume any more stays, unless `repair`: then it is given up.
pub fn settle_journal(
    journal: Arc<dyn BlockDevice>,
    device: &dyn BlockDevice,
    repair: bool,
) -> Result<(), VolumeError> {
    match open_journal(journal.clone(), device)? {
        Some((mut journal, _)) => journal.reset(false).map_err(|_| VolumeError::Io),
        None if repair => Journal::give_up(journal, owner(device)?).map_err(|_| VolumeError::Io),
        None => Ok(()),
    }
}

impl<R: RawMutex> Engine<R> {
    /// One step of a write: true when it is done, or mapped into `pieces` to be written outside the lock (I/O begun).
    /// False: call again, when the `zeros` are on the device.
    fn write(
        &mut self,
        slot: u32,
        offset: u64,
        data: &[u8],
        pieces: &mut Vec<(u64, usize)>,
        zeros: &mut Vec<(u64, u64)>,
    ) -> Result<bool, VolumeError> {
        self.check_writable()?;
        let node = self.nodes.get(slot)?;
        if node.own != NONE {
            return Err(VolumeError::IsADirectory);
        }
        let end = offset.checked_add(data.len() as u64).ok_or(VolumeError::TooLarge)?;
        if end > self.geometry.maximum_size() {
            return Err(VolumeError::TooLarge);
        }
        if data.is_empty() {
            return Ok(true);
        }
        let growing = end > node.record.size;
        self.ensure_allocated(slot, end, growing)?;
        let is_beyond = self.sector_below(offset) > self.sector_above(self.nodes.get(slot)?.record.valid);
        if is_beyond && !self.write_beyond(slot, offset, data, zeros)? {
            return Ok(false);
        }
        // What is left between is less than two sectors.
        while offset > self.nodes.get(slot)?.record.valid && !is_beyond {
            let node = self.nodes.get(slot)?;
            let next = node.beyond.at(node.record.valid).1;
            self.zero_range(slot, offset.min(next))?;
        }
        let now = self.write_time();
        let node = self.nodes.get_mut(slot)?;
        node.record.times.modified = now;
        node.record.attributes |= FileAttributes::ARCHIVE;
        node.dirty = true;
        if is_beyond {
            return Ok(true);
        }
        if end <= node.record.valid {
            // Overwriting what is there needs no order with anything else.
            let mut position = offset;
            while position < end {
                let (place, room) = self.map_position(slot, position)?;
                let count = room.min(end - position);
                pieces.push((place, count as usize));
                position += count;
            }
            self.begin_io(slot)?;
            return Ok(true);
        }
        // Sectors behind what was written before have no content yet, but for the last if it is one of those beyond.
        let fresh = if node.beyond.at(end).0 { u64::MAX } else { node.record.valid };
        self.write_pieces(slot, offset, data, fresh)?;
        let node = self.nodes.get_mut(slot)?;
        node.record.size = node.record.size.max(end);
        node.advance(end);
        node.rounds = 0;
        node.note_written(offset, end);
        Ok(true)
    }

    /// Brings all nodes' changes to the cache. True when there were none since the last time.
    fn sync(&mut self) -> Result<bool, VolumeError> {
        if self.read_only {
            return Ok(false);
        }
        let slots: Vec<u32> = self.nodes.all().collect();
        let mut result = Ok(());
        for slot in slots {
            self.count_round(slot)?;
            if self.nodes.get(slot)?.dirty {
                let persisted = self.persist(slot, false);
                result = result.and(persisted);
            }
        }
        result?;
        let idle = self.is_idle();
        self.synced_changes = self.changes;
        Ok(idle)
    }

    fn is_idle(&self) -> bool {
        self.changes == self.synced_changes
    }

    /// Brings all nodes to the volume, whole.
    fn persist_all(&mut self) -> Result<(), VolumeError> {
        if self.read_only {
            return Ok(());
        }
        let slots: Vec<u32> = self.nodes.all().collect();
        let mut result = Ok(());
        for slot in slots {
            let persisted = self.fill_all_gaps(slot).and_then(|()| self.persist(slot, true));
            result = result.and(persisted);
        }
        self.trim_all();
        result
    }
}

#[cfg(test)]
mod flush_tests;
#[cfg(test)]
mod power_cut_tests;
#[cfg(test)]
pub(crate) mod tests;
