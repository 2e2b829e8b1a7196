//! What threads wait for.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Threads that wait for something. Holds their numbers as a mask; wakes one or all.
///
/// The atomics are loads and stores only: there is one CPU, and they merely let a queue sit in a `static`.
#[derive(Debug, Default)]
pub struct WaitQueue {
    low: AtomicU32,
    high: AtomicU32,
}

impl WaitQueue {
    /// A queue nobody waits in.
    pub const fn new() -> Self {
        Self { low: AtomicU32::new(0), high: AtomicU32::new(0) }
    }

    fn mask(&self) -> u64 {
        u64::from(self.low.load(Ordering::Relaxed)) | u64::from(self.high.load(Ordering::Relaxed)) << 32
    }

    fn set_mask(&self, mask: u64) {
        self.low.store(mask as u32, Ordering::Relaxed);
        self.high.store((mask >> 32) as u32, Ordering::Relaxed);
    }

    /// Whether somebody waits.
    pub fn is_empty(&self) -> bool {
        self.mask() == 0
    }

    /// Waits until woken.
    pub fn wait(&self) {
        self.wait_with(None);
    }

    /// Waits until woken (true) or until the clock reaches `deadline` (false).
    pub fn wait_until(&self, deadline: u64) -> bool {
        self.wait_with(Some(deadline))
    }

    fn wait_with(&self, deadline: Option<u64>) -> bool {
        let bit = super::current_bit();
        self.set_mask(self.mask() | bit);
        super::suspend(deadline);
        let mask = self.mask();
        let timed_out = mask & bit != 0;
        if timed_out {
            self.set_mask(mask & !bit);
        }
        !timed_out
    }

    /// Wakes the waiting thread with the lowest number; false when nobody waits.
    pub fn wake_one(&self) -> bool {
        let mask = self.mask();
        let rest = mask & mask.wrapping_sub(1);
        self.set_mask(rest);
        super::make_ready(mask & !rest);
        mask != 0
    }

    /// Wakes the waiting thread that follows the running one in number, going round: nobody is passed over for ever.
    pub(super) fn wake_next(&self) -> bool {
        let mask = self.mask();
        if mask == 0 {
            return false;
        }
        let own = if super::in_thread() { super::current_bit() } else { 1 };
        let above = mask & !(own | own.wrapping_sub(1));
        let candidates = if above != 0 { above } else { mask };
        let chosen = candidates & candidates.wrapping_neg();
        self.set_mask(mask & !chosen);
        super::make_ready(chosen);
        true
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        let mask = self.mask();
        if mask != 0 {
            self.set_mask(0);
            super::make_ready(mask);
        }
    }
}

/// A flag that a thread can wait for. A signal stays until one waiter has taken it.
#[derive(Debug, Default)]
pub struct Event {
    signalled: AtomicBool,
    queue: WaitQueue,
}

impl Event {
    /// An event nobody has signalled.
    pub const fn new() -> Self {
        Self { signalled: AtomicBool::new(false), queue: WaitQueue::new() }
    }

    /// Sets the flag and wakes whoever waits. Signals do not add up.
    pub fn signal(&self) {
        self.signalled.store(true, Ordering::Relaxed);
        self.queue.wake_one();
    }

    /// Takes the flag: whether it was set.
    pub fn take(&self) -> bool {
        let signalled = self.signalled.load(Ordering::Relaxed);
        self.signalled.store(false, Ordering::Relaxed);
        signalled
    }

    /// Waits until the flag is set, and takes it.
    pub fn wait(&self) {
        while !self.take() {
            self.queue.wait();
        }
    }

    /// Waits until the flag is set, and takes it (true), or until the clock reaches `deadline` (false).
    pub fn wait_until(&self, deadline: u64) -> bool {
        loop {
            if self.take() {
                return true;
            }
            if super::now() >= deadline {
                return false;
            }
            self.queue.wait_until(deadline);
        }
    }
}
