//! Page memory, and reads that refer to it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes a page.
pub const PAGE_SIZE: usize = 16384;

/// The unit in which a page is valid or dirty; also the smallest block of a device.
pub const SECTOR_SIZE: usize = 512;

/// All sectors of a page.
pub(super) const WHOLE: u32 = u32::MAX;

const _: () = assert!(PAGE_SIZE / SECTOR_SIZE == u32::BITS as usize);

/// The memory of one page. It counts itself as long as it lives, wherever it is held.
pub(super) struct PageBuffer {
    pub(super) bytes: Box<[u8]>,
    alive: Arc<AtomicUsize>,
}

impl PageBuffer {
    /// A page of zeros, unless memory is out.
    pub(super) fn new(alive: &Arc<AtomicUsize>) -> Option<Arc<Self>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(PAGE_SIZE).ok()?;
        bytes.resize(PAGE_SIZE, 0);
        alive.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Self { bytes: bytes.into_boxed_slice(), alive: alive.clone() }))
    }
}

impl Drop for PageBuffer {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sectors that bytes `start..end` of a page touch; `start < end`.
#[inline]
pub(super) fn sector_mask(start: usize, end: usize) -> u32 {
    let first = start / SECTOR_SIZE;
    let count = (end - 1) / SECTOR_SIZE - first + 1;
    (u32::MAX >> (32 - count)) << first
}

/// Calls `visit(first, count)` for each run of set bits in `mask`, rising.
pub(super) fn for_each_run(mut mask: u32, mut visit: impl FnMut(usize, usize)) {
    while mask != 0 {
        let first = mask.trailing_zeros();
        let count = (!(mask >> first)).trailing_zeros().min(32 - first);
        visit(first as usize, count as usize);
        mask &= !(((u64::from(u32::MAX) >> (32 - count)) << first) as u32);
    }
}

/// Part of a page, held: the cache leaves these bytes alone until this is dropped (a write meanwhile goes to a copy).
#[derive(Clone)]
pub(super) struct Pin {
    /// `None` stands for zeros.
    pub(super) buffer: Option<Arc<PageBuffer>>,
    pub(super) start: u16,
    pub(super) length: u16,
}

/// Zeros to read, in pieces as they take room in the image.
static ZEROS: [u8; 512] = [0; 512];

impl Pin {
    fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        let mut length = usize::from(self.length);
        match &self.buffer {
            Some(buffer) => {
                let start = usize::from(self.start);
                visit(buffer.bytes.get(start..start + length).unwrap_or(&[]));
            }
            None => {
                while length > 0 {
                    let piece = ZEROS.get(..length).unwrap_or(&ZEROS);
                    visit(piece);
                    length -= piece.len();
                }
            }
        }
    }
}

/// The bytes of a read: references to cache pages, which stay as they are while this lives.
#[derive(Clone, Default)]
pub struct Payload {
    length: usize,
    /// Most reads need one page, and no list.
    first: Option<Pin>,
    more: Vec<Pin>,
}

impl Payload {
    /// No bytes.
    pub const fn new() -> Self {
        Self { length: 0, first: None, more: Vec::new() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Calls `visit` with each piece in order.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        for pin in self.first.iter().chain(&self.more) {
            pin.for_each(visit);
        }
    }

    /// The bytes in one piece, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.length);
        self.for_each(&mut |piece| all.extend_from_slice(piece));
        all
    }

    pub(super) fn push(&mut self, pin: Pin) {
        self.length += usize::from(pin.length);
        if self.first.is_none() {
            self.first = Some(pin);
        } else {
            self.more.push(pin);
        }
    }

    /// The present end, to come back to.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.length, usize::from(self.first.is_some()) + self.more.len())
    }

    /// Goes back to an end.
    pub(super) fn cut(&mut self, (length, pins): (usize, usize)) {
        self.length = length;
        self.more.truncate(pins.saturating_sub(1));
        if pins == 0 {
            self.first = None;
        }
    }

    /// Adds `count` zeros at the end.
    pub(crate) fn push_zeros(&mut self, mut count: usize) {
        while count > 0 {
            let length = count.min(PAGE_SIZE);
            self.push(Pin { buffer: None, start: 0, length: length as u16 });
            count -= length;
        }
    }

    /// Makes room for reads of `pages` pages.
    pub(crate) fn reserve(&mut self, pages: usize) {
        if pages > 1 {
            self.more.reserve(pages - 1);
        }
    }
}

impl core::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Payload({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cover_the_sectors_touched() {
        assert_eq!(sector_mask(0, 1), 1);
        assert_eq!(sector_mask(511, 513), 0b11);
        assert_eq!(sector_mask(0, PAGE_SIZE), WHOLE);
        assert_eq!(sector_mask(PAGE_SIZE - 1, PAGE_SIZE), 1 << 31);
        let mut runs = std::vec![];
        for_each_run(0b1000_0000_0000_0000_0000_0000_0011_0110, |first, count| runs.push((first, count)));
        assert_eq!(runs, [(1, 2), (4, 2), (31, 1)]);
        runs.clear();
        for_each_run(WHOLE, |first, count| runs.push((first, count)));
        assert_eq!(runs, [(0, 32)]);
    }

    #[test]
    fn zeros_are_pieces_too() {
        let mut payload = Payload::new();
        payload.push_zeros(10_000);
        assert_eq!(payload.len(), 10_000);
        assert_eq!(payload.to_vec(), std::vec![0; 10_000]);
    }
}
