//! Groups of transactions on their way through the journal.
//!
//! Transactions change the cache at once, but their sectors are held there. From time to time all held sectors become
//! one group: first the data that their structures speak of is written and flushed, then the group is written to the
//! journal and flushed, then the sectors may go to their places, whenever the cache likes. When the log is half full,
//! its sectors are brought to their places and the log starts anew.
//!
//! Which data that is, the group knows: bytes that a file's set speaks of as written for the first time, and a new
//! directory's zeros. Other dirty data (written over, or of files that the volume does not know to be longer yet) has
//! no part in it, so a flush of one file waits for little else. Flushes that come while one is on its way share the next.
//!
//! Clusters that a transaction freed are not handed out before its group is safe: until then a power cut brings their
//! old owner back. Those of directories wait for the log to start anew, because the log holds images of them that a
//! replay would write over the new owner's data.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use lock_api::RawMutex;

use super::engine::Engine;
use super::ranges::Ranges;
use super::{Volume, VolumeError};
use crate::cache::CacheError;
use crate::journal::{IMAGE, Journal, Logged, UNKNOWN};

/// Sectors in the running group after which it is brought to the journal.
const USUAL_GROUP: usize = 1024;
/// Ranges of data that a group waits for; when there are more, some become one.
const MAXIMUM_ORDERED: usize = 512;

/// What an engine with a journal knows of it.
pub(super) struct Groups {
    /// Number of the running group.
    number: u32,
    /// Its sectors, and for each the sum before its first change in this epoch.
    running: BTreeMap<u64, u32>,
    /// Bytes of the volume that have to be safe before the running group is.
    ordered: Ranges,
    /// Sums of the sectors that the log has.
    logged: BTreeMap<u64, u32>,
    /// Directories' first clusters freed: (cluster, count).
    until_checkpoint: Vec<(u32, u32)>,
    /// Clusters freed, and by which group.
    until_commit: Vec<(u32, u32, u32)>,
    limit: usize,
}

/// A group taken for the journal.
pub(super) struct Taken {
    number: u32,
    sectors: Vec<Logged>,
    images: Vec<u8>,
    ordered: Ranges,
}

/// A volume's journal, and how far it got.
pub(super) struct Log {
    pub(super) journal: Journal,
    /// Groups up to this one are safe.
    committed: u32,
    /// The last flush that made something safe, in the count of [`Volume::flushes`].
    flushed: u32,
}

impl Log {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, committed: 0, flushed: 0 }
    }
}

/// Whether a wrapping count has come as far as another.
fn reaches(count: u32, other: u32) -> bool {
    count.wrapping_sub(other) as i32 >= 0
}

impl Groups {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            number: 1,
            running: BTreeMap::new(),
            ordered: Ranges::new(),
            logged: BTreeMap::new(),
            until_checkpoint: Vec::new(),
            until_commit: Vec::new(),
            limit: limit.min(USUAL_GROUP),
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn is_large(&self) -> bool {
        self.running.len() >= self.limit
    }

    fn waiting(&self) -> u64 {
        let commit = self.until_commit.iter().map(|&(_, count, _)| u64::from(count));
        commit.chain(self.until_checkpoint.iter().map(|&(_, count)| u64::from(count))).sum()
    }
}

impl<R: RawMutex> Engine<R> {
    /// Clusters that are free on the volume but not handed out yet.
    pub(super) fn waiting_clusters(&self) -> u64 {
        self.groups.as_ref().map_or(0, Groups::waiting)
    }

    /// The group that has to be safe for all changes so far to be; `None` without a journal.
    pub(super) fn latest_group(&self) -> Option<u32> {
        let groups = self.groups.as_ref()?;
        Some(if groups.running.is_empty() { groups.number.wrapping_sub(1) } else { groups.number })
    }

    /// Notes that bytes `start..end` of the volume have to be safe before the running group is.
    pub(super) fn order(&mut self, start: u64, end: u64) {
        if let Some(groups) = &mut self.groups {
            groups.ordered.add(start, end, MAXIMUM_ORDERED);
        }
    }

    /// Notes that a sector is about to change.
    pub(super) fn note_change(&mut self, sector: u64) -> Result<(), CacheError> {
        let Some(groups) = &mut self.groups else { return Ok(()) };
        if groups.running.contains_key(&sector) {
            return Ok(());
        }
        let before = match groups.logged.get(&sector) {
            Some(&before) => before,
            // Written as data a moment ago (a new directory's zeros): what is in its place now is anybody's guess.
            None if self.cache.is_sector_dirty(self.device, sector * IMAGE as u64) => UNKNOWN,
            None => {
                self.cache.inspect(self.device, sector * IMAGE as u64, IMAGE, crate::volume::bytes::crc32)?
            }
        };
        groups.running.insert(sector, before);
        Ok(())
    }

    /// Keeps freed clusters back until it is safe to hand them out. False without a journal.
    pub(super) fn hold_back(&mut self, first: u32, count: u32, directory: bool) -> bool {
        match &mut self.groups {
            None => false,
            Some(groups) if directory => {
                groups.until_checkpoint.push((first, count));
                true
            }
            Some(groups) => {
                groups.until_commit.push((first, count, groups.number));
                true
            }
        }
    }

    /// Ends the running group and takes it out, with its sectors as they are now.
    fn take_group(&mut self) -> Result<Option<Taken>, VolumeError> {
        let Some(groups) = &mut self.groups else { return Ok(None) };
        if groups.running.is_empty() && groups.until_commit.is_empty() {
            return Ok(None);
        }
        let mut images = vec![0; groups.running.len() * IMAGE];
        let mut sectors = Vec::with_capacity(groups.running.len());
        for ((&sector, &before), image) in groups.running.iter().zip(images.chunks_exact_mut(IMAGE)) {
            self.cache
                .inspect(self.device, sector * IMAGE as u64, IMAGE, |now| image.copy_from_slice(now))?;
            sectors.push(Logged { sector, before });
        }
        let number = groups.number;
        groups.number = groups.number.wrapping_add(1);
        groups.running = BTreeMap::new();
        let ordered = core::mem::take(&mut groups.ordered);
        Ok(Some(Taken { number, sectors, images, ordered }))
    }

    /// Notes what became of a group: it is safe, or its sectors join the running one.
    fn settle_group(&mut self, taken: &Taken, result: Result<(), VolumeError>) -> Result<(), VolumeError> {
        let Some(groups) = &mut self.groups else { return result };
        if result.is_err() {
            for logged in &taken.sectors {
                groups.running.insert(logged.sector, logged.before);
            }
            groups.ordered.add_all(&taken.ordered, MAXIMUM_ORDERED);
            return result;
        }
        for logged in &taken.sectors {
            groups.logged.insert(logged.sector, logged.before);
        }
        let freed = |group: u32| taken.number.wrapping_sub(group) as i32 >= 0;
        let (safe, waiting) = core::mem::take(&mut groups.until_commit)
            .into_iter()
            .partition::<Vec<_>, _>(|&(_, _, group)| freed(group));
        groups.until_commit = waiting;
        for (first, count, _) in safe {
            self.release_now(first, count);
        }
        Ok(())
    }

    /// Where the sectors lie that the log has, and that are to be safe in their places before it is emptied.
    fn logged_places(&self) -> Vec<(u64, u64)> {
        let mut places: Vec<(u64, u64)> = Vec::new();
        for &sector in self.groups.iter().flat_map(|groups| groups.logged.keys()) {
            let (start, end) = (sector * IMAGE as u64, (sector + 1) * IMAGE as u64);
            match places.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => places.push((start, end)),
            }
        }
        places
    }

    /// The log is empty.
    fn log_is_empty(&mut self) {
        let Some(groups) = &mut self.groups else { return };
        groups.logged = BTreeMap::new();
        for (first, count) in core::mem::take(&mut groups.until_checkpoint) {
            self.release_now(first, count);
        }
    }
}

impl<R: RawMutex> Volume<R> {
    /// Makes all changes so far safe.
    pub(super) fn commit(&self) -> Result<(), VolumeError> {
        match &mut *self.journal.lock() {
            Some(log) => self.commit_to(log),
            None => Ok(self.cache.flush(self.device)?),
        }
    }

    /// Makes all changes so far safe and brings them to their places, so that the journal is empty.
    pub(super) fn checkpoint(&self) -> Result<(), VolumeError> {
        match &mut *self.journal.lock() {
            Some(log) => self.empty_log(log),
            None => Ok(self.cache.flush(self.device)?),
        }
    }

    /// Makes safe what was written to the device so far, and group `number`. Does nothing if somebody has done so
    /// since this was called.
    pub(super) fn commit_up_to(&self, number: Option<u32>) -> Result<(), VolumeError> {
        let seen = self.flushes.load(Ordering::Relaxed);
        match (&mut *self.journal.lock(), number) {
            (Some(log), Some(number)) => {
                // A flush that began later covers what was written before.
                let is_done = reaches(log.committed, number) && !reaches(seen, log.flushed);
                if is_done { Ok(()) } else { self.commit_to(log) }
            }
            _ => Ok(self.cache.barrier(self.device)?),
        }
    }

    fn commit_to(&self, log: &mut Log) -> Result<(), VolumeError> {
        let taken = {
            let mut engine = self.engine.lock();
            let images = engine.groups.as_ref().map_or(0, |groups| groups.running.len());
            if !log.journal.has_room(images) {
                drop(engine);
                return self.empty_log(log);
            }
            engine.take_group()?
        };
        match taken {
            Some(taken) => {
                let result = self.write_group(log, &taken);
                self.engine.lock().settle_group(&taken, result)?;
            }
            // Nothing but data, if anything.
            None => self.make_safe(log)?,
        }
        let (used, size) = log.journal.fill();
        if used > size / 2 { self.empty_log(log) } else { Ok(()) }
    }

    /// Flushes the device, and with it the journal.
    fn make_safe(&self, log: &mut Log) -> Result<(), VolumeError> {
        let number = self.flushes.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.cache.barrier(self.device)?;
        log.flushed = number;
        Ok(())
    }

    /// Writes the data that a group speaks of, then the group.
    fn write_group(&self, log: &mut Log, taken: &Taken) -> Result<(), VolumeError> {
        if !taken.ordered.is_empty() {
            self.cache.write_back_ranges(self.device, taken.ordered.as_slice())?;
            self.cache.barrier(self.device)?;
        }
        if log.journal.has_room(taken.sectors.len()) {
            let before = log.journal.mark();
            if !taken.sectors.is_empty() {
                log.journal.append(&taken.sectors, &taken.images).map_err(|_| VolumeError::Io)?;
            }
            if let Err(error) = self.make_safe(log) {
                // It may be there or not: the next group takes its place, or a replay would end here.
                log.journal.rewind(before);
                return Err(error);
            }
            self.cache.release(self.device, taken.number);
        } else {
            // Larger than the log has room for: it cannot be atomic, and is not refused for that. What the log
            // holds of these sectors must not come back over it.
            log::warn!("volume: a change of {} sectors goes without the journal", taken.sectors.len());
            self.cache.release(self.device, taken.number);
            self.cache.write_back(self.device)?;
            self.make_safe(log)?;
            log.journal.reset(true).map_err(|_| VolumeError::Io)?;
        }
        log.committed = taken.number;
        Ok(())
    }

    /// Brings the structure to its place and empties the log. Nobody else changes the volume meanwhile.
    fn empty_log(&self, log: &mut Log) -> Result<(), VolumeError> {
        // Most of it while others may work.
        let places = self.engine.lock().logged_places();
        self.cache.write_back_ranges(self.device, &places)?;
        let mut engine = self.engine.lock();
        if let Some(taken) = engine.take_group()? {
            let result = self.write_group(log, &taken);
            engine.settle_group(&taken, result)?;
        }
        self.cache.write_back_ranges(self.device, &engine.logged_places())?;
        self.make_safe(log)?;
        log.journal.reset(true).map_err(|_| VolumeError::Io)?;
        engine.log_is_empty();
        Ok(())
    }

    /// Keeps the running group from growing without bound.
    pub(super) fn relieve(&self) -> Result<(), VolumeError> {
        let large = self.engine.lock().groups.as_ref().is_some_and(Groups::is_large);
        if large { self.commit() } else { Ok(()) }
    }

    /// Runs `operation`; when it finds the volume full while freed clusters wait for the journal, makes these free and
    /// runs it again.
    pub(super) fn with_space<T>(
        &self,
        mut operation: impl FnMut() -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        match operation() {
            Err(VolumeError::Full) if self.engine.lock().waiting_clusters() > 0 => {
                self.checkpoint()?;
                operation()
            }
            answer => answer,
        }
    }
}
