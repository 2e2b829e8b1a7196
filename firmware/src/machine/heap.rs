//! The heap: all memory behind the image.
//!
//! talc keeps free memory in bins by size, so that an operation takes the same few instructions however many
//! blocks and holes there are. (On this board, with 2,000 blocks of mixed sizes in use: a first-fit list needs
//! 2,700 to 3,100 instructions on average and grows with the number of holes.)

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Mutex;
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

/// The allocator, and what the console shows of it.
struct BoardHeap {
    heap: Mutex<Talc<Manual, DefaultBinning>>,
    size: AtomicUsize,
    used: AtomicUsize,
    high_water: AtomicUsize,
}

// SAFETY: the allocator's pointers all lead into memory that is its own; the lock gives it to one at a time.
unsafe impl Sync for BoardHeap {}

#[global_allocator]
static HEAP: BoardHeap = BoardHeap {
    heap: Mutex::new(Talc::new(Manual)),
    size: AtomicUsize::new(0),
    used: AtomicUsize::new(0),
    high_water: AtomicUsize::new(0),
};

impl BoardHeap {
    /// Notes that `bytes` more (or with wrapping, less) are in use. Plain loads and stores: threads are cooperative and
    /// interrupt handlers do not allocate.
    fn account(&self, bytes: usize) {
        let used = self.used.load(Ordering::Relaxed).wrapping_add(bytes);
        self.used.store(used, Ordering::Relaxed);
        if used > self.high_water.load(Ordering::Relaxed) {
            self.high_water.store(used, Ordering::Relaxed);
        }
    }
}

// SAFETY: the inner allocator's promise. The lock is never held across a switch of threads, and interrupt handlers do not
// allocate, so it is always free.
unsafe impl GlobalAlloc for BoardHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise: the layout is not empty.
        let Some(memory) = (unsafe { self.heap.lock().allocate(layout) }) else {
            return core::ptr::null_mut();
        };
        self.account(layout.size());
        memory.as_ptr()
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: it came from `alloc` with this layout.
        unsafe { self.heap.lock().deallocate(memory, layout) };
        self.account(layout.size().wrapping_neg());
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise, as for `dealloc`, and the new size is not 0.
        if unsafe { self.heap.lock().try_realloc_in_place(memory, layout, new_size) } {
            self.account(new_size.wrapping_sub(layout.size()));
            return memory;
        }
        // SAFETY: the caller's promise: the new size is valid with this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as above; both blocks hold at least the smaller of the two sizes.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(memory, new, layout.size().min(new_size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

/// Gives the heap its memory.
///
/// # Safety
///
/// Called once, before the first allocation; the memory from `start` to `end` is nobody's.
pub unsafe fn initialize(start: usize, end: usize) {
    // SAFETY: the caller's promise.
    let claimed = unsafe { HEAP.heap.lock().claim(start as *mut u8, end - start) };
    assert!(claimed.is_some(), "no room for a heap");
    HEAP.size.store(end - start, Ordering::Relaxed);
}

/// Size, bytes in use, and the most that were ever in use.
pub fn figures() -> (usize, usize, usize) {
    (
        HEAP.size.load(Ordering::Relaxed),
        HEAP.used.load(Ordering::Relaxed),
        HEAP.high_water.load(Ordering::Relaxed),
    )
}

/// Memory for bus masters: it is never given back.
pub fn allocate_for_ever(length: usize, align: usize) -> Option<NonNull<u8>> {
    let layout = Layout::from_size_align(length.max(1), align.max(32)).ok()?;
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc::alloc::alloc(layout) })
}
