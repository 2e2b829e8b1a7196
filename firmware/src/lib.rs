//! The firmware image: workers, tasks and wiring.
//!
//! This library half is generic over the [`board::Board`], so that the host runs the same tasks in `sim`; the binary
//! half is the entry on the 750.

#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod appliance;
mod array;
mod authenticator;
pub mod board;
mod clock;
mod console_task;
mod disk_speed;
mod entropy;
mod environment;
pub mod ethernet;
mod flash;
pub mod log_ring;
mod message_memory;
pub mod net;
pub mod scheduler;
mod service;
mod share_volume;
mod slots;
mod volume_check;
mod volumes;
mod workers;

pub use appliance::{Appliance, NET_STACK, TASK_STACK, WORKER_STACK};
