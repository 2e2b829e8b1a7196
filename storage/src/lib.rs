//! Disks from the block device up: cache, partition tables, exFAT and FAT volumes, formatting.
//!
//! The crate knows neither SMB nor a scheduler. Its locks are generic over [`lock_api::RawMutex`], and they may be held
//! while a device works, so on the board they have to be locks that let other threads run.
//!
//! From below to above: [`BlockDevice`] is a disk (or a [`Slice`] of one), [`Cache`] keeps pages of several devices in
//! one memory budget, [`partition`] says what lies where on a disk, [`volume`] has mounted file systems, and
//! [`format`] makes a new one, and [`check`] looks for damage and repairs it.

#![no_std]
#![forbid(unsafe_code)]
// On-disk structures are read best with their divisions spelled out.
#![allow(clippy::manual_is_multiple_of, clippy::precedence)]

extern crate alloc;

#[cfg(any(test, feature = "test-devices"))]
extern crate std;

pub mod cache;
pub mod check;
mod device;
pub mod format;

mod hash_index;
mod journal;
pub mod mirror;
pub mod partition;
#[cfg(any(test, feature = "test-devices"))]
pub mod test_devices;
pub mod time;
mod upcase;
pub mod volume;

pub use cache::{Cache, CacheError, DeviceIndex, Payload};
pub use device::{BlockDevice, Command, DeviceError, Slice};
pub use volume::Volume;
