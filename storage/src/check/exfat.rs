//! exFAT: sets of records, the root's own records, the allocation bitmap.

use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::lost::LostRun;
use super::walk::{Cursor, Pending, Visit};
use super::{Checker, Finding};
use crate::upcase::{UpcaseTable, table_checksum};
use crate::volume::VolumeError;
use crate::volume::bytes::{get8, get16, get32, get64, put};
use crate::volume::entry::{
    EXFAT_BITMAP, EXFAT_FILE, EXFAT_LABEL, EXFAT_NAME, EXFAT_STREAM, EXFAT_UPCASE, EXFAT_VENDOR, RECORD,
    is_valid_unit, set_checksum, vendor_allocation,
};

/// The mark of a cluster that cannot be used.
const BAD_CLUSTER: u32 = 0xFFFF_FFF7;
/// The most bytes that a directory can have (7.4.1).
const LARGEST_DIRECTORY: u64 = 256 << 20;

/// The records of a set, as they were read.
pub(super) struct Set {
    bytes: Vec<u8>,
    places: Vec<u64>,
    start: Cursor,
}

impl Set {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn kind(&self, number: usize) -> u8 {
        get8(&self.bytes, number * RECORD)
    }

    /// Units of the name: as many as the set says, if it has records for them and no more behind; else up to the first
    /// zero. 0: there is none.
    fn name_length(&self) -> usize {
        let records = (2..self.count()).take_while(|&number| self.kind(number) == EXFAT_NAME).count();
        let declared = usize::from(get8(&self.bytes, RECORD + 3));
        let unit = |index: usize| get16(&self.bytes, Self::unit_place(index));
        let end = declared.next_multiple_of(15);
        if end <= records * 15 && (declared..end).all(|index| unit(index) == 0) {
            return declared;
        }
        (0..(records * 15).min(255)).take_while(|&index| unit(index) != 0).count()
    }

    /// A stream record and all of a name are there.
    fn is_whole(&self) -> bool {
        self.kind(1) == EXFAT_STREAM && self.name_length() > 0
    }

    /// The sum over its first `count` records.
    fn checksum(&self, count: usize) -> u16 {
        let mut sum = 0;
        for (number, record) in self.bytes.chunks_exact(RECORD).take(count).enumerate() {
            sum = set_checksum(sum, record, number == 0);
        }
        sum
    }

    /// The sum over as many records as it says is what it says.
    fn is_sound(&self) -> bool {
        let declared = usize::from(get8(&self.bytes, 1)) + 1;
        declared <= self.count() && self.checksum(declared) == get16(&self.bytes, 2)
    }

    fn unit_place(index: usize) -> usize {
        (2 + index / 15) * RECORD + 2 + index % 15 * 2
    }

    pub(super) fn name(&self) -> Vec<u16> {
        (0..self.name_length()).map(|index| get16(&self.bytes, Self::unit_place(index))).collect()
    }

    fn set_name(&mut self, name: &[u16], upcase: &UpcaseTable) {
        for (index, unit) in name.iter().enumerate() {
            put(&mut self.bytes, Self::unit_place(index), &unit.to_le_bytes());
        }
        put(&mut self.bytes, RECORD + 4, &upcase.exfat_hash(name).to_le_bytes());
    }

    fn keep(&mut self, count: usize) {
        self.bytes.truncate(count * RECORD);
        self.places.truncate(count);
    }
}

/// The type of a record that is not in use any more; never 0, which would end the directory.
fn unused(kind: u8) -> u8 {
    match kind & 0x7F {
        0 => 0x05,
        kind => kind,
    }
}

/// One of the two files of the volume's own.
#[derive(Clone, Copy, Debug, Default)]
struct SystemFile {
    /// Place of its record; 0 when there is none.
    record: u64,
    first: u32,
    clusters: u64,
    /// It is where its record says, and whole.
    sound: bool,
}

/// What the root says of the volume itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SystemFiles {
    bitmap: SystemFile,
    table: SystemFile,
}

impl<R: RawMutex> Checker<'_, R> {
    /// Reads the set at a cursor: a record and the secondary ones in use behind it.
    pub(super) fn gather(&mut self, start: Cursor) -> Result<Set, VolumeError> {
        let mut set = Set { bytes: Vec::new(), places: Vec::new(), start };
        let mut cursor = start;
        while let Some((place, record)) = self.record(&cursor)? {
            if set.count() > 0 && record[0] & 0xC0 != 0xC0 {
                break;
            }
            set.bytes.extend_from_slice(&record);
            set.places.push(place);
            if set.count() == 256 {
                break;
            }
            self.advance(&mut cursor)?;
        }
        Ok(set)
    }

    fn store(&mut self, set: &mut Set) -> Result<(), VolumeError> {
        let sum = set.checksum(set.count());
        put(&mut set.bytes, 2, &sum.to_le_bytes());
        for (record, &place) in set.bytes.chunks_exact(RECORD).zip(&set.places) {
            self.medium.write(place, record)?;
        }
        Ok(())
    }

    fn erase(&mut self, set: &Set) -> Result<(), VolumeError> {
        for (record, &place) in set.bytes.chunks_exact(RECORD).zip(&set.places) {
            self.medium.write(place, &[unused(get8(record, 0))])?;
        }
        Ok(())
    }

    /// Finds the bitmap and the up-case table, before files can claim their clusters. Where a record or chain is broken,
    /// the file gets a place when all others have theirs.
    pub(super) fn claim_system_files(&mut self) -> Result<SystemFiles, VolumeError> {
        let mut files = SystemFiles::default();
        let Some(mut cursor) = self.root else { return Ok(files) };
        let needed = u64::from(self.geometry.clusters.div_ceil(8));
        // They are among the first, and a false end mark must not hide them.
        for _ in 0..512 {
            let Some((place, record)) = self.record(&cursor)? else { break };
            let (first, length) = (get32(&record, 20), get64(&record, 24));
            match record[0] {
                EXFAT_BITMAP if get8(&record, 1) & 1 == 0 && files.bitmap.record == 0 => {
                    let clusters = self.geometry.clusters_for(needed);
                    let sound = length == needed && self.claim_system_chain(first, clusters)?;
                    files.bitmap = SystemFile { record: place, first, clusters, sound };
                }
                EXFAT_UPCASE if files.table.record == 0 => {
                    let clusters = self.geometry.clusters_for(length);
                    let mut sound =
                        (2..=131_072).contains(&length) && self.claim_system_chain(first, clusters)?;
                    if sound {
                        let stored = self.read_chain(first, length as usize)?;
                        let table = UpcaseTable::parse(&stored);
                        match table.filter(|_| table_checksum(&stored) == get32(&record, 4)) {
                            Some(table) => self.upcase = table,
                            None => {
                                sound = false;
                                self.release_chain(first, clusters as u32)?;
                            }
                        }
                    }
                    files.table = SystemFile { record: place, first, clusters, sound };
                }
                _ => (),
            }
            self.advance(&mut cursor)?;
        }
        for file in [files.bitmap, files.table] {
            if !file.sound {
                self.found(Finding::SystemRecords, &[]);
            }
        }
        self.system = files;
        Ok(files)
    }

    /// Claims a chain of exactly as many clusters, or nothing. They follow each other: nobody makes others, and other systems
    /// do not look whether it is so.
    fn claim_system_chain(&mut self, first: u32, clusters: u64) -> Result<bool, VolumeError> {
        if clusters == 0 || clusters > u64::from(self.geometry.clusters) {
            return Ok(false);
        }
        let chain = self.claim_chain(first, clusters)?;
        if u64::from(chain.count) < clusters || !self.is_one_run(first, chain.count)? {
            self.release_chain(first, chain.count)?;
            return Ok(false);
        }
        if chain.longer || chain.broken.is_some() {
            self.found(chain.broken.unwrap_or(Finding::ChainLong), &[]);
            self.end_chain(chain.last)?;
        }
        Ok(true)
    }

    fn is_one_run(&mut self, first: u32, count: u32) -> Result<bool, VolumeError> {
        for cluster in first..first + count.saturating_sub(1) {
            if self.entry(cluster)? != cluster + 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives claimed clusters of a chain back.
    pub(super) fn release_chain(&mut self, first: u32, count: u32) -> Result<(), VolumeError> {
        let mut cluster = first;
        for _ in 0..count {
            self.claimed.release(cluster, 1);
            cluster = self.entry(cluster)?;
        }
        Ok(())
    }

    fn read_chain(&mut self, first: u32, length: usize) -> Result<Vec<u8>, VolumeError> {
        let mut bytes = vec![0; length];
        let mut cluster = first;
        for piece in bytes.chunks_mut(self.geometry.cluster_bytes() as usize) {
            self.medium.read(self.geometry.offset_of(cluster), piece)?;
            cluster = self.entry(cluster)?;
        }
        Ok(bytes)
    }

    /// All records of a directory.
    pub(super) fn exfat_records(&mut self, visit: &mut Visit) -> Result<(), VolumeError> {
        while let Some((place, record)) = self.record(&visit.cursor)? {
            let kind = record[0];
            if kind & 0x80 == 0 {
                if !self.unused(visit, place, kind == 0) {
                    break;
                }
                self.advance(&mut visit.cursor)?;
                continue;
            }
            let mut count = 1;
            if self.names.len() % 256 == 255 {
                self.progress();
            }
            if kind == EXFAT_FILE {
                let set = self.gather(visit.cursor)?;
                let credible = set.is_whole() && set.is_sound();
                if self.used(visit, place, |_| Ok(credible))? {
                    let directory = visit.directory;
                    count = self.exfat_set(&directory, set)?;
                }
            } else if self.used(visit, place, |_| Ok(kind & 0x40 == 0))? {
                let own = match kind {
                    EXFAT_BITMAP => place == self.system.bitmap.record,
                    EXFAT_UPCASE => place == self.system.table.record,
                    EXFAT_LABEL => visit.directory.is_root() && get8(&record, 1) <= 11,
                    // The volume's GUID and TexFAT's padding (7.5, 7.10), the only other primary records there are.
                    _ => matches!(kind, 0xA0 | 0xA1) && visit.directory.is_root(),
                };
                if !own {
                    let finding =
                        if kind == EXFAT_LABEL { Finding::SystemRecords } else { Finding::BrokenSet };
                    self.found(finding, &[]);
                    self.medium.write(place, &[unused(kind)])?;
                }
            }
            for _ in 0..count {
                self.advance(&mut visit.cursor)?;
            }
        }
        Ok(())
    }

    /// A file's or directory's set. How many records it takes.
    fn exfat_set(&mut self, directory: &Pending, mut set: Set) -> Result<usize, VolumeError> {
        if !set.is_whole() {
            self.found(Finding::BrokenSet, &[]);
            self.erase(&set)?;
            return Ok(set.count());
        }
        let declared = usize::from(get8(&set.bytes, 1)) + 1;
        let least = 2 + set.name_length().div_ceil(15);
        let mut count = least;
        // Vendors' records may follow (7.8, 7.9); in a damaged set they are more likely parts of the name.
        let sound = set.is_sound();
        while sound && count < declared && count < set.count() && set.kind(count) >= EXFAT_VENDOR {
            count += 1;
        }
        set.keep(count);
        let mut name = set.name();
        let mut changed = false;
        if count != declared {
            self.found(Finding::BrokenSet, &name);
            put(&mut set.bytes, 1, &[count as u8 - 1]);
            changed = true;
        } else if !sound {
            self.found(Finding::SetChecksum, &name);
            changed = true;
        }
        if name.len() != usize::from(get8(&set.bytes, RECORD + 3)) {
            self.found(Finding::Name, &name);
            put(&mut set.bytes, RECORD + 3, &[name.len() as u8]);
            changed = true;
        }
        let bad_units = name.iter().any(|&unit| !is_valid_unit(unit));
        if bad_units || name.iter().all(|&unit| unit == u16::from(b'.')) {
            self.found(Finding::Name, &name);
            for unit in &mut name {
                if !is_valid_unit(*unit) || *unit == u16::from(b'.') {
                    *unit = u16::from(b'_');
                }
            }
            set.set_name(&name, &self.upcase);
            changed = true;
        } else if get16(&set.bytes, RECORD + 4) != self.upcase.exfat_hash(&name) {
            self.found(Finding::Name, &name);
            set.set_name(&name, &self.upcase);
            changed = true;
        }
        let Some((stream_changed, child)) = self.exfat_stream(&mut set, &name)? else {
            self.erase(&set)?;
            return Ok(count);
        };
        if changed || stream_changed {
            self.store(&mut set)?;
        }
        for vendor in set.bytes.chunks_exact(RECORD).filter_map(vendor_allocation) {
            let clusters = self.geometry.clusters_for(vendor.size);
            match vendor.contiguous {
                true => _ = self.claim_run(vendor.first_cluster, clusters),
                false => _ = self.claim_chain(vendor.first_cluster, clusters)?,
            }
        }
        self.note_name(&name, set.start)?;
        match child {
            Some((first, chain, contiguous)) => {
                self.enlist(directory, set.start, first, &chain, contiguous)?;
            }
            None => self.report.files += 1,
        }
        Ok(count)
    }

    /// Sizes and clusters of a set: whether they had to be changed, and the clusters of a directory. `None`: a directory
    /// without clusters, which cannot be.
    #[allow(clippy::type_complexity)]
    fn exfat_stream(
        &mut self,
        set: &mut Set,
        name: &[u16],
    ) -> Result<Option<(bool, Option<(u32, super::chain::Chain, bool)>)>, VolumeError> {
        let cluster_bytes = self.geometry.cluster_bytes();
        let is_directory = get16(&set.bytes, 4) & 0x10 != 0;
        let flags = get8(&set.bytes, RECORD + 1);
        let before = set.bytes.get(RECORD..2 * RECORD).unwrap_or(&[]).to_vec();
        let (mut first, mut size) = (get32(&before, 20), get64(&before, 24));
        let mut valid = get64(&before, 8);
        let mut contiguous = flags & 3 == 3;
        let mut want = self.geometry.clusters_for(size);
        if want > u64::from(self.geometry.clusters) || (is_directory && size > LARGEST_DIRECTORY) {
            self.found(Finding::Size, name);
            want = u64::from(self.geometry.clusters);
            // How long it was is not known: as far as its chain goes, or else nothing.
            if contiguous {
                want = 0;
            } else {
                size = u64::MAX;
            }
        } else if is_directory && (size == 0 || size % cluster_bytes != 0) {
            self.found(Finding::Size, name);
            want = want.max(1);
        }
        let mut claimed = None;
        if first != 0 && want > 0 {
            let chain = if contiguous { self.claim_run(first, want) } else { self.claim_chain(first, want)? };
            if let Some(finding) = chain.broken {
                self.found(finding, name);
            } else if u64::from(chain.count) < want && size != u64::MAX {
                self.found(Finding::ChainShort, name);
            } else if chain.longer && !contiguous {
                self.found(Finding::ChainLong, name);
            }
            if !contiguous && chain.count > 0 && (chain.broken.is_some() || chain.longer) {
                self.end_chain(chain.last)?;
            }
            if u64::from(chain.count) < want || is_directory || size == u64::MAX {
                size = if is_directory { u64::MAX } else { size }.min(u64::from(chain.count) * cluster_bytes);
            }
            claimed = Some(chain);
        } else if first != 0 && size == 0 {
            self.found(Finding::ChainLong, name);
        } else if first == 0 && size != 0 {
            self.found(Finding::ChainShort, name);
        }
        let count = claimed.map_or(0, |chain| chain.count);
        if count == 0 {
            (first, size, valid, contiguous) = (0, 0, 0, false);
            if is_directory {
                if claimed.is_none() {
                    self.found(Finding::BrokenSet, name);
                }
                return Ok(None);
            }
        }
        if valid > size || (is_directory && valid != size) {
            if get64(&before, 8) > get64(&before, 24) || size == get64(&before, 24) {
                self.found(Finding::ValidLength, name);
            }
            valid = size;
        }
        let stream = set.bytes.get_mut(RECORD..2 * RECORD).unwrap_or_default();
        put(stream, 1, &[if contiguous { 3 } else { 1 }]);
        put(stream, 8, &valid.to_le_bytes());
        put(stream, 20, &first.to_le_bytes());
        put(stream, 24, &size.to_le_bytes());
        // Flags that mean nothing, or an empty file's: not worth a finding, but put right with the rest.
        let changed = get64(stream, 8) != get64(&before, 8)
            || get32(stream, 20) != get32(&before, 20)
            || get64(stream, 24) != get64(&before, 24)
            || (count > 0 && flags & 1 == 0);
        let child = claimed.filter(|_| is_directory).map(|chain| (first, chain, contiguous));
        Ok(Some((changed, child)))
    }

    /// Gives the second of two sets with the same name another of the same length. False: their names differ.
    pub(super) fn part_exfat_names(&mut self, first: Cursor, second: Cursor) -> Result<bool, VolumeError> {
        let (one, mut other) = (self.gather(first)?, self.gather(second)?);
        let mut name = other.name();
        if !self.upcase.equal(&one.name(), &name) {
            return Ok(false);
        }
        self.found(Finding::DuplicateName, &name);
        while self.renamed < 9999 {
            self.renamed += 1;
            let mut rest = self.renamed;
            for place in name.iter_mut().rev().take(4) {
                *place = u16::from(b'0') + (rest % 10) as u16;
                rest /= 10;
            }
            let hash = self.upcase.hash(&name);
            if !self.has_hash(hash) {
                self.note_hash(hash, second)?;
                other.keep(usize::from(get8(&other.bytes, 1)) + 1);
                other.set_name(&name, &self.upcase);
                self.store(&mut other)?;
                break;
            }
        }
        Ok(true)
    }

    /// When all files have their clusters: gives bitmap and table a place if they lost theirs, and compares the bitmap.
    pub(super) fn settle_bitmap(&mut self, mut system: SystemFiles) -> Result<(), VolumeError> {
        if !system.table.sound {
            let table = UpcaseTable::generate().store();
            let clusters = self.geometry.clusters_for(table.len() as u64);
            let first = self.place_system_file(system.table.first, clusters)?;
            self.medium.write(self.geometry.offset_of(first), &table)?;
            let mut record = [0; RECORD];
            put(&mut record, 0, &[EXFAT_UPCASE]);
            put(&mut record, 4, &table_checksum(&table).to_le_bytes());
            put(&mut record, 20, &first.to_le_bytes());
            put(&mut record, 24, &(table.len() as u64).to_le_bytes());
            self.store_system_record(system.table.record, &record)?;
        }
        let compared = system.bitmap.sound;
        if !compared {
            let bytes = u64::from(self.geometry.clusters.div_ceil(8));
            system.bitmap.clusters = self.geometry.clusters_for(bytes);
            system.bitmap.first = self.place_system_file(system.bitmap.first, system.bitmap.clusters)?;
            let mut record = [0; RECORD];
            put(&mut record, 0, &[EXFAT_BITMAP]);
            put(&mut record, 20, &system.bitmap.first.to_le_bytes());
            put(&mut record, 24, &bytes.to_le_bytes());
            self.store_system_record(system.bitmap.record, &record)?;
        }
        let first = system.bitmap.first;
        if compared {
            let mut lost = Vec::new();
            let (mut total, mut missing) = (0u32, 0u32);
            self.for_each_bitmap_sector(first, |checker, _, word, sector| {
                for (word, field) in (word..).zip(sector.chunks_exact(4)) {
                    let (stored, claimed) = (get32(field, 0), checker.claimed.word(word));
                    missing += (claimed & !stored & checker.word_mask(word)).count_ones();
                    let mut extra = stored & !claimed & checker.word_mask(word);
                    while extra != 0 {
                        let cluster = word as u32 * 32 + extra.trailing_zeros() + 2;
                        extra &= extra - 1;
                        if checker.entry(cluster)? == BAD_CLUSTER {
                            checker.claimed.take(cluster, 1);
                            continue;
                        }
                        total += 1;
                        LostRun::add(&mut lost, cluster);
                    }
                }
                Ok(())
            })?;
            if missing > 0 {
                self.found_many(Finding::NotInBitmap, missing, &[]);
            }
            if total > 0 {
                self.found_many(Finding::LostClusters, total, &[]);
                self.keep_lost(lost, total)?;
            }
        }
        if !self.repair {
            return Ok(());
        }
        self.for_each_bitmap_sector(first, |checker, place, word, sector| {
            let mut changed = false;
            for (word, field) in (word..).zip(sector.chunks_exact_mut(4)) {
                // Bits behind the last cluster mean nothing and are 0.
                let bits = checker.claimed.word(word) & checker.word_mask(word);
                changed |= get32(field, 0) != bits;
                put(field, 0, &bits.to_le_bytes());
            }
            if changed { checker.medium.write(place, sector) } else { Ok(()) }
        })
    }

    /// The bits of a word of the map that stand for clusters.
    fn word_mask(&self, word: usize) -> u32 {
        match self.geometry.clusters.saturating_sub(word as u32 * 32) {
            0 => 0,
            bits if bits < 32 => u32::MAX >> (32 - bits),
            _ => u32::MAX,
        }
    }

    /// Visits the stored bitmap sector by sector: its place, the number of its first word, its bytes.
    fn for_each_bitmap_sector(
        &mut self,
        first: u32,
        mut visit: impl FnMut(&mut Self, u64, usize, &mut [u8; 512]) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let bytes = u64::from(self.geometry.clusters.div_ceil(8));
        let mut cluster = first;
        let mut at = 0;
        while at < bytes {
            let within = at % self.geometry.cluster_bytes();
            if at > 0 && within == 0 {
                cluster = self.entry(cluster)?;
            }
            if at % 16384 == 0 {
                self.progress();
            }
            let place = self.geometry.offset_of(cluster) + within;
            let mut sector = [0; 512];
            self.medium.read(place, &mut sector)?;
            visit(self, place, (at / 4) as usize, &mut sector)?;
            at += 512;
        }
        Ok(())
    }

    /// Clusters in one piece for a file of the volume's own, chained: where it was, at the heap's start, or anywhere.
    fn place_system_file(&mut self, before: u32, clusters: u64) -> Result<u32, VolumeError> {
        let count = u32::try_from(clusters).map_err(|_| VolumeError::Full)?;
        let fits = |checker: &Self, first: u32| {
            checker.geometry.is_cluster(first) && checker.claimed.run_length(first - 2, count) == count
        };
        let first = match [before, 2].into_iter().find(|&first| fits(self, first)) {
            Some(first) => first,
            None => self.claimed.find(0, count).filter(|found| found.1 == count).ok_or(VolumeError::Full)?.0,
        };
        self.claimed.take(first, count);
        self.link_run(first, count)?;
        Ok(first)
    }

    /// Chains clusters that follow each other.
    pub(super) fn link_run(&mut self, first: u32, count: u32) -> Result<(), VolumeError> {
        for cluster in first..first + (count - 1) {
            self.set_entry(cluster, cluster + 1)?;
        }
        self.end_chain(first + (count - 1))
    }

    fn store_system_record(&mut self, place: u64, record: &[u8; RECORD]) -> Result<(), VolumeError> {
        let place = match place {
            0 => self.take_root_room(1)?.first().copied().ok_or(VolumeError::Full)?,
            place => place,
        };
        self.medium.write(place, record)
    }
}
