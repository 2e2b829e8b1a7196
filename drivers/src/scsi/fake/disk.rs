//! A fake disk: what a target does with a command, as a list of bus phases.

use std::collections::VecDeque;

/// What a target does next while connected.
#[derive(Debug, Clone)]
pub enum Step {
    MessageOut,
    Command,
    MessageIn(VecDeque<u8>),
    DataIn(VecDeque<u8>),
    DataOut(usize),
    Status(u8),
    /// Leaves the bus as announced by a message.
    Free,
    /// Leaves the bus without a word.
    Vanish,
    /// Stays connected and does nothing.
    Hang,
    /// Left the bus with DISCONNECT; comes back when its time has come.
    Away,
    /// Left the bus with DISCONNECT, never to come back.
    Lost,
    /// Fails while disconnected, the way QEMU's chip shows it: status without reselection.
    FailAway(u8),
    /// The next data byte has bad parity.
    BadParity,
}

/// A failure of the next READ or WRITE.
#[derive(Debug, Clone)]
pub enum Fault {
    CheckCondition(u8, u8, u8),
    Status(u8),
    HangConnected,
    LoseCommand,
    Vanish,
    BadParity,
    Surplus(usize),
    Short(usize),
    WrongDirection,
    RestorePointers,
    Negotiate,
    FailAway(u8, u8, u8),
    StrangeMessage,
}

pub struct FakeDisk {
    pub data: Vec<u8>,
    pub serial: String,
    /// Disconnects after the command, before data.
    pub disconnects: bool,
    /// Disconnects again after so many data bytes.
    pub chunk: Option<usize>,
    pub faults: VecDeque<Fault>,
    pub unit_attention: Option<(u8, u8)>,
    pub sense: [u8; 18],
    pub bad_block: Option<u64>,
    /// Automatic reallocation of blocks that cannot be written (mode page 1, AWRE).
    pub reallocates: bool,
    pub ready_after: u32,
    pub huge: bool,
    pub commands: Vec<u8>,
    pub obeys_abort: bool,
    pub resets: u32,
    /// A WRITE's place, by the tag.
    pub aborts: u32,
}

pub const BLOCK: usize = 512;
/// In place of a place: what REASSIGN BLOCKS sends is a list of defects.
const DEFECTS: usize = usize::MAX;

impl FakeDisk {
    pub fn new(blocks: usize) -> FakeDisk {
        FakeDisk {
            data: (0..blocks * BLOCK).map(|index| (index / 7) as u8).collect(),
            serial: "1234".into(),
            disconnects: true,
            chunk: None,
            faults: VecDeque::new(),
            unit_attention: Some((0x29, 0)),
            sense: [0; 18],
            bad_block: None,
            reallocates: true,
            ready_after: 0,
            huge: false,
            commands: Vec::new(),
            obeys_abort: true,
            resets: 0,
            aborts: 0,
        }
    }

    fn set_sense(&mut self, key: u8, code: u8, qualifier: u8, block: Option<u32>) {
        self.sense = [0; 18];
        self.sense[0] = 0x70;
        self.sense[2] = key;
        self.sense[7] = 10;
        self.sense[12] = code;
        self.sense[13] = qualifier;
        if let Some(block) = block {
            self.sense[0] |= 0x80;
            self.sense[3..7].copy_from_slice(&block.to_be_bytes());
        }
    }

    fn fail(&mut self, key: u8, code: u8, qualifier: u8) -> Vec<Step> {
        self.set_sense(key, code, qualifier, None);
        finish(2)
    }

    fn answer(&self, answer: &[u8], room: usize) -> Vec<Step> {
        let data = answer[..answer.len().min(room)].iter().copied().collect();
        let mut steps = vec![Step::DataIn(data)];
        steps.extend(finish(0));
        steps
    }

    /// What a command sent goes to its place.
    pub fn store(&mut self, place: usize, received: &[u8]) {
        if place != DEFECTS {
            self.data[place..place + received.len()].copy_from_slice(received);
            return;
        }
        // A defect list of one short address.
        assert_eq!(received[..4], [0, 0, 0, 4]);
        let block = u32::from_be_bytes(received[4..8].try_into().unwrap());
        assert_eq!(self.bad_block.take(), Some(u64::from(block)));
    }

    /// What to do for a command, and for a WRITE where its data goes.
    pub fn execute(&mut self, descriptor: &[u8]) -> (Vec<Step>, Option<usize>) {
        let code = descriptor[0];
        self.commands.push(code);
        if !matches!(code, 0x12 | 0x03)
            && let Some((code, qualifier)) = self.unit_attention.take()
        {
            return (self.fail(6, code, qualifier), None);
        }
        if matches!(code, 0x00 | 0x25 | 0x28 | 0x2A) && self.ready_after > 0 {
            self.ready_after -= 1;
            return (self.fail(2, 4, 1), None);
        }
        match code {
            0x00 | 0x1B | 0x35 => (finish(0), None),
            0x03 => {
                let sense = self.sense;
                self.sense = [0; 18];
                self.sense[0] = 0x70;
                (self.answer(&sense, usize::from(descriptor[4])), None)
            }
            0x12 if descriptor[1] & 1 != 0 => {
                if self.serial.is_empty() {
                    return (self.fail(5, 0x24, 0), None);
                }
                let mut page = vec![0, 0x80, 0, self.serial.len() as u8];
                page.extend(self.serial.bytes());
                (self.answer(&page, usize::from(descriptor[4])), None)
            }
            0x12 => {
                let mut answer = [0u8; 36];
                answer[4] = 31;
                answer[7] = 2;
                answer[8..].copy_from_slice(b"ACME    FAKE DISK       1.0 ");
                (self.answer(&answer, usize::from(descriptor[4])), None)
            }
            0x07 => {
                let mut steps = vec![Step::DataOut(8)];
                steps.extend(finish(0));
                (steps, Some(DEFECTS))
            }
            0x1A if descriptor[2] == 1 => {
                let page = [15, 0, 0, 0, 1, 10, u8::from(self.reallocates) << 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                (self.answer(&page, usize::from(descriptor[4])), None)
            }
            0x1A => {
                let mut page = vec![23, 0, 0, 0, 8, 18, 4];
                page.resize(24, 0);
                (self.answer(&page, usize::from(descriptor[4])), None)
            }
            0x25 => {
                let last = (self.data.len() / BLOCK - 1) as u32;
                let last = if self.huge { u32::MAX } else { last };
                let mut answer = last.to_be_bytes().to_vec();
                answer.extend((BLOCK as u32).to_be_bytes());
                (self.answer(&answer, 8), None)
            }
            0x9E => {
                let mut answer = 0x1_0000_0000u64.to_be_bytes().to_vec();
                answer.extend((BLOCK as u32).to_be_bytes());
                answer.resize(32, 0);
                (self.answer(&answer, usize::from(descriptor[13])), None)
            }
            0x28 | 0x2A => {
                let block = u32::from_be_bytes(descriptor[2..6].try_into().unwrap());
                let count = u16::from_be_bytes(descriptor[7..9].try_into().unwrap());
                self.transfer(code == 0x2A, u64::from(block), usize::from(count))
            }
            0x88 | 0x8A => {
                let block = u64::from_be_bytes(descriptor[2..10].try_into().unwrap());
                let count = u32::from_be_bytes(descriptor[10..14].try_into().unwrap());
                self.transfer(code == 0x8A, block, count as usize)
            }
            _ => (self.fail(5, 0x20, 0), None),
        }
    }

    fn transfer(&mut self, write: bool, block: u64, count: usize) -> (Vec<Step>, Option<usize>) {
        // A disk that claims to be huge keeps its few blocks at every multiple of their number.
        let start = (block * BLOCK as u64 % self.data.len() as u64) as usize;
        let length = count * BLOCK;
        if start + length > self.data.len() {
            return (self.fail(5, 0x21, 0), None);
        }
        if let Some(bad) = self.bad_block
            && (block..block + count as u64).contains(&bad)
            && write
            && self.reallocates
        {
            self.bad_block = None;
        } else if let Some(bad) = self.bad_block
            && (block..block + count as u64).contains(&bad)
        {
            self.set_sense(3, 0x11, 0, Some(bad as u32));
            return (finish(2), None);
        }
        let fault = self.faults.pop_front();
        let mut steps = Vec::new();
        match fault {
            Some(Fault::CheckCondition(key, code, qualifier)) => {
                return (self.fail(key, code, qualifier), None);
            }
            Some(Fault::Status(status)) => return (finish(status), None),
            Some(Fault::HangConnected) => return (vec![Step::Hang], None),
            Some(Fault::LoseCommand) => {
                return (vec![Step::MessageIn([2, 4].into()), Step::Free, Step::Lost], None);
            }
            Some(Fault::FailAway(key, code, qualifier)) => {
                self.set_sense(key, code, qualifier, None);
                return (vec![Step::MessageIn([2, 4].into()), Step::Free, Step::FailAway(2)], None);
            }
            Some(Fault::Negotiate) => steps.push(Step::MessageIn([1, 3, 1, 12, 8].into())),
            Some(Fault::StrangeMessage) => steps.push(Step::MessageIn([0x55].into())),
            _ => {}
        }
        if self.disconnects {
            steps.extend(disconnect());
        }
        let mut data: VecDeque<u8> = self.data[start..start + length].iter().copied().collect();
        let mut status = 0;
        let mut left = length;
        let mut write = write;
        match fault {
            Some(Fault::WrongDirection) => write = !write,
            Some(Fault::Surplus(more)) => {
                data.extend(vec![0xEE; more]);
                left += more;
            }
            Some(Fault::Short(less)) => {
                data.truncate(length - less);
                left -= less;
                self.set_sense(4, 0x44, 0, None);
                status = 2;
            }
            Some(Fault::BadParity) => steps.push(Step::BadParity),
            Some(Fault::RestorePointers) => {
                // A thousand bytes go over the bus, are forgotten, and go again.
                let first: VecDeque<u8> = (0..1000).map(|_| 0xAA).collect();
                if write {
                    panic!("only for READ");
                }
                steps.push(Step::DataIn(first));
                steps.push(Step::MessageIn([3].into()));
            }
            _ => {}
        }
        let chunk = self.chunk.unwrap_or(usize::MAX);
        let mut first = true;
        while left > 0 {
            if !first {
                steps.extend(disconnect());
            }
            first = false;
            let take = left.min(chunk);
            if write {
                steps.push(Step::DataOut(take));
            } else {
                steps.push(Step::DataIn(data.drain(..take).collect()));
            }
            left -= take;
            if matches!(fault, Some(Fault::Vanish)) {
                steps.push(Step::Vanish);
                return (steps, None);
            }
        }
        if self.chunk.is_some() {
            steps.extend(disconnect());
        }
        steps.extend(finish(status));
        (steps, write.then_some(start))
    }
}

fn disconnect() -> Vec<Step> {
    vec![Step::MessageIn([2, 4].into()), Step::Free, Step::Away]
}

fn finish(status: u8) -> Vec<Step> {
    vec![Step::Status(status), Step::MessageIn([0].into()), Step::Free]
}
