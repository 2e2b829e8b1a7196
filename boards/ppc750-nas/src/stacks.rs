//! Guarded stacks: pages of the stack window, with an unmapped page below each stack. Running over the end of one is a
//! data storage exception, reported on a stack of its own, and not somebody else's memory overwritten.
//!
//! The memory behind a stack comes from the heap in one piece, so a buffer on a stack is in one piece for bus masters too.

extern crate alloc;

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use crate::memory_map::{STACK_WINDOW, STACK_WINDOW_PAGES};
use crate::mmu::{self, PAGE};

const WORDS: usize = STACK_WINDOW_PAGES / 32;

/// Pages of the window that are taken, guard pages included; one bit each.
struct Pages(UnsafeCell<[u32; WORDS]>);

// SAFETY: stacks are made and freed by threads, of which one runs at a time, and never in an interrupt handler.
unsafe impl Sync for Pages {}

static PAGES: Pages = Pages(UnsafeCell::new([0; WORDS]));

/// Finds `count` free pages in a row and takes them.
fn take(count: usize) -> Option<usize> {
    // SAFETY: see `Sync`; the reference ends with this function, which calls nobody.
    let words = unsafe { &mut *PAGES.0.get() };
    let mut run = 0;
    for page in 0..STACK_WINDOW_PAGES {
        run = if words[page / 32] & 1 << (page % 32) == 0 { run + 1 } else { 0 };
        if run == count {
            let first = page + 1 - count;
            for page in first..=page {
                words[page / 32] |= 1 << (page % 32);
            }
            return Some(first);
        }
    }
    None
}

fn give_back(first: usize, count: usize) {
    // SAFETY: as in `take`.
    let words = unsafe { &mut *PAGES.0.get() };
    for page in first..first + count {
        words[page / 32] &= !(1 << (page % 32));
    }
}

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE)?, PAGE).ok()
}

/// The lowest byte of a new stack of `bytes`, a multiple of [`PAGE`]; `None` when memory or window are used up. The pages
/// below and above are not mapped, or another stack's guard.
pub fn allocate(bytes: usize) -> Option<NonNull<u8>> {
    if bytes == 0 || !bytes.is_multiple_of(PAGE) {
        return None;
    }
    let pages = bytes / PAGE;
    let guard = take(pages + 1)?;
    // SAFETY: the layout is not empty.
    let memory = layout(pages).map_or(core::ptr::null_mut(), |layout| unsafe { alloc(layout) });
    if memory.is_null() {
        give_back(guard, pages + 1);
        return None;
    }
    for page in 0..pages {
        // SAFETY: `take` handed these pages out to this call alone; the memory is ours and page aligned.
        unsafe { mmu::map_page(guard + 1 + page, (memory as usize + page * PAGE) as u32) };
    }
    NonNull::new((STACK_WINDOW as usize + (guard + 1) * PAGE) as *mut u8)
}

/// Gives a stack back.
///
/// # Safety
///
/// `stack` came from [`allocate`] with the same `bytes`, and nothing on it is used any more.
pub unsafe fn free(stack: NonNull<u8>, bytes: usize) {
    let pages = bytes / PAGE;
    let first = (stack.as_ptr() as usize - STACK_WINDOW as usize) / PAGE;
    let Some((memory, layout)) = mmu::mapped_page(first).zip(layout(pages)) else { return };
    for page in first..first + pages {
        // SAFETY: the caller's promise.
        unsafe { mmu::unmap_page(page) };
    }
    give_back(first - 1, pages + 1);
    // SAFETY: the memory that `allocate` took, in one piece from the first page's.
    unsafe { dealloc(memory as *mut u8, layout) };
}
