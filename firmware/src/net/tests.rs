//! The net task against a client's stack over a wire that may lose frames, with an echo behind it.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::*;
use crate::board::{FrameReceiver, FrameTransmitter};

type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

#[derive(Default, Clone)]
struct Wire {
    to_server: Queue,
    to_client: Queue,
    /// Every so many-th frame is lost; 0 loses none.
    loss: Rc<Cell<u32>>,
    count: Rc<Cell<u32>>,
}

impl Wire {
    fn push(&self, queue: &Queue, frame: Vec<u8>) {
        self.count.set(self.count.get() + 1);
        if self.loss.get() == 0 || !self.count.get().is_multiple_of(self.loss.get()) {
            queue.borrow_mut().push_back(frame);
        }
    }
}

struct TestPort {
    receiver: TestReceiver,
    transmitter: TestTransmitter,
}
struct TestReceiver {
    wire: Wire,
    front: Option<Vec<u8>>,
}
struct TestTransmitter(Wire);

impl TestPort {
    fn new(wire: &Wire) -> Self {
        Self {
            receiver: TestReceiver { wire: wire.clone(), front: None },
            transmitter: TestTransmitter(wire.clone()),
        }
    }
}

impl NetworkPort for TestPort {
    type Receiver = TestReceiver;
    type Transmitter = TestTransmitter;
    fn address(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 1]
    }
    fn model(&self) -> &str {
        "test"
    }
    fn link_is_up(&mut self) -> bool {
        true
    }
    fn service(&mut self) {}
    fn halves(&mut self) -> (&mut TestReceiver, &mut TestTransmitter) {
        (&mut self.receiver, &mut self.transmitter)
    }
    fn kick(&mut self) {}
    fn rest(&mut self) -> bool {
        true
    }
    fn statistics(&self) -> PortStatistics {
        PortStatistics::default()
    }
}

impl FrameReceiver for TestReceiver {
    fn front(&mut self) -> Option<&[u8]> {
        if self.front.is_none() {
            self.front = self.wire.to_server.borrow_mut().pop_front();
        }
        self.front.as_deref()
    }
    fn pop(&mut self) {
        self.front = None;
    }
}

impl FrameTransmitter for TestTransmitter {
    fn space(&mut self) -> usize {
        64
    }
    fn transmit<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        assert!(frame.len() <= 1514);
        self.0.push(&self.0.to_client, frame);
        result
    }
}

struct ClientDevice(Wire);
struct ClientRx(Vec<u8>);
struct ClientTx(Wire);

impl phy::Device for ClientDevice {
    type RxToken<'a> = ClientRx;
    type TxToken<'a> = ClientTx;
    fn receive(&mut self, _: Instant) -> Option<(ClientRx, ClientTx)> {
        let frame = self.0.to_client.borrow_mut().pop_front()?;
        Some((ClientRx(frame), ClientTx(self.0.clone())))
    }
    fn transmit(&mut self, _: Instant) -> Option<ClientTx> {
        Some(ClientTx(self.0.clone()))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}
impl phy::RxToken for ClientRx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}
impl phy::TxToken for ClientTx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(&self.0.to_server, frame);
        result
    }
}

/// Gives every message back; refuses to take any while `refusing`.
struct Echo {
    mailbox: &'static Mailbox,
    replies: RefCell<Vec<VecDeque<Vec<u8>>>>,
    connected: Cell<usize>,
    authenticated: Cell<bool>,
    refusing: Cell<bool>,
    /// Memory is out.
    full: Cell<bool>,
    /// Bytes of messages on their way in.
    admitted: Cell<usize>,
}

impl Service for Echo {
    type Reply = Vec<u8>;
    fn connect(&self, _slot: usize, _transport: Transport) -> bool {
        self.connected.set(self.connected.get() + 1);
        true
    }
    fn disconnect(&self, slot: usize) {
        self.connected.set(self.connected.get() - 1);
        self.replies.borrow_mut()[slot].clear();
    }
    fn maximum_message(&self, _slot: usize) -> usize {
        1 << 20
    }
    fn is_authenticated(&self, _slot: usize) -> bool {
        self.authenticated.get()
    }
    fn admit(&self, _slot: usize, bytes: usize) -> bool {
        let admitted = !self.full.get();
        self.admitted.set(self.admitted.get() + if admitted { bytes } else { 0 });
        admitted
    }
    fn withdraw(&self, bytes: usize) {
        self.admitted.set(self.admitted.get() - bytes);
    }
    fn submit(&self, slot: usize, message: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.refusing.get() {
            return Err(message);
        }
        self.withdraw(message.len());
        self.replies.borrow_mut()[slot].push_back(message);
        self.mailbox.reply_ready(slot);
        Ok(())
    }
    fn next_reply(&self, slot: usize) -> Option<Vec<u8>> {
        self.replies.borrow_mut()[slot].pop_front()
    }
}

struct Bench {
    net: Net<TestPort, Echo>,
    echo: &'static Echo,
    client: Interface,
    device: ClientDevice,
    sockets: SocketSet<'static>,
    wire: Wire,
    now: u64,
}

const SERVER: Ipv4Address = Ipv4Address::new(192, 168, 7, 1);

fn bench() -> Bench {
    let wire = Wire::default();
    let mailbox: &'static Mailbox = Box::leak(Box::default());
    let echo: &'static Echo = Box::leak(Box::new(Echo {
        mailbox,
        replies: RefCell::new((0..SLOTS).map(|_| VecDeque::new()).collect()),
        connected: Cell::new(0),
        authenticated: Cell::new(false),
        refusing: Cell::new(false),
        full: Cell::new(false),
        admitted: Cell::new(0),
    }));
    let fallback = StaticAddress { address: Ipv4Cidr::new(SERVER, 24), router: None };
    let addressing = Addressing { dhcp: true, fallback: Some(fallback) };
    let configuration = Configuration { host_name: "nas", addressing: vec![addressing], seed: 99 };
    let net =
        Net::new(vec![TestPort::new(&wire)], &configuration, echo, mailbox, Box::leak(Box::default()), 0);
    let mut device = ClientDevice(wire.clone());
    let mut client = Interface::new(
        Config::new(HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 2]))),
        &mut device,
        Instant::ZERO,
    );
    client.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(192, 168, 7, 2), 24)).unwrap();
        addresses.push(IpCidr::new(IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0, 2), 64)).unwrap();
    });
    let mut bench = Bench { net, echo, client, device, sockets: SocketSet::new(vec![]), wire, now: 0 };
    // DHCP finds nobody.
    bench.run_for(10_000_000);
    bench
}

impl Bench {
    fn step(&mut self) {
        let instant = Instant::from_micros(self.now as i64);
        self.client.poll(instant, &mut self.device, &mut self.sockets);
        let (_, deadline) = self.net.round(self.now);
        let quiet = self.wire.to_client.borrow().is_empty() && self.wire.to_server.borrow().is_empty();
        if quiet {
            let client = self.client.poll_at(instant, &self.sockets);
            let client = client.map_or(u64::MAX, |at| at.total_micros() as u64);
            self.now = deadline.min(client).max(self.now + 10);
        } else {
            self.now += 10;
        }
    }
    fn run_for(&mut self, microseconds: u64) {
        let end = self.now + microseconds;
        while self.now < end {
            self.step();
        }
    }
    fn connect(&mut self, to: IpAddress, port: u16, local: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 100_000]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.connect(self.client.context(), (to, port), local).unwrap();
        self.sockets.add(socket)
    }
    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
    /// Sends `bytes`, and returns what comes back until as many bytes as `expect` are there.
    fn exchange(&mut self, handle: SocketHandle, bytes: &[u8], expect: usize) -> Vec<u8> {
        let mut sent = 0;
        let mut back = Vec::new();
        let end = self.now + 300_000_000;
        while back.len() < expect {
            assert!(self.now < end, "only {} of {expect} bytes came back", back.len());
            let socket = self.socket(handle);
            if sent < bytes.len() && socket.can_send() {
                sent += socket.send_slice(&bytes[sent..]).unwrap();
            }
            while socket.can_recv() {
                let mut buffer = [0; 4096];
                let length = socket.recv_slice(&mut buffer).unwrap();
                back.extend_from_slice(&buffer[..length]);
            }
            self.step();
        }
        back
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

#[test]
fn messages_of_all_sizes_come_back() {
    let mut bench = bench();
    let handle = bench.connect(SERVER.into(), 445, 50_001);
    for length in [1, 3, 4, 5, 1459, 1460, 1461, 65_536, 900_000] {
        let bytes = framed(&pattern(length));
        assert!(bench.exchange(handle, &bytes, bytes.len()) == bytes, "{length}");
    }
    // Several in one segment.
    let several: Vec<u8> = (1..50).flat_map(|length| framed(&pattern(length))).collect();
    assert!(bench.exchange(handle, &several, several.len()) == several);
    bench.socket(handle).close();
    bench.run_for(2_000_000);
    assert_eq!(bench.echo.connected.get(), 0);
    assert_eq!(bench.net.open, 0);
}

#[test]
fn a_wire_that_loses_frames() {
    let mut bench = bench();
    bench.wire.loss.set(17);
    let handle = bench.connect(SERVER.into(), 445, 50_001);
    let bytes = framed(&pattern(300_000));
    assert!(bench.exchange(handle, &bytes, bytes.len()) == bytes);
}

#[test]
fn link_local_addresses_work() {
    let mut bench = bench();
    let to = IpAddress::v6(0xfe80, 0, 0, 0, 0x0000, 0x00ff, 0xfe00, 0x0001);
    let handle = bench.connect(to, 445, 50_001);
    let bytes = framed(&pattern(100_000));
    assert!(bench.exchange(handle, &bytes, bytes.len()) == bytes);
}

#[test]
fn netbios_sessions_are_opened() {
    let mut bench = bench();
    let handle = bench.connect(SERVER.into(), 139, 50_001);
    let mut bytes = vec![0x81, 0, 0, 68];
    bytes.extend_from_slice(&[0x20; 68]);
    assert_eq!(bench.exchange(handle, &bytes, 4), [0x82, 0, 0, 0]);
    let mut bytes = vec![0x85, 0, 0, 0];
    bytes.extend(framed(b"hello"));
    assert_eq!(bench.exchange(handle, &bytes, 9), framed(b"hello"));
}

#[test]
fn broken_framing_is_reset() {
    for start in [[0x47, 0x45, 0x54, 0x20], [0x00, 0xFF, 0xFF, 0xFF], [0x81, 0, 0, 68]] {
        let mut bench = bench();
        let handle = bench.connect(SERVER.into(), 445, 50_001);
        bench.run_for(100_000);
        bench.socket(handle).send_slice(&start).unwrap();
        bench.run_for(1_000_000);
        assert_eq!(bench.socket(handle).state(), tcp::State::Closed);
        assert_eq!(bench.echo.connected.get(), 0);
        assert_eq!(bench.net.open, 0);
    }
}

#[test]
fn other_ports_are_closed() {
    let mut bench = bench();
    let handle = bench.connect(SERVER.into(), 80, 50_001);
    bench.run_for(1_000_000);
    assert_eq!(bench.socket(handle).state(), tcp::State::Closed);
}

#[test]
fn a_flood_of_silence_keeps_nobody_out() {
    let mut bench = bench();
    for index in 0..300 {
        bench.connect(SERVER.into(), 445, 10_000 + index);
        bench.run_for(500);
    }
    assert!(bench.net.unauthenticated <= MAXIMUM_UNAUTHENTICATED);
    let handle = bench.connect(SERVER.into(), 445, 50_001);
    assert_eq!(bench.exchange(handle, &framed(b"here"), 8), framed(b"here"));
    // Silence is not borne for ever.
    bench.run_for(40_000_000);
    assert_eq!(bench.net.open, 0);
    assert_eq!(bench.echo.connected.get(), 0);
}

#[test]
fn messages_wait_while_nobody_takes_them() {
    let mut bench = bench();
    bench.echo.authenticated.set(true);
    let handle = bench.connect(SERVER.into(), 445, 50_001);
    bench.run_for(100_000);
    bench.echo.refusing.set(true);
    let bytes: Vec<u8> = (0..9).flat_map(|_| framed(&pattern(100_000))).collect();
    let mut sent = 0;
    let end = bench.now + 5_000_000;
    while bench.now < end {
        let socket = bench.socket(handle);
        if socket.can_send() && sent < bytes.len() {
            sent += socket.send_slice(&bytes[sent..]).unwrap();
        }
        bench.step();
    }
    // The window has closed.
    assert!(sent < bytes.len());
    bench.echo.refusing.set(false);
    bench.echo.mailbox.room();
    let rest = bytes[sent..].to_vec();
    assert!(bench.exchange(handle, &rest, bytes.len()) == bytes);
}

#[test]
fn stopping_closes_everything() {
    let mut bench = bench();
    bench.echo.authenticated.set(true);
    let handle = bench.connect(SERVER.into(), 445, 50_001);
    bench.exchange(handle, &framed(b"x"), 5);
    bench.echo.mailbox.stop();
    bench.run_for(1_000_000);
    bench.socket(handle).close();
    bench.run_for(1_000_000);
    assert_eq!(bench.net.open, 0);
    let handle = bench.connect(SERVER.into(), 445, 50_002);
    bench.run_for(1_000_000);
    assert_eq!(bench.socket(handle).state(), tcp::State::Closed);
}

#[test]
fn messages_wait_for_memory_and_give_it_back() {
    let mut bench = bench();
    bench.echo.authenticated.set(true);
    let handle = bench.connect(SERVER.into(), 445, 50_001);
    bench.run_for(100_000);
    bench.echo.full.set(true);
    let message = framed(&pattern(50_000));
    bench.socket(handle).send_slice(&message).unwrap();
    bench.run_for(1_000_000);
    assert_eq!(bench.echo.admitted.get(), 0);
    bench.echo.full.set(false);
    bench.echo.mailbox.room();
    assert!(bench.exchange(handle, &[], message.len()) == message);
    assert_eq!(bench.echo.admitted.get(), 0);
    // A message that never ends keeps its memory for a while only.
    bench.socket(handle).send_slice(&message[..1000]).unwrap();
    bench.run_for(10_000_000);
    assert_eq!(bench.echo.admitted.get(), 50_000);
    bench.run_for(120_000_000);
    assert_eq!(bench.echo.admitted.get(), 0);
    assert_eq!(bench.socket(handle).state(), tcp::State::Closed);
    // Neither does one whose client leaves.
    let handle = bench.connect(SERVER.into(), 445, 50_002);
    bench.run_for(100_000);
    bench.socket(handle).send_slice(&message[..1000]).unwrap();
    bench.run_for(1_000_000);
    assert_eq!(bench.echo.admitted.get(), 50_000);
    bench.socket(handle).abort();
    bench.run_for(1_000_000);
    assert_eq!(bench.echo.admitted.get(), 0);
}
