//! Dirty pages on their way to the devices.

use alloc::sync::Arc;
use alloc::vec::Vec;

use lock_api::{Mutex, RawMutex};

use super::page::{PageBuffer, SECTOR_SIZE, WHOLE, for_each_run};
use super::table::{Slot, Table, Ticket};
use super::{BATCH, Cache, CacheError, DeviceIndex, PAGE, split, wait};
use crate::{BlockDevice, Command, DeviceError};

/// Failed writes and flushes in a row after which a device's dirty pages are given up when their memory is needed.
const PATIENCE: u32 = 8;

/// Batches that one thread has in flight.
const DEPTH: usize = 3;

/// Chooses the page to be written next.
type Choice<'a, R> = &'a mut dyn FnMut(&Table<R>) -> Option<u32>;

/// One page of a batch.
struct Member {
    slot: u32,
    buffer: Arc<PageBuffer>,
    start: u64,
    sectors: u32,
    failed: bool,
}

impl<R: RawMutex> Cache<R> {
    /// Slows a writer to `device` down while too much is dirty: to be called before a write, without locks.
    pub fn throttle(&self, device: DeviceIndex) -> Result<(), CacheError> {
        loop {
            {
                let table = self.table.lock();
                let limit = dirty_limit(table.maximum);
                let Some(attached) = table.attached(device) else { return Err(CacheError::OutOfRange) };
                if attached.dirty <= limit {
                    if table.much_is_dirty() {
                        self.call_helper();
                    }
                    return Ok(());
                }
            }
            if !self.write_some(Some(device))? {
                return Ok(());
            }
        }
    }

    /// Writes all that is dirty of `device` now (but what is held back) without flushing it.
    pub fn write_back(&self, device: DeviceIndex) -> Result<(), CacheError> {
        let until = self.table.lock().clock();
        self.write_until(device, until, |_| true)
    }

    /// Writes what is dirty now (but what is held back) of `ranges`, each from a byte of the device to another, without
    /// flushing it.
    pub fn write_back_ranges(&self, device: DeviceIndex, ranges: &[(u64, u64)]) -> Result<(), CacheError> {
        let pages: Vec<(u32, u32)> = ranges
            .iter()
            .filter(|(start, end)| start < end)
            .map(|&(start, end)| (split(start).0, split(end - 1).0))
            .collect();
        let count: u64 = pages.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
        let (until, dirty) = {
            let table = self.table.lock();
            (table.clock(), table.attached(device).map_or(0, |attached| attached.dirty))
        };
        if count > u64::from(dirty) {
            // Fewer pages are dirty than there are to look for.
            let is_meant = |page: u32| pages.iter().any(|&(first, last)| (first..=last).contains(&page));
            return self.write_until(device, until, |slot| is_meant(slot.page));
        }
        // See `write_until`.
        let mut waited = Vec::new();
        for _ in 0..2 {
            let mut all = pages.iter().flat_map(|&(first, last)| first..=last);
            let mut waiting = Vec::new();
            let result = self.write_chosen(&mut |table| {
                all.find_map(|page| {
                    let slot = table.find(device.0, page)?;
                    let entry = table.slots.get(slot as usize)?;
                    if entry.busy.is_some() {
                        waiting.push(page);
                    }
                    (table.can_go(entry) && table.is_older(entry, until)).then_some(slot)
                })
            });
            result?;
            if waiting.is_empty() {
                break;
            }
            // Somebody else writes these.
            let tickets = self.table.lock().writes_in_progress(device.0);
            tickets.iter().for_each(wait);
            waited.append(&mut waiting);
        }
        let table = self.table.lock();
        let of_page = |page: &u32| table.slots.get(table.find(device.0, *page)? as usize);
        let failed = waited.iter().filter_map(of_page).any(|slot| slot.failed);
        if failed { Err(table.last_failure(device)) } else { Ok(()) }
    }

    /// Writes the pages of `device` that became dirty up to `until` and that `is_meant` names.
    fn write_until(
        &self,
        device: DeviceIndex,
        until: u32,
        is_meant: impl Fn(&Slot<R>) -> bool,
    ) -> Result<(), CacheError> {
        let mut oldest = |table: &Table<R>| table.oldest_dirty(Some(device.0), Some(until), &is_meant);
        // A page that somebody is writing may have been written to since that began, and when it has ended, a third may be
        // the first to take it. What is meant is on its way at the end of the second round at the latest, and has arrived
        // when that was waited for.
        let mut written = Ok(());
        for _ in 0..2 {
            written = written.and(self.write_chosen(&mut oldest));
            let tickets = {
                let table = self.table.lock();
                let tickets = table.writes_in_progress(device.0);
                if tickets.is_empty() && (written.is_err() || oldest(&table).is_none()) {
                    return written;
                }
                tickets
            };
            tickets.iter().for_each(wait);
        }
        written?;
        let table = self.table.lock();
        let mut failed = false;
        table.for_each_dirty(|slot| {
            failed |= slot.device == device.0 && slot.failed && is_meant(slot);
            !failed
        });
        if failed { Err(table.last_failure(device)) } else { Ok(()) }
    }

    /// When this returns, all that was written to `device` before (but what is held back) survives a power cut.
    pub fn flush(&self, device: DeviceIndex) -> Result<(), CacheError> {
        self.write_back(device)?;
        self.barrier(device)
    }

    /// Flushes the device's own cache, without writing pages first. When the device fails to, all that it got since the
    /// last flush is dirty again: it may be lost, and will be written once more.
    pub fn barrier(&self, device: DeviceIndex) -> Result<(), CacheError> {
        let (disk, number) = {
            let mut table = self.table.lock();
            table.statistics.flushes += 1;
            let attached = table.attached_mut(device).ok_or(CacheError::OutOfRange)?;
            if attached.lost {
                return Err(CacheError::Device(DeviceError::Gone));
            }
            attached.flushes_begun = attached.flushes_begun.wrapping_add(1);
            (attached.device.clone(), attached.flushes_begun)
        };
        let result = disk.flush();
        let mut table = self.table.lock();
        table.note_result(device, result, true);
        match result {
            Ok(()) => {
                if let Some(attached) = table.attached_mut(device)
                    && number.wrapping_sub(attached.safe) as i32 > 0
                {
                    attached.safe = number;
                }
                Ok(())
            }
            Err(error) => {
                table.write_again(device.0);
                Err(CacheError::Device(error))
            }
        }
    }

    /// Whether anything of `device` is dirty.
    pub fn is_dirty(&self, device: DeviceIndex) -> bool {
        self.table.lock().attached(device).is_some_and(|attached| attached.dirty > 0)
    }

    /// Whether the device has yet to get the sector at `offset`.
    pub fn is_sector_dirty(&self, device: DeviceIndex, offset: u64) -> bool {
        let (page, start) = split(offset);
        let table = self.table.lock();
        let slot = table.find(device.0, page).and_then(|slot| table.slots.get(slot as usize));
        slot.is_some_and(|slot| slot.dirty & super::sector_mask(start, start + 1) != 0)
    }

    /// Writes the pages dirty for longest, of `device` or of all, in a few commands. False when there is nothing to
    /// write.
    pub(super) fn write_some(&self, device: Option<DeviceIndex>) -> Result<bool, CacheError> {
        let mut result = Ok(());
        let mut oldest = |table: &Table<R>| table.oldest_dirty(device.map(|device| device.0), None, |_| true);
        let wrote = self.write_wave(DEPTH, &mut oldest, &mut result);
        result.map(|()| wrote)
    }

    /// Writes what `choose` names until it names nothing; goes on after a failure, and answers the first.
    fn write_chosen(&self, choose: Choice<'_, R>) -> Result<(), CacheError> {
        let mut result = Ok(());
        while self.write_wave(DEPTH, choose, &mut result) {}
        result
    }

    /// Writes one batch, the page that `choose` names and its dirty neighbours, and `depth - 1` more while it is in
    /// flight. False when there is nothing to write. `result` gets the first failure.
    fn write_wave(&self, depth: usize, choose: Choice<'_, R>, result: &mut Result<(), CacheError>) -> bool {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let mut table = self.table.lock();
        let Some(chosen) = choose(&table) else { return false };
        let device = DeviceIndex(table.slots[chosen as usize].device);
        let Some(attached) = table.attached(device) else { return false };
        let disk = attached.device.clone();
        let (block_size, bytes) = (u64::from(attached.block_size), attached.bytes);
        let mut members = table.batch(chosen);
        for member in &members {
            table.clear_dirty(member.slot, member.sectors);
            table.slots[member.slot as usize].busy = Some(ticket.clone());
        }
        table.writing.push((device.0, ticket.clone()));
        drop(table);

        let mut beside = || {
            if depth > 1 {
                self.write_wave(depth - 1, choose, result);
            }
        };
        let mut commands = write_members(&*disk, block_size, bytes, &members, &mut beside);
        if let Err(error) = commands.result
            && error != DeviceError::Gone
            && members.len() > 1
        {
            // One bad block must not keep its neighbours: write the pages one by one.
            for member in &mut members {
                let alone =
                    write_members(&*disk, block_size, bytes, core::slice::from_ref(member), &mut || ());
                commands.count += alone.count;
                member.failed = alone.result.is_err();
            }
            if !members.iter().any(|member| member.failed) {
                commands.result = Ok(());
            }
        } else {
            members.iter_mut().for_each(|member| member.failed = commands.result.is_err());
        }

        let mut table = self.table.lock();
        table.statistics.writes += commands.count;
        table.statistics.bytes_written += commands.bytes;
        table.writing.retain(|(_, other)| !Arc::ptr_eq(other, &ticket));
        for member in members {
            let entry = &mut table.slots[member.slot as usize];
            entry.busy = None;
            entry.failed = member.failed;
            if member.failed {
                table.set_dirty(member.slot, member.sectors);
            } else {
                table.note_written(member.slot, member.sectors);
            }
        }
        table.note_result(device, commands.result, false);
        if let Err(error) = commands.result
            && result.is_ok()
        {
            *result = Err(CacheError::Device(error));
        }
        drop(in_progress);
        true
    }
}

/// What became of some writes.
struct Commands {
    count: u64,
    bytes: u64,
    result: Result<(), DeviceError>,
}

/// Writes pages in rising order; neighbouring sectors become one command, across pages. `beside` runs once.
fn write_members(
    disk: &dyn BlockDevice,
    block_size: u64,
    bytes: u64,
    members: &[Member],
    beside: &mut dyn FnMut(),
) -> Commands {
    let mut commands = Commands { count: 0, bytes: 0, result: Ok(()) };
    let mut beside = Some(beside);
    let mut issue = |start: u64, buffers: &[&[u8]]| {
        commands.count += 1;
        let command = Command::Write { block: start / block_size, buffers };
        let result = match beside.take() {
            Some(beside) => disk.execute(command, beside),
            None => disk.execute(command, &mut || ()),
        };
        commands.result = commands.result.and(result);
    };
    let mut pieces: Vec<&[u8]> = Vec::with_capacity(members.len());
    let (mut start, mut end, mut total) = (0, 0, 0);
    for member in members {
        for_each_run(member.sectors, |first, count| {
            let at = member.start + (first * SECTOR_SIZE) as u64;
            let length = (count * SECTOR_SIZE).min(bytes.saturating_sub(at) as usize);
            let piece = member.buffer.bytes.get(first * SECTOR_SIZE..).and_then(|rest| rest.get(..length));
            let Some(piece) = piece else { return };
            if at != end && !pieces.is_empty() {
                issue(start, &pieces);
                pieces.clear();
            }
            if pieces.is_empty() {
                start = at;
            }
            pieces.push(piece);
            total += length as u64;
            end = at + length as u64;
        });
    }
    if !pieces.is_empty() {
        issue(start, &pieces);
    }
    if let Some(beside) = beside {
        beside();
    }
    commands.bytes = total;
    commands
}

impl<R: RawMutex> Table<R> {
    /// Whether something of a page can be written now.
    fn can_go(&self, slot: &Slot<R>) -> bool {
        slot.busy.is_none() && self.writable(slot) != 0
    }

    /// Whether a page became dirty up to `until`.
    fn is_older(&self, slot: &Slot<R>, until: u32) -> bool {
        until.wrapping_sub(slot.dirtied) as i32 >= 0
    }

    /// How `device` failed.
    fn last_failure(&self, device: DeviceIndex) -> CacheError {
        CacheError::Device(self.attached(device).map_or(DeviceError::Gone, |attached| attached.last_failure))
    }

    /// Keeps account of a device's failures. One that is gone gets its dirty pages no more.
    fn note_result(&mut self, device: DeviceIndex, result: Result<(), DeviceError>, flush: bool) {
        let Some(attached) = self.attached_mut(device) else { return };
        match result {
            Ok(()) if flush => attached.failures = 0,
            Ok(()) => (),
            Err(error) => {
                attached.failures = attached.failures.saturating_add(1);
                attached.last_failure = error;
                if error == DeviceError::Gone {
                    self.lose(device);
                }
            }
        }
    }

    /// Gives up the dirty pages of devices that have not taken them for long: others need the memory.
    pub(super) fn give_up(&mut self) {
        for name in 0..self.devices.len() as u8 {
            let device = DeviceIndex(name);
            if self.attached(device).is_some_and(|attached| attached.failures >= PATIENCE) {
                self.lose(device);
            }
        }
    }

    fn lose(&mut self, device: DeviceIndex) {
        let Some(attached) = self.attached_mut(device) else { return };
        if !core::mem::replace(&mut attached.lost, true) {
            log::error!("cache: device {} takes no writes: what was not written yet is lost", device.0);
        }
        for slot in self.pages_of(device.0) {
            self.clear_dirty(slot, WHOLE);
        }
    }

    /// `slot` and its neighbours on the device that can be written now, in rising order.
    fn batch(&self, slot: u32) -> Vec<Member> {
        let seed = &self.slots[slot as usize];
        let neighbour = |page: u32| {
            let slot = self.find(seed.device, page)?;
            self.can_go(&self.slots[slot as usize]).then_some(slot)
        };
        let mut first = seed.page;
        while (seed.page - first) < BATCH as u32 / 2 && first > 0 && neighbour(first - 1).is_some() {
            first -= 1;
        }
        let mut members = Vec::with_capacity(8);
        for page in (first..).take(BATCH) {
            let Some(slot) = neighbour(page) else { break };
            let entry = &self.slots[slot as usize];
            let Some(buffer) = entry.buffer.clone() else { break };
            let start = u64::from(page) * PAGE;
            let mut sectors = self.writable(entry);
            // Clean sectors between dirty ones go along when they are known: one command instead of two.
            let hull = (u32::MAX << sectors.trailing_zeros()) & (u32::MAX >> sectors.leading_zeros());
            if entry.valid & hull == hull && entry.held & hull & !sectors == 0 {
                sectors = hull;
            }
            members.push(Member { slot, buffer, start, sectors, failed: false });
        }
        members
    }
}

/// Dirty pages of one device beyond which its writers have to wait: a quarter of the cache.
fn dirty_limit(maximum: u32) -> u32 {
    (maximum / 4).max(8)
}
