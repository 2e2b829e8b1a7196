//! One TCP connection: its socket, the message being put together, the reply being sent.

use alloc::vec::Vec;

use smb::netbios::{self, Packet};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::flow::Flow;
use super::service::{Reply, Service, Transport};

/// Bytes of a socket's receive ring (the window a client may fill before it is heard) and of its send ring, as long as
/// connections are few.
pub const RING: usize = 256 * 1024;

/// Bytes of the rings of one more connection beside `open` others. All connections there can be have 34 MiB together,
/// half of what is left free beside the cache: their tables and messages are in the other half.
const fn ring_size(open: usize) -> usize {
    match open {
        0..32 => RING,
        32..96 => RING / 4,
        _ => RING / 8,
    }
}
/// A peer that acknowledges nothing for so long is gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a silent peer is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How a connection stands with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is not through.
    Opening,
    /// Connected; nobody has logged on.
    Unauthenticated,
    /// In use.
    Authenticated,
    /// The service has been told that it is over; what is in the send ring still goes out.
    Closing,
}

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Carry on.
    Keep,
    /// The socket is done with: forget the connection.
    Gone,
}

/// A message of which not all bytes are here.
#[derive(Debug)]
enum Incoming {
    /// So many bytes of the transport header.
    Header { bytes: [u8; 4], length: usize },
    /// A message of `length` bytes is announced; there is no memory for it yet.
    Announced { length: usize },
    /// A message of `length` bytes, which has to be whole by a certain time.
    Message { bytes: Vec<u8>, length: usize },
    /// A NetBIOS session request of which so many bytes are to come.
    SessionRequest { remaining: usize },
    /// Whole; nobody could take it yet.
    Waiting(Vec<u8>),
}

impl Incoming {
    const START: Self = Incoming::Header { bytes: [0; 4], length: 0 };
}

/// A message of which not all bytes are in the send ring.
#[derive(Debug)]
struct Outgoing<R> {
    header: [u8; 4],
    reply: R,
    /// Bytes in the ring already, header included.
    sent: usize,
}

/// One TCP connection.
pub(super) struct Connection<R> {
    pub(super) flow: Flow,
    pub(super) sockets: SocketSet<'static>,
    handle: SocketHandle,
    transport: Transport,
    pub(super) stage: Stage,
    /// When the client connected, or (once closing) when it is cut off.
    pub(super) since: u64,
    /// When the stack wants to see the socket again.
    pub(super) deadline: u64,
    incoming: Incoming,
    /// When the last message was admitted.
    admitted: u64,
    outgoing: Option<Outgoing<R>>,
    /// Bytes that the transport itself answers, ahead of any reply.
    control: Option<([u8; 4], usize)>,
    /// Close when everything is out.
    pub(super) finish: bool,
}

/// How long a message may take from its first byte to its last, in microseconds: others may wait for its memory.
const MESSAGE_PATIENCE: u64 = 120_000_000;

/// How long a connection that is being closed may take to send its last bytes.
const CLOSING_MICROSECONDS: u64 = 5_000_000;

impl<R: Reply> Connection<R> {
    /// A socket that listens on the flow's own port, to be shown the SYN, beside `open` others. `None` when there is no
    /// memory for its rings.
    pub(super) fn new(flow: Flow, transport: Transport, open: usize, now: u64) -> Option<Self> {
        let size = ring_size(open);
        let ring = || {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(size).ok()?;
            bytes.resize(size, 0);
            Some(tcp::SocketBuffer::new(bytes))
        };
        let mut socket = tcp::Socket::new(ring()?, ring()?);
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(PEER_TIMEOUT));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.listen((flow.local, flow.local_port)).ok()?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Self {
            flow,
            sockets,
            handle,
            transport,
            stage: Stage::Opening,
            since: now,
            deadline: u64::MAX,
            incoming: Incoming::START,
            admitted: now,
            outgoing: None,
            control: None,
            finish: false,
        })
    }

    /// Whether a message waits for somebody to take it, or for memory.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.incoming, Incoming::Waiting(_) | Incoming::Announced { .. })
    }

    /// When the message that is on its way has to be whole: memory is set aside for it.
    pub(super) fn message_deadline(&self) -> Option<u64> {
        matches!(self.incoming, Incoming::Message { .. }).then_some(self.admitted + MESSAGE_PATIENCE)
    }

    /// Bytes in the receive ring.
    pub(super) fn queued(&self) -> usize {
        self.sockets.get::<tcp::Socket>(self.handle).recv_queue()
    }

    /// Resets the connection: the stack sends RST at its next turn.
    pub(super) fn abort(&mut self) {
        self.sockets.get_mut::<tcp::Socket>(self.handle).abort();
    }

    /// Moves bytes between the socket and the service. The stack's turn comes after it.
    pub(super) fn work<S: Service<Reply = R>>(&mut self, slot: usize, service: &S, now: u64) -> Outcome {
        let state = self.sockets.get_mut::<tcp::Socket>(self.handle).state();
        match state {
            tcp::State::Listen | tcp::State::SynReceived => return Outcome::Keep,
            tcp::State::Closed | tcp::State::TimeWait => {
                if self.stage != Stage::Closing {
                    self.leave(slot, service);
                }
                // An aborted socket still has its RST to send: it has an endpoint until then.
                let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
                let done = state == tcp::State::TimeWait || socket.remote_endpoint().is_none();
                return if done { Outcome::Gone } else { Outcome::Keep };
            }
            _ => {}
        }
        if self.stage == Stage::Opening {
            if !service.connect(slot, self.transport) {
                self.stage = Stage::Closing;
                self.abort();
                return Outcome::Keep;
            }
            self.stage = Stage::Unauthenticated;
            self.since = now;
        }
        if self.stage == Stage::Unauthenticated && service.is_authenticated(slot) {
            self.stage = Stage::Authenticated;
        }
        if self.stage == Stage::Closing {
            if now >= self.since.saturating_add(CLOSING_MICROSECONDS) {
                self.abort();
            }
            return Outcome::Keep;
        }
        if self.message_deadline().is_some_and(|deadline| now >= deadline) {
            self.leave(slot, service);
            self.abort();
            return Outcome::Keep;
        }
        let heard = self.receive(slot, service, now);
        self.send(slot, service);
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        let whole = matches!(self.incoming, Incoming::Waiting(_));
        let silent = !socket.may_recv() && socket.recv_queue() == 0 && !whole;
        if heard.is_err() {
            self.leave(slot, service);
            self.abort();
        } else if silent || (self.finish && self.outgoing.is_none()) {
            self.leave(slot, service);
            self.since = now;
            self.sockets.get_mut::<tcp::Socket>(self.handle).close();
        }
        Outcome::Keep
    }

    /// Tells the service that the connection is over.
    pub(super) fn leave<S: Service<Reply = R>>(&mut self, slot: usize, service: &S) {
        if matches!(self.stage, Stage::Unauthenticated | Stage::Authenticated) {
            service.disconnect(slot);
        }
        self.stage = Stage::Closing;
        self.outgoing = None;
        match core::mem::replace(&mut self.incoming, Incoming::START) {
            Incoming::Message { length, .. } => service.withdraw(length),
            Incoming::Waiting(message) => service.withdraw(message.len()),
            Incoming::Header { .. } | Incoming::Announced { .. } | Incoming::SessionRequest { .. } => {}
        }
    }

    /// Takes what the receive ring holds; an error is the peer's, and ends the connection.
    fn receive<S: Service<Reply = R>>(
        &mut self,
        slot: usize,
        service: &S,
        now: u64,
    ) -> Result<(), ProtocolError> {
        loop {
            if let Incoming::Announced { length } = self.incoming {
                if !service.admit(slot, length) {
                    return Ok(());
                }
                let mut bytes = Vec::new();
                if bytes.try_reserve_exact(length).is_err() {
                    service.withdraw(length);
                    return Err(ProtocolError);
                }
                self.admitted = now;
                self.incoming = Incoming::Message { bytes, length };
            }
            if let Incoming::Waiting(message) = &mut self.incoming {
                match service.submit(slot, core::mem::take(message)) {
                    Ok(()) => self.incoming = Incoming::START,
                    Err(back) => {
                        *message = back;
                        return Ok(());
                    }
                }
            }
            let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
            if !socket.can_recv() {
                return Ok(());
            }
            let incoming = &mut self.incoming;
            let taken = socket.recv(|bytes| match incoming {
                Incoming::Header { bytes: header, length } => {
                    let missing = header.get_mut(*length..).unwrap_or_default();
                    let taken = missing.len().min(bytes.len());
                    for (to, from) in missing.iter_mut().zip(bytes.iter()) {
                        *to = *from;
                    }
                    *length += taken;
                    (taken, ())
                }
                Incoming::Message { bytes: message, length } => {
                    let taken = length.saturating_sub(message.len()).min(bytes.len());
                    message.extend_from_slice(bytes.get(..taken).unwrap_or_default());
                    (taken, ())
                }
                Incoming::SessionRequest { remaining } => {
                    let taken = (*remaining).min(bytes.len());
                    *remaining -= taken;
                    (taken, ())
                }
                Incoming::Announced { .. } | Incoming::Waiting(_) => (0, ()),
            });
            if taken.is_err() {
                return Ok(());
            }
            self.advance(slot, service)?;
        }
    }

    /// Goes on from a finished part of a message to the next.
    fn advance<S: Service<Reply = R>>(&mut self, slot: usize, service: &S) -> Result<(), ProtocolError> {
        match &mut self.incoming {
            Incoming::Header { bytes, length: 4 } => {
                let packet = match self.transport {
                    Transport::Tcp => netbios::parse_direct(*bytes),
                    Transport::NetBios => netbios::parse_session(*bytes),
                };
                self.incoming = match packet.map_err(|_| ProtocolError)? {
                    // An empty message is nothing; some clients probe with it.
                    Packet::Message(0) | Packet::KeepAlive => Incoming::START,
                    Packet::Message(length) => {
                        let length = length as usize;
                        if length > service.maximum_message(slot) {
                            return Err(ProtocolError);
                        }
                        Incoming::Announced { length }
                    }
                    // Called and calling name: whatever is called is us.
                    Packet::SessionRequest(length) => {
                        self.control = Some((netbios::POSITIVE_RESPONSE, 0));
                        Incoming::SessionRequest { remaining: length as usize }
                    }
                };
            }
            Incoming::Message { bytes, length } if bytes.len() == *length => {
                self.incoming = Incoming::Waiting(core::mem::take(bytes));
            }
            Incoming::SessionRequest { remaining: 0 } => self.incoming = Incoming::START,
            _ => {}
        }
        Ok(())
    }

    /// Fills the send ring with what there is to say.
    fn send<S: Service<Reply = R>>(&mut self, slot: usize, service: &S) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        while socket.can_send() {
            if let Some((bytes, sent)) = &mut self.control {
                let Ok(taken) = socket.send_slice(bytes.get(*sent..).unwrap_or_default()) else { return };
                *sent += taken;
                if *sent == bytes.len() {
                    self.control = None;
                }
                continue;
            }
            let outgoing = match &mut self.outgoing {
                Some(outgoing) => outgoing,
                None => {
                    let Some(reply) = service.next_reply(slot) else { return };
                    let header = (reply.length() as u32 & 0x00FF_FFFF).to_be_bytes();
                    self.outgoing.insert(Outgoing { header, reply, sent: 0 })
                }
            };
            let mut piece_start = 0;
            let mut full = false;
            let sent = &mut outgoing.sent;
            let mut put = |piece: &[u8]| {
                let end = piece_start + piece.len();
                // The ring may take a piece in two, where it wraps.
                while !full && *sent < end {
                    let rest = piece.get(*sent - piece_start..).unwrap_or_default();
                    match socket.send_slice(rest) {
                        Ok(taken) if taken > 0 => *sent += taken,
                        _ => full = true,
                    }
                }
                piece_start = end;
            };
            put(&outgoing.header);
            outgoing.reply.for_each(&mut put);
            if full {
                return;
            }
            self.outgoing = None;
        }
    }
}

/// The peer broke the framing.
struct ProtocolError;
