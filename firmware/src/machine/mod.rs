//! The PowerPC 750 board as the appliance sees it.

pub mod ethernet;
mod heap;
mod pci;
mod probe;
mod start;

pub use pci::Bus;
