//! Disks over the adapter over the fake chip.

use super::super::fake::{FakeChip, FakeDisk, FakeMemory, Fault};
use super::super::{Adapter, Command, Configuration, Direction, Outcome, Segment, SubmitError, Tag, status};
use super::execution::CALM;
use super::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A transport whose waiting is the passing of fake time.
struct Channel {
    chip: FakeChip,
    adapter: RefCell<Adapter<FakeChip, FakeMemory>>,
    now: Cell<u64>,
    paused: Cell<u64>,
    ended: RefCell<HashMap<Tag, Outcome>>,
}

impl Transport for &Channel {
    fn execute(&self, request: Request<'_, '_>, meanwhile: &mut dyn FnMut()) -> Outcome {
        let (direction, segments): (_, Vec<Segment>) = match request.data {
            Data::None => (Direction::None, Vec::new()),
            Data::FromTarget(pieces) => (
                Direction::FromTarget,
                pieces
                    .iter_mut()
                    .map(|piece| Segment { pointer: piece.as_mut_ptr(), length: piece.len() as u32 })
                    .collect(),
            ),
            Data::ToTarget(pieces) => (
                Direction::ToTarget,
                pieces
                    .iter()
                    .map(|piece| Segment { pointer: piece.as_ptr().cast_mut(), length: piece.len() as u32 })
                    .collect(),
            ),
        };
        let command = Command {
            target: request.target,
            descriptor: request.descriptor,
            direction,
            segments: &segments,
            tagged: request.tagged,
            exclusive: request.exclusive,
            timeout_milliseconds: request.timeout_milliseconds,
        };
        // SAFETY: the request's slices are borrowed until this function returns, after the completion.
        let submitted = unsafe { self.adapter.borrow_mut().submit(self.now.get(), &command) };
        assert_ne!(submitted, Err(SubmitError::Busy));
        let tag = submitted.unwrap();
        meanwhile();
        for _ in 0..1000 {
            let mut adapter = self.adapter.borrow_mut();
            self.chip.tick();
            adapter.port().acknowledge();
            adapter.service(self.now.get(), &mut |completion| {
                self.ended.borrow_mut().insert(completion.tag, completion.outcome);
            });
            if let Some(outcome) = self.ended.borrow_mut().remove(&tag) {
                return outcome;
            }
            let (now, deadline) = (self.now.get(), adapter.deadline().unwrap_or(u64::MAX));
            self.now.set(deadline.clamp(now + 1, now + 100));
        }
        panic!("never completed");
    }

    fn pause(&self, milliseconds: u32) {
        self.paused.set(self.paused.get() + u64::from(milliseconds));
        self.now.set(self.now.get() + u64::from(milliseconds));
    }
}

fn channel() -> Channel {
    let memory = FakeMemory::new();
    let chip = FakeChip::new(memory.clone());
    chip.chip().disks[2] = Some(FakeDisk::new(4096));
    let configuration = Configuration { name: "test", reset_bus: true, settle_milliseconds: 250 };
    Channel {
        adapter: RefCell::new(Adapter::new(chip.clone(), None, memory, configuration).unwrap()),
        chip,
        now: Cell::new(0),
        paused: Cell::new(0),
        ended: RefCell::default(),
    }
}

fn fault(channel: &Channel, fault: Fault) {
    channel.chip.with_disk(2, |disk| disk.faults.push_back(fault));
}

#[test]
fn attaches_reads_writes_and_flushes() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    assert_eq!(disk.identity().vendor, "ACME");
    assert_eq!(disk.identity().product, "FAKE DISK");
    assert_eq!(disk.identity().revision, "1.0");
    assert_eq!(disk.identity().serial, "1234");
    assert!(disk.identity().queues);
    assert!(disk.write_cache());
    assert_eq!((disk.blocks(), disk.block_size()), (4096, 512));

    let data: Vec<u8> = (0..4096).map(|index| (index * 13) as u8).collect();
    disk.write(9, &[&data[..1000], &data[1000..]], &mut || ()).unwrap();
    disk.flush(&mut || ()).unwrap();
    let mut first = vec![0; 3000];
    let mut second = vec![0; 1096];
    disk.read(9, &mut [&mut first, &mut second], &mut || ()).unwrap();
    first.extend(second);
    assert_eq!(first, data);
}

#[test]
fn one_command_goes_while_another_is_in_flight() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let (mut first, mut second, mut inner) = (vec![0; 512], vec![0; 512], None);
    let outer = disk.read(1, &mut [&mut first], &mut || {
        assert!(channel.adapter.borrow().deadline().is_some());
        inner = Some(disk.read(2, &mut [&mut second], &mut || ()));
    });
    assert_eq!((outer, inner), (Ok(()), Some(Ok(()))));
    let expected = channel.chip.with_disk(2, |disk| disk.data[512..1536].to_vec());
    assert_eq!([first, second].concat(), expected);
    // It has its turn just once, also when the command fails, is tried again, or is none.
    let mut turns = 0;
    for (block, result) in [(1, Ok(())), (4096, Err(DiskError::OutOfRange))] {
        fault(&channel, Fault::CheckCondition(0x6, 0x29, 0));
        let answer = disk.write(block, &[&[7; 512]], &mut || turns += 1);
        assert_eq!(answer, result);
    }
    assert_eq!(turns, 2);
}

#[test]
fn scan_finds_the_disks_there_are() {
    let channel = channel();
    channel.chip.chip().disks[15] = Some(FakeDisk::new(8));
    let found = scan(&&channel);
    let targets: Vec<u8> = found.iter().map(|(target, _)| *target).collect();
    assert_eq!(targets, [2, 15]);
}

#[test]
fn long_transfers_become_several_commands() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let blocks = 2600;
    let mut whole = vec![0; blocks * 512];
    channel.chip.with_disk(2, |disk| disk.commands.clear());
    disk.read(100, &mut [&mut whole], &mut || ()).unwrap();
    let expected = channel.chip.with_disk(2, |disk| disk.data[100 * 512..][..blocks * 512].to_vec());
    assert!(whole == expected);
    let codes = channel.chip.with_disk(2, |disk| disk.commands.clone());
    assert_eq!(codes, [0x28; 2]);

    // More pieces than a command may have, not even ending on blocks.
    let mut pieces: Vec<Vec<u8>> = (0..512).map(|_| vec![0; 700]).collect();
    pieces.push(vec![0; 512 * 701 - 512 * 700]);
    let mut slices: Vec<&mut [u8]> = pieces.iter_mut().map(|piece| &mut piece[..]).collect();
    disk.read(100, &mut slices, &mut || ()).unwrap();
    assert!(pieces.concat() == expected[..512 * 701]);
    let copy: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
    disk.write(0, &copy, &mut || ()).unwrap();
    let written = channel.chip.with_disk(2, |disk| disk.data[..512 * 701].to_vec());
    assert!(written == expected[..512 * 701]);
}

#[test]
fn ranges_are_checked() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let mut buffer = vec![0; 1024];
    for block in [4095, 4096, u64::MAX] {
        let result = disk.read(block, &mut [&mut buffer], &mut || ());
        assert_eq!(result, Err(DiskError::OutOfRange));
    }
    let result = disk.write(0, &[&buffer[..100]], &mut || ());
    assert_eq!(result, Err(DiskError::Unsupported));
}

#[test]
fn a_huge_disk_is_addressed_by_16_byte_commands() {
    let channel = channel();
    channel.chip.with_disk(2, |disk| disk.huge = true);
    let disk = Disk::attach(&channel, 2).unwrap();
    assert_eq!(disk.blocks(), 0x1_0000_0001);
    let mut buffer = vec![0; 512];
    channel.chip.with_disk(2, |disk| disk.commands.clear());
    disk.read(0xFFFF_FFFF, &mut [&mut buffer], &mut || ()).unwrap();
    disk.read(0x1_0000_0000, &mut [&mut buffer], &mut || ()).unwrap();
    let codes = channel.chip.with_disk(2, |disk| disk.commands.clone());
    assert_eq!(codes, [0x28, 0x88]);
}

#[test]
fn waits_for_a_disk_that_spins_up() {
    let channel = channel();
    channel.chip.with_disk(2, |disk| disk.ready_after = 10);
    Disk::attach(&channel, 2).unwrap();
    assert!(channel.paused.get() >= 5000);
}

#[test]
fn passing_trouble_is_not_noticed_above() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let mut buffer = vec![0; 2048];
    let expected = channel.chip.with_disk(2, |disk| disk.data[..2048].to_vec());
    for trouble in [
        Fault::CheckCondition(0x6, 0x29, 0),
        Fault::CheckCondition(0x3, 0x11, 0),
        Fault::CheckCondition(0x4, 0x44, 0),
        Fault::CheckCondition(0xB, 0x47, 0),
        Fault::CheckCondition(0x2, 0x04, 0x02),
        Fault::Status(status::BUSY),
        Fault::Status(status::QUEUE_FULL),
        Fault::Vanish,
        Fault::BadParity,
        Fault::WrongDirection,
        Fault::HangConnected,
        Fault::LoseCommand,
        Fault::FailAway(3, 0x11, 0),
    ] {
        fault(&channel, trouble.clone());
        buffer.fill(0xFF);
        let result = disk.read(0, &mut [&mut buffer], &mut || ());
        assert_eq!(result, Ok(()), "{trouble:?}");
        assert_eq!(buffer, expected, "{trouble:?}");
    }
}

#[test]
fn lasting_trouble_has_its_names() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let mut buffer = vec![0; 2048];
    for (trouble, times, error) in [
        (Fault::CheckCondition(0x3, 0x11, 0), 3, DiskError::Medium { block: None }),
        (Fault::CheckCondition(0x2, 0x3A, 0), 1, DiskError::NoMedium),
        (Fault::CheckCondition(0x7, 0x27, 0), 1, DiskError::WriteProtected),
        (Fault::CheckCondition(0x5, 0x20, 0), 1, DiskError::Unsupported),
        (Fault::Status(status::BUSY), 21, DiskError::Protocol),
        (Fault::LoseCommand, 2, DiskError::TimedOut),
    ] {
        for _ in 0..times {
            fault(&channel, trouble.clone());
        }
        let result = disk.read(0, &mut [&mut buffer], &mut || ());
        assert_eq!(result, Err(error), "{trouble:?}");
    }
    channel.chip.with_disk(2, |disk| disk.bad_block = Some(3));
    let result = disk.read(0, &mut [&mut buffer], &mut || ());
    assert_eq!(result, Err(DiskError::Medium { block: Some(3) }));
    channel.chip.with_disk(2, |disk| disk.bad_block = None);
    assert_eq!(disk.read(0, &mut [&mut buffer], &mut || ()), Ok(()));
}

#[test]
fn bad_blocks_are_rewritten_or_reassigned() {
    let channel = channel();
    for (reallocates, reassigned) in [(true, 0), (false, 1)] {
        channel.chip.with_disk(2, |disk| {
            disk.reallocates = reallocates;
            disk.bad_block = Some(3);
        });
        let disk = Disk::attach(&channel, 2).unwrap();
        channel.chip.with_disk(2, |disk| disk.commands.clear());
        let mut buffer = vec![0; 2048];
        let result = disk.read(0, &mut [&mut buffer], &mut || ());
        assert_eq!(result, Err(DiskError::Medium { block: Some(3) }));
        assert_eq!(disk.write(2, &[&[5; 1024]], &mut || ()), Ok(()));
        assert_eq!(disk.read(3, &mut [&mut buffer[..512]], &mut || ()), Ok(()));
        assert_eq!(buffer[..512], [5; 512]);
        let codes = channel.chip.with_disk(2, |disk| disk.commands.clone());
        assert_eq!(codes.iter().filter(|&&code| code == 0x07).count(), reassigned);
    }
}

#[test]
fn a_full_queue_is_not_filled_again_at_once() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let beside = |inner: &mut bool| {
        let (mut first, mut second) = (vec![0; 512], vec![0; 512]);
        let outer = disk.read(1, &mut [&mut first], &mut || {
            *inner = channel.adapter.borrow().deadline().is_some();
            disk.read(2, &mut [&mut second], &mut || ()).unwrap();
        });
        assert_eq!(outer, Ok(()));
    };
    let mut at_once = false;
    beside(&mut at_once);
    assert!(at_once);
    fault(&channel, Fault::Status(status::QUEUE_FULL));
    beside(&mut at_once);
    // One at a time from now on, until the disk has been content for long.
    beside(&mut at_once);
    assert!(!at_once);
    let mut block = vec![0; 512];
    for _ in 0..2 * CALM {
        disk.read(0, &mut [&mut block], &mut || ()).unwrap();
    }
    beside(&mut at_once);
    assert!(at_once);
}

#[test]
fn a_pulled_disk_is_gone_until_the_same_one_returns() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let mut buffer = vec![0; 512];
    let mut pulled = channel.chip.chip().pull(2).unwrap();
    assert_eq!(disk.read(0, &mut [&mut buffer], &mut || ()), Err(DiskError::Gone));
    assert_eq!(disk.write(0, &[&buffer], &mut || ()), Err(DiskError::Gone));
    assert_eq!(disk.flush(&mut || ()), Err(DiskError::Gone));

    let mut other = FakeDisk::new(4096);
    other.serial = "another".into();
    channel.chip.chip().disks[2] = Some(other);
    assert_eq!(disk.write(0, &[&buffer], &mut || ()), Err(DiskError::Changed));
    channel.chip.chip().pull(2);

    pulled.unit_attention = Some((0x29, 0));
    channel.chip.chip().disks[2] = Some(pulled);
    assert_eq!(disk.read(0, &mut [&mut buffer], &mut || ()), Ok(()));
}

#[test]
fn nothing_at_a_target_is_gone() {
    let channel = channel();
    assert_eq!(Disk::attach(&channel, 3).err(), Some(DiskError::Gone));
}

#[test]
fn a_disk_that_started_anew_says_that_its_cache_is_gone() {
    let channel = channel();
    let disk = Disk::attach(&channel, 2).unwrap();
    let write = |block| disk.write(block, &[&[7; 512]], &mut || ()).unwrap();
    let flush = || disk.flush(&mut || ());
    let attention = |qualifier| {
        channel.chip.with_disk(2, |disk| disk.unit_attention = Some((0x29, qualifier)));
    };
    write(5);
    assert_eq!(flush(), Ok(()));
    // Nothing was in the cache, or the bus alone was reset.
    attention(0);
    assert_eq!(flush(), Ok(()));
    write(6);
    attention(2);
    assert_eq!(flush(), Ok(()));
    write(7);
    attention(1);
    write(8);
    assert_eq!(flush(), Err(DiskError::Restarted));
    // It was said once; what was written is written again by who knows.
    write(7);
    assert_eq!(flush(), Ok(()));
}
