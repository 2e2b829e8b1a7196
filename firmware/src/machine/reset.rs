//! How a run ends: restart, power-off, and what is left behind of a crash.

use core::sync::atomic::{AtomicU32, Ordering};

use drivers::flash::Flash;
use drivers::mpc106::{Address, COMMAND, COMMAND_MASTER, Mpc106};
use embedded_storage::nor_flash::NorFlash;
use firmware::board::Restart;
use flash_layout::area::{CRASH, FLASH_SIZE};
use flash_layout::crash as record;
use ppc750_nas::memory_map::PCI_CONFIGURATION;
use ppc750_nas::mmio::Mmio;
use ppc750_nas::{cpu, crash};

use super::{clock, console};

/// Where the flash's window is; 0 while it is not known.
static FLASH_WINDOW: AtomicU32 = AtomicU32::new(0);

/// From now on a crash is recorded in the flash behind `window` (0: there is none), and a restart pulls the reset line.
pub fn prepare(window: u32) {
    FLASH_WINDOW.store(window, Ordering::Relaxed);
    crash::set_hooks(record_crash, pull_reset);
}

/// Writes the crash record. Called with interrupts off, possibly with any lock held: takes none.
fn record_crash(seconds: u32, text: &str) {
    let window = FLASH_WINDOW.load(Ordering::Relaxed);
    if window == 0 {
        return;
    }
    // SAFETY: `prepare` was given the window that PCI enumeration assigned.
    let mut flash = Flash::new(unsafe { Mmio::new(window) }, FLASH_SIZE);
    let text = text.as_bytes();
    let head = record::head(text, seconds);
    // Nothing can be done about a flash that refuses; the report was printed.
    let _ = flash
        .erase(CRASH.offset, CRASH.end())
        .and_then(|()| flash.write(CRASH.offset + record::HEAD_LENGTH as u32, text))
        .and_then(|()| flash.write(CRASH.offset, &head));
}

/// Stops every bus master, so that none writes into the memory of what starts next.
fn silence_bus() {
    // SAFETY: the bridge's configuration registers, mapped as a device.
    let bus = Mpc106::new(unsafe { Mmio::new(PCI_CONFIGURATION) });
    // The bridge itself, slot 0, stays.
    for slot in 1..32 {
        let address = Address { slot, function: 0 };
        if bus.read16(address, 0) != 0xFFFF {
            let command = bus.read16(address, COMMAND);
            bus.write16(address, COMMAND, command & !COMMAND_MASTER);
        }
    }
}

fn pull_reset() {
    silence_bus();
    let cuda = clock::cuda();
    // A transfer may have been cut off in the middle: start from the beginning if it does not answer.
    if cuda.reset().is_err() && cuda.initialize().is_ok() {
        let _ = cuda.reset();
    }
}

/// Ends the run.
pub fn restart(how: Restart) -> ! {
    console::drain();
    match how {
        Restart::Reset => crash::restart(),
        Restart::PowerOff => {
            silence_bus();
            let cuda = clock::cuda();
            if cuda.power_off().is_err() && cuda.initialize().is_ok() {
                let _ = cuda.power_off();
            }
            cpu::halt()
        }
    }
}
