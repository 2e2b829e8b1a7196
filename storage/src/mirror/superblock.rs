//! What an array's disk says of itself: two copies of the superblock, written in turn (`docs/array-format.md`).

use alloc::vec;
use alloc::vec::Vec;

use super::bitmap::{self, Bitmap};
use super::{Member, MirrorError, Place};
use crate::device::{read_bytes, write_bytes};
use crate::volume::bytes::{get8, get32, get64, put};
use crate::{BlockDevice, DeviceError};

const MAGIC: &[u8; 8] = b"NASARRAY";
const VERSION: u32 = 1;
/// The two copies and the bitmap, in bytes from the private partition's start.
const COPIES: [u64; 2] = [0, 4096];
const BITMAP: u64 = 65536;

/// A superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The array's.
    pub id: [u8; 16],
    /// The disk's place in it, 0 or 1.
    pub index: usize,
    /// Grows with every change of a disk's state and every start.
    pub generation: u64,
    /// The disks' states as this one knows them.
    pub members: [Member; 2],
    /// The disks' serial numbers in the array, drawn when they joined.
    pub serials: [u64; 2],
    /// From this MiB of the mirrored part on the disks may hold different garbage, as the array grew into it; 0: nowhere.
    pub fresh: u32,
}

fn encode(member: Member) -> u8 {
    match member {
        Member::Good => 1,
        Member::Failed => 2,
        Member::Resyncing => 3,
    }
}

fn decode(byte: u8) -> Option<Member> {
    match byte {
        1 => Some(Member::Good),
        2 => Some(Member::Failed),
        3 => Some(Member::Resyncing),
        _ => None,
    }
}

impl Superblock {
    /// What it says of its own disk.
    pub fn own(&self) -> Member {
        self.members.get(self.index).copied().unwrap_or(Member::Failed)
    }

    /// What it says of the other.
    pub fn twin(&self) -> Member {
        self.members.get(1 - self.index.min(1)).copied().unwrap_or(Member::Failed)
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let sum = crate::volume::bytes::crc32(bytes.get(..64)?);
        if !bytes.starts_with(MAGIC) || get32(bytes, 64) != sum || get32(bytes, 8) != VERSION {
            return None;
        }
        let index = usize::from(get8(bytes, 40));
        let members = [decode(get8(bytes, 41))?, decode(get8(bytes, 42))?];
        let id = bytes.get(16..32)?.try_into().ok()?;
        let (generation, serials) = (get64(bytes, 32), [get64(bytes, 48), get64(bytes, 56)]);
        let fresh = get32(bytes, 12);
        (index < 2).then_some(Self { id, index, generation, members, serials, fresh })
    }

    fn emit(&self, block: u32) -> Vec<u8> {
        let mut bytes = vec![0; block as usize];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.fresh.to_le_bytes());
        put(&mut bytes, 16, &self.id);
        put(&mut bytes, 32, &self.generation.to_le_bytes());
        let [first, second] = self.members;
        put(&mut bytes, 40, &[self.index as u8, encode(first), encode(second)]);
        for (place, serial) in [48, 56].into_iter().zip(self.serials) {
            put(&mut bytes, place, &serial.to_le_bytes());
        }
        let sum = crate::volume::bytes::crc32(bytes.get(..64).unwrap_or(&[]));
        put(&mut bytes, 64, &sum.to_le_bytes());
        bytes
    }

    /// The block it goes to, and what goes there.
    pub(super) fn image(&self, place: &Place) -> (u64, Vec<u8>) {
        let copy = COPIES.get((self.generation % 2) as usize).copied().unwrap_or(0);
        ((place.records() + copy) / u64::from(place.block_size), self.emit(place.block_size))
    }
}

/// The newer copy on a disk.
pub(super) fn read(disk: &dyn BlockDevice, place: &Place) -> Result<Option<Superblock>, DeviceError> {
    let mut newest: Option<Superblock> = None;
    for copy in COPIES {
        let mut bytes = vec![0; place.block_size as usize];
        match read_bytes(disk, place.records() + copy, &mut bytes) {
            // The other copy may be readable.
            Ok(()) | Err(DeviceError::Medium) => {}
            Err(error) => return Err(error),
        }
        if let Some(found) = Superblock::parse(&bytes)
            && newest.is_none_or(|newest| found.generation > newest.generation)
        {
            newest = Some(found);
        }
    }
    Ok(newest)
}

/// The block of the bitmap.
pub(super) fn bitmap_block(place: &Place) -> u64 {
    (place.records() + BITMAP) / u64::from(place.block_size)
}

/// A disk's bitmap; where it cannot be read, anything may differ.
pub(super) fn read_bitmap(disk: &dyn BlockDevice, place: &Place) -> Bitmap {
    let mut bytes = vec![0; bitmap::BYTES];
    match disk.read(bitmap_block(place), &mut [&mut bytes]) {
        Ok(()) => Bitmap::from_bytes(bytes, place.regions()),
        Err(_) => Bitmap::full(place.regions()),
    }
}

/// The bitmap of a disk that is divided as `own` says, for an array that is as `place` says: they may differ in their end.
pub(super) fn read_bitmap_of(disk: &dyn BlockDevice, own: &Place, place: &Place) -> Bitmap {
    if own.region_shift == place.region_shift {
        return read_bitmap(disk, place);
    }
    // Bits that stand for regions of another size. There are none, as an array is enlarged when nothing is marked.
    if read_bitmap(disk, own).is_empty() { Bitmap::empty() } else { Bitmap::full(place.regions()) }
}

/// The superblock of a disk that belongs to an array, or did.
pub fn examine(disk: &dyn BlockDevice) -> Result<Option<Superblock>, DeviceError> {
    match Place::of(disk) {
        Ok(place) => read(disk, &place),
        Err(MirrorError::Device(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Makes a disk forget that it belongs to an array. The volume on it stays, as one of its own.
pub fn erase(disk: &dyn BlockDevice) -> Result<(), MirrorError> {
    let place = Place::of(disk)?;
    let nothing = vec![0; place.block_size as usize];
    for copy in COPIES {
        write_bytes(disk, place.records() + copy, &nothing)?;
    }
    disk.flush()?;
    Ok(())
}
