//! A disk in memory that takes its time, and fails when told to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firmware::scheduler;
use storage::test_devices::{Generator, PowerLog, RamDisk as Memory};
use storage::{BlockDevice, Command, DeviceError};

use crate::random::Random;

/// Bytes a block.
const BLOCK: u32 = 512;

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

/// What writes down what a disk is told.
#[derive(Clone)]
struct Record {
    log: Arc<PowerLog>,
    number: usize,
    /// The contents when the log began.
    base: Arc<Memory>,
}

struct State {
    record: Option<Record>,
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
    memory: Arc<Memory>,
    state: Arc<Mutex<State>>,
}

impl RamDisk {
    /// A disk of `blocks` blocks of 512 bytes that read as zeros.
    pub fn new(blocks: u64, faults: DiskFaults, random: Random) -> Self {
        Self::with_contents(Memory::new(blocks, BLOCK), faults, random)
    }

    /// A disk with these contents.
    pub fn with_contents(memory: Memory, faults: DiskFaults, random: Random) -> Self {
        let blocks = memory.blocks();
        let state = State { record: None, faults, random, gone: false, departures: 0, found: 0, commands: 0 };
        Self { blocks, departures: 0, memory: Arc::new(memory), state: Arc::new(Mutex::new(state)) }
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
        Some(Self { departures: state.departures, ..self.clone() })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(BLOCK)
    }

    /// `length` bytes at `offset`, both multiples of the block size, whatever state the disk is in.
    pub fn peek(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.peek(offset, &mut bytes);
        bytes
    }

    /// A copy of what it holds.
    pub fn contents(&self) -> Memory {
        self.memory.duplicate()
    }

    /// From now on `log` learns what the disk is told, as its disk `number`.
    pub fn record(&self, log: &Arc<PowerLog>, number: usize) {
        let base = Arc::new(self.contents());
        self.state().record = Some(Record { log: log.clone(), number, base });
    }

    /// What it would hold after a power cut at a moment of the log; as it is, if nothing was recorded.
    pub fn cut(&self, moment: u64, random: &mut Generator) -> Memory {
        let record = self.state().record.clone();
        match record {
            Some(Record { log, number, base }) => log.cut(number, &base, moment, random),
            None => self.contents(),
        }
    }

    /// Fills a block with a byte behind everybody's back.
    pub fn poke_block(&self, block: u64, value: u8) {
        self.memory.poke(block * u64::from(BLOCK), &[value; BLOCK as usize]);
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
}

impl BlockDevice for RamDisk {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let record = self.state().record.clone();
        let begin = record.as_ref().and_then(|record| record.log.begin(record.number, &command, BLOCK));
        self.spend(&command, meanwhile)?;
        self.memory.execute(command, &mut || ())?;
        if let (Some(record), Some(begin)) = (record, begin) {
            record.log.answer(begin);
        }
        Ok(())
    }
}
