use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

use super::*;

/// A clock that jumps to the deadline when everybody waits.
#[derive(Default)]
struct Jumping {
    now: Cell<u64>,
    events: Cell<u32>,
}

impl Machine for Jumping {
    fn now(&self) -> u64 {
        self.now.get()
    }
    fn ticks(&self) -> u32 {
        0
    }
    fn take_events(&self) -> u32 {
        self.events.take()
    }
    fn idle(&self, deadline: Option<u64>) {
        match deadline {
            Some(deadline) => self.now.set(deadline.max(self.now.get())),
            None => panic!("everybody waits for ever"),
        }
    }
}

fn machine() -> &'static Jumping {
    Box::leak(Box::default())
}

#[test]
fn threads_take_turns_and_end() {
    let trace = Rc::new(RefCell::new(Vec::new()));
    for id in 0..3 {
        let trace = trace.clone();
        spawn("turn", 0, move || {
            for step in 0..3 {
                trace.borrow_mut().push((id, step));
                yield_now();
            }
        })
        .unwrap();
    }
    run(machine(), || threads().is_empty());
    assert_eq!(*trace.borrow(), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]);
}

#[test]
fn deadlines_come_in_order() {
    let trace = Rc::new(RefCell::new(Vec::new()));
    for wait in [300u64, 100, 200] {
        let trace = trace.clone();
        spawn("sleeper", 0, move || {
            sleep(wait);
            trace.borrow_mut().push((wait, now()));
        })
        .unwrap();
    }
    run(machine(), || threads().is_empty());
    assert_eq!(*trace.borrow(), [(100, 100), (200, 200), (300, 300)]);
}

#[test]
fn an_event_wakes_or_times_out() {
    static EVENT: Event = Event::new();
    let machine = machine();
    spawn("waiter", 0, move || {
        assert!(!EVENT.wait_until(50));
        assert_eq!(now(), 50);
        assert!(EVENT.wait_until(10_000));
        assert_eq!(now(), 80);
        EVENT.wait();
    })
    .unwrap();
    spawn("signaller", 0, move || {
        sleep_until(80);
        EVENT.signal();
        sleep_until(90);
        // As an interrupt handler would.
        machine.events.set(1 << 3);
    })
    .unwrap();
    bind(1 << 3, &EVENT);
    run(machine, || threads().is_empty());
    assert_eq!(machine.now.get(), 90);
}

#[test]
fn a_mutex_is_held_across_waits_and_passed_on() {
    let value: &'static Mutex<Vec<u32>> = Box::leak(Box::new(Mutex::new(Vec::new())));
    for id in 0..4 {
        spawn("locker", 0, move || {
            for _ in 0..2 {
                let mut guard = value.lock();
                guard.push(id);
                sleep(10);
                guard.push(id);
            }
        })
        .unwrap();
    }
    run(machine(), || threads().is_empty());
    let trace = value.lock().clone();
    assert_eq!(trace, [0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn no_more_than_sixty_four() {
    for _ in 0..MAXIMUM_THREADS {
        spawn("one of many", 0, || ()).unwrap();
    }
    assert_eq!(spawn("too many", 0, || ()), Err(TooManyThreads));
    run(machine(), || threads().is_empty());
    assert!(spawn("again", 0, || ()).is_ok());
    run(machine(), || threads().is_empty());
}

#[test]
fn callee_saved_registers_survive_a_switch() {
    let sums = Rc::new(RefCell::new(Vec::new()));
    for seed in 1..8u64 {
        let sums = sums.clone();
        spawn("sums", 0, move || {
            // More live values than there are volatile registers, integer and floating point.
            let mut integers = [seed; 24];
            let mut floats = [seed as f64; 24];
            for round in 0..10u64 {
                for (index, value) in integers.iter_mut().enumerate() {
                    *value = value.wrapping_mul(31).wrapping_add(round + index as u64);
                }
                floats.iter_mut().for_each(|value| *value += 0.5);
                yield_now();
            }
            sums.borrow_mut().push((
                seed,
                integers.iter().fold(0u64, |a, b| a ^ b),
                floats.iter().sum::<f64>(),
            ));
        })
        .unwrap();
    }
    run(machine(), || threads().is_empty());
    for &(seed, integer, float) in sums.borrow().iter() {
        let mut integers = [seed; 24];
        for round in 0..10u64 {
            for (index, value) in integers.iter_mut().enumerate() {
                *value = value.wrapping_mul(31).wrapping_add(round + index as u64);
            }
        }
        assert_eq!(integer, integers.iter().fold(0, |a, b| a ^ b));
        assert_eq!(float, (seed as f64 + 5.0) * 24.0);
    }
    assert_eq!(sums.borrow().len(), 7);
}

#[test]
fn dropping_suspended_threads() {
    let reached = Rc::new(Cell::new(false));
    let inside = reached.clone();
    spawn("stuck", 0, move || {
        let _held = alloc::vec![0u8; 100];
        inside.set(true);
        sleep(1000);
        unreachable!("nobody runs the loop that long");
    })
    .unwrap();
    let stop = reached.clone();
    run(machine(), move || stop.get());
    assert!(threads().is_empty());
}
