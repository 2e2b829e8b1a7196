//! Clients' commands: reads by the less busy disk, writes and flushes on both at once, repair of what one cannot read.

use alloc::sync::Arc;

use lock_api::{Mutex, RawMutex};

use super::{Disks, Member, Mirror, Range, Ticket, device_error, wait};
use crate::{BlockDevice, Command, DeviceError};

/// What a command gave on each disk; `None` where it was not sent.
pub(super) type Answers = [Option<Result<(), DeviceError>>; 2];

/// Carries out a command on both disks at once; `command` makes it for the disk in each place.
pub(super) fn on_both<'a, 'b: 'a>(
    disks: &Disks,
    command: impl Fn(usize) -> Command<'a, 'b>,
    meanwhile: &mut dyn FnMut(),
) -> Answers {
    let [one, two] = disks;
    let mut second = None;
    let mut beside = || match two {
        Some(two) => second = Some(two.execute(command(1), meanwhile)),
        None => meanwhile(),
    };
    let first = match one {
        Some(one) => Some(one.execute(command(0), &mut beside)),
        None => {
            beside();
            None
        }
    };
    [first, second]
}

impl<R: RawMutex> Mirror<R> {
    /// The bytes that a command is about. Only what is mirrored is written; reads may go to what lies around it.
    pub(super) fn range(&self, command: &Command<'_, '_>) -> Result<Range, DeviceError> {
        let Some((block, bytes)) = command.range() else { return Ok((0, 0)) };
        let size = u64::from(self.place.block_size);
        if bytes % size != 0 {
            return Err(DeviceError::Misaligned);
        }
        let start = block.checked_mul(size).ok_or(DeviceError::OutOfRange)?;
        let end = start.checked_add(bytes).ok_or(DeviceError::OutOfRange)?;
        let write = matches!(command, Command::Write { .. });
        if end > self.place.end() || write && start < self.place.first() {
            return Err(DeviceError::OutOfRange);
        }
        Ok((start, end))
    }

    /// The disks to read from, the better first.
    fn readers(&self, range: Range) -> [Option<(usize, Arc<dyn BlockDevice>)>; 2] {
        let mut state = self.state.lock();
        state.commands = state.commands.wrapping_add(1);
        let readable = |index: usize| {
            let disk = state.disks.get(index)?.clone()?;
            let good = match state.members.get(index)? {
                Member::Good => true,
                Member::Failed => false,
                Member::Resyncing => {
                    let (from, to) = self.place.regions_of(range);
                    // What is not mirrored may be anything on a disk that is new.
                    from < to && range.0 >= self.place.first() && !state.lacks.has_any(from, to)
                }
            };
            good.then_some((index, disk))
        };
        let (one, two) = (readable(0), readable(1));
        // With equal load, each disk takes turns by MiB, so that a stream stays on one for a while.
        let [first, second] = state.reading;
        let second_first = second < first || second == first && (range.0 >> 20) % 2 == 1;
        if second_first { [two, one] } else { [one, two] }
    }

    fn count_reading(&self, index: usize, change: i32) {
        if let Some(count) = self.state.lock().reading.get_mut(index) {
            *count = count.saturating_add_signed(change);
        }
    }

    pub(super) fn read_either(
        &self,
        range: Range,
        block: u64,
        buffers: &mut [&mut [u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DeviceError> {
        let mut bad: Option<(usize, DeviceError)> = None;
        let mut result = Err(DeviceError::Gone);
        let mut meanwhile = Some(meanwhile);
        for (index, disk) in self.readers(range).into_iter().flatten() {
            self.count_reading(index, 1);
            let command = Command::Read { block, buffers };
            result = match meanwhile.take() {
                Some(meanwhile) => disk.execute(command, meanwhile),
                None => disk.execute(command, &mut || ()),
            };
            self.count_reading(index, -1);
            match result {
                Ok(()) => break,
                Err(error) => bad = bad.or(Some((index, error))),
            }
        }
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        if let (Ok(()), Some((index, error))) = (result, bad) {
            if error == DeviceError::Medium {
                self.repair(index, range);
            } else if self.fail(index).is_err() {
                log::error!("array: disk {index} cannot be read, and nothing can be written about it");
            }
        }
        result
    }

    /// A write is there when both disks have it, or one has and says that the other has failed.
    pub(super) fn write_both(
        &self,
        range: Range,
        block: u64,
        buffers: &[&[u8]],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), DeviceError> {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let disks = match self.admit(range, &ticket) {
            Ok(disks) => disks,
            Err(error) => {
                meanwhile();
                return Err(error);
            }
        };
        let answers = on_both(&disks, |_| Command::Write { block, buffers }, meanwhile);
        let result = self.settle(answers);
        if result.is_err() {
            self.doubt(answers);
        }
        self.state.lock().leave(&ticket);
        drop(in_progress);
        result
    }

    /// Lets a write to `range` begin: its regions are marked and no copy is in its way. Gives the disks to write to.
    fn admit(&self, range: Range, ticket: &Ticket<R>) -> Result<Disks, DeviceError> {
        let (from, to) = self.place.regions_of(range);
        loop {
            let mut state = self.state.lock();
            if state.unrecorded {
                drop(state);
                self.catch_up()?;
            } else if let Some(ticket) = state.overlapping(range, true) {
                drop(state);
                wait(&ticket);
            } else if !state.bitmap.has_all(from, to) {
                drop(state);
                self.mark(from, to)?;
            } else {
                state.commands = state.commands.wrapping_add(1);
                state.recent.set(from, to);
                state.enter(range, false, ticket);
                return Ok(state.in_use());
            }
        }
    }

    /// Flushes the disks in use; one that fails is failed, safely, before this returns, unless it is the last good one.
    pub(super) fn flush_members(&self, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let disks = loop {
            let state = self.state.lock();
            if !state.unrecorded {
                break state.in_use();
            }
            drop(state);
            if let Err(error) = self.catch_up() {
                meanwhile();
                return Err(error);
            }
        };
        self.settle(on_both(&disks, |_| Command::Flush, meanwhile))
    }

    /// What a command's answers mean: a disk that failed it is failed, safely, if the other did it and is good.
    fn settle(&self, answers: Answers) -> Result<(), DeviceError> {
        let failed =
            answers.into_iter().enumerate().find_map(|(index, answer)| Some((index, answer?.err()?)));
        match failed {
            // The disks were let go of.
            None if answers == [None, None] => Err(DeviceError::Gone),
            None => Ok(()),
            Some((index, _)) if answers.get(1 - index) == Some(&Some(Ok(()))) => {
                self.fail(index).map_err(device_error)
            }
            Some((_, error)) => Err(error),
        }
    }

    /// A write that failed on both disks may be there on one of them, in part: from now on one counts, and the other is
    /// made equal.
    fn doubt(&self, answers: Answers) {
        if answers.into_iter().any(|answer| !matches!(answer, Some(Err(_)))) {
            return;
        }
        let records = self.records.lock();
        {
            let mut state = self.state.lock();
            if state.members != [Member::Good; 2] {
                return;
            }
            state.set_member(1, Member::Resyncing);
            state.lacks = state.bitmap.clone();
            state.resync = super::Resync { total: state.lacks.count(), ..super::Resync::default() };
            state.scrub = None;
        }
        // If it cannot be written down either: the bits are there, and a start looks at them.
        if let Err(error) = self.record(&records) {
            log::error!("array: {error}");
        }
    }

    /// Writes what the twin has over a place that could not be read: the disk puts it somewhere else, or is failed.
    fn repair(&self, index: usize, range: Range) {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let disks = {
            let mut state = self.state.lock();
            // A place that is being written to is left to the next reader: this thread may be its writer.
            let free = state.overlapping(range, false).is_none();
            if !free || range.0 < self.place.first() || state.members != [Member::Good; 2] {
                return;
            }
            state.enter(range, true, &ticket);
            state.disks.clone()
        };
        self.heal(&disks, index, range);
        self.state.lock().leave(&ticket);
        drop(in_progress);
    }
}
