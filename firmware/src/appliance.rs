//! The appliance: all tasks, wired together.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use flash_layout::CONFIGURATION;
use flash_layout::configuration::{Access, BlankDisks, Configuration, Policy, Share, same_name};
use flash_layout::log::Log;
use smb::environment::UserId;
use smb::server::{
    Encryption, Limits, NetworkInterface, Server, ServerConfiguration, ShareAccess, ShareConfiguration,
};

use crate::authenticator::Authenticator;
use crate::board::{Board, Restart, events};
use crate::clock::Clock;
use crate::entropy::EntropyPool;
use crate::environment::ApplianceEnvironment;
use crate::log_ring;
use crate::message_memory::MessageMemory;
use crate::net::{self, Addressing, Mailbox, Net, StaticAddress};
use crate::scheduler::{self, Event, Machine};
use crate::slots::Slots;
use crate::volumes::{Surroundings, Volumes};
use crate::workers::Pool;

/// Bytes of a worker's stack.
pub const WORKER_STACK: usize = 32 * 1024;
/// Bytes of the other tasks' stacks.
pub const TASK_STACK: usize = 16 * 1024;
/// The net task's and the cache helpers': smoltcp's frames are deep, and so are three writes in flight on both disks of an array.
pub const NET_STACK: usize = 24 * 1024;

/// Memory that is left free beside the cache for what is only taken when it is needed: the rings of as many connections
/// as there may be (34 MiB), messages on their way in (20 MiB) and answers on their way out (32 MiB), the engine's tables,
/// the cache's own records (100 bytes a page) and the pages it may have beyond its budget.
const RESERVE: usize = 96 << 20;
/// The least a cache is worth having.
const MINIMUM_CACHE: usize = 4 << 20;

/// Threads that read ahead and write back: as many commands are on their way for that.
const CACHE_HELPERS: usize = 4;

/// How often the volumes are synchronised, in microseconds.
const FLUSH_INTERVAL: u64 = 2_000_000;

/// How often a disk that has left is looked for, in microseconds.
const WATCH_INTERVAL: u64 = 3_000_000;

/// An empty channel is looked at in one of so many rounds.
const EMPTY_CHANNEL_ROUNDS: u32 = 4;

/// What a port carries, in bits a second: the board's chips are 10/100 Ethernet.
const PORT_SPEED: u64 = 100_000_000;

/// How long clients' last answers may take when the appliance stops, in microseconds.
const STOP_PATIENCE: u64 = 5_000_000;

/// The appliance. It lives for ever.
pub struct Appliance<B: Board> {
    pub(crate) board: &'static B,
    pub(crate) clock: &'static Clock,
    pub(crate) entropy: &'static EntropyPool,
    pub(crate) mailbox: &'static Mailbox,
    pub(crate) slots: &'static Slots,
    pub(crate) pool: &'static Pool,
    pub(crate) message_memory: MessageMemory,
    pub(crate) authenticator: &'static Authenticator,
    pub(crate) server: Server<ApplianceEnvironment>,
    pub(crate) volumes: Volumes,
    pub(crate) net_status: &'static RefCell<net::Status>,
    pub(crate) configuration: RefCell<Rc<Configuration>>,
    pub(crate) flash: RefCell<Option<Log<B::Flash>>>,
    /// What was found in the crash record at the start.
    pub(crate) crash: RefCell<Option<(u32, String)>>,
    /// Shares are there: clients may come.
    open: Cell<bool>,
    net_ended: Cell<bool>,
    restarting: Cell<Option<Restart>>,
    restart_asked: Event,
}

impl<B: Board> Appliance<B> {
    /// Reads the configuration and spawns all tasks. They begin with [`run`](Self::run).
    ///
    /// # Panics
    /// When there are not enough thread slots or memory for the tasks: the image was built for another board.
    pub fn start(board: &'static B) -> &'static Self {
        log_ring::install();
        let clock: &'static Clock = Box::leak(Box::default());
        let entropy: &'static EntropyPool = Box::leak(Box::default());
        let mailbox: &'static Mailbox = Box::leak(Box::default());
        let slots: &'static Slots = Box::leak(Box::default());
        let pool: &'static Pool = Box::leak(Box::default());
        entropy.stir(board.ticks());
        if let Some(seconds) = board.wall_clock() {
            clock.set(seconds, board.now());
        }

        let mut flash = board.take_flash();
        let crash = flash.as_mut().and_then(crate::flash::crash_record);
        if let Some(flash) = &mut flash {
            crate::flash::take_seed(flash, entropy);
        }
        let mut log = flash.and_then(|flash| match Log::open(flash, CONFIGURATION) {
            Ok(log) => Some(log),
            Err(_) => {
                log::error!("configuration: the flash does not answer");
                None
            }
        });
        let mut configuration =
            log.as_mut().and_then(|log| Configuration::load(log).ok()).unwrap_or_default();
        if configuration.identity.is_none() {
            let mut identity = [0; 16];
            entropy.fill(&mut identity);
            configuration.identity = Some(identity);
            if log.as_mut().is_none_or(|log| configuration.save(log).is_err()) {
                log::error!("configuration: the machine's identity is not kept");
            }
        }

        let authenticator: &'static Authenticator =
            Box::leak(Box::new(Authenticator::new(&configuration, clock, entropy)));
        let environment = ApplianceEnvironment { clock, entropy, mailbox, slots, authenticator };
        let server = Server::new(environment, server_configuration(&configuration));
        let memory = board.memory();
        let free = memory.heap.saturating_sub(memory.used);
        let budget = free.saturating_sub(RESERVE).max(MINIMUM_CACHE.min(free / 2));
        let appliance: &'static Self = Box::leak(Box::new(Self {
            board,
            clock,
            entropy,
            mailbox,
            slots,
            pool,
            message_memory: MessageMemory::default(),
            authenticator,
            server,
            volumes: Volumes::new(budget, board.disk_channel_count()),
            net_status: Box::leak(Box::default()),
            configuration: RefCell::new(Rc::new(configuration)),
            flash: RefCell::new(log),
            crash: RefCell::new(crash),
            open: Cell::new(false),
            net_ended: Cell::new(false),
            restarting: Cell::new(None),
            restart_asked: Event::new(),
        }));
        if appliance.spawn_tasks().is_err() {
            panic!("too many threads");
        }
        appliance
    }

    fn spawn_tasks(&'static self) -> Result<(), scheduler::TooManyThreads> {
        // The order is the order in which ready threads run: completions first, then the network, then requests.
        for channel in 0..self.board.disk_channel_count() {
            scheduler::spawn("disk", TASK_STACK, move || self.service_disk(channel))?;
        }
        for _ in 0..CACHE_HELPERS {
            scheduler::spawn("cache", NET_STACK, move || self.volumes.help_cache())?;
        }
        scheduler::spawn("net", NET_STACK, move || self.net())?;
        scheduler::spawn("auth", TASK_STACK, move || self.authenticator.run())?;
        let workers = usize::from(self.configuration().workers.clamp(4, 20));
        self.pool.start(workers, WORKER_STACK, self)?;
        // The engine's tick may carry a parked request to its end, which takes a worker's stack.
        scheduler::spawn("flusher", WORKER_STACK, move || self.flush_now_and_then())?;
        scheduler::spawn("array", TASK_STACK, move || self.volumes.work_on_array())?;
        scheduler::spawn("console", TASK_STACK, move || crate::console_task::run(self))?;
        scheduler::spawn("watch", TASK_STACK, move || self.watch_disks())?;
        scheduler::spawn("start", WORKER_STACK, move || self.bring_up())?;
        Ok(())
    }

    /// Runs the tasks until `finished` says so (on the board: never).
    pub fn run(&'static self, finished: impl FnMut() -> bool) {
        let machine: &'static BoardMachine<B> =
            Box::leak(Box::new(BoardMachine { board: self.board, entropy: self.entropy }));
        scheduler::run(machine, finished);
    }

    /// The configuration now.
    pub(crate) fn configuration(&self) -> Rc<Configuration> {
        self.configuration.borrow().clone()
    }

    /// Whether the shares are there and clients may come.
    pub fn is_open(&self) -> bool {
        self.open.get()
    }

    fn service_disk(&self, channel: usize) {
        let event: &'static Event = Box::leak(Box::new(Event::new()));
        scheduler::bind(events::DISK << channel, event);
        loop {
            match self.board.service_disk_channel(channel) {
                Some(deadline) => {
                    event.wait_until(deadline);
                }
                None => event.wait(),
            }
        }
    }

    fn net(&'static self) {
        for index in 0..self.board.port_count() {
            scheduler::bind(events::PORT << index, self.mailbox.event());
        }
        let configuration = self.configuration();
        let ports: Vec<B::Port> =
            (0..self.board.port_count()).filter_map(|index| self.board.take_port(index)).collect();
        let addressing = configuration
            .ports
            .iter()
            .map(|port| Addressing { dhcp: port.dhcp, fallback: port.address.and_then(static_address) })
            .collect();
        let configuration = net::Configuration {
            host_name: Box::leak(configuration.host_name.clone().into_boxed_str()),
            addressing,
            seed: self.entropy.next_u64(),
        };
        let now = scheduler::now();
        Net::new(ports, &configuration, self, self.mailbox, self.net_status, now).run();
        self.net_ended.set(true);
    }

    /// Finds the disks, mounts what is on them, adds the shares, and lets clients in.
    fn bring_up(&'static self) {
        let blank = self.configuration().blank_disks;
        let disks =
            (0..self.board.disk_channel_count()).map(|channel| self.board.find_disk(channel)).collect();
        // Nobody can be at work on a volume yet, and all shares are published below.
        let nobody = |_| ();
        let surroundings =
            Surroundings { clock: self.clock, entropy: self.entropy, withdraw: &nobody, publish: &nobody };
        self.volumes.start(disks, blank, &surroundings);
        if blank != BlankDisks::Leave {
            let mut changed = (*self.configuration()).clone();
            changed.blank_disks = BlankDisks::Leave;
            if let Err(why) = self.save(changed) {
                log::error!("configuration: {why}");
            }
        }
        for share in &self.configuration().shares {
            self.publish(share);
        }
        self.open.set(true);
        log::info!("ready");
        loop {
            self.restart_asked.wait();
            if let Some(how) = self.restarting.get() {
                self.stop(how);
            }
        }
    }

    /// Makes a share of the configuration known to the engine.
    pub(crate) fn publish(&self, share: &Share) {
        let Some(volume) = self.volumes.share_volume(usize::from(share.volume)) else {
            log::warn!("share {}: volume {} is not there", share.name, share.volume);
            return;
        };
        let users: Vec<_> =
            share.exceptions.iter().map(|&(user, access)| (UserId(user), share_access(access))).collect();
        let added = self.server.add_share(
            &ShareConfiguration {
                name: &share.name,
                remark: &share.comment,
                everyone: share_access(share.access),
                users: &users,
                guest: share_access(share.guest),
                hidden: share.hidden,
                encrypt: share.encrypted,
            },
            volume,
        );
        match added {
            Ok(()) => log::info!("share {}: volume {}", share.name, share.volume),
            Err(why) => log::error!("share {}: {why:?}", share.name),
        }
    }

    /// Changes the volumes while clients are served: a volume's shares go and come with it.
    pub(crate) fn change_volumes<T>(&self, change: impl FnOnce(&Volumes, &Surroundings<'_>) -> T) -> T {
        let withdraw = |volume| self.withdraw_shares(volume);
        let publish = |volume| {
            for share in &self.configuration().shares {
                if usize::from(share.volume) == volume {
                    self.publish(share);
                }
            }
        };
        let surroundings =
            Surroundings { clock: self.clock, entropy: self.entropy, withdraw: &withdraw, publish: &publish };
        change(&self.volumes, &surroundings)
    }

    /// Takes the shares of a volume away from the engine.
    pub(crate) fn withdraw_shares(&self, volume: usize) {
        for share in &self.configuration().shares {
            if usize::from(share.volume) == volume {
                self.server.remove_share(&share.name);
            }
        }
    }

    /// Keeps a changed configuration in flash and uses it from now on. What the tasks took from it at their start
    /// counts after a restart.
    pub(crate) fn save(&self, changed: Configuration) -> Result<(), String> {
        changed.check().map_err(String::from)?;
        if let Some(log) = &mut *self.flash.borrow_mut() {
            changed.save(log).map_err(|_| String::from("the flash does not take it"))?;
        }
        self.authenticator.set_accounts(&changed);
        self.configuration.replace(Rc::new(changed));
        Ok(())
    }

    /// Finds a share of the configuration by its name.
    pub(crate) fn has_share(&self, name: &str) -> bool {
        self.configuration().shares.iter().any(|share| same_name(&share.name, name))
    }

    /// Takes a disk into use when it, or another, is there after one had left, or on a channel that had none.
    fn watch_disks(&self) {
        for round in 0u32.. {
            scheduler::sleep(WATCH_INTERVAL);
            for channel in 0..self.board.disk_channel_count() {
                // An empty channel is asked less often: each target there could be has to time out.
                let empty = self.volumes.device(channel).is_none() && round % EMPTY_CHANNEL_ROUNDS == 0;
                if !self.is_open() || !(self.board.disk_is_gone(channel) || empty) {
                    continue;
                }
                let Some(disk) = self.board.find_disk(channel) else { continue };
                log::info!("channel {channel}: a disk is there");
                self.change_volumes(|volumes, surroundings| volumes.attach(channel, disk, surroundings));
            }
            self.volumes.tend_array(|channel| self.board.disk_is_gone(channel));
        }
    }

    fn flush_now_and_then(&self) {
        loop {
            scheduler::sleep(FLUSH_INTERVAL);
            self.volumes.synchronise(|channel| self.board.disk_is_gone(channel));
            self.server.tick();
            self.tell_interfaces();
        }
    }

    /// Tells the engine which ports a client can spread a session over: those with a link and an address.
    fn tell_interfaces(&self) {
        let mut interfaces = Vec::new();
        for (index, port) in (1..).zip(&self.net_status.borrow().ports) {
            let addresses = port.addresses.iter().filter(|_| port.link);
            interfaces.extend(addresses.map(|cidr| NetworkInterface {
                index,
                address: cidr.address().into(),
                speed: PORT_SPEED,
            }));
        }
        self.server.set_interfaces(&interfaces);
    }

    /// Asks for an orderly end: it is carried out by a thread of its own.
    pub fn restart(&self, how: Restart) {
        self.restarting.set(Some(how));
        self.restart_asked.signal();
    }

    fn stop(&self, how: Restart) {
        log::info!("stopping");
        self.open.set(false);
        self.mailbox.stop();
        let deadline = scheduler::now() + STOP_PATIENCE;
        while !(self.net_ended.get() && self.pool.is_quiet()) && scheduler::now() < deadline {
            scheduler::sleep(10_000);
        }
        self.volumes.unmount_all();
        if let Some(log) = &mut *self.flash.borrow_mut() {
            crate::flash::store_seed(log.flash(), self.entropy);
        }
        self.board.restart(how);
    }
}

fn share_access(access: Access) -> ShareAccess {
    match access {
        Access::None => ShareAccess::None,
        Access::Read => ShareAccess::Read,
        Access::Write => ShareAccess::Write,
    }
}

fn static_address(address: flash_layout::configuration::StaticAddress) -> Option<StaticAddress> {
    if address.prefix_length > 32 {
        return None;
    }
    let ip = |octets: [u8; 4]| smoltcp::wire::Ipv4Address::from_octets(octets);
    Some(StaticAddress {
        address: smoltcp::wire::Ipv4Cidr::new(ip(address.address), address.prefix_length),
        router: address.gateway.map(ip),
    })
}

fn server_configuration(configuration: &Configuration) -> ServerConfiguration {
    let mut server = ServerConfiguration::new(configuration.identity.unwrap_or_default());
    server.name = configuration.host_name.encode_utf16().collect();
    server.workgroup = configuration.workgroup.encode_utf16().collect();
    server.signing_required = configuration.signing == Policy::Required;
    server.encryption = match configuration.encryption {
        Policy::Off => Encryption::Off,
        Policy::Offered => Encryption::Offered,
        Policy::Required => Encryption::Required,
    };
    server.limits = Limits {
        connections: net::SLOTS as u32,
        unauthenticated_connections: net::MAXIMUM_UNAUTHENTICATED as u32 * 2,
        ..Limits::default()
    };
    server
}

/// The board as the scheduler's loop sees it; every wake-up feeds the entropy pool.
struct BoardMachine<B: Board> {
    board: &'static B,
    entropy: &'static EntropyPool,
}

impl<B: Board> Machine for BoardMachine<B> {
    fn now(&self) -> u64 {
        self.board.now()
    }

    fn ticks(&self) -> u32 {
        self.board.ticks()
    }

    fn take_events(&self) -> u32 {
        let bits = self.board.take_events();
        if bits != 0 {
            self.entropy.stir(self.board.ticks() ^ bits);
        }
        bits
    }

    fn idle(&self, deadline: Option<u64>) {
        self.board.idle(deadline);
    }
}
