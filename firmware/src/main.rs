//! The firmware image for the PowerPC 750 board: the boot block enters it at `firmware_start` (machine/start.rs).

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod machine;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the firmware runs on the board; `cargo xtask run` builds and boots it");
}
