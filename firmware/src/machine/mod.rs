//! The PowerPC 750 board as the appliance sees it.

mod heap;
mod pci;
mod probe;
mod start;

pub use pci::Bus;
