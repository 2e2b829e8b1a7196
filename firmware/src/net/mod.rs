//! The net task: the TCP/IP stack between the Ethernet ports and the file server.
//!
//! Every port has an interface of its own. Every TCP connection has a socket set of its own, found by a hash over the
//! frame's addresses ([`flow`]) before the stack sees it: neither a packet nor a timer costs more when there are more
//! connections. A connection's rings are drawn when its SYN comes.
//!
//! A round takes a bounded number of frames from each port, then lets the connections that were touched (by frames,
//! replies or timers) move bytes to and from the service and the stack, then rings each port's doorbell once.

mod checksum;
mod connection;
mod device;
mod flow;
mod gather;
mod mailbox;
mod port;
mod service;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;

use smoltcp::wire::{IpCidr, IpEndpoint, Ipv4Address};

pub use mailbox::Mailbox;
pub use port::{Addressing, StaticAddress};
pub use service::{Reply, Service, Transport};

use crate::board::{NetworkPort, PortStatistics};
use connection::{Connection, Outcome, Stage};
use flow::{Flow, FlowTable, Look};
use mailbox::SlotSet;
use port::Port;

/// TCP connections there can be at once; a connection's slot is also its index with the service.
pub const SLOTS: usize = 256;

/// Connections on which nobody has logged on: beyond it the oldest is dropped.
pub const MAXIMUM_UNAUTHENTICATED: usize = 32;

/// How long a client may take to log on, in microseconds.
const LOG_ON_PATIENCE: u64 = 30_000_000;

/// Frames taken from a port in one round.
const FRAMES_A_ROUND: usize = 64;

/// Segments (possibly long ones) a connection may send in one round.
const SEGMENTS_A_ROUND: usize = 8;

const PORT_445: u16 = 445;
const PORT_139: u16 = 139;

/// How the net task is set up.
pub struct Configuration {
    /// Told to the DHCP server.
    pub host_name: &'static str,
    /// For each port, where its address comes from; DHCP for those beyond the end.
    pub addressing: Vec<Addressing>,
    /// Seeds sequence numbers and the hash; from the entropy pool.
    pub seed: u64,
}

/// What the console shows of a port.
#[derive(Clone, Debug)]
pub struct PortStatus {
    /// The chip.
    pub model: alloc::string::String,
    /// The station address.
    pub address: [u8; 6],
    /// Whether the link is up.
    pub link: bool,
    /// IP addresses.
    pub addresses: Vec<IpCidr>,
    /// The default router.
    pub router: Option<Ipv4Address>,
    /// Frame counters.
    pub frames: PortStatistics,
    /// TCP segments dropped for a wrong checksum.
    pub damaged: u32,
}

/// What the console shows of the net task.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Ports in use.
    pub ports: Vec<PortStatus>,
    /// Connections open: the peer's address and port, the Ethernet port it came in by, whether somebody has logged on.
    pub connections: Vec<(IpEndpoint, usize, bool)>,
    /// Of those, without a log-on.
    pub unauthenticated: usize,
    /// Connections accepted since the start.
    pub accepted: u32,
    /// Connections dropped to make room, or for their silence.
    pub dropped: u32,
}

/// The net task.
pub struct Net<P: NetworkPort, S: Service> {
    ports: Vec<Port<P>>,
    service: &'static S,
    mailbox: &'static Mailbox,
    status: &'static RefCell<Status>,
    connections: Vec<Option<Box<Connection<S::Reply>>>>,
    flows: FlowTable,
    /// Slots to look after in this round.
    touched: SlotSet,
    /// Slots whose message nobody could take.
    waiting: SlotSet,
    /// No connection's deadline is before it.
    earliest: u64,
    open: usize,
    unauthenticated: usize,
    accepted: u32,
    dropped: u32,
    stopping: bool,
    status_due: u64,
}

impl<P: NetworkPort, S: Service> Net<P, S> {
    /// Sets the task up over `ports`. `status` is refreshed about once a second while something happens.
    pub fn new(
        ports: Vec<P>,
        configuration: &Configuration,
        service: &'static S,
        mailbox: &'static Mailbox,
        status: &'static RefCell<Status>,
        now: u64,
    ) -> Self {
        let seed = configuration.seed;
        let ports = ports
            .into_iter()
            .enumerate()
            .map(|(index, port)| {
                let automatic = Addressing { dhcp: true, fallback: None };
                let addressing = configuration.addressing.get(index).copied().unwrap_or(automatic);
                let seed = seed.wrapping_add(index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                Port::new(port, seed, configuration.host_name, addressing, now)
            })
            .collect();
        let mut connections = Vec::new();
        connections.resize_with(SLOTS, || None);
        Self {
            ports,
            service,
            mailbox,
            status,
            connections,
            flows: FlowTable::new(SLOTS, (seed >> 32) as u32 ^ seed as u32),
            touched: SlotSet::default(),
            waiting: SlotSet::default(),
            earliest: u64::MAX,
            open: 0,
            unauthenticated: 0,
            accepted: 0,
            dropped: 0,
            stopping: false,
            status_due: 0,
        }
    }

    /// Runs until told to stop; then returns with all connections closed.
    pub fn run(mut self) {
        use crate::scheduler;
        loop {
            let now = scheduler::now();
            let (busy, deadline) = self.round(now);
            if self.stopping && self.open == 0 {
                return;
            }
            // Every port, so that none stays masked.
            if busy || self.ports.iter_mut().fold(false, |work, port| !port.hardware.rest() | work) {
                scheduler::yield_now();
            } else if deadline == u64::MAX {
                self.mailbox.event.wait();
            } else {
                self.mailbox.event.wait_until(deadline);
            }
        }
    }

    /// One round. Returns whether there is more to do at once, and else when to come again at the latest.
    fn round(&mut self, now: u64) -> (bool, u64) {
        let mut busy = false;
        for index in 0..self.ports.len() {
            busy |= self.receive(index, now);
        }
        self.collect(now);
        if !self.touched.is_empty() {
            let touched = core::mem::take(&mut self.touched);
            touched.drain(|slot| busy |= self.attend(slot, now));
        }
        let mut deadline = self.earliest;
        for (index, port) in self.ports.iter_mut().enumerate() {
            if now >= port.deadline {
                port.maintain(now, index);
            }
            deadline = deadline.min(port.deadline);
            port.hardware.kick();
        }
        if now >= self.status_due {
            self.status_due = now + 1_000_000;
            self.publish();
        }
        (busy || !self.touched.is_empty(), deadline)
    }

    /// Takes frames from a port; returns whether it stopped before there were no more.
    fn receive(&mut self, index: usize, now: u64) -> bool {
        let Some(port) = self.ports.get_mut(index) else { return false };
        port.hardware.service();
        let mut taken = 0;
        while taken < FRAMES_A_ROUND {
            let Some(port) = self.ports.get_mut(index) else { return false };
            let slot = match port.look(index as u8) {
                None => return false,
                Some(Look::Tcp { flow, opens }) => match self.flows.find(&flow) {
                    Some(slot) => Some(slot),
                    None if opens => self.accept(flow, now),
                    None => None,
                },
                Some(Look::Neighbour) => {
                    // Connections may have waited for this address.
                    for (slot, connection) in self.connections.iter().enumerate() {
                        if connection.as_ref().is_some_and(|connection| connection.deadline != u64::MAX) {
                            self.touched.insert(slot);
                        }
                    }
                    None
                }
                Some(_) => None,
            };
            let Some(port) = self.ports.get_mut(index) else { return false };
            match slot.and_then(|slot| Some((slot, self.connections.get_mut(slot)?.as_mut()?))) {
                Some((slot, connection)) => {
                    taken += port.deliver(now, connection);
                    self.touched.insert(slot);
                }
                None => {
                    taken += 1;
                    port.deliver_own(now);
                }
            }
        }
        true
    }

    /// Makes a connection for a SYN: a listening socket that will be shown it.
    fn accept(&mut self, flow: Flow, now: u64) -> Option<usize> {
        let transport = match flow.local_port {
            PORT_445 => Transport::Tcp,
            PORT_139 => Transport::NetBios,
            _ => return None,
        };
        if self.stopping || !self.ports.get(usize::from(flow.port))?.is_own(flow.local) {
            return None;
        }
        if self.unauthenticated >= MAXIMUM_UNAUTHENTICATED || self.open >= SLOTS {
            self.drop_oldest(now);
        }
        let slot = self.connections.iter().position(Option::is_none)?;
        let connection = Connection::new(flow, transport, self.open, now)?;
        *self.connections.get_mut(slot)? = Some(Box::new(connection));
        self.flows.insert(slot, flow);
        self.open += 1;
        self.unauthenticated += 1;
        self.accepted = self.accepted.wrapping_add(1);
        Some(slot)
    }

    /// Resets the connection that has been without a log-on for longest.
    fn drop_oldest(&mut self, now: u64) {
        let oldest = self
            .connections
            .iter()
            .enumerate()
            .filter_map(|(slot, connection)| Some((slot, connection.as_ref()?)))
            .filter(|(_, connection)| connection.stage != Stage::Authenticated)
            .min_by_key(|(_, connection)| connection.since)
            .map(|(slot, _)| slot);
        if let Some(slot) = oldest {
            self.drop_slot(slot, now);
        }
    }

    /// Resets a connection and forgets it.
    fn drop_slot(&mut self, slot: usize, now: u64) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        connection.leave(slot, self.service);
        connection.abort();
        if let Some(port) = self.ports.get_mut(usize::from(connection.flow.port)) {
            port.send(now, &mut connection.sockets);
        }
        self.dropped = self.dropped.wrapping_add(1);
        self.forget(slot);
    }

    fn forget(&mut self, slot: usize) {
        self.flows.remove(slot);
        if self.connections.get_mut(slot).and_then(Option::take).is_some() {
            self.open -= 1;
        }
        self.recount();
    }

    /// Marks the slots that other threads and timers want looked after.
    fn collect(&mut self, now: u64) {
        let touched = &self.touched;
        self.mailbox.replies.drain(|slot| touched.insert(slot));
        let connections = &mut self.connections;
        self.mailbox.closing.drain(|slot| {
            if let Some(connection) = connections.get_mut(slot).and_then(Option::as_mut) {
                connection.finish = true;
                touched.insert(slot);
            }
        });
        if self.mailbox.room.take() {
            self.waiting.drain(|slot| touched.insert(slot));
        }
        if self.mailbox.stop.get() && !self.stopping {
            self.stopping = true;
            for (slot, connection) in self.connections.iter_mut().enumerate() {
                if let Some(connection) = connection {
                    connection.finish = true;
                    touched.insert(slot);
                }
            }
        }
        if now >= self.earliest {
            self.earliest = u64::MAX;
            for (slot, connection) in self.connections.iter().enumerate() {
                let Some(connection) = connection else { continue };
                if connection.deadline <= now {
                    touched.insert(slot);
                } else {
                    self.earliest = self.earliest.min(connection.deadline);
                }
            }
        }
    }

    /// Moves bytes for one connection; returns whether it has more to do at once.
    fn attend(&mut self, slot: usize, now: u64) -> bool {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return false };
        let Some(port) = self.ports.get_mut(usize::from(connection.flow.port)) else { return false };
        let silent = matches!(connection.stage, Stage::Opening | Stage::Unauthenticated)
            && now >= connection.since.saturating_add(LOG_ON_PATIENCE);
        if silent {
            self.drop_slot(slot, now);
            return false;
        }
        let before = connection.stage;
        let mut outcome = connection.work(slot, self.service, now);
        // To ask when it wants to send costs as much as letting it try in vain, and the answer is needed in the end.
        let mut due = port.next_turn(now, &connection.sockets);
        let mut sent = 0;
        while due <= now && sent < SEGMENTS_A_ROUND && port.send(now, &mut connection.sockets) {
            due = port.next_turn(now, &connection.sockets);
            sent += 1;
        }
        let more = sent == SEGMENTS_A_ROUND;
        if outcome == Outcome::Keep {
            // What was sent may have finished the socket.
            if connection.stage == Stage::Closing {
                outcome = connection.work(slot, self.service, now);
                due = port.next_turn(now, &connection.sockets);
            }
            if connection.is_waiting() {
                self.waiting.insert(slot);
            }
            connection.deadline = due;
            if connection.deadline <= now {
                // It could send but for the ring: the port's event comes when there is room.
                connection.deadline = if more { now } else { now + 1_000 };
            }
            if matches!(connection.stage, Stage::Opening | Stage::Unauthenticated) {
                connection.deadline = connection.deadline.min(connection.since + LOG_ON_PATIENCE);
            } else if connection.stage == Stage::Closing {
                connection.deadline = connection.deadline.min(now + 1_000_000);
            } else if let Some(deadline) = connection.message_deadline() {
                connection.deadline = connection.deadline.min(deadline);
            }
            self.earliest = self.earliest.min(connection.deadline);
            if more {
                self.touched.insert(slot);
            }
        }
        let after = connection.stage;
        if outcome == Outcome::Gone {
            self.forget(slot);
        } else if before != after {
            self.recount();
        }
        more
    }

    fn recount(&mut self) {
        self.unauthenticated = self
            .connections
            .iter()
            .flatten()
            .filter(|connection| connection.stage != Stage::Authenticated)
            .count();
    }

    fn publish(&mut self) {
        let ports = self
            .ports
            .iter_mut()
            .map(|port| PortStatus {
                model: port.hardware.model().into(),
                address: port.hardware.address(),
                link: port.link(),
                addresses: port.addresses(),
                router: port.router(),
                frames: port.hardware.statistics(),
                damaged: port.damaged,
            })
            .collect();
        self.status.replace(Status {
            ports,
            connections: self
                .connections
                .iter()
                .flatten()
                .map(|connection| {
                    let flow = &connection.flow;
                    let peer = IpEndpoint::new(flow.remote, flow.remote_port);
                    (peer, usize::from(flow.port), connection.stage == Stage::Authenticated)
                })
                .collect(),
            unauthenticated: self.unauthenticated,
            accepted: self.accepted,
            dropped: self.dropped,
        });
    }
}
