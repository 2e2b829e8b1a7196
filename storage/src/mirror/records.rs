//! Superblocks and bitmap on their way to the disks, and what makes them change: a disk fails, regions come to rest.

use lock_api::{MutexGuard, RawMutex};

use super::bitmap::Bitmap;
use super::superblock::{Superblock, bitmap_block};
use super::transfer::{Answers, on_both};
use super::{Disks, Member, Mirror, MirrorError};
use crate::{Command, DeviceError};

/// Who holds this may write records.
pub(super) type Records<'a, R> = MutexGuard<'a, R, ()>;

/// A stream that dirties one region after the other has so many marked ahead at once.
const AHEAD: u64 = 16;

impl<R: RawMutex> Mirror<R> {
    /// Takes a disk out, as the console or a driver that lost it says: when this returns, the other's superblock says so.
    /// Refused for the last good one.
    pub fn fail(&self, index: usize) -> Result<(), MirrorError> {
        let records = self.records.lock();
        self.fail_recorded(&records, index)
    }

    pub(super) fn fail_recorded(&self, records: &Records<'_, R>, index: usize) -> Result<(), MirrorError> {
        {
            let mut state = self.state.lock();
            let other = 1 - index.min(1);
            if state.members.get(other) != Some(&Member::Good) {
                return Err(MirrorError::Incomplete);
            }
            if state.members.get(index) != Some(&Member::Failed) {
                state.take_out(index);
            }
            if !state.unrecorded {
                return Ok(());
            }
        }
        self.record(records)?;
        Ok(())
    }

    /// Writes down what nobody could be told yet.
    pub(super) fn catch_up(&self) -> Result<(), DeviceError> {
        let records = self.records.lock();
        if !self.state.lock().unrecorded {
            return Ok(());
        }
        self.record(&records)
    }

    /// Puts the state on the disks in use, safely. A disk that does not take it is failed if the other is good.
    pub(super) fn record(&self, _records: &Records<'_, R>) -> Result<(), DeviceError> {
        loop {
            let (disks, superblock) = {
                let mut state = self.state.lock();
                state.generation += 1;
                let (generation, members, serials) = (state.generation, state.members, state.serials);
                let fresh = state.fresh;
                (state.in_use(), Superblock { id: self.id, index: 0, generation, members, serials, fresh })
            };
            let block = superblock.image(&self.place).0;
            let [one, two] = [0, 1].map(|index| Superblock { index, ..superblock }.image(&self.place).1);
            let pieces = ([&*one], [&*two]);
            let write = |index: usize| Command::Write {
                block,
                buffers: if index == 0 { &pieces.0 } else { &pieces.1 },
            };
            let written = on_both(&disks, write, &mut || ());
            let answers = both(written, on_both(&disks, |_| Command::Flush, &mut || ()));
            match self.out_after(answers)? {
                Some(_) => continue,
                None => {
                    self.state.lock().unrecorded = false;
                    return Ok(());
                }
            }
        }
    }

    /// After records were written: takes a disk that would not take them out, and says so, if the other took them and is
    /// good; the error if none did.
    fn out_after(&self, answers: Answers) -> Result<Option<usize>, DeviceError> {
        let mut state = self.state.lock();
        let failed = answers.into_iter().position(|answer| matches!(answer, Some(Err(_))));
        let Some(index) = failed else { return Ok(None) };
        let other = 1 - index.min(1);
        let survives =
            answers.get(other) == Some(&Some(Ok(()))) && state.members.get(other) == Some(&Member::Good);
        if !survives {
            let error = answers.into_iter().find_map(|answer| answer?.err());
            return Err(error.unwrap_or(DeviceError::Failed));
        }
        state.take_out(index);
        Ok(Some(index))
    }

    /// Puts a bitmap on the disks in use; safely, if bits were set. (A bit that comes back after a power cut does no
    /// harm.) One sector's bits may be torn from another's, but each is old or new, and either will do.
    pub(super) fn write_bitmap(
        &self,
        records: &Records<'_, R>,
        bitmap: &Bitmap,
        safely: bool,
    ) -> Result<(), DeviceError> {
        let disks = self.state.lock().in_use();
        let answers = self.bitmap_to(&disks, bitmap, safely);
        match self.out_after(answers)? {
            Some(_) => self.record(records),
            None => Ok(()),
        }
    }

    pub(super) fn bitmap_to(&self, disks: &Disks, bitmap: &Bitmap, safely: bool) -> Answers {
        let block = bitmap_block(&self.place);
        let pieces = [bitmap.bytes()];
        let written = on_both(disks, |_| Command::Write { block, buffers: &pieces }, &mut || ());
        if safely { both(written, on_both(disks, |_| Command::Flush, &mut || ())) } else { written }
    }

    /// Notes safely that the regions `from..to` may differ.
    pub(super) fn mark(&self, from: u64, to: u64) -> Result<(), DeviceError> {
        let records = self.records.lock();
        let wanted = {
            let state = self.state.lock();
            if state.bitmap.has_all(from, to) {
                return Ok(());
            }
            let mut wanted = state.bitmap.clone();
            let stream = from > 0 && wanted.has(from - 1);
            let end = if stream { (to + AHEAD).min(u64::from(self.regions())) } else { to };
            wanted.set(from, end);
            wanted
        };
        self.write_bitmap(&records, &wanted, true)?;
        self.state.lock().bitmap.add(&wanted);
        Ok(())
    }

    /// For a timer, every few seconds: clears the bits of regions that were not written to since the last call and are
    /// safe on both disks.
    pub fn maintain(&self) -> Result<(), MirrorError> {
        let (mut rested, generation) = {
            let mut state = self.state.lock();
            if state.members.contains(&Member::Failed) || state.bitmap.is_empty() {
                return Ok(());
            }
            let mut rested = state.bitmap.clone();
            rested.subtract(&state.recent);
            rested.subtract(&state.lacks);
            for busy in &state.busy {
                let (from, to) = self.place.regions_of(busy.range);
                rested.clear(from, to);
            }
            state.recent.clear_all();
            (rested, state.generation)
        };
        if rested.is_empty() {
            return Ok(());
        }
        self.flush_members(&mut || ())?;
        let records = self.records.lock();
        let bitmap = {
            let mut state = self.state.lock();
            // A disk that failed meanwhile lacks what is marked.
            if state.generation != generation || state.unrecorded {
                return Ok(());
            }
            rested.subtract(&state.recent);
            rested.subtract(&state.lacks);
            state.bitmap.subtract(&rested);
            state.bitmap.clone()
        };
        self.write_bitmap(&records, &bitmap, false)?;
        Ok(())
    }
}

/// What two commands, one after the other, gave on each disk.
fn both(first: Answers, second: Answers) -> Answers {
    let [first_one, first_two] = first;
    let [second_one, second_two] = second;
    let and = |first: Option<Result<(), DeviceError>>, second: Option<Result<(), DeviceError>>| {
        Some(first?.and(second?))
    };
    [and(first_one, second_one), and(first_two, second_two)]
}
