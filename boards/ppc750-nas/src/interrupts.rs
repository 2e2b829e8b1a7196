//! From an interrupt input to event bits.
//!
//! A source is a chip that interrupts through one of Heathrow's inputs; several may share one. The handler asks every
//! source whose input is pending and ors what they return into one word of event bits, which the scheduler's loop fetches.
//! That is all that ever happens in an interrupt.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use drivers::heathrow::Heathrow;

use crate::cpu;
use crate::exceptions::Interrupt;
use crate::memory_map::{HEATHROW, HEATHROW_INTERRUPTS};
use crate::mmio::Mmio;

/// Sources that can be registered.
const MAXIMUM_SOURCES: usize = 16;
/// Interrupts in a row that nobody claimed, after which the inputs are masked: a storm would starve everything else.
const STORM: u32 = 10_000;

/// Heathrow's input of the serial controller's channel A.
pub const INPUT_ESCC: u8 = 15;

/// Heathrow's input of the interrupt pin of the PCI device in `slot`: pins are wired to four lines by slot.
pub const fn pci_input(slot: u8) -> u8 {
    0x15 + (slot & 3)
}

/// A chip that interrupts.
pub trait Source: Sync {
    /// Called in the interrupt handler when the source's input is pending: reads and clears the chip's cause, and
    /// returns the event bits to set; 0 when it was not this chip.
    fn acknowledge(&self) -> u32;
}

/// A source and its input.
type Entry = Option<(u8, &'static dyn Source)>;

struct Sources {
    list: UnsafeCell<[Entry; MAXIMUM_SOURCES]>,
    count: AtomicUsize,
}

// SAFETY: entries below `count` are never written again; the one being written is above it, with interrupts off, on a
// single CPU.
unsafe impl Sync for Sources {}

static SOURCES: Sources =
    Sources { list: UnsafeCell::new([None; MAXIMUM_SOURCES]), count: AtomicUsize::new(0) };
static EVENTS: AtomicU32 = AtomicU32::new(0);
static UNCLAIMED: AtomicU32 = AtomicU32::new(0);
static TAKEN: AtomicU32 = AtomicU32::new(0);

fn controller() -> Heathrow<Mmio> {
    // SAFETY: Heathrow lies there by the board's memory map.
    Heathrow::new(unsafe { Mmio::new(HEATHROW + HEATHROW_INTERRUPTS) })
}

/// Masks all inputs and drops what is latched. Before interrupts are enabled.
pub fn initialize() {
    controller().initialize();
}

/// Lets `source` be asked when `input` is pending, and unmasks the input. False when the table is full.
#[must_use]
pub fn register(input: u8, source: &'static dyn Source) -> bool {
    cpu::without_interrupts(|| {
        let count = SOURCES.count.load(Ordering::Relaxed);
        if count >= MAXIMUM_SOURCES {
            return false;
        }
        // SAFETY: interrupts are off on the only CPU, and the entry is above the count.
        unsafe { (*SOURCES.list.get())[count] = Some((input, source)) };
        SOURCES.count.store(count + 1, Ordering::Release);
        controller().set_enabled(input, true);
        true
    })
}

/// The interrupt handler to be given to [`crate::exceptions::install`].
pub fn handle(interrupt: Interrupt) {
    TAKEN.fetch_add(1, Ordering::Relaxed);
    if interrupt == Interrupt::Decrementer {
        // It only wakes the loop, which looks at its deadlines by itself.
        return;
    }
    let controller = controller();
    let pending = controller.take_pending();
    let mut events = 0;
    let count = SOURCES.count.load(Ordering::Acquire);
    // SAFETY: entries below the count do not change any more.
    let list = unsafe { &*SOURCES.list.get() };
    for (input, source) in list.iter().take(count).flatten() {
        if pending & 1 << input != 0 {
            events |= source.acknowledge();
        }
    }
    EVENTS.fetch_or(events, Ordering::Relaxed);
    if events != 0 || pending == 0 {
        UNCLAIMED.store(0, Ordering::Relaxed);
    } else if UNCLAIMED.fetch_add(1, Ordering::Relaxed) > STORM {
        for input in 0..64 {
            if pending & 1 << input != 0 {
                controller.set_enabled(input, false);
            }
        }
    }
}

/// Takes and clears the event bits.
pub fn take_events() -> u32 {
    if EVENTS.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    EVENTS.swap(0, Ordering::Relaxed)
}

/// Whether an event bit is set.
pub fn events_pending() -> bool {
    EVENTS.load(Ordering::Relaxed) != 0
}

/// Sets event bits from a task, as a handler would.
pub fn post(events: u32) {
    EVENTS.fetch_or(events, Ordering::Relaxed);
}

/// Interrupts taken since the start.
pub fn taken() -> u32 {
    TAKEN.load(Ordering::Relaxed)
}
