//! The PowerPC 750 board as the appliance sees it.
//!
//! | module | what |
//! |---|---|
//! | [`start`] | the image's entry, up to the scheduler's loop |
//! | [`board`] | the `Board` trait over the rest |
//! | [`pci`] | the bus and its devices |
//! | [`ethernet`], [`disks`], [`console`] | glue between drivers, interrupts and threads |
//! | [`ciphers`] | the board's hash and cipher for the engine |
//! | [`clock`] | microseconds and the date |
//! | [`reset`] | restart, power-off, crash record |
//! | [`heap`] | the global allocator |
//! | [`probe`] | a bench for trying chips |

mod board;
mod ciphers;
mod clock;
mod console;
mod disks;
mod ethernet;
mod heap;
mod pci;

mod probe;
mod reset;
mod start;
