//! The command block list: a ring of blocks, each a frame to send or a set-up command. A frame is in flexible mode, with
//! one buffer descriptor behind its block (6.4.2.5): only so can its buffer lie off the words.
//!
//! The blocks are linked into a circle for ever. The command unit suspends behind the block with the S bit, which is the
//! newest it has been told of. A kick sets S on the newest block, clears it on the one that had it, and says Resume:
//! whether the unit was suspended or still at work, it goes on to the new S bit (6.5.3.2).

use super::port::Port;
use super::registers::*;
use crate::ethernet::shared_memory::SharedMemory;
use crate::ethernet::{FRAME_HEADER, FRAME_MAXIMUM, FrameTransmitter};
use crate::{Dma, Registers};

/// Bytes of a block and its frame: whole cache lines.
const STRIDE: usize = 1568;
/// Where a block's buffer descriptor lies.
const DESCRIPTOR: usize = 0x10;
/// Where a block's frame lies: off the words by as much as an Ethernet header is.
const FRAME: usize = 0x1A;
const _: () = assert!(STRIDE - FRAME >= FRAME_MAXIMUM);
/// Bytes of parameters a set-up command may have.
pub(super) const PARAMETERS_MAXIMUM: usize = STRIDE - BLOCK_PARAMETERS;
/// Blocks a kick may cover. QEMU's model executes no more than 16 and then waits, "active", for another Resume; on a real chip
/// it makes the wire busy while the stack still works on the next frames.
const BATCH: u16 = 16;

/// Counts that the sending half keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub frames: u64,
    pub bytes: u64,
}

/// The sending half of an 82559.
pub struct Transmitter<'p, R, D> {
    port: &'p Port<R, D>,
    memory: SharedMemory,
    /// Blocks in the ring.
    size: u16,
    // One more block behind the ring, outside the circle, is where frames without space go.
    /// The next block to fill.
    head: u16,
    /// Blocks before `head` that are filled and that the chip has not been told of.
    pending: u16,
    /// Blocks before `head` that are not known to be done, the pending ones included.
    used: u16,
    /// Blocks that were seen done since the start; wraps.
    done: u32,
    /// The stack was told of little space; cleared by [`Self::has_recovered`].
    short: bool,
    pub(super) counts: Counts,
}

impl<'p, R: Registers, D: Dma> Transmitter<'p, R, D> {
    /// Makes a ring of `size` (at least 8) blocks; `None` when memory does not suffice.
    pub(super) fn new(port: &'p Port<R, D>, size: u16) -> Option<Self> {
        let size = size.max(8);
        let memory = SharedMemory::allocate(port.dma(), (usize::from(size) + 1) * STRIDE, 32)?;
        let mut transmitter = Self {
            port,
            memory,
            size,
            head: 0,
            pending: 0,
            used: 0,
            done: 0,
            short: false,
            counts: Counts::default(),
        };
        transmitter.clear();
        Some(transmitter)
    }

    /// Forgets everything queued. The command unit must be idle; it is to be started with [`start`](Self::start).
    pub(super) fn clear(&mut self) {
        for index in 0..self.size {
            let link = self.memory.bus_address(offset(if index + 1 == self.size { 0 } else { index + 1 }));
            self.memory.write32(offset(index) + BLOCK_STATUS, 0);
            self.memory.write32(offset(index) + BLOCK_LINK, link);
        }
        self.head = 0;
        self.pending = 0;
        self.used = 0;
    }

    /// Starts the idle command unit with the pending blocks, of which the first lies at the ring's start. False when the chip
    /// takes no command.
    pub(super) fn start(&mut self) -> bool {
        let newest = self.back(1);
        let command = self.memory.read16(offset(newest) + BLOCK_COMMAND);
        self.memory.write16(offset(newest) + BLOCK_COMMAND, command | COMMAND_SUSPEND);
        self.pending = 0;
        self.port.command_with(COMMAND_UNIT_START, self.memory.bus_address(0))
    }

    /// The index `distance` (up to the ring's size) before `head`.
    fn back(&self, distance: u16) -> u16 {
        if self.head >= distance { self.head - distance } else { self.head + self.size - distance }
    }

    /// Takes note of the blocks that are done.
    pub(super) fn reclaim(&mut self) {
        while self.used > self.pending {
            let oldest = offset(self.back(self.used));
            let status = self.memory.read16(oldest + BLOCK_STATUS);
            if status & STATUS_COMPLETE == 0 {
                return;
            }
            self.used -= 1;
            self.done = self.done.wrapping_add(1);
        }
    }

    /// For the watchdog: `None` when the chip has done all it was told of, else how many blocks it has done so far.
    pub(super) fn outstanding(&mut self) -> Option<u32> {
        self.reclaim();
        (self.used > self.pending).then_some(self.done)
    }

    /// Whether the stack was told of little space and there is plenty now.
    pub(super) fn has_recovered(&mut self) -> bool {
        if !self.short {
            return false;
        }
        self.reclaim();
        self.short = self.is_short();
        !self.short
    }

    /// Whether less than half of the ring is free. Then a kick asks for an interrupt when it is done.
    fn is_short(&self) -> bool {
        self.used > self.size / 2
    }

    /// Makes room if little is left.
    fn make_room(&mut self) {
        if self.is_short() {
            self.reclaim();
            if self.is_short() {
                self.flush();
                self.reclaim();
                self.short |= self.is_short();
            }
        }
    }

    /// Counts the block at `head` as filled.
    fn queue(&mut self) {
        self.head = if self.head + 1 == self.size { 0 } else { self.head + 1 };
        self.used += 1;
        self.pending += 1;
        if self.pending >= BATCH.min(self.size / 2) {
            self.flush();
        }
    }

    /// Queues a set-up command with its parameters. False when there is no room.
    pub(super) fn set_up(&mut self, action: u16, parameters: impl IntoIterator<Item = u8>) -> bool {
        self.make_room();
        if self.used == self.size {
            return false;
        }
        let block = offset(self.head);
        self.memory.write32(block + BLOCK_STATUS, u32::from(action) << 16);
        let room = self.memory.bytes_mut(block + BLOCK_PARAMETERS, PARAMETERS_MAXIMUM);
        for (place, byte) in room.iter_mut().zip(parameters) {
            *place = byte;
        }
        self.queue();
        true
    }
}

impl<R: Registers, D: Dma> FrameTransmitter for Transmitter<'_, R, D> {
    fn space(&mut self) -> usize {
        self.make_room();
        usize::from(self.size - self.used)
    }

    fn transmit<T>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        if self.used == self.size || !(FRAME_HEADER..=FRAME_MAXIMUM).contains(&length) {
            return fill(self.memory.bytes_mut(offset(self.size) + FRAME, length.min(FRAME_MAXIMUM)));
        }
        let block = offset(self.head);
        let descriptor = self.memory.bus_address(block + DESCRIPTOR);
        let frame = self.memory.bus_address(block + FRAME);
        // Status 0; the chip computes and appends the checksum (NC clear) and pads short frames (configuration byte 18).
        self.memory.write32(block + BLOCK_STATUS, u32::from(ACTION_TRANSMIT | ACTION_FLEXIBLE) << 16);
        self.memory.write32(block + BLOCK_PARAMETERS, descriptor);
        self.memory
            .write32(block + TRANSMIT_COUNT, ONE_DESCRIPTOR | TRANSMIT_THRESHOLD | TRANSMIT_END_OF_FRAME);
        self.memory.write32(block + DESCRIPTOR, frame);
        // The length is at most 1514: 14 bits.
        self.memory.write32(block + DESCRIPTOR + 4, length as u32 | DESCRIPTOR_END_OF_LIST);
        let result = fill(self.memory.bytes_mut(block + FRAME, length));
        self.counts.frames += 1;
        self.counts.bytes += length as u64;
        self.queue();
        result
    }

    fn flush(&mut self) {
        if self.pending == 0 {
            return;
        }
        if self.is_short() {
            self.reclaim();
        }
        let newest = offset(self.back(1));
        let command = self.memory.read16(newest + BLOCK_COMMAND);
        // Only when buffers run short is it worth an interrupt to hear of free ones.
        let interrupt = if self.is_short() { COMMAND_INTERRUPT } else { 0 };
        self.memory.write16(newest + BLOCK_COMMAND, command | COMMAND_SUSPEND | interrupt);
        // S on the new end before it leaves the old one: the unit must always find one.
        self.port.dma().barrier();
        let previous = offset(self.back(self.pending + 1));
        let command = self.memory.read16(previous + BLOCK_COMMAND);
        self.memory.write16(previous + BLOCK_COMMAND, command & !COMMAND_SUSPEND);
        self.pending = 0;
        // A chip that takes no command any more is the watchdog's business.
        self.port.command(COMMAND_UNIT_RESUME);
    }
}

/// Where a block lies.
fn offset(index: u16) -> usize {
    usize::from(index) * STRIDE
}
