//! Disks with a volatile write cache: what was written is recorded, to rebuild the disks as a power cut would leave them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Generator, RamDisk};
use crate::{BlockDevice, Command, DeviceError};

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One recorded moment.
enum Event {
    /// A disk was given bytes to write at a byte offset.
    Write { disk: usize, offset: u64, bytes: Arc<[u8]> },
    /// A disk was told to empty its cache.
    Flush { disk: usize },
    /// The disk answered the command that event `begin` is.
    Answer { begin: usize },
}

/// What several disks were told and answered, in the order in which it happened.
#[derive(Default)]
pub struct PowerLog {
    /// With the moment of each.
    events: Mutex<Vec<(u64, Event)>>,
    clock: Option<fn() -> u64>,
}

impl PowerLog {
    /// Nothing yet. Its clock counts events.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Nothing yet. `clock` says the time; it does not go back.
    pub fn timed(clock: fn() -> u64) -> Arc<Self> {
        Arc::new(Self { clock: Some(clock), ..Self::default() })
    }

    fn events(&self) -> MutexGuard<'_, Vec<(u64, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) -> usize {
        let mut events = self.events();
        let name = events.len();
        let moment = self.clock.map_or(name as u64 + 1, |clock| clock());
        events.push((moment, event));
        name
    }

    /// The present moment. All events so far happened up to it.
    pub fn now(&self) -> u64 {
        self.clock.map_or_else(|| self.events().len() as u64, |clock| clock())
    }

    /// A disk is given bytes to write; returns the command's name for [`answer`](Self::answer).
    pub fn write(&self, disk: usize, offset: u64, bytes: Vec<u8>) -> usize {
        self.push(Event::Write { disk, offset, bytes: bytes.into() })
    }

    /// A disk is told to empty its cache.
    pub fn flush(&self, disk: usize) -> usize {
        self.push(Event::Flush { disk })
    }

    /// A disk with blocks of `block_size` bytes is told `command`. `None` for a read.
    pub fn begin(&self, disk: usize, command: &Command<'_, '_>, block_size: u32) -> Option<usize> {
        match command {
            Command::Read { .. } => None,
            Command::Write { block, buffers } => {
                Some(self.write(disk, block * u64::from(block_size), buffers.concat()))
            }
            Command::Flush => Some(self.flush(disk)),
        }
    }

    /// The disk has done what it was told. A command without an answer may have been done in part.
    pub fn answer(&self, begin: usize) {
        self.push(Event::Answer { begin });
    }

    /// The disk `disk`, which was `base` when the log began, after a power cut right behind the moment `cut`.
    pub fn cut(&self, disk: usize, base: &RamDisk, cut: u64, random: &mut Generator) -> RamDisk {
        let mut medium = Medium::new(base.duplicate());
        let mut commands: Vec<Option<usize>> = Vec::new();
        for (_, event) in self.events().iter().take_while(|(moment, _)| *moment <= cut) {
            let name = match event {
                Event::Write { disk: of, offset, bytes } if *of == disk => {
                    Some(medium.write(*offset, bytes.clone()))
                }
                Event::Flush { disk: of } if *of == disk => Some(medium.flush()),
                Event::Answer { begin } => {
                    if let Some(Some(command)) = commands.get(*begin) {
                        medium.answer(*command);
                    }
                    None
                }
                _ => None,
            };
            commands.push(name);
        }
        medium.cut(random)
    }
}

/// A write that the disk may have kept in its cache.
struct Loose {
    name: usize,
    offset: u64,
    bytes: Arc<[u8]>,
    /// Count of commands begun when this one was answered.
    answered: Option<usize>,
}

/// A disk's medium and its volatile cache, command by command.
pub struct Medium {
    /// What is safe.
    safe: RamDisk,
    loose: Vec<Loose>,
    flushes: Vec<usize>,
    begun: usize,
}

impl Medium {
    /// The medium holds `disk`, the cache nothing.
    pub fn new(disk: RamDisk) -> Self {
        Self { safe: disk, loose: Vec::new(), flushes: Vec::new(), begun: 0 }
    }

    /// A write is begun; returns its name.
    pub fn write(&mut self, offset: u64, bytes: Arc<[u8]>) -> usize {
        let name = self.begun;
        self.begun += 1;
        self.loose.push(Loose { name, offset, bytes, answered: None });
        name
    }

    /// SYNCHRONIZE CACHE is begun.
    pub fn flush(&mut self) -> usize {
        let name = self.begun;
        self.begun += 1;
        self.flushes.push(name);
        name
    }

    /// A command is answered. A flush makes those writes safe that were answered before it began.
    pub fn answer(&mut self, name: usize) {
        if let Some(place) = self.flushes.iter().position(|&flush| flush == name) {
            self.flushes.swap_remove(place);
            let safe = &self.safe;
            self.loose.retain(|write| {
                let keep = write.answered.is_none_or(|answered| answered > name);
                if !keep {
                    safe.poke(write.offset, &write.bytes);
                }
                keep
            });
        } else if let Some(write) = self.loose.iter_mut().find(|write| write.name == name) {
            write.answered = Some(self.begun);
        }
    }

    /// What the medium holds after a power cut now: what is safe, and of the other writes any part, in sectors, in any
    /// order, as `random` has it.
    pub fn cut(&self, random: &mut Generator) -> RamDisk {
        let disk = self.safe.duplicate();
        let count = self.loose.len() as u64;
        let mut writes: Vec<&Loose> = self.loose.iter().collect();
        // How likely a write is to be there whole, and else torn, in sixteenths.
        let (whole, torn) = match random.below(8) {
            0 => (0, 0),
            1 => (16, 0),
            2 if count > 0 => {
                // The first of them in order, the next torn: a cache that keeps the order.
                let until = random.below(count) as usize;
                for write in writes.iter().take(until) {
                    disk.poke(write.offset, &write.bytes);
                }
                if let Some(write) = writes.get(until) {
                    tear(&disk, write, random);
                }
                return disk;
            }
            3 if count > 0 => {
                // All but one.
                writes.remove(random.below(count) as usize);
                (16, 0)
            }
            4 if count > 0 => {
                // One alone.
                let one = writes.swap_remove(random.below(count) as usize);
                writes = alloc::vec![one];
                (12, 4)
            }
            5 => (0, 16),
            _ => (6, 5),
        };
        for place in (1..writes.len()).rev() {
            writes.swap(place, random.below(place as u64 + 1) as usize);
        }
        for write in writes {
            match random.below(16) {
                chance if chance < whole => disk.poke(write.offset, &write.bytes),
                chance if chance < whole + torn => tear(&disk, write, random),
                _ => {}
            }
        }
        disk
    }
}

/// Some sectors of a write made it: a run of them, or any.
fn tear(disk: &RamDisk, write: &Loose, random: &mut Generator) {
    let count = write.bytes.len().div_ceil(SECTOR) as u64;
    let run = random.once_in(2).then(|| (random.below(count + 1), random.once_in(2)));
    for (number, sector) in write.bytes.chunks(SECTOR).enumerate() {
        let number = number as u64;
        let there = match run {
            Some((at, first)) => (number < at) == first,
            None => random.once_in(2),
        };
        if there {
            disk.poke(write.offset + number * SECTOR as u64, sector);
        }
    }
}

/// A RAM disk that tells a log what it is told.
pub struct Recorder {
    log: Arc<PowerLog>,
    number: usize,
    base: RamDisk,
    disk: RamDisk,
}

impl Recorder {
    /// Starts from the contents of `disk`, as disk `number` of the log.
    pub fn new(log: &Arc<PowerLog>, number: usize, disk: RamDisk) -> Arc<Self> {
        Arc::new(Self { log: log.clone(), number, base: disk.duplicate(), disk })
    }

    /// The disk after a power cut at a moment of the log.
    pub fn cut(&self, cut: u64, random: &mut Generator) -> RamDisk {
        self.log.cut(self.number, &self.base, cut, random)
    }
}

impl BlockDevice for Recorder {
    fn blocks(&self) -> u64 {
        self.disk.blocks()
    }

    fn block_size(&self) -> u32 {
        self.disk.block_size()
    }

    fn execute(&self, command: Command<'_, '_>, meanwhile: &mut dyn FnMut()) -> Result<(), DeviceError> {
        let begin = self.log.begin(self.number, &command, self.block_size());
        let result = self.disk.execute(command, meanwhile);
        if let (Some(begin), Ok(())) = (begin, result) {
            self.log.answer(begin);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte(disk: &RamDisk, sector: u64) -> u8 {
        let mut byte = [0];
        disk.peek(sector * 512, &mut byte);
        byte[0]
    }

    #[test]
    fn a_flush_covers_what_was_answered_before_it_began() {
        let log = PowerLog::new();
        let base = RamDisk::new(16, 512);
        let early = log.write(0, 0, std::vec![1; 512]);
        log.answer(early);
        let late = log.write(0, 512, std::vec![2; 512]);
        let flush = log.flush(0);
        log.answer(late);
        let before = log.now();
        log.answer(flush);
        let after = log.now();
        let (mut lost_before, mut lost_late, mut kept_late) = (false, false, false);
        for seed in 0..100 {
            let mut random = Generator::new(seed);
            lost_before |= byte(&log.cut(0, &base, before, &mut random), 0) == 0;
            let disk = log.cut(0, &base, after, &mut random);
            assert_eq!(byte(&disk, 0), 1);
            lost_late |= byte(&disk, 1) == 0;
            kept_late |= byte(&disk, 1) == 2;
            // Another disk of the log has nothing of it.
            assert_eq!(byte(&log.cut(1, &base, after, &mut random), 0), 0);
        }
        assert!(lost_before && lost_late && kept_late);
    }

    #[test]
    fn writes_are_lost_torn_and_reordered() {
        let log = PowerLog::new();
        let base = RamDisk::new(16, 512);
        for value in [1, 2] {
            let write = log.write(0, 0, std::vec![value; 4096]);
            log.answer(write);
        }
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let disk = log.cut(0, &base, log.now(), &mut Generator::new(seed));
            seen.insert([byte(&disk, 0), byte(&disk, 7)]);
        }
        // Each of the two sectors may be either write's, or neither's.
        assert_eq!(seen.len(), 9);
    }
}
