//! Directories in use: where they lie, and an index of their names.
//!
//! A directory's index maps the hash of each up-cased name to the position of its set, and knows the gaps. It is made
//! by reading the directory once, and kept up by every change, so that finding, adding and removing a name costs the
//! same among ten names as among ten thousand.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::VolumeError;
use super::bytes::put;
use super::engine::Engine;
use super::entry::{Fed, MAXIMUM_RECORDS, RECORD, Record, SetParser, update_exfat, update_fat};
use super::extents::Extents;
use super::geometry::Kind;
use crate::Payload;
use crate::cache::PAGE_SIZE;
use crate::hash_index::{HashIndex, NONE};

/// Directories remembered at most, but for those in use.
const MAXIMUM_DIRECTORIES: usize = 1024;
/// Bytes of indexes kept at most, but for what the operation at hand needs.
const MAXIMUM_INDEX_BYTES: usize = 4 << 20;
/// Gaps looked at for a fitting one before the directory's end is taken.
const GAPS_TRIED: usize = 32;

const RECORD_BYTES: u64 = RECORD as u64;

/// A directory that is remembered.
pub(super) struct Directory {
    pub(super) first_cluster: u32,
    /// Slot of the directory it is in; [`NONE`] for the root and for free slots.
    pub(super) parent: u32,
    /// Position of its own set in there.
    pub(super) position: u32,
    pub(super) extents: Extents,
    pub(super) contiguous: bool,
    fixed: bool,
    index: Option<Box<Index>>,
    /// Directories and open nodes that refer to this slot.
    pub(super) references: u32,
    last_used: u32,
    in_use: bool,
}

/// The names of a directory.
struct Index {
    names: HashIndex,
    /// First record behind which nothing is in use.
    end: u32,
    /// Free records before that: start and count.
    gaps: BTreeMap<u32, u32>,
    /// How many sets there are.
    live: u32,
}

/// All directories remembered.
pub(super) struct Directories {
    slots: Vec<Directory>,
    by_cluster: HashIndex,
    free: Vec<u32>,
    clock: u32,
    index_bytes: usize,
    /// Puts sets together; taken while at work.
    parser: Option<Box<SetParser>>,
    kind: Kind,
}

impl Directories {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            slots: Vec::new(),
            by_cluster: HashIndex::new(),
            free: Vec::new(),
            clock: 0,
            index_bytes: 0,
            parser: None,
            kind,
        }
    }

    pub(super) fn root(&self) -> u32 {
        0
    }

    pub(super) fn get(&self, slot: u32) -> Result<&Directory, VolumeError> {
        self.slots.get(slot as usize).filter(|directory| directory.in_use).ok_or(VolumeError::Stale)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Result<&mut Directory, VolumeError> {
        self.slots.get_mut(slot as usize).filter(|directory| directory.in_use).ok_or(VolumeError::Stale)
    }

    pub(super) fn refer(&mut self, slot: u32) {
        if let Ok(directory) = self.get_mut(slot) {
            directory.references += 1;
        }
    }

    pub(super) fn unrefer(&mut self, slot: u32) {
        if let Ok(directory) = self.get_mut(slot) {
            directory.references = directory.references.saturating_sub(1);
        }
    }

    /// What was parsed last.
    pub(super) fn parsed(&self) -> Option<&SetParser> {
        self.parser.as_deref()
    }

    fn find_cluster(&self, first_cluster: u32) -> Option<u32> {
        self.by_cluster.find(first_cluster, |slot| {
            self.slots.get(slot as usize).is_some_and(|directory| directory.first_cluster == first_cluster)
        })
    }

    fn add(&mut self, directory: Directory) -> Result<u32, VolumeError> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.try_reserve(1).map_err(|_| VolumeError::NoResources)?;
                self.slots.push(Directory { in_use: false, ..empty() });
                self.slots.len() as u32 - 1
            }
        };
        if !self.by_cluster.insert(directory.first_cluster, slot) {
            return Err(VolumeError::NoResources);
        }
        self.refer(directory.parent);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = directory;
        }
        Ok(slot)
    }

    /// Forgets a directory to which nothing refers.
    pub(super) fn forget(&mut self, slot: u32) {
        let Ok(directory) = self.get_mut(slot) else { return };
        let old = core::mem::replace(directory, empty());
        self.by_cluster.remove(old.first_cluster, slot);
        self.index_bytes -= old.index.map_or(0, |index| index.names.bytes());
        self.free.push(slot);
        self.unrefer(old.parent);
    }

    /// Makes room: forgets what was not used for longest, but `keep`.
    fn trim(&mut self, keep: u32) {
        while self.slots.len() - self.free.len() > MAXIMUM_DIRECTORIES {
            let all = self.slots.iter().enumerate();
            let unused = all.filter(|(slot, directory)| {
                directory.in_use
                    && directory.references == 0
                    && *slot as u32 != keep
                    && *slot as u32 != self.root()
            });
            let Some((slot, _)) = unused.min_by_key(|(_, directory)| directory.last_used) else { break };
            self.forget(slot as u32);
        }
        while self.index_bytes > MAXIMUM_INDEX_BYTES {
            let all = self.slots.iter_mut().enumerate();
            let indexed = all.filter(|(slot, directory)| directory.index.is_some() && *slot as u32 != keep);
            let Some((_, directory)) = indexed.min_by_key(|(_, directory)| directory.last_used) else {
                break;
            };
            if let Some(index) = directory.index.take() {
                self.index_bytes -= index.names.bytes();
            }
        }
    }
}

fn empty() -> Directory {
    Directory {
        first_cluster: 0,
        parent: NONE,
        position: 0,
        extents: Extents::new(),
        contiguous: false,
        fixed: false,
        index: None,
        references: 0,
        last_used: 0,
        in_use: false,
    }
}

impl<R: RawMutex> Engine<R> {
    /// Makes the root known: slot 0.
    pub(super) fn enter_root(&mut self) -> Result<(), VolumeError> {
        let first_cluster = self.geometry.root_cluster;
        let fixed = first_cluster == 0;
        let extents = if fixed { Extents::new() } else { self.load_chain(first_cluster, None)? };
        let root = Directory { first_cluster, extents, fixed, in_use: true, ..empty() };
        self.directories.add(root)?;
        Ok(())
    }

    /// Makes the directory that `record` (in `parent`) stands for known.
    pub(super) fn enter(&mut self, parent: u32, record: &Record) -> Result<u32, VolumeError> {
        let first_cluster = record.first_cluster;
        if let Some(slot) = self.directories.find_cluster(first_cluster) {
            let known = self.directories.get(slot)?;
            if known.parent != parent || known.position != record.position {
                return Err(self.corrupt("two directories share a cluster"));
            }
            return Ok(slot);
        }
        if !self.geometry.is_cluster(first_cluster) {
            return Err(self.corrupt("a directory has no cluster"));
        }
        let mut contiguous = false;
        let extents = if self.geometry.kind.is_exfat() {
            let clusters = self.geometry.clusters_for(record.size);
            if clusters == 0 || clusters > u64::from(self.geometry.clusters) {
                return Err(self.corrupt("a directory's size makes no sense"));
            }
            if record.contiguous {
                contiguous = true;
                self.contiguous_extents(first_cluster, clusters)?
            } else {
                self.load_chain(first_cluster, Some(clusters))?
            }
        } else {
            self.load_chain(first_cluster, None)?
        };
        let position = record.position;
        let directory =
            Directory { first_cluster, parent, position, extents, contiguous, in_use: true, ..empty() };
        let slot = self.directories.add(directory)?;
        self.directories.trim(slot);
        Ok(slot)
    }

    /// Extents of clusters that follow each other.
    pub(super) fn contiguous_extents(&mut self, first: u32, clusters: u64) -> Result<Extents, VolumeError> {
        let mut extents = Extents::new();
        let last = u64::from(first).saturating_add(clusters).saturating_sub(1);
        let on_volume = u32::try_from(last).is_ok_and(|last| self.geometry.is_cluster(last));
        if clusters > 0
            && !(self.geometry.is_cluster(first) && on_volume && extents.push(first, clusters as u32))
        {
            return Err(self.corrupt("clusters beyond the end of the volume"));
        }
        Ok(extents)
    }

    /// Names a set, for the table of open nodes and as the usual file id.
    pub(super) fn location(&self, directory: u32, position: u32) -> u64 {
        let cluster = self.directories.get(directory).map_or(0, |directory| directory.first_cluster);
        u64::from(cluster) << 32 | u64::from(position)
    }

    /// How many records a directory has room for.
    fn capacity(&self, directory: &Directory) -> u32 {
        let bytes = if directory.fixed {
            u64::from(self.geometry.fixed_root.1)
        } else {
            u64::from(directory.extents.clusters()) << self.geometry.cluster_shift
        };
        // 256 MiB is the most that exFAT allows a directory; 65,536 records FAT.
        let most = if self.geometry.kind.is_exfat() { 1 << 23 } else { 1 << 16 };
        (bytes / RECORD_BYTES).min(most) as u32
    }

    /// Visits a directory's records from `position` on until `visit` returns false.
    fn scan(
        &self,
        slot: u32,
        mut position: u32,
        mut visit: impl FnMut(u32, &[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        let directory = self.directories.get(slot)?;
        let capacity = self.capacity(directory);
        let mut more = true;
        while more && position < capacity {
            let offset = self.record_offset(&directory.extents, directory.fixed, position);
            let offset = offset.ok_or(VolumeError::Corrupt)?;
            let cluster_left = match directory.fixed {
                true => u64::MAX,
                false => {
                    self.geometry.cluster_bytes()
                        - u64::from(position) * RECORD_BYTES % self.geometry.cluster_bytes()
                }
            };
            let page_left = PAGE_SIZE as u64 - offset % PAGE_SIZE as u64;
            let length = cluster_left.min(page_left).min(u64::from(capacity - position) * RECORD_BYTES);
            let mut payload = Payload::new();
            self.cache.read(self.device, offset, length as usize, &mut payload)?;
            payload.for_each(&mut |piece| {
                for record in piece.chunks_exact(RECORD) {
                    if more {
                        more = visit(position, record);
                        position += 1;
                    }
                }
            });
        }
        Ok(())
    }

    /// Visits a directory's records as they are.
    pub(super) fn for_each_raw(
        &self,
        slot: u32,
        mut visit: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        self.scan(slot, 0, |_, record| visit(record))
    }

    fn take_parser(&mut self) -> Box<SetParser> {
        let kind = self.directories.kind;
        let mut parser = self.directories.parser.take().unwrap_or_else(|| Box::new(SetParser::new(kind)));
        parser.reset();
        parser
    }

    /// Visits a directory's sets from record `from` on until `visit` returns false.
    pub(super) fn for_each_set(
        &mut self,
        slot: u32,
        from: u32,
        mut visit: impl FnMut(&Self, &SetParser) -> bool,
    ) -> Result<(), VolumeError> {
        let mut parser = self.take_parser();
        // The sums were checked when the index was made, and all changes since then are our own.
        parser.trusting = self.directories.get(slot).is_ok_and(|directory| directory.index.is_some());
        let result = self.scan(slot, from, |position, record| match parser.feed(position, record) {
            Fed::End => false,
            Fed::Complete => visit(self, &parser),
            Fed::Used | Fed::Unused => true,
        });
        self.directories.parser = Some(parser);
        result
    }

    /// Reads the set at `position`, whose sum was checked before; it is in `directories.parsed()` then.
    pub(super) fn read_set(&mut self, slot: u32, position: u32) -> Result<Record, VolumeError> {
        let mut parser = self.take_parser();
        parser.trusting = true;
        let result = self.read_set_with(&mut parser, slot, position);
        let record = parser.record;
        self.directories.parser = Some(parser);
        match result {
            Ok(true) => Ok(record),
            Ok(false) => Err(self.corrupt("a directory entry changed by itself")),
            Err(error) => Err(error),
        }
    }

    fn read_set_with(&self, parser: &mut SetParser, slot: u32, position: u32) -> Result<bool, VolumeError> {
        let directory = self.directories.get(slot)?;
        let (mut next, end) = (position, position.saturating_add(MAXIMUM_RECORDS as u32));
        while next < end {
            let Some(offset) = self.record_offset(&directory.extents, directory.fixed, next) else { break };
            // As many as lie together: up to the end of a 512-byte piece, which neither page nor cluster cuts.
            let length = (1024 - offset % 512).min(PAGE_SIZE as u64 - offset % PAGE_SIZE as u64);
            let length = if directory.fixed {
                length.min(512 - offset % 512)
            } else {
                let within = u64::from(next) * RECORD_BYTES % self.geometry.cluster_bytes();
                length.min(self.geometry.cluster_bytes() - within)
            };
            let done = self.cache.inspect(self.device, offset, length as usize, |bytes| {
                for record in bytes.chunks_exact(RECORD) {
                    match parser.feed(next, record) {
                        Fed::Complete => return Some(true),
                        Fed::Used => next += 1,
                        Fed::End | Fed::Unused => return Some(false),
                    }
                }
                None
            })?;
            if let Some(done) = done {
                return Ok(done && parser.record.position == position);
            }
        }
        Ok(false)
    }

    /// Makes sure that the directory has its index.
    fn load_index(&mut self, slot: u32) -> Result<(), VolumeError> {
        self.directories.clock = self.directories.clock.wrapping_add(1);
        let clock = self.directories.clock;
        let directory = self.directories.get_mut(slot)?;
        directory.last_used = clock;
        if directory.index.is_some() {
            return Ok(());
        }
        let mut index = Box::new(Index { names: HashIndex::new(), end: 0, gaps: BTreeMap::new(), live: 0 });
        let mut parser = self.take_parser();
        parser.trusting = false;
        let mut memory = true;
        let mut gap: Option<u32> = None;
        let result = self.scan(slot, 0, |position, record| {
            let fed = parser.feed(position, record);
            if fed == Fed::End {
                return false;
            }
            match (fed, gap) {
                (Fed::Unused, None) => gap = Some(position),
                (Fed::Unused, Some(_)) => (),
                (_, Some(start)) => {
                    index.gaps.insert(start, position - start);
                    gap = None;
                }
                (_, None) => (),
            }
            if fed != Fed::Unused {
                index.end = position + 1;
            }
            if fed == Fed::Complete && parser.record.count as usize <= MAXIMUM_RECORDS {
                let at = parser.record.position;
                let hash = self.upcase.hash(&parser.name);
                memory &= index.names.insert(hash, at);
                if let Some(short) = parser.record.short_name() {
                    let short = self.upcase.hash(short);
                    if short != hash {
                        memory &= index.names.insert(short, at);
                    }
                }
                index.live += 1;
            }
            memory
        });
        self.directories.parser = Some(parser);
        result?;
        if !memory {
            return Err(VolumeError::NoResources);
        }
        self.directories.index_bytes += index.names.bytes();
        self.directories.get_mut(slot)?.index = Some(index);
        self.directories.trim(slot);
        Ok(())
    }

    /// Finds a name; its spelling and short name are in `directories.parsed()` then.
    pub(super) fn find_name(&mut self, slot: u32, name: &[u16]) -> Result<Option<Record>, VolumeError> {
        self.load_index(slot)?;
        let hash = self.upcase.hash(name);
        for number in 0.. {
            let directory = self.directories.get(slot)?;
            let found = directory.index.as_ref().and_then(|index| index.names.nth(hash, number));
            let Some(position) = found else { break };
            let record = self.read_set(slot, position)?;
            let spelling = self.directories.parsed().map_or(&[][..], |parsed| &parsed.name);
            if self.upcase.equal(spelling, name)
                || record.short_name().is_some_and(|short| self.upcase.equal(short, name))
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Whether the directory has no names.
    pub(super) fn is_empty(&mut self, slot: u32) -> Result<bool, VolumeError> {
        self.load_index(slot)?;
        Ok(self.directories.get(slot)?.index.as_ref().is_some_and(|index| index.live == 0))
    }

    /// Finds `count` free records in a row, growing the directory (a transaction of its own) if it has to.
    pub(super) fn find_place(&mut self, slot: u32, count: u32) -> Result<u32, VolumeError> {
        self.load_index(slot)?;
        loop {
            let directory = self.directories.get(slot)?;
            let Some(index) = &directory.index else { return Err(VolumeError::Stale) };
            let gap = index.gaps.iter().take(GAPS_TRIED).find(|gap| *gap.1 >= count);
            if let Some((&start, _)) = gap {
                return Ok(start);
            }
            if index.end + count <= self.capacity(directory) {
                return Ok(index.end);
            }
            self.grow_directory(slot)?;
        }
    }

    fn grow_directory(&mut self, slot: u32) -> Result<(), VolumeError> {
        let directory = self.directories.get(slot)?;
        let clusters = directory.extents.clusters();
        let room = self.capacity(directory);
        let grown = (u64::from(clusters) + 1) << self.geometry.cluster_shift;
        let most = if self.geometry.kind.is_exfat() { 1u64 << 28 } else { 1 << 21 };
        if directory.fixed || grown > most || u64::from(room) * RECORD_BYTES >= most {
            return Err(VolumeError::Full);
        }
        let (parent, position) = (directory.parent, directory.position);
        let mut extents = directory.extents.clone();
        let mut contiguous = directory.contiguous;
        let (cluster, _) = self.allocate(extents.last() + 1, 1)?;
        let result = self.atomically(|engine| {
            let offset = engine.geometry.offset_of(cluster);
            let length = engine.geometry.cluster_bytes() as usize;
            engine.cache.zero(engine.device, offset, length, offset)?;
            engine.order(offset, offset + length as u64);
            let adjacent = cluster == extents.last() + 1;
            if !extents.push(cluster, 1) {
                return Err(VolumeError::NoResources);
            }
            engine.record_allocation(cluster, 1, true)?;
            if contiguous && !adjacent {
                engine.link_chain(&extents, 0, clusters + 1)?;
                contiguous = false;
            } else if !contiguous {
                engine.link_chain(&extents, clusters, clusters + 1)?;
            }
            if engine.geometry.kind.is_exfat() && parent != NONE {
                let mut record = engine.read_set(parent, position)?;
                record.size = grown;
                record.valid = grown;
                record.contiguous = contiguous;
                engine.rewrite_set(parent, &record)?;
            }
            Ok(())
        });
        if let Err(error) = result {
            self.release_now(cluster, 1);
            return Err(error);
        }
        let directory = self.directories.get_mut(slot)?;
        directory.extents = extents;
        directory.contiguous = contiguous;
        Ok(())
    }

    /// Puts a set's records into the transaction, at `position`.
    pub(super) fn store_set(&mut self, slot: u32, position: u32, set: &[u8]) -> Result<(), VolumeError> {
        let directory = self.directories.get(slot)?;
        for (number, record) in (position..).zip(set.chunks(RECORD)) {
            let offset = self.record_offset(&directory.extents, directory.fixed, number);
            let offset = offset.ok_or(VolumeError::Corrupt)?;
            self.transaction.write(&self.cache, self.device, offset, record)?;
        }
        // Behind the last set in use the rest of a directory is zeros; if somebody left something else there, it must
        // not come back to life.
        let behind = position + (set.len() / RECORD) as u32;
        let at_end = directory.index.as_ref().is_some_and(|index| behind > index.end);
        if at_end && let Some(offset) = self.record_offset(&directory.extents, directory.fixed, behind) {
            let mut first = [0];
            self.transaction.read(&self.cache, self.device, offset, &mut first)?;
            if first != [0] {
                self.transaction.write(&self.cache, self.device, offset, &[0; RECORD])?;
            }
        }
        Ok(())
    }

    /// Reads the bytes of a set.
    pub(super) fn load_set(&self, slot: u32, position: u32, count: u32) -> Result<Vec<u8>, VolumeError> {
        let directory = self.directories.get(slot)?;
        let mut set = vec![0; count as usize * RECORD];
        for (number, record) in (position..).zip(set.chunks_mut(RECORD)) {
            let offset = self.record_offset(&directory.extents, directory.fixed, number);
            let offset = offset.ok_or(VolumeError::Corrupt)?;
            self.transaction.read(&self.cache, self.device, offset, record)?;
        }
        Ok(set)
    }

    /// Puts `record`'s sizes, times, attributes and first cluster into its set, in the transaction.
    pub(super) fn rewrite_set(&mut self, slot: u32, record: &Record) -> Result<(), VolumeError> {
        if self.geometry.kind.is_exfat() {
            let mut set = self.load_set(slot, record.position, record.count)?;
            update_exfat(&mut set, record);
            set.truncate(2 * RECORD);
            self.store_records(slot, record.position, &set)
        } else {
            let last = record.position + record.count - 1;
            let mut set = self.load_set(slot, last, 1)?;
            update_fat(&mut set, record);
            self.store_records(slot, last, &set)
        }
    }

    fn store_records(&mut self, slot: u32, position: u32, records: &[u8]) -> Result<(), VolumeError> {
        let directory = self.directories.get(slot)?;
        for (number, record) in (position..).zip(records.chunks(RECORD)) {
            let offset = self.record_offset(&directory.extents, directory.fixed, number);
            let offset = offset.ok_or(VolumeError::Corrupt)?;
            self.transaction.write(&self.cache, self.device, offset, record)?;
        }
        Ok(())
    }

    /// Marks a set's records unused, in the transaction.
    pub(super) fn erase_set(&mut self, slot: u32, position: u32, count: u32) -> Result<(), VolumeError> {
        let directory = self.directories.get(slot)?;
        for number in position..position + count {
            let offset = self.record_offset(&directory.extents, directory.fixed, number);
            let offset = offset.ok_or(VolumeError::Corrupt)?;
            let mut mark = [0xE5];
            if self.geometry.kind.is_exfat() {
                self.transaction.read(&self.cache, self.device, offset, &mut mark)?;
                mark[0] &= 0x7F;
            }
            self.transaction.write(&self.cache, self.device, offset, &mark)?;
        }
        Ok(())
    }

    /// Notes in the index that a set is there now.
    pub(super) fn note_added(
        &mut self,
        slot: u32,
        position: u32,
        count: u32,
        name: &[u16],
        short: Option<&[u16]>,
    ) {
        let hash = self.upcase.hash(name);
        let short_hash = short.map(|short| self.upcase.hash(short)).filter(|&short| short != hash);
        let Ok(directory) = self.directories.get_mut(slot) else { return };
        let Some(index) = &mut directory.index else { return };
        let before = index.names.bytes();
        let gap = index.gaps.range(..=position).next_back().map(|(&start, &length)| (start, length));
        if let Some((start, length)) = gap.filter(|(start, length)| start + length > position) {
            index.gaps.remove(&start);
            if position > start {
                index.gaps.insert(start, position - start);
            }
            let behind = (start + length).saturating_sub(position + count);
            if behind > 0 {
                index.gaps.insert(position + count, behind);
            }
        }
        if position > index.end {
            index.gaps.insert(index.end, position - index.end);
        }
        index.end = index.end.max(position + count);
        index.live += 1;
        let mut stored = index.names.insert(hash, position);
        if let Some(short) = short_hash {
            stored &= index.names.insert(short, position);
        }
        let after = index.names.bytes();
        if !stored {
            // Without memory for it the index is of no use: it will be made again.
            directory.index = None;
        }
        self.directories.index_bytes = (self.directories.index_bytes + after) - before;
        if !stored {
            self.directories.index_bytes -= after;
        }
    }

    /// Notes in the index that a set is gone.
    pub(super) fn note_removed(
        &mut self,
        slot: u32,
        position: u32,
        count: u32,
        name: &[u16],
        short: Option<&[u16]>,
    ) {
        let hash = self.upcase.hash(name);
        let short_hash = short.map(|short| self.upcase.hash(short));
        let Ok(directory) = self.directories.get_mut(slot) else { return };
        let Some(index) = &mut directory.index else { return };
        index.names.remove(hash, position);
        if let Some(short) = short_hash {
            index.names.remove(short, position);
        }
        index.live = index.live.saturating_sub(1);
        let (mut start, mut length) = (position, count);
        if let Some((&before, &its_length)) = index.gaps.range(..position).next_back()
            && before + its_length == position
        {
            index.gaps.remove(&before);
            start = before;
            length += its_length;
        }
        if let Some(behind) = index.gaps.remove(&(position + count)) {
            length += behind;
        }
        index.gaps.insert(start, length);
    }

    /// Changes `..` of a FAT directory, which names its parent's first cluster (0 for the root).
    pub(super) fn rewrite_dot_dot(&mut self, slot: u32, parent: u32) -> Result<(), VolumeError> {
        let root = self.directories.root();
        let cluster = if parent == root { 0 } else { self.directories.get(parent)?.first_cluster };
        let mut record = self.load_set(slot, 1, 1)?;
        if record.starts_with(b"..") {
            put(&mut record, 20, &((cluster >> 16) as u16).to_le_bytes());
            put(&mut record, 26, &(cluster as u16).to_le_bytes());
            self.store_records(slot, 1, &record)?;
        }
        Ok(())
    }
}
