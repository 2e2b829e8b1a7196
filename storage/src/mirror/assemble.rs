//! Arrays begin here: made new, grown from one disk, put together from what is there, given a disk back.

use alloc::sync::Arc;
use alloc::vec;

use lock_api::{Mutex, RawMutex};

use super::bitmap::Bitmap;
use super::superblock::{self, Superblock, read_bitmap, read_bitmap_of};
use super::{Member, Mirror, MirrorError, Place, Resync, State, enlarge};
use crate::format::FormatError;
use crate::partition::{Plan, usable_end};
use crate::{BlockDevice, DeviceError};

/// Pieces of a disk that are looked at before it counts as never written to.
const SAMPLES: u64 = 256;

/// A disk with a superblock.
struct Found {
    superblock: Superblock,
    place: Place,
    disk: Arc<dyn BlockDevice>,
}

impl Found {
    fn on(disk: Arc<dyn BlockDevice>) -> Option<Self> {
        // A disk that cannot be read, or is no member, is as good as missing.
        let place = Place::of(&*disk).ok()?;
        let superblock = superblock::read(&*disk, &place).ok()??;
        if let Err(why) = crate::partition::mend(&*disk, place.data.0, place.data.0 + place.data.1) {
            log::warn!("array: disk {}: a copy of its partition table is damaged: {why}", superblock.index);
        }
        Some(Self { superblock, place, disk })
    }
}

/// How to go on with two disks of one array.
enum Verdict {
    /// The first named counts; the other lacks what the bitmaps say, or `all`.
    Together { source: usize, members: [Member; 2], all: bool },
    /// This one alone: the other is from before it was replaced.
    Alone(usize),
}

/// Which of two disks counts, by what their superblocks say. `one` is in place 0.
fn judge(one: &Superblock, two: &Superblock) -> Result<Verdict, MirrorError> {
    if one.id != two.id {
        return Err(MirrorError::Strangers);
    }
    if one.twin() == Member::Failed && two.twin() == Member::Failed {
        return Err(MirrorError::SplitBrain);
    }
    let both = [one, two];
    if one.serials != two.serials {
        // One has had another twin. Harmless: a copy that is not finished, which is begun anew; or a disk from before.
        for (index, own) in both.into_iter().enumerate() {
            let Some(twin) = both.get(1 - index) else { continue };
            if own.own() == Member::Resyncing && own.twin() == Member::Good && twin.own() == Member::Good {
                let mut members = own.members;
                if let Some(member) = members.get_mut(index) {
                    *member = Member::Resyncing;
                }
                return Ok(Verdict::Together { source: 1 - index, members, all: true });
            }
        }
        let newer = usize::from(two.generation > one.generation);
        let (new, old) = if newer == 0 { (one, two) } else { (two, one) };
        return if old.twin() == Member::Failed || new.own() != Member::Good {
            Err(MirrorError::SplitBrain)
        } else {
            Ok(Verdict::Alone(newer))
        };
    }
    let newer = usize::from(two.generation > one.generation);
    let (new, old) = if newer == 0 { (one, two) } else { (two, one) };
    // The newer one was taken out by the other and does not know it: it went on by itself.
    if old.twin() == Member::Failed && new.own() == Member::Good {
        return Err(MirrorError::SplitBrain);
    }
    let members = new.members;
    let source = match members {
        [Member::Good, Member::Good] => newer,
        [Member::Good, _] => 0,
        [_, Member::Good] => 1,
        _ => return Err(MirrorError::Incomplete),
    };
    Ok(Verdict::Together { source, members, all: false })
}

impl<R: RawMutex> Mirror<R> {
    /// Makes an array of two disks that have just been divided alike (see
    /// [`format::divide`](crate::format::divide)). `equal`: both are known to hold the same (all zeros, say); else the
    /// second is brought up to date by [`resync`](Self::resync).
    pub fn create(disks: [Arc<dyn BlockDevice>; 2], id: [u8; 16], equal: bool) -> Result<Self, MirrorError> {
        Self::begin(disks, id, 0, equal)
    }

    /// Makes an array of a disk that the appliance has divided, in place `index`, and whose volume stays, and of another
    /// that has been divided like it (see [`divide_like`](Self::divide_like)).
    pub fn grow(disks: [Arc<dyn BlockDevice>; 2], index: usize, id: [u8; 16]) -> Result<Self, MirrorError> {
        Self::begin(disks, id, index, false)
    }

    fn begin(
        disks: [Arc<dyn BlockDevice>; 2],
        id: [u8; 16],
        source: usize,
        equal: bool,
    ) -> Result<Self, MirrorError> {
        let [one, two] = &disks;
        let place = Place::of(&**one)?;
        if Place::of(&**two)? != place {
            return Err(MirrorError::Layout);
        }
        let low = u64::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]]);
        let mut members = [Member::Good; 2];
        let mut bitmap = Bitmap::empty();
        if !equal {
            bitmap = Bitmap::full(place.regions());
            if let Some(member) = members.get_mut(1 - source.min(1)) {
                *member = Member::Resyncing;
            }
        }
        let serials = [low, low.wrapping_add(1)];
        let superblock = Superblock { id, index: 0, generation: 0, members, serials, fresh: 0 };
        let mirror = Self::with(disks.map(Some), &superblock, place, bitmap);
        mirror.start()?;
        Ok(mirror)
    }

    /// Puts an array together from what is there (at least one good disk). Regions that a power cut may have left
    /// different are brought up to date by [`resync`](Self::resync), and read from one disk until then.
    pub fn assemble(disks: [Option<Arc<dyn BlockDevice>>; 2]) -> Result<Self, MirrorError> {
        let [mut one, mut two] = disks.map(|disk| disk.and_then(Found::on));
        if let (Some(first), Some(second)) = (&one, &two) {
            if first.superblock.index == second.superblock.index {
                return Err(MirrorError::Strangers);
            }
            if first.superblock.index == 1 {
                core::mem::swap(&mut one, &mut two);
            }
        }
        let (one, two) = match (one, two) {
            (Some(one), Some(two)) => (one, two),
            (Some(alone), None) | (None, Some(alone)) => return Self::alone(alone),
            (None, None) => return Err(MirrorError::NoArray),
        };
        match judge(&one.superblock, &two.superblock)? {
            Verdict::Alone(0) => Self::alone(one),
            Verdict::Alone(_) => Self::alone(two),
            Verdict::Together { source, members, all } => Self::together(one, two, source, members, all),
        }
    }

    fn together(
        mut one: Found,
        mut two: Found,
        source: usize,
        mut members: [Member; 2],
        all: bool,
    ) -> Result<Self, MirrorError> {
        let (good, other) = if source == 0 { (&one, &mut two) } else { (&two, &mut one) };
        let others_bits = read_bitmap_of(&*other.disk, &other.place, &good.place);
        if good.place != other.place {
            if !good.place.starts_like(&other.place) {
                return Err(MirrorError::Layout);
            }
            // The power went while the array was enlarged, between one disk's table and the other's.
            match enlarge::set_end(&*other.disk, &good.place) {
                Ok(()) => other.place = good.place,
                Err(why) => {
                    log::error!(
                        "array: disk {} is not divided like the other, and cannot be: {why}",
                        1 - source.min(1)
                    );
                    return Self::alone(if source == 0 { one } else { two });
                }
            }
        }
        let place = good.place;
        let mut bitmap = Bitmap::full(place.regions());
        if !all {
            // What either of them meant to write may differ.
            bitmap = read_bitmap(&*good.disk, &place);
            bitmap.add(&others_bits);
        }
        let lags = one.superblock.generation != two.superblock.generation || !bitmap.is_empty();
        // A failed disk that is back lacks what the bitmap says, and a resync goes on.
        if let Some(member) = members.get_mut(1 - source.min(1))
            && (lags || *member != Member::Good)
        {
            *member = Member::Resyncing;
        }
        let newer = if two.superblock.generation > one.superblock.generation { &two } else { &one };
        let serials = if source == 0 { one.superblock.serials } else { two.superblock.serials };
        let serials = if all { newer.superblock.serials } else { serials };
        let superblock = Superblock { members, serials, ..newer.superblock };
        let mirror = Self::with([Some(one.disk), Some(two.disk)], &superblock, place, bitmap);
        mirror.start()?;
        Ok(mirror)
    }

    fn alone(found: Found) -> Result<Self, MirrorError> {
        let Found { mut superblock, place, disk } = found;
        if superblock.own() != Member::Good {
            return Err(MirrorError::Incomplete);
        }
        let index = superblock.index;
        if let Some(twin) = superblock.members.get_mut(1 - index) {
            *twin = Member::Failed;
        }
        let bitmap = read_bitmap(&*disk, &place);
        let disks = if index == 0 { [Some(disk), None] } else { [None, Some(disk)] };
        let mirror = Self::with(disks, &superblock, place, bitmap);
        mirror.start()?;
        Ok(mirror)
    }

    /// Goes on with one disk, whatever it and others say: what only its twin has is lost. The twin is no member any more;
    /// `serial` is a number not used before.
    pub fn choose(disk: Arc<dyn BlockDevice>, serial: u64) -> Result<Self, MirrorError> {
        let mut found = Found::on(disk).ok_or(MirrorError::NoArray)?;
        let index = found.superblock.index;
        if let (Some(own), Some(other)) =
            (found.superblock.members.get_mut(index), found.superblock.serials.get_mut(1 - index))
        {
            *own = Member::Good;
            *other = serial;
        }
        Self::alone(found)
    }

    /// Writes the records of a new life of the array.
    fn start(&self) -> Result<(), MirrorError> {
        let records = self.records.lock();
        let bitmap = self.state.lock().bitmap.clone();
        self.write_bitmap(&records, &bitmap, true)?;
        self.record(&records)?;
        Ok(())
    }

    fn with(
        disks: [Option<Arc<dyn BlockDevice>>; 2],
        superblock: &Superblock,
        place: Place,
        bitmap: Bitmap,
    ) -> Self {
        let lacks =
            if superblock.members.contains(&Member::Resyncing) { bitmap.clone() } else { Bitmap::empty() };
        let resync = Resync { total: lacks.count(), ..Resync::default() };
        Self {
            records: Mutex::new(()),
            state: Mutex::new(State {
                disks,
                members: superblock.members,
                serials: superblock.serials,
                generation: superblock.generation,
                unrecorded: false,
                bitmap,
                recent: Bitmap::empty(),
                lacks,
                busy: alloc::vec::Vec::new(),
                reading: [0; 2],
                commands: 0,
                repaired: [0; 2],
                resync,
                scrub: None,
                scrubs_all: true,
                fresh: superblock.fresh,
                closing: false,
                differences: 0,
                scrubbed: false,
            }),
            id: superblock.id,
            place,
        }
    }

    /// Whether a disk is the one that was in place `index` when it failed, so that it need be brought up to date only
    /// where it lacks something. Its data partition may have another end, as after a power cut while the array was enlarged;
    /// [`MirrorError::Layout`]: it cannot have the array's. [`MirrorError::SplitBrain`]: it was used without the other since.
    pub fn is_returning(&self, index: usize, disk: &dyn BlockDevice) -> Result<bool, MirrorError> {
        let place = match Place::of(disk) {
            Ok(place) if place.starts_like(&self.place) => place,
            Ok(_) | Err(MirrorError::Layout) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(known) = superblock::read(disk, &place)? else { return Ok(false) };
        let state = self.state.lock();
        if known.id != self.id || known.index != index {
            return Ok(false);
        }
        if known.twin() == Member::Failed || known.generation > state.generation {
            return Err(MirrorError::SplitBrain);
        }
        if known.serials != state.serials {
            return Ok(false);
        }
        let end = self.place.data.0 + self.place.data.1;
        if place != self.place && end > usable_end(disk.blocks(), disk.block_size()) {
            return Err(MirrorError::Layout);
        }
        Ok(true)
    }

    /// Divides a disk like the array's, so that it can be taken by [`replace`](Self::replace). Everything on it is lost.
    pub fn divide_like(&self, disk: &dyn BlockDevice, unique: [u8; 16]) -> Result<(), FormatError> {
        divide_like(disk, &self.place, unique)
    }

    /// Puts a disk in the place of a failed one. If it [is returning](Self::is_returning), [`resync`](Self::resync)
    /// brings it up to date where it lacks something. Else, if `serial` is given (a number not used before), all of it
    /// is overwritten; it has to be divided like the other. Without a serial that is refused.
    pub fn replace(
        &self,
        index: usize,
        disk: Arc<dyn BlockDevice>,
        serial: Option<u64>,
    ) -> Result<(), MirrorError> {
        let returning = match self.is_returning(index, &*disk) {
            Ok(returning) => returning,
            Err(MirrorError::SplitBrain) if serial.is_some() => false,
            Err(error) => return Err(error),
        };
        let place = Place::of(&*disk)?;
        // What it meant to write when it was lost may be there in part.
        let own_bits = read_bitmap_of(&*disk, &place, &self.place);
        let records = self.records.lock();
        let (mut bitmap, mut serials, generation, fresh) = {
            let state = self.state.lock();
            if state.members.get(index) != Some(&Member::Failed) {
                return Err(MirrorError::Incomplete);
            }
            (state.bitmap.clone(), state.serials, state.generation, state.fresh)
        };
        if place != self.place {
            if !returning {
                return Err(MirrorError::Layout);
            }
            enlarge::set_end(&*disk, &self.place)?;
        }
        if returning {
            bitmap.add(&own_bits);
        } else {
            let new = serial.ok_or(MirrorError::Foreign)?;
            bitmap = Bitmap::full(self.regions());
            if let Some(serial) = serials.get_mut(index) {
                *serial = new;
            }
        }
        // First the good disk knows what is lacking, then the other what it is: in between, nothing has changed yet.
        self.write_bitmap(&records, &bitmap, true)?;
        self.state.lock().bitmap.add(&bitmap);
        let mut members = [Member::Good; 2];
        if let Some(member) = members.get_mut(index) {
            *member = Member::Resyncing;
        }
        let superblock =
            Superblock { id: self.id, index, generation: generation + 1, members, serials, fresh };
        self.prepare(&*disk, &bitmap, &superblock)?;
        {
            let mut state = self.state.lock();
            state.set_disk(index, Some(disk));
            state.set_member(index, Member::Resyncing);
            state.serials = serials;
            state.resync = Resync { total: bitmap.count(), ..Resync::default() };
            state.lacks = bitmap;
        }
        self.record(&records)?;
        Ok(())
    }

    /// Writes a new member's first records.
    fn prepare(
        &self,
        disk: &dyn BlockDevice,
        bitmap: &Bitmap,
        superblock: &Superblock,
    ) -> Result<(), DeviceError> {
        disk.write(superblock::bitmap_block(&self.place), &[bitmap.bytes()])?;
        disk.flush()?;
        let (block, image) = superblock.image(&self.place);
        disk.write(block, &[&image])?;
        disk.flush()
    }
}

/// Divides `disk` like another that the appliance has divided. Everything on it is lost.
pub fn divide_alike(
    disk: &dyn BlockDevice,
    model: &dyn BlockDevice,
    unique: [u8; 16],
) -> Result<(), MirrorError> {
    let place = Place::of(model)?;
    divide_like(disk, &place, unique).map_err(|error| match error {
        FormatError::Device(error) => MirrorError::Device(error),
        _ => MirrorError::Layout,
    })
}

fn divide_like(disk: &dyn BlockDevice, place: &Place, unique: [u8; 16]) -> Result<(), FormatError> {
    if disk.block_size() != place.block_size {
        return Err(FormatError::Size);
    }
    crate::format::divide_by(disk, &Plan { private: place.private, data: place.data }, unique)
}

/// Whether nothing was ever written to a disk, as far as samples of it tell.
pub fn is_untouched(disk: &dyn BlockDevice) -> Result<bool, DeviceError> {
    let count = (4096 / u64::from(disk.block_size())).max(1);
    let mut piece = vec![0; (count * u64::from(disk.block_size())) as usize];
    let last = disk.blocks().saturating_sub(count);
    for sample in 0..SAMPLES {
        disk.read(last / SAMPLES * sample, &mut [&mut piece])?;
        if piece.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
