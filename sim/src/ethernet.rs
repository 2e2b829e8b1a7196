//! A simulated Ethernet: a wire with delay, loss and reordering under a seed, the appliance's port at one end and a
//! client's stack at the other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use firmware::board::{FrameReceiver, FrameTransmitter, NetworkPort, PortStatistics};
use firmware::scheduler::WaitQueue;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use crate::random::Random;
use crate::trace::Trace;

/// What a wire does to frames.
#[derive(Clone, Copy, Debug)]
pub struct WireFaults {
    /// One frame in so many is lost; 0: none.
    pub loss_one_in: u64,
    /// Microseconds a frame is under way at least.
    pub delay: u64,
    /// Up to so many more, which reorders.
    pub jitter: u64,
}

impl Default for WireFaults {
    fn default() -> Self {
        Self { loss_one_in: 0, delay: 20, jitter: 0 }
    }
}

/// Frames under way in one direction, by time of arrival.
type UnderWay = BTreeMap<(u64, u64), Vec<u8>>;

/// A wire between two ends.
pub struct Wire {
    faults: WireFaults,
    random: RefCell<Random>,
    clock: Rc<Cell<u64>>,
    trace: Rc<Trace>,
    sequence: Cell<u64>,
    to_appliance: RefCell<UnderWay>,
    to_client: RefCell<UnderWay>,
}

impl Wire {
    /// A wire on the simulation's clock.
    pub fn new(faults: WireFaults, random: Random, clock: Rc<Cell<u64>>, trace: Rc<Trace>) -> Rc<Self> {
        Rc::new(Self {
            faults,
            random: RefCell::new(random),
            clock,
            trace,
            sequence: Cell::new(0),
            to_appliance: RefCell::default(),
            to_client: RefCell::default(),
        })
    }

    fn send(&self, direction: &RefCell<UnderWay>, frame: Vec<u8>) {
        let mut random = self.random.borrow_mut();
        if random.once_in(self.faults.loss_one_in) {
            self.trace.note(self.clock.get(), "lost", &frame);
            return;
        }
        let arrival = self.clock.get() + self.faults.delay + random.below(self.faults.jitter + 1);
        self.sequence.set(self.sequence.get() + 1);
        direction.borrow_mut().insert((arrival, self.sequence.get()), frame);
    }

    fn receive(&self, direction: &RefCell<UnderWay>, what: &str) -> Option<Vec<u8>> {
        let mut under_way = direction.borrow_mut();
        let (&key, _) = under_way.first_key_value()?;
        if key.0 > self.clock.get() {
            return None;
        }
        let frame = under_way.remove(&key)?;
        self.trace.note(self.clock.get(), what, &frame);
        Some(frame)
    }

    /// When the next frame arrives at either end.
    pub fn next_arrival(&self) -> Option<u64> {
        let first = |direction: &RefCell<UnderWay>| Some(direction.borrow().first_key_value()?.0.0);
        [first(&self.to_appliance), first(&self.to_client)].into_iter().flatten().min()
    }

    /// Whether a frame has arrived at the appliance.
    pub fn appliance_has_frames(&self) -> bool {
        self.to_appliance.borrow().first_key_value().is_some_and(|(key, _)| key.0 <= self.clock.get())
    }
}

/// The appliance's port.
pub struct Port {
    address: [u8; 6],
    receiver: Receiver,
    transmitter: Transmitter,
}

/// The port's receive half.
pub struct Receiver {
    wire: Rc<Wire>,
    front: Option<Vec<u8>>,
}

/// The port's transmit half.
pub struct Transmitter(Rc<Wire>);

impl Port {
    /// Port number `index` at the appliance's end of `wire`.
    pub fn new(index: u8, wire: &Rc<Wire>) -> Self {
        Self {
            address: [2, 0, 0, 0, 1, index],
            receiver: Receiver { wire: wire.clone(), front: None },
            transmitter: Transmitter(wire.clone()),
        }
    }
}

impl NetworkPort for Port {
    type Receiver = Receiver;
    type Transmitter = Transmitter;

    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn model(&self) -> &str {
        "simulated Ethernet"
    }

    fn link_is_up(&mut self) -> bool {
        true
    }

    fn service(&mut self) {}

    fn halves(&mut self) -> (&mut Receiver, &mut Transmitter) {
        (&mut self.receiver, &mut self.transmitter)
    }

    fn kick(&mut self) {}

    fn rest(&mut self) -> bool {
        // The board reports frames for as long as they wait.
        true
    }

    fn statistics(&self) -> PortStatistics {
        PortStatistics::default()
    }
}

impl FrameReceiver for Receiver {
    fn front(&mut self) -> Option<&[u8]> {
        if self.front.is_none() {
            self.front = self.wire.receive(&self.wire.to_appliance, "in");
        }
        self.front.as_deref()
    }

    fn pop(&mut self) {
        self.front = None;
    }
}

impl FrameTransmitter for Transmitter {
    fn space(&mut self) -> usize {
        64
    }

    fn transmit<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.send(&self.0.to_client, frame);
        result
    }
}

struct ClientDevice(Rc<Wire>);
struct ClientReceived(Vec<u8>);
struct ClientTransmission(Rc<Wire>);

impl phy::Device for ClientDevice {
    type RxToken<'a> = ClientReceived;
    type TxToken<'a> = ClientTransmission;

    fn receive(&mut self, _: Instant) -> Option<(ClientReceived, ClientTransmission)> {
        let frame = self.0.receive(&self.0.to_client, "out")?;
        Some((ClientReceived(frame), ClientTransmission(self.0.clone())))
    }

    fn transmit(&mut self, _: Instant) -> Option<ClientTransmission> {
        Some(ClientTransmission(self.0.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl phy::RxToken for ClientReceived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, body: F) -> R {
        body(&self.0)
    }
}

impl phy::TxToken for ClientTransmission {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, body: F) -> R {
        let mut frame = vec![0; length];
        let result = body(&mut frame);
        self.0.send(&self.0.to_appliance, frame);
        result
    }
}

/// The client's end: a host with a stack of its own, which threads of the simulation use through blocking calls.
pub struct ClientHost {
    stack: RefCell<Stack>,
    wire: Rc<Wire>,
    clock: Rc<Cell<u64>>,
    changed: WaitQueue,
    next_port: Cell<u16>,
}

struct Stack {
    interface: Interface,
    device: ClientDevice,
    sockets: SocketSet<'static>,
}

impl ClientHost {
    /// A host with `address` at the client's end of `wire`.
    pub fn new(address: IpCidr, wire: &Rc<Wire>, clock: Rc<Cell<u64>>, seed: u64) -> Rc<Self> {
        let mut device = ClientDevice(wire.clone());
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 2, 1])));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list is empty: there is room.
            let _ = addresses.push(address);
        });
        let sockets = SocketSet::new(Vec::new());
        Rc::new(Self {
            stack: RefCell::new(Stack { interface, device, sockets }),
            wire: wire.clone(),
            clock,
            changed: WaitQueue::new(),
            next_port: Cell::new(40_000),
        })
    }

    /// Lets the stack work and wakes who waits for it; returns when it wants to work again.
    pub fn poll(&self) -> Option<u64> {
        let now = Instant::from_micros(self.clock.get() as i64);
        let Stack { interface, device, sockets } = &mut *self.stack.borrow_mut();
        if interface.poll(now, device, sockets) == PollResult::SocketStateChanged {
            self.changed.wake_all();
        }
        let timer = interface.poll_at(now, sockets).map(|at| at.total_micros().max(0) as u64);
        // A socket that wants to work at once has just been given the chance.
        let timer = timer.map(|at| at.max(self.clock.get() + 500));
        [timer, self.wire.next_arrival()].into_iter().flatten().min()
    }

    /// Connects to the appliance; `None` when it refuses or does not answer.
    pub fn connect(self: &Rc<Self>, to: IpAddress, port: u16) -> Option<ClientSocket> {
        let handle = {
            let Stack { interface, sockets, .. } = &mut *self.stack.borrow_mut();
            let ring = || tcp::SocketBuffer::new(vec![0; 256 * 1024]);
            let mut socket = tcp::Socket::new(ring(), ring());
            let local = self.next_port.get();
            self.next_port.set(local + 1);
            socket.connect(interface.context(), (to, port), local).ok()?;
            sockets.add(socket)
        };
        let socket = ClientSocket { host: self.clone(), handle };
        socket
            .wait(|socket| (socket.may_send() || !socket.is_open()).then_some(socket.may_send()))
            .then_some(socket)
    }
}

/// A connection of the client's. Its calls block the calling thread of the simulation.
pub struct ClientSocket {
    host: Rc<ClientHost>,
    handle: SocketHandle,
}

impl ClientSocket {
    fn wait<T>(&self, mut until: impl FnMut(&mut tcp::Socket<'static>) -> Option<T>) -> T {
        loop {
            if let Some(result) = until(self.host.stack.borrow_mut().sockets.get_mut(self.handle)) {
                return result;
            }
            self.host.changed.wait();
        }
    }

    /// Ends the connection in order.
    pub fn close(&self) {
        self.host.stack.borrow_mut().sockets.get_mut::<tcp::Socket>(self.handle).close();
    }
}

impl client::Transport for ClientSocket {
    fn send(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let sent = self.wait(|socket| match socket.send_slice(bytes) {
                Ok(0) => None,
                Ok(sent) => Some(Some(sent)),
                Err(_) => Some(None),
            });
            let Some(rest) = sent.and_then(|sent| bytes.get(sent..)) else { return false };
            bytes = rest;
        }
        true
    }

    fn receive(&self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let missing = length - bytes.len();
            let piece = self.wait(|socket| {
                let mut buffer = vec![0; missing.min(64 * 1024)];
                match socket.recv_slice(&mut buffer) {
                    Ok(0) => None,
                    Ok(received) => {
                        buffer.truncate(received);
                        Some(Some(buffer))
                    }
                    Err(_) => Some(None),
                }
            })?;
            bytes.extend_from_slice(&piece);
        }
        Some(bytes)
    }

    fn abort(&self) {
        self.host.stack.borrow_mut().sockets.get_mut::<tcp::Socket>(self.handle).abort();
    }
}
