//! The firmware image: workers, tasks and wiring.
//!
//! This library half is generic over the [`board::Board`], so that the host runs the same tasks in `sim`; the binary
//! half is the entry on the 750.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod board;
pub mod clock;
pub mod entropy;
pub mod ethernet;
pub mod log_ring;
pub mod net;
pub mod scheduler;
pub mod workers;
