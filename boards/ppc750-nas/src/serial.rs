//! The serial line by polling: for the boot block, and for reports when interrupts no longer work.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use drivers::escc::Escc;

use crate::memory_map::{HEATHROW, HEATHROW_ESCC};
use crate::mmio::Mmio;

/// Whether Heathrow is mapped, so that the line can be used at all.
static READY: AtomicBool = AtomicBool::new(false);

/// The serial controller's registers.
pub const fn registers() -> Mmio {
    // SAFETY: Heathrow lies there by the board's memory map once `set_ready` has been called; before that the accesses
    // go to the bus and are answered by nobody.
    unsafe { Mmio::new(HEATHROW + HEATHROW_ESCC) }
}

/// Heathrow has been put at its place and answers.
pub fn set_ready() {
    READY.store(true, Ordering::Relaxed);
}

/// Writes by polling; nothing happens before [`set_ready`].
pub fn write(text: &str) {
    if READY.load(Ordering::Relaxed) {
        let chip = Escc::new(registers());
        for byte in text.bytes() {
            chip.write_polled(byte);
        }
    }
}

/// The serial line as a [`fmt::Write`].
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text);
        Ok(())
    }
}
