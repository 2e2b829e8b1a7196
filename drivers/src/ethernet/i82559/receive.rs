//! The receive frame area: a ring of descriptors, each with its frame behind it (simplified mode, 6.4.3.1).
//!
//! The descriptors are linked into a circle for ever. The chip fills them in order and stops behind the one with the EL
//! bit, which is the newest the driver has given it: the EL bit wanders round the circle behind the driver's `head`, in
//! steps of several descriptors. If the chip catches up with it, the ring is full: the receive unit enters the
//! no-resources state (RNR) and drops frames until the driver starts it again.

use super::port::Port;
use super::registers::*;
use crate::ethernet::shared_memory::SharedMemory;
use crate::ethernet::{FRAME_HEADER, FRAME_MAXIMUM, FrameReceiver};
use crate::{Dma, Registers};

/// Bytes of a descriptor and its buffer: whole cache lines, so that no line is shared by two frames.
const STRIDE: usize = 1536;
/// Where in its piece a descriptor begins: on an even address that is off the words by as much as an Ethernet header is.
const SHIFT: usize = 2;
/// Bytes of the buffer, an even number: a longest frame and some to spare, so that an oversize frame shows by its length.
const BUFFER: usize = STRIDE - SHIFT - BLOCK_FRAME;
const _: () = assert!(BUFFER > FRAME_MAXIMUM && BUFFER.is_multiple_of(2));

/// Counts that the receiving half keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub frames: u64,
    pub bytes: u64,
    pub refused: u64,
    pub stalls: u64,
}

/// The receiving half of an 82559.
pub struct Receiver<'p, R, D> {
    port: &'p Port<R, D>,
    memory: SharedMemory,
    /// Descriptors in the ring.
    size: u16,
    /// The descriptor that the next frame comes from.
    head: u16,
    /// How many descriptors from `head` on hold frames that are known to lie in memory completely.
    ready: u16,
    /// The length of the frame at `head` when it has been looked at; 0 when not. The one and only: the chip might write
    /// another into the descriptor later.
    length: usize,
    /// The descriptor with the EL bit: the newest the chip has been given.
    last: u16,
    /// How many descriptors behind `last` (up to `head`) are empty and not given to the chip yet.
    released: u16,
    /// The receive unit has reported that it ran out of descriptors.
    stalled: bool,
    pub(super) counts: Counts,
}

impl<'p, R: Registers, D: Dma> Receiver<'p, R, D> {
    /// Makes a ring of `size` (at least 2) descriptors; `None` when memory does not suffice.
    pub(super) fn new(port: &'p Port<R, D>, size: u16) -> Option<Self> {
        let size = size.max(2);
        let memory = SharedMemory::allocate(port.dma(), usize::from(size) * STRIDE, 32)?;
        let mut receiver = Self {
            port,
            memory,
            size,
            head: 0,
            ready: 0,
            length: 0,
            last: size - 1,
            released: 0,
            stalled: false,
            counts: Counts::default(),
        };
        receiver.clear();
        Some(receiver)
    }

    /// Makes every descriptor empty and the first one the next. The receive unit must be idle.
    pub(super) fn clear(&mut self) {
        for index in 0..self.size {
            let link = self.memory.bus_address(offset(self.next(index)));
            self.memory.write32_halves(offset(index) + BLOCK_LINK, link);
            // Only flexible mode has a buffer address here.
            self.memory.write32_halves(offset(index) + BLOCK_PARAMETERS, NO_BUFFER_DESCRIPTORS);
            self.empty(index);
        }
        self.head = 0;
        self.ready = 0;
        self.length = 0;
        self.released = 0;
        self.last = self.size - 1;
        self.memory.write16(offset(self.last) + BLOCK_COMMAND, COMMAND_END_OF_LIST);
        self.stalled = false;
    }

    /// Starts the receive unit, which must be idle, at the first descriptor. False when the chip takes no command.
    pub(super) fn start(&mut self) -> bool {
        self.port.command_with(RECEIVE_UNIT_START, self.memory.bus_address(offset(self.head)))
    }

    /// Notes that the receive unit ran out of descriptors.
    pub(super) fn stall(&mut self) {
        if !self.stalled {
            self.stalled = true;
            self.counts.stalls += 1;
        }
    }

    /// The index after `index` on the circle.
    fn next(&self, index: u16) -> u16 {
        if index + 1 == self.size { 0 } else { index + 1 }
    }

    /// Readies a descriptor for another frame, without the EL bit.
    fn empty(&mut self, index: u16) {
        // Actual count 0 with EOF and F clear, and the size of the buffer.
        self.memory.write32_halves(offset(index) + RECEIVE_COUNT, (BUFFER as u32) << 16);
        self.memory.write32_halves(offset(index) + BLOCK_STATUS, 0);
    }

    /// Whether the chip has filled a descriptor.
    fn is_complete(&self, index: u16) -> bool {
        self.memory.read16(offset(index) + BLOCK_STATUS) & STATUS_COMPLETE != 0
    }

    /// Looks for filled descriptors when none is known; whether there is one now.
    fn refill_ready(&mut self) -> bool {
        if self.ready > 0 {
            return true;
        }
        let mut index = self.head;
        let mut found = 0;
        // What was released and not published is empty: those descriptors are never looked at.
        let most = self.size - self.released;
        while found < most && self.is_complete(index) {
            found += 1;
            index = self.next(index);
        }
        if found == 0 {
            if self.stalled {
                self.publish();
            }
            return false;
        }
        // On a bus, data arrives before the status that announces it. QEMU's model writes the status first, the data behind
        // it, on a thread of its own; but it holds the machine's lock from the one to the other, and so does a register
        // access. After this read, the frames found above are complete on either machine, for one access a batch.
        self.port.registers().read8(SCB_STATUS);
        self.port.dma().barrier();
        self.ready = found;
        true
    }

    /// The length of the frame in a filled descriptor if it is to be handed on.
    fn acceptable(&self, index: u16) -> Option<usize> {
        let status = self.memory.read16(offset(index) + BLOCK_STATUS);
        let count = usize::from(self.memory.read16(offset(index) + RECEIVE_COUNT) & RECEIVE_COUNT_MASK);
        (status & STATUS_OK != 0 && (FRAME_HEADER..=FRAME_MAXIMUM).contains(&count)).then_some(count)
    }

    /// Drops what must be dropped until a good frame is at `head`; its length.
    #[inline]
    fn find_front(&mut self) -> Option<usize> {
        // Asked several times for each frame, and often when there is none.
        if self.length == 0 && self.refill_ready() {
            self.judge_front();
        }
        (self.length != 0).then_some(self.length)
    }

    /// Drops filled descriptors until one with a good frame is at `head`.
    fn judge_front(&mut self) {
        // A bound, so that a chip that completes bad frames for ever cannot hold the task.
        for _ in 0..self.size {
            if let Some(length) = self.acceptable(self.head) {
                self.length = length;
                return;
            }
            self.counts.refused += 1;
            self.release();
            if !self.refill_ready() {
                return;
            }
        }
    }

    /// Gives the descriptor at `head` back.
    fn release(&mut self) {
        self.empty(self.head);
        self.head = self.next(self.head);
        self.ready -= 1;
        self.length = 0;
        self.released += 1;
        // Each step costs a few stores and a barrier: not for every frame.
        if self.released >= (self.size / 4).min(16) {
            self.publish();
        }
    }

    /// Moves the EL bit over the released descriptors, and starts the receive unit again if it stopped.
    fn publish(&mut self) {
        if self.released > 0 {
            let old = self.last;
            let new = if self.head == 0 { self.size - 1 } else { self.head - 1 };
            // The chip must never find a circle without an end.
            self.memory.write16(offset(new) + BLOCK_COMMAND, COMMAND_END_OF_LIST);
            self.port.dma().barrier();
            // Half a word: the chip may just be writing the status beside it.
            if new != old {
                self.memory.write16(offset(old) + BLOCK_COMMAND, 0);
            }
            self.last = new;
            self.released = 0;
        }
        if self.stalled {
            self.restart();
        }
    }

    /// Starts the receive unit again after it ran out of descriptors.
    fn restart(&mut self) {
        // Where it stopped: at the first descriptor that is not complete. With frames still waiting from `head` on, that is
        // behind them; when the whole circle is full there is none.
        let mut index = self.head;
        let mut passed = 0;
        while passed < self.size && self.is_complete(index) {
            passed += 1;
            index = self.next(index);
        }
        if passed == self.size {
            return;
        }
        // RNR of frames dropped until now. If another is set later it is news.
        self.port.registers().write8(SCB_ACKNOWLEDGE, CAUSE_RECEIVE_NOT_READY);
        self.stalled = false;
        // Start is prohibited while the unit is ready (6.5.4): the report may have been an old one.
        if self.port.registers().read8(SCB_STATUS) & RECEIVE_UNIT_MASK != RECEIVE_UNIT_READY {
            let pointer = self.memory.bus_address(offset(index));
            self.port.command_with(RECEIVE_UNIT_START, pointer);
        }
    }
}

impl<R: Registers, D: Dma> FrameReceiver for Receiver<'_, R, D> {
    fn front(&mut self) -> Option<&[u8]> {
        let length = self.find_front()?;
        Some(self.memory.bytes(offset(self.head) + BLOCK_FRAME, length))
    }

    fn front_pair(&mut self) -> Option<(&[u8], &[u8])> {
        let length = self.find_front()?;
        if self.ready < 2 {
            return None;
        }
        let second = self.next(self.head);
        let second_length = self.acceptable(second)?;
        let first = self.memory.bytes(offset(self.head) + BLOCK_FRAME, length);
        Some((first, self.memory.bytes(offset(second) + BLOCK_FRAME, second_length)))
    }

    fn pop(&mut self) {
        if self.length == 0 {
            return;
        }
        self.counts.frames += 1;
        self.counts.bytes += self.length as u64;
        self.release();
    }
}

/// Where a descriptor lies.
fn offset(index: u16) -> usize {
    usize::from(index) * STRIDE + SHIFT
}
