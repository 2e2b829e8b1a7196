//! Lost clusters become files in a new directory of the root, `FOUND.000` and so on.

use alloc::vec;
use alloc::vec::Vec;

use lock_api::RawMutex;

use super::Checker;
use crate::upcase::UpcaseTable;
use crate::volume::FileAttributes;
use crate::volume::VolumeError;
use crate::volume::bytes::put;
use crate::volume::entry::{RECORD, Record, encode_exfat, encode_fat};

/// Files that a directory of them has at most: their numbers have four digits.
pub(super) const MOST_FILES: usize = 10_000;

/// Lost clusters that belong together: on FAT a chain, on exFAT, which has no chains for most files, neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LostRun {
    first: u32,
    count: u32,
}

impl LostRun {
    /// Adds a cluster to the run that ends right before it, or to a new one. What is too much is not kept.
    pub(super) fn add(runs: &mut Vec<Self>, cluster: u32) {
        if let Some(last) = runs.last_mut()
            && last.first + last.count == cluster
        {
            last.count += 1;
        } else {
            Self::push(runs, cluster, 1);
        }
    }

    pub(super) fn push(runs: &mut Vec<Self>, first: u32, count: u32) {
        // One more than can be kept: what comes then is freed, and `add` has something to compare with.
        if runs.len() > MOST_FILES {
            runs.pop();
        }
        if runs.try_reserve(1).is_ok() {
            runs.push(Self { first, count });
        }
    }
}

impl<R: RawMutex> Checker<'_, R> {
    /// Makes files of lost clusters, `total` in all, as many as fit; the rest is free from now on. On FAT the clusters of
    /// `lost` are claimed, on exFAT not yet.
    pub(super) fn keep_lost(&mut self, mut lost: Vec<LostRun>, total: u32) -> Result<(), VolumeError> {
        if !self.repair {
            return Ok(());
        }
        let exfat = self.geometry.kind.is_exfat();
        if exfat {
            for run in &lost {
                self.claimed.take(run.first, run.count);
            }
        }
        let records = if exfat { 3 } else { 1 };
        let wanted = lost.len().min(MOST_FILES);
        let clusters = ((wanted + 2) * records * RECORD).div_ceil(self.geometry.cluster_bytes() as usize);
        let room = self.claimed.find(0, clusters as u32);
        let place = match room {
            Some((first, count)) => {
                self.claimed.take(first, count);
                match self.take_root_room(records)? {
                    // All numbers are taken.
                    _ if self.found_numbers > 999 => {
                        self.claimed.release(first, count);
                        None
                    }
                    places if places.len() == records => Some((first, count, places)),
                    _ => {
                        self.claimed.release(first, count);
                        None
                    }
                }
            }
            None => None,
        };
        let fits = place.as_ref().map_or(0, |place| {
            let bytes = u64::from(place.1) << self.geometry.cluster_shift;
            (bytes / (records * RECORD) as u64).saturating_sub(2) as usize
        });
        let kept = wanted.min(fits);
        for run in lost.split_off(kept) {
            if exfat {
                self.claimed.release(run.first, run.count);
            } else {
                self.release_chain(run.first, run.count)?;
            }
        }
        let clusters: u32 = lost.iter().map(|run| run.count).sum();
        self.report.freed = total - clusters.min(total);
        self.report.kept = (lost.len() as u32, clusters);
        let Some((first, count, places)) = place else { return Ok(()) };
        if lost.is_empty() {
            self.claimed.release(first, count);
            return Ok(());
        }
        self.write_found(first, count, &places, &lost)
    }

    fn write_found(
        &mut self,
        first: u32,
        count: u32,
        places: &[u64],
        lost: &[LostRun],
    ) -> Result<(), VolumeError> {
        let exfat = self.geometry.kind.is_exfat();
        let bytes = u64::from(count) << self.geometry.cluster_shift;
        self.medium.zero(self.geometry.offset_of(first), bytes)?;
        self.link_run(first, count)?;
        let name = |text: [u8; 12], length: usize| -> Vec<u16> {
            text.iter().take(length).map(|&byte| u16::from(byte)).collect()
        };
        let digits = |number: u32, text: &mut [u8]| {
            let mut rest = number;
            for place in text.iter_mut().rev() {
                *place = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        };
        let encode = |record: &Record, short: &[u8; 11], name: &[u16], upcase: &UpcaseTable| {
            if exfat { encode_exfat(record, name, upcase) } else { encode_fat(record, &[], short, false) }
        };
        let start = self.geometry.offset_of(first);
        let mut at = start;
        if !exfat {
            let dot =
                Record { attributes: FileAttributes::DIRECTORY, first_cluster: first, ..Record::default() };
            let above = Record { first_cluster: 0, ..dot };
            self.medium.write(at, &encode_fat(&dot, &[], b".          ", false))?;
            self.medium.write(at + RECORD as u64, &encode_fat(&above, &[], b"..         ", false))?;
            at += 2 * RECORD as u64;
        }
        for (number, run) in (0..).zip(lost) {
            let mut text = *b"FILE0000.CHK";
            digits(number, text.get_mut(4..8).unwrap_or_default());
            let mut short = *b"FILE0000CHK";
            put(&mut short, 4, text.get(4..8).unwrap_or(&[]));
            let mut size = u64::from(run.count) << self.geometry.cluster_shift;
            if !exfat {
                size = size.min(u64::from(u32::MAX));
            }
            let record = Record {
                attributes: FileAttributes::ARCHIVE,
                first_cluster: run.first,
                size,
                valid: size,
                contiguous: exfat,
                ..Record::default()
            };
            let set = encode(&record, &short, &name(text, 12), &self.upcase);
            self.medium.write(at, &set)?;
            at += set.len() as u64;
        }
        let mut text = *b"FOUND.000   ";
        digits(self.found_numbers, text.get_mut(6..9).unwrap_or_default());
        let mut short = *b"FOUND   000";
        put(&mut short, 8, text.get(6..9).unwrap_or(&[]));
        let size = if exfat { bytes } else { 0 };
        let record = Record {
            attributes: FileAttributes::DIRECTORY | FileAttributes::HIDDEN,
            first_cluster: first,
            size,
            valid: size,
            contiguous: exfat,
            ..Record::default()
        };
        let set = encode(&record, &short, &name(text, 9), &self.upcase);
        for (&place, record) in places.iter().zip(set.chunks(RECORD)) {
            self.medium.write(place, record)?;
        }
        self.report.directories += 1;
        self.report.files += lost.len() as u32;
        Ok(())
    }

    /// Places for `count` records in a row in the root, which grows by a cluster if it has to; empty if it cannot.
    pub(super) fn take_root_room(&mut self, count: usize) -> Result<Vec<u64>, VolumeError> {
        if self.root_room.len() < count {
            if self.geometry.root_cluster == 0 || !self.repair {
                return Ok(vec![]);
            }
            let Some((cluster, _)) = self.claimed.find(0, 1) else { return Ok(vec![]) };
            self.claimed.take(cluster, 1);
            let start = self.geometry.offset_of(cluster);
            self.medium.zero(start, self.geometry.cluster_bytes())?;
            // What comes there is not to be behind the directory's end.
            let mark = if self.geometry.kind.is_exfat() { 0x05 } else { 0xE5 };
            let mut cursor = self.root.ok_or(VolumeError::Corrupt)?;
            while let Some((place, record)) = self.record(&cursor)? {
                if record[0] == 0 {
                    self.medium.write(place, &[mark])?;
                }
                self.advance(&mut cursor)?;
            }
            self.set_entry(self.root_end, cluster)?;
            self.end_chain(cluster)?;
            self.root_end = cluster;
            self.root.iter_mut().for_each(|root| root.left += 1);
            let records = self.geometry.cluster_bytes() / RECORD as u64;
            self.root_room = (0..records.min(8)).map(|number| start + number * RECORD as u64).collect();
        }
        Ok(self.root_room.drain(..count.min(self.root_room.len())).collect())
    }
}
