//! The boot block: what the CPU runs at reset.
//!
//! It sets the CPU up, finds out how much memory there is, puts the console chip at its address, checks the image slots,
//! unpacks the newest whole image to memory and enters it. It runs from the flash; only its data and stack are in memory.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the boot block runs on the board; `cargo xtask image` builds it");
}
