//! Serves a directory of the host (or a volume in memory) over SMB, with one thread for each connection.
//!
//! ```text
//! cargo run -p smb --example serve_directory -- --listen 127.0.0.1:4450 --user nas --password secret --share data DIRECTORY
//! smbclient //127.0.0.1/data -p 4450 -U nas%secret
//! ```
//!
//! `--memory` instead of a directory serves an empty volume in memory; `--user` and `--password` may be repeated.
//! `--encrypt` refuses clients that cannot encrypt, `--unsigned` takes requests without signatures,
//! `--verbose` shows every answer's status.

mod directory;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use smb::environment::{Account, Authentication, Environment, ExchangeId, Identity, UserId};
use smb::fscc::FileTime;
use smb::memory::MemoryVolume;
use smb::status::NtStatus;
use smb::{
    ConnectionId, Disposition, Encryption, Server, ServerConfiguration, ShareAccess, ShareConfiguration,
    Transport,
};

use directory::AnyVolume;

/// The world that the engine lives in here: the host's clock and random device, accounts, sockets.
struct Host {
    started: Instant,
    accounts: Accounts,
    exchanges: Mutex<HashMap<ExchangeId, auth::Exchange>>,
    back_off: Mutex<auth::BackOff>,
    server: OnceLock<Weak<Server<Host>>>,
    /// Where each connection's answers go; the lock keeps them in order.
    sockets: Mutex<HashMap<u32, Arc<Mutex<TcpStream>>>>,
}

/// Names and keys.
struct Accounts(Vec<(String, [u8; 16])>);

impl auth::AccountStore for Accounts {
    fn find(&self, name: &[u16]) -> Option<auth::Account> {
        let mut found = None;
        for (number, (stored, nt_hash)) in self.0.iter().enumerate() {
            if auth::same_name(name, stored) {
                let flags = auth::AccountFlags { administrator: number == 0, disabled: false };
                let number = auth::AccountNumber(number as u16 + 1);
                found = Some(auth::Account { number, nt_hash: *nt_hash, flags });
            }
        }
        found
    }
}

/// The wall clock.
fn now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(since.as_secs() as i64, since.subsec_nanos())
}

fn random(bytes: &mut [u8]) {
    std::fs::File::open("/dev/urandom")
        .and_then(|mut device| device.read_exact(bytes))
        .expect("random bytes");
}

impl Environment for Host {
    type Volume = AnyVolume;

    fn now(&self) -> FileTime {
        now()
    }

    fn monotonic_milliseconds(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn random(&self, bytes: &mut [u8]) {
        random(bytes);
    }

    fn reply_ready(&self, connection: ConnectionId) {
        let Some(server) = self.server.get().and_then(Weak::upgrade) else { return };
        let Some(socket) = self.sockets.lock().unwrap().get(&connection.0).cloned() else { return };
        let mut socket = socket.lock().unwrap();
        while let Some(reply) = server.next_reply(connection) {
            let mut message = reply.transport_header().to_vec();
            reply.for_each(&mut |piece| message.extend_from_slice(piece));
            if socket.write_all(&message).is_err() {
                break;
            }
        }
        if !server.is_connected(connection) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn authentication_offer(&self, out: &mut Vec<u8>) {
        auth::offer(out);
    }

    fn authenticate(&self, exchange: ExchangeId, token: &[u8], out: &mut Vec<u8>) -> Authentication {
        // Taken out of the table while it works: nobody else continues it meanwhile.
        let mut state = self.exchanges.lock().unwrap().remove(&exchange).unwrap_or_default();
        let step = {
            let mut back_off = self.back_off.lock().unwrap();
            let mut context = auth::Context {
                accounts: &self.accounts,
                policy: auth::Policy { name: "NAS", dns_name: "nas.local", anonymous: true },
                random: &mut random,
                file_time: now().0,
                monotonic_milliseconds: self.monotonic_milliseconds(),
                back_off: &mut back_off,
                source: 0,
                crowded: false,
            };
            state.step(token, &mut context, out)
        };
        match step {
            auth::Step::Continue => {
                self.exchanges.lock().unwrap().insert(exchange, state);
                Authentication::Continue
            }
            auth::Step::Accepted(accepted) => Authentication::Accepted(Identity {
                user: UserId(accepted.account.map_or(0, |number| number.0)),
                anonymous: accepted.account.is_none(),
                administrator: accepted.flags.administrator,
                session_key: accepted.session_key,
            }),
            auth::Step::Denied { denial, hold_back_milliseconds } => {
                // Each connection has a thread of its own here: nobody else waits.
                std::thread::sleep(std::time::Duration::from_millis(hold_back_milliseconds));
                Authentication::Denied(match denial {
                    auth::Denial::LogonFailure | auth::Denial::BackOff => NtStatus::LOGON_FAILURE,
                    auth::Denial::Disabled => NtStatus::ACCOUNT_DISABLED,
                    auth::Denial::Malformed => NtStatus::INVALID_PARAMETER,
                })
            }
        }
    }

    fn abandon_authentication(&self, exchange: ExchangeId) {
        self.exchanges.lock().unwrap().remove(&exchange);
    }

    fn visit_accounts(&self, visit: &mut dyn FnMut(Account<'_>)) {
        for (number, (name, _)) in self.accounts.0.iter().enumerate() {
            visit(Account { user: UserId(number as u16 + 1), name, disabled: false });
        }
    }
}

/// Prints the engine's log.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// Reads messages until the connection ends.
fn serve(server: &Server<Host>, mut socket: TcpStream) {
    let Ok(writer) = socket.try_clone() else { return };
    let _ = socket.set_nodelay(true);
    let Ok(connection) = server.connect(Transport::Tcp) else { return };
    let writer = Arc::new(Mutex::new(writer));
    server.environment().sockets.lock().unwrap().insert(connection.0, writer);
    let mut message = Vec::new();
    loop {
        let mut header = [0; 4];
        if socket.read_exact(&mut header).is_err() {
            break;
        }
        let length = u32::from_be_bytes(header) as usize;
        if length > server.maximum_message(connection) {
            break;
        }
        message.resize(length, 0);
        if socket.read_exact(&mut message).is_err() {
            break;
        }
        if server.handle(connection, &mut message) == Disposition::Disconnect {
            break;
        }
    }
    server.environment().sockets.lock().unwrap().remove(&connection.0);
    server.disconnect(connection);
    let _ = socket.shutdown(Shutdown::Both);
}

fn main() -> ExitCode {
    let mut listen = "127.0.0.1:4450".to_string();
    let mut shares = Vec::new();
    let mut users = Vec::new();
    let mut passwords = Vec::new();
    let mut root = None;
    let mut configuration = {
        let mut guid = [0; 16];
        random(&mut guid);
        ServerConfiguration::new(guid)
    };
    configuration.minimum_dialect = smb::wire::negotiate::Dialect::Smb202;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--listen" => listen = value(),
            "--share" => shares.push(value()),
            "--user" => users.push(value()),
            "--password" => passwords.push(value()),
            "--memory" => root = Some(None),
            "--encrypt" => configuration.encryption = Encryption::Required,
            "--verbose" => {
                let _ = log::set_logger(&Printer);
                log::set_max_level(log::LevelFilter::Trace);
            }
            "--unsigned" => configuration.signing_required = false,
            directory if !directory.starts_with('-') => root = Some(Some(directory.to_string())),
            other => {
                eprintln!("unknown argument {other}");
                return ExitCode::FAILURE;
            }
        }
    }
    let Some(root) = root else {
        eprintln!(
            "usage: serve_directory [--listen ADDRESS] [--share NAME] [--user NAME --password PW]... DIRECTORY|--memory"
        );
        return ExitCode::FAILURE;
    };
    if shares.is_empty() {
        shares.push("data".to_string());
    }
    let accounts =
        users.into_iter().zip(&passwords).map(|(user, password)| (user, auth::nt_hash(password))).collect();
    let mut seed = [0; 8];
    random(&mut seed);
    let host = Host {
        started: Instant::now(),
        accounts: Accounts(accounts),
        exchanges: Mutex::new(HashMap::new()),
        back_off: Mutex::new(auth::BackOff::new(u64::from_ne_bytes(seed))),
        server: OnceLock::new(),
        sockets: Mutex::new(HashMap::new()),
    };
    let server = Arc::new(Server::new(host, configuration));
    let _ = server.environment().server.set(Arc::downgrade(&server));
    let volume = match root {
        Some(directory) => match directory::DirectoryVolume::new(directory.into()) {
            Ok(volume) => AnyVolume::Directory(volume),
            Err(error) => {
                eprintln!("cannot serve that: {error}");
                return ExitCode::FAILURE;
            }
        },
        None => AnyVolume::Memory(MemoryVolume::new("memory", now)),
    };
    let volume = Arc::new(volume);
    for name in &shares {
        let share = ShareConfiguration {
            name,
            remark: "served by an example",
            everyone: ShareAccess::Write,
            users: &[],
            guest: ShareAccess::None,
            hidden: false,
            encrypt: false,
        };
        if let Err(error) = server.add_share(&share, volume.clone()) {
            eprintln!("share {name}: {error:?}");
            return ExitCode::FAILURE;
        }
    }
    let interface = smb::server::NetworkInterface {
        index: 1,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        speed: 1_000_000_000,
    };
    server.set_interfaces(&[interface]);
    let listener = match TcpListener::bind(&listen) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("{listen}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ticking = server.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(500));
            ticking.tick();
        }
    });
    println!("ready smb={listen}");
    for socket in listener.incoming().flatten() {
        let server = server.clone();
        std::thread::spawn(move || serve(&server, socket));
    }
    ExitCode::SUCCESS
}
