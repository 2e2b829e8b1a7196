//! Two disks that hold the same: a block device over both, which loses nothing when one of them does.
//!
//! Each disk carries a superblock in the first MiB of its private partition (`docs/journal-format.md` names the
//! partition): array id, its own place in it, generation, and what it knows of both disks' states; and a write-intent
//! bitmap: regions that may differ between the two. Addresses are those of the disks, equal on both; what is mirrored
//! is everything behind that first MiB.
//!
//! Rules that keep it right:
//! - A region's bit is safe on the disks before a write to the region starts. Bits are cleared by
//!   [`maintain`](Mirror::maintain) once what was written is safe on both.
//! - When a disk fails a write, the survivor's superblock says so, safely, before the write is acknowledged. From then
//!   on bits only accumulate: they say what the failed disk lacks.
//! - After a power cut, regions with bits are copied from one disk to the other before anything is read of them.
//! - Two disks that each know the other as failed have gone separate ways: that is refused, not guessed.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use lock_api::{Mutex, RawMutex};

use crate::device::{read_bytes, write_bytes};
use crate::partition::Layout;
use crate::volume::bytes::{get8, get32, get64, put};
use crate::{BlockDevice, Command, DeviceError};

const MAGIC: &[u8; 8] = b"NASARRAY";
const VERSION: u32 = 1;
/// Superblock copies and bitmap, in bytes from the private partition's start. The bitmap has two places, written in
/// turn with the superblock copy that belongs to it.
const SUPERBLOCKS: [u64; 2] = [0, 4096];
const BITMAP: u64 = 65536;
const BITMAP_BYTES: usize = 4096;
/// The least region that has a bit of its own.
const LEAST_REGION: u64 = 1 << 20;
/// What a copy reads and writes at a time.
const COPY: usize = 256 << 10;

/// What a disk of the array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// Holds everything.
    Good,
    /// Gone, or failed a write: holds an old state, if any.
    Failed,
    /// Is being brought up to date.
    Resyncing,
}

/// Why an array could not be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorError {
    /// A disk would not.
    Device(DeviceError),
    /// No disk has a superblock (or they are of other arrays, or of different layouts).
    NoArray,
    /// Each disk was used without the other: somebody has to say which one counts.
    SplitBrain,
    /// The only good disk is missing.
    Incomplete,
}

impl From<DeviceError> for MirrorError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// For the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The disks' states.
    pub members: [Member; 2],
    /// Regions that may differ, of all.
    pub dirty_regions: u32,
    /// All regions.
    pub regions: u32,
    /// Media errors repaired from the twin, by disk.
    pub repaired: [u32; 2],
    /// Differences that a scrub found (and made equal).
    pub differences: u32,
    /// Counts the changes of state.
    pub generation: u64,
}

/// What the lock guards.
struct State {
    disks: [Option<Arc<dyn BlockDevice>>; 2],
    members: [Member; 2],
    generation: u64,
    /// A bit for each region that may differ; as on the disks, but for clearing.
    bitmap: Vec<u8>,
    /// Regions written to since the last [`Mirror::maintain`]: their bits stay.
    recent: Vec<u8>,
    repaired: [u32; 2],
    differences: u32,
}

impl State {
    /// The disks that are written to.
    fn in_use(&self) -> [Option<Arc<dyn BlockDevice>>; 2] {
        let [one, two] = &self.disks;
        let [first, second] = self.members;
        let in_use = |disk: &Option<Arc<dyn BlockDevice>>, member: Member| {
            disk.clone().filter(|_| member != Member::Failed)
        };
        [in_use(one, first), in_use(two, second)]
    }
}

/// A mirror of two disks. As a [`BlockDevice`] it has the disks' addresses: its users take partitions of it.
pub struct Mirror<R: RawMutex> {
    state: Mutex<R, State>,
    /// Held by a copy, and by writes while there may be one.
    copying: Mutex<R, ()>,
    outstanding: [AtomicU32; 2],
    id: [u8; 16],
    blocks: u64,
    block_size: u32,
    /// First byte of the private partition: superblocks are there.
    private: u64,
    /// First byte and end of what is mirrored.
    first: u64,
    end: u64,
    region: u64,
}

/// A superblock as read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Superblock {
    id: [u8; 16],
    index: usize,
    generation: u64,
    members: [Member; 2],
}

/// A disk with a superblock, and its [`bounds`].
type Found = (Superblock, (u64, u64), Arc<dyn BlockDevice>);

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
    fn parse(bytes: &[u8]) -> Option<Self> {
        let sum = crc32fast::hash(bytes.get(..64)?);
        if !bytes.starts_with(MAGIC) || get32(bytes, 64) != sum || get32(bytes, 8) != VERSION {
            return None;
        }
        let index = usize::from(get8(bytes, 40));
        let members = [decode(get8(bytes, 41))?, decode(get8(bytes, 42))?];
        let id = bytes.get(16..32)?.try_into().ok()?;
        (index < 2).then_some(Self { id, index, generation: get64(bytes, 32), members })
    }

    fn emit(&self, block: u32) -> Vec<u8> {
        let mut bytes = vec![0; block as usize];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 16, &self.id);
        put(&mut bytes, 32, &self.generation.to_le_bytes());
        let [first, second] = self.members;
        put(&mut bytes, 40, &[self.index as u8, encode(first), encode(second)]);
        let sum = crc32fast::hash(bytes.get(..64).unwrap_or(&[]));
        put(&mut bytes, 64, &sum.to_le_bytes());
        bytes
    }
}

/// First byte of a divided disk's private partition, and the end of its data partition.
fn bounds(disk: &dyn BlockDevice) -> Result<(u64, u64), MirrorError> {
    let layout = Layout::read(disk)?;
    let size = u64::from(disk.block_size());
    let private = layout.private().ok_or(MirrorError::NoArray)?;
    let end = layout.partitions.iter().map(|part| part.first + part.blocks).max().unwrap_or(0);
    if private.blocks * size < 2 << 20 {
        return Err(MirrorError::NoArray);
    }
    Ok((private.first * size, end * size))
}

fn read_superblock(disk: &dyn BlockDevice, private: u64) -> Result<Option<Superblock>, DeviceError> {
    let mut newest: Option<Superblock> = None;
    for place in SUPERBLOCKS {
        let mut bytes = vec![0; disk.block_size() as usize];
        read_bytes(disk, private + place, &mut bytes)?;
        if let Some(found) = Superblock::parse(&bytes)
            && newest.is_none_or(|newest| found.generation > newest.generation)
        {
            newest = Some(found);
        }
    }
    Ok(newest)
}

impl<R: RawMutex> Mirror<R> {
    /// Makes an array of two disks that have just been divided alike (see
    /// [`format::divide`](crate::format::divide)). `equal`: both are known to hold the same (all zeros, say); else the
    /// second is brought up to date by [`resync`](Self::resync).
    pub fn create(disks: [Arc<dyn BlockDevice>; 2], id: [u8; 16], equal: bool) -> Result<Self, MirrorError> {
        let [one, two] = &disks;
        let (private, end) = bounds(&**one)?;
        if bounds(&**two)? != (private, end) || one.block_size() != two.block_size() {
            return Err(MirrorError::NoArray);
        }
        let second = if equal { Member::Good } else { Member::Resyncing };
        let fill = if equal { 0 } else { 0xFF };
        let mirror = Self::with(
            disks.map(Some),
            [Member::Good, second],
            private,
            end,
            id,
            1,
            vec![fill; BITMAP_BYTES],
        )?;
        {
            let mut state = mirror.state.lock();
            mirror.write_bitmap(&mut state)?;
            mirror.write_superblocks(&mut state)?;
        }
        Ok(mirror)
    }

    /// Puts an array together from what is there (at least one good disk), and makes regions equal that a power cut may
    /// have left different.
    pub fn assemble(disks: [Option<Arc<dyn BlockDevice>>; 2]) -> Result<Self, MirrorError> {
        let mut found: [Option<Found>; 2] = [None, None];
        for disk in disks.into_iter().flatten() {
            // A disk that cannot be read, or is no member, is as good as missing.
            let Ok((private, end)) = bounds(&*disk) else { continue };
            let Ok(Some(superblock)) = read_superblock(&*disk, private) else { continue };
            if let Some(place) = found.get_mut(superblock.index) {
                *place = Some((superblock, (private, end), disk));
            }
        }
        let (newest, older) = match &found {
            [Some(one), Some(two)] => {
                if one.0.id != two.0.id || one.1 != two.1 {
                    return Err(MirrorError::NoArray);
                }
                if one.0.members[1] == Member::Failed && two.0.members[0] == Member::Failed {
                    return Err(MirrorError::SplitBrain);
                }
                // The newer knows both states; of a resync in progress, the good disk counts.
                let newer = if two.0.generation > one.0.generation { two } else { one };
                let [first, _] = newer.0.members;
                let other_is_good = newer.0.members.get(1 - newer.0.index) == Some(&Member::Good);
                let own_is_good = newer.0.members.get(newer.0.index) == Some(&Member::Good);
                let first_counts =
                    if own_is_good == other_is_good { newer.0.index == 0 } else { first == Member::Good };
                if first_counts { (one, Some(two)) } else { (two, Some(one)) }
            }
            [Some(one), None] | [None, Some(one)] => (one, None),
            [None, None] => return Err(MirrorError::NoArray),
        };
        let (superblock, (private, end), disk) = newest;
        let own = superblock.index;
        let known = older.filter(|older| older.0.generation > superblock.generation);
        let mut members = known.map_or(superblock.members, |older| older.0.members);
        // The newest superblock is on a disk that was good when it was written, or it is the other's leftover.
        if members.get(own) != Some(&Member::Good) {
            return Err(MirrorError::Incomplete);
        }
        let mut bitmap = vec![0; BITMAP_BYTES];
        read_bytes(&**disk, private + BITMAP, &mut bitmap)?;
        let other = 1 - own;
        match older {
            None => {
                if let Some(member) = members.get_mut(other) {
                    *member = Member::Failed;
                }
            }
            Some((older, _, twin)) => {
                // What either of them meant to write may differ.
                let mut more = vec![0; BITMAP_BYTES];
                if read_bytes(&**twin, private + BITMAP, &mut more).is_ok() {
                    bitmap.iter_mut().zip(&more).for_each(|(bits, more)| *bits |= more);
                } else {
                    bitmap.fill(0xFF);
                }
                let lags = older.generation != superblock.generation || bitmap.iter().any(|&bits| bits != 0);
                // A failed disk that is back lacks what the bitmap says, and a resync goes on.
                if let Some(member) = members.get_mut(other)
                    && lags
                {
                    *member = Member::Resyncing;
                }
            }
        }
        let latest = older.map_or(0, |older| older.0.generation).max(superblock.generation);
        let (id, generation) = (superblock.id, latest + 1);
        let (private, end) = (*private, *end);
        let disks = found.map(|found| found.map(|(_, _, disk)| disk));
        let mirror = Self::with(disks, members, private, end, id, generation, bitmap)?;
        {
            let mut state = mirror.state.lock();
            mirror.write_bitmap(&mut state)?;
            mirror.write_superblocks(&mut state)?;
        }
        Ok(mirror)
    }

    fn with(
        disks: [Option<Arc<dyn BlockDevice>>; 2],
        members: [Member; 2],
        private: u64,
        end: u64,
        id: [u8; 16],
        generation: u64,
        bitmap: Vec<u8>,
    ) -> Result<Self, MirrorError> {
        let any = disks.iter().flatten().next().ok_or(MirrorError::NoArray)?;
        let block_size = any.block_size();
        let blocks = disks.iter().flatten().map(|disk| disk.blocks()).min().unwrap_or(0);
        let first = private + (1 << 20);
        let span = end.saturating_sub(first);
        let region = span.div_ceil(BITMAP_BYTES as u64 * 8).max(LEAST_REGION).next_power_of_two();
        let mut bitmap = bitmap;
        // Bits behind the last region mean nothing.
        let regions = span.div_ceil(region) as usize;
        for (number, bits) in bitmap.iter_mut().enumerate() {
            let left = regions.saturating_sub(number * 8).min(8);
            *bits &= (0xFFu16 >> (8 - left)) as u8;
        }
        Ok(Self {
            state: Mutex::new(State {
                disks,
                members,
                generation,
                bitmap,
                recent: vec![0; BITMAP_BYTES],
                repaired: [0; 2],
                differences: 0,
            }),
            copying: Mutex::new(()),
            outstanding: [AtomicU32::new(0), AtomicU32::new(0)],
            id,
            blocks,
            block_size,
            private,
            first,
            end,
            region,
        })
    }

    /// For the console.
    pub fn status(&self) -> Status {
        let state = self.state.lock();
        Status {
            members: state.members,
            dirty_regions: state.bitmap.iter().map(|bits| bits.count_ones()).sum(),
            regions: self.regions(),
            repaired: state.repaired,
            differences: state.differences,
            generation: state.generation,
        }
    }

    /// Takes a disk out, as the console or a driver that lost it says. Refused for the last good one.
    pub fn fail(&self, index: usize) -> Result<(), MirrorError> {
        let mut state = self.state.lock();
        self.fail_member(&mut state, index)
    }

    /// Puts a disk in the place of a failed one: it is brought up to date by [`resync`](Self::resync), only where it
    /// lacks something if it is the one that was there before, else all over. It has to be divided like the other.
    pub fn replace(&self, index: usize, disk: Arc<dyn BlockDevice>) -> Result<(), MirrorError> {
        if bounds(&*disk)? != (self.private, self.end) || disk.block_size() != self.block_size {
            return Err(MirrorError::NoArray);
        }
        let known = read_superblock(&*disk, self.private)?;
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.members.get(index) != Some(&Member::Failed) {
            return Err(MirrorError::NoArray);
        }
        match known {
            Some(superblock) if superblock.id == self.id && superblock.index == index => {
                // It went its own way if it ever took the other for failed.
                if superblock.members.get(1 - index) == Some(&Member::Failed) {
                    return Err(MirrorError::SplitBrain);
                }
                if superblock.members.get(index) != Some(&Member::Good) {
                    self.mark_all(state);
                }
                // What it meant to write when it was lost may be there in part.
                let mut more = vec![0; BITMAP_BYTES];
                read_bytes(&*disk, self.private + BITMAP, &mut more)?;
                state.bitmap.iter_mut().zip(&more).for_each(|(bits, more)| *bits |= more);
            }
            _ => self.mark_all(state),
        }
        if let (Some(place), Some(member)) = (state.disks.get_mut(index), state.members.get_mut(index)) {
            *place = Some(disk);
            *member = Member::Resyncing;
        }
        state.generation += 1;
        self.write_bitmap(state)?;
        self.write_superblocks(state)
    }

    /// Copies the next region that the resyncing disk lacks. True when none is left and the disk is good. For a thread
    /// that does this at a pace that leaves room for others.
    pub fn resync(&self) -> Result<bool, MirrorError> {
        let _alone = self.copying.lock();
        let (region, from, to, target) = {
            let mut state = self.state.lock();
            let Some(target) = state.members.iter().position(|&member| member == Member::Resyncing) else {
                return Ok(true);
            };
            let bit = state.bitmap.iter().position(|&bits| bits != 0);
            let Some(byte) = bit else {
                // All is copied: it counts once it is safe.
                if let Some(Some(disk)) = state.disks.get(target) {
                    disk.flush()?;
                }
                if let Some(member) = state.members.get_mut(target) {
                    *member = Member::Good;
                }
                state.generation += 1;
                self.write_superblocks(&mut state)?;
                return Ok(true);
            };
            let bits = state.bitmap.get(byte).copied().unwrap_or(0);
            let region = byte as u64 * 8 + u64::from(bits.trailing_zeros());
            let (Some(Some(from)), Some(Some(to))) = (state.disks.get(1 - target), state.disks.get(target))
            else {
                return Err(MirrorError::Incomplete);
            };
            (region, from.clone(), to.clone(), target)
        };
        let copied = self.for_each_piece(region, |offset, buffer| {
            read_bytes(&*from, offset, buffer)?;
            write_bytes(&*to, offset, buffer)
        });
        let mut state = self.state.lock();
        match copied.and_then(|()| to.flush()) {
            Ok(()) => {
                clear_bit(&mut state.bitmap, region);
                self.write_bitmap(&mut state)?;
                Ok(false)
            }
            Err(error) => {
                self.fail_member(&mut state, target)?;
                Err(MirrorError::Device(error))
            }
        }
    }

    /// Compares a region of both disks and makes them equal, the first counting. Says whether they were. For a thread
    /// that goes through all [`regions`](Self::regions).
    pub fn scrub(&self, region: u32) -> Result<bool, MirrorError> {
        let _alone = self.copying.lock();
        let (one, two) = {
            let state = self.state.lock();
            match (&state.disks, state.members) {
                ([Some(one), Some(two)], [Member::Good, Member::Good]) => (one.clone(), two.clone()),
                _ => return Err(MirrorError::Incomplete),
            }
        };
        let mut equal = true;
        let mut twin = vec![0; COPY];
        self.for_each_piece(u64::from(region), |offset, buffer| {
            let Some(twin) = twin.get_mut(..buffer.len()) else { return Ok(()) };
            match (read_bytes(&*one, offset, buffer), read_bytes(&*two, offset, twin)) {
                (Ok(()), Ok(())) if buffer == twin => Ok(()),
                (Ok(()), _) => {
                    equal = false;
                    write_bytes(&*two, offset, buffer)
                }
                (Err(_), Ok(())) => {
                    equal = false;
                    write_bytes(&*one, offset, twin)
                }
                (Err(error), Err(_)) => Err(error),
            }
        })?;
        if !equal {
            self.state.lock().differences += 1;
        }
        Ok(equal)
    }

    /// How many regions there are.
    pub fn regions(&self) -> u32 {
        self.end.saturating_sub(self.first).div_ceil(self.region) as u32
    }

    /// For a timer, every few seconds: clears the bits of regions that were not written to since the last call and are
    /// safe on both disks.
    pub fn maintain(&self) -> Result<(), MirrorError> {
        let recent = {
            let mut state = self.state.lock();
            if state.members != [Member::Good; 2] || state.bitmap.iter().all(|&bits| bits == 0) {
                return Ok(());
            }
            core::mem::replace(&mut state.recent, vec![0; BITMAP_BYTES])
        };
        self.flush_members(&mut || ())?;
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.members == [Member::Good; 2] {
            let mut changed = false;
            for ((bits, recent), new) in state.bitmap.iter_mut().zip(&recent).zip(&state.recent) {
                let keep = *bits & (recent | new);
                changed |= keep != *bits;
                *bits = keep;
            }
            if changed {
                self.write_bitmap(state)?;
            }
        }
        Ok(())
    }

    /// Calls `visit` with the offset of each piece of a region and a buffer as long as the piece.
    fn for_each_piece(
        &self,
        region: u64,
        mut visit: impl FnMut(u64, &mut [u8]) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let start = self.first + region * self.region;
        let end = (start + self.region).min(self.end);
        let mut buffer = vec![0; COPY];
        let mut offset = start;
        while offset < end {
            let length = (end - offset).min(COPY as u64);
            if let Some(piece) = buffer.get_mut(..length as usize) {
                visit(offset, piece)?;
            }
            offset += length;
        }
        Ok(())
    }

    fn mark_all(&self, state: &mut State) {
        for region in 0..u64::from(self.regions()) {
            set_bit(&mut state.bitmap, region);
        }
    }

    /// Puts the bitmap on the disks in use, safely. One sector's bits may be torn from another's, but each is old or
    /// new, and either is safe.
    fn write_bitmap(&self, state: &mut State) -> Result<(), MirrorError> {
        self.on_members(state, |disk, bitmap, _| {
            write_bytes(disk, self.private + BITMAP, bitmap)?;
            disk.flush()
        })
    }

    fn write_superblocks(&self, state: &mut State) -> Result<(), MirrorError> {
        let (id, generation, members) = (self.id, state.generation, state.members);
        let place = SUPERBLOCKS.get((generation % 2) as usize).copied().unwrap_or(0);
        self.on_members(state, |disk, _, index| {
            let superblock = Superblock { id, index, generation, members };
            write_bytes(disk, self.private + place, &superblock.emit(disk.block_size()))?;
            disk.flush()
        })
    }

    /// Runs `write` on the disks in use; one that fails is failed.
    fn on_members(
        &self,
        state: &mut State,
        write: impl Fn(&dyn BlockDevice, &[u8], usize) -> Result<(), DeviceError>,
    ) -> Result<(), MirrorError> {
        let mut failed = None;
        for (index, (disk, member)) in state.disks.iter().zip(state.members).enumerate() {
            if let Some(disk) = disk
                && member != Member::Failed
                && write(&**disk, &state.bitmap, index).is_err()
            {
                failed = Some(index);
            }
        }
        match failed {
            Some(index) => self.fail_member(state, index),
            None => Ok(()),
        }
    }

    /// Notes, safely on the other disk, that one has failed.
    fn fail_member(&self, state: &mut State, index: usize) -> Result<(), MirrorError> {
        let other = 1 - index.min(1);
        if state.members.get(other) != Some(&Member::Good) {
            return Err(MirrorError::Incomplete);
        }
        if let Some(member) = state.members.get_mut(index) {
            if *member == Member::Failed {
                return Ok(());
            }
            *member = Member::Failed;
        }
        log::error!("mirror: disk {index} has failed, going on with disk {other} alone");
        // Whatever was written since the last flush may be missing there.
        for (bits, recent) in state.bitmap.iter_mut().zip(&state.recent) {
            *bits |= recent;
        }
        state.generation += 1;
        let superblock =
            Superblock { id: self.id, index: other, generation: state.generation, members: state.members };
        let place = SUPERBLOCKS.get((state.generation % 2) as usize).copied().unwrap_or(0);
        let Some(Some(disk)) = state.disks.get(other) else { return Err(MirrorError::Incomplete) };
        write_bytes(&**disk, self.private + BITMAP, &state.bitmap)?;
        write_bytes(&**disk, self.private + place, &superblock.emit(self.block_size))?;
        disk.flush()?;
        Ok(())
    }

    /// The disks to read from, the better first.
    fn readers(&self, block: u64, bytes: u64) -> [Option<(usize, Arc<dyn BlockDevice>)>; 2] {
        let state = self.state.lock();
        let offset = block * u64::from(self.block_size);
        let readable = |index: usize| {
            let disk = state.disks.get(index)?.clone()?;
            let good = match state.members.get(index)? {
                Member::Good => true,
                Member::Failed => false,
                Member::Resyncing => !self.touches_dirty(&state.bitmap, offset, bytes),
            };
            good.then_some((index, disk))
        };
        let (one, two) = (readable(0), readable(1));
        let busy =
            |index: usize| self.outstanding.get(index).map_or(0, |count| count.load(Ordering::Relaxed));
        // With equal load, each disk takes turns by MiB, so that a stream stays on one for a while.
        let second_first = match busy(0).cmp(&busy(1)) {
            core::cmp::Ordering::Less => false,
            core::cmp::Ordering::Greater => true,
            core::cmp::Ordering::Equal => (offset >> 20) % 2 == 1,
        };
        if second_first { [two, one] } else { [one, two] }
    }

    fn region_range(&self, offset: u64, bytes: u64) -> (u64, u64) {
        let end = (offset + bytes).min(self.end);
        let start = offset.max(self.first);
        if start >= end {
            return (0, 0);
        }
        ((start - self.first) / self.region, (end - 1 - self.first) / self.region + 1)
    }

    fn touches_dirty(&self, bitmap: &[u8], offset: u64, bytes: u64) -> bool {
        let (from, to) = self.region_range(offset, bytes);
        (from..to).any(|region| has_bit(bitmap, region))
    }
}

fn has_bit(bitmap: &[u8], region: u64) -> bool {
    get8(bitmap, (region / 8) as usize) >> (region % 8) & 1 != 0
}

fn set_bit(bitmap: &mut [u8], region: u64) {
    if let Some(bits) = bitmap.get_mut((region / 8) as usize) {
        *bits |= 1 << (region % 8);
    }
}

fn clear_bit(bitmap: &mut [u8], region: u64) {
    if let Some(bits) = bitmap.get_mut((region / 8) as usize) {
        *bits &= !(1 << (region % 8));
    }
}

fn device_error(error: MirrorError) -> DeviceError {
    match error {
        MirrorError::Device(error) => error,
        _ => DeviceError::Gone,
    }
}

impl<R: RawMutex + Send + Sync> BlockDevice for Mirror<R> {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        match command {
            Command::Read { block, buffers } => self.read_either(block, buffers, meanwhile),
            Command::Write { block, buffers } => self.write_both(block, buffers, meanwhile),
            Command::Flush => self.flush_members(meanwhile),
        }
    }
}

/// What a command gave on each disk; `None` where it was not sent.
type Answers = [Option<Result<(), DeviceError>>; 2];

/// Carries out a command on both disks at once.
fn on_both<'a, 'b: 'a>(
    disks: &[Option<Arc<dyn BlockDevice>>; 2],
    command: impl Fn() -> Command<'a, 'b>,
    meanwhile: &mut dyn FnMut(),
) -> Answers {
    let [one, two] = disks;
    let mut second = None;
    let mut beside = || match two {
        Some(two) => second = Some(two.execute(command(), meanwhile)),
        None => meanwhile(),
    };
    let first = match one {
        Some(one) => Some(one.execute(command(), &mut beside)),
        None => {
            beside();
            None
        }
    };
    [first, second]
}

impl<R: RawMutex> Mirror<R> {
    fn read_either(
        &self,
        block: u64,
        buffers: &mut [&mut [u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DeviceError> {
        let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let mut bad: Option<usize> = None;
        let mut result = Err(DeviceError::Gone);
        let mut meanwhile = Some(meanwhile);
        for (index, disk) in self.readers(block, bytes).into_iter().flatten() {
            if let Some(count) = self.outstanding.get(index) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            let command = Command::Read { block, buffers };
            result = match meanwhile.take() {
                Some(meanwhile) => disk.execute(command, meanwhile),
                None => disk.execute(command, &mut || ()),
            };
            if let Some(count) = self.outstanding.get(index) {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            match result {
                Ok(()) => break,
                // The caller's mistake, not the disk's.
                Err(DeviceError::OutOfRange | DeviceError::Misaligned) => return result,
                Err(_) => bad = bad.or(Some(index)),
            }
        }
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        if let (Ok(()), Some(index)) = (result, bad) {
            self.repair(index, block, buffers);
        }
        result
    }

    /// A write is there when both disks have it, or one has and the other is marked failed.
    fn write_both(
        &self,
        block: u64,
        buffers: &[&[u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DeviceError> {
        let resyncing = self.state.lock().members.contains(&Member::Resyncing);
        if !resyncing {
            return self.write_members(block, buffers, meanwhile);
        }
        let result = {
            // A copy must not bring an old content over this write. Nothing else goes beside it: that might wait for
            // this very lock.
            let _alone = self.copying.lock();
            self.write_members(block, buffers, &mut || ())
        };
        meanwhile();
        result
    }

    fn write_members(
        &self,
        block: u64,
        buffers: &[&[u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DeviceError> {
        let disks = match self.mark(block, buffers) {
            Ok(disks) => disks,
            Err(error) => {
                meanwhile();
                return Err(error);
            }
        };
        let answers = on_both(&disks, || Command::Write { block, buffers }, meanwhile);
        for answer in answers.into_iter().flatten() {
            if let Err(error @ (DeviceError::OutOfRange | DeviceError::Misaligned)) = answer {
                return Err(error);
            }
        }
        let written = answers.contains(&Some(Ok(())));
        self.settle(answers, written)
    }

    /// Notes safely that a write's regions may differ; gives the disks to write to.
    fn mark(&self, block: u64, buffers: &[&[u8]]) -> Result<[Option<Arc<dyn BlockDevice>>; 2], DeviceError> {
        let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let offset = block * u64::from(self.block_size);
        let (from, to) = self.region_range(offset, bytes);
        let mut state = self.state.lock();
        let mut new = false;
        for region in from..to {
            new |= !has_bit(&state.bitmap, region);
            set_bit(&mut state.bitmap, region);
            set_bit(&mut state.recent, region);
        }
        if new {
            self.write_bitmap(&mut state).map_err(device_error)?;
        }
        Ok(state.in_use())
    }

    /// Flushes the disks in use; one that fails is failed, unless it is the last good one.
    fn flush_members(&self, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let (disks, members) = {
            let state = self.state.lock();
            (state.in_use(), state.members)
        };
        let answers = on_both(&disks, || Command::Flush, meanwhile);
        let good = |(answer, member)| answer == Some(Ok(())) && member == Member::Good;
        self.settle(answers, answers.into_iter().zip(members).any(good))
    }

    /// What a command's answers mean: a disk that failed it is failed, safely, if the command `succeeded` elsewhere.
    fn settle(&self, answers: Answers, succeeded: bool) -> Result<(), DeviceError> {
        let mut failed =
            answers.into_iter().enumerate().filter_map(|(index, answer)| Some((index, answer?.err()?)));
        match failed.next_back() {
            None => Ok(()),
            Some((index, _)) if succeeded => {
                self.fail_member(&mut self.state.lock(), index).map_err(device_error)
            }
            Some((_, error)) => Err(error),
        }
    }

    /// Writes what the twin had over a place that could not be read: the disk puts it somewhere else, or is failed.
    fn repair(&self, index: usize, block: u64, buffers: &[&mut [u8]]) {
        let _alone = self.copying.lock();
        let mut state = self.state.lock();
        let Some(Some(disk)) = state.disks.get(index).cloned() else { return };
        let pieces: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
        // Under the lock: a write that came meanwhile must not be undone. (It marked its region first.)
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self.touches_dirty(&state.bitmap, block * u64::from(self.block_size), bytes) {
            return;
        }
        match disk.write(block, &pieces) {
            Ok(()) => {
                if let Some(count) = state.repaired.get_mut(index) {
                    *count += 1;
                }
            }
            Err(_) => {
                let failed = self.fail_member(&mut state, index);
                if failed.is_err() {
                    log::error!("mirror: disk {index} cannot be written to either");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
