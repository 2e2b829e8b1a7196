//! Guarded stacks: pages of the stack window, with an unmapped page below each stack.

use core::alloc::Layout;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::memory_map::{STACK_WINDOW, STACK_WINDOW_PAGES};
use crate::mmu::{self, PAGE};

/// Bytes that a stack is filled with, so that its high-water mark can be read off.
const PATTERN: u8 = 0xA5;

/// The first page of the window that no stack has used yet. Stacks are made at start and live for ever, so the window
/// only fills up.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A stack with an unmapped page below it. Lives for ever.
#[derive(Debug)]
pub struct Stack {
    bottom: usize,
    length: usize,
}

extern crate alloc;

impl Stack {
    /// A stack of at least `bytes`, rounded up to whole pages; `None` when memory or window are used up.
    pub fn new(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let layout = Layout::from_size_align(pages.checked_mul(PAGE)?, PAGE).ok()?;
        let first = NEXT.fetch_add(pages + 1, Ordering::Relaxed) + 1;
        if first + pages > STACK_WINDOW_PAGES {
            NEXT.fetch_sub(pages + 1, Ordering::Relaxed);
            return None;
        }
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc::alloc::alloc(layout) };
        if memory.is_null() {
            return None;
        }
        // SAFETY: fresh memory of that length.
        unsafe { memory.write_bytes(PATTERN, pages * PAGE) };
        for page in 0..pages {
            // SAFETY: the counter hands out each index once; the memory is ours and page aligned.
            unsafe { mmu::map_page(first + page, (memory as usize + page * PAGE) as u32) };
        }
        Some(Self { bottom: STACK_WINDOW as usize + first * PAGE, length: pages * PAGE })
    }

    /// The address behind the stack's last byte, where it begins: page aligned.
    pub fn top(&self) -> usize {
        self.bottom + self.length
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The most bytes that were ever in use.
    pub fn high_water(&self) -> usize {
        let mut untouched = 0;
        while untouched < self.length {
            // SAFETY: inside the stack, which is mapped for ever.
            if unsafe { ((self.bottom + untouched) as *const u8).read_volatile() } != PATTERN {
                break;
            }
            untouched += 1;
        }
        self.length - untouched
    }
}
