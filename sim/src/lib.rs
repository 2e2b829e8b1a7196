//! The whole appliance in one host process, under a seed.
//!
//! The same tasks as in the image run on a simulated machine: disks in memory with latency and faults, an Ethernet with
//! loss, delay and reordering, a clock that jumps when everybody waits. Clients are threads of the same scheduler with
//! a TCP/IP stack of their own. One seed gives one run: the [`Trace`] hashes everything that happened.

mod board;
mod disk;
mod ethernet;
mod flash;
mod random;
mod simulation;
mod trace;

pub use board::{Network, SimBoard};
pub use client::{ClientError, Handle, Transport};
pub use disk::{DiskFaults, RamDisk};
pub use ethernet::{ClientHost, ClientSocket, Port, Wire, WireFaults};
pub use flash::{Flash, FlashError};
pub use random::Random;
pub use simulation::{Client, Options, PASSWORD, SHARES, Simulation, SmbClient, USER};
pub use trace::Trace;
