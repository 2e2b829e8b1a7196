//! Which page is where in memory, which are dirty, and which goes next. No I/O here.
//!
//! Replacement is S3-FIFO (Yang et al., SOSP 2023): new pages enter a small queue; those used again before they reach
//! its end move to the main queue, the others leave, so one long scan passes through the small queue without touching
//! the rest. A page that comes back soon after it left enters the main queue directly, unless it was read ahead. A hit
//! only bumps a counter, and the first of a page that was read for it not even that. Dirty pages are in no queue: they
//! join theirs when they are clean.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use lock_api::{Mutex, RawMutex};

use super::page::PageBuffer;
use crate::hash_index::{HashIndex, NONE};
use crate::{BlockDevice, DeviceError};

/// Locked by who does I/O on pages; who needs one of them waits for the lock.
pub(super) type Ticket<R> = Arc<Mutex<R, ()>>;

/// Which queue a slot is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Queue {
    /// The slot holds no page.
    Free,
    Small,
    Main,
}

/// What the cache knows of one page.
pub(super) struct Slot<R> {
    /// `None` while the page is being read, or the slot is free.
    pub(super) buffer: Option<Arc<PageBuffer>>,
    /// I/O in progress: reading if `buffer` is `None`, else writing.
    pub(super) busy: Option<Ticket<R>>,
    pub(super) page: u32,
    pub(super) device: u8,
    queue: Queue,
    /// Uses in different epochs, up to 3.
    frequency: u8,
    /// Read for a use that is still to come.
    fresh: bool,
    epoch: u16,
    /// Sectors whose content is known.
    pub(super) valid: u32,
    /// Sectors that the device has yet to get; always valid.
    pub(super) dirty: u32,
    /// Dirty sectors that must not be written before group `hold` is committed.
    pub(super) held: u32,
    pub(super) hold: u32,
    /// The device did not take it the last time.
    pub(super) failed: bool,
    /// Sectors that the device got, but may have in its own cache only.
    pub(super) unsafe_sectors: u32,
    /// The device's [`Attached::flushes_begun`] when it got them.
    pub(super) written: u32,
    /// When the page became dirty, in calls of `set_dirty`.
    pub(super) dirtied: u32,
    /// In its queue, or among the dirty pages.
    link: Link,
}

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

const UNLINKED: Link = Link { newer: NONE, older: NONE };

/// A list of slots through one of their links.
#[derive(Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    length: u32,
}

const EMPTY: List = List { newest: NONE, oldest: NONE, length: 0 };

/// A device and its accounts.
pub(super) struct Attached {
    pub(super) device: Arc<dyn BlockDevice>,
    /// Its size in bytes.
    pub(super) bytes: u64,
    pub(super) block_size: u32,
    pub(super) dirty: u32,
    /// Groups up to this one are committed: see `Slot::hold`.
    pub(super) committed: u32,
    /// Writes and flushes that failed since the last flush that did not.
    pub(super) failures: u32,
    /// How the last write or flush that failed did so.
    pub(super) last_failure: DeviceError,
    /// Written data was given up, because the device would not take it.
    pub(super) lost: bool,
    /// Counts the flushes that were begun; what was written while it was less than `safe` survives a power cut.
    pub(super) flushes_begun: u32,
    pub(super) safe: u32,
}

impl Attached {
    /// Whether what was written at this count of flushes survives a power cut.
    pub(super) fn is_safe(&self, written: u32) -> bool {
        (written.wrapping_sub(self.safe) as i32) < 0
    }
}

/// Pages to be read ahead in one command.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) device: u8,
    pub(super) page: u32,
    pub(super) pages: u32,
}

/// Pages that there may be beyond the budget.
const MAXIMUM_EXTRA: u32 = 256;

/// Why there is no memory for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shortage {
    /// All pages are dirty, busy or pinned.
    Bound,
    /// The next page to go was written to a device that has yet to be flushed.
    Unflushed(u8),
}

/// Counters since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pages found in memory.
    pub hits: u64,
    /// Pages that were not.
    pub misses: u64,
    /// Read commands to devices.
    pub reads: u64,
    /// Pages that these read.
    pub pages_read: u64,
    /// Of these, pages read ahead.
    pub pages_ahead: u64,
    /// Write commands to devices.
    pub writes: u64,
    /// Bytes that these wrote.
    pub bytes_written: u64,
    /// Flush commands to devices.
    pub flushes: u64,
    /// Pages copied because they were written to while pinned.
    pub copies: u64,
    /// Pages in memory now.
    pub pages: u32,
    /// Of these, pages with data that the device has yet to get.
    pub dirty_pages: u32,
    /// How many pages the budget allows.
    pub maximum_pages: u32,
}

/// What a page enters the cache for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A file's data, read for somebody who waits.
    Read,
    /// A file's data, read for somebody who may come.
    Ahead,
    /// A file's data, written.
    Write,
    /// Metadata, which is important: it enters the main queue.
    Structure,
}

/// All of the cache's state but the page contents on their way from and to devices.
pub(super) struct Table<R> {
    pub(super) slots: Vec<Slot<R>>,
    index: HashIndex,
    free: u32,
    small: List,
    main: List,
    dirty: List,
    pub(super) maximum: u32,
    alive: Arc<AtomicUsize>,
    epoch: u16,
    since_epoch: u32,
    clock: u32,
    /// Fingerprints of pages that left the small queue lately, by hash.
    ghosts: Vec<u32>,
    pub(super) devices: Vec<Option<Attached>>,
    /// Reads that a helper is to carry out.
    pub(super) ahead: VecDeque<Ahead>,
    /// Writes in progress, by device.
    pub(super) writing: Vec<(u8, Ticket<R>)>,
    pub(super) statistics: Statistics,
}

fn hash(device: u8, page: u32) -> u32 {
    page ^ (u32::from(device) << 26).wrapping_mul(0x85EB_CA6B) ^ u32::from(device)
}

impl<R: RawMutex> Table<R> {
    pub(super) fn new(maximum: u32) -> Self {
        Self {
            slots: Vec::new(),
            index: HashIndex::new(),
            free: NONE,
            small: EMPTY,
            main: EMPTY,
            dirty: EMPTY,
            maximum,
            alive: Arc::new(AtomicUsize::new(0)),
            epoch: 0,
            since_epoch: 0,
            clock: 0,
            ghosts: Vec::new(),
            devices: Vec::new(),
            ahead: VecDeque::new(),
            writing: Vec::new(),
            statistics: Statistics { maximum_pages: maximum, ..Statistics::default() },
        }
    }

    /// The slot of a page in memory (or on its way there).
    #[inline]
    pub(super) fn find(&self, device: u8, page: u32) -> Option<u32> {
        self.index.find(hash(device, page), |slot| {
            self.slots.get(slot as usize).is_some_and(|slot| slot.page == page && slot.device == device)
        })
    }

    /// Notes a use, for the replacement.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        let epoch = self.epoch;
        let slot = &mut self.slots[slot as usize];
        if slot.fresh {
            slot.fresh = false;
            slot.epoch = epoch;
        } else if slot.epoch != epoch {
            slot.epoch = epoch;
            slot.frequency = (slot.frequency + 1).min(3);
        }
        self.statistics.hits += 1;
    }

    /// A slot for a page that has none.
    pub(super) fn insert(&mut self, device: u8, page: u32, purpose: Purpose) -> Option<u32> {
        let slot = if self.free != NONE {
            let slot = self.free;
            self.free = self.slots[slot as usize].link.older;
            slot
        } else {
            let slot = self.slots.len() as u32;
            self.slots.try_reserve(1).ok()?;
            self.slots.push(Slot {
                buffer: None,
                busy: None,
                page: 0,
                device: 0,
                queue: Queue::Free,
                frequency: 0,
                fresh: false,
                epoch: 0,
                valid: 0,
                dirty: 0,
                held: 0,
                hold: 0,
                failed: false,
                unsafe_sectors: 0,
                written: 0,
                dirtied: 0,
                link: UNLINKED,
            });
            slot
        };
        let hash = hash(device, page);
        if !self.index.insert(hash, slot) {
            self.slots[slot as usize].link = Link { newer: NONE, older: self.free };
            self.free = slot;
            return None;
        }
        self.since_epoch += 1;
        if self.since_epoch >= 64.max(self.maximum / 64) {
            self.since_epoch = 0;
            self.epoch = self.epoch.wrapping_add(1);
        }
        let important = purpose == Purpose::Structure;
        let known = important || (purpose != Purpose::Ahead && self.was_here(hash));
        let epoch = self.epoch;
        let entry = &mut self.slots[slot as usize];
        entry.page = page;
        entry.device = device;
        entry.frequency = u8::from(important);
        entry.fresh = matches!(purpose, Purpose::Ahead | Purpose::Read);
        entry.epoch = epoch;
        entry.valid = 0;
        entry.dirty = 0;
        entry.held = 0;
        entry.failed = false;
        entry.unsafe_sectors = 0;
        entry.queue = if known { Queue::Main } else { Queue::Small };
        self.statistics.pages += 1;
        self.statistics.misses += 1;
        self.enqueue(slot);
        Some(slot)
    }

    /// Forgets a page that is not dirty; gives its memory back to the caller.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Arc<PageBuffer>> {
        self.clear_dirty(slot, super::page::WHOLE);
        self.dequeue(slot);
        let free = self.free;
        let entry = &mut self.slots[slot as usize];
        let hash = hash(entry.device, entry.page);
        entry.queue = Queue::Free;
        entry.busy = None;
        entry.link = Link { newer: NONE, older: free };
        let buffer = entry.buffer.take();
        self.free = slot;
        self.index.remove(hash, slot);
        self.statistics.pages -= 1;
        buffer
    }

    /// Page memory that nobody else holds: new while the budget lasts, else a page's that is given up for it.
    pub(super) fn take_buffer(&mut self) -> Result<Arc<PageBuffer>, Shortage> {
        if self.alive.load(Ordering::Relaxed) < self.maximum as usize
            && let Some(buffer) = PageBuffer::new(&self.alive)
        {
            return Ok(buffer);
        }
        // Each page is looked at a few times at most: once per use counted, and once more.
        let mut budget = (self.small.length + self.main.length) * 4;
        let mut bound_small = 0;
        let mut shortage = Shortage::Bound;
        while budget > 0 {
            budget -= 1;
            let target = (self.small.length + self.main.length) / 10;
            let from_small =
                self.main.length == 0 || (self.small.length > target && bound_small < self.small.length);
            let slot = if from_small { self.small.oldest } else { self.main.oldest };
            let Some(entry) = self.slots.get_mut(slot as usize) else { return Err(shortage) };
            let bound = entry.busy.is_some()
                || entry.buffer.as_ref().is_none_or(|buffer| Arc::strong_count(buffer) > 1);
            if bound {
                // Pinned pages go round until they are free.
                bound_small += u32::from(from_small);
                self.dequeue(slot);
                self.enqueue(slot);
            } else if entry.frequency > 0 {
                entry.frequency -= u8::from(!from_small);
                self.dequeue(slot);
                let entry = &mut self.slots[slot as usize];
                if from_small {
                    entry.queue = Queue::Main;
                    entry.frequency = 0;
                }
                self.enqueue(slot);
            } else {
                let (device, page) = (entry.device, entry.page);
                if entry.unsafe_sectors != 0
                    && let Some(Some(attached)) = self.devices.get(usize::from(device))
                    && !attached.is_safe(entry.written)
                    && !attached.lost
                {
                    // Should its device fail to flush, this is what has to be written again.
                    shortage = Shortage::Unflushed(device);
                    break;
                }
                if from_small {
                    self.note_ghost(hash(device, page));
                }
                if let Some(buffer) = self.remove(slot) {
                    return Ok(buffer);
                }
            }
        }
        Err(shortage)
    }

    /// Page memory beyond the budget, for the time until pinned pages are free again.
    pub(super) fn take_extra_buffer(&mut self) -> Option<Arc<PageBuffer>> {
        let extra = (self.maximum / 4).min(MAXIMUM_EXTRA);
        if self.alive.load(Ordering::Relaxed) < (self.maximum + extra) as usize {
            PageBuffer::new(&self.alive)
        } else {
            None
        }
    }

    /// Whether so much is dirty that helpers write some of it.
    pub(super) fn much_is_dirty(&self) -> bool {
        self.statistics.dirty_pages > self.maximum / 16
    }

    /// Notes that a device has got sectors of a page.
    pub(super) fn note_written(&mut self, slot: u32, sectors: u32) {
        let entry = &mut self.slots[slot as usize];
        let Some(Some(attached)) = self.devices.get(usize::from(entry.device)) else { return };
        if attached.is_safe(entry.written) {
            entry.unsafe_sectors = 0;
        }
        entry.unsafe_sectors |= sectors;
        entry.written = attached.flushes_begun;
    }

    /// A flush of `device` failed: what it got since the last one that did not is to be written again.
    pub(super) fn write_again(&mut self, device: u8) {
        for slot in self.pages_of(device) {
            let entry = &self.slots[slot as usize];
            let Some(Some(attached)) = self.devices.get(usize::from(device)) else { return };
            if attached.lost {
                return;
            }
            if entry.unsafe_sectors != 0 && !attached.is_safe(entry.written) && entry.buffer.is_some() {
                self.set_dirty(slot, entry.unsafe_sectors & entry.valid);
            }
        }
    }

    /// Marks sectors dirty.
    #[inline]
    pub(super) fn set_dirty(&mut self, slot: u32, sectors: u32) {
        let entry = &mut self.slots[slot as usize];
        if entry.dirty == 0 && sectors != 0 {
            self.clock = self.clock.wrapping_add(1);
            entry.dirtied = self.clock;
            if let Some(Some(attached)) = self.devices.get_mut(usize::from(entry.device)) {
                attached.dirty += 1;
            }
            self.statistics.dirty_pages += 1;
            self.dequeue(slot);
            push(&mut self.dirty, &mut self.slots, slot);
        }
        self.slots[slot as usize].dirty |= sectors;
    }

    /// Marks sectors clean.
    pub(super) fn clear_dirty(&mut self, slot: u32, sectors: u32) {
        let entry = &mut self.slots[slot as usize];
        let before = entry.dirty;
        entry.dirty &= !sectors;
        entry.held &= !sectors;
        if before != 0 && entry.dirty == 0 {
            if let Some(Some(attached)) = self.devices.get_mut(usize::from(entry.device)) {
                attached.dirty -= 1;
            }
            self.statistics.dirty_pages -= 1;
            unlink(&mut self.dirty, &mut self.slots, slot);
            self.enqueue(slot);
        }
    }

    /// The dirty sectors of a page that may be written now.
    pub(super) fn writable(&self, slot: &Slot<R>) -> u32 {
        if slot.held == 0 {
            return slot.dirty;
        }
        match self.devices.get(usize::from(slot.device)) {
            Some(Some(attached)) if (attached.committed.wrapping_sub(slot.hold) as i32) < 0 => {
                slot.dirty & !slot.held
            }
            _ => slot.dirty,
        }
    }

    /// The page dirty for longest that can be written now, of `device` or of all; only pages that became dirty up to
    /// `until`, if given, and that `is_meant` names.
    pub(super) fn oldest_dirty(
        &self,
        device: Option<u8>,
        until: Option<u32>,
        is_meant: impl Fn(&Slot<R>) -> bool,
    ) -> Option<u32> {
        let mut slot = self.dirty.oldest;
        while slot != NONE {
            let entry = &self.slots[slot as usize];
            if until.is_some_and(|until| (until.wrapping_sub(entry.dirtied) as i32) < 0) {
                return None;
            }
            if entry.busy.is_none()
                && device.is_none_or(|device| device == entry.device)
                && self.writable(entry) != 0
                && is_meant(entry)
            {
                return Some(slot);
            }
            slot = entry.link.newer;
        }
        None
    }

    /// Some page with I/O in progress, to wait for.
    pub(super) fn any_busy(&self) -> Option<Ticket<R>> {
        self.slots.iter().find_map(|slot| slot.busy.clone())
    }

    /// The tickets of writes in progress to `device`.
    pub(super) fn writes_in_progress(&self, device: u8) -> Vec<Ticket<R>> {
        let of_device = self.writing.iter().filter(|(writer, _)| *writer == device);
        of_device.map(|(_, ticket)| ticket.clone()).collect()
    }

    /// Calls `visit` with the dirty pages' slots, the oldest first, until it returns false.
    pub(super) fn for_each_dirty(&self, mut visit: impl FnMut(&Slot<R>) -> bool) {
        let mut slot = self.dirty.oldest;
        while let Some(entry) = self.slots.get(slot as usize) {
            if !visit(entry) {
                return;
            }
            slot = entry.link.newer;
        }
    }

    /// The present moment in the count of `Slot::dirtied`.
    pub(super) fn clock(&self) -> u32 {
        self.clock
    }

    /// The slots of all pages of `device`.
    pub(super) fn pages_of(&self, device: u8) -> Vec<u32> {
        let all = self.slots.iter().enumerate();
        all.filter(|(_, slot)| slot.queue != Queue::Free && slot.device == device)
            .map(|(number, _)| number as u32)
            .collect()
    }

    fn enqueue(&mut self, slot: u32) {
        let list =
            if self.slots[slot as usize].queue == Queue::Small { &mut self.small } else { &mut self.main };
        push(list, &mut self.slots, slot);
    }

    fn dequeue(&mut self, slot: u32) {
        let list =
            if self.slots[slot as usize].queue == Queue::Small { &mut self.small } else { &mut self.main };
        unlink(list, &mut self.slots, slot);
    }

    fn note_ghost(&mut self, hash: u32) {
        if self.ghosts.is_empty() {
            let size = (self.maximum as usize).next_power_of_two();
            if self.ghosts.try_reserve_exact(size).is_err() {
                return;
            }
            self.ghosts.resize(size, 0);
        }
        let mixed = hash.wrapping_mul(0x9E37_79B1);
        let place = (mixed >> 7) as usize & (self.ghosts.len() - 1);
        self.ghosts[place] = mixed | 1;
    }

    fn was_here(&self, hash: u32) -> bool {
        let mixed = hash.wrapping_mul(0x9E37_79B1);
        let place = (mixed >> 7) as usize & self.ghosts.len().wrapping_sub(1);
        self.ghosts.get(place).is_some_and(|&ghost| ghost == mixed | 1)
    }
}

fn push<R>(list: &mut List, slots: &mut [Slot<R>], slot: u32) {
    slots[slot as usize].link = Link { newer: NONE, older: list.newest };
    match list.newest {
        NONE => list.oldest = slot,
        newest => slots[newest as usize].link.newer = slot,
    }
    list.newest = slot;
    list.length += 1;
}

fn unlink<R>(list: &mut List, slots: &mut [Slot<R>], slot: u32) {
    let Link { newer, older } = core::mem::replace(&mut slots[slot as usize].link, UNLINKED);
    match newer {
        NONE => list.newest = older,
        newer => slots[newer as usize].link.older = older,
    }
    match older {
        NONE => list.oldest = newer,
        older => slots[older as usize].link.newer = newer,
    }
    list.length -= 1;
}
