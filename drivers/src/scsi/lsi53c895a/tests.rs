//! The adapter against the fake chip: each way a command can end.

use super::super::fake::{FakeChip, FakeDisk, FakeMemory, Fault};
use super::*;

const BLOCK: usize = 512;

struct Bench {
    memory: FakeMemory,
    chip: FakeChip,
    adapter: Adapter<FakeChip, FakeMemory>,
    done: Vec<Completion>,
    now: u64,
}

fn configuration() -> Configuration {
    Configuration { name: "test", reset_bus: false, settle_milliseconds: 250 }
}

/// A channel with a disk of 256 KiB at target 0 that has no unit attention to report.
fn bench() -> Bench {
    let memory = FakeMemory::new();
    let chip = FakeChip::new(memory.clone());
    let mut disk = FakeDisk::new(512);
    disk.unit_attention = None;
    chip.chip().disks[0] = Some(disk);
    let adapter = Adapter::new(chip.clone(), None, memory.clone(), configuration()).unwrap();
    Bench { memory, chip, adapter, done: Vec::new(), now: 1000 }
}

fn segments(buffers: &mut [&mut [u8]]) -> Vec<Segment> {
    buffers
        .iter_mut()
        .map(|buffer| Segment { pointer: buffer.as_mut_ptr(), length: buffer.len() as u32 })
        .collect()
}

fn descriptor(write: bool, block: u32, count: u16) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0] = if write { 0x2A } else { 0x28 };
    bytes[2..6].copy_from_slice(&block.to_be_bytes());
    bytes[7..9].copy_from_slice(&count.to_be_bytes());
    bytes
}

impl Bench {
    fn try_transfer(
        &mut self,
        target: u8,
        write: bool,
        block: u32,
        buffers: &mut [&mut [u8]],
        exclusive: bool,
    ) -> Result<Tag, SubmitError> {
        let bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let command = Command {
            target,
            descriptor: &descriptor(write, block, (bytes / BLOCK) as u16),
            direction: if write { Direction::ToTarget } else { Direction::FromTarget },
            segments: &segments(buffers),
            tagged: true,
            exclusive,
            timeout_milliseconds: 5000,
        };
        // SAFETY: the tests keep their buffers until the completion or the end of the bench.
        unsafe { self.adapter.submit(self.now, &command) }
    }

    fn read(&mut self, block: u32, buffer: &mut [u8]) -> Tag {
        self.try_transfer(0, false, block, &mut [buffer], false).unwrap()
    }

    fn write(&mut self, block: u32, buffer: &mut [u8]) -> Tag {
        self.try_transfer(0, true, block, &mut [buffer], false).unwrap()
    }

    fn plain(&mut self, target: u8, tagged: bool) -> Result<Tag, SubmitError> {
        let command = Command {
            target,
            descriptor: &[0; 6],
            direction: Direction::None,
            segments: &[],
            tagged,
            exclusive: false,
            timeout_milliseconds: 5000,
        };
        // SAFETY: no segments.
        unsafe { self.adapter.submit(self.now, &command) }
    }

    fn service(&mut self) {
        let port = self.adapter.port();
        if self.chip.interrupting() {
            assert!(port.acknowledge());
        }
        let done = &mut self.done;
        self.adapter.service(self.now, &mut |completion| done.push(completion));
    }

    /// Runs until nothing is in flight, at most a minute of the clock.
    fn run(&mut self) {
        for _ in 0..2000 {
            self.chip.tick();
            self.service();
            if self.adapter.in_flight() == 0 {
                return;
            }
            let deadline = self.adapter.deadline().unwrap_or(u64::MAX);
            self.now = deadline.clamp(self.now + 1, self.now + 100);
        }
        panic!("commands stay in flight");
    }

    fn outcome(&self, tag: Tag) -> Outcome {
        let mut matching = self.done.iter().filter(|completion| completion.tag == tag);
        let outcome = matching.next().expect("no completion").outcome;
        assert!(matching.next().is_none(), "two completions of one command");
        outcome
    }

    fn contents(&self, block: usize, bytes: usize) -> Vec<u8> {
        self.chip.with_disk(0, |disk| disk.data[block * BLOCK..block * BLOCK + bytes].to_vec())
    }
}

fn good(bytes: usize) -> Outcome {
    Outcome::Status { status: status::GOOD, transferred: bytes as u32, sense: None }
}

fn pattern(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn reads_and_writes_with_one_kick_each() {
    let mut bench = bench();
    let mut data = pattern(8 * BLOCK, 3);
    let writes = bench.chip.chip().register_writes;
    let tag = bench.write(5, &mut data);
    assert_eq!(bench.chip.chip().register_writes, writes + 1);
    bench.run();
    assert_eq!(bench.outcome(tag), good(data.len()));
    assert_eq!(bench.contents(5, data.len()), data);

    let mut back = vec![0; data.len()];
    bench.done.clear();
    let tag = bench.read(5, &mut back);
    bench.run();
    assert_eq!(bench.outcome(tag), good(data.len()));
    assert_eq!(back, data);
    assert_eq!(bench.adapter.statistics().stops, 0);
}

#[test]
fn runs_from_the_chips_own_ram() {
    let memory = FakeMemory::new();
    let chip = FakeChip::new(memory.clone());
    struct Ram(FakeMemory, u32);
    impl Registers for Ram {
        fn read8(&self, _: usize) -> u8 {
            unreachable!()
        }
        fn read16(&self, _: usize) -> u16 {
            unreachable!()
        }
        fn read32(&self, offset: usize) -> u32 {
            self.0.read32(self.1 + offset as u32)
        }
        fn write8(&self, _: usize, _: u8) {
            unreachable!()
        }
        fn write16(&self, _: usize, _: u16) {
            unreachable!()
        }
        fn write32(&self, offset: usize, value: u32) {
            self.0.write(self.1 + offset as u32, &value.to_le_bytes());
        }
    }
    let window = memory.allocate(8192, 8192).unwrap();
    let bus = memory.bus_address(window.as_ptr(), 8192);
    let ram = Ram(memory.clone(), bus);
    let ram = ScriptsRam { registers: &ram, bus_address: bus };
    chip.chip().disks[3] = Some(FakeDisk::new(8));
    let adapter = Adapter::new(chip.clone(), Some(ram), memory.clone(), configuration()).unwrap();
    let mut bench = Bench { memory, chip, adapter, done: Vec::new(), now: 0 };
    let tag = bench.plain(3, false).unwrap();
    bench.run();
    assert!(matches!(
        bench.outcome(tag),
        Outcome::Status { status: 2, sense: Some(sense), .. } if sense.additional() == (0x29, 0)
    ));
}

#[test]
fn scatter_gather_of_odd_pieces_and_mid_piece_disconnects() {
    let mut bench = bench();
    // Disconnects after every 700 bytes: in the middle of pieces, and of blocks.
    bench.chip.with_disk(0, |disk| disk.chunk = Some(700));
    let data = pattern(12 * BLOCK, 9);
    let mut copy = data.clone();
    let (first, rest) = copy.split_at_mut(100);
    let (second, third) = rest.split_at_mut(3000);
    let tag = bench.try_transfer(0, true, 0, &mut [first, second, third], false).unwrap();
    bench.run();
    assert_eq!(bench.outcome(tag), good(data.len()));
    assert_eq!(bench.contents(0, data.len()), data);
    assert!(bench.adapter.statistics().phase_mismatches >= 8);

    for interrupts in [false, true] {
        bench.done.clear();
        bench.chip.chip().mismatch_interrupts = interrupts;
        let mut back = vec![0; data.len()];
        let (first, second) = back.split_at_mut(5000);
        let tag = bench.try_transfer(0, false, 0, &mut [first, second], false).unwrap();
        bench.run();
        assert_eq!(bench.outcome(tag), good(data.len()));
        assert_eq!(back, data);
    }
}

#[test]
fn a_megabyte_in_pages_is_one_command() {
    let memory = FakeMemory::new();
    let mut pages: Vec<Vec<u8>> = (0..256).map(|_| vec![0; 4096]).collect();
    let mut bench = bench();
    bench.chip.chip().disks[1] = Some(FakeDisk::new(2048));
    bench.chip.with_disk(1, |disk| disk.unit_attention = None);
    let mut buffers: Vec<&mut [u8]> = pages.iter_mut().map(|page| &mut page[..]).collect();
    let tag = bench.try_transfer(1, false, 0, &mut buffers, false).unwrap();
    bench.run();
    assert_eq!(bench.outcome(tag), good(1 << 20));
    let expected = bench.chip.with_disk(1, |disk| disk.data.clone());
    assert!(pages.concat() == expected);
    drop(memory);

    // Neighbours on the bus are one entry: 300 pieces of one buffer fit, 300 separate ones do not.
    let mut whole = vec![0; 300 * BLOCK];
    bench.memory.bus_address(whole.as_ptr(), whole.len());
    let mut pieces: Vec<&mut [u8]> = whole.chunks_mut(BLOCK).collect();
    bench.try_transfer(1, false, 0, &mut pieces, false).unwrap();
    bench.run();
    let mut apart: Vec<Vec<u8>> = (0..300).map(|_| vec![0; BLOCK]).collect();
    let mut pieces: Vec<&mut [u8]> = apart.iter_mut().map(|piece| &mut piece[..]).collect();
    assert_eq!(bench.try_transfer(1, false, 0, &mut pieces, false), Err(SubmitError::TooManySegments));
}

#[test]
fn fourteen_commands_in_flight_finish_in_any_order() {
    let mut bench = bench();
    bench.chip.chip().reorder = true;
    let mut buffers = vec![vec![0; 4 * BLOCK]; 14];
    let mut tags = Vec::new();
    for (index, buffer) in buffers.iter_mut().enumerate() {
        tags.push(bench.read(4 * index as u32, buffer));
    }
    assert_eq!(bench.plain(0, true), Err(SubmitError::Busy));
    bench.run();
    assert_eq!(bench.chip.chip().most_away, 14);
    for (index, (tag, buffer)) in tags.iter().zip(&buffers).enumerate() {
        assert_eq!(bench.outcome(*tag), good(4 * BLOCK));
        assert_eq!(*buffer, bench.contents(4 * index, 4 * BLOCK));
    }
    assert!(bench.plain(0, true).is_ok());
    bench.run();
}

#[test]
fn the_ring_goes_round() {
    let mut bench = bench();
    for round in 0..50u32 {
        let mut buffers = vec![vec![0; BLOCK]; 5];
        bench.done.clear();
        for (index, buffer) in buffers.iter_mut().enumerate() {
            bench.read(round + index as u32, buffer);
        }
        bench.run();
        assert_eq!(bench.done.len(), 5);
        for (index, buffer) in buffers.iter().enumerate() {
            assert_eq!(*buffer, bench.contents(round as usize + index, BLOCK));
        }
    }
}

#[test]
fn untagged_commands_have_their_target_for_themselves() {
    let mut bench = bench();
    bench.chip.chip().disks[2] = Some(FakeDisk::new(8));
    let mut buffer = vec![0; BLOCK];
    bench.read(0, &mut buffer);
    assert_eq!(bench.plain(0, false), Err(SubmitError::Busy));
    let other = bench.plain(2, false).unwrap();
    assert_eq!(bench.plain(2, true), Err(SubmitError::Busy));
    bench.run();
    assert!(matches!(bench.outcome(other), Outcome::Aborted));
    bench.plain(0, false).unwrap();
    bench.run();
}

#[test]
fn an_absent_target_is_a_selection_time_out() {
    let mut bench = bench();
    let mut buffer = vec![0; BLOCK];
    let other = bench.read(0, &mut buffer);
    let absent = bench.plain(5, true).unwrap();
    let mut second = vec![0; BLOCK];
    let third = bench.read(1, &mut second);
    bench.run();
    assert_eq!(bench.outcome(absent), Outcome::SelectionTimeOut);
    assert_eq!(bench.outcome(other), good(BLOCK));
    assert_eq!(bench.outcome(third), good(BLOCK));
}

#[test]
fn nonsense_is_not_taken() {
    let mut bench = bench();
    assert_eq!(bench.plain(16, true), Err(SubmitError::Invalid));
    assert_eq!(bench.plain(OWN_IDENTITY, true), Err(SubmitError::Invalid));
    let command = Command {
        target: 0,
        descriptor: &[0; 5],
        direction: Direction::None,
        segments: &[],
        tagged: true,
        exclusive: false,
        timeout_milliseconds: 1,
    };
    // SAFETY: no segments.
    let result = unsafe { bench.adapter.submit(0, &command) };
    assert_eq!(result, Err(SubmitError::Invalid));
}

#[test]
fn check_condition_brings_its_sense_data() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| disk.bad_block = Some(7));
    let mut buffer = vec![0; 4 * BLOCK];
    let tag = bench.read(4, &mut buffer);
    bench.run();
    match bench.outcome(tag) {
        Outcome::Status { status: status::CHECK_CONDITION, sense: Some(sense), transferred: 0 } => {
            assert_eq!(sense.key(), super::super::SenseKey::MediumError);
            assert_eq!(sense.block(), Some(7));
        }
        other => panic!("{other:?}"),
    }
    let codes = bench.chip.with_disk(0, |disk| disk.commands.clone());
    assert_eq!(codes, [0x28, 0x03]);
}

#[test]
fn sense_is_fetched_before_anything_else_is_sent() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| {
        disk.faults.push_back(Fault::HangConnected);
        disk.disconnects = false;
        disk.bad_block = Some(50);
    });
    // While the target keeps the bus, two more commands wait in the ring; then the bus is reset and all are tried again.
    let mut buffers = vec![vec![0; BLOCK]; 3];
    let [first, second, third] = &mut buffers[..] else { unreachable!() };
    bench.read(0, first);
    bench.now += 6000;
    bench.run();
    bench.chip.with_disk(0, |disk| {
        disk.commands.clear();
        disk.unit_attention = None;
    });
    bench.now += 1000;
    bench.done.clear();
    let bad = bench.read(50, second);
    let fine = bench.read(3, third);
    bench.run();
    assert!(matches!(
        bench.outcome(bad),
        Outcome::Status { sense: Some(sense), .. } if sense.block() == Some(50)
    ));
    assert_eq!(bench.outcome(fine), good(BLOCK));
    let codes = bench.chip.with_disk(0, |disk| disk.commands.clone());
    assert_eq!(codes, [0x28, 0x03, 0x28]);
}

#[test]
fn busy_and_queue_full_are_handed_on() {
    for code in [status::BUSY, status::QUEUE_FULL] {
        let mut bench = bench();
        bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::Status(code)));
        let mut buffers = vec![vec![0; BLOCK]; 2];
        let [first, second] = &mut buffers[..] else { unreachable!() };
        let busy = bench.read(0, first);
        let fine = bench.read(1, second);
        bench.run();
        assert!(matches!(bench.outcome(busy), Outcome::Status { status, sense: None, .. } if status == code));
        assert_eq!(bench.outcome(fine), good(BLOCK));
    }
}

#[test]
fn short_and_surplus_data() {
    let mut bench = bench();
    let mut buffer = vec![0; 4 * BLOCK];
    bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::Short(600)));
    let tag = bench.read(0, &mut buffer);
    bench.run();
    assert!(matches!(bench.outcome(tag), Outcome::Status { status: 2, transferred, sense: Some(_) }
        if transferred as usize == 4 * BLOCK - 600));
    for write in [false, true] {
        bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::Surplus(200)));
        bench.done.clear();
        let mut whole = vec![0x55; 6 * BLOCK];
        let (inside, outside) = whole.split_at_mut(4 * BLOCK);
        let tag = bench.try_transfer(0, write, 0, &mut [inside], false).unwrap();
        bench.run();
        assert_eq!(bench.outcome(tag), Outcome::Overrun);
        assert!(outside.iter().all(|byte| *byte == 0x55));
    }
}

#[test]
fn targets_may_restore_pointers_and_try_to_negotiate() {
    let mut bench = bench();
    for fault in [Fault::RestorePointers, Fault::Negotiate] {
        bench.chip.with_disk(0, |disk| disk.faults.push_back(fault));
        bench.done.clear();
        let mut buffer = vec![0; 4 * BLOCK];
        let tag = bench.read(8, &mut buffer);
        bench.run();
        assert!(matches!(bench.outcome(tag), Outcome::Status { status: 0, .. }));
        assert_eq!(buffer, bench.contents(8, 4 * BLOCK));
    }
}

#[test]
fn what_makes_no_sense_resets_the_bus() {
    for fault in [Fault::WrongDirection, Fault::BadParity, Fault::StrangeMessage] {
        let mut bench = bench();
        bench.chip.with_disk(0, |disk| disk.faults.push_back(fault.clone()));
        let mut buffer = vec![0; 4 * BLOCK];
        let tag = bench.read(8, &mut buffer);
        bench.run();
        assert_eq!(bench.outcome(tag), Outcome::BusReset, "{fault:?}");
        assert_eq!(bench.chip.with_disk(0, |disk| disk.resets), 1);
        // After the settling time the channel works again.
        bench.done.clear();
        let tag = bench.plain(0, true).unwrap();
        bench.run();
        assert!(matches!(bench.outcome(tag), Outcome::Status { status: 2, sense: Some(sense), .. }
            if sense.additional() == (0x29, 2)));
    }
}

#[test]
fn an_unexpected_disconnect_ends_its_command_only() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::Vanish));
    let mut buffers = vec![vec![0; BLOCK]; 2];
    let [first, second] = &mut buffers[..] else { unreachable!() };
    let lost = bench.read(0, first);
    let fine = bench.read(1, second);
    bench.run();
    assert_eq!(bench.outcome(lost), Outcome::Disconnected);
    assert_eq!(bench.outcome(fine), good(BLOCK));
}

#[test]
fn a_lost_command_is_aborted_then_the_target_reset_then_the_bus() {
    let mut bench = bench();
    let mut buffer = vec![0; BLOCK];
    for (aborts, device_resets, bus_resets) in [(1, 0, 0), (2, 1, 0), (2, 2, 1)] {
        bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::LoseCommand));
        bench.done.clear();
        let tag = bench.read(0, &mut buffer);
        bench.run();
        assert_eq!(bench.outcome(tag), Outcome::TimedOut);
        let counts = bench.chip.with_disk(0, |disk| (disk.aborts, disk.resets));
        assert_eq!(counts, (aborts, device_resets));
        assert_eq!(bench.adapter.statistics().bus_resets, bus_resets);
        bench.chip.with_disk(0, |disk| disk.unit_attention = None);
        bench.now += 1000;
        bench.service();
    }
    bench.done.clear();
    let tag = bench.read(0, &mut buffer);
    bench.run();
    assert_eq!(bench.outcome(tag), good(BLOCK));
}

#[test]
fn a_lost_command_is_noticed_however_many_others_end() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::LoseCommand));
    let mut buffers = vec![vec![0; BLOCK]; 2];
    let [first, second] = &mut buffers[..] else { unreachable!() };
    let lost = bench.read(0, first);
    for _ in 0..1000 {
        let other = bench.read(1, second);
        bench.chip.tick();
        bench.service();
        if bench.done.iter().any(|completion| completion.tag == lost) {
            assert_eq!(bench.outcome(lost), Outcome::TimedOut);
            return;
        }
        assert_eq!(bench.outcome(other), good(BLOCK));
        bench.done.clear();
        bench.now += 20;
    }
    panic!("it waits for ever");
}

#[test]
fn an_abort_takes_the_targets_other_commands_along() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| {
        disk.faults.push_back(Fault::LoseCommand);
        disk.faults.push_back(Fault::LoseCommand);
    });
    let mut buffers = vec![vec![0; BLOCK]; 2];
    let [first, second] = &mut buffers[..] else { unreachable!() };
    let lost = bench.read(0, first);
    bench.now += 3000;
    let younger = bench.read(1, second);
    bench.run();
    assert_eq!(bench.outcome(lost), Outcome::TimedOut);
    assert_eq!(bench.outcome(younger), Outcome::Aborted);
}

#[test]
fn a_target_that_hangs_on_the_bus_or_ignores_an_abort_gets_a_bus_reset() {
    for obeys in [true, false] {
        let mut bench = bench();
        bench.chip.with_disk(0, |disk| {
            disk.obeys_abort = obeys;
            disk.faults.push_back(if obeys { Fault::HangConnected } else { Fault::LoseCommand });
        });
        bench.chip.chip().disks[1] = Some(FakeDisk::new(8));
        let mut buffer = vec![0; BLOCK];
        let tag = bench.read(0, &mut buffer);
        bench.now += 100;
        let waiting = bench.plain(1, true).unwrap();
        bench.run();
        assert_eq!(bench.outcome(tag), Outcome::TimedOut, "{:?}", bench.done);
        assert_eq!(bench.adapter.statistics().bus_resets, 1);
        if obeys {
            let outcome = bench.outcome(waiting);
            assert!(matches!(outcome, Outcome::BusReset | Outcome::TimedOut), "{outcome:?}");
        }
        bench.now += 300;
        bench.service();
        bench.done.clear();
        let tag = bench.plain(1, true).unwrap();
        bench.run();
        assert!(matches!(bench.outcome(tag), Outcome::Status { .. }));
    }
}

#[test]
fn a_pulled_disk_ends_everything_as_gone() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| {
        disk.faults.push_back(Fault::LoseCommand);
        disk.faults.push_back(Fault::LoseCommand);
    });
    let mut buffers = vec![vec![0; BLOCK]; 3];
    let [first, second, third] = &mut buffers[..] else { unreachable!() };
    let tags = [bench.read(0, first), bench.read(1, second)];
    let disk = bench.chip.chip().pull(0);
    bench.run();
    for tag in tags {
        assert_eq!(bench.outcome(tag), Outcome::SelectionTimeOut);
    }
    bench.chip.chip().disks[0] = disk;
    bench.chip.with_disk(0, |disk| disk.faults.clear());
    bench.done.clear();
    let tag = bench.read(0, third);
    bench.run();
    assert_eq!(bench.outcome(tag), good(BLOCK));
}

#[test]
fn someone_elses_bus_reset_is_noticed() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::LoseCommand));
    let mut buffer = vec![0; BLOCK];
    let tag = bench.read(0, &mut buffer);
    bench.chip.chip().bus_reset();
    bench.service();
    assert_eq!(bench.outcome(tag), Outcome::BusReset);
}

#[test]
fn reset_on_demand() {
    let mut bench = bench();
    let mut buffer = vec![0; BLOCK];
    let tag = bench.read(0, &mut buffer);
    let done = &mut bench.done;
    bench.adapter.reset_bus(bench.now, &mut |completion| done.push(completion));
    assert_eq!(bench.outcome(tag), Outcome::BusReset);
    // Commands submitted while the targets settle are started afterwards.
    bench.done.clear();
    let tag = bench.plain(0, true).unwrap();
    assert_eq!(bench.adapter.deadline(), Some(bench.now + 250));
    bench.service();
    assert!(bench.done.is_empty());
    bench.run();
    assert!(matches!(bench.outcome(tag), Outcome::Status { .. }));
}

#[test]
fn a_failure_while_disconnected_is_told_apart_when_alone() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| disk.faults.push_back(Fault::FailAway(3, 0x11, 0)));
    let mut buffer = vec![0; BLOCK];
    let tag = bench.read(0, &mut buffer);
    bench.run();
    assert!(matches!(bench.outcome(tag), Outcome::Status { status: 2, sense: Some(sense), .. }
        if sense.additional() == (0x11, 0)));
}

#[test]
fn a_failure_while_disconnected_aborts_all_when_not_alone() {
    let mut bench = bench();
    bench.chip.with_disk(0, |disk| {
        disk.faults.push_back(Fault::LoseCommand);
        disk.faults.push_back(Fault::FailAway(3, 0x11, 0));
    });
    let mut buffers = vec![vec![0; BLOCK]; 2];
    let [first, second] = &mut buffers[..] else { unreachable!() };
    let tags = [bench.read(0, first), bench.read(1, second)];
    bench.run();
    for tag in tags {
        assert_eq!(bench.outcome(tag), Outcome::Aborted);
    }
    assert_eq!(bench.adapter.statistics().bus_resets, 0);
}

#[test]
fn an_exclusive_command_waits_for_the_others_and_keeps_them_out() {
    let mut bench = bench();
    let mut buffers = vec![vec![0; BLOCK]; 3];
    let [first, second, third] = &mut buffers[..] else { unreachable!() };
    bench.read(0, first);
    let busy = Err(SubmitError::Busy);
    assert_eq!(bench.try_transfer(0, false, 1, &mut [second], true), busy);
    assert_eq!(bench.try_transfer(0, false, 2, &mut [third], false), busy);
    bench.run();
    assert_eq!(bench.try_transfer(0, false, 2, &mut [third], false), busy);
    assert!(bench.try_transfer(0, false, 1, &mut [second], true).is_ok());
    assert_eq!(bench.try_transfer(0, false, 2, &mut [third], false), busy);
    bench.run();
    bench.try_transfer(0, false, 2, &mut [third], false).unwrap();
    bench.run();
}

#[test]
fn a_chip_that_is_not_there_is_an_error() {
    struct Nothing;
    impl Registers for Nothing {
        fn read8(&self, _: usize) -> u8 {
            0xFF
        }
        fn read16(&self, _: usize) -> u16 {
            0xFFFF
        }
        fn read32(&self, _: usize) -> u32 {
            0xFFFF_FFFF
        }
        fn write8(&self, _: usize, _: u8) {}
        fn write16(&self, _: usize, _: u16) {}
        fn write32(&self, _: usize, _: u32) {}
    }
    let result = Adapter::new(Nothing, None, FakeMemory::new(), configuration());
    assert_eq!(result.err(), Some(InitError::Chip));
}
