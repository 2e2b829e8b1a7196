//! A bench for chips: what runs in place of the appliance when the image is built with the feature `probe`.
//!
//! `cargo xtask image --features probe` (or `BOARD_FEATURES=probe`) builds it. Write into [`run`] whatever tries your
//! chip on the board: find it with `bus.find(vendor, device)`, take its registers with `bus.registers(device, bar)`, memory
//! from `bus.dma()`, its interrupt with `bus.attach_interrupt(device, source)`. `print!` here goes to the serial line by
//! polling. Interrupts are on. Return, and the image goes on with its console echo.

use super::pci::Bus;

/// Tries chips.
#[cfg(feature = "probe")]
pub fn run(_bus: &Bus) {}

/// Nothing to try.
#[cfg(not(feature = "probe"))]
pub fn run(_bus: &Bus) {}
