//! The heap: all memory behind the image.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use linked_list_allocator::Heap;
use spin::Mutex;

/// The allocator with what the console shows of it.
pub struct BoardHeap {
    heap: Mutex<Heap>,
    high_water: AtomicUsize,
}

#[global_allocator]
static HEAP: BoardHeap = BoardHeap { heap: Mutex::new(Heap::empty()), high_water: AtomicUsize::new(0) };

// SAFETY: the inner allocator's promise. The lock is never held across a switch of threads, and interrupt handlers do not
// allocate, so it is always free.
unsafe impl GlobalAlloc for BoardHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.heap.lock();
        let memory = heap.allocate_first_fit(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr);
        self.high_water.fetch_max(heap.used(), Ordering::Relaxed);
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: the caller's promise: it came from `alloc` with this layout.
            unsafe { self.heap.lock().deallocate(memory, layout) };
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
    unsafe { HEAP.heap.lock().init(start as *mut u8, end - start) };
}

/// Size, bytes in use, and the most that were ever in use.
pub fn figures() -> (usize, usize, usize) {
    let heap = HEAP.heap.lock();
    (heap.size(), heap.used(), HEAP.high_water.load(Ordering::Relaxed))
}

/// Memory for bus masters: it is never given back.
pub fn allocate_for_ever(length: usize, align: usize) -> Option<NonNull<u8>> {
    let layout = Layout::from_size_align(length.max(1), align.max(32)).ok()?;
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc::alloc::alloc(layout) })
}
