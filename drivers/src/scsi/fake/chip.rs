//! The chip: registers, a SCRIPTS interpreter, and its end of the SCSI bus.

use super::super::registers as register;
use super::disk::{FakeDisk, Step};
use super::memory::FakeMemory;
use crate::Registers;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// A command at its target.
struct Task {
    target: u8,
    tag: Option<u8>,
    steps: VecDeque<Step>,
    received: Vec<u8>,
    write_to: Option<usize>,
    ready: bool,
    /// The status of a failure while disconnected: the bus itself is free.
    phantom: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Run {
    Stopped,
    Running,
    WaitReselect { alternate: u32 },
    Blocked,
}

pub struct Chip {
    registers: [u8; 256],
    memory: FakeMemory,
    pub disks: [Option<FakeDisk>; 16],
    connection: Option<Task>,
    away: Vec<Task>,
    run: Run,
    /// The connection was made by a reselection that SCRIPTS have not noticed yet.
    reselected: bool,
    /// A message byte was received and not yet acknowledged.
    held: bool,
    selection_fails: bool,
    istat: u8,
    dstat: u8,
    sist0: u8,
    sist1: u8,
    /// A block move that waits for its target: phase, bytes left, address.
    moving: Option<(u32, u32, u32)>,
    /// Raise phase mismatches as interrupts, as QEMU's chip does when a block move starts in the wrong phase.
    pub mismatch_interrupts: bool,
    /// Let the latest command come back first.
    pub reorder: bool,
    pub register_writes: u32,
    pub most_away: usize,
}

/// A handle to the chip that serves as its register window; the test keeps another.
#[derive(Clone)]
pub struct FakeChip(Arc<Mutex<Chip>>);

impl FakeChip {
    pub fn new(memory: FakeMemory) -> FakeChip {
        FakeChip(Arc::new(Mutex::new(Chip {
            registers: [0; 256],
            memory,
            disks: [const { None }; 16],
            connection: None,
            away: Vec::new(),
            run: Run::Stopped,
            reselected: false,
            held: false,
            selection_fails: false,
            istat: 0,
            dstat: 0,
            sist0: 0,
            sist1: 0,
            moving: None,
            mismatch_interrupts: false,
            reorder: false,
            register_writes: 0,
            most_away: 0,
        })))
    }

    pub fn chip(&self) -> MutexGuard<'_, Chip> {
        self.0.lock().unwrap()
    }

    /// Lets time pass: targets come back.
    pub fn tick(&self) {
        self.chip().tick();
    }

    pub fn with_disk<T>(&self, target: usize, work: impl FnOnce(&mut FakeDisk) -> T) -> T {
        work(self.chip().disks[target].as_mut().unwrap())
    }

    pub fn interrupting(&self) -> bool {
        let chip = self.chip();
        chip.istat & register::ISTAT0_ON_THE_FLY != 0
            || chip.dstat & chip.registers[register::DIEN] != 0
            || chip.sist0 & chip.registers[register::SIEN0] != 0
            || chip.sist1 & chip.registers[register::SIEN1] != 0
    }
}

impl Registers for FakeChip {
    fn read8(&self, offset: usize) -> u8 {
        self.chip().read(offset)
    }

    fn read16(&self, offset: usize) -> u16 {
        assert_eq!(offset % 2, 0);
        let mut chip = self.chip();
        u16::from_le_bytes([chip.read(offset), chip.read(offset + 1)])
    }

    fn read32(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        let mut chip = self.chip();
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| chip.read(offset + byte)))
    }

    fn write8(&self, offset: usize, value: u8) {
        self.chip().register_writes += 1;
        self.chip().write(offset, value);
    }

    fn write16(&self, offset: usize, _: u16) {
        panic!("no 16-bit register is written: {offset:#x}");
    }

    fn write32(&self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        let mut chip = self.chip();
        chip.register_writes += 1;
        for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
            chip.write(offset + index, byte);
        }
    }
}

impl Chip {
    fn get32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.registers[offset..offset + 4].try_into().unwrap())
    }

    fn set32(&mut self, offset: usize, value: u32) {
        self.registers[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn read(&mut self, offset: usize) -> u8 {
        match offset {
            register::ISTAT0 => {
                let mut istat = self.istat;
                if self.sist0 | self.sist1 != 0 {
                    istat |= register::ISTAT0_SCSI_PENDING;
                }
                if self.dstat != 0 {
                    istat |= register::ISTAT0_DMA_PENDING;
                }
                istat
            }
            register::DSTAT => 0x80 | std::mem::take(&mut self.dstat),
            register::SIST0 => std::mem::take(&mut self.sist0),
            0x43 => std::mem::take(&mut self.sist1),
            register::CTEST2 => {
                let signalled = self.istat & register::ISTAT0_SIGNAL_PROCESS != 0;
                self.istat &= !register::ISTAT0_SIGNAL_PROCESS;
                u8::from(signalled) << 6 | 1
            }
            register::SCNTL1 => {
                let connected = self.connection.as_ref().is_some_and(|task| !task.phantom);
                self.registers[offset] | if connected { register::SCNTL1_CONNECTED } else { 0 }
            }
            register::SSTAT1 => self.phase().unwrap_or(0) as u8,
            _ => self.registers[offset],
        }
    }

    fn write(&mut self, offset: usize, value: u8) {
        match offset {
            register::ISTAT0 => self.write_istat(value),
            register::SCNTL1 => {
                if value & register::SCNTL1_RESET != 0 {
                    self.bus_reset();
                }
                self.registers[offset] = value;
            }
            0x2F => {
                self.registers[offset] = value;
                assert!(!matches!(self.run, Run::Running), "DSP written while SCRIPTS run");
                self.run = Run::Running;
                self.moving = None;
                self.execute();
            }
            _ => self.registers[offset] = value,
        }
    }

    fn write_istat(&mut self, value: u8) {
        if value & register::ISTAT0_SOFTWARE_RESET != 0 {
            self.registers = [0; 256];
            (self.istat, self.dstat, self.sist0, self.sist1) = (0, 0, 0, 0);
            self.run = Run::Stopped;
            return;
        }
        if value & register::ISTAT0_ON_THE_FLY != 0 {
            self.istat &= !register::ISTAT0_ON_THE_FLY;
        }
        let signal = register::ISTAT0_SIGNAL_PROCESS;
        self.istat = self.istat & !signal | value & signal;
        if value & register::ISTAT0_ABORT != 0 {
            self.dstat |= register::DSTAT_ABORTED;
            self.run = Run::Stopped;
        }
        if let Run::WaitReselect { alternate } = self.run
            && value & signal != 0
        {
            self.set32(register::DSP, alternate);
            self.run = Run::Running;
            self.execute();
        }
    }

    /// Someone else resets the bus.
    pub fn bus_reset(&mut self) {
        self.connection = None;
        self.away.clear();
        self.held = false;
        self.reselected = false;
        self.moving = None;
        self.selection_fails = false;
        self.run = Run::Stopped;
        self.sist0 |= register::SIST0_BUS_RESET;
        for disk in self.disks.iter_mut().flatten() {
            disk.resets += 1;
            disk.unit_attention = Some((0x29, 2));
        }
    }

    /// Pulls a disk: it goes with all it has to do.
    pub fn pull(&mut self, target: u8) -> Option<FakeDisk> {
        self.away.retain(|task| task.target != target);
        self.disks[usize::from(target)].take()
    }

    fn tick(&mut self) {
        let mut failed = None;
        for task in &mut self.away {
            match task.steps.front() {
                Some(Step::Away) => {
                    task.steps.pop_front();
                    task.ready = true;
                }
                Some(Step::FailAway(status)) => failed = Some((task.target, task.tag, *status)),
                _ => {}
            }
        }
        if let (Some((target, tag, status)), Run::WaitReselect { .. }) = (failed, self.run) {
            self.away.retain(|task| task.target != target || task.tag != tag);
            self.connection = Some(Task {
                target,
                tag: None,
                steps: [Step::Status(status), Step::MessageIn([0].into()), Step::Free].into(),
                received: Vec::new(),
                write_to: None,
                ready: false,
                phantom: true,
            });
            let jump = self.get32(register::PMJAD1);
            self.set32(register::DSP, jump);
            self.run = Run::Running;
        }
        let waits = matches!(self.run, Run::WaitReselect { .. });
        if self.run == Run::Blocked || waits && self.reselect() {
            self.reselected = false;
            self.run = Run::Running;
        }
        if self.run == Run::Running {
            self.execute();
        }
    }

    fn reselect(&mut self) -> bool {
        let next = if self.reorder {
            self.away.iter().rposition(|task| task.ready)
        } else {
            self.away.iter().position(|task| task.ready)
        };
        let Some(next) = next else {
            return false;
        };
        let mut task = self.away.remove(next);
        task.ready = false;
        let mut bytes = VecDeque::from([0x80]);
        if let Some(tag) = task.tag {
            bytes.extend([0x20, tag]);
        }
        task.steps.push_front(Step::MessageIn(bytes));
        self.registers[register::SSID] = 0x80 | task.target;
        self.registers[register::SCNTL2] |= 0x80;
        self.connection = Some(task);
        self.reselected = true;
        true
    }

    fn stop_dma(&mut self, cause: u8) {
        self.dstat |= cause;
        self.run = Run::Stopped;
    }

    fn stop_scsi(&mut self, sist0: u8, sist1: u8) {
        self.sist0 |= sist0;
        self.sist1 |= sist1;
        self.run = Run::Stopped;
    }

    /// Drops steps that are through, and leaves the bus where the target does.
    fn settle(&mut self) {
        let unexpected = self.registers[register::SCNTL2] & 0x80 != 0;
        loop {
            let held = self.held;
            let Some(task) = &mut self.connection else {
                return;
            };
            match task.steps.front() {
                Some(Step::MessageIn(bytes)) if bytes.is_empty() && !held => {}
                Some(Step::DataIn(bytes)) if bytes.is_empty() => {}
                Some(Step::DataOut(0)) => {}
                Some(Step::Free | Step::Vanish) => {
                    let mut task = self.connection.take().unwrap();
                    task.steps.pop_front();
                    if unexpected {
                        self.stop_scsi(register::SIST0_UNEXPECTED_DISCONNECT, 0);
                    }
                    if !task.steps.is_empty() {
                        self.away.push(task);
                        self.most_away = self.most_away.max(self.away.len());
                    }
                    return;
                }
                Some(Step::Status(0)) => {
                    if let Some(start) = task.write_to.take() {
                        let received = std::mem::take(&mut task.received);
                        let disk = self.disks[usize::from(task.target)].as_mut().unwrap();
                        disk.store(start, &received);
                    }
                    return;
                }
                _ => return,
            }
            task.steps.pop_front();
        }
    }

    fn phase(&self) -> Option<u32> {
        match self.connection.as_ref()?.steps.front()? {
            Step::MessageOut => Some(register::PHASE_MESSAGE_OUT),
            Step::Command => Some(register::PHASE_COMMAND),
            Step::MessageIn(_) => Some(register::PHASE_MESSAGE_IN),
            Step::DataIn(_) | Step::BadParity => Some(register::PHASE_DATA_IN),
            Step::DataOut(_) => Some(register::PHASE_DATA_OUT),
            Step::Status(_) => Some(register::PHASE_STATUS),
            _ => None,
        }
    }

    fn execute(&mut self) {
        if let Some((phase, count, address)) = self.moving.take() {
            self.block_move(phase, count, address);
        }
        // QEMU's chip pauses after 100 instructions: a run stays below that, scatter/gather moves apart.
        let mut instructions = 0;
        while self.run == Run::Running {
            let word = self.memory.read32(self.get32(register::DSP));
            if !matches!(word, 0x1800_0000 | 0x1900_0000) {
                instructions += 1;
                assert!(instructions < 100, "SCRIPTS run too long");
            }
            self.step();
        }
    }

    fn step(&mut self) {
        let pointer = self.get32(register::DSP);
        let word = self.memory.read32(pointer);
        let second = self.memory.read32(pointer + 4);
        self.set32(register::DSP, pointer + 8);
        self.set32(register::DSPS, second);
        let dsa = self.get32(register::DSA);
        match word >> 30 {
            0 => {
                assert_eq!(word >> 27 & 1, 1, "chained moves are not for here");
                let (mut count, mut address) = (word & 0xFF_FFFF, second);
                if word >> 28 & 1 != 0 {
                    count = self.memory.read32(dsa + second) & 0xFF_FFFF;
                    address = self.memory.read32(dsa + second + 4);
                }
                assert_ne!(count, 0, "a block move of nothing is illegal");
                self.block_move(word >> 24 & 7, count, address);
            }
            1 if word >> 27 & 7 < 5 => self.input_output(word, second, pointer),
            1 => self.register_instruction(word),
            2 => self.transfer_control(word, second, pointer),
            _ => self.load_store(word, second),
        }
    }

    fn block_move(&mut self, phase: u32, mut count: u32, mut address: u32) {
        if self.selection_fails {
            self.selection_fails = false;
            self.stop_scsi(0, register::SIST1_SELECTION_TIME_OUT);
            return;
        }
        let mut first = true;
        while count > 0 {
            assert!(!self.held || !first, "the last message byte is not acknowledged");
            // Within a block move the chip acknowledges by itself.
            self.held = false;
            self.settle();
            if self.connection.is_none() {
                assert_ne!(self.run, Run::Running, "a block move on a free bus");
                return;
            }
            match self.phase() {
                None => {
                    self.moving = Some((phase, count, address));
                    self.run = Run::Blocked;
                    return;
                }
                Some(now) if now != phase => {
                    if self.mismatch_interrupts {
                        self.stop_scsi(register::SIST0_PHASE_MISMATCH, 0);
                    } else {
                        let jump = self.get32(register::PMJAD1);
                        self.set32(register::DSP, jump);
                    }
                    return;
                }
                Some(_) => {}
            }
            let moved = self.move_some(count, address, &mut first);
            if self.run != Run::Running {
                return;
            }
            if matches!(phase, register::PHASE_DATA_IN | register::PHASE_DATA_OUT) {
                let total = self.get32(register::CSBC) + moved;
                self.set32(register::CSBC, total);
            }
            count -= moved;
            address += moved;
            self.held = phase == register::PHASE_MESSAGE_IN;
        }
        if !self.held {
            self.settle();
        }
    }

    /// Moves bytes of the target's current step; returns how many.
    fn move_some(&mut self, count: u32, address: u32, first: &mut bool) -> u32 {
        let task = self.connection.as_mut().unwrap();
        let mut input: Vec<u8> = Vec::new();
        let moved = match task.steps.front_mut().unwrap() {
            Step::MessageIn(bytes) | Step::DataIn(bytes) => {
                let take = bytes.len().min(count as usize);
                input.extend(bytes.drain(..take));
                take as u32
            }
            Step::BadParity => {
                self.stop_scsi(register::SIST0_PARITY, 0);
                return 0;
            }
            Step::Status(status) => {
                input.push(*status);
                task.steps.pop_front();
                1
            }
            Step::DataOut(left) => {
                let take = (*left).min(count as usize);
                let mut bytes = vec![0; take];
                self.memory.read(address, &mut bytes);
                task.received.extend(bytes);
                *left -= take;
                take as u32
            }
            Step::MessageOut => {
                let mut bytes = vec![0; count as usize];
                self.memory.read(address, &mut bytes);
                task.steps.pop_front();
                self.messages(&bytes);
                count
            }
            Step::Command => {
                let mut bytes = vec![0; count as usize];
                self.memory.read(address, &mut bytes);
                task.steps.pop_front();
                let length = match bytes[0] >> 5 {
                    0 => 6,
                    1 | 2 => 10,
                    4 => 16,
                    group => panic!("command group {group}"),
                };
                assert_eq!(bytes.len(), length, "the descriptor's length");
                let disk = self.disks[usize::from(task.target)].as_mut().unwrap();
                let (steps, write_to) = disk.execute(&bytes);
                task.steps.extend(steps);
                task.write_to = write_to;
                count
            }
            other => panic!("no transfer in {other:?}"),
        };
        if !input.is_empty() {
            if *first {
                self.registers[0x08] = input[0];
            }
            self.memory.write(address, &input);
        }
        *first = false;
        moved
    }

    fn messages(&mut self, bytes: &[u8]) {
        let mut index = 0;
        while index < bytes.len() {
            let task = self.connection.as_mut().unwrap();
            match bytes[index] {
                identify @ 0x80.. => assert_eq!(identify & 0x3F, 0, "LUN 0 only"),
                0x20 => {
                    index += 1;
                    let tag = bytes[index];
                    let twice = |other: &Task| {
                        other.target == self.connection.as_ref().unwrap().target
                            && (other.tag == Some(tag) || other.tag.is_none())
                    };
                    assert!(!self.away.iter().any(twice), "overlapped command");
                    self.connection.as_mut().unwrap().tag = Some(tag);
                }
                message @ (0x06 | 0x0C) => {
                    let target = task.target;
                    let disk = self.disks[usize::from(target)].as_mut().unwrap();
                    disk.aborts += 1;
                    task.steps.clear();
                    if !disk.obeys_abort {
                        task.steps.push_back(Step::Hang);
                        return;
                    }
                    if message == 0x0C {
                        disk.resets += 1;
                    }
                    task.steps.push_back(Step::Vanish);
                    self.away.retain(|other| other.target != target);
                    return;
                }
                0x07 => {}
                other => panic!("message {other:#x}"),
            }
            index += 1;
        }
    }

    fn input_output(&mut self, word: u32, second: u32, pointer: u32) {
        let opcode = word >> 27 & 7;
        if matches!(opcode, 0 | 2) {
            self.connection.take_if(|task| task.phantom);
        }
        match opcode {
            0 => {
                assert_eq!(word >> 24 & 3, 3, "select with attention, from the table");
                if std::mem::take(&mut self.reselected) || self.reselect() {
                    self.reselected = false;
                    self.set32(register::DSP, second);
                    return;
                }
                assert!(self.connection.is_none(), "selection while connected");
                let table = self.memory.read32(self.get32(register::DSA) + (word & 0xFF_FFFF));
                let target = (table >> 16 & 0xFF) as u8;
                assert!(target < 16, "selection of a free block");
                if self.disks[usize::from(target)].is_none() {
                    self.selection_fails = true;
                    return;
                }
                self.registers[register::SCNTL2] |= 0x80;
                self.connection = Some(Task {
                    target,
                    tag: None,
                    steps: [Step::MessageOut, Step::Command].into(),
                    received: Vec::new(),
                    write_to: None,
                    ready: false,
                    phantom: false,
                });
            }
            1 => {
                self.settle();
                assert!(self.connection.is_none(), "waits for a disconnect for ever");
                // A target that waits for the free bus is faster than SCRIPTS.
                self.reselect();
            }
            2 => {
                if std::mem::take(&mut self.reselected) {
                    return;
                }
                assert!(self.connection.is_none(), "waits for reselection while connected");
                if self.istat & register::ISTAT0_SIGNAL_PROCESS != 0 {
                    self.set32(register::DSP, second);
                } else if self.reselect() {
                    self.reselected = false;
                } else {
                    self.run = Run::WaitReselect { alternate: second };
                }
            }
            3 => {
                assert_eq!(word & 0x8, 0x8, "only attention is set");
                let task = self.connection.as_mut().unwrap();
                // The target asks for the message when its own is through.
                task.steps.insert(1, Step::MessageOut);
            }
            4 => {
                assert_eq!(word & 0x40, 0x40, "only acknowledge is cleared");
                self.held = false;
                self.settle();
            }
            other => panic!("I/O opcode {other} at {pointer:#x}"),
        }
    }

    fn register_instruction(&mut self, word: u32) {
        let number = (word >> 16 & 0x7F | word & 0x80) as usize;
        let data = (word >> 8) as u8;
        let form = word >> 27 & 7;
        let operator = word >> 24 & 7;
        let sfbr = self.registers[0x08];
        let left = match form {
            5 => sfbr,
            _ => self.read(number),
        };
        let right = if word >> 23 & 1 != 0 { sfbr } else { data };
        let result = match operator {
            0 => right,
            2 => left | right,
            3 => left ^ right,
            4 => left & right,
            6 => left.wrapping_add(right),
            other => panic!("operator {other}"),
        };
        match form {
            6 => self.registers[0x08] = result,
            _ => self.write(number, result),
        }
    }

    fn transfer_control(&mut self, word: u32, second: u32, pointer: u32) {
        let when_true = word >> 19 & 1 != 0;
        if word >> 16 & 1 != 0 {
            if self.selection_fails {
                self.selection_fails = false;
                self.stop_scsi(0, register::SIST1_SELECTION_TIME_OUT);
                return;
            }
            assert!(!self.held, "waits for a request without acknowledging");
            self.settle();
            if self.run != Run::Running {
                return;
            }
            assert!(self.connection.is_some(), "waits for a request on a free bus");
            if self.phase().is_none() {
                self.set32(register::DSP, pointer);
                self.run = Run::Blocked;
                return;
            }
        }
        let mut compared = true;
        if word >> 17 & 1 != 0 {
            compared &= self.phase() == Some(word >> 24 & 7);
        }
        if word >> 18 & 1 != 0 {
            let mask = !(word >> 8) as u8;
            compared &= self.registers[0x08] & mask == word as u8 & mask;
        }
        if word & 6 << 16 == 0 {
            // No condition: always, or never.
            compared = true;
        }
        if compared != when_true {
            return;
        }
        match word >> 27 & 7 {
            0 => self.set32(register::DSP, second),
            2 => {
                let target = self.get32(0x1C);
                self.set32(register::DSP, target);
            }
            3 if word >> 20 & 1 != 0 => self.istat |= register::ISTAT0_ON_THE_FLY,
            3 => self.stop_dma(register::DSTAT_SCRIPTS_INTERRUPT),
            other => panic!("transfer control {other}"),
        }
    }

    fn load_store(&mut self, word: u32, second: u32) {
        assert_eq!(word >> 29, 7, "memory moves are not for here");
        let mut address = second;
        if word >> 28 & 1 != 0 {
            address = address.wrapping_add(self.get32(register::DSA));
        }
        let number = (word >> 16 & 0xFF) as usize;
        let count = (word & 7) as usize;
        assert_eq!(number & 3, address as usize & 3, "byte lanes differ");
        assert!((number & 3) + count <= 4, "crosses a word");
        if word >> 24 & 1 != 0 {
            let mut bytes = vec![0; count];
            self.memory.read(address, &mut bytes);
            for (index, byte) in bytes.into_iter().enumerate() {
                self.write(number + index, byte);
            }
        } else {
            let bytes: Vec<u8> = (number..number + count).map(|number| self.read(number)).collect();
            self.memory.write(address, &bytes);
        }
    }
}
