//! Faults wrap a device.

use alloc::sync::Arc;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::Generator;
use crate::{BlockDevice, Command, DeviceError};

/// How often a [`FaultyDisk`] fails: once in so many calls; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads that answer [`DeviceError::Medium`].
    pub read: u64,
    /// Writes that answer [`DeviceError::Failed`] and write nothing.
    pub write: u64,
    /// Flushes that answer [`DeviceError::Failed`].
    pub flush: u64,
}

/// A device that fails by the seed, or is pulled.
pub struct FaultyDisk {
    device: Arc<dyn BlockDevice>,
    state: Mutex<(Generator, Faults)>,
    /// Blocks that cannot be read until they are written.
    spoilt: Mutex<BTreeSet<u64>>,
    pulled: AtomicBool,
    reads: AtomicU32,
    writes: AtomicU32,
}

impl FaultyDisk {
    /// Wraps `device`; the same seed and calls give the same faults.
    pub fn new(device: Arc<dyn BlockDevice>, seed: u64, faults: Faults) -> Self {
        Self {
            device,
            state: Mutex::new((Generator::new(seed), faults)),
            spoilt: Mutex::new(BTreeSet::new()),
            pulled: AtomicBool::new(false),
            reads: AtomicU32::new(0),
            writes: AtomicU32::new(0),
        }
    }

    /// Changes the rates.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().unwrap().1 = faults;
    }

    /// Takes the disk away (every call answers [`DeviceError::Gone`]), or puts it back.
    pub fn pull(&self, pulled: bool) {
        self.pulled.store(pulled, Ordering::Relaxed);
    }

    /// Whether it is away.
    pub fn is_pulled(&self) -> bool {
        self.pulled.load(Ordering::Relaxed)
    }

    /// Makes a block unreadable until it is written.
    pub fn spoil(&self, block: u64) {
        self.spoilt.lock().unwrap().insert(block);
    }

    /// Whether a read meets a spoilt block; a write makes its blocks readable.
    fn is_spoilt(&self, command: &Command<'_, '_>) -> bool {
        let Some((block, bytes)) = command.range() else { return false };
        let blocks = block..block + bytes / u64::from(self.device.block_size());
        let mut spoilt = self.spoilt.lock().unwrap();
        if matches!(command, Command::Write { .. }) {
            spoilt.retain(|block| !blocks.contains(block));
        }
        spoilt.range(blocks).next().is_some()
    }

    /// Read and write commands so far.
    pub fn commands(&self) -> (u32, u32) {
        (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }

    fn fails(&self, rate: impl Fn(&Faults) -> u64, error: DeviceError) -> Result<(), DeviceError> {
        if self.pulled.load(Ordering::Relaxed) {
            return Err(DeviceError::Gone);
        }
        let (random, faults) = &mut *self.state.lock().unwrap();
        match rate(faults) {
            0 => Ok(()),
            times if random.once_in(times) => Err(error),
            _ => Ok(()),
        }
    }
}

impl BlockDevice for FaultyDisk {
    fn blocks(&self) -> u64 {
        self.device.blocks()
    }

    fn block_size(&self) -> u32 {
        self.device.block_size()
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let failed = match &command {
            Command::Read { .. } if self.is_spoilt(&command) => Err(DeviceError::Medium),
            Command::Read { .. } => self.fails(|faults| faults.read, DeviceError::Medium),
            Command::Write { .. } => self.fails(|faults| faults.write, DeviceError::Failed),
            Command::Flush => self.fails(|faults| faults.flush, DeviceError::Failed),
        };
        if failed.is_err() {
            meanwhile();
            return failed;
        }
        match &command {
            Command::Read { .. } => drop(self.reads.fetch_add(1, Ordering::Relaxed)),
            Command::Write { .. } => {
                self.writes.fetch_add(1, Ordering::Relaxed);
                self.is_spoilt(&command);
            }
            Command::Flush => (),
        }
        self.device.execute(command, meanwhile)
    }
}
