//! FAT: entries with their long names, `.` and `..`, chains that belong to nobody, FSInfo.

use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::lost::{LostRun, MOST_FILES};
use super::walk::{Cursor, Pending, Visit};
use super::{Checker, Finding};
use crate::volume::VolumeError;
use crate::volume::bytes::{get8, get16, get32, put};
use crate::volume::entry::{
    FAT_DELETED, FAT_LONG_NAME, FAT_VOLUME, Fed, RECORD, SetParser, is_short_byte, is_valid_name,
    made_short_name, short_checksum, short_name_units,
};
use crate::volume::geometry::Kind;
use crate::volume::space_map::SpaceMap;

/// A set: the short record and the long-name records that belong to it.
pub(super) struct FatSet {
    pub(super) name: Vec<u16>,
    short: [u8; 11],
    short_place: u64,
    long_places: Vec<u64>,
}

fn is_long(record: &[u8; RECORD]) -> bool {
    get8(record, 11) & 0x3F == FAT_LONG_NAME
}

impl<R: RawMutex> Checker<'_, R> {
    /// The mark that stands for a cluster that cannot be used.
    fn bad_cluster(&self) -> u32 {
        self.geometry.kind.end_of_chain() & !8
    }

    /// A first cluster as this kind of FAT has it.
    fn first_cluster(&self, record: &[u8]) -> u32 {
        let low = u32::from(get16(record, 26));
        if self.geometry.kind == Kind::Fat32 { low | u32::from(get16(record, 20)) << 16 } else { low }
    }

    fn put_first_cluster(&self, record: &mut [u8], cluster: u32) {
        put(record, 26, &(cluster as u16).to_le_bytes());
        if self.geometry.kind == Kind::Fat32 {
            put(record, 20, &((cluster >> 16) as u16).to_le_bytes());
        }
    }

    /// The first two records of a directory other than the root.
    pub(super) fn check_dots(&mut self, visit: &mut Visit) -> Result<(), VolumeError> {
        let directory = visit.directory;
        for (name, cluster) in [(b".          ", directory.first), (b"..         ", directory.above)] {
            let Some((place, mut record)) = self.record(&visit.cursor)? else { break };
            let right = record.starts_with(name)
                && get8(&record, 11) & 0x18 == 0x10
                && get8(&record, 12) == 0
                && self.first_cluster(&record) == cluster
                && get32(&record, 28) == 0;
            if !right {
                self.found(Finding::DotEntries, &[]);
                if !record.starts_with(b".") {
                    // Times of what was there would be somebody else's.
                    record = [0; RECORD];
                    put(&mut record, 24, &[0x21, 0]);
                }
                put(&mut record, 0, name);
                put(&mut record, 11, &[0x10, 0]);
                put(&mut record, 28, &[0; 4]);
                self.put_first_cluster(&mut record, cluster);
                self.medium.write(place, &record)?;
            }
            self.advance(&mut visit.cursor)?;
        }
        Ok(())
    }

    /// All records of a directory, behind `.` and `..`.
    pub(super) fn fat_records(&mut self, visit: &mut Visit) -> Result<(), VolumeError> {
        let mut parser = SetParser::new(self.geometry.kind);
        // Long-name records that wait for their short one.
        let mut long: Vec<(u64, Cursor)> = Vec::new();
        let mut position = 0;
        let mut labels = 0;
        while let Some((place, record)) = self.record(&visit.cursor)? {
            position += 1;
            if position % 1024 == 0 {
                self.progress();
            }
            if record[0] == 0 || record[0] == FAT_DELETED {
                self.orphans(&mut long, 0)?;
                parser.reset();
                self.unused(visit, place, record[0] == 0);
                self.advance(&mut visit.cursor)?;
                continue;
            }
            let cursor = visit.cursor;
            if !self.used(visit, place, |checker| checker.is_credible(cursor))? {
                self.advance(&mut visit.cursor)?;
                continue;
            }
            if is_long(&record) {
                self.check_reserved(place, &record)?;
                parser.feed(position, &record);
                long.push((place, cursor));
                if long.len() > 64 {
                    self.orphans(&mut long, 32)?;
                }
            } else if record[0] == b'.' || get8(&record, 11) & FAT_VOLUME != 0 {
                parser.reset();
                self.orphans(&mut long, 0)?;
                let is_label = record[0] != b'.'
                    && visit.directory.is_root()
                    && get8(&record, 11) & 0x10 == 0
                    && self.first_cluster(&record) == 0
                    && get32(&record, 28) == 0;
                labels += u32::from(is_label);
                if !is_label || labels > 1 {
                    let finding = if record[0] == b'.' { Finding::DotEntries } else { Finding::BrokenSet };
                    self.found(finding, &[]);
                    self.medium.write(place, &[FAT_DELETED])?;
                } else {
                    self.check_label(place, &record)?;
                }
            } else {
                let fed = parser.feed(position, &record);
                let own = if fed == Fed::Complete { parser.record.count as usize - 1 } else { 0 };
                self.orphans(&mut long, own)?;
                let start = long.first().map_or(cursor, |long| long.1);
                let places: Vec<u64> = long.drain(..).map(|long| long.0).collect();
                let directory = visit.directory;
                self.fat_set(&directory, start, place, record, &parser.name, &places)?;
            }
            self.advance(&mut visit.cursor)?;
        }
        self.orphans(&mut long, 0)
    }

    /// The fields of a long-name record that are always the same (FAT specification 7.1).
    fn check_reserved(&mut self, place: u64, record: &[u8; RECORD]) -> Result<(), VolumeError> {
        if get8(record, 11) != FAT_LONG_NAME || get8(record, 12) != 0 || get16(record, 26) != 0 {
            self.found(Finding::Name, &[]);
            self.medium.write(place + 11, &[FAT_LONG_NAME, 0])?;
            self.medium.write(place + 26, &[0; 2])?;
        }
        Ok(())
    }

    /// Erases all but the last `keep` long-name records.
    fn orphans(&mut self, long: &mut Vec<(u64, Cursor)>, keep: usize) -> Result<(), VolumeError> {
        let count = long.len().saturating_sub(keep);
        if count > 0 {
            self.found_many(Finding::OrphanLongName, count as u32, &[]);
        }
        for (place, _) in long.drain(..count) {
            self.medium.write(place, &[FAT_DELETED])?;
        }
        Ok(())
    }

    /// Whether what is behind a directory's end looks like a file with bytes: its name can be, and its chain begins where
    /// nobody else is.
    fn is_credible(&mut self, mut cursor: Cursor) -> Result<bool, VolumeError> {
        for _ in 0..21 {
            let Some((_, record)) = self.record(&cursor)? else { return Ok(false) };
            if !is_long(&record) {
                let first = self.first_cluster(&record);
                let named = record.iter().take(11).all(|&byte| is_short_byte(byte) || byte == b' ');
                return Ok(named
                    && record[0] != b' '
                    && get8(&record, 11) & 0xC8 == 0
                    && self.geometry.is_cluster(first)
                    && self.claimed.is_free(first)
                    && self.entry(first)? != 0);
            }
            self.advance(&mut cursor)?;
        }
        Ok(false)
    }

    /// A short record and its long name, if it has one.
    fn fat_set(
        &mut self,
        directory: &Pending,
        start: Cursor,
        place: u64,
        mut record: [u8; RECORD],
        name: &[u16],
        long: &[u64],
    ) -> Result<(), VolumeError> {
        let before = record;
        self.check_short_name(&mut record, name, long)?;
        let is_directory = get8(&record, 11) & 0x10 != 0;
        let (mut first, mut size) = (self.first_cluster(&record), get32(&record, 28));
        if is_directory && size != 0 {
            self.found(Finding::Size, name);
            size = 0;
        }
        let want = match is_directory {
            true => u64::MAX,
            false => self.geometry.clusters_for(u64::from(size)),
        };
        let mut claimed = None;
        if first != 0 && want > 0 {
            let chain = self.claim_chain(first, want)?;
            if let Some(finding) = chain.broken {
                self.found(finding, name);
            } else if !is_directory && u64::from(chain.count) < want {
                self.found(Finding::ChainShort, name);
            } else if chain.longer {
                self.found(Finding::ChainLong, name);
            }
            if chain.count > 0 && (chain.broken.is_some() || chain.longer) {
                self.end_chain(chain.last)?;
            }
            if !is_directory && u64::from(chain.count) < want {
                // Less than the size was, which has 32 bits.
                size = (u64::from(chain.count) << self.geometry.cluster_shift) as u32;
            }
            claimed = Some(chain).filter(|chain| chain.count > 0);
        } else if first != 0 {
            self.found(Finding::ChainLong, name);
        } else if size != 0 {
            self.found(Finding::ChainShort, name);
        }
        let Some(chain) = claimed else {
            if is_directory {
                if first == 0 {
                    self.found(Finding::BrokenSet, name);
                }
                for &place in long.iter().chain([&place]) {
                    self.medium.write(place, &[FAT_DELETED])?;
                }
                return Ok(());
            }
            (first, size) = (0, 0);
            self.finish_fat_set(start, place, &before, record, first, size, name)?;
            self.report.files += 1;
            return Ok(());
        };
        self.finish_fat_set(start, place, &before, record, first, size, name)?;
        if is_directory {
            self.enlist(directory, start, first, &chain, false)?;
        } else {
            self.report.files += 1;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn finish_fat_set(
        &mut self,
        start: Cursor,
        place: u64,
        before: &[u8; RECORD],
        mut record: [u8; RECORD],
        first: u32,
        size: u32,
        name: &[u16],
    ) -> Result<(), VolumeError> {
        self.put_first_cluster(&mut record, first);
        put(&mut record, 28, &size.to_le_bytes());
        if record != *before {
            self.medium.write(place, &record)?;
        }
        let short = short_name_units(record.first_chunk().unwrap_or(&[b' '; 11]));
        if !self.upcase.equal(&short, name) {
            self.note_name(&short, start)?;
        }
        self.note_name(name, start)
    }

    /// Puts characters that an 8.3 name cannot have right, and drops a long name that cannot be.
    fn check_short_name(
        &mut self,
        record: &mut [u8; RECORD],
        name: &[u16],
        long: &[u64],
    ) -> Result<(), VolumeError> {
        let mut changed = false;
        // A space ends the name and the extension; 5 stands for 0xE5 at the beginning.
        for part in [0..8, 8..11] {
            let bytes = record.get_mut(part.clone()).unwrap_or_default();
            let used = bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
            let least = usize::from(part.start == 0);
            for (number, byte) in bytes.iter_mut().take(used.max(least)).enumerate() {
                if !(is_short_byte(*byte) || (*byte == 5 && part.start + number == 0)) {
                    *byte = b'_';
                    changed = true;
                }
            }
        }
        // Windows NT's marks for lower case; the other bits are nobody's.
        let marks = get8(record, 12);
        put(record, 12, &[marks & 0x18]);
        if changed || marks & !0x18 != 0 {
            self.found(Finding::Name, name);
        }
        if !long.is_empty() && !is_valid_name(name, true) {
            self.found(Finding::Name, name);
            for &place in long {
                self.medium.write(place, &[FAT_DELETED])?;
            }
        } else if changed {
            self.sum_long_name(record, long)?;
        }
        Ok(())
    }

    /// Makes long-name records belong to a changed short name.
    fn sum_long_name(&mut self, short: &[u8], long: &[u64]) -> Result<(), VolumeError> {
        let sum = short_checksum(short);
        for &place in long {
            self.medium.write(place + 13, &[sum])?;
        }
        Ok(())
    }

    /// Reads the set that starts at a cursor.
    pub(super) fn gather_fat(&mut self, mut cursor: Cursor) -> Result<FatSet, VolumeError> {
        let mut set = FatSet { name: Vec::new(), short: [b' '; 11], short_place: 0, long_places: Vec::new() };
        let mut parser = SetParser::new(self.geometry.kind);
        for position in 0..21 {
            let Some((place, record)) = self.record(&cursor)? else { break };
            let fed = parser.feed(position, &record);
            if !is_long(&record) {
                if fed != Fed::Complete || parser.record.count == 1 {
                    set.long_places.clear();
                }
                set.name.extend_from_slice(&parser.name);
                put(&mut set.short, 0, record.get(..11).unwrap_or(&[]));
                set.short_place = place;
                break;
            }
            set.long_places.push(place);
            self.advance(&mut cursor)?;
        }
        Ok(set)
    }

    /// Parts two sets of which a long or short name is the other's long or short one. False: none is.
    pub(super) fn part_fat_names(&mut self, first: Cursor, second: Cursor) -> Result<bool, VolumeError> {
        let (one, other) = (self.gather_fat(first)?, self.gather_fat(second)?);
        let (one_short, other_short) = (short_name_units(&one.short), short_name_units(&other.short));
        let clashes =
            |name: &[u16]| self.upcase.equal(name, &one_short) || self.upcase.equal(name, &one.name);
        let (short, long) = (clashes(&other_short), clashes(&other.name));
        if !short && !long {
            return Ok(false);
        }
        self.found(Finding::DuplicateName, &other.name);
        if long {
            for &place in &other.long_places {
                self.medium.write(place, &[FAT_DELETED])?;
            }
        }
        while short && self.renamed < 99_999 {
            self.renamed += 1;
            let made = made_short_name(&other.name, self.renamed);
            let hash = self.upcase.hash(&short_name_units(&made));
            if !self.has_hash(hash) {
                self.note_hash(hash, second)?;
                self.medium.write(other.short_place, &made)?;
                if !long {
                    self.sum_long_name(&made, &other.long_places)?;
                }
                break;
            }
        }
        Ok(true)
    }

    /// The root's label: characters that it cannot have become others.
    fn check_label(&mut self, place: u64, record: &[u8; RECORD]) -> Result<(), VolumeError> {
        put(&mut self.label, 0, record.get(..11).unwrap_or(&[]));
        let stored = self.label;
        for (number, byte) in self.label.iter_mut().enumerate() {
            byte.make_ascii_uppercase();
            if !(is_short_byte(*byte) || (*byte == b' ' && number > 0)) {
                *byte = b'_';
            }
        }
        if self.label != stored {
            self.found(Finding::SystemRecords, &[]);
            self.medium.write(place, &self.label)?;
        }
        Ok(())
    }

    /// The boot sectors repeat the label, but Windows changes the root's only: no finding, made equal with the rest.
    fn copy_label(&mut self) -> Result<(), VolumeError> {
        let (signature, at) = if self.geometry.kind == Kind::Fat32 { (66, 71) } else { (38, 43) };
        let label = self.label;
        let mut sectors = vec![0];
        if self.geometry.kind == Kind::Fat32 {
            let mut copy = [0; 2];
            self.medium.read(50, &mut copy)?;
            let copy = u64::from(u16::from_le_bytes(copy)) * u64::from(self.geometry.sector_size);
            // Never beyond the reserved sectors.
            sectors.extend((copy > 0 && copy < self.geometry.fat).then_some(copy));
        }
        for sector in sectors {
            let mut stored = [0; 11];
            self.medium.read(sector + at, &mut stored)?;
            let mut kind = [0; 3];
            self.medium.read(sector + at + 11, &mut kind)?;
            let signed = self.medium.byte(sector + signature)?;
            // FAT16 is older than these fields; FAT32 has always had them.
            let known = at == 71 || signed == 0x29 || kind == *b"FAT";
            if known && (stored != label || signed != 0x29) {
                self.medium.write(sector + signature, &[0x29])?;
                self.medium.write(sector + at, &label)?;
            }
        }
        Ok(())
    }

    /// When all files have their clusters: what the FAT calls taken beside them is lost.
    pub(super) fn settle_fat(&mut self) -> Result<(), VolumeError> {
        self.copy_label()?;
        let end = self.geometry.clusters + 2;
        // Clusters to which a lost one leads: the others begin a chain.
        let mut followers = SpaceMap::all_free(self.geometry.clusters)?;
        let mut total = 0u32;
        for cluster in 2..end {
            if cluster % 4096 == 0 {
                self.progress();
            }
            if !self.claimed.is_free(cluster) {
                continue;
            }
            let next = self.entry(cluster)?;
            if next == 0 {
                continue;
            }
            if next == self.bad_cluster() {
                self.claimed.take(cluster, 1);
                continue;
            }
            total += 1;
            if self.geometry.is_cluster(next) && next != cluster && self.claimed.is_free(next) {
                followers.take(next, 1);
            }
        }
        self.free_as_found = self.claimed.free() - total;
        if total == 0 {
            return Ok(());
        }
        self.found_many(Finding::LostClusters, total, &[]);
        if !self.repair {
            return Ok(());
        }
        // A file can have so many.
        let most = (1u64 << 32) >> self.geometry.cluster_shift;
        let mut lost = Vec::new();
        // First the chains from their beginnings, then circles, which have none, then what was left of too long ones.
        for round in 0..3 {
            for cluster in 2..end {
                if cluster % 4096 == 0 {
                    self.progress();
                }
                let begins = round > 0 || followers.is_free(cluster);
                if !begins
                    || lost.len() >= MOST_FILES
                    || !self.claimed.is_free(cluster)
                    || self.entry(cluster)? == 0
                {
                    continue;
                }
                let chain = self.claim_chain(cluster, most)?;
                if chain.broken.is_some() || chain.longer {
                    self.end_chain(chain.last)?;
                }
                LostRun::push(&mut lost, cluster, chain.count);
            }
        }
        self.keep_lost(lost, total)?;
        for cluster in 2..end {
            if self.claimed.is_free(cluster) && self.entry(cluster)? != 0 {
                self.set_entry(cluster, 0)?;
            }
        }
        Ok(())
    }

    /// FAT32's FSInfo sector (FAT specification 5).
    pub(super) fn check_free_count(&mut self) -> Result<(), VolumeError> {
        let Some(place) = self.geometry.information_sector else { return Ok(()) };
        let mut sector = [0; 512];
        self.medium.read(place, &mut sector)?;
        let before = sector;
        put(&mut sector, 0, b"RRaA");
        put(&mut sector, 484, b"rrAa");
        put(&mut sector, 508, &[0, 0, 0x55, 0xAA]);
        // All ones: not known, which is no lie.
        if get32(&sector, 488) != u32::MAX {
            put(&mut sector, 488, &self.claimed.free().to_le_bytes());
        }
        let hint = get32(&sector, 492);
        if hint != u32::MAX && !self.geometry.is_cluster(hint) {
            put(&mut sector, 492, &u32::MAX.to_le_bytes());
        }
        // What a repair frees and takes is no fault of the count.
        let mut expected = sector;
        if get32(&sector, 488) != u32::MAX {
            put(&mut expected, 488, &self.free_as_found.to_le_bytes());
        }
        if expected != before {
            self.found(Finding::FreeCount, &[]);
        }
        if sector != before {
            self.medium.write(place, &sector)?;
        }
        Ok(())
    }
}
