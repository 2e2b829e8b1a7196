//! The PowerPC 750 NAS board: reset, exceptions, memory map, which chip is where.
//!
//! The crate has two users: the boot block (`src/boot`), which runs in the flash at reset, and the firmware image, which
//! the boot block copies to memory. Both set up the CPU with the same code, so a new image does not depend on what an old
//! boot block left behind.
//!
//! | module | what |
//! |---|---|
//! | [`memory_map`] | what lies where |
//! | [`ram`] | how much memory there is |
//! | [`time`] | timebase ticks and microseconds |
//! | `cpu` | special registers, interrupts on and off, idling |
//! | `mmu` | BATs, caches, the page table of the stack window |
//! | `exceptions` | vectors, the interrupt entry, the fatal entry |
//! | `crash` | what is printed when nothing else works any more |
//! | `memory_functions`, `sha256` | copies, fills, comparisons, checksums; the hash of signatures |
//! | [`gcm`] | AES-GCM, 32 blocks at once |
//! | `mmio` | register windows and DMA memory for the drivers |
//! | `interrupts` | which interrupt input means which event |
//! | `stacks` | guarded stacks |

#![no_std]

pub mod gcm;
#[cfg(target_arch = "powerpc")]
pub mod memory_functions;
pub mod memory_map;
pub mod ram;
#[cfg(target_arch = "powerpc")]
pub mod sha256;
pub mod time;

#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod crash;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
pub mod interrupts;
#[cfg(target_os = "none")]
pub mod mmio;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod serial;
#[cfg(target_os = "none")]
pub mod stacks;
