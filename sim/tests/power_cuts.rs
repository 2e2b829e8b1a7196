//! The whole appliance, with clients at work over the network, loses its power at random moments: its disks are rebuilt as
//! their caches would leave them, and the next start has to have everything by replay alone.
//!
//! `SIM_CUTS` sets the number of cuts of each kind, `SIM_SEED` where to start.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use client::Employee;
use firmware::board::Board;
use firmware::scheduler;
use sim::{DiskFaults, Flash, Handle, Options, RamDisk, Random, SHARES, Simulation};

use storage::format::Kind;
use storage::partition::Layout;
use storage::test_devices::oracle::{self, Covered, Found};
use storage::test_devices::workload::{Diary, Habits, Worker};
use storage::test_devices::{Generator, PowerLog, RamDisk as Memory, judge};

/// Blocks of each disk: the journal is small enough to be filled.
const BLOCKS: u64 = 48 * 2048;

/// Clients at work.
const CLIENTS: usize = 3;

/// What was answered so long before the cut is safe without a FLUSH, in microseconds: two commit intervals.
const SETTLED: u64 = 4_500_000;

/// What the disks are before the work: formatted, empty.
struct Start {
    options: Options,
    disks: Vec<Memory>,
    flash: Flash,
}

/// A run and the diaries of its clients.
struct Run {
    disks: Vec<RamDisk>,
    diaries: Vec<(usize, Diary)>,
    begun: u64,
    ended: u64,
}

fn disks(contents: Vec<Memory>, faults: DiskFaults, random: &mut Random) -> Vec<RamDisk> {
    contents.into_iter().map(|memory| RamDisk::with_contents(memory, faults, random.fork())).collect()
}

fn shares(mirrored: bool) -> &'static [&'static str] {
    if mirrored { &SHARES[..1] } else { &SHARES }
}

impl Start {
    fn new(seed: u64, mirrored: bool) -> Self {
        let options = if mirrored { Options::mirror(seed) } else { Options::new(seed) };
        let options = Options { disk_blocks: BLOCKS, ..options };
        let simulation = Simulation::new(options);
        simulation.client(0, |client| drop(client.mount(SHARES[0])));
        simulation.run_until_clients_end_then_power_off();
        let disks = simulation.disks.iter().map(RamDisk::contents).collect();
        Self { options, disks, flash: simulation.flash }
    }

    /// Lets clients work for some seconds.
    fn work(&self, seed: u64, mirrored: bool) -> Run {
        let mut random = Random::new(seed);
        // Commands that overtake each other.
        let faults = DiskFaults { latency: 50, jitter: 400, ..DiskFaults::default() };
        let contents = self.disks.iter().map(Memory::duplicate).collect();
        let simulation = Simulation::with_disks(
            Options { seed, ..self.options },
            disks(contents, faults, &mut random),
            self.flash.clone(),
        );
        let log = PowerLog::timed(scheduler::now);
        for (number, disk) in simulation.disks.iter().enumerate() {
            disk.record(&log, number);
        }
        let diaries = Rc::new(RefCell::new(Vec::new()));
        let begun = Rc::new(Cell::new(0));
        let shares = shares(mirrored);
        for number in 0..CLIENTS {
            let (diaries, begun, seed) = (diaries.clone(), begun.clone(), random.next_u64());
            simulation.client(number % 2, move |client| {
                let on = number % shares.len();
                let mut files = Employee::new(client.mount(shares[on]).unwrap(), scheduler::now);
                let habits = Habits { longest_write: 30_000, largest_file: 150_000, names: 12 };
                let (root, first_file) = (format!("client {number}"), number as u32 * 1_000_000 + 1);
                let mut worker = Worker::<Handle>::new(seed, &root, first_file, habits);
                worker.begin(&mut files).unwrap();
                // Its directory is safe by the timer.
                scheduler::sleep(SETTLED);
                begun.set(scheduler::now());
                let mut pauses = Generator::new(seed);
                while scheduler::now() < begun.get() + 9_000_000 {
                    worker.step(&mut files).unwrap();
                    scheduler::sleep(pauses.below(60_000));
                }
                diaries.borrow_mut().push((on, worker.diary));
            });
        }
        simulation.run();
        let ended = simulation.board.now();
        Run { disks: simulation.disks.clone(), diaries: diaries.take(), begun: begun.get(), ended }
    }

    /// Cuts the power, perhaps again during recovery, and looks.
    fn cut(&self, run: &Run, mirrored: bool, seed: u64) -> Covered {
        let mut random = Generator::new(seed);
        let moment = run.begun + random.below(run.ended - run.begun);
        let mut contents: Vec<Memory> = run.disks.iter().map(|disk| disk.cut(moment, &mut random)).collect();
        if random.once_in(4) {
            contents = self.cut_again(contents, &mut random);
        }
        let options = Options { seed, ..self.options };
        let simulation = Simulation::with_disks(
            options,
            disks(contents, DiskFaults::default(), &mut Random::new(seed)),
            self.flash.clone(),
        );
        let found: Rc<RefCell<Vec<(usize, String, Found)>>> = Rc::default();
        let roots: Vec<(usize, String)> =
            run.diaries.iter().map(|(on, diary)| (*on, diary.root.clone())).collect();
        let printed: Rc<RefCell<String>> = Rc::default();
        let (seen, board, shown) = (found.clone(), simulation.board, printed.clone());
        simulation.client(0, move |client| {
            for (on, root) in roots {
                let mut files = Employee::new(client.mount(shares(mirrored)[on]).unwrap(), scheduler::now);
                let below = oracle::look(&mut files, &root, &|_| true).unwrap();
                seen.borrow_mut().push((on, root, below));
            }
            let mut equal = !mirrored;
            while !equal {
                shown.borrow_mut().push_str(&board.printed());
                board.type_line("array");
                scheduler::sleep(500_000);
                let state = board.printed();
                shown.borrow_mut().push_str(&state);
                equal = !state.contains("resync") && !state.contains("brought up to date");
                assert!(!equal || state.matches("good").count() == 3, "{state}");
            }
        });
        simulation.run_until_clients_end_then_power_off();
        let mut covered = Covered::default();
        for on in 0..shares(mirrored).len() {
            let diaries: Vec<Diary> =
                run.diaries.iter().filter(|entry| entry.0 == on).map(|entry| entry.1.clone()).collect();
            let found: Vec<Found> = diaries
                .iter()
                .filter_map(|diary| {
                    let found = found.borrow();
                    found.iter().find(|entry| entry.1 == diary.root).map(|entry| entry.2.clone())
                })
                .collect();
            assert_eq!(found.len(), diaries.len());
            let more = oracle::judge(&diaries, &found, moment, moment.saturating_sub(SETTLED));
            let more = more.unwrap_or_else(|text| panic!("cut at {moment}: {text}"));
            covered.files += more.files;
            covered.promised_bytes += more.promised_bytes;
        }
        printed.borrow_mut().push_str(&simulation.board.printed());
        let printed = printed.take();
        // Warnings are usual in a simulation: no seed in flash, a share of a disk that is in the mirror.
        let alarming = |line: &&str| line.contains("ERROR") || line.contains("read-only");
        if let Some(line) = printed.lines().find(alarming) {
            panic!("cut at {moment}: {line}\n{printed}");
        }
        sound(&simulation.disks, mirrored);
        covered
    }

    /// The next start fails as well, somewhere.
    fn cut_again(&self, contents: Vec<Memory>, random: &mut Generator) -> Vec<Memory> {
        let faults = DiskFaults { latency: 50, jitter: 400, ..DiskFaults::default() };
        let disks = disks(contents, faults, &mut Random::new(random.bits()));
        let simulation = Simulation::with_disks(self.options, disks, self.flash.clone());
        let log = PowerLog::timed(scheduler::now);
        for (number, disk) in simulation.disks.iter().enumerate() {
            disk.record(&log, number);
        }
        let end = random.below(300_000);
        let board = simulation.board;
        simulation.appliance.run(move || board.now() >= end);
        simulation.disks.iter().map(|disk| disk.cut(end, random)).collect()
    }
}

/// fsck finds nothing, and a mirror's halves are equal.
fn sound(disks: &[RamDisk], mirrored: bool) {
    let contents: Vec<Arc<Memory>> = disks.iter().map(|disk| Arc::new(disk.contents())).collect();
    let mut parts = Vec::new();
    for disk in &contents {
        let layout = Layout::read(&**disk).unwrap();
        let (private, data) = (layout.private().unwrap(), layout.data().unwrap());
        let from = private.first * 512 + (1 << 20);
        let end = (data.first + data.blocks) * 512;
        let mut mirrored_part = vec![0; (end - from) as usize];
        disk.peek(from, &mut mirrored_part);
        let part = Memory::from_image(&mirrored_part[(data.first * 512 - from) as usize..]);
        judge::fsck(&part, Kind::Exfat).unwrap_or_else(|text| panic!("{text}"));
        parts.push(mirrored_part);
    }
    assert!(!mirrored || parts[0] == parts[1], "the halves differ");
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn cuts(mirrored: bool) {
    let wanted = environment("SIM_CUTS").unwrap_or(if cfg!(target_endian = "big") { 4 } else { 20 });
    let first = environment("SIM_SEED").unwrap_or(0);
    let per_run = wanted.min(20);
    let start = Start::new(first, mirrored);
    let mut promised = 0;
    for seed in first..first + wanted.div_ceil(per_run) {
        let run = start.work(seed, mirrored);
        for number in 0..per_run {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                start.cut(&run, mirrored, seed * per_run + number)
            }));
            match outcome {
                Ok(covered) => promised += covered.promised_bytes,
                Err(_) => panic!("mirrored: {mirrored}, SIM_SEED={seed}, cut {number} of {per_run}"),
            }
        }
    }
    assert!(promised > 0, "nothing was promised, so nothing was tested");
    eprintln!("mirrored: {mirrored}, {wanted} cuts, {promised} promised bytes");
}

#[test]
fn single_volumes_survive_power_cuts() {
    cuts(false);
}

#[test]
fn a_mirror_survives_power_cuts() {
    cuts(true);
}
