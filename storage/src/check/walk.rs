//! The walk over all directories: each is read record by record, and those in it are visited later.

use alloc::vec::Vec;

use lock_api::RawMutex;

use super::chain::Chain;
use super::{Checker, Finding};
use crate::cache::PAGE_SIZE;
use crate::volume::VolumeError;
use crate::volume::entry::RECORD;

/// No path leads deeper: it has 32,767 units at most.
const DEEPEST: u16 = 16384;
/// Names of so many directories on the way down are kept to be told.
const NAMED: usize = 64;
/// Names of a directory that are compared with each other at most.
const MOST_NAMES: usize = 200_000;

/// A place in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// The cluster; 0 in a root at a fixed place.
    cluster: u32,
    /// Byte in the cluster, or in the fixed root.
    within: u32,
    /// Clusters behind this one.
    pub(super) left: u32,
    contiguous: bool,
}

/// A directory to be visited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Its set in the directory above.
    set: Cursor,
    start: Cursor,
    pub(super) first: u32,
    /// First cluster of the directory above; 0 for the root.
    pub(super) above: u32,
    depth: u16,
}

impl Pending {
    pub(super) fn is_root(&self) -> bool {
        self.depth == 0
    }
}

/// A directory while it is read.
pub(super) struct Visit {
    pub(super) directory: Pending,
    pub(super) cursor: Cursor,
    /// The mark of its end, once seen.
    end: Option<Cursor>,
    /// Unused records in a row, for the root.
    room: Vec<u64>,
}

impl<R: RawMutex> Checker<'_, R> {
    /// Claims the root directory and puts it on the list.
    pub(super) fn claim_root(&mut self) -> Result<(), VolumeError> {
        let first = self.geometry.root_cluster;
        let mut count = 1;
        if first != 0 {
            let chain = self.claim_chain(first, u64::MAX)?;
            if let Some(finding) = chain.broken {
                self.found(finding, &[]);
                self.end_chain(chain.last)?;
            }
            count = chain.count;
            self.root_end = chain.last;
        }
        let start = Cursor { cluster: first, within: 0, left: count - 1, contiguous: false };
        self.root = Some(start);
        self.pending.push(Pending { set: start, start, first, above: 0, depth: 0 });
        Ok(())
    }

    /// Puts the directory of the set at `set` on the list.
    pub(super) fn enlist(
        &mut self,
        above: &Pending,
        set: Cursor,
        first: u32,
        chain: &Chain,
        contiguous: bool,
    ) -> Result<(), VolumeError> {
        if above.depth >= DEEPEST {
            log::error!("check: directories are nested deeper than any path");
            return Err(VolumeError::Corrupt);
        }
        let start = Cursor { cluster: first, within: 0, left: chain.count - 1, contiguous };
        let above_first = if above.is_root() { 0 } else { above.first };
        self.pending.try_reserve(1).map_err(|_| VolumeError::NoResources)?;
        self.pending.push(Pending { set, start, first, above: above_first, depth: above.depth + 1 });
        Ok(())
    }

    pub(super) fn walk(&mut self) -> Result<(), VolumeError> {
        while let Some(directory) = self.pending.pop() {
            self.path.truncate(usize::from(directory.depth).saturating_sub(1));
            if !directory.is_root() && self.path.len() < NAMED {
                let name = self.name_at(directory.set)?;
                self.path.push(name);
            }
            self.report.directories += 1;
            self.progress();
            self.visit(directory)?;
        }
        self.path.clear();
        Ok(())
    }

    fn visit(&mut self, directory: Pending) -> Result<(), VolumeError> {
        let exfat = self.geometry.kind.is_exfat();
        self.names.clear();
        self.name_index.clear();
        self.renamed = 0;
        let mut visit = Visit { directory, cursor: directory.start, end: None, room: Vec::new() };
        if !exfat && !directory.is_root() {
            self.check_dots(&mut visit)?;
        }
        if exfat { self.exfat_records(&mut visit) } else { self.fat_records(&mut visit) }?;
        self.report.names_unchecked += u32::from(self.names.len() >= MOST_NAMES);
        Ok(())
    }

    /// Where the record at a cursor lies; `None` behind the last.
    pub(super) fn place(&self, cursor: &Cursor) -> Option<u64> {
        if cursor.cluster == 0 {
            let (offset, length) = self.geometry.fixed_root;
            return (cursor.within < length).then(|| offset + u64::from(cursor.within));
        }
        (u64::from(cursor.within) < self.geometry.cluster_bytes())
            .then(|| self.geometry.offset_of(cursor.cluster) + u64::from(cursor.within))
    }

    /// Goes to the next record.
    pub(super) fn advance(&mut self, cursor: &mut Cursor) -> Result<(), VolumeError> {
        cursor.within = cursor.within.saturating_add(RECORD as u32);
        if cursor.cluster != 0 && u64::from(cursor.within) >= self.geometry.cluster_bytes() && cursor.left > 0
        {
            // Claimed clusters: the chain is good as far as they go.
            cursor.cluster = if cursor.contiguous { cursor.cluster + 1 } else { self.entry(cursor.cluster)? };
            cursor.left -= 1;
            cursor.within = 0;
        }
        Ok(())
    }

    /// The record at a cursor and its place.
    pub(super) fn record(&self, cursor: &Cursor) -> Result<Option<(u64, [u8; RECORD])>, VolumeError> {
        let Some(place) = self.place(cursor) else { return Ok(None) };
        let mut record = [0; RECORD];
        self.medium.read(place, &mut record)?;
        Ok(Some((place, record)))
    }

    /// An unused record, or one behind the end. False: there is no need to look further.
    pub(super) fn unused(&mut self, visit: &mut Visit, place: u64, is_end: bool) -> bool {
        self.note_room(visit, place);
        if is_end && visit.end.is_none() {
            visit.end = Some(visit.cursor);
        }
        // Large clusters are mostly zeros, and not read for that: what hides behind a damaged mark begins near it.
        let page = PAGE_SIZE as u64;
        visit.end.is_none() || !self.geometry.kind.is_exfat() || place % page < page - RECORD as u64
    }

    /// A place without a record: enough of them in a row in the root are room for a set.
    fn note_room(&mut self, visit: &mut Visit, place: u64) {
        let needed = if self.geometry.kind.is_exfat() { 3 } else { 1 };
        if visit.directory.is_root() && self.root_room.is_empty() {
            visit.room.push(place);
            if visit.room.len() == needed {
                self.root_room = core::mem::take(&mut visit.room);
            }
        }
    }

    /// A record in use. False: it is behind the directory's end, and not credible. What is there is wiped then; else
    /// the false marks become unused records.
    pub(super) fn used(
        &mut self,
        visit: &mut Visit,
        place: u64,
        credible: impl FnOnce(&mut Self) -> Result<bool, VolumeError>,
    ) -> Result<bool, VolumeError> {
        if let Some(mut end) = visit.end {
            self.found(Finding::BehindEnd, &[]);
            if !credible(self)? {
                self.medium.write(place, &[0; RECORD])?;
                self.note_room(visit, place);
                return Ok(false);
            }
            visit.end = None;
            let mark = if self.geometry.kind.is_exfat() { 0x05 } else { 0xE5 };
            while let Some((at, record)) = self.record(&end)?
                && at != place
            {
                if record[0] == 0 {
                    self.medium.write(at, &[mark])?;
                }
                self.advance(&mut end)?;
            }
        }
        visit.room.clear();
        Ok(true)
    }

    /// Notes a name, to be compared with the others of its directory.
    pub(super) fn note_name(&mut self, name: &[u16], set: Cursor) -> Result<(), VolumeError> {
        if self.path.is_empty() {
            self.note_found_number(name);
        }
        let hash = self.upcase.hash(name);
        if self.names.len() >= MOST_NAMES {
            return Ok(());
        }
        // Chance brings equal hashes together, too; malice brings many.
        for number in 0..8 {
            let Some(place) = self.name_index.nth(hash, number) else { break };
            let Some(&other) = self.names.get(place as usize) else { break };
            if self.place(&other) != self.place(&set) && self.part_names(other, set)? {
                // The new name is noted in its place.
                return Ok(());
            }
        }
        self.note_hash(hash, set)?;
        Ok(())
    }

    pub(super) fn note_hash(&mut self, hash: u32, set: Cursor) -> Result<(), VolumeError> {
        self.names.try_reserve(1).map_err(|_| VolumeError::NoResources)?;
        if !self.name_index.insert(hash, self.names.len() as u32) {
            return Err(VolumeError::NoResources);
        }
        self.names.push(set);
        Ok(())
    }

    /// A name of the root: `FOUND.nnn` counts.
    fn note_found_number(&mut self, name: &[u16]) {
        let &[f, o, u, n, d, dot, hundreds, tens, ones] = name else { return };
        if [f, o, u, n, d, dot].map(|unit| self.upcase.upper(unit)) != b"FOUND.".map(u16::from) {
            return;
        }
        let digit = |unit: u16| u32::from(unit).checked_sub(u32::from(b'0')).filter(|&digit| digit < 10);
        if let (Some(hundreds), Some(tens), Some(ones)) = (digit(hundreds), digit(tens), digit(ones)) {
            self.found_numbers = self.found_numbers.max(hundreds * 100 + tens * 10 + ones + 1);
        }
    }

    /// Whether a name of the directory has this hash.
    pub(super) fn has_hash(&self, hash: u32) -> bool {
        self.name_index.find(hash, |_| true).is_some()
    }

    fn name_at(&mut self, set: Cursor) -> Result<Vec<u16>, VolumeError> {
        if self.geometry.kind.is_exfat() {
            let set = self.gather(set)?;
            Ok(set.name())
        } else {
            Ok(self.gather_fat(set)?.name)
        }
    }

    /// Two sets of one directory whose names hash the same: if the names are the same, the second gets another, and true is
    /// answered.
    fn part_names(&mut self, first: Cursor, second: Cursor) -> Result<bool, VolumeError> {
        if self.geometry.kind.is_exfat() {
            self.part_exfat_names(first, second)
        } else {
            self.part_fat_names(first, second)
        }
    }
}
