//! Records what is written, to rebuild the disk as a power cut would leave it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::{Generator, RamDisk};
use crate::{BlockDevice, Command, DeviceError};

/// One recorded call.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes written at a byte offset.
    Write(u64, Vec<u8>),
    /// Everything before is safe.
    Flush,
    /// A note of the test's own.
    Mark(u64),
}

/// A RAM disk that records every write and flush since it was made.
pub struct Recorder {
    base: RamDisk,
    disk: RamDisk,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// Starts from the contents of `disk`.
    pub fn new(disk: RamDisk) -> Arc<Self> {
        Arc::new(Self { base: disk.duplicate(), disk, events: Mutex::new(Vec::new()) })
    }

    /// How many events there are.
    pub fn events(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    /// Puts a mark between the events.
    pub fn mark(&self, mark: u64) {
        self.events.lock().unwrap().push(Event::Mark(mark));
    }

    /// The disk after a power cut behind the first `cut` events: what was flushed is there; of the writes since, each
    /// is there, lost, or torn at a 512-byte sector, and they arrive in any order, as `random` has it. Also gives the
    /// last mark before the cut that the last flush before the cut covers.
    pub fn cut(&self, cut: usize, random: &mut Generator) -> (RamDisk, Option<u64>) {
        let disk = self.base.duplicate();
        let events = self.events.lock().unwrap();
        let events = &events[..cut.min(events.len())];
        let safe = events.iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |at| at + 1);
        let mut mark = None;
        for event in &events[..safe] {
            match event {
                Event::Write(offset, bytes) => disk.poke(*offset, bytes),
                Event::Mark(number) => mark = Some(*number),
                Event::Flush => (),
            }
        }
        // Marks right behind the last flush name what it made safe.
        for event in &events[safe..] {
            match event {
                Event::Mark(number) => mark = Some(*number),
                _ => break,
            }
        }
        let mut loose: Vec<&Event> = events[safe..].iter().collect();
        match random.below(4) {
            // Nothing of it, all of it, or any part in any order.
            0 => loose.clear(),
            1 => (),
            _ => {
                for place in (1..loose.len()).rev() {
                    loose.swap(place, random.below(place as u64 + 1) as usize);
                }
            }
        }
        let all = random.once_in(3);
        for event in loose {
            if let Event::Write(offset, bytes) = event {
                if all || random.once_in(2) {
                    disk.poke(*offset, bytes);
                } else if random.once_in(2) {
                    // Torn: some of its sectors made it.
                    for (number, sector) in bytes.chunks(512).enumerate() {
                        if random.once_in(2) {
                            disk.poke(offset + number as u64 * 512, sector);
                        }
                    }
                }
            }
        }
        (disk, mark)
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
        match command {
            Command::Read { .. } => self.disk.execute(command, meanwhile),
            Command::Write { block, buffers } => {
                // A flush that runs beside a write does not cover it.
                meanwhile();
                self.disk.write(block, buffers)?;
                let offset = block * u64::from(self.block_size());
                self.events.lock().unwrap().push(Event::Write(offset, buffers.concat()));
                Ok(())
            }
            Command::Flush => {
                self.events.lock().unwrap().push(Event::Flush);
                meanwhile();
                Ok(())
            }
        }
    }
}
