//! What lies where in the 4 MiB boot flash, and how each part is read and written.
//!
//! The flash is NOR: an erase sets a whole block to ones, a program only clears bits. All numbers in it are big-endian.
//!
//! | offset | what |
//! |---|---|
//! | 0x000000 | image slot A |
//! | 0x180000 | image slot B |
//! | 0x300000 | boot block; the CPU's reset vector is 0x100 bytes into it |
//! | 0x310000 | configuration log |
//! | 0x350000 | crash record |
//! | 0x360000 | entropy seed |
//! | 0x380000 | reserved, erased |
//!
//! `docs/flash-format.md` has every byte. Both ends use this crate: boot block and firmware on the board, xtask on the
//! host. Everything read from flash is foreign: it is checked, and what fails its check is passed over.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod area;
mod bytes;
#[cfg(feature = "alloc")]
pub mod configuration;
pub mod crash;
pub mod image;
#[cfg(feature = "alloc")]
pub mod log;
#[cfg(any(test, feature = "test-devices"))]
pub mod ram_flash;
pub mod seed;
pub mod slot;

pub use area::{Area, BOOT_BLOCK, CONFIGURATION, CRASH, ERASE_BLOCK, FLASH_SIZE, SEED, SLOT_A, SLOT_B};
