//! A disk in memory that takes its time, and fails when told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firmware::scheduler;
use storage::{BlockDevice, Command, DeviceError};

use crate::random::Random;

/// Bytes a block.
const BLOCK: u32 = 512;
/// Blocks a piece of memory: memory is taken where something was written.
const PIECE: u64 = 128;

/// What a disk does beside its work.
#[derive(Clone, Copy, Debug)]
pub struct DiskFaults {
    /// Microseconds a command takes at least.
    pub latency: u64,
    /// Up to so many more.
    pub jitter: u64,
    /// One read in so many fails; 0: none.
    pub read_errors_one_in: u64,
    /// One write in so many fails; 0: none.
    pub write_errors_one_in: u64,
}

impl Default for DiskFaults {
    fn default() -> Self {
        Self { latency: 80, jitter: 0, read_errors_one_in: 0, write_errors_one_in: 0 }
    }
}

struct State {
    pieces: HashMap<u64, Vec<u8>>,
    faults: DiskFaults,
    random: Random,
    gone: bool,
    /// How often it was pulled out.
    departures: u64,
    /// That number when it was found last.
    found: u64,
    commands: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct RamDisk {
    blocks: u64,
    /// How often the disk had been pulled out when this was found.
    departures: u64,
    state: Arc<Mutex<State>>,
}

impl RamDisk {
    /// A disk of `blocks` blocks of 512 bytes that read as zeros.
    pub fn new(blocks: u64, faults: DiskFaults, random: Random) -> Self {
        let state = State {
            pieces: HashMap::new(),
            faults,
            random,
            gone: false,
            departures: 0,
            found: 0,
            commands: 0,
        };
        Self { blocks, departures: 0, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the disk does beside its work.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// Pulls the disk out (true), or puts it back: then it answers when the machine has found it anew.
    pub fn set_gone(&self, gone: bool) {
        let mut state = self.state();
        state.departures += u64::from(gone && !state.gone);
        state.gone = gone;
    }

    /// Whether it was pulled out since it was found last.
    pub fn departed(&self) -> bool {
        let state = self.state();
        state.departures != state.found
    }

    /// What a look at the channel finds. What was found before a departure answers nothing any more.
    pub fn find(&self) -> Option<RamDisk> {
        let mut state = self.state();
        if state.gone {
            return None;
        }
        state.found = state.departures;
        Some(Self { blocks: self.blocks, departures: state.departures, state: self.state.clone() })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(BLOCK)
    }

    /// `length` bytes at `offset`, both multiples of the block size, whatever state the disk is in.
    pub fn peek(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.load(offset / u64::from(BLOCK), &mut [&mut bytes]);
        bytes
    }

    /// Commands executed.
    pub fn commands(&self) -> u64 {
        self.state().commands
    }

    /// Spends a command's time and says whether it fails.
    fn spend(&self, command: &Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let (block, bytes) = command.range().unwrap_or_default();
        let write = !matches!(command, Command::Read { .. });
        let wrong = if !bytes.is_multiple_of(u64::from(BLOCK)) {
            Some(DeviceError::Misaligned)
        } else {
            let end = block.checked_add(bytes / u64::from(BLOCK));
            end.is_none_or(|end| end > self.blocks).then_some(DeviceError::OutOfRange)
        };
        if let Some(wrong) = wrong {
            meanwhile();
            return Err(wrong);
        }
        let (wait, fails) = {
            let mut state = self.state();
            state.commands += 1;
            let DiskFaults { latency, jitter, read_errors_one_in, write_errors_one_in } = state.faults;
            let one_in = if write { write_errors_one_in } else { read_errors_one_in };
            let wait = latency + state.random.below(jitter + 1);
            (wait, state.random.once_in(one_in))
        };
        let end = scheduler::now() + wait;
        meanwhile();
        if scheduler::in_thread() {
            scheduler::sleep_until(end);
        }
        match (self.state().departures != self.departures, fails) {
            (true, _) => Err(DeviceError::Gone),
            (false, true) => Err(DeviceError::Medium),
            (false, false) => Ok(()),
        }
    }

    /// Calls `each` with the memory behind every block of the buffers in order.
    fn for_each_block<'a>(
        state: &mut State,
        block: u64,
        buffers: impl Iterator<Item = &'a [u8]>,
        mut each: impl FnMut(&mut [u8], &'a [u8]),
    ) {
        let mut at = block * u64::from(BLOCK);
        let piece_bytes = PIECE * u64::from(BLOCK);
        for mut buffer in buffers {
            while !buffer.is_empty() {
                let piece =
                    state.pieces.entry(at / piece_bytes).or_insert_with(|| vec![0; piece_bytes as usize]);
                let start = (at % piece_bytes) as usize;
                let length = buffer.len().min(piece.len() - start);
                let (now, rest) = buffer.split_at(length);
                each(&mut piece[start..start + length], now);
                buffer = rest;
                at += length as u64;
            }
        }
    }

    fn load(&self, block: u64, buffers: &mut [&mut [u8]]) {
        let state = self.state();
        let mut at = block * u64::from(BLOCK);
        let piece_bytes = PIECE * u64::from(BLOCK);
        for buffer in buffers {
            let mut buffer = &mut buffer[..];
            while !buffer.is_empty() {
                let start = (at % piece_bytes) as usize;
                let length = buffer.len().min(piece_bytes as usize - start);
                let (now, rest) = buffer.split_at_mut(length);
                match state.pieces.get(&(at / piece_bytes)) {
                    Some(piece) => now.copy_from_slice(&piece[start..start + length]),
                    None => now.fill(0),
                }
                buffer = rest;
                at += length as u64;
            }
        }
    }
}

impl BlockDevice for RamDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        self.spend(&command, meanwhile)?;
        match command {
            Command::Read { block, buffers } => self.load(block, buffers),
            Command::Write { block, buffers } => {
                let mut state = self.state();
                let buffers = buffers.iter().copied();
                Self::for_each_block(&mut state, block, buffers, |to, from| to.copy_from_slice(from));
            }
            Command::Flush => (),
        }
        Ok(())
    }
}
