//! The console: the serial controller's channel A, by interrupt.

use drivers::escc::Console;
use firmware::board::events;
use ppc750_nas::interrupts::{self, Source};
use ppc750_nas::mmio::Mmio;
use ppc750_nas::{cpu, serial};

/// Divisor of the serial clock (3.6864 MHz / 32) for 57,600 baud.
const BAUD_DIVISOR: u16 = 0;

static CONSOLE: Console<Mmio> = Console::new(serial::registers());

struct ConsoleSource;

impl Source for ConsoleSource {
    fn acknowledge(&self) -> u32 {
        let serviced = CONSOLE.service();
        if serviced.received || serviced.transmitted { events::CONSOLE } else { 0 }
    }
}

/// Sets the line up. False when there is no room for its interrupt.
pub fn start() -> bool {
    CONSOLE.start(BAUD_DIVISOR);
    interrupts::register(interrupts::INPUT_ESCC, &ConsoleSource)
}

/// Takes received bytes and says how many.
pub fn read(bytes: &mut [u8]) -> usize {
    CONSOLE.read(bytes)
}

/// Queues bytes and says how many fitted.
pub fn write(bytes: &[u8]) -> usize {
    let count = CONSOLE.write(bytes);
    if CONSOLE.is_idle() {
        // Nothing is on its way that would interrupt: the first bytes are sent from here.
        cpu::without_interrupts(|| CONSOLE.service());
    }
    count
}

/// Sends what is queued, by polling.
pub fn drain() {
    cpu::without_interrupts(|| CONSOLE.drain());
}
