//! One chip a module: SCSI, Ethernet, serial, interrupt controller, clock, PCI bridge, flash.
//!
//! Drivers reach their chip through [`Registers`] and memory through [`Dma`] only, so that each runs on the host against
//! a fake chip.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bus;
pub mod cuda;
pub mod escc;
pub mod ethernet;
pub mod flash;
pub mod heathrow;
pub mod mpc106;
pub mod scsi;

pub use bus::{Dma, Registers};
