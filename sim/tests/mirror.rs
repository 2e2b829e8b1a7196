//! The whole appliance over a mirror: a disk fails, comes back, is replaced; the other fails; nobody notices.

use std::cell::Cell;
use std::rc::Rc;

use firmware::scheduler;
use sim::{Client, DiskFaults, Options, RamDisk, Random, SHARES, Simulation};
use storage::format::{Kind, Options as Wish};
use storage::partition::Layout;
use storage::test_devices::{Generator, PowerLog, RamDisk as Memory};

/// Bytes of a piece of a file.
const PIECE: usize = 32 * 1024;

/// What client `number` has in piece `piece` of its file in round `round`.
fn content(number: u64, round: u64, piece: u64) -> Vec<u8> {
    let mut random = Random::new(number << 32 ^ round << 16 ^ piece);
    (0..PIECE / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect()
}

/// Writes and verifies in rounds until `stop`; every request has to succeed. Says how many rounds there were.
fn work(client: &Client, number: u64, stop: &Cell<bool>) -> u64 {
    const PIECES: u64 = 6;
    let mut smb = client.mount(SHARES[0]).unwrap();
    let mut round = 0;
    while !stop.get() {
        let handle = smb.create_file(&format!("client {number}, file {round}")).unwrap();
        for piece in 0..PIECES {
            smb.write(handle, piece * PIECE as u64, &content(number, round, piece)).unwrap();
        }
        smb.flush(handle).unwrap();
        for piece in 0..PIECES {
            let back = smb.read(handle, piece * PIECE as u64, PIECE as u32).unwrap();
            assert!(back == content(number, round, piece), "client {number}, round {round}, piece {piece}");
        }
        smb.close(handle).unwrap();
        round += 1;
        // Somebody reads what was written before.
        if let Some(before) = round.checked_sub(3) {
            let name = format!("client {number}, file {before}");
            let handle = smb.open_file(&name).unwrap();
            assert!(smb.read(handle, 0, PIECE as u32).unwrap() == content(number, before, 0));
            smb.close(handle).unwrap();
            smb.remove(&name).unwrap();
        }
        scheduler::sleep(150_000);
    }
    round
}

/// What the console shows for a command.
fn console(simulation: &'static Simulation, line: &str) -> String {
    simulation.board.printed();
    simulation.board.type_line(line);
    scheduler::sleep(1_000_000);
    simulation.board.printed()
}

/// Waits until `array` shows `text`.
fn wait_for(simulation: &'static Simulation, text: &str) {
    for _ in 0..600 {
        if console(simulation, "array").contains(text) {
            return;
        }
    }
    panic!("the array is never {text}:\n{}\n{}", console(simulation, "array"), console(simulation, "log 30"));
}

/// Whether both disks hold the same from behind the array's records on.
fn assert_equal(disks: &[RamDisk]) {
    let start = (1 << 20) + (1 << 20);
    // The last MiB has the tables' backups.
    let end = disks[0].bytes() - (1 << 20);
    let mut offset = start;
    while offset < end {
        let length = (end - offset).min(1 << 20) as usize;
        assert!(disks[0].peek(offset, length) == disks[1].peek(offset, length), "they differ near {offset}");
        offset += length as u64;
    }
}

/// A machine that lives as long as its threads need it.
fn machine(options: Options) -> &'static Simulation {
    Box::leak(Box::new(Simulation::new(options)))
}

/// Four clients that work until `body` has ended.
fn under_load(simulation: &'static Simulation, body: impl FnOnce() + 'static) {
    let stop = Rc::new(Cell::new(false));
    for number in 0..4 {
        let stop = stop.clone();
        simulation.client((number % 2) as usize, move |client| {
            assert!(work(client, number, &stop) > 2);
        });
    }
    simulation.client(0, move |_| {
        scheduler::sleep(2_000_000);
        body();
        stop.set(true);
    });
    simulation.run_until_clients_end_then_power_off();
}

#[test]
fn either_disk_may_go_and_come_back_under_load() {
    let mut options = Options::mirror(20);
    options.disk = DiskFaults { latency: 200, jitter: 400, ..DiskFaults::default() };
    options.disk_blocks = 128 * 1024;
    let simulation = machine(options);
    under_load(simulation, move || {
        for victim in [1, 0] {
            simulation.disks[victim].set_gone(true);
            scheduler::sleep(5_000_000);
            let shown = console(simulation, "array");
            assert!(shown.contains("degraded"), "{shown}");
            simulation.disks[victim].set_gone(false);
            wait_for(simulation, "array: good");
        }
    });
    assert_equal(&simulation.disks);
}

/// Types a command and, after it asks, `yes`.
fn confirmed(simulation: &'static Simulation, line: &str) -> String {
    let asked = console(simulation, line);
    assert!(asked.contains("Type yes"), "{line}: {asked}");
    console(simulation, "yes")
}

/// A machine of small disks.
fn small(options: Options) -> Options {
    Options { disk_blocks: 64 * 1024, ..options }
}

/// Runs one client's `body` to its end and switches off.
fn alone(simulation: &'static Simulation, body: impl FnOnce(&Client) + 'static) {
    simulation.client(0, body);
    simulation.run_until_clients_end_then_power_off();
}

/// The next power-on of a machine, with these disks.
fn next(options: Options, before: &Simulation, disks: [RamDisk; 2]) -> &'static Simulation {
    Box::leak(Box::new(Simulation::with_disks(options, disks.into(), before.flash.clone())))
}

fn put(client: &Client, name: &str, value: u8) {
    let mut smb = client.mount(SHARES[0]).unwrap();
    let handle = smb.create_file(name).unwrap();
    smb.write(handle, 0, &[value; 50_000]).unwrap();
    smb.flush(handle).unwrap();
    smb.close(handle).unwrap();
}

fn get(client: &Client, share: &str, name: &str) -> Option<u8> {
    let mut smb = client.mount(share).unwrap();
    let handle = smb.open_file(name).ok()?;
    let back = smb.read(handle, 0, 50_000).unwrap();
    smb.close(handle).unwrap();
    assert!(back.len() == 50_000 && back.iter().all(|&byte| byte == back[0]));
    Some(back[0])
}

fn blank(options: Options, seed: u64) -> RamDisk {
    RamDisk::new(options.disk_blocks + 3000, DiskFaults::default(), Random::new(seed))
}

#[test]
fn a_disk_is_replaced_by_a_blank_one_and_by_a_used_one_after_a_question() {
    let options = small(Options::mirror(21));
    let first = machine(options);
    alone(first, |client| put(client, "kept", 1));
    let used = machine(small(Options::new(22)));
    alone(used, |client| put(client, "of another", 9));
    let [one, two] = [first.disks[0].clone(), first.disks[1].clone()];
    assert_equal(&first.disks);

    // A dead twin at the start, a larger blank disk in its place: taken by itself.
    let fresh = blank(options, 1);
    let second = next(options, first, [one.clone(), fresh.clone()]);
    let share = one.clone();
    alone(second, move |client| {
        assert_eq!(get(client, SHARES[0], "kept"), Some(1));
        wait_for(second, "array: good");
        put(client, "later", 2);
    });
    assert_equal(&[share, fresh.clone()]);

    // The disk that was replaced comes back: it is not believed, nor overwritten.
    let third = next(options, second, [one.clone(), two.clone()]);
    alone(third, |client| {
        assert_eq!(get(client, SHARES[0], "later"), Some(2));
        let shown = console(third, "array");
        assert!(shown.contains("degraded") && shown.contains("missing"), "{shown}");
        assert!(console(third, "disks").contains("of an array"));
    });

    // A disk with files of its own is left alone until somebody says otherwise.
    let foreign = used.disks[0].clone();
    let fourth = next(options, third, [one.clone(), foreign.clone()]);
    let pair = [one.clone(), foreign];
    alone(fourth, move |client| {
        assert!(console(fourth, "array").contains("degraded"));
        let listed = console(fourth, "disks");
        assert!(listed.contains("online"), "{listed}");
        let done = confirmed(fourth, "array add 1");
        assert!(done.contains("brought up to date"), "{done}");
        wait_for(fourth, "array: good");
        assert_eq!(get(client, SHARES[0], "later"), Some(2));
    });
    assert_equal(&pair);
}

#[test]
fn disks_that_went_separate_ways_are_refused_until_somebody_chooses() {
    let options = small(Options::mirror(23));
    let first = machine(options);
    alone(first, |client| put(client, "common", 1));
    let [one, two] = [first.disks[0].clone(), first.disks[1].clone()];
    let absent = || {
        let disk = blank(Options::mirror(0), 9);
        disk.set_gone(true);
        disk
    };
    let only_one = next(options, first, [one.clone(), absent()]);
    alone(only_one, |client| put(client, "by one", 2));
    let only_two = next(options, first, [absent(), two.clone()]);
    alone(only_two, |client| put(client, "by two", 3));

    let both = next(options, first, [one.clone(), two.clone()]);
    let pair = [one, two];
    alone(both, move |client| {
        assert!(client.mount(SHARES[0]).is_err());
        let shown = console(both, "array");
        assert!(shown.contains("each disk was used without the other"), "{shown}");
        // Nothing but a choice changes that.
        confirmed(both, "array add 1");
        assert!(client.mount(SHARES[0]).is_err());
        let done = confirmed(both, "array choose 1");
        assert!(done.contains("goes on with disk 1"), "{done}");
        assert_eq!(get(client, SHARES[0], "by two"), Some(3));
        assert_eq!(get(client, SHARES[0], "by one"), None);
        // The other's files can still be saved.
        console(both, "share add saved 1");
        assert_eq!(get(client, "saved", "by one"), Some(2));
        let done = confirmed(both, "array add 0");
        assert!(done.contains("brought up to date"), "{done}");
        wait_for(both, "array: good");
        assert_eq!(get(client, SHARES[0], "by two"), Some(3));
    });
    assert_equal(&pair);
}

#[test]
fn a_single_disk_grows_into_a_mirror_and_a_mirror_is_split() {
    let options = small(Options::new(24));
    let simulation = machine(options);
    let disks = simulation.disks.clone();
    alone(simulation, move |client| {
        put(client, "kept", 4);
        let done = confirmed(simulation, "array add 1");
        assert!(done.contains("brought up to date"), "{done}");
        wait_for(simulation, "array: good");
        assert_eq!(get(client, SHARES[0], "kept"), Some(4));
        assert!(client.mount(SHARES[1]).is_err());
        // Compared, with a difference that nobody has written.
        simulation.disks[1].poke_block(30_000, 77);
        console(simulation, "array scrub");
        wait_for(simulation, "1 blocks differed");
        let done = confirmed(simulation, "array fail 0");
        assert!(done.contains("out of the array"), "{done}");
        put(client, "by one alone", 5);
        // Somebody took it out: it does not come back by itself.
        scheduler::sleep(60_000_000);
        assert!(console(simulation, "array").contains("failed"));
        assert!(console(simulation, "array fail 1").contains("Type yes"));
        assert!(console(simulation, "yes").contains("Not done"));
        console(simulation, "array add 0");
        wait_for(simulation, "array: good");
        let done = confirmed(simulation, "array split");
        assert!(done.contains("no array"), "{done}");
        for share in SHARES {
            assert_eq!(get(client, share, "by one alone"), Some(5));
        }
        // And together again, empty.
        let done = confirmed(simulation, "array create");
        assert!(done.contains("is there"), "{done}");
        wait_for(simulation, "array: good");
        assert_eq!(get(client, SHARES[0], "kept"), None);
        put(client, "new", 6);
    });
    assert_equal(&disks);
}

#[test]
fn unreadable_places_and_failed_writes_of_one_disk_do_not_reach_clients() {
    let options = small(Options::mirror(25));
    let simulation = machine(options);
    under_load(simulation, move || {
        simulation.disks[0].set_faults(DiskFaults { read_errors_one_in: 3, ..DiskFaults::default() });
        scheduler::sleep(3_000_000);
        simulation.disks[0].set_faults(DiskFaults::default());
        assert!(console(simulation, "array").contains("array: good"));
        // A disk that fails writes is out, and has a second chance.
        simulation.disks[1].set_faults(DiskFaults { write_errors_one_in: 5, ..DiskFaults::default() });
        wait_for(simulation, "degraded");
        simulation.disks[1].set_faults(DiskFaults::default());
        wait_for(simulation, "array: good");
    });
    assert_equal(&simulation.disks);
}

#[test]
fn both_disks_gone_and_back_is_only_a_pause() {
    let options = small(Options::mirror(26));
    let simulation = machine(options);
    alone(simulation, move |client| {
        put(client, "before", 7);
        scheduler::sleep(10_000_000);
        simulation.disks.iter().for_each(|disk| disk.set_gone(true));
        let mut smb = client.mount(SHARES[0]).unwrap();
        let outcome = smb.create_file("while away").and_then(|handle| smb.flush(handle));
        assert!(outcome.is_err());
        scheduler::sleep(10_000_000);
        simulation.disks.iter().for_each(|disk| disk.set_gone(false));
        wait_for(simulation, "array: good");
        assert_eq!(get(client, SHARES[0], "before"), Some(7));
        put(client, "after", 8);
    });
    assert_equal(&simulation.disks);
}

#[test]
fn a_volume_is_removed_with_its_shares_and_the_disks_serve_again() {
    let options = small(Options::mirror(27));
    let first = machine(options);
    let disks = first.disks.clone();
    alone(first, move |client| {
        put(client, "lost", 1);
        let asked = console(first, "volume del 0");
        assert_eq!(asked.matches("Everything on disk").count(), 2, "{asked}");
        assert!(asked.contains("shares go with it: data."), "{asked}");
        assert!(console(first, "no").contains("Nothing done"));
        assert_eq!(get(client, SHARES[0], "lost"), Some(1));
        let done = confirmed(first, "volume del 0");
        assert!(done.contains("Volume 0 is gone"), "{done}");
        assert!(client.mount(SHARES[0]).is_err());
        assert!(console(first, "array").contains("There is no array"));
        let listed = console(first, "share list");
        assert!(!listed.contains("data ") && listed.contains(SHARES[1]), "{listed}");
        let shown = console(first, "volume del 0");
        assert!(shown.contains("There is no volume 0"), "{shown}");
        for disk in &first.disks {
            let end = disk.bytes() as usize - (1 << 20);
            assert!(
                disk.peek(0, 1 << 20).iter().chain(&disk.peek(end as u64, 1 << 20)).all(|&byte| byte == 0)
            );
        }
        // One serves alone, and is given away again.
        assert!(confirmed(first, "format 1").contains("is formatted"));
        assert!(client.mount(SHARES[1]).is_ok());
        assert!(confirmed(first, "volume del 1").contains("Volume 1 is gone"));
        assert!(client.mount(SHARES[1]).is_err());
    });
    // A start finds nothing to take into use by itself.
    let second = next(options, first, [disks[0].clone(), disks[1].clone()]);
    alone(second, move |client| {
        assert!(console(second, "array").contains("There is no array"));
        let listed = console(second, "disks");
        assert_eq!(listed.matches("no volume").count(), 2, "{listed}");
        assert!(console(second, "share list").lines().count() < 5);
        assert!(confirmed(second, "array create").contains("is there"));
        console(second, "share add data 0");
        assert_eq!(get(client, SHARES[0], "lost"), None);
        put(client, "new", 2);
        wait_for(second, "array: good");
    });
    assert_equal(&disks);
}

/// Bytes free on the disk's volume, as `disks` shows them for the first, in MiB.
fn free(simulation: &'static Simulation) -> f64 {
    let shown = console(simulation, "disks");
    let line = shown.lines().find(|line| line.contains("exFAT")).unwrap_or_else(|| panic!("{shown}"));
    let mut words = line.split_whitespace().rev();
    assert_eq!(words.next(), Some("MiB"), "{line}");
    words.next().and_then(|number| number.parse().ok()).unwrap()
}

/// A disk that is larger than those of `options`, with different garbage on it each, but blank where that is looked for.
fn larger(options: Options, seed: u64, more: u64) -> RamDisk {
    let blocks = options.disk_blocks * 2 + more;
    let disk = RamDisk::new(blocks, DiskFaults::default(), Random::new(seed));
    (4096..blocks - 4096).step_by(500).for_each(|block| disk.poke_block(block, seed as u8));
    disk
}

#[test]
fn both_disks_of_a_mirror_are_replaced_by_larger_ones_and_the_volume_grows() {
    let options = small(Options::mirror(28));
    let first = machine(options);
    let one = first.disks[0].clone();
    alone(first, move |client| {
        put(client, "kept", 1);
        assert!(confirmed(first, "volume grow 0").contains("all the room there is"));
        assert_eq!(get(client, SHARES[0], "kept"), Some(1));
    });
    let [new_one, new_two] = [larger(options, 3, 0), larger(options, 4, 5000)];
    let second = next(options, first, [one.clone(), new_two.clone()]);
    alone(second, move |client| {
        wait_for(second, "array: good");
        assert!(confirmed(second, "volume grow 0").contains("all the room there is"));
        put(client, "later", 2);
    });
    let third = next(options, second, [new_one.clone(), new_two.clone()]);
    let pair = [new_one.clone(), new_two.clone()];
    alone(third, move |client| {
        wait_for(third, "array: good");
        let before = free(third);
        let done = confirmed(third, "volume grow 0");
        assert!(done.contains("has grown from"), "{done}");
        let after = free(third);
        assert!(after > before + 28.0, "{before} {after}");
        assert_eq!((get(client, SHARES[0], "kept"), get(client, SHARES[0], "later")), (Some(1), Some(2)));
        put(client, "in new room", 3);
        // What was different in the new room is equal after a while, without being called damage.
        for _ in 0..600 {
            let shown = console(third, "array");
            assert!(shown.contains("array: good") && !shown.contains("differed"), "{shown}");
            if !shown.contains("scrub:") {
                break;
            }
        }
        let shown = confirmed(third, "check 0");
        assert!(shown.contains("Nothing is wrong"), "{shown}");
        assert!(confirmed(third, "volume grow 0").contains("all the room there is"));
        console(third, "array scrub");
        wait_for(third, "0 blocks differed");
    });
    assert_equal(&pair);
    // A disk from before is left out.
    let fourth = next(options, third, [one, new_two]);
    alone(fourth, move |client| {
        assert_eq!(get(client, SHARES[0], "in new room"), Some(3));
        assert!(confirmed(fourth, "volume grow 0").contains("have to be good"));
    });
}

#[test]
fn a_single_volume_that_was_cloned_to_a_larger_disk_grows() {
    let options = small(Options::new(29));
    let first = machine(options);
    alone(first, move |client| put(client, "kept", 1));
    let clones = [0, 1].map(|number| {
        let disk = larger(options, 5 + number, 0);
        let old = &first.disks[number as usize];
        let contents = Memory::new(options.disk_blocks * 2, 512);
        contents.poke(0, &old.peek(0, old.bytes() as usize));
        let rest = disk.peek(old.bytes(), (disk.bytes() - old.bytes()) as usize);
        contents.poke(old.bytes(), &rest);
        RamDisk::with_contents(contents, DiskFaults::default(), Random::new(number))
    });
    let second = next(options, first, clones);
    alone(second, move |client| {
        console(second, "array");
        let before = free(second);
        let done = confirmed(second, "volume grow 0");
        assert!(done.contains("has grown from"), "{done}");
        assert!(free(second) > before + 28.0);
        assert_eq!(get(client, SHARES[0], "kept"), Some(1));
        assert!(confirmed(second, "check 0").contains("Nothing is wrong"));
        assert!(confirmed(second, "format 1 fat32").contains("is formatted"));
        let refused = confirmed(second, "volume grow 1");
        assert!(refused.contains("only exFAT volumes grow"), "{refused}");
        assert!(client.mount(SHARES[1]).is_ok());
    });
}

#[test]
fn a_volume_without_a_journal_does_not_grow_and_stays_in_use() {
    let options = small(Options::new(32));
    let first = machine(options);
    let foreign = Memory::new(options.disk_blocks, 512);
    let wish = Wish { kind: Kind::Exfat, label: Vec::new(), unique: [3; 16], cluster: None };
    storage::format::volume(&foreign, 0, &wish).unwrap();
    let foreign = RamDisk::with_contents(foreign, DiskFaults::default(), Random::new(1));
    let second = next(options, first, [foreign.clone(), first.disks[1].clone()]);
    alone(second, move |client| {
        put(client, "kept", 1);
        let before = foreign.contents();
        let refused = confirmed(second, "volume grow 0");
        assert!(refused.contains("only volumes on disks that the appliance has divided grow"), "{refused}");
        assert!(before.image()[..512] == foreign.contents().image()[..512]);
        assert_eq!(get(client, SHARES[0], "kept"), Some(1));
        assert!(console(second, "disks").contains("online"));
    });
}

/// A machine's disks while they are told something, and when that was.
struct Told {
    disks: Vec<RamDisk>,
    begun: u64,
    ended: u64,
}

/// Runs a machine whose console is told `line`, and yes; the answer has `expected` in it.
fn told(simulation: &'static Simulation, line: &'static str, expected: &'static str) -> Told {
    let log = PowerLog::timed(scheduler::now);
    simulation.disks.iter().enumerate().for_each(|(number, disk)| disk.record(&log, number));
    let times = Rc::new(Cell::new((0, 0)));
    let seen = times.clone();
    alone(simulation, move |_| {
        wait_for(simulation, "array: good");
        let begun = scheduler::now();
        let done = confirmed(simulation, line);
        assert!(done.contains(expected), "{done}");
        seen.set((begun, scheduler::now()));
    });
    let (begun, ended) = times.get();
    Told { disks: simulation.disks.clone(), begun, ended }
}

impl Told {
    /// The disks after a power cut at a moment, twice if need be.
    fn cut(&self, moment: u64, seed: u64) -> [Memory; 2] {
        let mut random = Generator::new(seed);
        [0, 1].map(|number: usize| self.disks[number].cut(moment, &mut random))
    }

    /// The first moment after which `holds` of what a power cut leaves.
    fn first(&self, holds: impl Fn(&[Memory; 2]) -> bool) -> u64 {
        let (mut before, mut after) = (self.begun, self.ended);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if holds(&self.cut(middle, 0)) { after = middle } else { before = middle }
        }
        after
    }
}

fn with_contents(disks: [Memory; 2]) -> [RamDisk; 2] {
    disks.map(|disk| RamDisk::with_contents(disk, DiskFaults::default(), Random::new(1)))
}

#[test]
fn a_power_cut_between_the_tables_of_a_growing_mirror_and_a_disk_that_comes_later() {
    let options = small(Options::mirror(30));
    let first = machine(options);
    alone(first, |client| put(client, "kept", 1));
    let moved = [0, 1].map(|number: usize| {
        let contents = larger(options, 7 + number as u64, 0).contents();
        contents.poke(0, &first.disks[number].peek(0, first.disks[number].bytes() as usize));
        contents
    });
    let second = next(options, first, with_contents(moved));
    let growing = told(second, "volume grow 0", "has grown from");
    let end = |disk: &Memory| Layout::read(disk).unwrap().data().map(|data| data.blocks);
    let old = growing.cut(growing.begun, 0).each_ref().map(end);
    let cut = growing.first(|disks| end(&disks[0]) != old[0]);
    let ends = growing.cut(cut, 0).each_ref().map(end);
    assert!(ends[0] > old[0] && ends[1] == old[1], "{old:?} {ends:?}");

    for early in 0..2 {
        let pair = with_contents(growing.cut(cut, 0));
        pair[1 - early].set_gone(true);
        let third = next(options, second, pair.clone());
        let late = pair[1 - early].clone();
        alone(third, move |client| {
            let shown = console(third, "array");
            assert!(shown.contains("degraded"), "{shown}");
            assert_eq!(get(client, SHARES[0], "kept"), Some(1));
            put(client, "alone", 2);
            assert!(confirmed(third, "volume grow 0").contains("have to be good"));
            late.set_gone(false);
            wait_for(third, "array: good");
            assert_eq!((get(client, SHARES[0], "kept"), get(client, SHARES[0], "alone")), (Some(1), Some(2)));
            let done = confirmed(third, "volume grow 0");
            assert!(done.contains("has grown from"), "{done}");
            put(client, "grown", 3);
            wait_for(third, "array: good");
            let shown = confirmed(third, "check 0");
            assert!(shown.contains("Nothing is wrong"), "{shown}");
            for _ in 0..600 {
                if !console(third, "array").contains("scrub:") {
                    break;
                }
            }
        });
        assert_equal(&pair);
        assert_eq!(end(&pair[0].contents()), end(&pair[1].contents()));
        let fourth = next(options, third, pair.clone());
        alone(fourth, move |client| {
            for (name, value) in [("kept", 1), ("alone", 2), ("grown", 3)] {
                assert_eq!(get(client, SHARES[0], name), Some(value));
            }
        });
    }
}

#[test]
fn a_power_cut_while_a_mirrors_volume_is_removed_leaves_it_or_none() {
    let options = small(Options::mirror(31));
    let first = machine(options);
    alone(first, |client| put(client, "kept", 1));
    let second = next(options, first, [first.disks[0].clone(), first.disks[1].clone()]);
    let removal = told(second, "volume del 0", "Volume 0 is gone");
    let has_volume = |disk: &Memory| Layout::read(disk).unwrap().data().is_some();
    let is_blank = |disk: &Memory| Layout::read(disk).unwrap().blank;
    let begun = removal.first(|disks| !disks.iter().all(has_volume));
    let ended = removal.first(|disks| disks.iter().all(is_blank));
    assert!(ended > begun, "{begun} {ended}");
    let mut random = Generator::new(3);
    let kept = Rc::new(Cell::new(0));
    let gone = Rc::new(Cell::new(0));
    for number in 0..12u64 {
        let moment = match number {
            0 => begun - 1,
            1..4 => begun + random.below(200),
            _ => begun + random.below(ended - begun + 1),
        };
        let pair = with_contents(removal.cut(moment, number));
        let third = next(options, second, pair.clone());
        let (kept, gone) = (kept.clone(), gone.clone());
        alone(third, move |client| {
            console(third, "share add data 0");
            let shown = console(third, "array");
            let listed = console(third, "disks");
            // Nothing of it is in use anywhere else.
            assert!(!listed.contains("online") && !listed.contains("not mountable"), "{listed}");
            if client.mount(SHARES[0]).is_ok() {
                assert!(shown.contains("array: "), "{shown}");
                assert_eq!(get(client, SHARES[0], "kept"), Some(1));
                wait_for(third, "array: good");
                kept.set(kept.get() + 1);
            } else {
                gone.set(gone.get() + 1);
            }
            // Asked again, what is left goes too.
            if shown.contains("array: ") {
                let done = confirmed(third, "volume del 0");
                assert!(done.contains("Volume 0 is gone"), "{done}");
            }
            assert!(console(third, "array").contains("There is no array"));
            assert_eq!(
                console(third, "disks").matches("no volume").count(),
                2,
                "{}",
                console(third, "disks")
            );
            assert!(confirmed(third, "array create").contains("is there"));
            console(third, "share add data 0");
            assert_eq!(get(client, SHARES[0], "kept"), None);
        });
    }
    assert!(kept.get() > 1 && gone.get() > 1, "{} {}", kept.get(), gone.get());
}
