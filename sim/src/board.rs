//! The simulated machine: a clock that jumps when everybody waits, disks, ports, flash and a console in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use firmware::board::{Board, Disk, DiskIdentity, Memory, Restart, events};

use crate::disk::RamDisk;
use crate::ethernet::{ClientHost, Port, Wire};
use crate::flash::Flash;
use crate::random::Random;
use crate::trace::Trace;

/// One Ethernet: the wire and the client at its far end.
pub struct Network {
    /// The wire.
    pub wire: Rc<Wire>,
    /// The client.
    pub client: Rc<ClientHost>,
}

/// The simulated machine.
pub struct SimBoard {
    clock: Rc<Cell<u64>>,
    /// Everything that happens.
    pub trace: Rc<Trace>,
    random: RefCell<Random>,
    networks: Vec<Network>,
    taken_ports: Cell<u32>,
    disks: Vec<RamDisk>,
    flash: RefCell<Option<Flash>>,
    /// Bytes on their way to the console's reader.
    console_input: RefCell<VecDeque<u8>>,
    /// What the console has printed.
    console_output: RefCell<Vec<u8>>,
    wall_clock: Cell<u64>,
    /// How the run was ended, once it was.
    restarted: Cell<Option<Restart>>,
}

/// Nothing happens after so long: the simulation has hung.
const PATIENCE: u64 = 3_600_000_000;

impl SimBoard {
    /// A machine of these parts. `clock` is the one the wires were made with.
    pub fn new(
        clock: Rc<Cell<u64>>,
        trace: Rc<Trace>,
        random: Random,
        networks: Vec<Network>,
        disks: Vec<RamDisk>,
        flash: Flash,
    ) -> Self {
        Self {
            clock,
            trace,
            random: RefCell::new(random),
            networks,
            taken_ports: Cell::new(0),
            disks,
            flash: RefCell::new(Some(flash)),
            console_input: RefCell::default(),
            console_output: RefCell::default(),
            wall_clock: Cell::new(1_790_000_000),
            restarted: Cell::new(None),
        }
    }

    /// The client at the far end of port `index`.
    pub fn client(&self, index: usize) -> Option<Rc<ClientHost>> {
        self.networks.get(index).map(|network| network.client.clone())
    }

    /// Types at the console.
    pub fn type_line(&self, line: &str) {
        self.console_input.borrow_mut().extend(line.bytes().chain([b'\r']));
    }

    /// Takes what the console has printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.console_output.take()).into_owned()
    }

    /// How the run was ended, once it was.
    pub fn restarted(&self) -> Option<Restart> {
        self.restarted.get()
    }

    /// Lets the clients work; returns when one of them, or a wire, has something to do next.
    fn poll_clients(&self) -> Option<u64> {
        self.networks.iter().filter_map(|network| network.client.poll()).min()
    }
}

impl Board for SimBoard {
    type Port = Port;
    type Flash = Flash;

    fn now(&self) -> u64 {
        self.clock.get()
    }

    fn ticks(&self) -> u32 {
        self.random.borrow_mut().next_u64() as u32
    }

    fn wall_clock(&self) -> Option<u64> {
        Some(self.wall_clock.get() + self.clock.get() / 1_000_000)
    }

    fn set_wall_clock(&self, seconds: u64) {
        self.wall_clock.set(seconds.saturating_sub(self.clock.get() / 1_000_000));
    }

    fn take_events(&self) -> u32 {
        // A round of the loop takes a microsecond: nobody waits for time by going round.
        self.clock.set(self.clock.get() + 1);
        self.poll_clients();
        let mut bits = 0;
        for (index, network) in self.networks.iter().enumerate() {
            if network.wire.appliance_has_frames() {
                bits |= events::PORT << index;
            }
        }
        if !self.console_input.borrow().is_empty() {
            bits |= events::CONSOLE;
        }
        bits
    }

    fn idle(&self, deadline: Option<u64>) {
        let now = self.clock.get();
        let next = self.poll_clients();
        let until = [deadline, next].into_iter().flatten().min();
        let until = until.unwrap_or_else(|| panic!("everybody waits for ever at {now} us"));
        assert!(until < now + PATIENCE, "nothing happens from {now} us until {until} us");
        self.clock.set(until.max(now));
    }

    fn port_count(&self) -> usize {
        self.networks.len()
    }

    fn take_port(&self, index: usize) -> Option<Port> {
        let bit = 1 << index;
        if self.taken_ports.get() & bit != 0 {
            return None;
        }
        self.taken_ports.set(self.taken_ports.get() | bit);
        Some(Port::new(index as u8, &self.networks.get(index)?.wire))
    }

    fn disk_channel_count(&self) -> usize {
        self.disks.len()
    }

    fn service_disk_channel(&self, _channel: usize) -> Option<u64> {
        None
    }

    fn find_disk(&self, channel: usize) -> Option<Disk> {
        let disk = self.disks.get(channel)?.find()?;
        let mut identity = DiskIdentity::default();
        // It fits.
        let _ = identity.model.push_str("RAM disk");
        Some(Disk { device: Arc::new(disk), identity })
    }

    fn disk_is_gone(&self, channel: usize) -> bool {
        self.disks.get(channel).is_some_and(RamDisk::departed)
    }

    fn disk_errors(&self, _channel: usize) -> u32 {
        0
    }

    fn take_flash(&self) -> Option<Flash> {
        self.flash.take()
    }

    fn console_read(&self, buffer: &mut [u8]) -> usize {
        let mut input = self.console_input.borrow_mut();
        let mut length = 0;
        for (to, from) in buffer.iter_mut().zip(core::iter::from_fn(|| input.pop_front())) {
            *to = from;
            length += 1;
        }
        length
    }

    fn console_write(&self, bytes: &[u8]) -> usize {
        self.console_output.borrow_mut().extend_from_slice(bytes);
        bytes.len()
    }

    fn memory(&self) -> Memory {
        Memory { total: 512 << 20, image: 1 << 20, heap: 64 << 20, used: 0, high_water: 0 }
    }

    fn description(&self) -> &str {
        "simulation"
    }

    fn restart(&self, how: Restart) {
        self.restarted.set(Some(how));
    }
}
