//! The whole appliance over a mirror: a disk fails, comes back, is replaced; the other fails; nobody notices.

use std::cell::Cell;
use std::rc::Rc;

use firmware::scheduler;
use sim::{Client, DiskFaults, Options, RamDisk, Random, SHARES, Simulation};

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
