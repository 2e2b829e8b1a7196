//! The driver against the fake chip.

use super::fake::{Machine, STATION, Unit};
use super::*;

type Driver = I82559<'static, &'static Machine, &'static Machine>;

/// A frame that says which one it is.
fn frame(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| if i < 14 { number as u8 } else { (number * 31 + i) as u8 }).collect()
}

fn started(
    receive: u16,
    transmit: u16,
) -> (&'static Machine, &'static Port<&'static Machine, &'static Machine>, Driver) {
    let machine = Machine::new();
    let port = Box::leak(Box::new(Port::new(machine, machine)));
    let mut delayed = 0;
    let driver = I82559::start(port, RingSizes { receive, transmit }, &mut |time| delayed += time).unwrap();
    assert!(delayed >= 40, "a reset takes its time");
    (machine, port, driver)
}

fn assert_honest(machine: &Machine) {
    let chip = machine.chip.borrow();
    assert!(chip.violations.is_empty(), "{:?}", chip.violations);
}

/// Takes all frames, each checked against what `frame` makes.
fn take_all(driver: &mut Driver) -> Vec<usize> {
    let (receiver, _) = driver.halves();
    let mut numbers = Vec::new();
    while let Some(bytes) = receiver.front() {
        let number = usize::from(bytes[0]);
        assert_eq!(bytes, frame(number, bytes.len()));
        numbers.push(number);
        receiver.pop();
    }
    numbers
}

/// Queues a frame if there is space.
fn send(driver: &mut Driver, number: usize, length: usize) -> bool {
    let (_, transmitter) = driver.halves();
    let space = transmitter.space() > 0;
    if space {
        transmitter.transmit(length, |bytes| bytes.copy_from_slice(&frame(number, length)));
    }
    space
}

#[test]
fn starts_from_any_state() {
    let (machine, port, mut driver) = started(8, 8);
    assert_eq!(driver.mac_address(), MacAddress(STATION));
    assert!(driver.eeprom_valid());
    assert_eq!(driver.phy_identifier(), Some(0x02A8_0154));
    assert_eq!(driver.link(), Link { up: true, megabits: 100, full_duplex: true });
    {
        let chip = machine.chip.borrow();
        assert_eq!(chip.individual, STATION);
        assert_eq!(chip.configuration, configuration::bytes(true));
        assert_eq!(chip.command_unit, Unit::Suspended);
        assert_eq!(chip.receive_unit, Unit::Active);
    }
    assert!(!machine.interrupting());
    assert!(driver.rest());
    assert!(!machine.interrupting(), "that the command unit went to rest is no reason");
    assert!(!port.acknowledge_interrupt());
    assert_honest(machine);
}

#[test]
fn refuses_what_is_no_chip() {
    let start = |machine: &'static Machine| {
        let port = Box::leak(Box::new(Port::new(machine, machine)));
        I82559::start(port, RingSizes { receive: 8, transmit: 8 }, &mut |_| ()).err()
    };
    let machine = Machine::new();
    machine.chip.borrow_mut().dead = true;
    assert_eq!(start(machine), Some(StartError::Absent));
    let machine = Machine::new();
    machine.chip.borrow_mut().eeprom.clear();
    assert_eq!(start(machine), Some(StartError::NoEeprom));
    let machine = Machine::new();
    machine.chip.borrow_mut().eeprom[0] |= 1;
    assert!(matches!(start(machine), Some(StartError::BadAddress(_))));
    let machine = Machine::new();
    machine.chip.borrow_mut().stepwise = true;
    assert_eq!(start(machine), Some(StartError::Unresponsive));
    let machine = Machine::new();
    let port = Box::leak(Box::new(Port::new(machine, machine)));
    let sizes = RingSizes { receive: 4096, transmit: 8 };
    assert_eq!(I82559::start(port, sizes, &mut |_| ()).err(), Some(StartError::NoMemory));
}

#[test]
fn a_large_eeprom_is_read_as_well() {
    let machine = Machine::new();
    machine.chip.borrow_mut().eeprom.resize(256, 0);
    let port = Box::leak(Box::new(Port::new(machine, machine)));
    let driver = I82559::start(port, RingSizes { receive: 8, transmit: 8 }, &mut |_| ()).unwrap();
    assert_eq!(driver.mac_address(), MacAddress(STATION));
    assert!(driver.eeprom_valid());
    machine.chip.borrow_mut().eeprom[5] ^= 1;
    let driver = I82559::start(port, RingSizes { receive: 8, transmit: 8 }, &mut |_| ()).unwrap();
    assert!(!driver.eeprom_valid());
}

#[test]
fn one_interrupt_for_a_burst_and_none_lost() {
    let (machine, port, mut driver) = started(64, 8);
    assert!(driver.rest());
    assert!(machine.arrive(&frame(1, 60)));
    assert!(machine.interrupting());
    assert!(port.acknowledge_interrupt());
    assert!(!machine.interrupting());
    for number in 2..10 {
        assert!(machine.arrive(&frame(number, 1514)));
    }
    assert!(!machine.interrupting(), "masked until the task rests");
    assert_eq!(take_all(&mut driver), (1..10).collect::<Vec<_>>());
    assert!(driver.rest());
    assert!(!machine.interrupting(), "all that happened was seen");
    // A frame between the last look and the rest.
    assert!(machine.arrive(&frame(10, 100)));
    assert!(port.acknowledge_interrupt());
    assert!(!driver.rest(), "there is work");
    assert!(!machine.interrupting());
    assert_eq!(take_all(&mut driver), [10]);
    assert!(driver.rest());
    assert_honest(machine);
}

#[test]
fn two_frames_can_be_looked_at() {
    let (machine, _, mut driver) = started(8, 8);
    machine.arrive(&frame(1, 60));
    assert!(driver.halves().0.front_pair().is_none());
    machine.arrive(&frame(2, 70));
    machine.arrive_with(&frame(3, 60), STATUS_COMPLETE, 60);
    let (receiver, _) = driver.halves();
    receiver.pop();
    let (first, second) = (frame(2, 70), frame(4, 80));
    assert!(receiver.front_pair().is_none(), "the second is bad");
    receiver.pop();
    machine.arrive(&second);
    machine.arrive(&first);
    assert_eq!(receiver.front_pair(), Some((&second[..], &first[..])));
    assert_eq!(receiver.front(), Some(&second[..]));
    assert_honest(machine);
}

#[test]
fn the_receive_ring_wraps_many_times() {
    for size in [2, 3, 8, 33, 64] {
        for status_first in [false, true] {
            let (machine, _, mut driver) = started(size, 8);
            machine.chip.borrow_mut().status_first = status_first;
            let mut next = 0;
            for round in 0..200usize {
                let burst = round % usize::from(size).min(5);
                let numbers: Vec<usize> = (0..burst).map(|i| (next + i) % 256).collect();
                next += burst;
                let mut dropped = false;
                for number in &numbers {
                    // A small ring may run full: the chip drops, and goes on when it is told.
                    dropped |= !machine.arrive(&frame(*number, 60 + round * 7));
                }
                let taken = take_all(&mut driver);
                assert!(taken == numbers || dropped, "size {size} round {round}: {taken:?} of {numbers:?}");
                assert!(driver.rest());
            }
            assert_honest(machine);
        }
    }
}

#[test]
fn a_full_ring_stalls_and_recovers() {
    let (machine, port, mut driver) = started(32, 8);
    assert!(driver.rest());
    for number in 0..32 {
        assert!(machine.arrive(&frame(number, 200)), "{number}");
    }
    assert_eq!(machine.chip.borrow().receive_unit, Unit::NoResources);
    assert!(!machine.arrive(&frame(99, 200)));
    assert!(port.acknowledge_interrupt());
    driver.service();
    // Restarted as soon as some are free, with the others still waiting.
    let (receiver, _) = driver.halves();
    for _ in 0..8 {
        assert!(receiver.front().is_some());
        receiver.pop();
    }
    assert_eq!(machine.chip.borrow().receive_unit, Unit::Active);
    for number in 32..40 {
        assert!(machine.arrive(&frame(number, 200)));
    }
    assert!(!machine.arrive(&frame(98, 200)), "full again");
    driver.service();
    assert_eq!(take_all(&mut driver), (8..40).collect::<Vec<_>>());
    assert!(driver.rest(), "nothing waits");
    assert_eq!(machine.chip.borrow().receive_unit, Unit::Active);
    assert!(machine.arrive(&frame(41, 200)));
    assert_eq!(take_all(&mut driver), [41]);
    driver.supervise(&mut |_| ());
    driver.supervise(&mut |_| ());
    let statistics = driver.statistics();
    assert_eq!((statistics.receive_stalls, statistics.receive_dropped), (2, 2));
    assert_eq!(statistics.received_frames, 41);
    assert_honest(machine);
}

#[test]
fn a_stale_report_does_not_restart_a_running_unit() {
    let (machine, _, mut driver) = started(8, 8);
    for number in 0..8 {
        machine.arrive(&frame(number, 64));
    }
    assert!(!driver.rest());
    // Dropped after the report was taken, before the restart.
    machine.arrive(&frame(100, 64));
    assert_eq!(take_all(&mut driver).len(), 8);
    machine.chip.borrow_mut().causes |= CAUSE_RECEIVE_NOT_READY;
    assert!(driver.rest());
    assert!(driver.rest());
    for number in 0..20 {
        assert!(machine.arrive(&frame(number, 64)));
        assert_eq!(take_all(&mut driver), [number]);
    }
    assert_honest(machine);
}

#[test]
fn the_supervisor_finds_a_stopped_receiver() {
    let (machine, _, mut driver) = started(8, 8);
    machine.chip.borrow_mut().receive_unit = Unit::Idle;
    driver.supervise(&mut |_| ());
    assert_eq!(machine.chip.borrow().receive_unit, Unit::Active);
    assert!(machine.arrive(&frame(1, 64)));
    assert_eq!(take_all(&mut driver), [1]);
}

#[test]
fn bad_frames_are_dropped_and_their_buffers_used_again() {
    let (machine, _, mut driver) = started(8, 8);
    for _ in 0..10 {
        machine.arrive(&frame(1, 60));
        machine.arrive_with(&frame(2, 60), STATUS_COMPLETE | 0x0800, 60);
        machine.arrive_with(&frame(3, 60), STATUS_COMPLETE | STATUS_OK, 13);
        // More than a buffer: a chip that lies.
        machine.arrive_with(&frame(4, 60), STATUS_COMPLETE | STATUS_OK, 0x3FFF);
        machine.arrive_with(&frame(5, 1518), STATUS_COMPLETE | STATUS_OK, 1518);
        // With EOF and F, as the manual has it.
        machine.arrive_with(&frame(6, 60), STATUS_COMPLETE | STATUS_OK, 60 | 0xC000);
        assert_eq!(take_all(&mut driver), [1, 6]);
    }
    assert_eq!(driver.statistics().receive_refused, 40);
    assert_honest(machine);
}

#[test]
fn a_lying_chip_stays_within_its_frames() {
    let (machine, _, mut driver) = started(8, 8);
    // Every descriptor "complete" for ever, lengths at random: only ever slices of a buffer.
    let (base, mut random) = (machine.next_descriptor(), 1u32);
    for _ in 0..1000 {
        for index in 0..8 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let chip = &mut *machine.chip.borrow_mut();
            machine.write(chip, base + index * 1536, &0xA000u16.to_le_bytes());
            machine.write(chip, base + index * 1536 + 12, &(random >> 16).to_le_bytes());
        }
        let (receiver, _) = driver.halves();
        for _ in 0..20 {
            if let Some(bytes) = receiver.front() {
                assert!((14..=1514).contains(&bytes.len()));
            }
            receiver.pop();
        }
        driver.rest();
    }
}

#[test]
fn transmission_is_batched_and_wraps() {
    let (machine, _, mut driver) = started(8, 64);
    let before = machine.chip.borrow().kicks;
    for number in 0..10 {
        assert!(send(&mut driver, number, 60 + number));
    }
    assert!(machine.chip.borrow().sent.is_empty(), "no doorbell yet");
    driver.halves().1.flush();
    assert_eq!(machine.chip.borrow().kicks, before + 1);
    for number in 0..10 {
        assert_eq!(machine.chip.borrow_mut().sent.pop_front().unwrap(), frame(number, 60 + number));
    }
    // More than the chip takes a kick, more than the ring holds.
    for number in 0..500 {
        assert!(send(&mut driver, number, 60 + number));
    }
    driver.halves().1.flush();
    let kicks = machine.chip.borrow().kicks - before - 1;
    assert!(kicks <= 500usize.div_ceil(16) + 1, "{kicks} doorbells for 500 frames");
    for number in 0..500 {
        assert_eq!(machine.chip.borrow_mut().sent.pop_front().unwrap(), frame(number, 60 + number));
    }
    assert!(driver.rest());
    assert!(!machine.interrupting(), "sent frames interrupt nobody");
    let (_, transmitter) = driver.halves();
    for length in [0, 13, 1515, 100_000] {
        transmitter.transmit(length, |bytes| bytes.fill(1));
    }
    transmitter.flush();
    assert!(machine.chip.borrow().sent.is_empty(), "no frame has such a length");
    assert_honest(machine);
}

#[test]
fn a_slow_chip_is_refilled_while_it_works() {
    let (machine, port, mut driver) = started(8, 16);
    machine.chip.borrow_mut().stepwise = true;
    let (mut queued, mut seed) = (0, 7u32);
    let mut received = 0;
    while received < 300 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Every interleaving of filling, kicking, beginning and finishing.
        match seed >> 29 {
            0 | 1 => queued += usize::from(send(&mut driver, queued, 64)),
            2 => driver.halves().1.flush(),
            3 | 4 => drop(machine.begin_block()),
            5 => machine.finish_block(),
            6 => {
                machine.finish_block();
                machine.begin_block();
            }
            _ => {
                driver.rest();
                while let Some(sent) = machine.chip.borrow_mut().sent.pop_front() {
                    assert_eq!(sent, frame(received, 64));
                    received += 1;
                }
            }
        }
        if machine.interrupting() {
            assert!(port.acknowledge_interrupt());
        }
    }
    assert_honest(machine);
}

#[test]
fn a_full_transmit_ring_interrupts_when_there_is_room() {
    let (machine, port, mut driver) = started(8, 16);
    machine.chip.borrow_mut().stepwise = true;
    while send(&mut driver, 1, 64) {}
    driver.halves().1.transmit(64, |bytes| bytes.fill(2));
    assert!(driver.rest(), "full: sleep");
    assert!(!machine.interrupting());
    while machine.begin_block() {
        machine.finish_block();
    }
    assert!(machine.interrupting());
    assert!(port.acknowledge_interrupt());
    assert_eq!(driver.halves().1.space(), 16);
    assert!(send(&mut driver, 2, 64));
    assert_honest(machine);
}

#[test]
fn groups_are_listened_to() {
    let (machine, _, mut driver) = started(8, 8);
    let groups = [MacAddress([0x33, 0x33, 0, 0, 0, 1]), MacAddress([1, 0, 0x5E, 0, 0, 0xFB])];
    assert!(driver.set_multicast(MulticastFilter::List(&groups)));
    assert_eq!(machine.chip.borrow().groups, groups.map(|group| group.0));
    assert_eq!(machine.chip.borrow().configuration, configuration::bytes(false));
    assert!(driver.set_multicast(MulticastFilter::All));
    assert_eq!(machine.chip.borrow().configuration, configuration::bytes(true));
    // More than a command can hold.
    assert!(driver.set_multicast(MulticastFilter::List(&[groups[0]; 300])));
    assert_eq!(machine.chip.borrow().configuration, configuration::bytes(true));
    assert_honest(machine);
}

#[test]
fn a_chip_that_stops_sending_is_reset() {
    let (machine, port, mut driver) = started(8, 8);
    machine.chip.borrow_mut().stepwise = true;
    while send(&mut driver, 1, 64) {}
    let resets = machine.chip.borrow().resets;
    driver.supervise(&mut |_| ());
    machine.begin_block();
    machine.finish_block();
    driver.supervise(&mut |_| ());
    assert_eq!(machine.chip.borrow().resets, resets, "slow is not dead");
    machine.chip.borrow_mut().stepwise = false;
    driver.supervise(&mut |_| ());
    assert_eq!(machine.chip.borrow().resets, resets + 2);
    assert_eq!(driver.statistics().restarts, 1);
    machine.chip.borrow_mut().sent.clear();
    assert!(send(&mut driver, 5, 64));
    assert!(!driver.rest(), "buffers were missing, and are free now");
    assert!(driver.rest());
    assert_eq!(machine.chip.borrow_mut().sent.pop_front().unwrap(), frame(5, 64));
    machine.arrive(&frame(6, 64));
    assert!(port.acknowledge_interrupt());
    assert_eq!(take_all(&mut driver), [6]);
    assert_honest(machine);
}

#[test]
fn counters_add_up() {
    let (machine, _, mut driver) = started(8, 8);
    for round in 1..=3 {
        machine.chip.borrow_mut().counters = std::array::from_fn(|index| index as u32);
        driver.supervise(&mut |_| ());
        driver.supervise(&mut |_| ());
        let statistics = driver.statistics();
        assert_eq!(statistics.transmit_errors, round * (1 + 2 + 3 + 4));
        assert_eq!(statistics.receive_errors, round * (10 + 11 + 13 + 14 + 15));
        assert_eq!(statistics.receive_dropped, round * 12);
    }
}
