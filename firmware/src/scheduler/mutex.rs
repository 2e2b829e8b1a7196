//! A lock whose waiters let other threads run.

use core::sync::atomic::{AtomicBool, Ordering};

use super::WaitQueue;

/// A lock for `lock_api` that may be held across waits: whoever finds it taken waits in turn. It is handed over to the
/// next waiter when it is given back, so nobody starves.
#[derive(Debug)]
pub struct RawMutex {
    locked: AtomicBool,
    queue: WaitQueue,
}

/// A value behind a [`RawMutex`].
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

/// Access to a [`Mutex`]'s value.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

// SAFETY: on one CPU (on the host: in one host thread), the flag is set by the thread that finds it clear, or stays set
// while the lock passes to a waiter; there is no switch between a look at it and its change.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait wants a constant to start from")]
    const INIT: Self = Self { locked: AtomicBool::new(false), queue: WaitQueue::new() };

    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            // `unlock` leaves the flag set for the thread it wakes.
            self.queue.wait();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        if self.locked.load(Ordering::Relaxed) {
            return false;
        }
        self.locked.store(true, Ordering::Relaxed);
        true
    }

    #[inline]
    unsafe fn unlock(&self) {
        if !self.queue.wake_next() {
            self.locked.store(false, Ordering::Relaxed);
        }
    }

    fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }
}
