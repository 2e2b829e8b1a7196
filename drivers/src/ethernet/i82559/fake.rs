//! A chip for host tests: the 8255x as the manual describes it, with QEMU 7.2's departures where they bite.
//!
//! - The command unit reads a block's S bit when it begins with the block, again when it is resumed, and never a link twice.
//! - It executes at most `kick_limit` blocks a command and then waits, active (QEMU: 16).
//! - With `stepwise` it executes nothing by itself: [`Machine::begin_block`] and [`Machine::finish_block`] do.
//! - With `status_first` a received frame's status is in memory before its count and data, which follow with the next
//!   register access (QEMU's second thread).
//! - What the manual prohibits is noted in `violations`, as is any access outside allocated bus memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::NonNull;

use super::registers::*;
use crate::{Dma, Registers};

/// Where the arena lies on the bus: not where it lies for the CPU.
const BUS_BASE: u32 = 0x4000_0000;

/// The station's address in the fake's EEPROM.
pub const STATION: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A unit's state, with the values of the SCB status byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Idle,
    Suspended,
    NoResources,
    Active,
}

/// What the tests look at and turn.
pub struct Chip {
    pub causes: u8,
    pub interrupt_control: u8,
    pub command_unit: Unit,
    pub receive_unit: Unit,
    pub sent: VecDeque<Vec<u8>>,
    pub violations: Vec<String>,
    pub kick_limit: usize,
    pub stepwise: bool,
    pub status_first: bool,
    pub dead: bool,
    pub eeprom: Vec<u16>,
    pub configuration: [u8; 22],
    pub individual: [u8; 6],
    pub groups: Vec<[u8; 6]>,
    pub counters: [u32; 16],
    pub kicks: usize,
    pub link: u8,
    pub resets: usize,
    pointer: u32,
    next_block: u32,
    previous_block: u32,
    latched: Option<u16>,
    resume_asked: bool,
    next_descriptor: u32,
    dump: u32,
    deferred: Vec<(u32, Vec<u8>)>,
    wires: Wires,
    mdi: u32,
}

#[derive(Default)]
struct Wires {
    control: u16,
    bits: Vec<bool>,
    output: bool,
    shifting: VecDeque<bool>,
}

/// The chip and the memory it masters.
pub struct Machine {
    arena: NonNull<u8>,
    length: usize,
    used: Cell<usize>,
    pub chip: RefCell<Chip>,
}

impl Machine {
    /// A chip with a 64-word EEPROM, leaked: tests are short.
    pub fn new() -> &'static Self {
        let length = 1 << 20;
        let arena = Box::leak(vec![0u64; length / 8].into_boxed_slice());
        let mut eeprom = vec![0u16; 64];
        for (word, pair) in eeprom.iter_mut().zip(STATION.chunks(2)) {
            *word = u16::from_le_bytes([pair[0], pair[1]]);
        }
        let sum = eeprom.iter().fold(0u16, |sum, word| sum.wrapping_add(*word));
        eeprom[63] = 0xBABAu16.wrapping_sub(sum);
        Box::leak(Box::new(Self {
            arena: NonNull::from(arena).cast(),
            length,
            used: Cell::new(0),
            chip: RefCell::new(Chip {
                causes: 0,
                interrupt_control: 0,
                command_unit: Unit::Idle,
                receive_unit: Unit::Idle,
                sent: VecDeque::new(),
                violations: Vec::new(),
                kick_limit: 16,
                stepwise: false,
                status_first: false,
                dead: false,
                eeprom,
                configuration: [0; 22],
                individual: [0; 6],
                groups: Vec::new(),
                counters: [0; 16],
                kicks: 0,
                link: 7,
                resets: 0,
                pointer: 0,
                next_block: 0,
                previous_block: 0,
                latched: None,
                resume_asked: false,
                next_descriptor: 0,
                dump: 0,
                deferred: Vec::new(),
                wires: Wires::default(),
                mdi: 0,
            }),
        }))
    }

    /// Bus memory, all of it, as the chip reads it.
    fn read(&self, chip: &mut Chip, address: u32, length: usize) -> Vec<u8> {
        match self.place(chip, address, length) {
            Some(offset) => (0..length)
                // SAFETY: `place` checked the range against what was allocated.
                .map(|i| unsafe { self.arena.as_ptr().add(offset + i).read_volatile() })
                .collect(),
            None => vec![0; length],
        }
    }

    /// As the chip writes it.
    pub fn write(&self, chip: &mut Chip, address: u32, bytes: &[u8]) {
        if let Some(offset) = self.place(chip, address, bytes.len()) {
            for (i, byte) in bytes.iter().enumerate() {
                // SAFETY: `place` checked the range against what was allocated.
                unsafe { self.arena.as_ptr().add(offset + i).write_volatile(*byte) }
            }
        }
    }

    fn place(&self, chip: &mut Chip, address: u32, length: usize) -> Option<usize> {
        let offset = address.checked_sub(BUS_BASE).map(|offset| offset as usize);
        let offset = offset.filter(|offset| offset + length <= self.used.get());
        if offset.is_none() {
            chip.violations.push(format!("bus access of {length} bytes at {address:#x}"));
        }
        offset
    }

    fn read16(&self, chip: &mut Chip, address: u32) -> u16 {
        let bytes = self.read(chip, address, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn read32(&self, chip: &mut Chip, address: u32) -> u32 {
        u32::from(self.read16(chip, address)) | u32::from(self.read16(chip, address + 2)) << 16
    }

    /// Where the receive unit stands.
    pub fn next_descriptor(&self) -> u32 {
        self.chip.borrow().next_descriptor
    }

    /// Whether INTA# is asserted.
    pub fn interrupting(&self) -> bool {
        let chip = self.chip.borrow();
        chip.interrupt_control & 1 == 0 && chip.causes & !(chip.interrupt_control & 0xFC) != 0
    }

    /// Begins the next block: latches its command word. False when the command unit is not active,
    /// or has begun one.
    pub fn begin_block(&self) -> bool {
        let chip = &mut *self.chip.borrow_mut();
        if chip.command_unit != Unit::Active || chip.latched.is_some() {
            return false;
        }
        let block = chip.next_block;
        let command = self.read16(chip, block + 2);
        if self.read16(chip, block) & STATUS_COMPLETE != 0 {
            chip.violations.push(format!("block {block:#x} executed twice"));
        }
        chip.next_block = self.read32(chip, block + 4);
        chip.previous_block = block;
        chip.latched = Some(command);
        chip.resume_asked = false;
        true
    }

    /// Ends the block begun.
    pub fn finish_block(&self) {
        let chip = &mut *self.chip.borrow_mut();
        let block = chip.previous_block;
        let Some(mut command) = chip.latched.take() else { return };
        match command & 7 {
            ACTION_INDIVIDUAL_ADDRESS => chip.individual = self.read(chip, block + 8, 6).try_into().unwrap(),
            ACTION_CONFIGURE => chip.configuration = self.read(chip, block + 8, 22).try_into().unwrap(),
            ACTION_MULTICAST => {
                let bytes = self.read16(chip, block + 8) & 0x3FFF;
                let list = self.read(chip, block + 10, bytes.into());
                chip.groups = list.chunks_exact(6).map(|group| group.try_into().unwrap()).collect();
            }
            ACTION_TRANSMIT => {
                let descriptor = self.read32(chip, block + 8);
                let count = self.read32(chip, block + 12);
                let buffer = self.read32(chip, descriptor);
                let length = self.read32(chip, descriptor + 4);
                if command & 0x18 != ACTION_FLEXIBLE
                    || count & 0xFF00_FFFF != 0x0100_8000
                    || length >> 16 != 1
                {
                    chip.violations.push(format!("transmit block {block:#x} is not one frame in one buffer"));
                }
                let frame = self.read(chip, buffer, (length & 0x3FFF) as usize);
                chip.sent.push_back(frame);
                chip.counters[0] += 1;
            }
            other => chip.violations.push(format!("command {other}")),
        }
        self.write(chip, block, &(STATUS_COMPLETE | STATUS_OK).to_le_bytes());
        if command & COMMAND_INTERRUPT != 0 {
            chip.causes |= CAUSE_COMMAND_EXECUTED;
        }
        if chip.resume_asked {
            command = self.read16(chip, block + 2);
        }
        if command & (COMMAND_END_OF_LIST | COMMAND_SUSPEND) != 0 {
            let end = command & COMMAND_END_OF_LIST != 0;
            chip.command_unit = if end { Unit::Idle } else { Unit::Suspended };
            chip.causes |= CAUSE_COMMAND_UNIT_NOT_ACTIVE;
        }
    }

    /// Executes blocks after a command, up to the limit.
    fn run(&self) {
        let limit = self.chip.borrow().kick_limit;
        if self.chip.borrow().stepwise {
            return;
        }
        for _ in 0..limit {
            if !self.begin_block() {
                break;
            }
            self.finish_block();
        }
    }

    fn command(&self, command: u8) {
        let run = {
            let chip = &mut *self.chip.borrow_mut();
            match command & 0x0F {
                0 => (),
                RECEIVE_UNIT_START => {
                    if chip.receive_unit == Unit::Active {
                        chip.violations.push("receive unit started while ready".into());
                    }
                    chip.receive_unit = Unit::Active;
                    chip.next_descriptor = chip.pointer;
                }
                LOAD_RECEIVE_UNIT_BASE => assert_eq!(chip.pointer, 0),
                other => chip.violations.push(format!("receive command {other}")),
            }
            match command & 0xF0 {
                COMMAND_UNIT_START => {
                    chip.command_unit = Unit::Active;
                    chip.next_block = chip.pointer;
                    true
                }
                COMMAND_UNIT_RESUME => {
                    chip.kicks += 1;
                    match chip.command_unit {
                        Unit::Suspended => {
                            let previous = chip.previous_block;
                            if self.read16(chip, previous + 2) & COMMAND_SUSPEND == 0 {
                                chip.command_unit = Unit::Active;
                            }
                        }
                        Unit::Active => chip.resume_asked = true,
                        _ => chip.violations.push("idle command unit resumed".into()),
                    }
                    true
                }
                LOAD_DUMP_ADDRESS => {
                    chip.dump = chip.pointer;
                    false
                }
                LOAD_COMMAND_UNIT_BASE => {
                    assert_eq!(chip.pointer, 0);
                    false
                }
                DUMP_AND_RESET_COUNTERS => {
                    let counters = std::mem::take(&mut chip.counters);
                    let mut bytes: Vec<u8> =
                        counters.iter().flat_map(|counter| counter.to_le_bytes()).collect();
                    bytes.extend(DUMP_AND_RESET_COMPLETE.to_le_bytes());
                    let dump = chip.dump;
                    self.write(chip, dump, &bytes);
                    false
                }
                0 => false,
                other => {
                    chip.violations.push(format!("command unit command {other:#x}"));
                    false
                }
            }
        };
        if run {
            self.run();
        }
    }

    /// A good frame arrives from the wire (without its checksum). Whether a descriptor took it.
    pub fn arrive(&self, frame: &[u8]) -> bool {
        self.arrive_with(frame, STATUS_COMPLETE | STATUS_OK, frame.len() as u16)
    }

    /// A frame arrives, with that status and count in its descriptor.
    pub fn arrive_with(&self, frame: &[u8], status: u16, count: u16) -> bool {
        let chip = &mut *self.chip.borrow_mut();
        if chip.receive_unit != Unit::Active {
            chip.causes |= CAUSE_RECEIVE_NOT_READY;
            chip.counters[12] += 1;
            return false;
        }
        let descriptor = chip.next_descriptor;
        let old = self.read16(chip, descriptor);
        let command = self.read16(chip, descriptor + 2);
        let size = usize::from(self.read16(chip, descriptor + 14) & 0x3FFF);
        if old & STATUS_COMPLETE != 0 {
            chip.violations.push(format!("descriptor {descriptor:#x} filled twice"));
        }
        let frame = frame[..frame.len().min(size)].to_vec();
        let rest = vec![(descriptor + 12, count.to_le_bytes().to_vec()), (descriptor + 16, frame)];
        if chip.status_first {
            chip.deferred.extend(rest);
        } else {
            for (address, bytes) in rest {
                self.write(chip, address, &bytes);
            }
        }
        self.write(chip, descriptor, &status.to_le_bytes());
        chip.counters[9] += 1;
        chip.causes |= CAUSE_FRAME_RECEIVED;
        chip.next_descriptor = self.read32(chip, descriptor + 4);
        if command & COMMAND_END_OF_LIST != 0 {
            chip.receive_unit = Unit::NoResources;
            chip.causes |= CAUSE_RECEIVE_NOT_READY;
        }
        true
    }

    /// Every register access waits for the machine's lock: writes under way are finished.
    fn settle(&self) {
        let chip = &mut *self.chip.borrow_mut();
        for (address, bytes) in std::mem::take(&mut chip.deferred) {
            self.write(chip, address, &bytes);
        }
    }
}

impl Chip {
    /// Power-on state of what a software reset touches.
    fn reset(&mut self) {
        self.causes = 0;
        self.interrupt_control = 0;
        self.command_unit = Unit::Idle;
        self.receive_unit = Unit::Idle;
        self.latched = None;
        self.resets += 1;
    }

    /// The EEPROM's answer to its wires.
    fn eeprom(&mut self, control: u16) {
        let wires = &mut self.wires;
        let rising = control & EEPROM_CLOCK != 0 && wires.control & EEPROM_CLOCK == 0;
        if control & EEPROM_SELECT == 0 {
            wires.bits.clear();
            wires.shifting.clear();
            wires.output = true;
        } else if rising && let Some(bit) = wires.shifting.pop_front() {
            wires.output = bit;
        } else if rising {
            wires.bits.push(control & EEPROM_DATA_IN != 0);
            let address_bits = self.eeprom.len().trailing_zeros() as usize;
            if wires.bits.len() == 3 + address_bits && wires.bits[..3] == [true, true, false] {
                let address = wires.bits[3..].iter().fold(0, |address, bit| address << 1 | usize::from(*bit));
                wires.output = false;
                wires.shifting = (0..16).rev().map(|bit| self.eeprom[address] >> bit & 1 != 0).collect();
            }
        }
        wires.control = control;
    }
}

impl Registers for &Machine {
    fn read8(&self, offset: usize) -> u8 {
        self.settle();
        let chip = self.chip.borrow();
        if chip.dead {
            return 0xFF;
        }
        match offset {
            SCB_STATUS => {
                let command_unit = match chip.command_unit {
                    Unit::Idle => 0,
                    Unit::Suspended => 0x40,
                    _ => 0x80,
                };
                let receive_unit = match chip.receive_unit {
                    Unit::Idle => 0,
                    Unit::Suspended => 0x04,
                    Unit::NoResources => 0x08,
                    Unit::Active => 0x10,
                };
                command_unit | receive_unit
            }
            SCB_ACKNOWLEDGE => chip.causes,
            SCB_COMMAND => 0,
            SCB_INTERRUPT_CONTROL => chip.interrupt_control,
            GENERAL_STATUS => chip.link,
            other => panic!("byte read at {other:#x}"),
        }
    }

    fn read16(&self, offset: usize) -> u16 {
        self.settle();
        let chip = self.chip.borrow();
        match offset {
            EEPROM_CONTROL if chip.eeprom.is_empty() => 0xFFFF,
            EEPROM_CONTROL => chip.wires.control & 7 | if chip.wires.output { EEPROM_DATA_OUT } else { 0 },
            other => panic!("word read at {other:#x}"),
        }
    }

    fn read32(&self, offset: usize) -> u32 {
        self.settle();
        let chip = self.chip.borrow();
        match offset {
            SCB_STATUS if chip.dead => u32::MAX,
            SCB_STATUS => 0,
            MDI_CONTROL => chip.mdi | MDI_READY,
            other => panic!("read at {other:#x}"),
        }
    }

    fn write8(&self, offset: usize, value: u8) {
        self.settle();
        match offset {
            SCB_ACKNOWLEDGE => self.chip.borrow_mut().causes &= !value,
            SCB_COMMAND => self.command(value),
            SCB_INTERRUPT_CONTROL => self.chip.borrow_mut().interrupt_control = value,
            other => panic!("byte write at {other:#x}"),
        }
    }

    fn write16(&self, offset: usize, value: u16) {
        self.settle();
        match offset {
            EEPROM_CONTROL if self.chip.borrow().eeprom.is_empty() => (),
            EEPROM_CONTROL => self.chip.borrow_mut().eeprom(value),
            other => panic!("word write at {other:#x}"),
        }
    }

    fn write32(&self, offset: usize, value: u32) {
        self.settle();
        let mut chip = self.chip.borrow_mut();
        match offset {
            SCB_POINTER => chip.pointer = value,
            PORT => chip.reset(),
            MDI_CONTROL => {
                let register = value >> 16 & 0x1F;
                chip.mdi = [0x3000, 0x782D, 0x02A8, 0x0154].get(register as usize).copied().unwrap_or(0);
            }
            other => panic!("write at {other:#x}"),
        }
    }
}

// SAFETY: for tests: `allocate` hands out pieces of a leaked, zeroed arena once, aligned; the chip addresses it from BUS_BASE on.
unsafe impl Dma for &Machine {
    fn bus_address(&self, pointer: *const u8, length: usize) -> u32 {
        let offset = pointer.addr() - self.arena.addr().get();
        assert!(offset + length <= self.length);
        BUS_BASE + offset as u32
    }

    fn allocate(&self, length: usize, align: usize) -> Option<NonNull<u8>> {
        let start = self.used.get().next_multiple_of(align);
        let end = start.checked_add(length).filter(|end| *end <= self.length)?;
        self.used.set(end);
        // SAFETY: within the arena.
        Some(unsafe { self.arena.add(start) })
    }

    fn barrier(&self) {}
}
