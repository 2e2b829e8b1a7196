//! What goes on in the background: a disk is brought up to date, both are compared. In steps, so that whoever calls them
//! can leave room for clients.

use alloc::sync::Arc;
use alloc::vec;

use lock_api::{Mutex, MutexGuard, RawMutex};

use super::{Disks, Member, Mirror, MirrorError, Range, Resync, State, Ticket, wait};
use crate::device::{read_bytes, write_bytes};
use crate::{BlockDevice, Command, DeviceError};

/// What a step reads and writes.
const COPY: u64 = 512 << 10;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// There is nothing (more) to do.
    Done,
    /// All was copied that can be read of the good disk: what remains is worth a try later, not at once.
    Stuck,
}

impl<R: RawMutex> Mirror<R> {
    /// Copies the next piece that the resyncing disk lacks. When none is left, the disk is good.
    pub fn resync(&self) -> Result<Step, MirrorError> {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let (range, target, from, to) = {
            let mut state = self.state.lock();
            let Some(target) = state.resyncing() else { return Ok(Step::Done) };
            let Some(region) = state.lacks.next(state.resync.region) else {
                let stuck = state.resync.unreadable > 0;
                let empty = state.lacks.is_empty();
                if !empty {
                    let Resync { total, unreadable, .. } = state.resync;
                    state.resync = Resync { total, unreadable_before: unreadable, ..Resync::default() };
                }
                drop(state);
                return match (empty, stuck) {
                    (true, _) => self.finish(target),
                    (false, true) => Ok(Step::Stuck),
                    (false, false) => Ok(Step::More),
                };
            };
            if region != state.resync.region {
                state.resync.region = region;
                state.resync.done = 0;
                state.resync.unreadable_here = 0;
            }
            let (start, end) = self.place.region(region);
            let start = start + state.resync.done;
            let range = (start, end.min(start + COPY));
            if let Some(ticket) = state.overlapping(range, false) {
                drop(state);
                wait(&ticket);
                return Ok(Step::More);
            }
            let [one, two] = state.disks.clone();
            let (from, to) = if target == 0 { (two, one) } else { (one, two) };
            let (Some(from), Some(to)) = (from, to) else { return Err(MirrorError::Incomplete) };
            state.enter(range, true, &ticket);
            (range, target, from, to)
        };
        let copied = self.copy(&*from, &*to, range);
        let mut state = self.state.lock();
        state.leave(&ticket);
        drop(in_progress);
        match copied {
            Ok(unreadable) => {
                // The disk may have failed, or have been replaced, meanwhile.
                if !state.is_at(target, &to) {
                    return Ok(Step::More);
                }
                let region = state.resync.region;
                state.resync.done += range.1 - range.0;
                state.resync.unreadable += unreadable;
                state.resync.unreadable_here += unreadable;
                if range.1 == self.place.region(region).1 {
                    if state.resync.unreadable_here == 0 {
                        state.lacks.clear(region, region + 1);
                    }
                    state.resync.region = region + 1;
                    state.resync.done = 0;
                    state.resync.unreadable_here = 0;
                }
                Ok(Step::More)
            }
            Err(Side::From(error)) => Err(MirrorError::Device(error)),
            Err(Side::To(error)) => {
                drop(state);
                self.fail(target)?;
                Err(MirrorError::Device(error))
            }
        }
    }

    /// All is copied: it counts once it is safe.
    fn finish(&self, target: usize) -> Result<Step, MirrorError> {
        let disk = self.disk(target).ok_or(MirrorError::Incomplete)?;
        if let Err(error) = disk.flush() {
            self.fail(target)?;
            return Err(MirrorError::Device(error));
        }
        let records = self.records.lock();
        {
            let mut state = self.state.lock();
            if !state.is_at(target, &disk) || state.resyncing() != Some(target) || !state.lacks.is_empty() {
                return Ok(Step::More);
            }
            state.set_member(target, Member::Good);
            state.resync = Resync::default();
        }
        self.record(&records)?;
        log::info!("array: disk {target} is up to date");
        Ok(Step::Done)
    }

    /// Copies a range that nobody else works on; gives the count of blocks that could not be read.
    fn copy(&self, from: &dyn BlockDevice, to: &dyn BlockDevice, range: Range) -> Result<u32, Side> {
        let mut buffer = vec![0; (range.1 - range.0) as usize];
        match read_bytes(from, range.0, &mut buffer) {
            Ok(()) => {
                if buffer.iter().any(|&byte| byte != 0) || !is_zero(to, range) {
                    write_bytes(to, range.0, &buffer).map_err(Side::To)?;
                }
                return Ok(0);
            }
            Err(DeviceError::Medium) => {}
            Err(error) => return Err(Side::From(error)),
        }
        // Some of it can be read.
        let mut unreadable = 0;
        let size = self.place.block_size as usize;
        for (number, block) in buffer.chunks_exact_mut(size).enumerate() {
            let offset = range.0 + (number * size) as u64;
            match read_bytes(from, offset, block) {
                Ok(()) => write_bytes(to, offset, block).map_err(Side::To)?,
                Err(DeviceError::Medium) => unreadable += 1,
                Err(error) => return Err(Side::From(error)),
            }
        }
        Ok(unreadable)
    }

    /// Begins a scrub from the start; needs two good disks.
    pub fn start_scrub(&self) -> Result<(), MirrorError> {
        let mut state = self.state.lock();
        if state.members != [Member::Good; 2] {
            return Err(MirrorError::Incomplete);
        }
        state.scrub = Some(0);
        state.scrubs_all = true;
        state.differences = 0;
        Ok(())
    }

    /// Ends a scrub where it is. New room that is not equal yet stays so until there is another.
    pub fn stop_scrub(&self) {
        let mut state = self.state.lock();
        state.scrub = None;
        state.fresh = 0;
    }

    /// Compares the next piece of both disks and makes it equal, the first counting. Where no scrub was begun, it goes on with new
    /// room that the disks may hold different garbage in.
    pub fn scrub(&self) -> Result<Step, MirrorError> {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let (range, disks) = {
            let mut state = self.state.lock();
            if state.closing {
                return Ok(Step::Done);
            }
            if state.scrub.is_none() && state.fresh > 0 && state.members == [Member::Good; 2] {
                state.scrub = Some(u64::from(state.fresh) << 20);
                state.scrubs_all = false;
            }
            let Some(done) = state.scrub else { return Ok(Step::Done) };
            if state.members != [Member::Good; 2] {
                state.scrub = None;
                return Err(MirrorError::Incomplete);
            }
            let start = self.place.first() + done;
            let range = (start, self.place.end().min(start + COPY));
            if range.0 >= range.1 {
                return self.end_scrub(state);
            }
            if let Some(ticket) = state.overlapping(range, false) {
                drop(state);
                wait(&ticket);
                return Ok(Step::More);
            }
            state.enter(range, true, &ticket);
            (range, state.disks.clone())
        };
        let differences = self.compare(&disks, range);
        let mut state = self.state.lock();
        state.leave(&ticket);
        drop(in_progress);
        if state.scrubs_all {
            state.differences += differences;
        }
        // Unless it was stopped, or began anew.
        if let Some(done) = &mut state.scrub
            && self.place.first() + *done == range.0
        {
            *done += range.1 - range.0;
        }
        Ok(Step::More)
    }

    /// A scrub has gone through.
    fn end_scrub(&self, mut state: MutexGuard<'_, R, State<R>>) -> Result<Step, MirrorError> {
        state.scrub = None;
        if state.scrubs_all {
            state.scrubbed = true;
            log::info!("array: scrub: {} blocks differed", state.differences);
        }
        let was_fresh = state.fresh > 0;
        drop(state);
        if was_fresh {
            // What was made equal is safe before the superblocks say so.
            self.flush_members(&mut || ())?;
            let records = self.records.lock();
            {
                let mut state = self.state.lock();
                if state.closing || state.members != [Member::Good; 2] {
                    return Ok(Step::Done);
                }
                state.fresh = 0;
            }
            self.record(&records)?;
            log::info!("array: the disks are equal where the array grew");
        }
        Ok(Step::Done)
    }

    /// Makes a range equal that nobody else works on; gives the count of blocks that differed.
    fn compare(&self, disks: &Disks, range: Range) -> u32 {
        let [Some(one), Some(two)] = disks else { return 0 };
        let mut first = vec![0; (range.1 - range.0) as usize];
        let mut second = first.clone();
        let size = self.place.block_size as usize;
        let block = range.0 / u64::from(self.place.block_size);
        let mut other = Ok(());
        let own = one.execute(Command::Read { block, buffers: &mut [&mut first] }, &mut || {
            other = two.read(block, &mut [&mut second]);
        });
        match (own, other) {
            (Ok(()), Ok(())) => {}
            (Ok(()), Err(error)) => return self.unread(disks, 1, error, range),
            (Err(error), _) => return self.unread(disks, 0, error, range),
        }
        if first == second {
            return 0;
        }
        let mut differences = 0;
        for (number, (block, twin)) in first.chunks_exact(size).zip(second.chunks_exact(size)).enumerate() {
            if block != twin {
                differences += 1;
                if write_bytes(&**two, range.0 + (number * size) as u64, block).is_err() {
                    let _ = self.fail(1);
                    break;
                }
            }
        }
        differences
    }

    /// A disk could not be read in a range that is being compared.
    fn unread(&self, disks: &Disks, index: usize, error: DeviceError, range: Range) -> u32 {
        if error == DeviceError::Medium {
            self.heal(disks, index, range);
        } else if self.fail(index).is_err() {
            log::error!("array: disk {index}: {error}");
        }
        0
    }

    /// Writes what the twin has over the blocks of a range that a disk cannot read, and counts those that it can read
    /// then. Nobody else works on the range. A disk that does not take them is failed.
    pub(super) fn heal(&self, disks: &Disks, index: usize, range: Range) {
        let [Some(one), Some(two)] = disks else { return };
        let (bad, twin) = if index == 0 { (one, two) } else { (two, one) };
        let size = self.place.block_size as usize;
        let mut block = vec![0; size];
        let mut repaired = 0;
        let mut offset = range.0;
        while offset < range.1 {
            if read_bytes(&**bad, offset, &mut block) == Err(DeviceError::Medium)
                && read_bytes(&**twin, offset, &mut block).is_ok()
            {
                if write_bytes(&**bad, offset, &block).is_err() {
                    if self.fail(index).is_err() {
                        log::error!("array: disk {index} cannot be repaired");
                    }
                    break;
                }
                repaired += u32::from(read_bytes(&**bad, offset, &mut block).is_ok());
            }
            offset += size as u64;
        }
        log::warn!("array: disk {index}: {repaired} blocks rewritten from the twin");
        if let Some(count) = self.state.lock().repaired.get_mut(index) {
            *count += repaired;
        }
    }
}

/// Which disk of a copy would not.
enum Side {
    From(DeviceError),
    To(DeviceError),
}

/// Whether a range holds zeros already: a new disk need not be written there.
fn is_zero(disk: &dyn BlockDevice, range: Range) -> bool {
    let mut buffer = vec![0; (range.1 - range.0) as usize];
    read_bytes(disk, range.0, &mut buffer).is_ok() && buffer.iter().all(|&byte| byte == 0)
}
