//! The whole appliance under a seed: log on, copy a tree, read it back; faults; the same run twice.

use std::cell::Cell;
use std::rc::Rc;

use firmware::scheduler;
use sim::{Client, ClientError, DiskFaults, Options, Random, SHARES, Simulation, Transport, WireFaults};

/// A file of the tree: its path and contents.
fn tree(seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut random = Random::new(seed);
    let mut files = Vec::new();
    for directory in ["Ünïcode", "empty names", "深い"] {
        for number in 0..6 {
            let length = match number {
                0 => 0,
                1 => 1,
                2 => 4096,
                3 => 200_000,
                _ => random.below(20_000) as usize,
            };
            let contents = (0..length).map(|_| random.next_u64() as u8).collect();
            files.push((format!("{directory}\\file {number} é.bin"), contents));
        }
    }
    files
}

fn upload(client: &Client, share: &str, files: &[(String, Vec<u8>)]) -> Result<(), ClientError> {
    let mut smb = client.mount(share)?;
    for (path, contents) in files {
        let directory = path.split('\\').next().unwrap_or_default();
        match smb.make_directory(directory) {
            // STATUS_OBJECT_NAME_COLLISION
            Ok(()) | Err(ClientError::Status(0xC000_0035)) => {}
            Err(error) => return Err(error),
        }
        let handle = smb.create_file(path)?;
        for (index, piece) in contents.chunks(65_536).enumerate() {
            smb.write(handle, index as u64 * 65_536, piece)?;
        }
        smb.flush(handle)?;
        smb.close(handle)?;
    }
    Ok(())
}

fn verify(client: &Client, share: &str, files: &[(String, Vec<u8>)]) -> Result<(), ClientError> {
    let mut smb = client.mount(share)?;
    for (path, contents) in files {
        let handle = smb.open_file(path)?;
        let mut back = Vec::new();
        while back.len() < contents.len() {
            back.extend(smb.read(handle, back.len() as u64, 65_536)?);
        }
        smb.close(handle)?;
        assert!(back == *contents, "{path} came back changed");
        let (directory, name) = path.split_once('\\').unwrap_or_default();
        assert!(smb.list(directory)?.iter().any(|listed| listed == name), "{path} is not listed");
    }
    Ok(())
}

fn copy_and_verify(options: Options) -> u64 {
    let simulation = Simulation::new(options);
    for (port, share) in SHARES.into_iter().enumerate() {
        simulation.client(port, move |client| {
            let files = tree(port as u64);
            upload(client, share, &files).unwrap();
            verify(client, share, &files).unwrap();
        });
    }
    simulation.run()
}

#[test]
fn a_tree_comes_back_over_both_ports() {
    copy_and_verify(Options::new(1));
}

#[test]
fn a_bad_wire_loses_nothing() {
    let mut options = Options::new(2);
    options.wire = WireFaults { loss_one_in: 50, delay: 200, jitter: 400 };
    options.disk = DiskFaults { latency: 500, jitter: 9_000, ..DiskFaults::default() };
    copy_and_verify(options);
}

#[test]
fn one_seed_gives_one_run() {
    let options = |seed| {
        let mut options = Options::new(seed);
        options.wire = WireFaults { loss_one_in: 100, delay: 50, jitter: 100 };
        options
    };
    let first = copy_and_verify(options(7));
    assert_eq!(first, copy_and_verify(options(7)));
    assert_ne!(first, copy_and_verify(options(8)));
}

#[test]
fn what_was_written_is_there_after_a_reboot() {
    let options = Options::new(3);
    let simulation = Simulation::new(options);
    let files = tree(3);
    let uploaded = files.clone();
    simulation.client(0, move |client| upload(client, SHARES[0], &uploaded).unwrap());
    simulation.run_until_clients_end_then_power_off();

    let again = Simulation::with_disks(options, simulation.disks, simulation.flash);
    again.client(1, move |client| verify(client, SHARES[0], &files).unwrap());
    again.run();
}

#[test]
fn strangers_are_refused_and_others_served() {
    let simulation = Simulation::new(Options::new(4));
    simulation.client(0, |client| {
        const STATUS_LOGON_FAILURE: ClientError = ClientError::Status(0xC000_006D);
        const STATUS_BAD_NETWORK_NAME: ClientError = ClientError::Status(0xC000_00CC);
        assert_eq!(client.negotiate().unwrap().log_on("nas", "wrong"), Err(STATUS_LOGON_FAILURE));
        assert_eq!(client.negotiate().unwrap().log_on("nobody", "wrong"), Err(STATUS_LOGON_FAILURE));
        assert_eq!(client.mount("absent").err(), Some(STATUS_BAD_NETWORK_NAME));
        // Nothing that can be read as a message, then silence.
        for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\0\0\0\x04\xFESMB", b"\0\0\x10\0\xFFSMBr"] {
            let socket = client.host.connect(client.server, 445).unwrap();
            assert!(socket.send(garbage));
        }
        let sockets: Vec<_> = (0..500).filter_map(|_| client.host.connect(client.server, 445)).collect();
        assert!(sockets.len() > 400);
        assert!(client.mount(SHARES[0]).is_ok());
    });
    simulation.run();
}

#[test]
fn a_connection_that_breaks_leaves_the_server_well() {
    let simulation = Simulation::new(Options::new(5));
    simulation.client(0, |client| {
        for _ in 0..20 {
            let mut smb = client.mount(SHARES[0]).unwrap();
            let handle = smb.create_file("victim");
            if let Ok(handle) = handle {
                smb.write(handle, 0, &[1; 1000]).unwrap();
            }
            // Half a message.
            smb.send_raw(&[0, 0, 1, 0, 0xFE, b'S', b'M', b'B']);
            smb.abort();
        }
        let mut smb = client.mount(SHARES[0]).unwrap();
        assert_eq!(smb.list("").unwrap(), ["victim"]);
        smb.remove("victim").unwrap();
        assert!(smb.list("").unwrap().is_empty());
    });
    simulation.run();
}

#[test]
fn who_waits_for_memory_waits_at_rest() {
    let simulation = Simulation::new(Options::new(9));
    let full = Rc::new(Cell::new(false));
    let written = Rc::new(Cell::new(false));
    let (announced, arrived) = (full.clone(), written.clone());
    simulation.client(0, move |client| {
        // Sixteen begin a long message and do not go on: that is all the memory there is for long ones.
        let hoarders: Vec<_> = (0..16).map(|_| client.mount(SHARES[0]).unwrap()).collect();
        assert!(hoarders.iter().all(|smb| smb.send_raw(&[0, 0x10, 0, 0, 0xFE, b'S', b'M', b'B'])));
        scheduler::sleep(1_000_000);
        announced.set(true);
        scheduler::sleep(1_000_000);
        let rounds = scheduler::statistics().rounds;
        scheduler::sleep(10_000_000);
        // The one that waits costs nothing meanwhile, neither the memory's holders' time nor the processor's.
        let rounds = scheduler::statistics().rounds - rounds;
        assert!(rounds < 10_000, "{rounds} rounds in ten seconds of waiting");
        assert!(!arrived.get());
        hoarders[7].abort();
    });
    simulation.client(1, move |client| {
        let mut smb = client.mount(SHARES[0]).unwrap();
        let handle = smb.create_file("patient").unwrap();
        while !full.get() {
            scheduler::sleep(10_000);
        }
        smb.write(handle, 0, &[7; 65_536]).unwrap();
        written.set(true);
        assert_eq!(smb.read(handle, 0, 65_536).unwrap(), [7; 65_536]);
    });
    simulation.run();
}

#[test]
fn disk_errors_reach_the_client_as_errors() {
    let simulation = Simulation::new(Options::new(6));
    let disks = simulation.disks.clone();
    let failures = Rc::new(Cell::new(0));
    let seen = failures.clone();
    simulation.client(0, move |client| {
        let mut smb = client.mount(SHARES[0]).unwrap();
        let handle = smb.create_file("before").unwrap();
        smb.write(handle, 0, &[7; 50_000]).unwrap();
        smb.flush(handle).unwrap();
        disks[0].set_gone(true);
        for number in 0..5 {
            let outcome = smb.create_file(&format!("while {number}")).and_then(|handle| {
                smb.write(handle, 0, &[7; 50_000])?;
                smb.flush(handle)
            });
            if let Err(error) = outcome {
                assert!(matches!(error, ClientError::Status(_)), "{error:?}");
                seen.set(seen.get() + 1);
            }
        }
        // The other disk is not concerned.
        let mut other = client.mount(SHARES[1]).unwrap();
        let handle = other.create_file("elsewhere").unwrap();
        other.write(handle, 0, b"fine").unwrap();
        other.flush(handle).unwrap();
    });
    simulation.run();
    assert!(failures.get() > 0);
}

#[test]
fn a_disk_that_comes_back_is_mounted_again() {
    let simulation = Simulation::new(Options::new(10));
    let disks = simulation.disks.clone();
    let board = simulation.board;
    simulation.client(0, move |client| {
        let mut smb = client.mount(SHARES[0]).unwrap();
        let handle = smb.create_file("before").unwrap();
        smb.write(handle, 0, &[7; 50_000]).unwrap();
        smb.flush(handle).unwrap();
        smb.close(handle).unwrap();
        disks[0].set_gone(true);
        let outcome = smb.create_file("while away").and_then(|handle| smb.flush(handle));
        assert!(matches!(outcome, Err(ClientError::Status(_))), "{outcome:?}");
        board.type_line("disks");
        firmware::scheduler::sleep(20_000_000);
        disks[0].set_gone(false);
        firmware::scheduler::sleep(20_000_000);
        let mut smb = client.mount(SHARES[0]).unwrap();
        assert_eq!(smb.list("").unwrap(), ["before"]);
        let handle = smb.open_file("before").unwrap();
        assert_eq!(smb.read(handle, 0, 50_000).unwrap(), [7; 50_000]);
        let handle = smb.create_file("after").unwrap();
        smb.write(handle, 0, &[8; 50_000]).unwrap();
        smb.flush(handle).unwrap();
    });
    simulation.run();
    assert!(board.printed().contains("gone"), "{}", board.printed());
}

#[test]
fn the_console_answers() {
    let simulation = Simulation::new(Options::new(9));
    let board = simulation.board;
    simulation.client(0, move |client| {
        drop(client.mount(SHARES[0]).unwrap());
        for command in ["help", "status", "disks", "net", "log"] {
            board.type_line(command);
            firmware::scheduler::sleep(2_000_000);
        }
    });
    simulation.run();
    let printed = board.printed();
    for word in ["RAM disk", "exFAT", "simulated Ethernet", "10.1.0.1"] {
        assert!(printed.contains(word), "{word} is not in:\n{printed}");
    }
}
