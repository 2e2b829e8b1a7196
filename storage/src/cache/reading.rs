//! Pages on their way from the devices.

use alloc::sync::Arc;
use alloc::vec::Vec;

use lock_api::{Mutex, MutexGuard, RawMutex};

use super::page::{PAGE_SIZE, PageBuffer, SECTOR_SIZE, WHOLE, for_each_run};
use super::table::{Ahead, Purpose, Table, Ticket};
use super::{BATCH, Cache, CacheError, DeviceIndex, PAGE, split, wait};
use crate::{BlockDevice, DeviceError};

/// Commands to read ahead that may wait for a helper.
const MAXIMUM_AHEAD: usize = 64;

/// Pages that follow each other, being read in one command.
struct Reading {
    disk: Arc<dyn BlockDevice>,
    block_size: u64,
    /// Where the first page begins, and what is left of the device from there.
    start: u64,
    room: u64,
    slots: Vec<u32>,
    buffers: Vec<Arc<PageBuffer>>,
}

impl<R: RawMutex> Cache<R> {
    /// Has `length` bytes at `offset` read by helpers, as far as they are not in memory.
    pub fn prefetch(&self, device: DeviceIndex, offset: u64, length: u64) {
        let mut queued = 0;
        {
            let mut table = self.table.lock();
            let Some(attached) = table.attached(device) else { return };
            let end = offset.saturating_add(length).min(attached.bytes).div_ceil(PAGE) as u32;
            let mut page = split(offset).0;
            while page < end && table.ahead.len() < MAXIMUM_AHEAD {
                let missing = (page..end.min(page.saturating_add(BATCH as u32)))
                    .take_while(|&page| table.find(device.0, page).is_none())
                    .count() as u32;
                if missing > 0 {
                    table.ahead.push_back(Ahead { device: device.0, page, pages: missing });
                    queued += 1;
                }
                page += missing.max(1);
            }
        }
        match &self.wake {
            Some(wake) => (0..queued).for_each(|_| wake()),
            None => while queued > 0 && self.work() {},
        }
    }

    /// Reads ahead. Makes no room for it but what is free, and tells nobody of errors: who needs the pages meets them.
    pub(super) fn read_ahead(&self, Ahead { device, page, pages }: Ahead) {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let mut table = self.table.lock();
        let end = page.saturating_add(pages);
        let Some(first) = (page..end).find(|&page| table.find(device, page).is_none()) else { return };
        let Ok(buffer) = table.take_buffer() else { return };
        let wanted = (end - first) as usize;
        let reading =
            table.begin_reading(DeviceIndex(device), first, wanted, buffer, Purpose::Ahead, &ticket);
        let Some(mut reading) = reading else { return };
        table.statistics.pages_ahead += reading.slots.len() as u64;
        drop(table);
        let result = reading.run();
        let mut table = self.table.lock();
        let _ = table.end_reading(reading, &[result], 0);
        drop(in_progress);
    }

    /// Brings the page at `position` in, and in the same command those that follow up to `end`. Waits instead if
    /// somebody does that already. Everything has to be looked up again afterwards.
    pub(super) fn fill<'a>(
        &'a self,
        mut table: MutexGuard<'a, R, Table<R>>,
        device: DeviceIndex,
        position: u64,
        end: u64,
        purpose: Purpose,
    ) -> Result<MutexGuard<'a, R, Table<R>>, CacheError> {
        let (page, _) = split(position);
        if let Some(slot) = table.find(device.0, page) {
            let entry = &mut table.slots[slot as usize];
            if let Some(ticket) = entry.busy.clone() {
                drop(table);
                wait(&ticket);
                return Ok(self.table.lock());
            }
            return self.complete(table, device, slot);
        }
        let wanted = (split(end.saturating_sub(1).max(position)).0 - page + 1) as usize;
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let Some(buffer) = self.spare(&mut table)? else {
            drop(in_progress);
            return Ok(table);
        };
        let reading = table.begin_reading(device, page, wanted, buffer, purpose, &ticket);
        let mut reading = reading.ok_or(CacheError::NoResources)?;
        drop(table);

        let mut results = Vec::from([reading.run()]);
        // One bad block must not fail a read of its neighbours: try the pages one by one.
        if results.contains(&Err(DeviceError::Medium)) && reading.buffers.len() > 1 {
            results = (0..reading.buffers.len()).map(|number| reading.run_one(number)).collect();
        }

        let mut table = self.table.lock();
        let answer = table.end_reading(reading, &results, end);
        drop(in_progress);
        answer.map(|()| table)
    }

    /// Reads the unknown sectors of a page in memory.
    fn complete<'a>(
        &'a self,
        mut table: MutexGuard<'a, R, Table<R>>,
        device: DeviceIndex,
        slot: u32,
    ) -> Result<MutexGuard<'a, R, Table<R>>, CacheError> {
        let attached = table.attached(device).ok_or(CacheError::OutOfRange)?;
        let disk = attached.device.clone();
        let (block_size, bytes) = (u64::from(attached.block_size), attached.bytes);
        let shared =
            table.slots[slot as usize].buffer.as_ref().is_none_or(|buffer| Arc::strong_count(buffer) > 1);
        if shared {
            let (own_device, page) = (table.slots[slot as usize].device, table.slots[slot as usize].page);
            let Some(fresh) = self.spare(&mut table)? else { return Ok(table) };
            if table.find(own_device, page) != Some(slot) || table.slots[slot as usize].busy.is_some() {
                return Ok(table);
            }
            table.unshare(slot, fresh, false);
        }
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let entry = &mut table.slots[slot as usize];
        let Some(mut buffer) = entry.buffer.take() else { return Ok(table) };
        entry.busy = Some(ticket.clone());
        let missing = !entry.valid;
        let page_start = u64::from(entry.page) * PAGE;
        table.statistics.reads += 1;
        table.statistics.pages_read += 1;
        drop(table);

        let mut result = Ok(());
        if let Some(buffer) = Arc::get_mut(&mut buffer) {
            for_each_run(missing, |first, count| {
                let start = first * SECTOR_SIZE;
                let room = bytes.saturating_sub(page_start + start as u64).min((count * SECTOR_SIZE) as u64);
                if room > 0
                    && result.is_ok()
                    && let Some(target) = buffer.bytes.get_mut(start..start + room as usize)
                {
                    result = disk.read((page_start + start as u64) / block_size, &mut [target]);
                }
            });
        }

        let mut table = self.table.lock();
        let entry = &mut table.slots[slot as usize];
        entry.busy = None;
        entry.buffer = Some(buffer);
        if result.is_ok() {
            entry.valid = WHOLE;
        }
        drop(in_progress);
        result?;
        Ok(table)
    }
}

impl<R: RawMutex> Table<R> {
    /// Takes up to `wanted` pages from `page` on, which is not in memory, up to the first that is, to be read under
    /// `ticket`. `None` when memory is out.
    fn begin_reading(
        &mut self,
        device: DeviceIndex,
        page: u32,
        wanted: usize,
        buffer: Arc<PageBuffer>,
        purpose: Purpose,
        ticket: &Ticket<R>,
    ) -> Option<Reading> {
        let attached = self.attached(device)?;
        let start = u64::from(page) * PAGE;
        let room = attached.bytes.saturating_sub(start);
        let mut reading = Reading {
            disk: attached.device.clone(),
            block_size: u64::from(attached.block_size),
            start,
            room,
            slots: Vec::new(),
            buffers: Vec::new(),
        };
        let wanted = wanted.min(BATCH).min(room.div_ceil(PAGE) as usize);
        reading.slots.reserve(wanted);
        reading.buffers.reserve(wanted);
        let mut first = Some(buffer);
        for next in (page..).take(wanted) {
            if next != page && self.find(device.0, next).is_some() {
                break;
            }
            let Some(buffer) = first.take().or_else(|| self.take_buffer().ok()) else { break };
            let Some(slot) = self.insert(device.0, next, purpose) else { break };
            self.slots[slot as usize].busy = Some(ticket.clone());
            reading.slots.push(slot);
            reading.buffers.push(buffer);
        }
        self.statistics.reads += 1;
        self.statistics.pages_read += reading.slots.len() as u64;
        (!reading.slots.is_empty()).then_some(reading)
    }

    /// Puts what was read into its slots; `results` are those of each page, or one for all. The first error of a page
    /// before byte `end` is the answer.
    fn end_reading(
        &mut self,
        reading: Reading,
        results: &[Result<(), DeviceError>],
        end: u64,
    ) -> Result<(), CacheError> {
        let mut answer = Ok(());
        for (number, (slot, buffer)) in reading.slots.into_iter().zip(reading.buffers).enumerate() {
            let entry = &mut self.slots[slot as usize];
            entry.busy = None;
            match results.get(number).or(results.first()) {
                Some(Err(error)) => {
                    drop(self.remove(slot));
                    if reading.start + number as u64 * PAGE < end && answer.is_ok() {
                        answer = Err(CacheError::Device(*error));
                    }
                }
                _ => {
                    entry.buffer = Some(buffer);
                    // The last page may reach beyond the end of the device; nobody asks for what is there.
                    entry.valid = WHOLE;
                }
            }
        }
        answer
    }
}

impl Reading {
    /// Reads all pages in one command.
    fn run(&mut self) -> Result<(), DeviceError> {
        self.read(0, self.buffers.len())
    }

    /// Reads one of the pages.
    fn run_one(&mut self, number: usize) -> Result<(), DeviceError> {
        self.read(number, 1)
    }

    fn read(&mut self, from: usize, count: usize) -> Result<(), DeviceError> {
        let before = from as u64 * PAGE;
        // The last page only as far as the device goes.
        let mut left = self.room.saturating_sub(before);
        let mut list: Vec<&mut [u8]> = Vec::with_capacity(count);
        for buffer in self.buffers.iter_mut().skip(from).take(count) {
            let length = left.min(PAGE_SIZE as u64) as usize;
            left -= length as u64;
            let bytes = Arc::get_mut(buffer).and_then(|buffer| buffer.bytes.get_mut(..length));
            list.push(bytes.ok_or(DeviceError::Failed)?);
        }
        self.disk.read((self.start + before) / self.block_size, &mut list)
    }
}
