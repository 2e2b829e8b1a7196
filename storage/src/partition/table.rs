//! Writes GUID partition tables: new ones, and those whose data partition gets another end.

use alloc::vec;
use alloc::vec::Vec;

use super::{BASIC_DATA, Layout, PRIVATE, Plan, Role, read_raw_gpt, u64_at, usable_end};
use crate::device::write_bytes;
use crate::volume::bytes::put;
use crate::{BlockDevice, DeviceError};

/// Bytes of the entries, as every tool makes them: 128 of 128 bytes.
const ENTRIES: usize = 128 * ENTRY;
const ENTRY: usize = 128;
/// Offsets in a header (UEFI 5.3.2).
const FIRST_USABLE: usize = 40;
const GUID: usize = 56;

/// What both copies of a table have in common.
struct Table {
    entries: Vec<u8>,
    guid: [u8; 16],
    first_usable: u64,
}

/// Blocks of a table's entries.
fn entry_blocks(device: &dyn BlockDevice) -> u64 {
    ENTRIES as u64 / u64::from(device.block_size())
}

impl Table {
    fn header(&self, device: &dyn BlockDevice, own: u64, other: u64, entries: u64) -> Vec<u8> {
        let mut block = vec![0; device.block_size() as usize];
        put(&mut block, 0, b"EFI PART");
        put(&mut block, 8, &0x0001_0000u32.to_le_bytes());
        put(&mut block, 12, &92u32.to_le_bytes());
        put(&mut block, 24, &own.to_le_bytes());
        put(&mut block, 32, &other.to_le_bytes());
        put(&mut block, FIRST_USABLE, &self.first_usable.to_le_bytes());
        put(&mut block, 48, &(device.blocks() - entry_blocks(device) - 2).to_le_bytes());
        put(&mut block, GUID, &self.guid);
        put(&mut block, 72, &entries.to_le_bytes());
        put(&mut block, 80, &((ENTRIES / ENTRY) as u32).to_le_bytes());
        put(&mut block, 84, &(ENTRY as u32).to_le_bytes());
        put(&mut block, 88, &crate::volume::bytes::crc32(&self.entries).to_le_bytes());
        let sum = crate::volume::bytes::crc32(block.get(..92).unwrap_or(&[]));
        put(&mut block, 16, &sum.to_le_bytes());
        block
    }

    /// Writes one copy, safely.
    fn write_copy(&self, device: &dyn BlockDevice, primary: bool) -> Result<(), DeviceError> {
        let last = device.blocks() - 1;
        let (own, other, entries) =
            if primary { (1, last, 2) } else { (last, 1, last - entry_blocks(device)) };
        let size = u64::from(device.block_size());
        write_bytes(device, entries * size, &self.entries)?;
        write_bytes(device, own * size, &self.header(device, own, other, entries))?;
        device.flush()
    }

    /// Writes both copies, one safely before the other is touched, and the protective MBR.
    fn write(&self, device: &dyn BlockDevice, primary_first: bool) -> Result<(), DeviceError> {
        self.write_copy(device, primary_first)?;
        self.write_copy(device, !primary_first)?;
        let mut protective = vec![0; device.block_size() as usize];
        // One entry of type 0xEE over the whole disk (UEFI 5.2.3).
        put(&mut protective, 446, &[0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1]);
        let covered = u32::try_from(device.blocks() - 1).unwrap_or(u32::MAX);
        put(&mut protective, 458, &covered.to_le_bytes());
        put(&mut protective, 510, &[0x55, 0xAA]);
        write_bytes(device, 0, &protective)?;
        device.flush()
    }
}

/// Writes a protective MBR and a GPT, primary and backup, with the partitions of `plan`. `unique` makes the disk's and
/// the partitions' GUIDs.
pub(crate) fn write_gpt(device: &dyn BlockDevice, plan: &Plan, unique: [u8; 16]) -> Result<(), DeviceError> {
    let guid = |number: u8| {
        let mut guid = unique;
        guid[15] = guid[15].wrapping_add(number);
        // Version 4 (random), variant 1 (RFC 9562 section 5.4); the first three fields are little-endian.
        guid[7] = guid[7] & 0x0F | 0x40;
        guid[8] = guid[8] & 0x3F | 0x80;
        guid
    };
    let mut entries = vec![0; ENTRIES];
    let parts = [(PRIVATE, plan.private, "NAS private"), (BASIC_DATA, plan.data, "NAS data")];
    for (number, (entry, (kind, (first, count), name))) in
        entries.chunks_exact_mut(ENTRY).zip(parts).enumerate()
    {
        put(entry, 0, &kind);
        put(entry, 16, &guid(number as u8 + 1));
        put(entry, 32, &first.to_le_bytes());
        put(entry, 40, &(first + count - 1).to_le_bytes());
        for (place, unit) in (56..).step_by(2).zip(name.encode_utf16()) {
            put(entry, place, &unit.to_le_bytes());
        }
    }
    let first_usable = 2 + entry_blocks(device);
    Table { entries, guid: guid(0), first_usable }.write(device, false)
}

/// Lets the data partition that starts at block `first` end before block `end`, which is one that [`usable_end`] gives at most.
/// The backup of the table goes to the disk's end, wherever it was. After a power cut at any moment the disk has the old table or the
/// new one. False, and nothing is changed, if the disk has no table in the usual form, or another partition behind this one.
pub(crate) fn move_end(device: &dyn BlockDevice, first: u64, end: u64) -> Result<bool, DeviceError> {
    let mut primary_first = false;
    let table = match read_raw_gpt(device, 1) {
        Ok(Some(table)) => Some(table),
        Ok(None) | Err(DeviceError::Medium) => {
            // The backup alone counts now, and stays until the other is there.
            primary_first = true;
            read_raw_gpt(device, device.blocks().saturating_sub(1))?
        }
        Err(error) => return Err(error),
    };
    let Some(mut table) = table else { return Ok(false) };
    let fits = first < end && end <= usable_end(device.blocks(), device.block_size());
    if table.entries.len() != ENTRIES || table.entry_size != ENTRY || !fits {
        return Ok(false);
    }
    let mut found = false;
    for entry in table.entries.chunks_exact_mut(ENTRY) {
        let start = u64_at(entry, 32).unwrap_or(0);
        if entry.starts_with(&[0; 16]) || start < first {
            continue;
        }
        if start > first || found {
            return Ok(false);
        }
        put(entry, 40, &(end - 1).to_le_bytes());
        found = true;
    }
    let (Some(guid), Some(first_usable)) = (
        table.header.get(GUID..GUID + 16).and_then(|guid| guid.try_into().ok()),
        u64_at(&table.header, FIRST_USABLE),
    ) else {
        return Ok(false);
    };
    if found {
        Table { entries: table.entries, guid, first_usable }.write(device, primary_first)?;
    }
    Ok(found)
}

/// Makes both copies of a table whole and alike again, if a power cut or the medium has damaged one; `first` and `end` are those of
/// the data partition in the one that counts.
pub(crate) fn mend(device: &dyn BlockDevice, first: u64, end: u64) -> Result<(), DeviceError> {
    let copy = |place| match read_raw_gpt(device, place) {
        Err(DeviceError::Medium) => Ok(None),
        copy => copy.map(|table| table.map(|table| table.entries)),
    };
    let (primary, backup) = (copy(1)?, copy(device.blocks().saturating_sub(1))?);
    if primary.is_none() || primary != backup {
        move_end(device, first, end)?;
    }
    Ok(())
}

/// Lets the data partition of a disk that the appliance has divided reach to the disk's end. False, and nothing is changed, if
/// it does already, or the disk is divided in another way. After a power cut it has the old size or the new one.
pub fn enlarge(device: &dyn BlockDevice) -> Result<bool, DeviceError> {
    let layout = Layout::read(device)?;
    let mut data = layout.partitions.iter().filter(|part| part.role == Role::Data);
    let (Some(data), None, Some(_)) = (data.next(), data.next(), layout.private()) else {
        return Ok(false);
    };
    let end = usable_end(device.blocks(), device.block_size());
    if end <= data.first + data.blocks {
        return Ok(false);
    }
    move_end(device, data.first, end)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::partition::plan;
    use crate::test_devices::{Generator, PowerLog, RamDisk, Recorder};

    /// A disk with the contents of a smaller one.
    fn cloned(small: &RamDisk, blocks: u64) -> RamDisk {
        let large = RamDisk::new(blocks, small.block_size());
        small.for_each_chunk(|offset, bytes| large.poke(offset, bytes));
        large
    }

    #[test]
    fn a_cloned_disks_data_partition_reaches_to_the_end() {
        for block_size in [512, 4096] {
            let mebibyte = (1 << 20) / u64::from(block_size);
            let small = RamDisk::new(32 * mebibyte, block_size);
            write_gpt(&small, &plan(small.blocks(), block_size).unwrap(), [0x5A; 16]).unwrap();
            let before = Layout::read(&small).unwrap();
            assert!(!enlarge(&small).unwrap());
            let large = cloned(&small, 100 * mebibyte + 7);
            assert!(enlarge(&large).unwrap());
            assert!(!enlarge(&large).unwrap());
            let after = Layout::read(&large).unwrap();
            assert_eq!(after.private(), before.private());
            let (old, new) = (before.partitions[1], after.partitions[1]);
            assert_eq!((new.first, new.first + new.blocks), (old.first, 99 * mebibyte));
            // Either copy says so, and the GUIDs are what they were.
            let ids = |disk: &RamDisk, header: u64, entries: u64| {
                let mut ids = [0; 48];
                disk.peek(header * u64::from(block_size) + 56, &mut ids[..16]);
                disk.peek(entries * u64::from(block_size) + 16, &mut ids[16..32]);
                disk.peek(entries * u64::from(block_size) + 144, &mut ids[32..]);
                ids
            };
            let last = large.blocks() - 1;
            assert_eq!(ids(&large, 1, 2), ids(&small, 1, 2));
            assert_eq!(ids(&large, last, last - 16384 / u64::from(block_size)), ids(&small, 1, 2));
            for place in [1, last] {
                let damaged = large.duplicate();
                damaged.poke(place * u64::from(block_size) + 60, b"x");
                assert_eq!(Layout::read(&damaged).unwrap(), after);
            }
        }
    }

    #[test]
    fn a_power_cut_leaves_the_old_table_or_the_new_one() {
        let small = RamDisk::new(32 * 2048, 512);
        write_gpt(&small, &plan(small.blocks(), 512).unwrap(), [0x5A; 16]).unwrap();
        let mut random = Generator::new(5);
        for damaged in [false, true] {
            let disk = cloned(&small, if damaged { 32 * 2048 } else { 80 * 2048 });
            if damaged {
                // Only the backup is there, and the partition was shorter.
                assert!(move_end(&disk, 5 * 2048, 20 * 2048).unwrap());
                disk.poke(512, &[0; 512]);
            }
            let old = Layout::read(&disk).unwrap();
            let log = PowerLog::new();
            let recorder = Recorder::new(&log, 0, disk);
            assert!(enlarge(&*recorder).unwrap());
            let new = Layout::read(&*recorder).unwrap();
            let mut seen = [0; 2];
            for cut in 0..=log.now() {
                for _ in 0..20 {
                    let left = Layout::read(&recorder.cut(cut, &mut random)).unwrap();
                    assert!(left == old || left == new, "{left:?}");
                    seen[usize::from(left == new)] += 1;
                }
            }
            assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
        }
    }

    #[test]
    fn what_is_behind_the_partition_stays() {
        let disk = RamDisk::new(64 * 2048, 512);
        let plan = Plan { private: (40 * 2048, 4 * 2048), data: (2048, 20 * 2048) };
        write_gpt(&disk, &plan, [1; 16]).unwrap();
        let before = disk.image();
        assert!(!enlarge(&disk).unwrap());
        assert!(!move_end(&disk, 7, 3000).unwrap() && !move_end(&disk, 40 * 2048, 64 * 2048).unwrap());
        assert!(disk.image() == before);
        let blank = RamDisk::new(1000, 512);
        assert!(!enlarge(&blank).unwrap());
    }
}
