//! The LSI 53C895A host adapter: one SCSI channel, narrow and asynchronous, with up to 14 commands in flight.
//!
//! The chip runs a SCRIPTS program ([`super::scripts`]) that starts commands from a ring in memory, lets targets disconnect
//! and reselect, moves data by scatter/gather tables and marks commands done. A command costs the CPU one register write
//! to submit, and one register read and one write in the interrupt handler, which several completions may share.
//!
//! # Division of labour
//!
//! [`Port::acknowledge`] is for the interrupt handler: it touches registers and one atomic. Everything else happens in
//! [`Adapter::submit`] and [`Adapter::service`], called by tasks, never at the same time. Nothing here waits.

mod area;
mod port;
mod recovery;
mod setup;
mod stopped;
mod types;

pub use port::Port;
pub use types::{
    Command, Completion, Configuration, Direction, InitError, ScriptsRam, Segment, Statistics, SubmitError,
    Tag,
};

use area::Area;
use port::CAUSE_ON_THE_FLY;

use super::registers as register;
use super::scripts::{AREA_BYTES, BLOCK_BYTES, ENTRIES, Program, block, shared, stop};
use super::{OWN_IDENTITY, Outcome, Sense, TARGETS, status};
use crate::{Dma, Registers};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// How often a polled wait for the chip looks before it gives up; each look is one PCI read.
const POLLS: u32 = 1000;
/// PCI reads that take at least the 25 microseconds for which a bus reset is held (a read takes 60 ns at the very least).
const RESET_HOLD_READS: u32 = 420;
/// How long ABORT and BUS DEVICE RESET may take before the bus is reset, in milliseconds.
const MANAGEMENT_MILLISECONDS: u64 = 500;
/// A command that seems to take too long is given so many more looks, each after [`GRACE_MILLISECONDS`].
const GRACE_LOOKS: u8 = 100;
/// Milliseconds between the looks.
const GRACE_MILLISECONDS: u64 = 10;
/// PCI reads of each look: half a millisecond.
const GRACE_READS: u32 = 2000;
/// The block for ABORT and BUS DEVICE RESET; commands use blocks 1 to 14, block 0 is the shared page.
const MANAGEMENT: usize = 15;
/// The most bytes of one table entry (24-bit count), kept even.
const LONGEST_ENTRY: u32 = 0x00FF_FFFE;

const MESSAGE_ABORT: u8 = 0x06;
const MESSAGE_BUS_DEVICE_RESET: u8 = 0x0C;
const MESSAGE_REJECT: u8 = 0x07;
const MESSAGE_SIMPLE_QUEUE_TAG: u8 = 0x20;
const IDENTIFY: u8 = 0x80;
const IDENTIFY_MAY_DISCONNECT: u8 = 0xC0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Running,
    /// REQUEST SENSE runs in the block of the command that failed.
    Sensing,
}

/// The driver's own account of a block; the chip can't touch it.
#[derive(Debug, Clone, Copy)]
struct Slot {
    state: State,
    target: u8,
    tagged: bool,
    exclusive: bool,
    from_target: bool,
    first_entry: u16,
    /// Data bytes asked for.
    expected: u32,
    /// Bytes moved before REQUEST SENSE took over the block.
    transferred: u32,
    deadline: u64,
    /// A table entry that was shortened to go on in its middle: index, true count, true address.
    patched: Option<(u16, u32, u32)>,
}

const FREE: Slot = Slot {
    state: State::Free,
    target: 0,
    tagged: false,
    exclusive: false,
    from_target: false,
    first_entry: 0,
    expected: 0,
    transferred: 0,
    deadline: 0,
    patched: None,
};

/// An ABORT or BUS DEVICE RESET on its way.
#[derive(Debug, Clone, Copy)]
struct Management {
    target: u8,
    /// The slots that end with it.
    covered: u16,
    /// Of these, those that took too long.
    expired: u16,
    deadline: u64,
}

/// One channel.
pub struct Adapter<R, D> {
    port: Arc<Port<R>>,
    dma: D,
    configuration: Configuration,
    program: Program,
    area: Area,
    slots: [Slot; Tag::LIMIT],
    /// A bit for each slot that is not free.
    active: u16,
    /// The ring entry to fill next.
    producer: u8,
    management: Option<Management>,
    /// How often in a row each target needed an ABORT, without a success in between.
    escalation: [u8; TARGETS as usize],
    /// An exclusive command was turned away: nothing else is taken before it.
    exclusive_waits: bool,
    /// Until then nothing is started (after a bus reset).
    held_until: Option<u64>,
    /// Looks left before a command took too long, and when the next is due. All of them while nothing is late: others that
    /// end meanwhile are no help to one that is.
    grace: (u8, u64),
    statistics: Statistics,
}

// SAFETY: the area belongs to this adapter alone; its pointer is the only field that is not Send by itself.
unsafe impl<R: Registers + Send + Sync, D: Dma + Send> Send for Adapter<R, D> {}

impl<R: Registers, D: Dma> Adapter<R, D> {
    /// Resets the chip, loads its program (into the chip's own RAM, or else into host memory) and starts it.
    pub fn new(
        registers: R,
        ram: Option<ScriptsRam<'_>>,
        dma: D,
        configuration: Configuration,
    ) -> Result<Self, InitError> {
        let pointer = dma.allocate(AREA_BYTES, AREA_BYTES).ok_or(InitError::Memory)?;
        let area = Area { bus: dma.bus_address(pointer.as_ptr(), AREA_BYTES), pointer };
        // The tag is byte 1 of a block's address: the area must be aligned on the bus as it is in memory.
        if !(area.bus as usize).is_multiple_of(AREA_BYTES) {
            return Err(InitError::Memory);
        }
        let program = match &ram {
            Some(ram) => {
                let program = Program::assemble(ram.bus_address, area.bus);
                for (index, word) in program.words.iter().enumerate() {
                    ram.registers.write32(4 * index, *word);
                }
                if ram.registers.read32(0) != program.words[0] {
                    return Err(InitError::Chip);
                }
                program
            }
            None => {
                let bytes = super::scripts::program_bytes();
                let place = dma.allocate(bytes, 8).ok_or(InitError::Memory)?;
                let program = Program::assemble(dma.bus_address(place.as_ptr(), bytes), area.bus);
                for (index, word) in program.words.iter().enumerate() {
                    // SAFETY: `place` has room for `bytes`, which is four for each word, and is aligned.
                    unsafe {
                        place.as_ptr().cast::<u32>().add(index).write_volatile(word.to_le());
                    }
                }
                program
            }
        };
        let adapter = Adapter {
            port: Arc::new(Port { registers, causes: AtomicU32::new(0), start: program.start }),
            dma,
            configuration,
            program,
            area,
            slots: [FREE; Tag::LIMIT],
            active: 0,
            producer: 0,
            management: None,
            escalation: [0; TARGETS as usize],
            exclusive_waits: false,
            held_until: None,
            grace: (GRACE_LOOKS, 0),
            statistics: Statistics::default(),
        };
        adapter.lay_out_area();
        adapter.reset_chip();
        if adapter.registers().read32(register::PMJAD1) != adapter.program.mismatch {
            return Err(InitError::Chip);
        }
        if configuration.reset_bus {
            adapter.pulse_reset();
        }
        adapter.start_idle();
        Ok(adapter)
    }

    /// What the interrupt handler needs.
    pub fn port(&self) -> Arc<Port<R>> {
        self.port.clone()
    }

    /// Counts since the start.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How many commands are in flight.
    pub fn in_flight(&self) -> u32 {
        self.active.count_ones()
    }

    /// Hands a command to the chip.
    ///
    /// `now` is in milliseconds of any monotonic clock, the same as for [`service`](Self::service).
    ///
    /// # Safety
    ///
    /// The memory of all segments stays valid, and is touched by nobody else (for [`Direction::ToTarget`]: written by
    /// nobody), until `service` has handed over the completion with the returned tag.
    pub unsafe fn submit(&mut self, now: u64, command: &Command<'_>) -> Result<Tag, SubmitError> {
        let length = command.descriptor.len();
        if command.target >= TARGETS
            || command.target == OWN_IDENTITY
            || !(6..=16).contains(&length)
            || (command.direction == Direction::None) != command.segments.is_empty()
        {
            return Err(SubmitError::Invalid);
        }
        let slot = self.admit(command)?;
        let (entries, expected) = self.fill_table(slot, command.segments)?;

        let base = Area::block(slot);
        let tag = (slot as u8) << 4;
        self.set_target(slot, command.target);
        for (index, byte) in command.descriptor.iter().enumerate() {
            self.area.write8(base + block::COMMAND + index, *byte);
        }
        self.area.write32(base + block::COMMAND_TABLE, length as u32);
        let messages = base + block::MESSAGES;
        self.area.write8(messages, IDENTIFY_MAY_DISCONNECT);
        if command.tagged {
            self.area.write8(messages + 1, MESSAGE_SIMPLE_QUEUE_TAG);
            self.area.write8(messages + 2, tag);
        } else {
            self.set_untagged(command.target, slot);
        }
        let count = if command.tagged { 3 } else { 1 };
        self.area.write32(base + block::MESSAGE_TABLE, count);
        let from_target = command.direction == Direction::FromTarget;
        self.area.write32(base + block::RESUME, self.program.resume(from_target, entries));
        self.clear_progress(slot);

        self.slots[slot] = Slot {
            state: State::Running,
            target: command.target,
            tagged: command.tagged,
            exclusive: command.exclusive,
            from_target,
            first_entry: (ENTRIES - entries) as u16,
            expected,
            transferred: 0,
            deadline: now + u64::from(command.timeout_milliseconds),
            patched: None,
        };
        self.active |= 1 << slot;
        self.statistics.commands = self.statistics.commands.wrapping_add(1);
        self.enqueue(slot);
        if self.held_until.is_none() {
            self.signal();
        }
        Ok(Tag(slot as u8))
    }

    /// Does everything that is not urgent: hands over completions, helps the chip where it stopped, watches the time.
    ///
    /// To be called after [`Port::acknowledge`] returned true, and at [`deadline`](Self::deadline).
    pub fn service(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        let causes = self.port.causes.swap(0, Ordering::AcqRel);
        self.collect_done(complete);
        if causes & !CAUSE_ON_THE_FLY != 0 {
            self.statistics.stops = self.statistics.stops.wrapping_add(1);
            self.stopped(causes, now, complete);
        }
        if self.held_until.is_some_and(|until| now >= until) {
            self.held_until = None;
            self.start_idle();
        }
        self.watch_time(now, complete);
    }

    /// When `service` is to be called at the latest, in the clock of its `now`.
    pub fn deadline(&self) -> Option<u64> {
        self.first_deadline().map(|first| first.max(self.grace.1))
    }

    /// The deadline that comes, or came, first.
    fn first_deadline(&self) -> Option<u64> {
        let commands = (1..Tag::LIMIT)
            .filter(|slot| self.active & 1 << slot != 0)
            .filter(|slot| self.management.is_none_or(|management| management.covered & 1 << slot == 0))
            .map(|slot| self.slots[slot].deadline);
        let management = self.management.map(|management| management.deadline);
        commands.chain(management).chain(self.held_until).min()
    }

    /// Resets the bus: every command in flight ends with [`Outcome::BusReset`].
    pub fn reset_bus(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        self.collect_done(complete);
        self.reset_bus_because("asked for", now, complete);
    }

    fn registers(&self) -> &R {
        &self.port.registers
    }

    /// Finds a free slot, if the command may start now.
    fn admit(&mut self, command: &Command<'_>) -> Result<usize, SubmitError> {
        if command.exclusive && (self.active != 0 || self.management.is_some()) {
            self.exclusive_waits = true;
            return Err(SubmitError::Busy);
        }
        if !command.exclusive && self.exclusive_waits {
            return Err(SubmitError::Busy);
        }
        let mut free = None;
        for slot in (1..Tag::LIMIT).rev() {
            let other = &self.slots[slot];
            if other.state == State::Free {
                free = Some(slot);
            } else if other.exclusive || (other.target == command.target && !(other.tagged && command.tagged))
            {
                return Err(SubmitError::Busy);
            }
        }
        let slot = free.ok_or(SubmitError::Busy)?;
        if command.exclusive {
            self.exclusive_waits = false;
        }
        Ok(slot)
    }

    /// Writes the scatter/gather table, ending at its last entry. Neighbours on the bus become one entry.
    fn fill_table(&self, slot: usize, segments: &[Segment]) -> Result<(usize, u32), SubmitError> {
        let mut entries = 0;
        let mut total = 0u32;
        self.each_entry(segments, |_, count| {
            entries += 1;
            total = total.saturating_add(count);
        });
        if entries > ENTRIES || total == u32::MAX {
            return Err(SubmitError::TooManySegments);
        }
        let mut offset = Area::block(slot) + block::TABLE + 8 * (ENTRIES - entries);
        self.each_entry(segments, |address, count| {
            self.area.write32(offset, count);
            self.area.write32(offset + 4, address);
            offset += 8;
        });
        Ok((entries, total))
    }

    fn each_entry(&self, segments: &[Segment], mut emit: impl FnMut(u32, u32)) {
        let mut pending: Option<(u32, u32)> = None;
        for segment in segments {
            let mut address = self.dma.bus_address(segment.pointer, segment.length as usize);
            let mut left = segment.length;
            while left != 0 {
                let mut count = left.min(LONGEST_ENTRY);
                match &mut pending {
                    Some((start, length))
                        if start.wrapping_add(*length) == address && *length < LONGEST_ENTRY =>
                    {
                        count = count.min(LONGEST_ENTRY - *length);
                        *length += count;
                    }
                    _ => {
                        if let Some((start, length)) = pending.replace((address, count)) {
                            emit(start, length);
                        }
                    }
                }
                address = address.wrapping_add(count);
                left -= count;
            }
        }
        if let Some((start, length)) = pending {
            emit(start, length);
        }
    }

    fn set_target(&self, slot: usize, target: u8) {
        self.area.write32(
            Area::block(slot) + block::SELECT,
            u32::from(register::SCNTL3_ASYNCHRONOUS) << 24 | u32::from(target) << 16,
        );
    }

    /// A free block waits for no target, so that a stray reselection does not find it.
    fn free_block(&self, slot: usize) {
        self.set_target(slot, 0xFF);
        self.area.write32(Area::block(slot) + block::RESUME, self.program.discard);
    }

    fn set_untagged(&self, target: u8, slot: usize) {
        let address = if slot == 0 { 0 } else { self.area.block_bus(slot) };
        self.area.write32(usize::from(target) * shared::LINE, address);
    }

    fn clear_progress(&self, slot: usize) {
        let base = Area::block(slot);
        self.area.write32(base + block::TRANSFERRED, 0);
        self.area.write32(base + block::SAVED, 0);
        self.area.write8(base + block::DONE, 0);
        self.area.write8(base + block::STATUS, 0xFF);
    }

    fn ring_offset(index: u8) -> usize {
        shared::RING + 4 * (usize::from(index) % shared::RING_ENTRIES)
    }

    /// Puts a block behind everything that waits to be started.
    fn enqueue(&mut self, slot: usize) {
        // At most 15 blocks wait, so the entry after this one was consumed: it becomes the ring's end, before this entry
        // lets the chip come that far.
        let next = (self.producer + 1) % shared::RING_ENTRIES as u8;
        self.area.write32(Self::ring_offset(next), 0);
        self.dma.barrier();
        self.area.write32(Self::ring_offset(self.producer), self.area.block_bus(slot));
        self.producer = next;
        self.dma.barrier();
    }

    /// Puts a block before everything that waits to be started. SCRIPTS must have stopped.
    fn enqueue_first(&mut self, slot: usize) {
        let first = (self.consumer() + shared::RING_ENTRIES as u8 - 1) % shared::RING_ENTRIES as u8;
        self.area.write32(Self::ring_offset(first), self.area.block_bus(slot));
        self.registers().write8(register::SCRATCHB, Self::ring_offset(first) as u8);
        self.dma.barrier();
    }

    /// The ring entry that SCRIPTS take next. SCRIPTS must have stopped.
    fn consumer(&self) -> u8 {
        let low = usize::from(self.registers().read8(register::SCRATCHB));
        // Whatever the chip says, it becomes an index into the ring.
        ((low / 4) % shared::RING_ENTRIES) as u8
    }

    /// The slots that wait in the ring, not yet sent to their targets. SCRIPTS must have stopped.
    fn unsent(&self) -> u16 {
        let mut unsent = 0;
        let mut index = self.consumer();
        while index != self.producer {
            let entry = self.area.read32(Self::ring_offset(index));
            if let Some(slot) = self.slot_at(entry) {
                unsent |= 1 << slot;
            }
            index = (index + 1) % shared::RING_ENTRIES as u8;
        }
        unsent
    }

    /// The slot (or [`MANAGEMENT`]) whose block is at a bus address.
    fn slot_at(&self, address: u32) -> Option<usize> {
        let offset = address.wrapping_sub(self.area.bus) as usize;
        let slot = offset / BLOCK_BYTES;
        (offset.is_multiple_of(BLOCK_BYTES) && (1..=MANAGEMENT).contains(&slot)).then_some(slot)
    }

    /// Makes SCRIPTS that wait for reselection look at the ring.
    fn signal(&self) {
        self.registers().write8(register::ISTAT0, register::ISTAT0_SIGNAL_PROCESS);
    }

    /// Starts SCRIPTS that have stopped.
    fn start(&self, address: u32) {
        self.dma.barrier();
        self.registers().write32(register::DSP, address);
    }

    /// Starts SCRIPTS that have stopped, with no command connected.
    ///
    /// WAIT RESELECT has to be the first instruction, with "signal process" set after it: QEMU's chip, stopped while it
    /// waited for a target's data, else stays in that wait.
    fn start_idle(&self) {
        self.registers().read8(register::CTEST2);
        self.start(self.program.idle);
        self.signal();
    }

    /// Ends a slot's command and makes the slot free.
    fn finish(&mut self, slot: usize, outcome: Outcome, complete: &mut dyn FnMut(Completion)) {
        let Slot { target, tagged, .. } = self.slots[slot];
        if !tagged || self.slots[slot].state == State::Sensing {
            self.set_untagged(target, 0);
        }
        self.free_block(slot);
        self.slots[slot] = FREE;
        self.active &= !(1 << slot);
        if let Some(management) = &mut self.management {
            management.covered &= !(1 << slot);
        }
        complete(Completion { tag: Tag(slot as u8), outcome });
    }

    /// Ends those commands that SCRIPTS marked done.
    fn collect_done(&mut self, complete: &mut dyn FnMut(Completion)) {
        let mut left = self.active;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            let base = Area::block(slot);
            if self.area.read8(base + block::DONE) == 0 {
                continue;
            }
            // What the chip wrote before the mark is read after it.
            self.dma.barrier();
            let transferred = self.area.read32(base + block::TRANSFERRED);
            let entry = self.slots[slot];
            let outcome = match entry.state {
                State::Sensing => Outcome::Status {
                    status: status::CHECK_CONDITION,
                    transferred: entry.transferred,
                    sense: Some(self.read_sense(slot, transferred)),
                },
                _ if transferred > entry.expected => Outcome::Overrun,
                _ => Outcome::Status {
                    status: self.area.read8(base + block::STATUS),
                    transferred,
                    sense: None,
                },
            };
            self.escalation[usize::from(entry.target)] = 0;
            self.finish(slot, outcome, complete);
        }
    }

    fn read_sense(&self, slot: usize, transferred: u32) -> Sense {
        let base = Area::block(slot) + block::SENSE;
        let mut bytes = [0; Sense::BYTES];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = self.area.read8(base + index);
        }
        let length = (transferred as usize).min(bytes.len());
        Sense::new(&bytes[..length])
    }
}

#[cfg(test)]
mod tests;
