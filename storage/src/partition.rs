//! What lies where on a disk: MBR with logical drives, GPT, or one volume from the first block on; and writing a GPT.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::device::read_bytes;
use crate::{BlockDevice, DeviceError, Slice};

mod table;

pub use table::enlarge;
pub(crate) use table::{mend, move_end, write_gpt};

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A master boot record.
    Mbr,
    /// A GUID partition table.
    Gpt,
    /// Not at all: one volume fills the disk.
    Whole,
    /// Nothing known is there: blank, or foreign.
    None,
}

/// What kind of volume the first sectors of a partition announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// exFAT.
    Exfat,
    /// FAT with 12, 16 or 32 bits a cluster.
    Fat,
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ordinary: may carry a volume.
    Data,
    /// The appliance's own: journal and array records.
    Private,
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// First block.
    pub first: u64,
    /// How many blocks.
    pub blocks: u64,
    /// What it is for.
    pub role: Role,
    /// The volume in it, if it is of a kind that can be mounted.
    pub file_system: Option<FileSystem>,
}

/// What a disk carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How it is divided.
    pub scheme: Scheme,
    /// The parts, in the table's order.
    pub partitions: Vec<Partition>,
    /// Every byte of the first and last MiB is the same filler (0x00 or 0xFF): nothing was ever put there.
    pub blank: bool,
}

/// Partition type of data volumes: Microsoft basic data.
const BASIC_DATA: [u8; 16] =
    [0xA2, 0xA0, 0xD0, 0xEB, 0xE5, 0xB9, 0x33, 0x44, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7];
/// Partition type of EFI system partitions, which are FAT volumes, but nobody's data: macOS puts one first on each disk.
const EFI_SYSTEM: [u8; 16] =
    [0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B];
/// The same in a master boot record.
const MBR_EFI_SYSTEM: u8 = 0xEF;
/// Partition type of the appliance's private partition, made up once for this project:
/// 4E41532D-7072-4976-A174-652070617274 in its mixed byte order.
const PRIVATE: [u8; 16] =
    [0x2D, 0x53, 0x41, 0x4E, 0x72, 0x70, 0x76, 0x49, 0xA1, 0x74, 0x65, 0x20, 0x70, 0x61, 0x72, 0x74];

/// At most so many partitions are looked at.
const MAXIMUM_PARTITIONS: usize = 128;

impl Layout {
    /// Reads what `device` carries. A table that contradicts itself counts as none.
    pub fn read(device: &dyn BlockDevice) -> Result<Self, DeviceError> {
        let block_size = device.block_size() as usize;
        let mut first = vec![0; block_size];
        if device.blocks() < 4 {
            return Ok(Self { scheme: Scheme::None, partitions: Vec::new(), blank: true });
        }
        read_bytes(device, 0, &mut first)?;
        let whole = || Partition {
            first: 0,
            blocks: device.blocks(),
            role: Role::Data,
            file_system: recognise(&first),
        };
        if whole().file_system.is_some() {
            return Ok(Self { scheme: Scheme::Whole, partitions: vec![whole()], blank: false });
        }
        if let Some(partitions) = read_gpt(device)? {
            return Ok(Self { scheme: Scheme::Gpt, partitions, blank: false });
        }
        if let Some(partitions) = read_mbr(device, &first)? {
            return Ok(Self { scheme: Scheme::Mbr, partitions, blank: false });
        }
        Ok(Self { scheme: Scheme::None, partitions: Vec::new(), blank: is_blank(device)? })
    }

    /// The first data partition with a file system.
    pub fn data(&self) -> Option<Partition> {
        self.partitions.iter().copied().find(|part| part.role == Role::Data && part.file_system.is_some())
    }

    /// The appliance's private partition.
    pub fn private(&self) -> Option<Partition> {
        self.partitions.iter().copied().find(|part| part.role == Role::Private)
    }
}

impl Layout {
    /// The place of the volume's journal on a disk that the appliance has divided: the private partition behind its
    /// first MiB, which array records take.
    pub fn journal(&self, device: &Arc<dyn BlockDevice>) -> Option<Arc<dyn BlockDevice>> {
        let private = self.private()?;
        let mebibyte = (1 << 20) / u64::from(device.block_size());
        let blocks = private.blocks.checked_sub(mebibyte)?;
        Some(Arc::new(Slice::new(device.clone(), private.first + mebibyte, blocks)?))
    }
}

impl Partition {
    /// The partition as a device.
    pub fn open(&self, device: &Arc<dyn BlockDevice>) -> Option<Arc<dyn BlockDevice>> {
        Some(Arc::new(Slice::new(device.clone(), self.first, self.blocks)?))
    }
}

/// Whether a boot sector announces a file system.
fn recognise(sector: &[u8]) -> Option<FileSystem> {
    if sector.get(510..512)? != [0x55, 0xAA] {
        return None;
    }
    if sector.get(3..11)? == b"EXFAT   " {
        return Some(FileSystem::Exfat);
    }
    // A FAT volume has no reliable mark: its parameters have to make sense (FAT specification 3.1).
    let sector_size = u16::from_le_bytes([*sector.get(11)?, *sector.get(12)?]);
    let cluster = *sector.get(13)?;
    let reserved = u16::from_le_bytes([*sector.get(14)?, *sector.get(15)?]);
    let fats = *sector.get(16)?;
    let media = *sector.get(21)?;
    let jump = matches!(*sector.first()?, 0xEB | 0xE9);
    let sensible = jump
        && matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && (media == 0xF0 || media >= 0xF8);
    sensible.then_some(FileSystem::Fat)
}

fn file_system_at(device: &dyn BlockDevice, first: u64) -> Result<Option<FileSystem>, DeviceError> {
    let mut sector = vec![0; device.block_size() as usize];
    match device.read(first, &mut [&mut sector]) {
        Ok(()) => Ok(recognise(&sector)),
        Err(DeviceError::Medium | DeviceError::OutOfRange) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_blank(device: &dyn BlockDevice) -> Result<bool, DeviceError> {
    let block_size = u64::from(device.block_size());
    let count = ((1 << 20) / block_size).min(device.blocks());
    let mut piece = vec![0; (16 * block_size) as usize];
    let filler = {
        device.read(0, &mut [&mut piece])?;
        piece.first().copied().unwrap_or(0)
    };
    if !matches!(filler, 0 | 0xFF) {
        return Ok(false);
    }
    for start in [0, device.blocks() - count] {
        let mut block = start;
        while block < start + count {
            let blocks = (start + count - block).min(16);
            let Some(part) = piece.get_mut(..(blocks * block_size) as usize) else { break };
            device.read(block, &mut [part])?;
            if part.iter().any(|&byte| byte != filler) {
                return Ok(false);
            }
            block += blocks;
        }
    }
    Ok(true)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}

fn read_mbr(device: &dyn BlockDevice, sector: &[u8]) -> Result<Option<Vec<Partition>>, DeviceError> {
    if sector.get(510..512) != Some(&[0x55, 0xAA]) {
        return Ok(None);
    }
    let mut partitions = Vec::new();
    let add = |partitions: &mut Vec<Partition>, first: u64, blocks: u64| {
        if first > 0 && first.checked_add(blocks).is_some_and(|end| end <= device.blocks()) && blocks > 0 {
            let file_system = file_system_at(device, first)?;
            partitions.push(Partition { first, blocks, role: Role::Data, file_system });
        }
        Ok::<_, DeviceError>(())
    };
    let mut extended = None;
    for (kind, first, blocks, status) in mbr_entries(sector) {
        if status & 0x7F != 0 {
            return Ok(None);
        }
        match kind {
            // A protective entry whose GPT is not readable: not ours to guess.
            0xEE => return Ok(None),
            0 | MBR_EFI_SYSTEM => (),
            0x05 | 0x0F | 0x85 => extended = Some(first),
            _ => add(&mut partitions, first, blocks)?,
        }
    }
    // Logical drives: a chain of tables, each with one drive and the next table, relative to the extended partition.
    if let Some(start) = extended {
        let mut next = start;
        let mut table = vec![0; device.block_size() as usize];
        for _ in 0..MAXIMUM_PARTITIONS {
            match device.read(next, &mut [&mut table]) {
                Ok(()) => (),
                Err(DeviceError::OutOfRange | DeviceError::Medium) => break,
                Err(error) => return Err(error),
            }
            if table.get(510..512) != Some(&[0x55, 0xAA]) {
                break;
            }
            let mut following = None;
            for (kind, first, blocks, _) in mbr_entries(&table) {
                match kind {
                    0 => (),
                    0x05 | 0x0F | 0x85 => following = Some(start + first),
                    _ => add(&mut partitions, next + first, blocks)?,
                }
            }
            match following {
                // Forward only, so the chain ends.
                Some(place) if place > next => next = place,
                _ => break,
            }
        }
    }
    Ok((!partitions.is_empty()).then_some(partitions))
}

/// (type, first block, blocks, status) of the four entries of a table.
fn mbr_entries(sector: &[u8]) -> impl Iterator<Item = (u8, u64, u64, u8)> {
    sector.get(446..510).unwrap_or(&[]).chunks_exact(16).filter_map(|entry| {
        let (first, blocks) = (u32_at(entry, 8)?, u32_at(entry, 12)?);
        Some((*entry.get(4)?, u64::from(first), u64::from(blocks), *entry.first()?))
    })
}

fn read_gpt(device: &dyn BlockDevice) -> Result<Option<Vec<Partition>>, DeviceError> {
    for place in [1, device.blocks() - 1] {
        match read_gpt_at(device, place) {
            Ok(Some(partitions)) => return Ok(Some(partitions)),
            Ok(None) | Err(DeviceError::Medium | DeviceError::OutOfRange) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A table as it is on the disk: the block of its header, the entries, and the bytes of each.
struct RawTable {
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_size: usize,
}

/// The table whose header is at block `place`, if it is whole.
fn read_raw_gpt(device: &dyn BlockDevice, place: u64) -> Result<Option<RawTable>, DeviceError> {
    let block_size = device.block_size();
    let mut header = vec![0; block_size as usize];
    device.read(place, &mut [&mut header])?;
    let Some((entries_at, count, size, crc)) = check_gpt_header(&header, place) else { return Ok(None) };
    let bytes = u64::from(count) * u64::from(size);
    let mut entries = vec![0; bytes.next_multiple_of(u64::from(block_size)) as usize];
    device.read(entries_at, &mut [&mut entries])?;
    entries.truncate(bytes as usize);
    let whole = crate::volume::bytes::crc32(&entries) == crc;
    Ok(whole.then_some(RawTable { header, entries, entry_size: size as usize }))
}

fn read_gpt_at(device: &dyn BlockDevice, place: u64) -> Result<Option<Vec<Partition>>, DeviceError> {
    let Some(table) = read_raw_gpt(device, place)? else { return Ok(None) };
    let mut partitions = Vec::new();
    for entry in table.entries.chunks_exact(table.entry_size).take(MAXIMUM_PARTITIONS) {
        let (Some(kind), Some(first), Some(last)) = (entry.get(..16), u64_at(entry, 32), u64_at(entry, 40))
        else {
            continue;
        };
        if kind == [0; 16] || first == 0 || last < first || last >= device.blocks() {
            continue;
        }
        let role = if kind == PRIVATE { Role::Private } else { Role::Data };
        let is_data = role == Role::Data && kind != EFI_SYSTEM;
        let file_system = if is_data { file_system_at(device, first)? } else { None };
        partitions.push(Partition { first, blocks: last - first + 1, role, file_system });
    }
    Ok(Some(partitions))
}

/// The place, count, size and CRC of the entries of a sound header (UEFI 5.3.2).
fn check_gpt_header(block: &[u8], place: u64) -> Option<(u64, u32, u32, u32)> {
    let length = u32_at(block, 12)? as usize;
    if block.get(..8)? != b"EFI PART" || !(92..=512).contains(&length) {
        return None;
    }
    let mut header = block.get(..length)?.to_vec();
    header.get_mut(16..20)?.fill(0);
    if crate::volume::bytes::crc32(&header) != u32_at(block, 16)? || u64_at(block, 24)? != place {
        return None;
    }
    let (count, size) = (u32_at(block, 80)?, u32_at(block, 84)?);
    if !(1..=1024).contains(&count) || !(128..=1024).contains(&size) || !size.is_power_of_two() {
        return None;
    }
    Some((u64_at(block, 72)?, count, size, u32_at(block, 88)?))
}

/// Where the partitions of a new disk go, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) private: (u64, u64),
    pub(crate) data: (u64, u64),
}

/// Divides a disk: 1 MiB for the table, a private partition of a 64th of the disk but at least 4 and at most 64 MiB,
/// the rest data. `None` when the disk is smaller than 16 MiB.
pub(crate) fn plan(blocks: u64, block_size: u32) -> Option<Plan> {
    let mebibyte = (1u64 << 20) / u64::from(block_size);
    if blocks < 16 * mebibyte {
        return None;
    }
    let private = ((blocks / 64 / mebibyte).clamp(4, 64)) * mebibyte;
    let data = mebibyte + private;
    Some(Plan { private: (mebibyte, private), data: (data, usable_end(blocks, block_size) - data) })
}

/// Where the data partition of a disk of so many blocks ends at most: the backup table takes less than the last MiB.
pub(crate) fn usable_end(blocks: u64, block_size: u32) -> u64 {
    let mebibyte = (1u64 << 20) / u64::from(block_size);
    blocks.saturating_sub(mebibyte) / mebibyte * mebibyte
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::{Generator, RamDisk};

    fn boot_sector() -> [u8; 512] {
        let mut sector = [0; 512];
        sector[3..11].copy_from_slice(b"EXFAT   ");
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector
    }

    #[test]
    fn a_written_gpt_is_read_and_survives_the_loss_of_either_copy() {
        for block_size in [512, 4096] {
            let disk = RamDisk::new(64 * 1024 * 1024 / u64::from(block_size), block_size);
            assert!(Layout::read(&disk).unwrap().blank);
            let plan = plan(disk.blocks(), block_size).unwrap();
            write_gpt(&disk, &plan, [0x5A; 16]).unwrap();
            disk.poke(plan.data.0 * u64::from(block_size), &boot_sector());
            let layout = Layout::read(&disk).unwrap();
            assert_eq!(layout.scheme, Scheme::Gpt);
            assert_eq!(layout.private().unwrap().first, plan.private.0);
            assert_eq!(layout.data().unwrap().blocks, plan.data.1);
            for place in [1, disk.blocks() - 1] {
                let damaged = disk.duplicate();
                damaged.poke(place * u64::from(block_size) + 60, b"x");
                assert_eq!(Layout::read(&damaged).unwrap(), layout);
            }
        }
    }

    #[test]
    fn mbr_with_logical_drives() {
        let disk = RamDisk::new(10_000, 512);
        let entry = |kind: u8, first: u32, blocks: u32| {
            let mut entry = [0; 16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..].copy_from_slice(&blocks.to_le_bytes());
            entry
        };
        let table = |block: u64, entries: &[[u8; 16]]| {
            disk.poke(block * 512 + 446, &entries.concat());
            disk.poke(block * 512 + 510, &[0x55, 0xAA]);
        };
        table(0, &[entry(7, 100, 1000), entry(5, 2000, 8000)]);
        table(2000, &[entry(7, 10, 100), entry(5, 1000, 1000)]);
        // The last table points back to the first: the chain must end there.
        table(3000, &[entry(7, 10, 100), entry(5, 0, 1000)]);
        disk.poke(3010 * 512, &boot_sector());
        let layout = Layout::read(&disk).unwrap();
        assert_eq!(layout.scheme, Scheme::Mbr);
        let firsts: Vec<u64> = layout.partitions.iter().map(|part| part.first).collect();
        assert_eq!(firsts, [100, 2010, 3010]);
        assert_eq!(layout.data().unwrap().first, 3010);
    }

    #[test]
    fn a_volume_without_a_table() {
        let disk = RamDisk::new(1000, 512);
        disk.poke(0, &boot_sector());
        let layout = Layout::read(&disk).unwrap();
        assert_eq!((layout.scheme, layout.partitions.len()), (Scheme::Whole, 1));
    }

    #[test]
    fn garbage_never_panics() {
        let mut random = Generator::new(7);
        let plan = plan(40_000, 512).unwrap();
        for _ in 0..2000 {
            let disk = RamDisk::new(40_000, 512);
            write_gpt(&disk, &plan, [1; 16]).unwrap();
            for _ in 0..4 {
                disk.poke(random.below(1024), &[random.bits() as u8]);
            }
            // Sums made right again let the damage through to the code behind them.
            let mut header = [0; 92];
            disk.peek(512, &mut header);
            header[16..20].fill(0);
            disk.poke(528, &crc32fast::hash(&header).to_le_bytes());
            let _ = Layout::read(&disk);
        }
    }
}
