//! The state of a mounted volume, its FAT and its free space.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::bytes::{get8, get16, get32, get64};
use super::directory::Directories;
use super::entry::{EXFAT_BITMAP, EXFAT_LABEL, EXFAT_UPCASE, RECORD};
use super::extents::Extents;
use super::geometry::{Geometry, Kind, boot_checksum};
use super::group::Groups;
use super::node::Nodes;
use super::ranges::Ranges;
use super::space_map::SpaceMap;
use super::transaction::Transaction;
use super::{FileTime, VolumeError};
use crate::cache::{Cache, DeviceIndex, PAGE_SIZE};
use crate::time::{Clock, Steps};
use crate::upcase::{UpcaseTable, table_checksum};

/// What a mounted volume consists of; the volume's lock guards all of it.
pub(crate) struct Engine<R: RawMutex> {
    pub(super) cache: Arc<Cache<R>>,
    pub(super) device: DeviceIndex,
    pub(super) geometry: Geometry,
    pub(super) upcase: UpcaseTable,
    pub(super) map: SpaceMap,
    /// exFAT's allocation bitmap, on the volume.
    bitmap: Extents,
    pub(super) label: Vec<u16>,
    pub(super) nodes: Nodes,
    pub(super) directories: Directories,
    pub(super) transaction: Transaction,
    clock: Arc<dyn Clock>,
    pub(super) read_only: bool,
    /// The structure contradicts itself: that is why there are no more changes.
    pub(super) damaged: bool,
    /// The volume was not left cleanly before this mount: the mark stays until it was checked.
    pub(super) found_dirty: bool,
    /// The volume carries the dirty mark now.
    marked_dirty: bool,
    pub(super) unmounted: bool,
    /// Transactions applied; the last count at which `sync` saw it.
    pub(super) changes: u32,
    pub(super) synced_changes: u32,
    /// With a journal: the transactions on their way to it.
    pub(super) groups: Option<Groups>,
    /// Free clusters as the volume has them; FAT32's FSInfo sector says so too, if it is one.
    disk_free: u32,
    /// Ids of files that were moved, by location.
    pub(super) file_ids: BTreeMap<u64, u64>,
    pub(super) next_file_id: u64,
    /// Since the last [`Volume::sync`](super::Volume::sync), files were closed of which not all may be safe.
    pub(super) closed_unflushed: bool,
    /// Bytes that are read ahead of a sequential reader at most.
    pub(super) read_ahead_limit: u64,
}

/// Places of the dirty mark, at most.
const MAXIMUM_MARKS: usize = 8;
/// Bounds of [`Engine::read_ahead_limit`], which depends on the cache's size.
const LEAST_READ_AHEAD: u64 = 64 << 10;
const MAXIMUM_READ_AHEAD: u64 = 4 << 20;

impl<R: RawMutex> Engine<R> {
    /// Reads a volume's structure.
    pub(super) fn mount(
        cache: Arc<Cache<R>>,
        device: DeviceIndex,
        clock: Arc<dyn Clock>,
        read_only: bool,
    ) -> Result<Self, VolumeError> {
        let bytes = cache.device_bytes(device);
        let geometry = cache.inspect(device, 0, 512, |boot| Geometry::parse(boot, bytes))??;
        if geometry.sector_size < cache.block_size(device) {
            // A block would have clusters of several files: an image of another disk.
            return Err(VolumeError::Corrupt);
        }
        let pages = u64::from(cache.statistics().maximum_pages);
        let read_ahead_limit = (pages / 128 * PAGE_SIZE as u64).clamp(LEAST_READ_AHEAD, MAXIMUM_READ_AHEAD);
        let mut engine = Self {
            map: SpaceMap::new(geometry.clusters)?,
            cache,
            device,
            upcase: UpcaseTable::generate(),
            bitmap: Extents::new(),
            label: Vec::new(),
            nodes: Nodes::new(),
            directories: Directories::new(geometry.kind),
            transaction: Transaction::new(),
            clock,
            read_only,
            damaged: false,
            found_dirty: false,
            marked_dirty: false,
            unmounted: false,
            changes: 0,
            synced_changes: 0,
            groups: None,
            disk_free: 0,
            file_ids: BTreeMap::new(),
            next_file_id: 0,
            read_ahead_limit,
            closed_unflushed: false,
            geometry,
        };
        engine.enter_root()?;
        if engine.geometry.kind.is_exfat() {
            engine.mount_exfat()?;
        } else {
            engine.mount_fat()?;
        }
        engine.found_dirty = engine.dirty_mark()?;
        engine.marked_dirty = engine.found_dirty;
        engine.disk_free = engine.map.free();
        engine.check_information_sector()?;
        Ok(engine)
    }

    pub(super) fn now(&self) -> FileTime {
        self.clock.now()
    }

    /// The time of a write that happens now, in the steps that the format keeps: a node shows the same before and after
    /// it is stored.
    pub(super) fn write_time(&self) -> FileTime {
        self.now().cut(self.time_steps().modified)
    }

    /// In which steps the format keeps times.
    pub(super) fn time_steps(&self) -> Steps {
        if self.geometry.kind.is_exfat() { Steps::EXFAT } else { Steps::FAT }
    }

    /// Fails if the volume takes no changes.
    pub(super) fn check_writable(&self) -> Result<(), VolumeError> {
        if self.read_only { Err(VolumeError::ReadOnly) } else { Ok(()) }
    }

    /// Notes that the structure contradicts itself: no more changes.
    pub(super) fn corrupt(&mut self, what: &str) -> VolumeError {
        if !self.damaged {
            log::error!("volume \"{}\": {what}: read-only from now on, run a check", self.label());
        }
        self.damaged = true;
        self.read_only = true;
        VolumeError::Corrupt
    }

    /// The label, for the log.
    pub(super) fn label(&self) -> String {
        String::from_utf16_lossy(&self.label)
    }

    /// Runs a part of mounting without which files can still be read.
    fn or_read_only(
        &mut self,
        what: &str,
        part: impl FnOnce(&mut Self) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        match part(self) {
            Err(VolumeError::Corrupt) => {
                let _ = self.corrupt(what);
                Ok(())
            }
            result => result,
        }
    }

    /// The sum over exFAT's boot sectors.
    fn check_boot_sectors(&mut self) -> Result<(), VolumeError> {
        let sector = self.geometry.sector_size as usize;
        let mut region = Vec::with_capacity(12 * sector);
        for number in 0..12 {
            self.cache.inspect(self.device, (number * sector) as u64, sector, |bytes| {
                region.extend_from_slice(bytes);
            })?;
        }
        let sum = boot_checksum(region.get(..11 * sector).unwrap_or(&[]));
        let stored = region.get(11 * sector..).unwrap_or(&[]);
        if stored.chunks_exact(4).all(|word| get32(word, 0) == sum) {
            Ok(())
        } else {
            Err(VolumeError::Corrupt)
        }
    }

    fn mount_exfat(&mut self) -> Result<(), VolumeError> {
        let mut bitmap = None;
        let mut upcase = None;
        let mut label = Vec::new();
        let root = self.directories.root();
        self.for_each_raw(root, |record| {
            match get8(record, 0) {
                0 => return false,
                EXFAT_BITMAP if get8(record, 1) & 1 == 0 => {
                    bitmap = Some((get32(record, 20), get64(record, 24)));
                }
                EXFAT_UPCASE => upcase = Some((get32(record, 20), get64(record, 24), get32(record, 4))),
                EXFAT_LABEL => {
                    let units = record.get(2..24).unwrap_or(&[]).chunks_exact(2);
                    label = units.map(|unit| get16(unit, 0)).take(usize::from(get8(record, 1))).collect();
                }
                _ => (),
            }
            true
        })?;
        self.label = label;
        self.or_read_only("its boot sectors contradict their checksum", Self::check_boot_sectors)?;
        self.or_read_only("its bitmap is damaged", |engine| engine.load_bitmap(bitmap))?;
        self.or_read_only("its up-case table is damaged", |engine| engine.load_upcase(upcase))
    }

    /// The free map, from where the root says the bitmap is: first cluster and length.
    fn load_bitmap(&mut self, bitmap: Option<(u32, u64)>) -> Result<(), VolumeError> {
        let (first, length) = bitmap.ok_or(VolumeError::Corrupt)?;
        let needed = u64::from(self.geometry.clusters.div_ceil(8));
        if length < needed {
            return Err(VolumeError::Corrupt);
        }
        self.bitmap = self.load_chain(first, Some(self.geometry.clusters_for(needed)))?;
        let stored = self.read_extents(&self.bitmap, needed)?;
        for (word, four) in stored.chunks(4).enumerate() {
            let mut bits = [0; 4];
            for (place, &byte) in bits.iter_mut().zip(four) {
                *place = byte;
            }
            self.map.load(word, u32::from_le_bytes(bits));
        }
        Ok(())
    }

    /// The up-case table, from where the root says it is: first cluster, length and checksum.
    fn load_upcase(&mut self, upcase: Option<(u32, u64, u32)>) -> Result<(), VolumeError> {
        let (first, length, sum) = upcase.ok_or(VolumeError::Corrupt)?;
        if length == 0 || length > 2 * 65536 {
            return Err(VolumeError::Corrupt);
        }
        let extents = self.load_chain(first, Some(self.geometry.clusters_for(length)))?;
        let stored = self.read_extents(&extents, length)?;
        if table_checksum(&stored) != sum {
            return Err(VolumeError::Corrupt);
        }
        self.upcase = UpcaseTable::parse(&stored).ok_or(VolumeError::Corrupt)?;
        Ok(())
    }

    fn mount_fat(&mut self) -> Result<(), VolumeError> {
        let mut label = Vec::new();
        let root = self.directories.root();
        self.for_each_raw(root, |record| {
            match (get8(record, 0), get8(record, 11)) {
                (0, _) => return false,
                (first, attributes) if first != 0xE5 && attributes & 0x3F != 0x0F && attributes & 8 != 0 => {
                    let bytes = record.get(..11).unwrap_or(&[]);
                    let used = bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
                    label = bytes.iter().take(used).map(|&byte| u16::from(byte)).collect();
                    return false;
                }
                _ => (),
            }
            true
        })?;
        self.label = label;
        // The free map: FAT entries that are 0.
        let kind = self.geometry.kind;
        if kind == Kind::Fat12 {
            for cluster in 2..self.geometry.clusters + 2 {
                self.load_free(cluster, self.fat_entry(cluster)? == 0);
            }
            return Ok(());
        }
        const PIECE: u64 = 256 << 10;
        let width = if kind == Kind::Fat16 { 2 } else { 4 };
        let total = (u64::from(self.geometry.clusters) + 2) * width;
        let mut done = 0;
        let mut bits = 0u32;
        while done < total {
            let offset = self.geometry.fat + done;
            // In pieces that are one command each, and always two ahead.
            let length = (PIECE - offset % PIECE).min(total - done);
            let mut payload = crate::Payload::new();
            if done == 0 {
                self.cache.prefetch(self.device, offset + length, 2 * PIECE);
            } else {
                self.cache.prefetch(self.device, offset + length + PIECE, PIECE);
            }
            self.cache.read(self.device, offset, length as usize, &mut payload)?;
            let mut cluster = (done / width) as u32;
            let map = &mut self.map;
            payload.for_each(&mut |piece| {
                for entry in piece.chunks_exact(width as usize) {
                    let free = match entry {
                        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d & 0x0F]) == 0,
                        entry => get16(entry, 0) == 0,
                    };
                    if let Some(index) = cluster.checked_sub(2) {
                        bits |= u32::from(!free) << (index % 32);
                        if index % 32 == 31 {
                            map.load((index / 32) as usize, bits);
                            bits = 0;
                        }
                    }
                    cluster += 1;
                }
            });
            done += length;
        }
        if self.geometry.clusters % 32 != 0 {
            self.map.load((self.geometry.clusters / 32) as usize, bits);
        }
        Ok(())
    }

    fn load_free(&mut self, cluster: u32, free: bool) {
        if free {
            self.map.release(cluster, 1);
        }
    }

    /// The first `length` bytes of a small file of metadata.
    fn read_extents(&self, extents: &Extents, length: u64) -> Result<Vec<u8>, VolumeError> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length as usize).map_err(|_| VolumeError::NoResources)?;
        let mut left = length;
        for run in extents.runs() {
            let count = (u64::from(run.count) << self.geometry.cluster_shift).min(left);
            let mut done = 0;
            while done < count {
                let part = (count - done).min(1 << 20);
                let mut payload = crate::Payload::new();
                let offset = self.geometry.offset_of(run.cluster) + done;
                self.cache.read(self.device, offset, part as usize, &mut payload)?;
                payload.for_each(&mut |piece| bytes.extend_from_slice(piece));
                done += part;
            }
            left -= count;
        }
        if left > 0 { Err(VolumeError::Corrupt) } else { Ok(bytes) }
    }

    // ---- the FAT ----

    /// A cluster's FAT entry, with the changes of the running transaction.
    fn fat_entry(&self, cluster: u32) -> Result<u32, VolumeError> {
        let (offset, width) = self.geometry.fat_place(cluster);
        let mut bytes = [0; 4];
        let field = bytes.get_mut(..width).unwrap_or_default();
        self.transaction.read(&self.cache, self.device, self.geometry.fat + offset, field)?;
        Ok(self.geometry.decode_fat(cluster, bytes))
    }

    /// Sets a cluster's FAT entry, in all copies.
    fn set_fat_entry(&mut self, cluster: u32, value: u32) -> Result<(), VolumeError> {
        let (offset, width) = self.geometry.fat_place(cluster);
        let mut bytes = [0; 4];
        let place = self.geometry.fat + offset;
        let field = bytes.get_mut(..width).unwrap_or_default();
        if matches!(self.geometry.kind, Kind::Fat12 | Kind::Fat32) {
            self.transaction.read(&self.cache, self.device, place, field)?;
        }
        let field = self.geometry.encode_fat(cluster, bytes, value);
        for copy in 0..self.geometry.fat_copies {
            let place = place + u64::from(copy) * self.geometry.fat_bytes;
            self.transaction.write(&self.cache, self.device, place, field.get(..width).unwrap_or(&[]))?;
        }
        Ok(())
    }

    /// Follows a chain from `first`. With `limit`, as many clusters as that, and it is an error if there are fewer.
    pub(super) fn load_chain(&self, first: u32, limit: Option<u64>) -> Result<Extents, VolumeError> {
        let mut extents = Extents::new();
        let mut cluster = first;
        let wanted = limit.unwrap_or(u64::from(self.geometry.clusters) + 1);
        let mut count = 0;
        while count < wanted {
            if !self.geometry.is_cluster(cluster) || count >= u64::from(self.geometry.clusters) {
                return Err(VolumeError::Corrupt);
            }
            // Entries in one page are followed without looking the page up again.
            let (offset, width) = self.geometry.fat_place(cluster);
            let place = self.geometry.fat + offset;
            if self.geometry.kind == Kind::Fat12 || !self.transaction.is_empty() {
                if !extents.push(cluster, 1) {
                    return Err(VolumeError::NoResources);
                }
                count += 1;
                cluster = self.fat_entry(cluster)?;
            } else {
                let page = place - place % PAGE_SIZE as u64;
                let from = page.max(self.geometry.fat);
                let to = (page + PAGE_SIZE as u64).min(self.geometry.fat + self.geometry.fat_bytes);
                let done = self.cache.inspect(self.device, from, (to - from) as usize, |entries| {
                    while count < wanted && count < u64::from(self.geometry.clusters) {
                        let Some(at) =
                            (self.geometry.fat + self.geometry.fat_place(cluster).0).checked_sub(from)
                        else {
                            break;
                        };
                        let field =
                            usize::try_from(at).ok().and_then(|at| entries.get(at..at.checked_add(width)?));
                        let Some(field) = field.filter(|_| self.geometry.is_cluster(cluster)) else { break };
                        if !extents.push(cluster, 1) {
                            return Err(VolumeError::NoResources);
                        }
                        count += 1;
                        let mut bytes = [0; 4];
                        for (place, &byte) in bytes.iter_mut().zip(field) {
                            *place = byte;
                        }
                        cluster = self.geometry.decode_fat(cluster, bytes);
                    }
                    Ok(())
                })?;
                done?;
            }
            if self.geometry.kind.is_end(cluster) {
                break;
            }
        }
        match limit {
            Some(limit) if count < limit => Err(VolumeError::Corrupt),
            _ => Ok(extents),
        }
    }

    /// Writes the chain entries of clusters `from..to` of a file, and links its last one before to them.
    pub(super) fn link_chain(&mut self, extents: &Extents, from: u32, to: u32) -> Result<(), VolumeError> {
        let mut previous = match from.checked_sub(1) {
            Some(index) => extents.locate(index).map(|(cluster, _)| cluster),
            None => None,
        };
        let mut index = from;
        while index < to {
            let Some((first, count)) = extents.locate(index) else { return Err(VolumeError::Corrupt) };
            let count = count.min(to - index);
            for cluster in first..first + count {
                if let Some(previous) = previous {
                    self.set_fat_entry(previous, cluster)?;
                }
                previous = Some(cluster);
            }
            index += count;
        }
        match previous {
            Some(last) => self.set_fat_entry(last, self.geometry.kind.end_of_chain()),
            None => Ok(()),
        }
    }

    // ---- allocation ----

    /// Takes up to `want` clusters in memory, at `goal` if possible: (first, count). The volume learns of them by
    /// [`record_allocation`](Self::record_allocation).
    pub(super) fn allocate(&mut self, goal: u32, want: u32) -> Result<(u32, u32), VolumeError> {
        let found = match self.map.find(goal, want) {
            Some(found) => found,
            None => {
                self.trim_all();
                self.map.find(goal, want).ok_or(VolumeError::Full)?
            }
        };
        self.map.take(found.0, found.1);
        self.map.set_next(found.0 + found.1);
        Ok(found)
    }

    /// Gives back clusters that the volume knew as taken: they are handed out again when the journal allows it.
    pub(super) fn release(&mut self, first: u32, count: u32, directory: bool) {
        if !self.hold_back(first, count, directory) {
            self.release_now(first, count);
        }
    }

    /// Gives clusters back in memory.
    pub(super) fn release_now(&mut self, first: u32, count: u32) {
        if !self.map.release(first, count) {
            let _ = self.corrupt("a cluster belonged to two files");
        }
        let length = u64::from(count) << self.geometry.cluster_shift;
        self.cache.discard(self.device, self.geometry.offset_of(first), length);
    }

    /// Notes on the volume that clusters are taken or free; for FAT only the latter, as chains say the former.
    pub(super) fn record_allocation(
        &mut self,
        first: u32,
        count: u32,
        taken: bool,
    ) -> Result<(), VolumeError> {
        self.disk_free =
            if taken { self.disk_free.wrapping_sub(count) } else { self.disk_free.wrapping_add(count) };
        if !self.geometry.kind.is_exfat() {
            if !taken {
                for cluster in first..first + count {
                    self.set_fat_entry(cluster, 0)?;
                }
            }
            return Ok(());
        }
        let mut index = first.wrapping_sub(2);
        let end = index.checked_add(count).filter(|&end| end <= self.geometry.clusters);
        let end = end.ok_or(VolumeError::Corrupt)?;
        while index < end {
            let byte = u64::from(index / 8);
            let cluster_index = (byte >> self.geometry.cluster_shift) as u32;
            let (cluster, _) = self.bitmap.locate(cluster_index).ok_or(VolumeError::Corrupt)?;
            let offset = self.geometry.offset_of(cluster) + byte % self.geometry.cluster_bytes();
            let image = self.transaction.sector(&self.cache, self.device, offset / 512)?;
            // All bits in this sector at once.
            let sector_end = (index / 4096 + 1) * 4096;
            let stop = end.min(sector_end);
            while index < stop {
                let within = (index / 8 % 512) as usize;
                let bits = (8 - index % 8).min(stop - index);
                let mask = ((0xFFu32 >> (8 - bits)) << (index % 8)) as u8;
                if let Some(place) = image.get_mut(within) {
                    if taken {
                        *place |= mask;
                    } else {
                        *place &= !mask;
                    }
                }
                index += bits;
            }
        }
        Ok(())
    }

    // ---- transactions and marks ----

    /// Makes the running transaction's changes real.
    pub(super) fn commit(&mut self) -> Result<(), VolumeError> {
        if self.transaction.is_empty() {
            return Ok(());
        }
        let mut transaction = core::mem::replace(&mut self.transaction, Transaction::new());
        let mut result = Ok(());
        for image in transaction.images() {
            let offset = image.sector * 512;
            result = self.note_change(image.sector).and_then(|()| match &self.groups {
                Some(groups) => self.cache.write_held(self.device, offset, &*image.bytes, groups.number()),
                None => self.cache.write(self.device, offset, &*image.bytes, u64::MAX),
            });
            if result.is_err() {
                break;
            }
        }
        transaction.clear();
        self.transaction = transaction;
        self.changes = self.changes.wrapping_add(1);
        if let Err(error) = result {
            // Part of it may be in the cache: nothing may build on that.
            log::error!("volume: metadata could not be changed ({error:?}): read-only from now on");
            self.read_only = true;
            return Err(error.into());
        }
        Ok(())
    }

    /// Runs `operation`; what it did to the transaction counts only if it succeeds.
    pub(super) fn atomically<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        self.transaction.clear();
        self.set_dirty_mark(true)?;
        let free = self.disk_free;
        let result = operation(self).and_then(|answer| {
            if self.disk_free != free {
                self.update_information_sector()?;
            }
            self.commit().map(|()| answer)
        });
        if result.is_err() {
            self.transaction.clear();
            self.disk_free = free;
        }
        result
    }

    /// Whether the volume says that it was not left cleanly.
    fn dirty_mark(&self) -> Result<bool, VolumeError> {
        let (place, bit) = self.geometry.dirty_mark();
        let state = self.cache.inspect(self.device, place, 1, |state| get8(state, 0))?;
        let clean = self.geometry.clean_bit();
        Ok(state & bit != 0 || (clean != 0 && self.fat_entry(1)? & clean == 0))
    }

    /// Whether the volume carries the mark, and not from an earlier life.
    pub(super) fn is_marked(&self) -> bool {
        self.marked_dirty && !self.found_dirty
    }

    /// After a replay: the mark means nothing more. It has several places on FAT, of which a power cut may have reached
    /// some: the next change of it writes them all.
    pub(super) fn found_sound(&mut self) {
        self.found_dirty = false;
        self.marked_dirty = true;
        if let Err(error) = self.set_dirty_mark(false) {
            log::warn!("volume: its mark could not be cleared: {error}");
        }
    }

    /// Sets or clears the mark, on the device at once.
    pub(super) fn set_dirty_mark(&mut self, dirty: bool) -> Result<(), VolumeError> {
        if self.read_only || (self.found_dirty && !dirty) || self.marked_dirty == dirty {
            return Ok(());
        }
        let mut places = Ranges::new();
        let (place, bit) = self.geometry.dirty_mark();
        let state = self.cache.inspect(self.device, place, 1, |state| get8(state, 0))?;
        let state = if dirty { state | bit } else { state & !bit };
        self.cache.write(self.device, place, &[state], u64::MAX)?;
        places.add(place, place + 1, MAXIMUM_MARKS);
        let clean = self.geometry.clean_bit();
        if clean != 0 {
            let (offset, width) = self.geometry.fat_place(1);
            for copy in 0..self.geometry.fat_copies {
                let place = self.geometry.fat + offset + u64::from(copy) * self.geometry.fat_bytes;
                let mark = self.cache.inspect(self.device, place, width, |field| {
                    get32(&[get8(field, 0), get8(field, 1), get8(field, 2), get8(field, 3)], 0)
                })?;
                let mark = if dirty { mark & !clean } else { mark | clean };
                let field = mark.to_le_bytes();
                self.cache.write(self.device, place, field.get(..width).unwrap_or(&[]), u64::MAX)?;
                places.add(place, place + width as u64, MAXIMUM_MARKS);
            }
        }
        self.marked_dirty = dirty;
        self.cache.write_back_ranges(self.device, places.as_slice())?;
        self.cache.barrier(self.device)?;
        Ok(())
    }

    /// Finds out whether FAT32's FSInfo sector is one (FAT specification 5).
    fn check_information_sector(&mut self) -> Result<(), VolumeError> {
        let Some(place) = self.geometry.information_sector else { return Ok(()) };
        let sound = self.cache.inspect(self.device, place, 512, |sector| {
            get32(sector, 0) == 0x4161_5252 && get32(sector, 484) == 0x6141_7272
        })?;
        if !sound {
            self.geometry.information_sector = None;
        }
        Ok(())
    }

    /// Puts the count of free clusters into FAT32's FSInfo sector, in the transaction.
    fn update_information_sector(&mut self) -> Result<(), VolumeError> {
        if let Some(place) = self.geometry.information_sector {
            let free = self.disk_free.to_le_bytes();
            self.transaction.write(&self.cache, self.device, place + 488, &free)?;
        }
        Ok(())
    }

    /// The bytes at which record `position` of a directory lies, through its extents.
    pub(super) fn record_offset(&self, extents: &Extents, fixed: bool, position: u32) -> Option<u64> {
        let byte = u64::from(position) * RECORD as u64;
        if fixed {
            let (offset, length) = self.geometry.fixed_root;
            return (byte < u64::from(length)).then_some(offset + byte);
        }
        let index = u32::try_from(byte >> self.geometry.cluster_shift).ok()?;
        let (cluster, _) = extents.locate(index)?;
        Some(self.geometry.offset_of(cluster) + byte % self.geometry.cluster_bytes())
    }
}
