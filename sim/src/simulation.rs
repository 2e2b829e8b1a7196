//! A run: the machine, the appliance on it, and client threads.

use std::cell::Cell;
use std::rc::Rc;

use client::ClientError;
use firmware::Appliance;
use firmware::board::Restart;
use firmware::scheduler;
use flash_layout::CONFIGURATION;
use flash_layout::configuration::{BlankDisks, Configuration, PortConfiguration, Share, StaticAddress, User};
use flash_layout::log::Log;
use smoltcp::wire::{IpAddress, IpCidr};

use crate::board::{Network, SimBoard};
use crate::disk::{DiskFaults, RamDisk};
use crate::ethernet::{ClientHost, ClientSocket, Wire, WireFaults};
use crate::flash::Flash;
use crate::random::Random;
use crate::trace::Trace;

/// The account that every simulation has.
pub const USER: &str = "nas";
/// Its password.
pub const PASSWORD: &str = "simulated secret";
/// The share of volume `n` is `SHARES[n]`.
pub const SHARES: [&str; 2] = ["data", "data2"];

/// A client that is connected over the simulated network.
pub type SmbClient = client::SmbClient<ClientSocket>;

/// Stack of a client's thread.
const CLIENT_STACK: usize = 64 * 1024;

/// What a simulation is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// What the wires do.
    pub wire: WireFaults,
    /// What the disks do.
    pub disk: DiskFaults,
    /// Blocks of each of the two disks.
    pub disk_blocks: u64,
    /// What the first start makes of them.
    pub volumes: BlankDisks,
}

impl Options {
    /// A fault-free machine with two disks of 256 MiB, each with a volume of its own.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            wire: WireFaults::default(),
            disk: DiskFaults::default(),
            disk_blocks: 512 * 1024,
            volumes: BlankDisks::Single,
        }
    }

    /// As [`new`](Self::new), with the disks as a mirror: there is volume 0 only.
    pub fn mirror(seed: u64) -> Self {
        Self { volumes: BlankDisks::Mirror, ..Self::new(seed) }
    }
}

/// The machine with the appliance on it.
pub struct Simulation {
    /// The machine.
    pub board: &'static SimBoard,
    /// The appliance.
    pub appliance: &'static Appliance<SimBoard>,
    /// The disks, to put faults into.
    pub disks: Vec<RamDisk>,
    /// The flash, to start another machine from.
    pub flash: Flash,
    /// Client threads that have not ended.
    clients: Rc<Cell<usize>>,
}

impl Simulation {
    /// A new machine with blank disks, which the appliance formats at its start.
    pub fn new(options: Options) -> Self {
        let mut random = Random::new(options.seed);
        let disks = (0..2).map(|_| RamDisk::new(options.disk_blocks, options.disk, random.fork())).collect();
        Self::with_disks(options, disks, provisioned_flash(options.volumes))
    }

    /// A machine with these disks and this flash: the next power-on of an earlier one.
    pub fn with_disks(options: Options, disks: Vec<RamDisk>, flash: Flash) -> Self {
        let mut random = Random::new(options.seed ^ 0x5EED);
        let clock = Rc::new(Cell::new(0));
        let trace = Rc::new(Trace::default());
        let networks = (0..2)
            .map(|index| {
                let wire = Wire::new(options.wire, random.fork(), clock.clone(), trace.clone());
                let address = IpCidr::new(client_address(index), 24);
                let client = ClientHost::new(address, &wire, clock.clone(), random.next_u64());
                Network { wire, client }
            })
            .collect();
        let board = SimBoard::new(clock, trace, random.fork(), networks, disks.clone(), flash.clone());
        let board: &'static SimBoard = Box::leak(Box::new(board));
        let appliance = Appliance::start(board);
        Self { board, appliance, disks, flash, clients: Rc::default() }
    }

    /// Adds a thread that runs `body` as a client on the network of port `port`, once the appliance is ready.
    pub fn client(&self, port: usize, body: impl FnOnce(&Client) + 'static) {
        let Some(host) = self.board.client(port) else { return };
        let client = Client { host, server: server_address(port) };
        let running = self.clients.clone();
        running.set(running.get() + 1);
        let appliance = self.appliance;
        let spawned = scheduler::spawn("client", CLIENT_STACK, move || {
            while !appliance.is_open() {
                scheduler::sleep(1_000);
            }
            body(&client);
            running.set(running.get() - 1);
        });
        assert!(spawned.is_ok(), "too many threads");
    }

    /// Runs until all clients have ended; returns the hash of all that happened.
    pub fn run(&self) -> u64 {
        let clients = self.clients.clone();
        self.appliance.run(move || clients.get() == 0);
        self.board.trace.hash()
    }

    /// Runs until all clients have ended, and on until the power was switched off in order.
    pub fn run_until_clients_end_then_power_off(&self) {
        let mut asked = false;
        self.appliance.run(|| {
            if self.clients.get() == 0 && !asked {
                asked = true;
                self.appliance.restart(Restart::PowerOff);
            }
            self.board.restarted().is_some()
        });
    }
}

/// A client on one of the networks.
pub struct Client {
    /// Its host.
    pub host: Rc<ClientHost>,
    /// The appliance's address there.
    pub server: IpAddress,
}

impl Client {
    /// Connects to port 445 and negotiates.
    pub fn negotiate(&self) -> Result<SmbClient, ClientError> {
        let socket = self.host.connect(self.server, 445).ok_or(ClientError::Disconnected)?;
        SmbClient::negotiate(socket)
    }

    /// Connects, logs on as the account that every simulation has, and connects to a share.
    pub fn mount(&self, share: &str) -> Result<SmbClient, ClientError> {
        let mut client = self.negotiate()?;
        client.log_on(USER, PASSWORD)?;
        client.connect_tree(share)?;
        Ok(client)
    }
}

fn server_address(port: usize) -> IpAddress {
    IpAddress::v4(10, 1, port as u8, 1)
}

fn client_address(port: usize) -> IpAddress {
    IpAddress::v4(10, 1, port as u8, 2)
}

/// A flash with an account, a share for each volume, static addresses, and leave to format blank disks.
fn provisioned_flash(blank_disks: BlankDisks) -> Flash {
    let flash = Flash::default();
    let mut configuration = Configuration { blank_disks, ..Configuration::default() };
    configuration.users.push(User {
        number: 1,
        name: USER.to_string(),
        nt_hash: auth::nt_hash(PASSWORD),
        administrator: true,
        disabled: false,
    });
    for (volume, name) in SHARES.into_iter().enumerate() {
        configuration.shares.push(Share::new(name, volume as u8));
    }
    for (index, port) in configuration.ports.iter_mut().enumerate() {
        let address = StaticAddress { address: [10, 1, index as u8, 1], prefix_length: 24, gateway: None };
        *port = PortConfiguration { dhcp: false, address: Some(address) };
    }
    let saved = Log::open(flash.clone(), CONFIGURATION).and_then(|mut log| configuration.save(&mut log));
    assert!(saved.is_ok(), "the simulated flash does not take its configuration");
    flash
}
