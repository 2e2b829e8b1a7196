//! Pages of several devices in one budget of memory: read-ahead, write-back, and pinned pages as the bytes of a read.
//!
//! A page is [`PAGE_SIZE`] bytes of a device; each 512-byte sector of it is known or not, dirty or not, so a small
//! write needs no read first. One lock guards the table and is never held during I/O; I/O on a page is guarded by a
//! ticket, a lock of its own that others who need the page wait for.
//!
//! Whoever reads or writes waits for what it needs only. What is read ahead, and what is written back while a good deal
//! is dirty, is done by helper threads of the embedder ([`Cache::with_helpers`]), each a command at a time.
//!
//! A page's memory is an `Arc`. A read hands out clones ([`Payload`]), a device write holds one while it runs; a
//! write to a page that somebody holds goes to a fresh copy. So what a reply refers to cannot change under it.

mod page;
mod reading;
mod table;
mod write_back;

use alloc::boxed::Box;
use alloc::sync::Arc;

use lock_api::{Mutex, MutexGuard, RawMutex};

use crate::{BlockDevice, DeviceError};
pub use page::{PAGE_SIZE, Payload, SECTOR_SIZE};
use page::{PageBuffer, Pin, for_each_run, sector_mask};
pub use table::Statistics;
use table::{Attached, Purpose, Shortage, Table, Ticket};

/// Pages that one command reads or writes at most: 1 MiB.
const BATCH: usize = 64;

const PAGE: u64 = PAGE_SIZE as u64;

/// Names a device attached to a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIndex(u8);

/// Why the cache could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheError {
    /// The device would not.
    Device(DeviceError),
    /// All pages are pinned, or memory is out.
    NoResources,
    /// Beyond the end of the device, or no such device is attached.
    OutOfRange,
}

impl From<DeviceError> for CacheError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// The block cache.
pub struct Cache<R: RawMutex> {
    table: Mutex<R, Table<R>>,
    wake: Option<Box<dyn Fn() + Send + Sync>>,
}

impl<R: RawMutex> Cache<R> {
    /// A cache that uses up to `budget` bytes for pages (at least 32 of them), taken from the allocator as needed.
    /// Its own records take about 80 bytes a page beside that.
    pub fn new(budget: usize) -> Self {
        let maximum = (budget / PAGE_SIZE).clamp(32, 1 << 24) as u32;
        Self { table: Mutex::new(Table::new(maximum)), wake: None }
    }

    /// As [`new`](Self::new), with helpers: threads that call [`work`](Self::work) until it returns false and then wait.
    /// `wake` lets one of them go on, if one waits; it is called often. Without helpers, who reads ahead does so itself.
    pub fn with_helpers(budget: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { wake: Some(wake), ..Self::new(budget) }
    }

    /// Does one thing that a helper is there for, with the calls to a device that it takes. False: there is none.
    pub fn work(&self) -> bool {
        let (ahead, much_dirty) = {
            let mut table = self.table.lock();
            (table.ahead.pop_front(), table.much_is_dirty())
        };
        match ahead {
            Some(ahead) => {
                self.read_ahead(ahead);
                true
            }
            None => much_dirty && self.write_some(None) == Ok(true),
        }
    }

    /// Wakes a helper, if there are any.
    fn call_helper(&self) {
        if let Some(wake) = &self.wake {
            wake();
        }
    }

    /// Makes `device` known. `None` when there are too many already (about 250) or it is too large (64 TiB).
    pub fn attach(&self, device: Arc<dyn BlockDevice>) -> Option<DeviceIndex> {
        let block_size = device.block_size();
        if !(512..=4096).contains(&block_size) || !block_size.is_power_of_two() {
            return None;
        }
        let bytes = device.blocks().checked_mul(u64::from(block_size))?;
        if bytes.div_ceil(PAGE) > u64::from(u32::MAX) {
            return None;
        }
        let attached = Attached {
            device,
            bytes,
            block_size,
            dirty: 0,
            committed: 0,
            failures: 0,
            last_failure: DeviceError::Failed,
            lost: false,
            flushes_begun: 0,
            safe: 0,
        };
        let mut table = self.table.lock();
        let index = match table.devices.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                table.devices.push(None);
                table.devices.len() - 1
            }
        };
        let name = u8::try_from(index).ok().filter(|&name| name < 250)?;
        *table.devices.get_mut(index)? = Some(attached);
        Some(DeviceIndex(name))
    }

    /// Forgets `device` and all its pages, dirty ones too: flush first. Reads in progress keep what they hold.
    pub fn detach(&self, device: DeviceIndex) {
        loop {
            let mut table = self.table.lock();
            table.ahead.retain(|ahead| ahead.device != device.0);
            let mut waiting = None;
            for slot in table.pages_of(device.0) {
                match &table.slots[slot as usize].busy {
                    Some(ticket) => waiting = Some(ticket.clone()),
                    None => drop(table.remove(slot)),
                }
            }
            match waiting {
                Some(ticket) => {
                    drop(table);
                    wait(&ticket);
                }
                None => {
                    if let Some(entry) = table.devices.get_mut(usize::from(device.0)) {
                        *entry = None;
                    }
                    return;
                }
            }
        }
    }

    /// Size of an attached device in bytes.
    pub fn device_bytes(&self, device: DeviceIndex) -> u64 {
        self.table.lock().attached(device).map_or(0, |attached| attached.bytes)
    }

    /// Bytes that an attached device reads and writes at once at least.
    pub fn block_size(&self, device: DeviceIndex) -> u32 {
        self.table.lock().attached(device).map_or(0, |attached| attached.block_size)
    }

    /// Counters for the console.
    pub fn statistics(&self) -> Statistics {
        self.table.lock().statistics
    }

    /// Pins `length` bytes at `offset` of `device` and adds them to `payload`. What is missing is read.
    pub fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        length: usize,
        payload: &mut Payload,
    ) -> Result<(), CacheError> {
        let mut table = self.table.lock();
        let end = table.check(device, offset, length)?;
        let mut position = offset;
        while position < end {
            let (page, start) = split(position);
            let stop = PAGE_SIZE.min(start + (end - position).min(PAGE) as usize);
            let need = sector_mask(start, stop);
            if let Some(slot) = table.find(device.0, page) {
                let entry = &table.slots[slot as usize];
                if let Some(buffer) = &entry.buffer
                    && entry.valid & need == need
                {
                    payload.push(Pin {
                        buffer: Some(buffer.clone()),
                        start: start as u16,
                        length: (stop - start) as u16,
                    });
                    table.touch(slot);
                    position += (stop - start) as u64;
                    continue;
                }
            }
            table = self.fill(table, device, position, end, Purpose::Read)?;
        }
        Ok(())
    }

    /// As [`read`](Self::read) if everything is in memory; else false, and `payload` is as it was.
    pub fn read_now(
        &self,
        device: DeviceIndex,
        offset: u64,
        length: usize,
        payload: &mut Payload,
    ) -> Result<bool, CacheError> {
        let mut table = self.table.lock();
        let end = table.check(device, offset, length)?;
        let before = payload.mark();
        let mut position = offset;
        while position < end {
            let (page, start) = split(position);
            let stop = PAGE_SIZE.min(start + (end - position).min(PAGE) as usize);
            let need = sector_mask(start, stop);
            let found = table.find(device.0, page).and_then(|slot| {
                let entry = table.slots.get(slot as usize)?;
                let buffer = entry.buffer.as_ref().filter(|_| entry.valid & need == need)?;
                Some((slot, buffer.clone()))
            });
            let Some((slot, buffer)) = found else {
                payload.cut(before);
                return Ok(false);
            };
            payload.push(Pin { buffer: Some(buffer), start: start as u16, length: (stop - start) as u16 });
            table.touch(slot);
            position += (stop - start) as u64;
        }
        Ok(true)
    }

    /// Shows `length` bytes at `offset`, which lie in one page, to `look`. For metadata. `look` runs under the
    /// cache's lock: no call back into the cache from there.
    pub fn inspect<T>(
        &self,
        device: DeviceIndex,
        offset: u64,
        length: usize,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, CacheError> {
        let mut table = self.table.lock();
        let end = table.check(device, offset, length)?;
        let (page, start) = split(offset);
        let stop = start + length;
        if stop > PAGE_SIZE || length == 0 {
            return Err(CacheError::OutOfRange);
        }
        let need = sector_mask(start, stop);
        loop {
            if let Some(slot) = table.find(device.0, page) {
                let entry = &table.slots[slot as usize];
                if entry.valid & need == need
                    && let Some(bytes) =
                        entry.buffer.as_ref().and_then(|buffer| buffer.bytes.get(start..stop))
                {
                    let answer = look(bytes);
                    table.touch(slot);
                    return Ok(answer);
                }
            }
            table = self.fill(table, device, offset, end, Purpose::Structure)?;
        }
    }

    /// Writes `data` at `offset`. It reaches the device later: see [`flush`](Self::flush).
    ///
    /// Sectors that lie wholly at or behind byte `fresh_from` hold nothing of interest yet: what `data` leaves of them
    /// becomes zeros instead of being read first. `u64::MAX` when there are none.
    pub fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        data: &[u8],
        fresh_from: u64,
    ) -> Result<(), CacheError> {
        self.store(device, offset, Source::Bytes(data), fresh_from, None)
    }

    /// Writes `length` zeros at `offset`; otherwise as [`write`](Self::write).
    pub fn zero(
        &self,
        device: DeviceIndex,
        offset: u64,
        length: usize,
        fresh_from: u64,
    ) -> Result<(), CacheError> {
        self.store(device, offset, Source::Zeros(length), fresh_from, None)
    }

    /// Writes metadata that must not reach its place on the device before [`release`](Self::release) was called with
    /// `group` or a later one.
    pub fn write_held(
        &self,
        device: DeviceIndex,
        offset: u64,
        data: &[u8],
        group: u32,
    ) -> Result<(), CacheError> {
        self.store(device, offset, Source::Bytes(data), u64::MAX, Some(group))
    }

    /// Lets what was written under `group` and earlier ones go to its place.
    pub fn release(&self, device: DeviceIndex, group: u32) {
        if let Some(attached) = self.table.lock().attached_mut(device) {
            attached.committed = group;
        }
    }

    /// The content of these bytes does not matter any more: what is dirty of them need not be written.
    pub fn discard(&self, device: DeviceIndex, offset: u64, length: u64) {
        let mut table = self.table.lock();
        if table.attached(device).is_none_or(|attached| attached.dirty == 0) {
            return;
        }
        let Some(end) = offset.checked_add(length) else { return };
        let mut position = offset;
        while position < end {
            let (page, start) = split(position);
            let stop = PAGE_SIZE.min(start + (end - position).min(PAGE) as usize);
            position += (stop - start) as u64;
            if let Some(slot) = table.find(device.0, page) {
                // Sectors only partly meant stay.
                let (first, last) = (start.div_ceil(SECTOR_SIZE), stop / SECTOR_SIZE);
                if first < last {
                    table.clear_dirty(slot, sector_mask(first * SECTOR_SIZE, last * SECTOR_SIZE));
                }
            }
        }
    }

    fn store(
        &self,
        device: DeviceIndex,
        offset: u64,
        source: Source<'_>,
        fresh_from: u64,
        hold: Option<u32>,
    ) -> Result<(), CacheError> {
        let mut table = self.table.lock();
        let end = table.check(device, offset, source.len())?;
        let attached = table.attached(device).ok_or(CacheError::OutOfRange)?;
        if attached.lost {
            return Err(CacheError::Device(DeviceError::Gone));
        }
        let block = attached.block_size as usize;
        let purpose = if hold.is_some() { Purpose::Structure } else { Purpose::Write };
        let mut position = offset;
        while position < end {
            let (page, start) = split(position);
            let stop = PAGE_SIZE.min(start + (end - position).min(PAGE) as usize);
            let done = (position - offset) as usize;
            // The blocks this touches become dirty, so all of each has to be known.
            let (from, to) = (start - start % block, stop.next_multiple_of(block));
            let blocks = sector_mask(from, to);
            let mut partial = 0;
            if from < start {
                partial |= sector_mask(from, from + block);
            }
            if to > stop {
                partial |= sector_mask(to - block, to);
            }
            let page_start = u64::from(page) * PAGE;
            let mut blank = 0;
            for_each_run(partial, |first, count| {
                for sector in (first..first + count).step_by(block / SECTOR_SIZE) {
                    let at = sector * SECTOR_SIZE;
                    if page_start + at as u64 >= fresh_from {
                        blank |= sector_mask(at, at + block);
                    }
                }
            });
            let slot = match table.find(device.0, page) {
                Some(slot) => {
                    let entry = &table.slots[slot as usize];
                    if entry.buffer.is_none() || partial & !blank & !entry.valid != 0 {
                        // Being read, or to be read first.
                        table = self.fill(table, device, position, position + 1, purpose)?;
                        continue;
                    }
                    let shared = entry.buffer.as_ref().is_none_or(|buffer| Arc::strong_count(buffer) > 1);
                    if shared {
                        let Some(fresh) = self.spare(&mut table)? else { continue };
                        // The page may have gone while the spare one was looked for.
                        if table.find(device.0, page) != Some(slot) {
                            continue;
                        }
                        table.unshare(slot, fresh, start == 0 && stop == PAGE_SIZE);
                    }
                    table.touch(slot);
                    slot
                }
                None if partial & !blank != 0 => {
                    table = self.fill(table, device, position, position + 1, purpose)?;
                    continue;
                }
                None => {
                    let Some(fresh) = self.spare(&mut table)? else { continue };
                    let slot = table.insert(device.0, page, purpose).ok_or(CacheError::NoResources)?;
                    table.slots[slot as usize].buffer = Some(fresh);
                    slot
                }
            };
            let entry = &mut table.slots[slot as usize];
            let Some(bytes) = entry.buffer.as_mut().and_then(Arc::get_mut).map(|buffer| &mut buffer.bytes)
            else {
                // Somebody pinned it since: not possible under the lock, but harmless.
                continue;
            };
            for_each_run(blank & !entry.valid, |first, count| {
                if let Some(sectors) = bytes.get_mut(first * SECTOR_SIZE..(first + count) * SECTOR_SIZE) {
                    sectors.fill(0);
                }
            });
            if let Some(target) = bytes.get_mut(start..stop) {
                match source {
                    Source::Bytes(data) => {
                        target.copy_from_slice(data.get(done..done + stop - start).unwrap_or(&[]))
                    }
                    Source::Zeros(_) => target.fill(0),
                }
            }
            entry.valid |= blocks;
            match hold {
                Some(group) => {
                    entry.held |= blocks;
                    entry.hold = group;
                }
                None => entry.held &= !blocks,
            }
            table.set_dirty(slot, blocks);
            position += (stop - start) as u64;
        }
        Ok(())
    }

    /// Page memory that nobody holds. `None`: it took I/O to get nearer, look at everything again.
    fn spare<'a>(
        &'a self,
        table: &mut MutexGuard<'a, R, Table<R>>,
    ) -> Result<Option<Arc<PageBuffer>>, CacheError> {
        let done = match table.take_buffer() {
            Ok(buffer) => return Ok(Some(buffer)),
            Err(Shortage::Unflushed(device)) => {
                MutexGuard::unlocked(table, || self.barrier(DeviceIndex(device)).map(|()| true))
            }
            Err(Shortage::Bound) => MutexGuard::unlocked(table, || self.write_some(None)),
        };
        match done {
            Ok(true) => Ok(None),
            Ok(false) => match table.any_busy() {
                Some(ticket) => {
                    MutexGuard::unlocked(table, || wait(&ticket));
                    Ok(None)
                }
                // Everything is pinned by reads that are not answered yet.
                None => table.take_extra_buffer().map(Some).ok_or(CacheError::NoResources),
            },
            // Perhaps not this caller's device: others go on, and this one's pages are not kept for ever.
            Err(_) => {
                table.give_up();
                Ok(None)
            }
        }
    }
}

impl<R: RawMutex> Table<R> {
    fn attached(&self, device: DeviceIndex) -> Option<&Attached> {
        self.devices.get(usize::from(device.0))?.as_ref()
    }

    fn attached_mut(&mut self, device: DeviceIndex) -> Option<&mut Attached> {
        self.devices.get_mut(usize::from(device.0))?.as_mut()
    }

    /// The end of a range of `device`, if it is all there.
    fn check(&self, device: DeviceIndex, offset: u64, length: usize) -> Result<u64, CacheError> {
        let attached = self.attached(device).ok_or(CacheError::OutOfRange)?;
        offset.checked_add(length as u64).filter(|&end| end <= attached.bytes).ok_or(CacheError::OutOfRange)
    }

    /// Moves a page that somebody holds to `fresh` memory; its content too, unless all of it is to be overwritten.
    fn unshare(&mut self, slot: u32, mut fresh: Arc<PageBuffer>, overwritten: bool) {
        self.statistics.copies += 1;
        let entry = &mut self.slots[slot as usize];
        if !overwritten && let (Some(target), Some(old)) = (Arc::get_mut(&mut fresh), &entry.buffer) {
            target.bytes.copy_from_slice(&old.bytes);
        }
        entry.buffer = Some(fresh);
    }
}

/// What a write writes.
#[derive(Clone, Copy)]
enum Source<'a> {
    Bytes(&'a [u8]),
    Zeros(usize),
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Zeros(length) => *length,
        }
    }
}

/// Page and byte within it of a byte offset that was checked against the device's size.
#[inline]
fn split(offset: u64) -> (u32, usize) {
    ((offset / PAGE) as u32, (offset % PAGE) as usize)
}

/// Waits until who holds `ticket` is done with its I/O.
fn wait<R: RawMutex>(ticket: &Ticket<R>) {
    drop(ticket.lock());
}

#[cfg(test)]
mod tests;
