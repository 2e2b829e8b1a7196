//! Makes new volumes, and divides new disks.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::device::write_bytes;
use crate::mirror::{self, MirrorError};
use crate::partition::{self, Layout};
use crate::upcase::{UpcaseTable, table_checksum};
use crate::volume::bytes::put;
use crate::volume::geometry::boot_checksum;
use crate::{BlockDevice, DeviceError};

/// Which file system to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// exFAT: for disks of the appliance.
    Exfat,
    /// FAT32: for volumes that old machines have to read; files end at 4 GiB.
    Fat32,
    /// FAT16: for small volumes.
    Fat16,
}

/// A new exFAT volume's FAT has entries for so many times its clusters, so that it can grow.
const GROWTH: u64 = 8;
/// Unless that takes more than this fraction of the volume.
const LEAST_SHARE_OF_SPARE: u64 = 256;

/// What a new volume shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file system.
    pub kind: Kind,
    /// The volume's name: up to 11 characters (for FAT, ASCII letters and digits).
    pub label: Vec<u16>,
    /// 16 bytes that no other disk has, preferably random: GUIDs and the serial number come from them.
    pub unique: [u8; 16],
    /// Bytes a cluster: a power of two, at least a sector. `None`: as usual for the size.
    pub cluster: Option<u32>,
}

/// Why nothing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The device would not; what is on it now is undefined.
    Device(DeviceError),
    /// Too small or too large for the file system.
    Size,
    /// The options contradict themselves or the device.
    Options,
}

impl From<DeviceError> for FormatError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// Divides a whole disk: GPT, a private partition and one data partition, which is formatted. Everything on it is lost.
pub fn disk(device: &Arc<dyn BlockDevice>, options: &Options) -> Result<Layout, FormatError> {
    divide(&**device, device.blocks(), options.unique)?;
    data_partition(device, options)
}

/// Divides a disk of which the first `blocks` blocks are to be used: for an array, as many as its smaller disk has. What
/// an earlier life left in the private partition's first MiB and in front of the journal goes, so that it cannot be taken
/// for ours. Everything on the disk is lost.
pub fn divide(device: &dyn BlockDevice, blocks: u64, unique: [u8; 16]) -> Result<(), FormatError> {
    let plan = partition::plan(blocks.min(device.blocks()), device.block_size()).ok_or(FormatError::Size)?;
    divide_by(device, &plan, unique)
}

/// Divides a disk by a plan that was made for another.
pub(crate) fn divide_by(
    device: &dyn BlockDevice,
    plan: &partition::Plan,
    unique: [u8; 16],
) -> Result<(), FormatError> {
    // The backup table takes less than the last MiB.
    let table = (1 << 20) / u64::from(device.block_size());
    if plan.data.0.saturating_add(plan.data.1).saturating_add(table) > device.blocks() {
        return Err(FormatError::Size);
    }
    partition::write_gpt(device, plan, unique)?;
    let start = plan.private.0 * u64::from(device.block_size());
    write_zeros(device, start, (1 << 20) + 65536)?;
    device.flush()?;
    Ok(())
}

/// Takes the volumes of a disk or an array away, in one step for each: its boot sector goes, safely. Whatever a power cut leaves,
/// a volume is there whole or not at all.
pub fn vacate(device: &dyn BlockDevice) -> Result<(), DeviceError> {
    let size = u64::from(device.block_size());
    for part in Layout::read(device)?.partitions.iter().filter(|part| part.file_system.is_some()) {
        write_zeros(device, part.first * size, size)?;
        device.flush()?;
    }
    Ok(())
}

/// Makes a disk blank: nobody finds a volume, a table or an array's records on it any more. Everything on it is lost, its volumes
/// [first](vacate); so those of an array are to go by way of the array before its disks do. After a power cut it can be called again.
pub fn blank(device: &dyn BlockDevice) -> Result<(), DeviceError> {
    const PIECE: u64 = 1 << 20;
    vacate(device)?;
    let size = u64::from(device.block_size());
    let layout = Layout::read(device)?;
    if let Some(private) = layout.private() {
        // Until it is no member any more, it has what its twin has.
        if let Err(MirrorError::Device(error)) = mirror::erase(device) {
            return Err(error);
        }
        write_zeros(device, private.first * size, (PIECE + 65536).min(private.blocks * size))?;
    }
    // The boot sectors' copies, so that no table that is made later brings a volume back.
    for part in &layout.partitions {
        write_zeros(device, part.first * size, PIECE.min(part.blocks * size))?;
    }
    // While there is a table, what has become of the disk can be told.
    device.flush()?;
    let bytes = device.blocks() * size;
    let piece = PIECE.min(bytes);
    write_zeros(device, bytes - piece, piece)?;
    device.flush()?;
    write_zeros(device, 0, piece)?;
    device.flush()
}

/// Formats the data partition of a divided disk or array.
pub fn data_partition(device: &Arc<dyn BlockDevice>, options: &Options) -> Result<Layout, FormatError> {
    let plain = Layout::read(&**device)?;
    let data = plain.partitions.iter().find(|part| part.role == partition::Role::Data);
    let data = *data.ok_or(FormatError::Options)?;
    let part = data.open(device).ok_or(FormatError::Device(DeviceError::OutOfRange))?;
    volume(&*part, data.first, options)?;
    Ok(Layout::read(&**device)?)
}

/// Formats a partition (or a whole device) that starts `hidden` blocks into its disk. Everything on it is lost.
pub fn volume(device: &dyn BlockDevice, hidden: u64, options: &Options) -> Result<(), FormatError> {
    if options.label.len() > 11 {
        return Err(FormatError::Options);
    }
    match options.kind {
        Kind::Exfat => exfat(device, hidden, options),
        Kind::Fat32 => fat(device, hidden, options, true),
        Kind::Fat16 => fat(device, hidden, options, false),
    }?;
    device.flush()?;
    Ok(())
}

/// Zeros in pieces of 64 KiB.
fn write_zeros(device: &dyn BlockDevice, offset: u64, length: u64) -> Result<(), DeviceError> {
    let zeros = vec![0; 65536];
    let mut done = 0;
    while done < length {
        let count = (length - done).min(65536) as usize;
        write_bytes(device, offset + done, zeros.get(..count).unwrap_or(&[]))?;
        done += count as u64;
    }
    Ok(())
}

/// Writes `bytes`, filled up with zeros to whole sectors.
fn write_padded(device: &dyn BlockDevice, offset: u64, bytes: &[u8], sector: u64) -> Result<(), DeviceError> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(sector as usize), 0);
    write_bytes(device, offset, &padded)
}

fn cluster_size(options: &Options, usual: u32, sector: u64, most: u32) -> Result<u64, FormatError> {
    let cluster = options.cluster.unwrap_or(usual).max(sector as u32);
    if !cluster.is_power_of_two() || cluster > most {
        return Err(FormatError::Options);
    }
    Ok(u64::from(cluster))
}

/// exFAT: boot region, its backup, the FAT, and a heap with bitmap, up-case table and root directory.
fn exfat(device: &dyn BlockDevice, hidden: u64, options: &Options) -> Result<(), FormatError> {
    let sector = u64::from(device.block_size());
    let bytes = device.blocks() * sector;
    let usual = if bytes < 256 << 20 {
        4 << 10
    } else if bytes < 32 << 30 {
        32 << 10
    } else if bytes < 512 << 30 {
        128 << 10
    } else {
        256 << 10
    };
    let cluster = cluster_size(options, usual, sector, 32 << 20)?;
    let align = if bytes < 64 << 20 { 64 << 10 } else { 1 << 20 };
    let fat_at = if align > (24 * sector) { align } else { 24 * sector };
    if bytes < 4 * align {
        return Err(FormatError::Size);
    }
    // The FAT has an entry for each cluster there could be, and more for a volume that grows; then the heap starts aligned.
    let most = (bytes - fat_at) / cluster;
    let spare = (most * (GROWTH - 1) * 4).min(bytes / LEAST_SHARE_OF_SPARE);
    let heap = (fat_at + (most + 2) * 4 + spare).next_multiple_of(align);
    let fat_bytes = heap - fat_at;
    let clusters = bytes.checked_sub(heap).ok_or(FormatError::Size)? / cluster;
    if !(16..=0xFFFF_FFF5).contains(&clusters) {
        return Err(FormatError::Size);
    }
    let table = UpcaseTable::generate().store();
    let bitmap_bytes = clusters.div_ceil(8);
    let bitmap_clusters = bitmap_bytes.div_ceil(cluster);
    let table_clusters = (table.len() as u64).div_ceil(cluster);
    let root_cluster = 2 + bitmap_clusters + table_clusters;
    let used = bitmap_clusters + table_clusters + 1;
    if used >= clusters {
        return Err(FormatError::Size);
    }

    // The FAT: two reserved entries, then the three chains.
    let mut entries: Vec<u32> = vec![0xFFFF_FFF8, 0xFFFF_FFFF];
    for (first, count) in [(2, bitmap_clusters), (2 + bitmap_clusters, table_clusters), (root_cluster, 1)] {
        entries.extend((first + 1..first + count).map(|next| next as u32));
        entries.push(0xFFFF_FFFF);
    }
    // Of clusters that are not there yet, what grows the volume writes them.
    write_zeros(device, fat_at, ((clusters + 2) * 4).next_multiple_of(sector))?;
    let stored: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    write_padded(device, fat_at, &stored, sector)?;

    let mut bitmap = vec![0u8; bitmap_bytes as usize];
    for index in 0..used {
        if let Some(byte) = bitmap.get_mut((index / 8) as usize) {
            *byte |= 1 << (index % 8);
        }
    }
    write_zeros(device, heap, (used * cluster).next_multiple_of(sector))?;
    write_padded(device, heap, &bitmap, sector)?;
    write_padded(device, heap + bitmap_clusters * cluster, &table, sector)?;

    // The root directory's records (7.1 to 7.3).
    let mut root = vec![0u8; 96];
    put(&mut root, 0, &[0x83, options.label.len() as u8]);
    for (place, unit) in options.label.iter().enumerate() {
        put(&mut root, 2 + place * 2, &unit.to_le_bytes());
    }
    if options.label.is_empty() {
        put(&mut root, 0, &[0x03]);
    }
    put(&mut root, 32, &[0x81]);
    put(&mut root, 32 + 20, &2u32.to_le_bytes());
    put(&mut root, 32 + 24, &bitmap_bytes.to_le_bytes());
    put(&mut root, 64, &[0x82]);
    put(&mut root, 64 + 4, &table_checksum(&table).to_le_bytes());
    put(&mut root, 64 + 20, &((2 + bitmap_clusters) as u32).to_le_bytes());
    put(&mut root, 64 + 24, &(table.len() as u64).to_le_bytes());
    write_padded(device, heap + (root_cluster - 2) * cluster, &root, sector)?;

    // The boot region last (3): boot sector, eight extended ones, parameters, reserved, checksum; then all again.
    let mut region = vec![0u8; (12 * sector) as usize];
    put(&mut region, 0, &[0xEB, 0x76, 0x90]);
    put(&mut region, 3, b"EXFAT   ");
    put(&mut region, 64, &hidden.to_le_bytes());
    put(&mut region, 72, &(bytes / sector).to_le_bytes());
    put(&mut region, 80, &((fat_at / sector) as u32).to_le_bytes());
    put(&mut region, 84, &((fat_bytes / sector) as u32).to_le_bytes());
    put(&mut region, 88, &((heap / sector) as u32).to_le_bytes());
    put(&mut region, 92, &(clusters as u32).to_le_bytes());
    put(&mut region, 96, &(root_cluster as u32).to_le_bytes());
    put(&mut region, 100, &serial(options).to_le_bytes());
    put(&mut region, 104, &[0, 1]);
    let (sector_shift, cluster_shift) = (sector.trailing_zeros(), cluster.trailing_zeros());
    put(&mut region, 108, &[sector_shift as u8, (cluster_shift - sector_shift) as u8, 1, 0x80, 0xFF]);
    // A boot program that halts: this volume does not start a PC.
    put(&mut region, 120, &[0xF4, 0xEB, 0xFD]);
    for number in 0..9u64 {
        let end = if number == 0 { 510 } else { ((number + 1) * sector - 2) as usize };
        put(&mut region, end, &[0x55, 0xAA]);
    }
    let sum = boot_checksum(region.get(..(11 * sector) as usize).unwrap_or(&[]));
    if let Some(last) = region.get_mut((11 * sector) as usize..) {
        for place in last.chunks_exact_mut(4) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }
    write_bytes(device, 12 * sector, &region)?;
    write_bytes(device, 0, &region)?;
    Ok(())
}

/// FAT32 or FAT16: boot sector(s), two FATs, root directory.
fn fat(device: &dyn BlockDevice, hidden: u64, options: &Options, wide: bool) -> Result<(), FormatError> {
    let sector = u64::from(device.block_size());
    let sectors = device.blocks().min(u64::from(u32::MAX));
    let bytes = sectors * sector;
    // As the FAT specification's tables have it (section 3.5), but with 4 KiB as the least.
    let steps = if wide { [8u64 << 30, 16 << 30, 32 << 30] } else { [256 << 20, 512 << 20, 1 << 30] };
    let usual = 4096 << steps.iter().filter(|&&step| bytes >= step).count();
    // Small FAT32 volumes need small clusters to have enough of them.
    let usual = if wide && bytes < 260 << 20 { 512 } else { usual };
    let cluster = cluster_size(options, usual, sector, 64 << 10)? / sector;
    let reserved = if wide { 32 } else { 4 };
    let root_sectors = if wide { 0 } else { 512 * 32 / sector };
    let entry = if wide { 4 } else { 2 };
    // A little too large a FAT does no harm; the heap starts at a multiple of the cluster size.
    let most = sectors.checked_sub(reserved + root_sectors).ok_or(FormatError::Size)? / cluster;
    let mut fat_sectors = ((most + 2) * entry).div_ceil(sector);
    while (reserved + 2 * fat_sectors + root_sectors) % cluster.min(8) != 0 {
        fat_sectors += 1;
    }
    let heap = reserved + 2 * fat_sectors + root_sectors;
    let clusters = sectors.checked_sub(heap).ok_or(FormatError::Size)? / cluster;
    let fits =
        if wide { (65_525..0x0FFF_FFF5).contains(&clusters) } else { (4085..65_525).contains(&clusters) };
    if !fits {
        return Err(FormatError::Size);
    }
    let label = fat_label(&options.label)?;

    write_zeros(device, 0, reserved * sector)?;
    for copy in 0..2 {
        let at = (reserved + copy * fat_sectors) * sector;
        write_zeros(device, at, fat_sectors * sector)?;
        let first: &[u8] = match wide {
            true => &[0xF8, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x0F],
            false => &[0xF8, 0xFF, 0xFF, 0xFF],
        };
        write_padded(device, at, first, sector)?;
    }
    let root_at = (heap - root_sectors) * sector;
    write_zeros(device, root_at, if wide { cluster } else { root_sectors } * sector)?;
    if !options.label.is_empty() {
        let mut record = [0u8; 32];
        put(&mut record, 0, &label);
        put(&mut record, 11, &[0x08]);
        write_padded(device, root_at, &record, sector)?;
    }

    let mut boot = vec![0u8; sector as usize];
    put(&mut boot, 0, if wide { &[0xEB, 0x58, 0x90] } else { &[0xEB, 0x3C, 0x90] });
    put(&mut boot, 3, b"NAS     ");
    put(&mut boot, 11, &(sector as u16).to_le_bytes());
    put(&mut boot, 13, &[cluster as u8]);
    put(&mut boot, 14, &(reserved as u16).to_le_bytes());
    put(&mut boot, 16, &[2]);
    put(&mut boot, 17, &if wide { 0u16 } else { 512 }.to_le_bytes());
    match u16::try_from(sectors) {
        Ok(short) if !wide => put(&mut boot, 19, &short.to_le_bytes()),
        _ => put(&mut boot, 32, &(sectors as u32).to_le_bytes()),
    }
    put(&mut boot, 21, &[0xF8]);
    put(&mut boot, 24, &63u16.to_le_bytes());
    put(&mut boot, 26, &255u16.to_le_bytes());
    put(&mut boot, 28, &u32::try_from(hidden).unwrap_or(0).to_le_bytes());
    let extended = if wide {
        put(&mut boot, 36, &(fat_sectors as u32).to_le_bytes());
        put(&mut boot, 44, &2u32.to_le_bytes());
        put(&mut boot, 48, &1u16.to_le_bytes());
        put(&mut boot, 50, &6u16.to_le_bytes());
        64
    } else {
        put(&mut boot, 22, &(fat_sectors as u16).to_le_bytes());
        36
    };
    put(&mut boot, extended, &[0x80, 0, 0x29]);
    put(&mut boot, extended + 3, &serial(options).to_le_bytes());
    put(&mut boot, extended + 7, if options.label.is_empty() { b"NO NAME    " } else { &label });
    put(&mut boot, extended + 18, if wide { b"FAT32   " } else { b"FAT16   " });
    put(&mut boot, extended + 26, &[0xF4, 0xEB, 0xFD]);
    put(&mut boot, 510, &[0x55, 0xAA]);
    if wide {
        let mut information = vec![0u8; sector as usize];
        put(&mut information, 0, b"RRaA");
        put(&mut information, 484, b"rrAa");
        put(&mut information, 488, &((clusters - 1) as u32).to_le_bytes());
        put(&mut information, 492, &3u32.to_le_bytes());
        put(&mut information, 508, &[0, 0, 0x55, 0xAA]);
        write_bytes(device, sector, &information)?;
        write_bytes(device, 7 * sector, &information)?;
        write_bytes(device, 6 * sector, &boot)?;
    }
    write_bytes(device, 0, &boot)?;
    Ok(())
}

fn serial(options: &Options) -> u32 {
    crate::volume::bytes::crc32(&options.unique)
}

fn fat_label(label: &[u16]) -> Result<[u8; 11], FormatError> {
    let mut stored = [b' '; 11];
    for (place, &unit) in stored.iter_mut().zip(label) {
        let byte = u8::try_from(unit).map_err(|_| FormatError::Options)?.to_ascii_uppercase();
        if !byte.is_ascii_alphanumeric() && !b" -_".contains(&byte) {
            return Err(FormatError::Options);
        }
        *place = byte;
    }
    Ok(stored)
}

#[cfg(test)]
mod removal_tests;
#[cfg(test)]
mod tests;
