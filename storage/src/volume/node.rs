//! Open files and directories: their sizes and clusters in memory, and how these reach the volume.
//!
//! A file that grows changes in memory only: clusters are taken in the space map, in doubling steps so that it stays in
//! one piece, and the volume learns of clusters, sizes and times together, when the file is closed or flushed or the
//! timer comes round. Clusters taken too many are given back then.

use alloc::boxed::Box;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::engine::Engine;
use super::entry::Record;
use super::extents::Extents;
use super::ranges::Ranges;
use super::streams::Streams;
use super::{FileAttributes, Metadata, Node, NodeKind, VolumeError};
use crate::hash_index::{HashIndex, NONE};

/// Nodes open at most.
const MAXIMUM_NODES: usize = 16384;
/// Bytes that a growing file takes in advance at most.
const MAXIMUM_PREALLOCATION: u64 = 8 << 20;
/// Ranges that a file's list of what was written has at most.
const MAXIMUM_UNFLUSHED: usize = 16;
/// Pieces of a file in which it is read ahead at a time, at most.
const MAXIMUM_PIECES_AHEAD: usize = 32;

/// An open file or directory.
pub(super) struct OpenNode {
    generation: u32,
    pub(super) uses: u32,
    /// Slot of the directory it is in; [`NONE`] for the root.
    pub(super) directory: u32,
    /// Its own slot among the directories, if it is one; else [`NONE`].
    pub(super) own: u32,
    /// As its set shall be. `size` and `valid` are the file's at this moment.
    pub(super) record: Record,
    pub(super) extents: Extents,
    pub(super) loaded: bool,
    /// Of `extents`, how many the volume knows of.
    pub(super) committed: u32,
    /// Bytes that the volume knows as written: the others have to be there before it learns of them.
    known: u64,
    /// Bytes written since the last flush of the file, and perhaps some between them.
    pub(super) unflushed: Ranges,
    /// What is written beyond ValidDataLength, in whole sectors of the volume; see [`valid_data`](super::valid_data).
    pub(super) beyond: Ranges,
    /// While there is some of that, the file's size without it.
    pub(super) size_before: u64,
    /// Rounds of the timer that it has waited for somebody to write at ValidDataLength.
    pub(super) rounds: u8,
    /// Its name is gone.
    pub(super) removed: bool,
    /// The set on the volume is out of date.
    pub(super) dirty: bool,
    /// Reads and writes at work outside the lock.
    in_flight: u32,
    /// Clusters cut off while there were some.
    deferred: Vec<(u32, u32)>,
    pub(super) streams: Streams,
    pub(super) file_id: u64,
}

impl OpenNode {
    /// Notes that bytes `start..end` were written.
    pub(super) fn note_written(&mut self, start: u64, end: u64) {
        self.unflushed.add(start, end, MAXIMUM_UNFLUSHED);
    }
}

/// The table of open nodes.
pub(super) struct Nodes {
    /// Boxed, so that the table grows without moving them.
    #[allow(clippy::vec_box)]
    slots: Vec<Box<OpenNode>>,
    free: Vec<u32>,
    /// From location to slot.
    index: HashIndex,
}

impl Nodes {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), index: HashIndex::new() }
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, slot: u32) -> Result<&OpenNode, VolumeError> {
        self.slots.get(slot as usize).map(|node| &**node).ok_or(VolumeError::Stale)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Result<&mut OpenNode, VolumeError> {
        self.slots.get_mut(slot as usize).map(|node| &mut **node).ok_or(VolumeError::Stale)
    }

    /// The slot of a node that is open.
    pub(super) fn resolve(&self, node: Node) -> Result<u32, VolumeError> {
        let found = self.get(node.slot)?;
        if found.generation == node.generation && found.uses > 0 {
            Ok(node.slot)
        } else {
            Err(VolumeError::Stale)
        }
    }

    /// The slots in use.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> + use<'_> {
        let all = self.slots.iter().enumerate();
        all.filter(|(_, node)| node.uses > 0 || node.in_flight > 0).map(|(slot, _)| slot as u32)
    }
}

fn hash(directory: u32, position: u32) -> u32 {
    directory.wrapping_mul(0x85EB_CA6B) ^ position.wrapping_mul(0xC2B2_AE35)
}

impl<R: RawMutex> Engine<R> {
    /// The open node whose set is at `position` of `directory`.
    pub(super) fn find_open(&self, directory: u32, position: u32) -> Option<u32> {
        self.nodes.index.find(hash(directory, position), |slot| {
            self.nodes
                .get(slot)
                .is_ok_and(|node| node.directory == directory && node.record.position == position)
        })
    }

    /// Opens what `record` stands for: one more use of its node.
    pub(super) fn open_record(&mut self, directory: u32, record: &Record) -> Result<Node, VolumeError> {
        if let Some(slot) = self.find_open(directory, record.position) {
            let node = self.nodes.get_mut(slot)?;
            node.uses += 1;
            return Ok(Node { slot, generation: node.generation });
        }
        if self.nodes.open() >= MAXIMUM_NODES {
            return Err(VolumeError::NoResources);
        }
        let own = match record.kind() {
            _ if directory == NONE => self.directories.root(),
            NodeKind::Directory => self.enter(directory, record)?,
            NodeKind::File => NONE,
        };
        let slot = match self.nodes.free.pop() {
            Some(slot) => slot,
            None => {
                self.nodes.slots.try_reserve(1).map_err(|_| VolumeError::NoResources)?;
                self.nodes.slots.push(Box::new(OpenNode {
                    generation: 0,
                    uses: 0,
                    directory: NONE,
                    own: NONE,
                    record: Record::default(),
                    extents: Extents::new(),
                    loaded: false,
                    committed: 0,
                    known: 0,
                    unflushed: Ranges::new(),
                    beyond: Ranges::new(),
                    size_before: 0,
                    rounds: 0,
                    removed: false,
                    dirty: false,
                    in_flight: 0,
                    deferred: Vec::new(),
                    streams: Streams::new(),
                    file_id: 0,
                }));
                self.nodes.slots.len() as u32 - 1
            }
        };
        if !self.nodes.index.insert(hash(directory, record.position), slot) {
            self.nodes.free.push(slot);
            return Err(VolumeError::NoResources);
        }
        let file_id = self.file_id(self.location(directory, record.position));
        self.directories.refer(directory);
        self.directories.refer(own);
        let closed_unflushed = self.closed_unflushed && own == NONE;
        let node = self.nodes.get_mut(slot)?;
        node.uses = 1;
        node.directory = directory;
        node.own = own;
        node.record = *record;
        node.extents = Extents::new();
        node.loaded = false;
        node.committed = 0;
        node.known = record.valid;
        node.unflushed = Ranges::new();
        node.beyond = Ranges::new();
        node.rounds = 0;
        if closed_unflushed {
            node.note_written(0, record.valid);
        }
        node.removed = false;
        node.dirty = false;
        node.streams = Streams::new();
        node.file_id = file_id;
        Ok(Node { slot, generation: node.generation })
    }

    /// Moves a node's key when its set has moved.
    pub(super) fn rekey(&mut self, slot: u32, directory: u32, position: u32) -> Result<(), VolumeError> {
        let node = self.nodes.get_mut(slot)?;
        let (old_directory, old_position) = (node.directory, node.record.position);
        node.directory = directory;
        node.record.position = position;
        self.nodes.index.remove(hash(old_directory, old_position), slot);
        self.directories.refer(directory);
        self.directories.unrefer(old_directory);
        if self.nodes.index.insert(hash(directory, position), slot) {
            Ok(())
        } else {
            Err(VolumeError::NoResources)
        }
    }

    /// Takes a node whose name is gone out of the index: its place may be somebody else's soon.
    pub(super) fn unkey(&mut self, slot: u32) {
        if let Ok(node) = self.nodes.get(slot) {
            self.nodes.index.remove(hash(node.directory, node.record.position), slot);
        }
    }

    /// Gives one use back.
    pub(super) fn close_node(&mut self, slot: u32) -> Result<(), VolumeError> {
        let node = self.nodes.get_mut(slot)?;
        node.uses -= 1;
        if node.uses > 0 || node.in_flight > 0 { Ok(()) } else { self.finish(slot) }
    }

    /// The last use is gone: brings the node to the volume and forgets it.
    fn finish(&mut self, slot: u32) -> Result<(), VolumeError> {
        let node = self.nodes.get_mut(slot)?;
        let mut result = Ok(());
        if node.removed {
            let extents = core::mem::take(&mut node.extents);
            let is_directory = node.own != NONE;
            for run in extents.runs() {
                self.release(run.cluster, run.count, is_directory);
            }
        } else {
            // With the last close its gaps were filled, unless that failed.
            result = self.fill_all_gaps(slot).and_then(|()| self.persist(slot, true));
            // After a failure, clusters that the volume does not know of are given back all the same.
            self.trim_node(slot, result.is_err());
        }
        let node = self.nodes.get_mut(slot)?;
        let (directory, own, removed) = (node.directory, node.own, node.removed);
        if !removed {
            self.unkey(slot);
        }
        let node = self.nodes.get_mut(slot)?;
        self.closed_unflushed |= !node.unflushed.is_empty() && !removed;
        node.uses = 0;
        node.generation = node.generation.wrapping_add(1);
        node.extents = Extents::new();
        self.nodes.free.push(slot);
        self.directories.unrefer(own);
        self.directories.unrefer(directory);
        if removed && own != NONE {
            self.directories.forget(own);
        }
        result
    }

    /// Notes I/O outside the lock: until it ends, the node's clusters are not handed out again.
    pub(super) fn begin_io(&mut self, slot: u32) -> Result<(), VolumeError> {
        self.nodes.get_mut(slot)?.in_flight += 1;
        Ok(())
    }

    /// Ends it.
    pub(super) fn end_io(&mut self, slot: u32) -> Result<(), VolumeError> {
        let node = self.nodes.get_mut(slot)?;
        node.in_flight -= 1;
        if node.in_flight > 0 {
            return Ok(());
        }
        let uses = node.uses;
        for (first, count) in core::mem::take(&mut node.deferred) {
            self.release(first, count, false);
        }
        if uses == 0 { self.finish(slot) } else { Ok(()) }
    }

    /// Gives clusters of a node back, once no I/O uses them. `known`: the volume may have known them as taken.
    fn release_of(&mut self, slot: u32, first: u32, count: u32, known: bool) {
        match self.nodes.get_mut(slot) {
            Ok(node) if node.in_flight > 0 => node.deferred.push((first, count)),
            _ if known => self.release(first, count, false),
            _ => self.release_now(first, count),
        }
    }

    /// The node's run list.
    pub(super) fn load_extents(&mut self, slot: u32) -> Result<(), VolumeError> {
        let node = self.nodes.get(slot)?;
        if node.loaded {
            return Ok(());
        }
        let record = node.record;
        let extents = self.extents_of(&record)?;
        let node = self.nodes.get_mut(slot)?;
        node.committed = extents.clusters();
        node.extents = extents;
        node.loaded = true;
        Ok(())
    }

    /// The clusters of the file or directory that `record` stands for.
    pub(super) fn extents_of(&mut self, record: &Record) -> Result<Extents, VolumeError> {
        let clusters = self.geometry.clusters_for(record.size);
        if record.first_cluster == 0 && record.size == 0 {
            return Ok(Extents::new());
        }
        if clusters > u64::from(self.geometry.clusters) {
            return Err(self.corrupt("a file is larger than its volume"));
        }
        let loaded = if record.contiguous {
            return self.contiguous_extents(record.first_cluster, clusters);
        } else if self.geometry.kind.is_exfat() && clusters > 0 {
            self.load_chain(record.first_cluster, Some(clusters))
        } else {
            self.load_chain(record.first_cluster, None)
        };
        match loaded {
            Ok(extents) if u64::from(extents.clusters()) >= clusters => Ok(extents),
            Ok(_) => Err(self.corrupt("a file has fewer clusters than its size needs")),
            Err(VolumeError::Corrupt) => Err(self.corrupt("a broken chain of clusters")),
            Err(error) => Err(error),
        }
    }

    /// Takes clusters so that the file can have `size` bytes. `growing`: by writing at its end, so take more than that.
    pub(super) fn ensure_allocated(
        &mut self,
        slot: u32,
        size: u64,
        growing: bool,
    ) -> Result<(), VolumeError> {
        self.load_extents(slot)?;
        let node = self.nodes.get_mut(slot)?;
        let have = node.extents.clusters();
        let needed = self.geometry.clusters_for(size);
        if needed <= u64::from(have) {
            return Ok(());
        }
        let needed = u32::try_from(needed).map_err(|_| VolumeError::Full)?;
        let mut extents = core::mem::take(&mut node.extents);
        if needed - have > self.map.free() {
            self.trim_all();
        }
        let most = (MAXIMUM_PREALLOCATION >> self.geometry.cluster_shift) as u32;
        let ahead = if growing && have > 0 { have.min(most).min(self.map.free() / 8) } else { 0 };
        let mut want = (needed - have).max(ahead);
        let mut result = if needed - have > self.map.free() { Err(VolumeError::Full) } else { Ok(()) };
        while result.is_ok() && extents.clusters() < needed {
            let goal = if extents.clusters() > 0 { extents.last() + 1 } else { 0 };
            result = self.allocate(goal, want).and_then(|(first, count)| {
                if extents.push(first, count) {
                    Ok(())
                } else {
                    self.map.release(first, count);
                    Err(VolumeError::NoResources)
                }
            });
            want = needed.saturating_sub(extents.clusters());
        }
        if result.is_err() {
            let map = &mut self.map;
            extents.truncate(have, |first, count| {
                map.release(first, count);
            });
        }
        self.nodes.get_mut(slot)?.extents = extents;
        result
    }

    /// Gives back what a node took in advance; with `all`, all that the volume does not know of.
    fn trim_node(&mut self, slot: u32, all: bool) {
        let Ok(node) = self.nodes.get(slot) else { return };
        if !node.loaded || node.removed || node.own != NONE {
            return;
        }
        let needed = self.geometry.clusters_for(node.record.size) as u32;
        let keep = if all { node.committed } else { needed.max(node.committed) };
        if node.extents.clusters() <= keep {
            return;
        }
        let Ok(node) = self.nodes.get_mut(slot) else { return };
        let mut cut = Vec::new();
        node.extents.truncate(keep, |first, count| cut.push((first, count)));
        for (first, count) in cut {
            self.release_of(slot, first, count, false);
        }
    }

    /// Gives back what all nodes took in advance.
    pub(super) fn trim_all(&mut self) {
        let slots: Vec<u32> = self.nodes.all().collect();
        for slot in slots {
            self.trim_node(slot, false);
        }
    }

    /// Brings a node's clusters, sizes, times and attributes to the volume, in one transaction. Unless
    /// the file is `whole`, written without gaps, only what the volume may know of it: see [`OpenNode::storable`].
    pub(super) fn persist(&mut self, slot: u32, whole: bool) -> Result<(), VolumeError> {
        let node = self.nodes.get_mut(slot)?;
        if !node.dirty || node.removed || node.directory == NONE {
            return Ok(());
        }
        if self.read_only {
            return Err(VolumeError::ReadOnly);
        }
        let exfat = self.geometry.kind.is_exfat();
        let node = self.nodes.get_mut(slot)?;
        let mut record = node.storable(&node.record, exfat, whole);
        if node.own != NONE || !node.loaded {
            // Times and attributes only.
            let directory = node.directory;
            if node.own != NONE && exfat {
                let own = self.directories.get(node.own)?;
                record.contiguous = own.contiguous;
                record.size = u64::from(own.extents.clusters()) << self.geometry.cluster_shift;
                record.valid = record.size;
            }
            self.atomically(|engine| engine.rewrite_set(directory, &record))?;
            self.nodes.get_mut(slot)?.dirty = false;
            return Ok(());
        }
        let needed = self.geometry.clusters_for(record.size) as u32;
        let (directory, committed) = (node.directory, node.committed);
        self.order_data(slot, record.valid)?;
        let node = self.nodes.get_mut(slot)?;
        let extents = core::mem::take(&mut node.extents);
        record.first_cluster = if needed.max(committed) > 0 { extents.first() } else { 0 };
        let result = self.atomically(|engine| {
            if needed > committed {
                let mut runs = Vec::new();
                extents.for_each(committed, needed, |first, count| runs.push((first, count)));
                for (first, count) in runs {
                    engine.record_allocation(first, count, true)?;
                }
                let one_run = extents.is_contiguous(needed);
                let was_contiguous = record.contiguous || committed == 0;
                record.contiguous = exfat && was_contiguous && one_run;
                if !record.contiguous {
                    let from = if exfat && was_contiguous { 0 } else { committed };
                    engine.link_chain(&extents, from, needed)?;
                }
            }
            engine.rewrite_set(directory, &record)
        });
        let node = self.nodes.get_mut(slot)?;
        node.extents = extents;
        result?;
        node.committed = committed.max(needed);
        node.known = record.valid;
        node.record.first_cluster = record.first_cluster;
        node.record.contiguous = record.contiguous;
        node.dirty = node.record.size != record.size;
        Ok(())
    }

    /// Notes that the file's data up to byte `valid` has to be safe before the volume learns of it.
    fn order_data(&mut self, slot: u32, valid: u64) -> Result<(), VolumeError> {
        let known = self.nodes.get(slot)?.known;
        let mut pieces = Vec::new();
        self.places(slot, known, valid, &mut pieces)?;
        for (start, end) in pieces {
            self.order(start, end);
        }
        Ok(())
    }

    /// Adds to `places` where bytes `start..end` of a file are on the volume, as ranges.
    pub(super) fn places(
        &self,
        slot: u32,
        start: u64,
        end: u64,
        places: &mut Vec<(u64, u64)>,
    ) -> Result<(), VolumeError> {
        let mut position = start;
        while position < end {
            let (place, room) = self.map_position(slot, position)?;
            let count = room.min(end - position);
            places.push((place, place + count));
            position += count;
        }
        Ok(())
    }

    /// Takes the ranges written since the last flush, as the file has them and as the volume does.
    pub(super) fn take_unflushed(&mut self, slot: u32) -> Result<(Ranges, Vec<(u64, u64)>), VolumeError> {
        if self.nodes.get(slot)?.unflushed.is_empty() {
            return Ok((Ranges::new(), Vec::new()));
        }
        self.load_extents(slot)?;
        let node = self.nodes.get_mut(slot)?;
        let ranges = core::mem::take(&mut node.unflushed);
        let valid = node.record.valid;
        let mut places = Vec::new();
        for &(start, end) in ranges.as_slice() {
            // What was cut off since need not go anywhere.
            self.places(slot, start, end.min(valid), &mut places)?;
        }
        Ok((ranges, places))
    }

    /// Takes ranges back that a flush could not make safe.
    pub(super) fn add_unflushed(&mut self, slot: u32, ranges: &Ranges) -> Result<(), VolumeError> {
        self.nodes.get_mut(slot)?.unflushed.add_all(ranges, MAXIMUM_UNFLUSHED);
        Ok(())
    }

    /// Where byte `position` of a file lies, and how many bytes from there on lie together.
    pub(super) fn map_position(&self, slot: u32, position: u64) -> Result<(u64, u64), VolumeError> {
        let node = self.nodes.get(slot)?;
        let index =
            u32::try_from(position >> self.geometry.cluster_shift).map_err(|_| VolumeError::Corrupt)?;
        let (cluster, count) = node.extents.locate(index).ok_or(VolumeError::Corrupt)?;
        let within = position & (self.geometry.cluster_bytes() - 1);
        let room = (u64::from(count) << self.geometry.cluster_shift) - within;
        Ok((self.geometry.offset_of(cluster) + within, room))
    }

    /// Notes a read of bytes `start..end`; adds to `pieces` what should be read ahead now, as places and lengths.
    pub(super) fn read_ahead(
        &mut self,
        slot: u32,
        start: u64,
        end: u64,
        pieces: &mut Vec<(u64, u64)>,
    ) -> Result<(), VolumeError> {
        let most = self.read_ahead_limit;
        let node = self.nodes.get_mut(slot)?;
        let range = node.streams.advance(start, end, most);
        let stop = range.end.min(node.record.valid);
        let mut position = range.start;
        while position < stop && pieces.len() < MAXIMUM_PIECES_AHEAD {
            let (place, room) = self.map_position(slot, position)?;
            let count = room.min(stop - position);
            pieces.push((place, count));
            position += count;
        }
        Ok(())
    }

    /// Sets a file's size.
    pub(super) fn resize(&mut self, slot: u32, size: u64) -> Result<(), VolumeError> {
        if size > self.geometry.maximum_size() {
            return Err(VolumeError::TooLarge);
        }
        self.load_extents(slot)?;
        let now = self.write_time();
        let node = self.nodes.get(slot)?;
        if size == node.record.size {
            return Ok(());
        }
        if size > node.record.size {
            self.ensure_allocated(slot, size, false)?;
            let node = self.nodes.get_mut(slot)?;
            if node
                .beyond
                .as_slice()
                .last()
                .is_none_or(|last| last.1.min(node.record.size) <= node.size_before)
            {
                node.size_before = size;
            }
            node.record.size = size;
            node.record.times.modified = now;
            node.dirty = true;
            return Ok(());
        }
        // Shorter: the volume learns of it now, before the clusters can become another file's.
        self.cut_beyond(slot, size)?;
        let node = self.nodes.get(slot)?;
        let keep = self.geometry.clusters_for(size) as u32;
        let (directory, committed, removed) = (node.directory, node.committed, node.removed);
        let mut record = node.record;
        record.size = size;
        record.valid = record.valid.min(size);
        record.times.modified = now;
        if keep < committed && !removed {
            self.order_data(slot, record.valid)?;
            let mut written = self.nodes.get(slot)?.storable(&record, self.geometry.kind.is_exfat(), false);
            // On FAT, what is not written yet is not on the volume either.
            let keep = keep.min(committed);
            if keep == 0 {
                (record.first_cluster, record.contiguous) = (0, false);
                (written.first_cluster, written.contiguous) = (0, false);
            }
            let extents = self.nodes.get(slot)?.extents.clone();
            self.atomically(|engine| {
                engine.cut_chain(&extents, keep, committed, record.contiguous)?;
                engine.rewrite_set(directory, &written)
            })?;
        }
        let node = self.nodes.get_mut(slot)?;
        node.record = record;
        node.committed = committed.min(keep);
        node.known = node.known.min(node.record.valid);
        node.dirty = true;
        let mut cut = Vec::new();
        node.extents.truncate(keep, |first, count| cut.push((first, count)));
        for (first, count) in cut {
            self.release_of(slot, first, count, true);
        }
        Ok(())
    }

    /// Frees clusters `keep..committed` of a file on the volume, in the transaction.
    pub(super) fn cut_chain(
        &mut self,
        extents: &Extents,
        keep: u32,
        committed: u32,
        contiguous: bool,
    ) -> Result<(), VolumeError> {
        let mut runs = Vec::new();
        extents.for_each(keep, committed, |first, count| runs.push((first, count)));
        for (first, count) in runs {
            self.record_allocation(first, count, false)?;
        }
        if keep > 0 && !contiguous { self.link_chain(extents, keep, keep) } else { Ok(()) }
    }

    /// What clients see of a set, of which `slot` is the open node, if any.
    pub(super) fn metadata_of(&self, directory: u32, record: &Record) -> Metadata {
        let open = self.find_open(directory, record.position).and_then(|slot| self.nodes.get(slot).ok());
        match open {
            Some(node) => self.node_metadata(node),
            None => {
                let id = self.file_id(self.location(directory, record.position));
                self.describe(record, record.size, id)
            }
        }
    }

    pub(super) fn node_metadata(&self, node: &OpenNode) -> Metadata {
        let size = match self.directories.get(node.own) {
            Ok(own) => u64::from(own.extents.clusters()) << self.geometry.cluster_shift,
            Err(_) => node.record.size,
        };
        self.describe(&node.record, size, node.file_id)
    }

    fn describe(&self, record: &Record, size: u64, file_id: u64) -> Metadata {
        let kind = record.kind();
        Metadata {
            kind,
            attributes: FileAttributes(record.attributes),
            size: if kind == NodeKind::File { record.size } else { 0 },
            allocated: self.geometry.clusters_for(size) << self.geometry.cluster_shift,
            created: record.times.created,
            accessed: record.times.accessed,
            modified: record.times.modified,
            file_id,
        }
    }

    // ---- file ids ----

    /// The id of the file at a location: the location itself, unless a file moved there or away from there.
    pub(super) fn file_id(&self, location: u64) -> u64 {
        if self.file_ids.is_empty() {
            return location;
        }
        self.file_ids.get(&location).copied().unwrap_or(location)
    }

    fn fresh_file_id(&mut self) -> u64 {
        self.next_file_id += 1;
        // Clusters have fewer than 32 bits that count, so no location has this one.
        1 << 63 | self.next_file_id
    }

    /// A file moved: it takes its id along, and who comes to its old place gets another.
    pub(super) fn move_file_id(&mut self, from: u64, to: u64) {
        let id = self.file_id(from);
        let fresh = self.fresh_file_id();
        self.file_ids.insert(from, fresh);
        self.file_ids.insert(to, id);
    }

    /// A file is gone: if it had moved there, who comes next gets another id.
    pub(super) fn drop_file_id(&mut self, location: u64) {
        if self.file_ids.contains_key(&location) {
            let fresh = self.fresh_file_id();
            self.file_ids.insert(location, fresh);
        }
    }
}
