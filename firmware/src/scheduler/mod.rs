//! Cooperative threads on one CPU.
//!
//! At most [`MAXIMUM_THREADS`] threads, each with a small stack of its own. A thread runs until it waits; sets of threads
//! are 64-bit masks, so waking and choosing take the same few instructions whatever their number. The loop
//! ([`run`]) fetches the board's event bits, wakes what is bound to them and what has reached its deadline, lets every
//! ready thread run once, and halts the CPU when none is.
//!
//! Two bodies carry the threads: a page of assembly on PowerPC, coroutines elsewhere. All state belongs to the one CPU
//! (on the host: to the host thread that runs the loop). Interrupt handlers have no business here.

mod event;
#[cfg(not(target_arch = "powerpc"))]
mod host;
mod mutex;
#[cfg(target_arch = "powerpc")]
mod powerpc;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, UnsafeCell};

#[cfg(not(target_arch = "powerpc"))]
use host::Context;
#[cfg(target_arch = "powerpc")]
use powerpc::Context;

pub use event::{Event, WaitQueue};
pub use mutex::{Mutex, MutexGuard, RawMutex};

/// How many threads there can be at once: the bits of a ready mask.
pub const MAXIMUM_THREADS: usize = 64;

/// The least stack a thread gets.
pub const MINIMUM_STACK: usize = 4096;

/// What the loop needs of a machine; every [`Board`](crate::board::Board) has it.
pub trait Machine {
    /// Microseconds, never going back.
    fn now(&self) -> u64;
    /// The low word of a fast counter.
    fn ticks(&self) -> u32;
    /// Takes the event bits set since the last call.
    fn take_events(&self) -> u32;
    /// Halts until an event bit or `deadline`.
    fn idle(&self, deadline: Option<u64>);
}

/// Names a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId(u8);

/// All [`MAXIMUM_THREADS`] threads exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyThreads;

/// What the console shows of a thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadStatistics {
    /// The name it was spawned with.
    pub name: &'static str,
    /// Whether it could run now.
    pub ready: bool,
    /// How often it was resumed.
    pub runs: u32,
    /// How long it ran, in ticks of the machine's counter.
    pub ticks: u64,
    /// Bytes of its stack.
    pub stack: usize,
    /// The most bytes of its stack that were ever used; 0 where that is not measured.
    pub stack_used: usize,
}

/// What the console shows of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopStatistics {
    /// How often the CPU was halted.
    pub halts: u32,
    /// Ticks spent halted.
    pub idle_ticks: u64,
    /// Rounds of the loop.
    pub rounds: u32,
}

struct Slot {
    name: Cell<&'static str>,
    context: UnsafeCell<Option<Box<Context>>>,
    deadline: Cell<u64>,
    runs: Cell<u32>,
    ticks: Cell<u64>,
}

impl Slot {
    const fn new() -> Self {
        Self {
            name: Cell::new(""),
            context: UnsafeCell::new(None),
            deadline: Cell::new(u64::MAX),
            runs: Cell::new(0),
            ticks: Cell::new(0),
        }
    }
}

const NOBODY: u8 = 0xFF;

struct Scheduler {
    slots: [Slot; MAXIMUM_THREADS],
    /// Slots that hold a thread.
    used: Cell<u64>,
    /// Threads that can run.
    ready: Cell<u64>,
    /// Threads whose slot's deadline counts.
    timed: Cell<u64>,
    /// No deadline of a timed thread is before this moment.
    earliest: Cell<u64>,
    /// The running thread, or NOBODY in the loop.
    current: Cell<u8>,
    bindings: [Cell<Option<&'static Event>>; 32],
    machine: Cell<Option<&'static dyn Machine>>,
    statistics: Cell<LoopStatistics>,
}

impl Scheduler {
    const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; MAXIMUM_THREADS],
            used: Cell::new(0),
            ready: Cell::new(0),
            timed: Cell::new(0),
            earliest: Cell::new(u64::MAX),
            current: Cell::new(NOBODY),
            bindings: [const { Cell::new(None) }; 32],
            machine: Cell::new(None),
            statistics: Cell::new(LoopStatistics { halts: 0, idle_ticks: 0, rounds: 0 }),
        }
    }

    fn context(&self, index: u8) -> Option<&Context> {
        let slot = self.slots.get(usize::from(index))?;
        // SAFETY: a context is put in by `spawn` into an unused slot, and taken out by the loop when its thread has
        // ended; both on this CPU, neither while a reference from here is in use: those live for the length of a
        // resume, a suspend or a look.
        unsafe { (*slot.context.get()).as_deref() }
    }

    fn now(&self) -> u64 {
        self.machine.get().map_or(0, |machine| machine.now())
    }

    fn expire(&self, now: u64) {
        if self.earliest.get() > now {
            return;
        }
        let mut earliest = u64::MAX;
        let mut expired = 0;
        for index in bits(self.timed.get()) {
            let deadline = self.slots[usize::from(index)].deadline.get();
            if deadline <= now {
                expired |= 1 << index;
            } else {
                earliest = earliest.min(deadline);
            }
        }
        self.timed.set(self.timed.get() & !expired);
        self.ready.set(self.ready.get() | expired);
        self.earliest.set(earliest);
    }

    fn dispatch(&self, events: u32) {
        for bit in bits(u64::from(events)) {
            if let Some(event) = self.bindings[usize::from(bit)].get() {
                event.signal();
            }
        }
    }

    fn resume(&self, index: u8, machine: &dyn Machine) {
        let Some(context) = self.context(index) else { return };
        let slot = &self.slots[usize::from(index)];
        slot.runs.set(slot.runs.get().wrapping_add(1));
        self.current.set(index);
        let begin = machine.ticks();
        let finished = context.resume();
        slot.ticks.set(slot.ticks.get() + u64::from(machine.ticks().wrapping_sub(begin)));
        self.current.set(NOBODY);
        assert!(context.intact(), "thread {} has overflowed its stack", slot.name.get());
        if finished {
            self.discard(index);
        }
    }

    fn discard(&self, index: u8) {
        let mask = !(1 << index);
        self.used.set(self.used.get() & mask);
        self.ready.set(self.ready.get() & mask);
        self.timed.set(self.timed.get() & mask);
        // SAFETY: called by the loop, with no reference to the context in use.
        drop(unsafe { (*self.slots[usize::from(index)].context.get()).take() });
    }
}

/// The numbers of the bits set in `mask`, lowest first.
fn bits(mut mask: u64) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let index = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (index < 64).then_some(index as u8)
    })
}

#[cfg(target_os = "none")]
fn with<R>(body: impl FnOnce(&Scheduler) -> R) -> R {
    struct OneCpu(Scheduler);
    // SAFETY: there is one CPU, and interrupt handlers never come here.
    unsafe impl Sync for OneCpu {}
    static SCHEDULER: OneCpu = OneCpu(Scheduler::new());
    body(&SCHEDULER.0)
}

#[cfg(not(target_os = "none"))]
fn with<R>(body: impl FnOnce(&Scheduler) -> R) -> R {
    std::thread_local! {
        // Leaked for each host thread that uses it: a coroutine may still refer to it while the host thread ends.
        static SCHEDULER: &'static Scheduler = Box::leak(Box::new(Scheduler::new()));
    }
    body(SCHEDULER.with(|scheduler| *scheduler))
}

/// Makes a thread that runs `body` on a stack of `stack` bytes (at least [`MINIMUM_STACK`]). It is ready at once and
/// runs when the loop comes to it. When `body` returns, the thread is gone.
pub fn spawn(
    name: &'static str,
    stack: usize,
    body: impl FnOnce() + 'static,
) -> Result<ThreadId, TooManyThreads> {
    let context = Box::new(Context::new(stack.max(MINIMUM_STACK), Box::new(body)));
    with(|scheduler| {
        let index = (!scheduler.used.get()).trailing_zeros();
        if index >= 64 {
            return Err(TooManyThreads);
        }
        let slot = &scheduler.slots[index as usize];
        // SAFETY: the slot is unused, so nobody refers to its context.
        unsafe { *slot.context.get() = Some(context) };
        slot.name.set(name);
        slot.runs.set(0);
        slot.ticks.set(0);
        scheduler.used.set(scheduler.used.get() | 1 << index);
        scheduler.ready.set(scheduler.ready.get() | 1 << index);
        Ok(ThreadId(index as u8))
    })
}

/// Runs threads until `finished` says so: on the board, never. Then all threads are dropped where they are.
///
/// `finished` is asked before every round. Only one loop runs at a time, from outside any thread.
pub fn run(machine: &'static dyn Machine, mut finished: impl FnMut() -> bool) {
    with(|scheduler| {
        scheduler.machine.set(Some(machine));
        while !finished() {
            scheduler.dispatch(machine.take_events());
            if scheduler.timed.get() != 0 || scheduler.ready.get() == 0 {
                scheduler.expire(machine.now());
            }
            let mut statistics = scheduler.statistics.get();
            statistics.rounds = statistics.rounds.wrapping_add(1);
            if scheduler.ready.get() == 0 {
                let begin = machine.ticks();
                let deadline = (scheduler.timed.get() != 0).then_some(scheduler.earliest.get());
                machine.idle(deadline);
                statistics.halts = statistics.halts.wrapping_add(1);
                statistics.idle_ticks += u64::from(machine.ticks().wrapping_sub(begin));
                scheduler.statistics.set(statistics);
                continue;
            }
            scheduler.statistics.set(statistics);
            // Everybody who is ready now runs once before events are looked at again.
            for index in bits(scheduler.ready.get()) {
                scheduler.ready.set(scheduler.ready.get() & !(1 << index));
                scheduler.resume(index, machine);
            }
        }
        for index in bits(scheduler.used.get()) {
            scheduler.discard(index);
        }
        scheduler.bindings.iter().for_each(|binding| binding.set(None));
        scheduler.earliest.set(u64::MAX);
        scheduler.machine.set(None);
    });
}

/// Lets every other ready thread run once.
pub fn yield_now() {
    with(|scheduler| {
        let index = current(scheduler);
        scheduler.ready.set(scheduler.ready.get() | 1 << index);
        if let Some(context) = scheduler.context(index) {
            context.suspend();
        }
    });
}

/// Microseconds on the machine's clock; 0 before the loop runs.
pub fn now() -> u64 {
    with(Scheduler::now)
}

/// Waits until the machine's clock reaches `deadline`.
pub fn sleep_until(deadline: u64) {
    while now() < deadline {
        suspend(Some(deadline));
    }
}

/// Waits for `microseconds`.
pub fn sleep(microseconds: u64) {
    sleep_until(now().saturating_add(microseconds));
}

/// Whether the caller is a thread (and may wait).
pub fn in_thread() -> bool {
    with(|scheduler| scheduler.current.get() != NOBODY)
}

/// Signals `event` whenever the board reports `bit` (a single bit of the word of events).
pub fn bind(bit: u32, event: &'static Event) {
    with(|scheduler| {
        if let Some(binding) = scheduler.bindings.get(bit.trailing_zeros() as usize) {
            binding.set(Some(event));
        }
    });
}

/// Calls `visit` with every thread's figures.
pub fn threads() -> Vec<ThreadStatistics> {
    with(|scheduler| {
        bits(scheduler.used.get())
            .map(|index| {
                let slot = &scheduler.slots[usize::from(index)];
                let (stack, stack_used) = scheduler.context(index).map_or((0, 0), Context::stack_usage);
                ThreadStatistics {
                    name: slot.name.get(),
                    ready: scheduler.ready.get() & 1 << index != 0,
                    runs: slot.runs.get(),
                    ticks: slot.ticks.get(),
                    stack,
                    stack_used,
                }
            })
            .collect()
    })
}

/// The loop's figures.
pub fn statistics() -> LoopStatistics {
    with(|scheduler| scheduler.statistics.get())
}

/// The running thread's number. Waiting outside a thread is a mistake in the program, not an input's doing.
fn current(scheduler: &Scheduler) -> u8 {
    let index = scheduler.current.get();
    assert!(index != NOBODY, "only a thread can wait");
    index
}

/// Suspends the running thread until somebody makes it ready, or `deadline`.
fn suspend(deadline: Option<u64>) {
    with(|scheduler| {
        let index = current(scheduler);
        let bit = 1 << index;
        if let Some(deadline) = deadline {
            scheduler.slots[usize::from(index)].deadline.set(deadline);
            scheduler.timed.set(scheduler.timed.get() | bit);
            scheduler.earliest.set(scheduler.earliest.get().min(deadline));
        }
        if let Some(context) = scheduler.context(index) {
            context.suspend();
        }
        scheduler.timed.set(scheduler.timed.get() & !bit);
    });
}

/// Makes the threads of `mask` ready.
fn make_ready(mask: u64) {
    with(|scheduler| scheduler.ready.set(scheduler.ready.get() | mask));
}

/// The running thread's bit.
fn current_bit() -> u64 {
    with(|scheduler| 1 << current(scheduler))
}
