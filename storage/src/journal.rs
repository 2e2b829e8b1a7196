//! The journal on disk: groups of sector images, each applied whole or not at all. `docs/journal-format.md` specifies
//! the format; how a volume uses it is in `volume/group.rs`.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::volume::bytes::{get32, get64, put};
use crate::{BlockDevice, DeviceError};

/// Bytes of an image, whatever the device's block size.
pub(crate) const IMAGE: usize = 512;

const MAGIC_HEADER: &[u8; 8] = b"NASJRNL\0";
const MAGIC_GROUP: &[u8; 8] = b"NASGROUP";
const VERSION: u32 = 1;
/// The two headers, and where the log begins.
const HEADERS: [u64; 2] = [0, 4096];
const LOG_START: u64 = 16384;
/// Bytes of a group's fixed part, and of each image's record behind it.
const GROUP_FIXED: usize = 32;
const GROUP_RECORD: usize = 16;
/// The log is used up to this size at most: replay reads all of it.
const MAXIMUM_LOG: u64 = 16 << 20;

/// Stands for a sum that is not known. (A place whose sum happens to be this one is not checked either.)
pub(crate) const UNKNOWN: u32 = 0;

/// A sector as a group has it.
pub(crate) struct Logged {
    /// Number of the sector on the volume, in units of 512 bytes.
    pub(crate) sector: u64,
    /// CRC-32 of what its place held before the first change since the log was emptied; [`UNKNOWN`] for a place whose
    /// content did not matter.
    pub(crate) before: u32,
}

/// A group as it was read.
struct Group {
    sectors: Vec<Logged>,
    /// [`IMAGE`] bytes for each of `sectors`; padding may follow.
    images: Vec<u8>,
}

/// What replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Groups found whole.
    pub groups: u32,
    /// Sectors written to their places.
    pub sectors: u32,
    /// The volume was in use with this journal when the power went: it is sound now, whatever its dirty mark says.
    pub trusted: bool,
}

/// Why replay was not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayError {
    Device(DeviceError),
    /// Somebody else changed the volume since the journal was written.
    Foreign,
}

impl From<DeviceError> for ReplayError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// Which volume a journal belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) serial: u32,
    pub(crate) bytes: u64,
}

/// An open journal.
pub(crate) struct Journal {
    device: Arc<dyn BlockDevice>,
    owner: Owner,
    block: u64,
    /// Counts the times the log was emptied; groups of other epochs do not count.
    epoch: u64,
    /// Number of the next group in this epoch.
    sequence: u32,
    /// Where it goes.
    position: u64,
    end: u64,
}

impl Journal {
    /// Opens the journal on `device` for a volume, and replays what it holds of it onto `volume`. A journal of another
    /// volume, or none, starts empty.
    pub(crate) fn open(
        device: Arc<dyn BlockDevice>,
        volume: &dyn BlockDevice,
        owner: Owner,
    ) -> Result<(Self, Replay), ReplayError> {
        let block = u64::from(device.block_size());
        let end = (device.blocks() * block).min(LOG_START + MAXIMUM_LOG);
        if end < LOG_START + (64 << 10) {
            return Err(ReplayError::Device(DeviceError::OutOfRange));
        }
        let mut journal = Self { device, owner, block, epoch: 0, sequence: 0, position: LOG_START, end };
        let mut replay = Replay::default();
        let (greatest, own) = journal.read_headers()?;
        if let Some((epoch, in_use)) = own {
            journal.epoch = epoch;
            replay.trusted = in_use;
            journal.replay(volume, &mut replay)?;
        }
        journal.epoch = greatest;
        journal.reset(true)?;
        Ok((journal, replay))
    }

    /// Empties a volume's journal without replaying it.
    pub(crate) fn give_up(device: Arc<dyn BlockDevice>, owner: Owner) -> Result<(), DeviceError> {
        let block = u64::from(device.block_size());
        let end = (device.blocks() * block).min(LOG_START + MAXIMUM_LOG);
        let mut journal = Self { device, owner, block, epoch: 0, sequence: 0, position: LOG_START, end };
        journal.epoch = journal.read_headers()?.0;
        journal.reset(false)
    }

    /// Bytes of the log in use, and in all.
    pub(crate) fn fill(&self) -> (u64, u64) {
        (self.position - LOG_START, self.end - LOG_START)
    }

    /// Whether a group of `images` images fits.
    pub(crate) fn has_room(&self, images: usize) -> bool {
        self.position + self.group_bytes(images) <= self.end
    }

    /// Writes a group. It counts once the device was flushed; until then it is there or not.
    pub(crate) fn append(&mut self, group: &[Logged], images: &[u8]) -> Result<(), DeviceError> {
        let head = self.head_bytes(group.len());
        let mut bytes = vec![0; head as usize];
        put(&mut bytes, 0, MAGIC_GROUP);
        put(&mut bytes, 8, &self.epoch.to_le_bytes());
        put(&mut bytes, 16, &self.sequence.to_le_bytes());
        put(&mut bytes, 20, &(group.len() as u32).to_le_bytes());
        for ((number, logged), image) in group.iter().enumerate().zip(images.chunks_exact(IMAGE)) {
            let at = GROUP_FIXED + number * GROUP_RECORD;
            put(&mut bytes, at, &logged.sector.to_le_bytes());
            put(&mut bytes, at + 8, &logged.before.to_le_bytes());
            put(&mut bytes, at + 12, &crate::volume::bytes::crc32(image).to_le_bytes());
        }
        let sum = crate::volume::bytes::crc32(&bytes);
        put(&mut bytes, 24, &sum.to_le_bytes());
        let total = self.group_bytes(group.len());
        let padding = vec![0; (total - head) as usize - images.len()];
        let start = self.position / self.block;
        if padding.is_empty() {
            self.device.write(start, &[&bytes, images])?;
        } else {
            self.device.write(start, &[&bytes, images, &padding])?;
        }
        self.position += total;
        self.sequence += 1;
        Ok(())
    }

    /// The place of the next group, to come back to.
    pub(crate) fn mark(&self) -> (u64, u32) {
        (self.position, self.sequence)
    }

    /// The next group goes to a place that was marked.
    pub(crate) fn rewind(&mut self, (position, sequence): (u64, u32)) {
        (self.position, self.sequence) = (position, sequence);
    }

    /// Empties the log: all its images have to be safe in their places. `in_use`: more will come; else the volume is
    /// left cleanly.
    pub(crate) fn reset(&mut self, in_use: bool) -> Result<(), DeviceError> {
        let epoch = self.epoch + 1;
        let mut header = vec![0; self.block as usize];
        put(&mut header, 0, MAGIC_HEADER);
        put(&mut header, 8, &VERSION.to_le_bytes());
        put(&mut header, 12, &self.owner.serial.to_le_bytes());
        put(&mut header, 16, &self.owner.bytes.to_le_bytes());
        put(&mut header, 24, &epoch.to_le_bytes());
        put(&mut header, 32, &u32::from(in_use).to_le_bytes());
        let sum = crate::volume::bytes::crc32(header.get(..36).unwrap_or(&[]));
        put(&mut header, 36, &sum.to_le_bytes());
        // In turn, so that one is always whole.
        let place = HEADERS.get((epoch % 2) as usize).copied().unwrap_or(0);
        self.device.write(place / self.block, &[&header])?;
        self.device.flush()?;
        self.epoch = epoch;
        self.sequence = 0;
        self.position = LOG_START;
        Ok(())
    }

    /// Bytes of a group's head, in whole blocks.
    fn head_bytes(&self, images: usize) -> u64 {
        ((GROUP_FIXED + images * GROUP_RECORD) as u64).next_multiple_of(self.block)
    }

    fn group_bytes(&self, images: usize) -> u64 {
        self.head_bytes(images) + ((images * IMAGE) as u64).next_multiple_of(self.block)
    }

    /// The greatest epoch that was ever begun here: no group that another volume has left counts in one that comes after it.
    /// Of the newer header that is this volume's: its epoch, and whether the volume was in use.
    #[allow(clippy::type_complexity)]
    fn read_headers(&self) -> Result<(u64, Option<(u64, bool)>), DeviceError> {
        let (mut greatest, mut newest) = (0, None);
        for place in HEADERS {
            let mut header = vec![0; self.block as usize];
            self.device.read(place / self.block, &mut [&mut header])?;
            let sum = crate::volume::bytes::crc32(header.get(..36).unwrap_or(&[]));
            let whole = header.starts_with(MAGIC_HEADER) && get32(&header, 36) == sum;
            let owner = Owner { serial: get32(&header, 12), bytes: get64(&header, 16) };
            if whole && get32(&header, 8) == VERSION {
                greatest = greatest.max(get64(&header, 24));
                if owner == self.owner {
                    newest = newest.max(Some((get64(&header, 24), get32(&header, 32) != 0)));
                }
            }
        }
        Ok((greatest, newest))
    }

    /// Reads the next group, if there is a whole one.
    fn read_group(&mut self) -> Result<Option<Group>, DeviceError> {
        if self.position + self.block > self.end {
            return Ok(None);
        }
        let mut head = vec![0; self.block as usize];
        self.device.read(self.position / self.block, &mut [&mut head])?;
        let count = get32(&head, 20) as usize;
        let ours = head.starts_with(MAGIC_GROUP)
            && get64(&head, 8) == self.epoch
            && get32(&head, 16) == self.sequence
            && (1..=(MAXIMUM_LOG as usize / IMAGE)).contains(&count)
            && self.has_room(count);
        if !ours {
            return Ok(None);
        }
        let mut bytes = vec![0; self.group_bytes(count) as usize];
        self.device.read(self.position / self.block, &mut [&mut bytes])?;
        let images = bytes.split_off(self.head_bytes(count) as usize);
        let sum = get32(&bytes, 24);
        put(&mut bytes, 24, &[0; 4]);
        if crate::volume::bytes::crc32(&bytes) != sum {
            return Ok(None);
        }
        let mut group = Vec::with_capacity(count);
        for (number, image) in images.chunks_exact(IMAGE).take(count).enumerate() {
            let at = GROUP_FIXED + number * GROUP_RECORD;
            if crate::volume::bytes::crc32(image) != get32(&bytes, at + 12) {
                return Ok(None);
            }
            group.push(Logged { sector: get64(&bytes, at), before: get32(&bytes, at + 8) });
        }
        self.position += self.group_bytes(count);
        self.sequence += 1;
        Ok(Some(Group { sectors: group, images }))
    }

    /// Writes the last image of each sector to its place, unless the volume is not as the journal knows it.
    fn replay(&mut self, volume: &dyn BlockDevice, replay: &mut Replay) -> Result<(), ReplayError> {
        // Per sector: its newest image, and the sums that its place may have now.
        let mut sectors: BTreeMap<u64, (Vec<u8>, Vec<u32>)> = BTreeMap::new();
        while let Some(Group { sectors: group, images }) = self.read_group()? {
            replay.groups += 1;
            for (logged, image) in group.iter().zip(images.chunks_exact(IMAGE)) {
                let known = sectors.entry(logged.sector).or_insert_with(|| (Vec::new(), vec![logged.before]));
                known.0 = image.to_vec();
                known.1.push(crate::volume::bytes::crc32(image));
            }
        }
        let size = volume.block_size() as usize;
        let per_block = (size / IMAGE) as u64;
        let mut block = vec![0; size];
        for (sector, (_, sums)) in &sectors {
            volume.read(sector / per_block, &mut [&mut block])?;
            let at = (sector % per_block) as usize * IMAGE;
            let now = crate::volume::bytes::crc32(block.get(at..at + IMAGE).unwrap_or(&[]));
            if !sums.contains(&now) && !sums.contains(&UNKNOWN) {
                return Err(ReplayError::Foreign);
            }
        }
        for (sector, (image, _)) in &sectors {
            if per_block == 1 {
                volume.write(*sector, &[image])?;
            } else {
                volume.read(sector / per_block, &mut [&mut block])?;
                put(&mut block, (sector % per_block) as usize * IMAGE, image);
                volume.write(sector / per_block, &[&block])?;
            }
            replay.sectors += 1;
        }
        if !sectors.is_empty() {
            volume.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::RamDisk;

    const OWNER: Owner = Owner { serial: 7, bytes: 1 << 20 };

    fn disks(block: u32) -> (Arc<RamDisk>, Arc<RamDisk>) {
        let blocks = (1 << 20) / u64::from(block);
        (Arc::new(RamDisk::new(blocks, block)), Arc::new(RamDisk::new(blocks, block)))
    }

    #[test]
    fn whole_groups_are_replayed_in_order_and_only_once() {
        for block in [512, 4096] {
            let (log, volume) = disks(block);
            let (mut journal, replay) = Journal::open(log.clone(), &*volume, OWNER).unwrap();
            assert_eq!(replay, Replay::default());
            let zero = crc32fast::hash(&[0; 512]);
            let group = |sector| Logged { sector, before: zero };
            journal.append(&[group(5), group(90)], &[[1; 512], [2; 512]].concat()).unwrap();
            journal.append(&[group(5)], &[3; 512]).unwrap();
            let torn = journal.position;
            journal.append(&[group(6)], &[4; 512]).unwrap();
            // The last group lost a byte of its image.
            log.poke(torn + u64::from(block) + 100, &[0]);
            let (_, replay) = Journal::open(log.clone(), &*volume, OWNER).unwrap();
            assert_eq!(replay, Replay { groups: 2, sectors: 2, trusted: true });
            for (sector, value) in [(5, 3), (90, 2), (6, 0)] {
                let mut bytes = [0; 512];
                volume.peek(sector * 512, &mut bytes);
                assert_eq!(bytes, [value; 512]);
            }
            let (_, replay) = Journal::open(log.clone(), &*volume, OWNER).unwrap();
            assert_eq!(replay, Replay { groups: 0, sectors: 0, trusted: true });
        }
    }

    #[test]
    fn a_volume_that_others_changed_is_left_alone() {
        let (log, volume) = disks(512);
        let (mut journal, _) = Journal::open(log.clone(), &*volume, OWNER).unwrap();
        let logged = Logged { sector: 5, before: crc32fast::hash(&[0; 512]) };
        journal.append(&[logged], &[1; 512]).unwrap();
        volume.poke(5 * 512, &[9]);
        assert!(matches!(Journal::open(log.clone(), &*volume, OWNER), Err(ReplayError::Foreign)));
        // Another volume's journal is not even looked at.
        let other = Owner { serial: 8, ..OWNER };
        assert!(Journal::open(log, &*volume, other).is_ok_and(|opened| !opened.1.trusted));
    }

    #[test]
    fn what_another_volume_has_left_in_the_log_never_counts() {
        let (log, volume) = disks(512);
        let zero = crc32fast::hash(&[0; 512]);
        let (mut journal, _) = Journal::open(log.clone(), &*volume, OWNER).unwrap();
        journal.append(&[Logged { sector: 5, before: zero }], &[1; 512]).unwrap();
        // The place of the volume belongs to another from now on, and is found after each of its first power cuts.
        for _ in 0..4 {
            let (_, replay) =
                Journal::open(log.clone(), &*volume, Owner { bytes: 2 << 20, ..OWNER }).unwrap();
            assert_eq!(replay.groups, 0);
        }
    }
}
