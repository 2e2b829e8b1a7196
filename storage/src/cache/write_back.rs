//! Dirty pages on their way to the devices.

use alloc::sync::Arc;
use alloc::vec::Vec;

use lock_api::{Mutex, RawMutex};

use super::page::{PageBuffer, SECTOR_SIZE, for_each_run};
use super::table::{Slot, Table, Ticket};
use super::{BATCH, Cache, CacheError, DeviceIndex, PAGE, wait};
use crate::DeviceError;

/// Failed writes in a row after which a device's dirty pages are given up, so that they do not fill the cache.
const PATIENCE: u32 = 8;

/// One page of a batch.
struct Member {
    slot: u32,
    buffer: Arc<PageBuffer>,
    start: u64,
    sectors: u32,
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
                    return Ok(());
                }
            }
            if !self.write_some(Some(device), None)? {
                return Ok(());
            }
        }
    }

    /// Writes all that is dirty of `device` now (but what is held back) without flushing it.
    pub fn write_back(&self, device: DeviceIndex) -> Result<(), CacheError> {
        let until = self.table.lock().clock();
        while self.write_some(Some(device), Some(until))? {}
        let tickets = self.table.lock().writes_in_progress(device.0);
        for ticket in &tickets {
            wait(ticket);
        }
        // Failures of the writes that were waited for leave their pages dirty: write them here, and learn of it.
        if !tickets.is_empty() {
            while self.write_some(Some(device), Some(until))? {}
        }
        Ok(())
    }

    /// When this returns, all that was written to `device` before (but what is held back) survives a power cut.
    pub fn flush(&self, device: DeviceIndex) -> Result<(), CacheError> {
        self.write_back(device)?;
        self.barrier(device)
    }

    /// Flushes the device's own cache, without writing pages first.
    pub fn barrier(&self, device: DeviceIndex) -> Result<(), CacheError> {
        let disk = {
            let mut table = self.table.lock();
            table.statistics.flushes += 1;
            let attached = table.attached(device).ok_or(CacheError::OutOfRange)?;
            if attached.lost {
                return Err(CacheError::Device(DeviceError::Gone));
            }
            attached.device.clone()
        };
        disk.flush()?;
        Ok(())
    }

    /// Whether anything of `device` is dirty.
    pub fn is_dirty(&self, device: DeviceIndex) -> bool {
        self.table.lock().attached(device).is_some_and(|attached| attached.dirty > 0)
    }

    /// Whether the device has yet to get the sector at `offset`.
    pub fn is_sector_dirty(&self, device: DeviceIndex, offset: u64) -> bool {
        let (page, start) = super::split(offset);
        let table = self.table.lock();
        let slot = table.find(device.0, page).and_then(|slot| table.slots.get(slot as usize));
        slot.is_some_and(|slot| slot.dirty & super::sector_mask(start, start + 1) != 0)
    }

    /// Writes one batch: the page dirty for longest and its dirty neighbours. False when there is nothing to write.
    pub(super) fn write_some(
        &self,
        device: Option<DeviceIndex>,
        until: Option<u32>,
    ) -> Result<bool, CacheError> {
        let ticket: Ticket<R> = Arc::new(Mutex::new(()));
        let in_progress = ticket.lock();
        let mut table = self.table.lock();
        let Some(oldest) = table.oldest_dirty(device.map(|device| device.0), until) else { return Ok(false) };
        let device = DeviceIndex(table.slots[oldest as usize].device);
        let Some(attached) = table.attached(device) else { return Ok(false) };
        let disk = attached.device.clone();
        let (block_size, bytes) = (u64::from(attached.block_size), attached.bytes);
        let members = table.batch(oldest);
        for member in &members {
            table.clear_dirty(member.slot, member.sectors);
            table.slots[member.slot as usize].busy = Some(ticket.clone());
        }
        drop(table);

        // Neighbouring sectors become one command, across pages.
        let mut result = Ok(());
        let mut commands = 0;
        let mut written = 0;
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut start = 0;
        let mut end = 0;
        for member in &members {
            for_each_run(member.sectors, |first, count| {
                let at = member.start + (first * SECTOR_SIZE) as u64;
                let length = (count * SECTOR_SIZE).min(bytes.saturating_sub(at) as usize);
                let piece =
                    member.buffer.bytes.get(first * SECTOR_SIZE..).and_then(|rest| rest.get(..length));
                let Some(piece) = piece else { return };
                if at != end && !pieces.is_empty() {
                    commands += 1;
                    result = result.and(disk.write(start / block_size, &pieces));
                    pieces.clear();
                }
                if pieces.is_empty() {
                    start = at;
                }
                pieces.push(piece);
                written += length as u64;
                end = at + length as u64;
            });
        }
        if !pieces.is_empty() {
            commands += 1;
            result = result.and(disk.write(start / block_size, &pieces));
        }
        drop(pieces);

        let mut table = self.table.lock();
        table.statistics.writes += commands;
        table.statistics.bytes_written += written;
        let lost_before = table.attached(device).is_none_or(|attached| attached.lost);
        let give_up = match (result, table.attached_mut(device)) {
            (Err(error), Some(attached)) => {
                attached.failures += 1;
                attached.lost |= attached.failures >= PATIENCE || error == DeviceError::Gone;
                attached.lost
            }
            (Ok(()), Some(attached)) => {
                attached.failures = 0;
                false
            }
            (_, None) => true,
        };
        for member in members {
            table.slots[member.slot as usize].busy = None;
            if result.is_err() && !give_up {
                table.set_dirty(member.slot, member.sectors);
            }
        }
        if give_up && !lost_before {
            log::error!("cache: device {} takes no writes: what was not written yet is lost", device.0);
        }
        if give_up {
            for slot in table.pages_of(device.0) {
                table.clear_dirty(slot, super::WHOLE);
            }
        }
        drop(in_progress);
        result.map(|()| true).map_err(CacheError::Device)
    }
}

impl<R: RawMutex> Table<R> {
    /// `slot` and its neighbours on the device that can be written now, in rising order.
    fn batch(&self, slot: u32) -> Vec<Member> {
        let can_go = |slot: &Slot<R>| slot.busy.is_none() && self.writable(slot) != 0;
        let seed = &self.slots[slot as usize];
        let neighbour = |page: u32| {
            let slot = self.find(seed.device, page)?;
            can_go(&self.slots[slot as usize]).then_some(slot)
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
            members.push(Member { slot, buffer, start, sectors });
        }
        members
    }
}

/// Dirty pages of one device beyond which its writers have to wait: a quarter of the cache.
fn dirty_limit(maximum: u32) -> u32 {
    (maximum / 4).max(8)
}
