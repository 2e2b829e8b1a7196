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

use super::registers as register;
use super::scripts::{AREA_BYTES, BLOCK_BYTES, ENTRIES, Program, block, shared, stop};
use super::{OWN_IDENTITY, Outcome, Sense, TARGETS, status};
use crate::{Dma, Registers};
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// How often a polled wait for the chip looks before it gives up; each look is one PCI read.
const POLLS: u32 = 1000;
/// PCI reads that take at least the 25 microseconds for which a bus reset is held (a read takes 60 ns at the very least).
const RESET_HOLD_READS: u32 = 420;
/// How long ABORT and BUS DEVICE RESET may take before the bus is reset, in milliseconds.
const MANAGEMENT_MILLISECONDS: u64 = 1000;
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

const CAUSE_ON_THE_FLY: u32 = 1 << 31;

/// The chip as the interrupt handler sees it.
#[derive(Debug)]
pub struct Port<R> {
    registers: R,
    /// DSTAT in bits 7:0, SIST0 in 15:8, SIST1 in 23:16, bit 31 for "on the fly"; collected until `service` takes it.
    causes: AtomicU32,
    /// Where SCRIPTS go on after a yield.
    start: u32,
}

impl<R: Registers> Port<R> {
    /// Reads and clears what the chip interrupts for. Returns whether it was this chip; then `service` is to be called soon.
    ///
    /// For the interrupt handler, or for polling before there are interrupts.
    pub fn acknowledge(&self) -> bool {
        let istat = self.registers.read8(register::ISTAT0);
        // All ones is a chip that does not answer.
        if istat == 0xFF {
            return false;
        }
        let mut causes = 0;
        if istat & register::ISTAT0_ON_THE_FLY != 0 {
            // "Signal process" shares the byte and must survive.
            let keep = istat & register::ISTAT0_SIGNAL_PROCESS;
            self.registers.write8(register::ISTAT0, register::ISTAT0_ON_THE_FLY | keep);
            causes |= CAUSE_ON_THE_FLY;
        }
        if istat & register::ISTAT0_SCSI_PENDING != 0 {
            causes |= u32::from(self.registers.read16(register::SIST0)) << 8;
        }
        if istat & register::ISTAT0_DMA_PENDING != 0 {
            // Bit 7 says that the DMA FIFO is empty, which is no cause.
            let dstat = self.registers.read8(register::DSTAT) & 0x7F;
            if dstat == register::DSTAT_SCRIPTS_INTERRUPT
                && self.registers.read32(register::DSPS) == stop::YIELD
            {
                self.registers.write32(register::DSP, self.start);
                causes |= CAUSE_ON_THE_FLY;
            } else {
                causes |= u32::from(dstat);
            }
        }
        if causes != 0 {
            self.causes.fetch_or(causes, Ordering::AcqRel);
        }
        causes != 0
    }
}

/// What the board knows about a channel.
#[derive(Debug, Clone, Copy)]
pub struct Configuration {
    /// For log lines.
    pub name: &'static str,
    /// Whether to reset the bus first: after anything but a power-on.
    pub reset_bus: bool,
    /// How long the targets are left alone after a bus reset, in milliseconds (SCSI-2, 5.1.7: 250 recommended).
    pub settle_milliseconds: u32,
}

/// The chip's own RAM, 8 KiB, for the SCRIPTS program.
pub struct ScriptsRam<'a> {
    /// Its window (BAR2).
    pub registers: &'a dyn Registers,
    /// The window's bus address.
    pub bus_address: u32,
}

/// Why a channel can't be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitError {
    /// Not enough memory for bus masters.
    Memory,
    /// The chip does not hold what is written to it.
    Chip,
}

/// Which way a command's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// The target sends.
    FromTarget,
    /// The target receives.
    ToTarget,
}

/// A piece of memory for a command's data.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// Where it is.
    pub pointer: *mut u8,
    /// How many bytes.
    pub length: u32,
}

/// A SCSI command for LUN 0 of a target.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The target's identity, 0 to 15.
    pub target: u8,
    /// The command descriptor block, 6 to 16 bytes.
    pub descriptor: &'a [u8],
    /// Which way the data goes.
    pub direction: Direction,
    /// Where the data lies, in order.
    pub segments: &'a [Segment],
    /// Whether to send a SIMPLE QUEUE TAG. Untagged, a command has its target for itself.
    pub tagged: bool,
    /// Whether the command must have the whole channel for itself, so that no other's failure can touch it. Once turned
    /// away as [`SubmitError::Busy`], it keeps others out, so it has to be submitted again until it is taken.
    pub exclusive: bool,
    /// How long it may take from now, in milliseconds.
    pub timeout_milliseconds: u32,
}

/// Names a command in flight; given again only after its completion was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(u8);

impl Tag {
    /// Tags are below this number, so that they can index an array.
    pub const LIMIT: usize = MANAGEMENT;

    /// The tag as an array index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// No room, or someone needs to be alone: try again after any completion.
    Busy,
    /// More pieces of memory than the table has entries.
    TooManySegments,
    /// A target or descriptor length that does not exist, or data without direction.
    Invalid,
}

/// A command that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Which.
    pub tag: Tag,
    /// How.
    pub outcome: Outcome,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Commands submitted.
    pub commands: u32,
    /// Times SCRIPTS stopped for the driver's help.
    pub stops: u32,
    /// Targets that left a data phase early.
    pub phase_mismatches: u32,
    /// Commands that took too long.
    pub time_outs: u32,
    /// ABORT and BUS DEVICE RESET messages sent.
    pub aborts: u32,
    /// Bus resets, one's own and others'.
    pub bus_resets: u32,
    /// Parity errors, gross errors, PCI faults, illegal instructions.
    pub faults: u32,
}

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

/// The channel's memory, shared with the chip.
struct Area {
    pointer: NonNull<u8>,
    bus: u32,
}

impl Area {
    fn check(offset: usize, length: usize) {
        assert!(offset.is_multiple_of(length) && offset + length <= AREA_BYTES, "outside the area");
    }

    fn read8(&self, offset: usize) -> u8 {
        Self::check(offset, 1);
        // SAFETY: `check` keeps the access inside the area, which `Dma::allocate` handed out for ever; volatile, because
        // the chip writes there.
        unsafe { self.pointer.as_ptr().add(offset).read_volatile() }
    }

    fn write8(&self, offset: usize, value: u8) {
        Self::check(offset, 1);
        // SAFETY: as in `read8`.
        unsafe { self.pointer.as_ptr().add(offset).write_volatile(value) }
    }

    fn read32(&self, offset: usize) -> u32 {
        Self::check(offset, 4);
        // SAFETY: as in `read8`; the area and `offset` are multiples of four.
        u32::from_le(unsafe { self.pointer.as_ptr().add(offset).cast::<u32>().read_volatile() })
    }

    fn write32(&self, offset: usize, value: u32) {
        Self::check(offset, 4);
        // SAFETY: as in `read32`.
        unsafe {
            self.pointer.as_ptr().add(offset).cast::<u32>().write_volatile(value.to_le());
        }
    }

    fn block(slot: usize) -> usize {
        slot * BLOCK_BYTES
    }

    fn block_bus(&self, slot: usize) -> u32 {
        self.bus + Self::block(slot) as u32
    }
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
    /// Looks left before a command took too long, and when the next is due.
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
        let commands = (1..Tag::LIMIT)
            .filter(|slot| self.active & 1 << slot != 0)
            .filter(|slot| self.management.is_none_or(|management| management.covered & 1 << slot == 0))
            .map(|slot| self.slots[slot].deadline);
        let management = self.management.map(|management| management.deadline);
        let first = commands.chain(management).chain(self.held_until).min();
        first.map(|first| first.max(self.grace.1))
    }

    /// Resets the bus: every command in flight ends with [`Outcome::BusReset`].
    pub fn reset_bus(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        self.collect_done(complete);
        self.reset_bus_because("asked for", now, complete);
    }

    fn registers(&self) -> &R {
        &self.port.registers
    }

    fn lay_out_area(&self) {
        self.area.write32(shared::AREA, self.area.bus);
        self.area.write8(shared::MESSAGE_REJECT, MESSAGE_REJECT);
        for slot in 1..=MANAGEMENT {
            let base = Area::block(slot);
            let bus = self.area.block_bus(slot);
            for (table, place) in [
                (block::MESSAGE_TABLE, block::MESSAGES),
                (block::COMMAND_TABLE, block::COMMAND),
                (block::STATUS_TABLE, block::STATUS),
            ] {
                self.area.write32(base + table, 1);
                self.area.write32(base + table + 4, bus + place as u32);
            }
            self.free_block(slot);
        }
    }

    fn reset_chip(&self) {
        let registers = self.registers();
        registers.write8(register::ISTAT0, register::ISTAT0_SOFTWARE_RESET);
        // The reset lasts as long as the bit is set; a few PCI reads are more than the chip needs.
        for _ in 0..16 {
            registers.read8(register::ISTAT0);
        }
        registers.write8(register::ISTAT0, 0);
        for (offset, value) in [
            (register::SCNTL0, register::SCNTL0_FULL_ARBITRATION | register::SCNTL0_ENABLE_PARITY_CHECKING),
            (register::SCNTL3, register::SCNTL3_ASYNCHRONOUS),
            (register::SCID, register::SCID_RESPOND_TO_RESELECTION | OWN_IDENTITY),
            (register::RESPID0, 1 << OWN_IDENTITY),
            (register::SXFER, 0),
            (register::STIME0, register::STIME0_SELECTION_205_MILLISECONDS),
            (register::CTEST4, register::CTEST4_MASTER_PARITY),
            (register::DMODE, register::DMODE_BURST_16_READ_LINE_MULTIPLE),
            (register::DCNTL, register::DCNTL_CACHE_LINE_PREFETCH),
            (register::STEST3, register::STEST3_TOLERANT),
            (register::CCNTL0, register::CCNTL0_PHASE_MISMATCH_JUMP),
            (register::CCNTL1, register::CCNTL1_NO_DUAL_ADDRESS),
            (
                register::SIEN0,
                register::SIST0_PHASE_MISMATCH
                    | register::SIST0_GROSS_ERROR
                    | register::SIST0_UNEXPECTED_DISCONNECT
                    | register::SIST0_BUS_RESET
                    | register::SIST0_PARITY,
            ),
            (register::SIEN1, register::SIST1_SELECTION_TIME_OUT),
            (
                register::DIEN,
                register::DSTAT_MASTER_PARITY
                    | register::DSTAT_BUS_FAULT
                    | register::DSTAT_ABORTED
                    | register::DSTAT_SCRIPTS_INTERRUPT
                    | register::DSTAT_ILLEGAL_INSTRUCTION,
            ),
        ] {
            registers.write8(offset, value);
        }
        registers.write32(register::PMJAD1, self.program.mismatch);
        registers.write32(register::PMJAD2, self.program.mismatch);
        registers.write32(register::SCRATCHB, shared::RING as u32);
        registers.write32(register::SCRATCHC, self.program.discard);
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
        self.grace = (GRACE_LOOKS, 0);
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

    /// SCRIPTS stopped for something.
    fn stopped(&mut self, causes: u32, now: u64, complete: &mut dyn FnMut(Completion)) {
        let [_, sist1, sist0, dstat] = causes.to_be_bytes();
        if sist0 & register::SIST0_BUS_RESET != 0 {
            log::warn!("{}: bus reset by someone else", self.configuration.name);
            self.reset_bus_because("bus reset seen", now, complete);
            return;
        }
        if sist0 & (register::SIST0_GROSS_ERROR | register::SIST0_PARITY) != 0
            || dstat
                & (register::DSTAT_MASTER_PARITY
                    | register::DSTAT_BUS_FAULT
                    | register::DSTAT_ILLEGAL_INSTRUCTION)
                != 0
        {
            self.statistics.faults = self.statistics.faults.wrapping_add(1);
            log::error!("{}: fault, SIST0 {sist0:02x} DSTAT {dstat:02x}", self.configuration.name);
            self.reset_bus_because("fault", now, complete);
            return;
        }
        let slot = self.slot_at(self.registers().read32(register::DSA));
        let connected = slot.filter(|slot| *slot == MANAGEMENT || self.active & 1 << slot != 0);
        if sist1 & register::SIST1_SELECTION_TIME_OUT != 0 {
            self.gone(connected, Outcome::SelectionTimeOut, complete);
        } else if sist0 & register::SIST0_UNEXPECTED_DISCONNECT != 0 {
            self.gone(connected, Outcome::Disconnected, complete);
        } else if dstat & register::DSTAT_SCRIPTS_INTERRUPT != 0 {
            let reason = self.registers().read32(register::DSPS);
            self.stopped_by_scripts(reason, connected, now, complete);
        } else if sist0 & register::SIST0_PHASE_MISMATCH != 0 {
            self.stopped_by_scripts(stop::PHASE_MISMATCH, connected, now, complete);
        }
    }

    /// The target of the command in DSA did not answer, or left.
    fn gone(&mut self, connected: Option<usize>, outcome: Outcome, complete: &mut dyn FnMut(Completion)) {
        if let Some(slot) = connected {
            // Should the chip have stopped between SELECT and the step to the next ring entry, take that step.
            let consumer = self.consumer();
            if consumer != self.producer
                && self.area.read32(Self::ring_offset(consumer)) == self.area.block_bus(slot)
            {
                self.registers().write8(register::SCRATCHB, Self::ring_offset(consumer + 1) as u8);
            }
            if slot == MANAGEMENT {
                // Disconnecting is how a target obeys; not to answer is to be gone.
                let others = match outcome {
                    Outcome::Disconnected => Outcome::Aborted,
                    other => other,
                };
                self.management_done(others, complete);
            } else {
                self.finish(slot, outcome, complete);
            }
        }
        self.start_idle();
    }

    fn stopped_by_scripts(
        &mut self,
        reason: u32,
        connected: Option<usize>,
        now: u64,
        complete: &mut dyn FnMut(Completion),
    ) {
        match (reason, connected) {
            (stop::BAD_STATUS, Some(slot)) if slot != MANAGEMENT => {
                self.bad_status(slot, now, complete);
            }
            (stop::PHASE_MISMATCH, Some(slot)) if slot != MANAGEMENT => {
                self.phase_mismatch(slot, now, complete);
            }
            (stop::RESTORE_POINTERS, Some(slot)) if slot != MANAGEMENT => {
                let base = Area::block(slot);
                let saved = self.area.read32(base + block::SAVED);
                self.position(slot, saved);
                self.registers().write32(register::CSBC, saved);
                self.start(self.program.ignore_message);
            }
            (stop::MESSAGE, Some(slot))
                if slot != MANAGEMENT && self.area.read8(shared::MESSAGE) == MESSAGE_REJECT =>
            {
                self.start(self.program.ignore_message);
            }
            (stop::MANAGEMENT, Some(MANAGEMENT)) => {
                self.management_done(Outcome::Aborted, complete);
                self.start_idle();
            }
            (stop::SPURIOUS, _) => self.spurious(now, complete),
            _ => {
                log::error!(
                    "{}: SCRIPTS stopped, reason {reason}, command {connected:?}, message {:02x}",
                    self.configuration.name,
                    self.area.read8(shared::MESSAGE)
                );
                self.reset_bus_because("protocol error", now, complete);
            }
        }
    }

    /// A command ended with a status that is not GOOD; the bus is free and SCRIPTS stand.
    fn bad_status(&mut self, slot: usize, now: u64, complete: &mut dyn FnMut(Completion)) {
        let base = Area::block(slot);
        let status = self.area.read8(base + block::STATUS);
        let transferred = self.area.read32(base + block::TRANSFERRED);
        let entry = self.slots[slot];
        let whole = entry.expected != 0 && transferred == entry.expected;
        let others = self.active & !self.unsent() & !(1 << slot);
        if entry.state == State::Sensing {
            // REQUEST SENSE itself failed.
            let outcome = Outcome::Status {
                status: status::CHECK_CONDITION,
                transferred: entry.transferred,
                sense: None,
            };
            self.finish(slot, outcome, complete);
        } else if status == status::CHECK_CONDITION && others != 0 && !whole {
            // QEMU's chip reports the failure of a command that had disconnected as the status of whichever command is
            // connected then, and must not be given another command for the target before an ABORT. So with several
            // commands in flight such a status says nothing about this one: all are aborted, to be tried one by one.
            self.abort(entry.target, true, 0, now, complete);
            return;
        } else if status == status::CHECK_CONDITION {
            self.request_sense(slot);
        } else {
            let outcome = Outcome::Status { status, transferred, sense: None };
            self.finish(slot, outcome, complete);
        }
        self.start_idle();
    }

    /// Makes the slot's block a REQUEST SENSE, the next command to be started: another would destroy the sense data.
    fn request_sense(&mut self, slot: usize) {
        let base = Area::block(slot);
        let target = self.slots[slot].target;
        let descriptor = [0x03, 0, 0, 0, block::SENSE_BYTES as u8, 0];
        for (index, byte) in descriptor.iter().enumerate() {
            self.area.write8(base + block::COMMAND + index, *byte);
        }
        for index in 0..block::SENSE_BYTES {
            self.area.write8(base + block::SENSE + index, 0);
        }
        self.area.write32(base + block::COMMAND_TABLE, descriptor.len() as u32);
        // Untagged and without leave to disconnect (SCSI-2, 7.5.2).
        self.area.write8(base + block::MESSAGES, IDENTIFY);
        self.area.write32(base + block::MESSAGE_TABLE, 1);
        self.set_untagged(target, slot);
        let last = base + block::TABLE + 8 * (ENTRIES - 1);
        self.area.write32(last, block::SENSE_BYTES as u32);
        self.area.write32(last + 4, self.area.block_bus(slot) + block::SENSE as u32);
        self.area.write32(base + block::RESUME, self.program.resume(true, 1));
        let transferred = self.area.read32(base + block::TRANSFERRED);
        self.clear_progress(slot);
        let entry = &mut self.slots[slot];
        entry.state = State::Sensing;
        entry.transferred = transferred;
        entry.from_target = true;
        entry.expected = block::SENSE_BYTES as u32;
        entry.first_entry = ENTRIES as u16 - 1;
        entry.patched = None;
        self.enqueue_first(slot);
    }

    /// The connected target left the data phase early, to disconnect or to send a message: remember where.
    fn phase_mismatch(&mut self, slot: usize, now: u64, complete: &mut dyn FnMut(Completion)) {
        self.statistics.phase_mismatches = self.statistics.phase_mismatches.wrapping_add(1);
        let phase = u32::from(self.registers().read8(register::SSTAT1) & 7);
        if !matches!(phase, register::PHASE_MESSAGE_IN | register::PHASE_STATUS | register::PHASE_COMMAND) {
            log::error!(
                "{}: target {} in phase {phase} against the command's data",
                self.configuration.name,
                self.slots[slot].target
            );
            self.reset_bus_because("wrong phase", now, complete);
            return;
        }
        let transferred = self.registers().read32(register::CSBC);
        self.position(slot, transferred);
        self.start(self.program.dispatch);
    }

    /// Makes the command's next data phase go on after `transferred` bytes.
    fn position(&mut self, slot: usize, transferred: u32) {
        let table = Area::block(slot) + block::TABLE;
        let mut entry = self.slots[slot];
        if let Some((index, count, address)) = entry.patched.take() {
            let offset = table + 8 * usize::from(index);
            self.area.write32(offset, count);
            self.area.write32(offset + 4, address);
        }
        let mut left = transferred;
        let mut index = usize::from(entry.first_entry);
        while index < ENTRIES {
            let offset = table + 8 * index;
            let count = self.area.read32(offset);
            if left < count {
                let address = self.area.read32(offset + 4);
                if left != 0 {
                    self.area.write32(offset, count - left);
                    self.area.write32(offset + 4, address.wrapping_add(left));
                    entry.patched = Some((index as u16, count, address));
                }
                break;
            }
            left -= count;
            index += 1;
        }
        self.area.write32(
            Area::block(slot) + block::RESUME,
            self.program.resume(entry.from_target, ENTRIES - index),
        );
        self.slots[slot] = entry;
    }

    /// A status without a reselection: QEMU's chip does this when a command fails that had disconnected, and does not say
    /// which. A real chip never comes here.
    fn spurious(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        let sent = self.active & !self.unsent();
        let phase = u32::from(self.registers().read8(register::SSTAT1) & 7);
        let first = sent.trailing_zeros() as usize;
        if sent == 0 || phase != register::PHASE_STATUS {
            self.reset_bus_because("phase change on a free bus", now, complete);
        } else if sent.count_ones() == 1 {
            let base = Area::block(first);
            self.registers().write32(register::DSA, self.area.block_bus(first));
            let transferred = self.area.read32(base + block::TRANSFERRED);
            self.registers().write32(register::CSBC, transferred);
            self.start(self.program.status);
        } else {
            let target = self.slots[first].target;
            self.abort(target, true, 0, now, complete);
        }
    }

    /// Sends ABORT, or what else the target has earned by now, and then ends all of its commands.
    ///
    /// `stopped` says that SCRIPTS stand: then nothing that waits in the ring is touched.
    fn abort(
        &mut self,
        target: u8,
        stopped: bool,
        expired: u16,
        now: u64,
        complete: &mut dyn FnMut(Completion),
    ) {
        let unsent = if stopped { self.unsent() } else { 0 };
        let mut covered = 0;
        for slot in 1..Tag::LIMIT {
            if self.active & !unsent & 1 << slot != 0 && self.slots[slot].target == target {
                covered |= 1 << slot;
            }
        }
        let level = &mut self.escalation[usize::from(target)];
        let message = match *level {
            0 => MESSAGE_ABORT,
            1 => MESSAGE_BUS_DEVICE_RESET,
            _ => 0,
        };
        if expired != 0 {
            *level = level.saturating_add(1);
        }
        if message == 0 || self.management.is_some() {
            self.expire(expired, complete);
            self.reset_bus_because("target does not obey", now, complete);
            return;
        }
        log::warn!(
            "{}: {} to target {target}",
            self.configuration.name,
            if message == MESSAGE_ABORT { "ABORT" } else { "BUS DEVICE RESET" }
        );
        self.statistics.aborts = self.statistics.aborts.wrapping_add(1);
        let base = Area::block(MANAGEMENT);
        self.set_target(MANAGEMENT, target);
        self.area.write8(base + block::MESSAGES, IDENTIFY);
        self.area.write8(base + block::MESSAGES + 1, message);
        self.area.write32(base + block::MESSAGE_TABLE, 2);
        self.area.write32(base + block::RESUME, self.program.management);
        self.clear_progress(MANAGEMENT);
        self.management =
            Some(Management { target, covered, expired, deadline: now + MANAGEMENT_MILLISECONDS });
        if stopped {
            self.enqueue_first(MANAGEMENT);
            self.start_idle();
        } else {
            self.enqueue(MANAGEMENT);
            if self.held_until.is_none() {
                self.signal();
            }
        }
    }

    /// The target obeyed (or is gone): its commands have ended.
    fn management_done(&mut self, others: Outcome, complete: &mut dyn FnMut(Completion)) {
        let Some(management) = self.management.take() else {
            return;
        };
        log::info!("{}: target {}: commands dropped", self.configuration.name, management.target);
        self.free_block(MANAGEMENT);
        for slot in 1..Tag::LIMIT {
            let bit = 1 << slot;
            if management.covered & self.active & bit == 0 {
                continue;
            }
            let outcome = if management.expired & bit != 0 && others == Outcome::Aborted {
                Outcome::TimedOut
            } else {
                others
            };
            self.finish(slot, outcome, complete);
        }
    }

    fn watch_time(&mut self, now: u64, complete: &mut dyn FnMut(Completion)) {
        let late = self.active != 0 && self.deadline().is_some_and(|deadline| now >= deadline);
        if !late || self.give_grace(now) {
            return;
        }
        if let Some(management) = self.management
            && now >= management.deadline
        {
            self.expire(management.expired, complete);
            self.reset_bus_because("target does not obey", now, complete);
            return;
        }
        let covered = self.management.map_or(0, |management| management.covered);
        let mut expired = 0u16;
        for slot in 1..Tag::LIMIT {
            if self.active & !covered & 1 << slot != 0 && now >= self.slots[slot].deadline {
                expired |= 1 << slot;
            }
        }
        if expired == 0 || self.management.is_some() {
            return;
        }
        let first = expired.trailing_zeros() as usize;
        let target = self.slots[first].target;
        self.statistics.time_outs = self.statistics.time_outs.wrapping_add(expired.count_ones());
        log::warn!(
            "{}: target {target}: {} of {} commands took too long",
            self.configuration.name,
            expired.count_ones(),
            self.active.count_ones()
        );
        self.abort(target, false, expired, now, complete);
    }

    /// Looks once more whether the chip has something to say, before a command is late. False when that was the last time.
    ///
    /// A clock that jumps while the CPU idles (an emulator's that counts instructions, or a debugger's) is no evidence that
    /// a target hangs: the reads take time that really passes.
    fn give_grace(&mut self, now: u64) -> bool {
        let (looks, _) = self.grace;
        if looks == 0 {
            self.grace = (GRACE_LOOKS, 0);
            return false;
        }
        self.grace = (looks - 1, now + GRACE_MILLISECONDS);
        let pending =
            register::ISTAT0_ON_THE_FLY | register::ISTAT0_SCSI_PENDING | register::ISTAT0_DMA_PENDING;
        for _ in 0..GRACE_READS {
            let istat = self.registers().read8(register::ISTAT0);
            if istat & pending != 0 || self.port.causes.load(Ordering::Acquire) != 0 {
                break;
            }
        }
        true
    }

    /// Ends commands that took too long.
    fn expire(&mut self, expired: u16, complete: &mut dyn FnMut(Completion)) {
        for slot in 1..Tag::LIMIT {
            if expired & self.active & 1 << slot != 0 {
                // The chip may still move data for it: it is stopped first.
                self.stop_scripts();
                self.finish(slot, Outcome::TimedOut, complete);
            }
        }
    }

    /// Makes SCRIPTS stop, wherever they are.
    fn stop_scripts(&self) {
        let registers = self.registers();
        registers.write8(register::ISTAT0, register::ISTAT0_ABORT);
        for _ in 0..POLLS {
            let istat = registers.read8(register::ISTAT0);
            if istat & register::ISTAT0_SCSI_PENDING != 0 {
                registers.read16(register::SIST0);
            }
            // The interrupt handler may be faster.
            let seen = self.port.causes.load(Ordering::Acquire) & u32::from(register::DSTAT_ABORTED);
            if istat & register::ISTAT0_DMA_PENDING != 0 || seen != 0 {
                break;
            }
        }
        registers.write8(register::ISTAT0, 0);
        registers.read8(register::DSTAT);
    }

    /// Holds the bus's RST line for long enough, and clears what the chip says to that.
    fn pulse_reset(&self) {
        let registers = self.registers();
        registers.write8(register::SCNTL1, register::SCNTL1_RESET);
        for _ in 0..RESET_HOLD_READS {
            registers.read8(register::ISTAT0);
        }
        registers.write8(register::SCNTL1, 0);
        registers.write8(register::ISTAT0, register::ISTAT0_ON_THE_FLY);
        registers.read16(register::SIST0);
        registers.read8(register::DSTAT);
        self.port.causes.store(0, Ordering::Release);
    }

    fn reset_bus_because(&mut self, reason: &str, now: u64, complete: &mut dyn FnMut(Completion)) {
        log::warn!("{}: bus reset: {reason}", self.configuration.name);
        self.statistics.bus_resets = self.statistics.bus_resets.wrapping_add(1);
        self.stop_scripts();
        self.pulse_reset();
        self.collect_done(complete);
        self.management = None;
        self.free_block(MANAGEMENT);
        for index in 0..shared::RING_ENTRIES {
            self.area.write32(shared::RING + 4 * index, 0);
        }
        self.producer = 0;
        self.registers().write32(register::SCRATCHB, shared::RING as u32);
        for slot in 1..Tag::LIMIT {
            if self.active & 1 << slot != 0 {
                self.finish(slot, Outcome::BusReset, complete);
            }
        }
        if self.configuration.settle_milliseconds == 0 {
            self.start_idle();
        } else {
            self.held_until = Some(now + u64::from(self.configuration.settle_milliseconds));
        }
    }
}

#[cfg(test)]
mod tests;
