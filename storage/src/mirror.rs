//! Two disks that hold the same: a block device over both, which loses nothing when one of them does.
//!
//! Each disk carries a superblock and a write-intent bitmap in the first MiB of its private partition;
//! `docs/array-format.md` specifies both. Addresses are those of the disks, equal on both; what is mirrored is everything
//! from behind that first MiB to the end of the data partition.
//!
//! Rules that keep it right:
//! - A region's bit is safe on the disks before a write to the region starts. Bits are cleared by
//!   [`maintain`](Mirror::maintain) once what was written is safe on both.
//! - When a disk fails a write or a flush, the survivor's superblock says so, safely, before that is acknowledged, and
//!   nothing is acknowledged before it does. From then on bits only accumulate: they say what the failed disk lacks.
//! - A disk that may differ is not read where it may, until a copy has made it equal.
//! - A copy and a write of the same place never overlap in time.
//! - Two disks that each know the other as failed have gone separate ways: that is refused, not guessed.
//!
//! Locks: `records` is held while superblocks or the bitmap are written, and taken before `state`, which is never held
//! while a disk works. A copy claims its place only when no write is in progress there, so a thread that begins
//! a second write while its first is in flight never waits for itself.

mod assemble;
mod bitmap;
mod copy;
mod enlarge;
mod records;
mod superblock;
mod transfer;

use alloc::sync::Arc;
use alloc::vec::Vec;

use lock_api::{Mutex, RawMutex};

use crate::partition::{Layout, Role};
use crate::{BlockDevice, Command, DeviceError, Slice};
pub use assemble::{divide_alike, is_untouched};
use bitmap::Bitmap;
pub use copy::Step;
pub use superblock::{Superblock, erase, examine};

/// The least region that has a bit of its own, in bytes.
const LEAST_REGION: u64 = 1 << 20;
/// What is mirrored begins so far behind the private partition's start.
const RECORDS: u64 = 1 << 20;

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

/// Why an array could not be put together or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorError {
    /// A disk would not.
    Device(DeviceError),
    /// No disk has a superblock.
    NoArray,
    /// Disks of different arrays, or two that claim the same place: somebody has to say which one counts.
    Strangers,
    /// Each disk was used without the other: somebody has to say which one counts.
    SplitBrain,
    /// The only good disk is missing, or would be.
    Incomplete,
    /// The disk is not divided like the array's, or too small.
    Layout,
    /// The disk is not the one that was in this place before: all of it would be overwritten.
    Foreign,
}

impl From<DeviceError> for MirrorError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl core::fmt::Display for MirrorError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Device(error) => write!(formatter, "{error}"),
            Self::NoArray => formatter.write_str("no disk belongs to an array"),
            Self::Strangers => formatter.write_str("the disks do not belong together"),
            Self::SplitBrain => formatter.write_str("each disk was used without the other"),
            Self::Incomplete => formatter.write_str("the array's only good disk is missing"),
            Self::Layout => formatter.write_str("the disk is too small, or not divided like the array's"),
            Self::Foreign => formatter.write_str("the disk carries something else"),
        }
    }
}

/// For the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The disks' states.
    pub members: [Member; 2],
    /// Regions with a write in progress or not long ago, or that a disk lacks.
    pub dirty_regions: u32,
    /// Regions that the resyncing disk lacks, and how many there were when its resync began.
    pub lacking: (u32, u32),
    /// Places of the good disk that the resync could not read.
    pub unreadable: u32,
    /// Media errors repaired from the twin, by disk.
    pub repaired: [u32; 2],
    /// The scrub that runs: bytes done, of all.
    pub scrub: Option<(u64, u64)>,
    /// Blocks in which the scrub that runs, or the last one, found the disks different (and made them equal).
    pub differences: u32,
    /// A scrub has gone through to its end since the start.
    pub scrubbed: bool,
    /// What runs as a scrub makes the room equal into which the array has grown.
    pub settles: bool,
    /// Counts the changes of state.
    pub generation: u64,
}

/// Held by who works on a place; others who need it wait for it.
type Ticket<R> = Arc<Mutex<R, ()>>;

/// The disks that a command goes to.
type Disks = [Option<Arc<dyn BlockDevice>>; 2];

/// A range of bytes.
type Range = (u64, u64);

/// A write in progress, or a place claimed by a copy.
struct Busy<R: RawMutex> {
    range: Range,
    claim: bool,
    ticket: Ticket<R>,
}

/// How far a resync has come.
#[derive(Default)]
struct Resync {
    /// The region it is in, and the bytes of it that are done.
    region: u64,
    done: u64,
    /// Regions that were lacking when it began.
    total: u32,
    /// Blocks that could not be read in the pass so far, in all and in this region.
    unreadable: u32,
    unreadable_here: u32,
    /// Blocks that could not be read in the pass before.
    unreadable_before: u32,
}

/// What the lock guards.
struct State<R: RawMutex> {
    disks: Disks,
    members: [Member; 2],
    /// Drawn for each disk when it joined: an old disk that comes back is not taken for the one that replaced it.
    serials: [u64; 2],
    generation: u64,
    /// The superblocks do not say yet that a disk has failed: nothing may be acknowledged.
    unrecorded: bool,
    /// Regions that may differ; what is set here is safe on the disks.
    bitmap: Bitmap,
    /// Regions written to since the last [`Mirror::maintain`]: their bits stay.
    recent: Bitmap,
    /// Regions that the resyncing disk lacks. All of them have their bit in `bitmap`.
    lacks: Bitmap,
    busy: Vec<Busy<R>>,
    /// Reads in progress, by disk.
    reading: [u32; 2],
    /// Clients' commands so far.
    commands: u32,
    repaired: [u32; 2],
    resync: Resync,
    /// Where the scrub is, in bytes from the start of what is mirrored.
    scrub: Option<u64>,
    /// It began at the start; else it makes new room equal, where differences mean nothing.
    scrubs_all: bool,
    /// The superblock's [`fresh`](Superblock::fresh).
    fresh: u32,
    /// It is about to let go of its disks: nothing begins in the background.
    closing: bool,
    differences: u32,
    scrubbed: bool,
}

impl<R: RawMutex> State<R> {
    /// The disks that are written to.
    fn in_use(&self) -> Disks {
        let [one, two] = &self.disks;
        let [first, second] = self.members;
        let in_use = |disk: &Option<Arc<dyn BlockDevice>>, member: Member| {
            disk.clone().filter(|_| member != Member::Failed)
        };
        [in_use(one, first), in_use(two, second)]
    }

    /// Who works in `range`; only copies, if `claims_only`.
    fn overlapping(&self, range: Range, claims_only: bool) -> Option<Ticket<R>> {
        let meets = |busy: &&Busy<R>| {
            busy.range.0 < range.1 && range.0 < busy.range.1 && (busy.claim || !claims_only)
        };
        self.busy.iter().find(meets).map(|busy| busy.ticket.clone())
    }

    fn enter(&mut self, range: Range, claim: bool, ticket: &Ticket<R>) {
        self.busy.push(Busy { range, claim, ticket: ticket.clone() });
    }

    fn leave(&mut self, ticket: &Ticket<R>) {
        if let Some(place) = self.busy.iter().position(|busy| Arc::ptr_eq(&busy.ticket, ticket)) {
            self.busy.swap_remove(place);
        }
    }

    fn set_member(&mut self, index: usize, state: Member) {
        if let Some(member) = self.members.get_mut(index) {
            *member = state;
        }
    }

    fn set_disk(&mut self, index: usize, disk: Option<Arc<dyn BlockDevice>>) {
        if let Some(place) = self.disks.get_mut(index) {
            *place = disk;
        }
    }

    /// A disk has failed. Nothing is acknowledged until the other's superblock says so.
    fn take_out(&mut self, index: usize) {
        log::error!("array: disk {index} has failed, going on with disk {} alone", 1 - index.min(1));
        self.set_member(index, Member::Failed);
        self.set_disk(index, None);
        self.scrub = None;
        self.unrecorded = true;
    }

    /// Whether `disk` is (still) in a place.
    fn is_at(&self, index: usize, disk: &Arc<dyn BlockDevice>) -> bool {
        self.disks.get(index).and_then(Option::as_ref).is_some_and(|now| Arc::ptr_eq(now, disk))
    }

    /// The resyncing disk's place.
    fn resyncing(&self) -> Option<usize> {
        self.members.iter().position(|&member| member == Member::Resyncing)
    }
}

/// Where the parts of the array's disks are: alike on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    block_size: u32,
    /// First block and length of the private partition.
    private: (u64, u64),
    /// First block and length of the data partition.
    data: (u64, u64),
    /// A region's size as a power of two.
    region_shift: u32,
}

impl Place {
    /// Of a disk that the appliance has divided: a private partition, and one data partition behind it.
    fn of(disk: &dyn BlockDevice) -> Result<Self, MirrorError> {
        let layout = Layout::read(disk)?;
        let private = layout.private().ok_or(MirrorError::Layout)?;
        let mut data = layout.partitions.iter().filter(|part| part.role == Role::Data);
        let (Some(data), None) = (data.next(), data.next()) else { return Err(MirrorError::Layout) };
        let block_size = disk.block_size();
        let fits =
            private.blocks.checked_mul(u64::from(block_size)).is_some_and(|bytes| bytes >= 2 * RECORDS);
        if !fits || private.first + private.blocks > data.first {
            return Err(MirrorError::Layout);
        }
        let (private, data) = ((private.first, private.blocks), (data.first, data.blocks));
        let mut place = Self { block_size, private, data, region_shift: 0 };
        let span = place.end().saturating_sub(place.first());
        place.region_shift =
            span.div_ceil(bitmap::BITS).max(LEAST_REGION).next_power_of_two().trailing_zeros();
        Ok(place)
    }

    /// Whether another place differs from this one in nothing but the data partition's end.
    fn starts_like(&self, other: &Self) -> bool {
        let start = |place: &Self| (place.block_size, place.private, place.data.0);
        start(self) == start(other)
    }

    fn bytes(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(u64::from(self.block_size))
    }

    /// The first byte of the private partition.
    fn records(&self) -> u64 {
        self.bytes(self.private.0)
    }

    /// First byte of what is mirrored.
    fn first(&self) -> u64 {
        self.records() + RECORDS
    }

    /// The end of what is mirrored.
    fn end(&self) -> u64 {
        self.bytes(self.data.0 + self.data.1)
    }

    fn regions(&self) -> u32 {
        let span = self.end().saturating_sub(self.first());
        (span.saturating_add((1 << self.region_shift) - 1) >> self.region_shift) as u32
    }

    /// The regions that a range touches, as first and end.
    fn regions_of(&self, range: Range) -> Range {
        let (start, end) = (range.0.max(self.first()), range.1.min(self.end()));
        if start >= end {
            return (0, 0);
        }
        let region = |offset: u64| (offset - self.first()) >> self.region_shift;
        (region(start), region(end - 1) + 1)
    }

    /// The bytes of a region.
    fn region(&self, region: u64) -> Range {
        let start = self.first() + (region << self.region_shift);
        (start, (start + (1 << self.region_shift)).min(self.end()))
    }
}

/// A mirror of two disks. As a [`BlockDevice`] it has the disks' addresses; its users take the [`journal`](Self::journal)
/// and the [`data`](Self::data) partition of it.
pub struct Mirror<R: RawMutex> {
    records: Mutex<R, ()>,
    state: Mutex<R, State<R>>,
    id: [u8; 16],
    place: Place,
}

impl<R: RawMutex> Mirror<R> {
    /// For the console.
    pub fn status(&self) -> Status {
        let state = self.state.lock();
        let span = self.place.end() - self.place.first();
        Status {
            members: state.members,
            dirty_regions: state.bitmap.count(),
            lacking: (state.lacks.count(), state.resync.total),
            unreadable: state.resync.unreadable.max(state.resync.unreadable_before),
            repaired: state.repaired,
            scrub: state.scrub.map(|done| (done, span)),
            differences: state.differences,
            scrubbed: state.scrubbed,
            settles: state.scrub.is_some() && !state.scrubs_all,
            generation: state.generation,
        }
    }

    /// What tells this array from all others.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The place of a disk, if it is in use.
    pub fn index_of(&self, disk: &Arc<dyn BlockDevice>) -> Option<usize> {
        let disks = self.state.lock().in_use();
        disks.iter().position(|place| place.as_ref().is_some_and(|place| Arc::ptr_eq(place, disk)))
    }

    /// The disk in a place, if it is in use.
    pub fn disk(&self, index: usize) -> Option<Arc<dyn BlockDevice>> {
        self.state.lock().in_use().get(index).cloned().flatten()
    }

    /// Lets go of the disks: from now on they are somebody else's. When this returns, nothing is in progress any more.
    pub fn release(&self) {
        {
            let _records = self.records.lock();
            self.state.lock().disks = [None, None];
        }
        loop {
            let busy = self.state.lock().overlapping((0, u64::MAX), false);
            let Some(ticket) = busy else { return };
            wait(&ticket);
        }
    }

    /// Clients' commands so far: who copies in the background looks whether there were new ones.
    pub fn commands(&self) -> u32 {
        self.state.lock().commands
    }

    /// How many regions there are.
    pub fn regions(&self) -> u32 {
        self.place.regions()
    }

    /// Where the array's journal is: see [`Layout::journal`].
    pub fn journal(self: &Arc<Self>) -> Option<Arc<dyn BlockDevice>>
    where
        R: Send + Sync + 'static,
    {
        let (first, blocks) = self.place.private;
        let skip = RECORDS / u64::from(self.place.block_size);
        Some(Arc::new(Slice::new(self.clone(), first + skip, blocks.checked_sub(skip)?)?))
    }

    /// The data partition.
    pub fn data(self: &Arc<Self>) -> Option<Arc<dyn BlockDevice>>
    where
        R: Send + Sync + 'static,
    {
        let (first, blocks) = self.place.data;
        Some(Arc::new(Slice::new(self.clone(), first, blocks)?))
    }

    /// First block of the data partition on its disks.
    pub fn data_start(&self) -> u64 {
        self.place.data.0
    }
}

impl<R: RawMutex + Send + Sync> BlockDevice for Mirror<R> {
    fn blocks(&self) -> u64 {
        self.place.data.0 + self.place.data.1
    }

    fn block_size(&self) -> u32 {
        self.place.block_size
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let range = match self.range(&command) {
            Ok(range) => range,
            Err(error) => {
                meanwhile();
                return Err(error);
            }
        };
        match command {
            Command::Read { block, buffers } => self.read_either(range, block, buffers, meanwhile),
            Command::Write { block, buffers } => self.write_both(range, block, buffers, meanwhile),
            Command::Flush => self.flush_members(meanwhile),
        }
    }
}

/// Waits until who holds `ticket` is done.
fn wait<R: RawMutex>(ticket: &Ticket<R>) {
    drop(ticket.lock());
}

fn device_error(error: MirrorError) -> DeviceError {
    match error {
        MirrorError::Device(error) => error,
        _ => DeviceError::Gone,
    }
}

#[cfg(test)]
mod tests;
