//! Groups of transactions on their way through the journal.
//!
//! Transactions change the cache at once, but their sectors are held there. From time to time all held sectors become
//! one group: first the data that their structures speak of is written and flushed, then the group is written to the
//! journal and flushed, then the sectors may go to their places, whenever the cache likes. When the log is half full,
//! everything is brought to its place and the log starts anew.
//!
//! Clusters that a transaction freed are not handed out before its group is safe: until then a power cut brings their
//! old owner back. Those of directories wait for the log to start anew, because the log holds images of them that a
//! replay would write over the new owner's data.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::engine::Engine;
use super::{Volume, VolumeError};
use crate::cache::CacheError;
use crate::journal::{IMAGE, Journal, Logged, UNKNOWN};

/// Sectors in the running group after which it is brought to the journal.
const USUAL_GROUP: usize = 1024;

/// What an engine with a journal knows of it.
pub(super) struct Groups {
    /// Number of the running group.
    number: u32,
    /// Its sectors, and for each the sum before its first change in this epoch.
    running: BTreeMap<u64, u32>,
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
}

impl Groups {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            number: 1,
            running: BTreeMap::new(),
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
            None => self.cache.inspect(self.device, sector * IMAGE as u64, IMAGE, crc32fast::hash)?,
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
        Ok(Some(Taken { number, sectors, images }))
    }

    /// Notes what became of a group: it is safe, or its sectors join the running one.
    fn settle_group(&mut self, taken: &Taken, result: Result<(), VolumeError>) -> Result<(), VolumeError> {
        let Some(groups) = &mut self.groups else { return result };
        if result.is_err() {
            for logged in &taken.sectors {
                groups.running.insert(logged.sector, logged.before);
            }
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
    /// Makes all changes so far safe. With `empty`, also brings them to their places, so that the journal is empty.
    pub(super) fn commit(&self, empty: bool) -> Result<(), VolumeError> {
        let mut journal = self.journal.lock();
        let Some(journal) = &mut *journal else {
            self.cache.flush(self.device)?;
            return Ok(());
        };
        let taken = {
            let mut engine = self.engine.lock();
            let images = engine.groups.as_ref().map_or(0, |groups| groups.running.len());
            if !journal.has_room(images) {
                drop(engine);
                return self.empty_log(journal);
            }
            engine.take_group()?
        };
        match taken {
            Some(taken) => {
                let result = self.write_group(journal, &taken);
                self.engine.lock().settle_group(&taken, result)?;
            }
            // Nothing but data, if anything.
            None if self.cache.is_dirty(self.device) || !empty => self.cache.flush(self.device)?,
            None => (),
        }
        let (used, size) = journal.fill();
        if used > size / 2 || (empty && used > 0) {
            self.empty_log(journal)?;
        }
        Ok(())
    }

    /// Writes the data that a group speaks of, then the group.
    fn write_group(&self, journal: &mut Journal, taken: &Taken) -> Result<(), VolumeError> {
        self.cache.flush(self.device)?;
        if !taken.sectors.is_empty() {
            if journal.has_room(taken.sectors.len()) {
                journal.append(&taken.sectors, &taken.images).map_err(|_| VolumeError::Io)?;
                journal.flush().map_err(|_| VolumeError::Io)?;
            } else {
                // Larger than the log has room for: it cannot be atomic, and is not refused for that. What the log
                // holds of these sectors must not come back over it.
                log::warn!("volume: a change of {} sectors goes without the journal", taken.sectors.len());
                self.cache.release(self.device, taken.number);
                self.cache.flush(self.device)?;
                journal.reset(true).map_err(|_| VolumeError::Io)?;
                return Ok(());
            }
        }
        self.cache.release(self.device, taken.number);
        Ok(())
    }

    /// Brings everything to its place and empties the log. Nobody else changes the volume meanwhile.
    fn empty_log(&self, journal: &mut Journal) -> Result<(), VolumeError> {
        let mut engine = self.engine.lock();
        if let Some(taken) = engine.take_group()? {
            let result = self.write_group(journal, &taken);
            engine.settle_group(&taken, result)?;
        }
        self.cache.flush(self.device)?;
        journal.reset(true).map_err(|_| VolumeError::Io)?;
        engine.log_is_empty();
        Ok(())
    }

    /// Keeps the running group from growing without bound.
    pub(super) fn relieve(&self) -> Result<(), VolumeError> {
        let large = self.engine.lock().groups.as_ref().is_some_and(Groups::is_large);
        if large { self.commit(false) } else { Ok(()) }
    }

    /// Runs `operation`; when it finds the volume full while freed clusters wait for the journal, makes these free and
    /// runs it again.
    pub(super) fn with_space<T>(
        &self,
        mut operation: impl FnMut() -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        match operation() {
            Err(VolumeError::Full) if self.engine.lock().waiting_clusters() > 0 => {
                self.commit(true)?;
                operation()
            }
            answer => answer,
        }
    }
}
