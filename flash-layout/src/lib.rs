//! What lies where in the 4 MiB boot flash.
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
//! | 0x370000 | reserved, erased |

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod area;
pub mod crash;
pub mod image;

pub use area::{Area, BOOT_BLOCK, CONFIGURATION, CRASH, ERASE_BLOCK, FLASH_SIZE, SEED, SLOT_A, SLOT_B};
