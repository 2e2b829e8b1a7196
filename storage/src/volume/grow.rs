//! A volume that is not mounted grows into room that its partition has got behind it. Only exFAT does: its FAT may be made longer
//! than needed, and is when the appliance formats a volume.
//!
//! What the new size needs goes where the old one has nothing: FAT entries of clusters that are not there yet, a bitmap in
//! the first of them. When that is safe, the few sectors that say the size become one group of the journal. So a power cut
//! at any moment leaves the volume as it was, or grown.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::bytes::{crc32, get8, get32, get64, put};
use super::entry::{EXFAT_BITMAP, RECORD};
use super::geometry::{Geometry, Kind, boot_checksum};
use super::{VolumeError, open_journal};
use crate::device::{read_bytes, write_bytes};
use crate::journal::{IMAGE, Logged};
use crate::{BlockDevice, DeviceError};

/// What is read or written at once.
const PIECE: u64 = 64 << 10;
/// The most clusters an exFAT volume has (3.1.9).
const MAXIMUM_CLUSTERS: u64 = 0xFFFF_FFF5;

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Bytes of its clusters before.
    pub before: u64,
    /// And now.
    pub after: u64,
    /// There is room for more, but not in the FAT.
    pub limited: bool,
}

/// Why a volume did not grow. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowError {
    /// The disk would not, or the structure contradicts itself.
    Volume(VolumeError),
    /// It was not left cleanly, or changed elsewhere after a power cut: a check has to come first.
    Unsound,
    /// It fills its partition.
    NoRoom,
    /// There is room, but its FAT has no entries for more clusters.
    FatFull,
    /// It is FAT32, FAT16 or FAT12.
    NotExfat,
}

impl From<VolumeError> for GrowError {
    fn from(error: VolumeError) -> Self {
        Self::Volume(error)
    }
}

impl From<DeviceError> for GrowError {
    fn from(_: DeviceError) -> Self {
        Self::Volume(VolumeError::Io)
    }
}

impl fmt::Display for GrowError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(error) => write!(formatter, "{error}"),
            Self::Unsound => formatter.write_str("the volume has to be checked first"),
            Self::NoRoom => formatter.write_str("the volume has all the room there is"),
            Self::FatFull => formatter.write_str("the volume's FAT has no room for more clusters"),
            Self::NotExfat => formatter.write_str("only exFAT volumes grow"),
        }
    }
}

/// Lets the exFAT volume on `device`, which is not mounted, grow to the device's end, or as far as its FAT has entries.
pub fn grow(device: &dyn BlockDevice, journal: Arc<dyn BlockDevice>) -> Result<Grown, GrowError> {
    let (mut log, _) = open_journal(journal.clone(), device)?.ok_or(GrowError::Unsound)?;
    let outcome = Small::read(device).and_then(|small| {
        let (grown, changes) = small.prepare()?;
        let logged: Vec<Logged> =
            changes.iter().map(|(&sector, change)| Logged { sector, before: change.before }).collect();
        let images: Vec<u8> = changes.values().flat_map(|change| &change.after).copied().collect();
        if !log.has_room(logged.len()) {
            return Err(GrowError::Volume(VolumeError::NoResources));
        }
        // All that the new size speaks of is safe; then it counts.
        device.flush()?;
        log.append(&logged, &images)?;
        device.flush()?;
        Ok(grown)
    });
    // A replay brings it to its places, as it would after a power cut.
    let (mut log, _) = open_journal(journal, device)?.ok_or(GrowError::Unsound)?;
    log.reset(false)?;
    outcome
}

/// A sector that changes: the sum of what it was, and what it shall be.
struct Change {
    before: u32,
    after: Vec<u8>,
}

/// The sectors that change together, by their numbers.
type Changes = BTreeMap<u64, Change>;

/// A volume before it grows.
struct Small<'a> {
    device: &'a dyn BlockDevice,
    geometry: Geometry,
    /// The boot region's twelve sectors.
    boot: Vec<u8>,
    sector: u64,
}

/// Where the allocation bitmap is.
struct BitmapEntry {
    /// Offset of its record in the root directory.
    record: u64,
    first: u32,
    length: u64,
}

impl<'a> Small<'a> {
    fn read(device: &'a dyn BlockDevice) -> Result<Self, GrowError> {
        let sector = u64::from(device.block_size());
        let bytes = device.blocks().saturating_mul(sector);
        let mut first = vec![0; sector as usize];
        read_bytes(device, 0, &mut first)?;
        let geometry = Geometry::parse(first.get(..512).unwrap_or(&[]), bytes)?;
        if geometry.kind != Kind::Exfat {
            return Err(GrowError::NotExfat);
        }
        if u64::from(geometry.sector_size) != sector {
            return Err(GrowError::Volume(VolumeError::Corrupt));
        }
        let mut boot = vec![0; 12 * sector as usize];
        read_bytes(device, 0, &mut boot)?;
        let (mark, bit) = geometry.dirty_mark();
        let sum = boot_checksum(boot.get(..11 * sector as usize).unwrap_or(&[]));
        let stored = boot.get(11 * sector as usize..).unwrap_or(&[]);
        if get8(&boot, mark as usize) & bit != 0 || !stored.chunks_exact(4).all(|word| get32(word, 0) == sum)
        {
            return Err(GrowError::Unsound);
        }
        Ok(Self { device, geometry, boot, sector })
    }

    /// Writes what the new size needs beside the old, and gives the sectors that make it count.
    fn prepare(&self) -> Result<(Grown, Changes), GrowError> {
        let geometry = &self.geometry;
        let (old, shift) = (u64::from(geometry.clusters), geometry.cluster_shift);
        let bytes = self.device.blocks().saturating_mul(self.sector);
        let room = (bytes.saturating_sub(geometry.heap) >> shift).min(MAXIMUM_CLUSTERS);
        let new = room.min((geometry.fat_bytes / 4).saturating_sub(2));
        let length = new.div_ceil(8);
        let count = geometry.clusters_for(length);
        if room <= old + count {
            return Err(GrowError::NoRoom);
        }
        if new <= old + count {
            return Err(GrowError::FatFull);
        }
        // Below 2^32, as `new` is.
        let first = (old + 2) as u32;
        let entry = self.find_bitmap()?;
        let bitmap = self.bitmap(&entry, length as usize, first, count)?;
        self.extend_fat(first, new - old, count)?;
        let place = geometry.offset_of(first);
        for (number, piece) in bitmap.chunks(PIECE as usize).enumerate() {
            let mut padded = piece.to_vec();
            padded.resize(piece.len().next_multiple_of(self.sector as usize), 0);
            write_bytes(self.device, place + number as u64 * PIECE, &padded)?;
        }

        let mut changes = Changes::new();
        let mut record = [0; 12];
        put(&mut record, 0, &first.to_le_bytes());
        put(&mut record, 4, &length.to_le_bytes());
        self.change(&mut changes, entry.record + 20, &record)?;
        let limited = new < room;
        // The count of clusters is what the volume's length has room for (3.1.9).
        let volume = if limited { geometry.heap + (new << shift) } else { bytes };
        let mut boot = self.boot.clone();
        put(&mut boot, 72, &(volume / self.sector).to_le_bytes());
        put(&mut boot, 92, &(new as u32).to_le_bytes());
        // How much is in use, in percent: not known.
        put(&mut boot, 112, &[0xFF]);
        let sum = boot_checksum(boot.get(..11 * self.sector as usize).unwrap_or(&[]));
        for word in boot.get_mut(11 * self.sector as usize..).unwrap_or_default().chunks_exact_mut(4) {
            word.copy_from_slice(&sum.to_le_bytes());
        }
        self.change(&mut changes, 0, &boot)?;
        self.change(&mut changes, 12 * self.sector, &boot)?;
        Ok((Grown { before: old << shift, after: new << shift, limited }, changes))
    }

    /// Notes what bytes anywhere on the volume shall be.
    fn change(&self, changes: &mut Changes, offset: u64, bytes: &[u8]) -> Result<(), GrowError> {
        let start = offset - offset % self.sector;
        let end = (offset + bytes.len() as u64).next_multiple_of(self.sector);
        let mut before = vec![0; (end - start) as usize];
        read_bytes(self.device, start, &mut before)?;
        let mut after = before.clone();
        put(&mut after, (offset - start) as usize, bytes);
        let sectors = before.chunks_exact(IMAGE).zip(after.chunks_exact(IMAGE));
        for (number, (before, after)) in (start / IMAGE as u64..).zip(sectors) {
            if before != after {
                changes.insert(number, Change { before: crc32(before), after: after.to_vec() });
            }
        }
        Ok(())
    }

    /// The cluster behind one in its chain.
    fn next(&self, cluster: u32) -> Result<u32, GrowError> {
        let offset = self.geometry.fat + u64::from(cluster) * 4;
        let mut block = vec![0; self.sector as usize];
        read_bytes(self.device, offset - offset % self.sector, &mut block)?;
        Ok(get32(&block, (offset % self.sector) as usize))
    }

    fn check_cluster(&self, cluster: u32) -> Result<u32, GrowError> {
        let sound = self.geometry.is_cluster(cluster);
        if sound { Ok(cluster) } else { Err(GrowError::Volume(VolumeError::Corrupt)) }
    }

    /// Looks through the root directory.
    fn find_bitmap(&self) -> Result<BitmapEntry, GrowError> {
        let bytes = self.geometry.cluster_bytes();
        let mut piece = vec![0; bytes.min(PIECE) as usize];
        let mut cluster = self.geometry.root_cluster;
        for _ in 0..self.geometry.clusters {
            let start = self.geometry.offset_of(self.check_cluster(cluster)?);
            for place in (start..start + bytes).step_by(piece.len()) {
                read_bytes(self.device, place, &mut piece)?;
                for (number, record) in piece.chunks_exact(RECORD).enumerate() {
                    match get8(record, 0) {
                        0 => return Err(GrowError::Volume(VolumeError::Corrupt)),
                        EXFAT_BITMAP if get8(record, 1) & 1 == 0 => {
                            let (first, length) = (get32(record, 20), get64(record, 24));
                            return Ok(BitmapEntry {
                                record: place + (number * RECORD) as u64,
                                first,
                                length,
                            });
                        }
                        _ => (),
                    }
                }
            }
            cluster = self.next(cluster)?;
        }
        Err(GrowError::Volume(VolumeError::Corrupt))
    }

    /// The new bitmap, of `length` bytes: as the old one, but its clusters are free, and `count` from `first` on are taken.
    fn bitmap(
        &self,
        entry: &BitmapEntry,
        length: usize,
        first: u32,
        count: u64,
    ) -> Result<Vec<u8>, GrowError> {
        let corrupt = GrowError::Volume(VolumeError::Corrupt);
        let needed = u64::from(self.geometry.clusters).div_ceil(8);
        let clusters = self.geometry.clusters_for(entry.length);
        if entry.length < needed || clusters > u64::from(self.geometry.clusters) {
            return Err(corrupt);
        }
        let mut bitmap = Vec::new();
        bitmap.try_reserve_exact(length).map_err(|_| VolumeError::NoResources)?;
        let mut old: Vec<u32> = Vec::new();
        let mut cluster = entry.first;
        for _ in 0..clusters {
            old.push(self.check_cluster(cluster)?);
            let start = self.geometry.offset_of(cluster);
            let mut done = 0;
            while done < self.geometry.cluster_bytes() && (bitmap.len() as u64) < needed {
                let wanted = (needed - bitmap.len() as u64).min(PIECE).min(self.geometry.cluster_bytes());
                let mut piece = vec![0; wanted.next_multiple_of(self.sector) as usize];
                read_bytes(self.device, start + done, &mut piece)?;
                bitmap.extend_from_slice(piece.get(..wanted as usize).unwrap_or(&[]));
                done += piece.len() as u64;
            }
            cluster = self.next(cluster)?;
        }
        if bitmap.len() as u64 != needed {
            return Err(corrupt);
        }
        bitmap.resize(length, 0);
        let mut set = |index: u64, taken: bool| {
            let Some(byte) = bitmap.get_mut((index / 8) as usize) else { return false };
            let was = *byte >> (index % 8) & 1 != 0;
            *byte = *byte & !(1 << (index % 8)) | u8::from(taken) << (index % 8);
            was
        };
        // What the last byte said of clusters that there were not.
        let end = u64::from(self.geometry.clusters);
        for index in end..end.next_multiple_of(8) {
            set(index, false);
        }
        for cluster in old {
            if !set(u64::from(cluster) - 2, false) {
                return Err(corrupt);
            }
        }
        for index in u64::from(first) - 2..u64::from(first) - 2 + count {
            set(index, true);
        }
        Ok(bitmap)
    }

    /// Writes the FAT entries of `more` clusters from `first` on: the first `chained` are a file, the others free.
    fn extend_fat(&self, first: u32, more: u64, chained: u64) -> Result<(), GrowError> {
        let first = u64::from(first);
        let end = ((first + more) * 4).next_multiple_of(self.sector);
        let mut at = first * 4 - first * 4 % self.sector;
        while at < end {
            let mut piece = vec![0; (end - at).min(PIECE) as usize];
            if let Some(old) = (first * 4).checked_sub(at) {
                // Entries of clusters that are in use share the first sector.
                let mut block = vec![0; self.sector as usize];
                read_bytes(self.device, self.geometry.fat + at, &mut block)?;
                put(&mut piece, 0, block.get(..old as usize).unwrap_or(&[]));
            }
            let entries = (at / 4).max(first)..(at / 4 + piece.len() as u64 / 4).min(first + chained);
            for cluster in entries {
                let last = cluster + 1 == first + chained;
                let next = if last { self.geometry.kind.end_of_chain() } else { cluster as u32 + 1 };
                put(&mut piece, (cluster * 4 - at) as usize, &next.to_le_bytes());
            }
            write_bytes(self.device, self.geometry.fat + at, &piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
