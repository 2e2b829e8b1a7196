//! The whole engine: messages on two connections against a server with a volume in memory.
//!
//! Input: a byte of options, then steps: a byte of [flags](step) and a piece, the message. The target plays the part of a
//! client that a fuzzer cannot know: with [`step::FIX`] it puts message ids, session, tree and file in where the message has
//! placeholders, with [`step::SIGN`] it signs, with [`step::SEAL`] it encrypts. At the end both connections go, and nothing
//! may be left in any table.

use std::cell::Cell;
use std::sync::Arc;

use smb::crypto::{Cipher, KeyDerivation, PreauthenticationHash, SessionKeys, SigningAlgorithm};
use smb::environment::{Account, Authentication, Environment, ExchangeId, Identity, UserId, Volume};
use smb::fscc::FileTime;
use smb::memory::MemoryVolume;
use smb::status::NtStatus;
use smb::{
    ConnectionId, Disposition, Encryption, Server, ServerConfiguration, ShareAccess, ShareConfiguration,
    Transport,
};

use crate::input::Input;

/// Options of the server.
pub mod option {
    /// Unsigned requests are refused.
    pub const SIGNING_REQUIRED: u8 = 1;
    /// Everybody encrypts.
    pub const ENCRYPTION_REQUIRED: u8 = 2;
    /// The share can only be read.
    pub const READ_ONLY: u8 = 4;
}

/// Flags of a step.
pub mod step {
    /// Placeholders are filled in.
    pub const FIX: u8 = 1;
    /// The message is signed.
    pub const SIGN: u8 = 2;
    /// The message is encrypted.
    pub const SEAL: u8 = 4;
    /// It goes to the second connection.
    pub const SECOND: u8 = 8;
    /// A minute passes first.
    pub const LATER: u8 = 16;
    /// The connection is cut instead, and made anew.
    pub const CUT: u8 = 32;
}

/// Stands for the session and the tree connected last.
pub const PLACEHOLDER: u8 = 0x5E;
/// Stands for the file opened last, 16 times.
pub const FILE_PLACEHOLDER: u8 = 0xF1;

/// What every log-on ends with.
const SESSION_KEY: [u8; 16] = [0x42; 16];

/// More steps are not taken.
const MAXIMUM_STEPS: u32 = 48;

struct World {
    milliseconds: Cell<u64>,
    random: Cell<u8>,
}

impl Environment for World {
    type Volume = MemoryVolume;

    fn now(&self) -> FileTime {
        clock()
    }

    fn monotonic_milliseconds(&self) -> u64 {
        self.milliseconds.set(self.milliseconds.get() + 1);
        self.milliseconds.get()
    }

    fn random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            self.random.set(self.random.get().wrapping_add(1));
            *byte = self.random.get();
        }
    }

    fn reply_ready(&self, _: ConnectionId) {}

    fn authentication_offer(&self, out: &mut Vec<u8>) {
        out.extend(b"offer");
    }

    /// The token's first byte is the verdict.
    fn authenticate(&self, _: ExchangeId, token: &[u8], out: &mut Vec<u8>) -> Authentication {
        out.extend(b"token");
        let identity = |user, anonymous| Identity {
            user: UserId(user),
            anonymous,
            administrator: user == 1,
            session_key: SESSION_KEY,
        };
        match token.first() {
            Some(b'A') => Authentication::Accepted(identity(1, false)),
            Some(b'B') => Authentication::Accepted(identity(2, false)),
            Some(b'N') => Authentication::Accepted(identity(0, true)),
            Some(b'C') => Authentication::Continue,
            _ => Authentication::Denied(NtStatus::LOGON_FAILURE),
        }
    }

    fn abandon_authentication(&self, _: ExchangeId) {}

    fn visit_accounts(&self, visit: &mut dyn FnMut(Account<'_>)) {
        for (number, name) in [(1, "administrator"), (2, "user")] {
            visit(Account { user: UserId(number), name, disabled: number == 2 });
        }
    }
}

fn clock() -> FileTime {
    FileTime::from_unix(1_700_000_000, 0)
}

/// What a client remembers of its connection.
#[derive(Clone, Default)]
struct Client {
    dialect: u16,
    signing: u16,
    cipher: u16,
    message_id: u64,
    session: u64,
    tree: u32,
    file: [u8; 16],
    /// Over NEGOTIATE, and then over the session set-ups.
    negotiate_hash: PreauthenticationHash,
    session_hash: PreauthenticationHash,
    keys: Option<SessionKeys>,
    nonce: u64,
    /// Ids of messages that went out signed or encrypted.
    protected: Vec<u64>,
    /// Sessions of guests and of nobody in particular, which have no keys to protect anything with.
    anonymous: Vec<u64>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Client {
    /// Fills placeholders in, element by element.
    fn fix(&mut self, message: &mut [u8]) {
        let mut start = 0;
        for _ in 0..16 {
            let Some(element) = message.get_mut(start..).filter(|element| element.len() >= 64) else { break };
            element[..4].copy_from_slice(b"\xFESMB");
            element[4..6].copy_from_slice(&[64, 0]);
            element[24..32].copy_from_slice(&self.message_id.to_le_bytes());
            let charge = u16::from_le_bytes([element[6], element[7]]);
            self.message_id += u64::from(charge.clamp(1, 64));
            if element[36..40] == [PLACEHOLDER; 4] {
                element[36..40].copy_from_slice(&self.tree.to_le_bytes());
            }
            if element[40..48] == [PLACEHOLDER; 8] {
                element[40..48].copy_from_slice(&self.session.to_le_bytes());
            }
            while let Some(at) = element.windows(16).position(|window| window == [FILE_PLACEHOLDER; 16]) {
                element[at..at + 16].copy_from_slice(&self.file);
            }
            match u32::from_le_bytes(element[20..24].try_into().unwrap()) as usize {
                0 => break,
                next => start += next,
            }
        }
    }

    /// Signs every element.
    fn sign(&self, message: &mut [u8]) {
        let Some(keys) = &self.keys else { return };
        let mut start = 0;
        for _ in 0..16 {
            let Some(element) = message.get_mut(start..).filter(|element| element.len() >= 64) else { break };
            let next = u32::from_le_bytes(element[20..24].try_into().unwrap()) as usize;
            let length = if next == 0 { element.len() } else { next.min(element.len()) };
            element[16] |= 8;
            keys.signing.sign(&mut element[..length], None);
            if next == 0 {
                break;
            }
            start += next;
        }
    }

    /// Encrypts the message.
    fn seal(&mut self, message: &mut Vec<u8>) {
        let Some(key) = self.keys.as_ref().and_then(|keys| keys.decryption.as_ref()) else { return };
        self.nonce += 1;
        let mut out = Vec::new();
        key.seal(self.nonce, self.session, message).unwrap().emit(&mut out);
        out.append(message);
        *message = out;
    }

    /// Notes the ids in a message that goes out protected.
    fn note_protected(&mut self, message: &[u8]) {
        for element in elements(message) {
            self.protected.push(u64::from_le_bytes(element[24..32].try_into().unwrap()));
        }
    }

    /// Requests that succeeded, and were no part of setting a session up, must have been protected as the server demands,
    /// and so must be the answer.
    fn check(&self, options: u8, reply: &[u8]) {
        let sealed = reply.starts_with(b"\xFDSMB");
        let demands = option::SIGNING_REQUIRED | option::ENCRYPTION_REQUIRED;
        if sealed || options & demands == 0 {
            return;
        }
        for element in elements(reply) {
            let status = u32::from_le_bytes(element[8..12].try_into().unwrap());
            let id = u64::from_le_bytes(element[24..32].try_into().unwrap());
            let session = u64::from_le_bytes(element[40..48].try_into().unwrap());
            let set_up = matches!(element[12], 0 | 1 | 13);
            if set_up || status >= 0xC000_0000 || id == u64::MAX || self.anonymous.contains(&session) {
                continue;
            }
            assert!(options & option::ENCRYPTION_REQUIRED == 0, "answered in the clear");
            assert!(self.protected.contains(&id), "an unsigned request succeeded");
            assert!(element[16] & 8 != 0, "an unsigned answer");
        }
    }

    /// Learns from what was sent and what came back.
    fn learn(&mut self, request: &[u8], reply: &[u8]) -> Option<()> {
        let mut reply = reply.to_vec();
        if reply.starts_with(b"\xFDSMB") {
            let mut reader = smb::reader::Reader::new(&reply);
            let header = smb::crypto::TransformHeader::parse(&mut reader).expect("a header of its own");
            let mut inside = reader.rest().to_vec();
            let key = self.keys.as_ref()?.encryption.as_ref()?;
            key.open(&header, &mut inside).ok()?;
            reply = inside;
        }
        let status = u32::from_le_bytes(number(&reply, 8)?);
        match u16::from_le_bytes(number(&reply, 12)?) {
            0 => {
                self.negotiate_hash.update(request);
                self.negotiate_hash.update(&reply);
                self.dialect = u16::from_le_bytes(number(&reply, 68)?);
                (self.signing, self.cipher) = (1, 0);
                let count = u16::from_le_bytes(number(&reply, 70)?);
                let mut at = u32::from_le_bytes(number(&reply, 124)?) as usize;
                for _ in 0..if self.dialect == 0x0311 { count } else { 0 } {
                    let kind = u16::from_le_bytes(number(&reply, at)?);
                    let length = usize::from(u16::from_le_bytes(number(&reply, at + 2)?));
                    match kind {
                        2 => self.cipher = u16::from_le_bytes(number(&reply, at + 10)?),
                        8 => self.signing = u16::from_le_bytes(number(&reply, at + 10)?),
                        _ => {}
                    }
                    at = (at + 8 + length).next_multiple_of(8);
                }
            }
            1 => {
                let session = u64::from_le_bytes(number(&reply, 40)?);
                if self.session != session {
                    self.session_hash = self.negotiate_hash.clone();
                    self.session = session;
                }
                if status == 0 && u16::from_le_bytes(number(&reply, 66)?) & 3 != 0 {
                    self.anonymous.push(session);
                }
                self.session_hash.update(request);
                if status != 0 {
                    self.session_hash.update(&reply);
                } else {
                    self.derive();
                }
            }
            3 if status == 0 => self.tree = u32::from_le_bytes(number(&reply, 36)?),
            5 if status == 0 => self.file = number(&reply, 64 + 64)?,
            _ => {}
        }
        Some(())
    }

    fn derive(&mut self) {
        let hash = *self.session_hash.value();
        let (derivation, signing, cipher) = match self.dialect {
            0x0311 => (
                KeyDerivation::Preauthentication(&hash),
                SigningAlgorithm::from_wire(self.signing).unwrap(),
                Cipher::from_wire(self.cipher),
            ),
            0x0300 | 0x0302 => {
                (KeyDerivation::FixedLabels, SigningAlgorithm::AesCmac, Some(Cipher::Aes128Ccm))
            }
            _ => (KeyDerivation::SessionKey, SigningAlgorithm::HmacSha256, None),
        };
        self.keys = Some(SessionKeys::derive(&SESSION_KEY, derivation, signing, cipher));
    }
}

/// The elements of a compound, those that have a header.
fn elements(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(message);
    core::iter::from_fn(move || {
        let element = rest.take().filter(|element| element.len() >= 64)?;
        match u32::from_le_bytes(element[20..24].try_into().unwrap()) as usize {
            0 => {}
            next => rest = element.get(next..),
        }
        Some(element)
    })
    .take(64)
}

/// The target.
pub fn run(data: &[u8]) {
    serve(data, &mut |_, _| {});
}

/// Told of a request as it was sent, and of the replies after it.
pub type Watch<'a> = dyn FnMut(&[u8], &[Vec<u8>]) + 'a;

/// Runs an input and shows every request as it was sent with the replies after it.
pub fn serve(data: &[u8], watch: &mut Watch<'_>) {
    let mut input = Input::new(data);
    let options = input.byte();
    let mut configuration = ServerConfiguration::new([7; 16]);
    configuration.signing_required = options & option::SIGNING_REQUIRED != 0;
    if options & option::ENCRYPTION_REQUIRED != 0 {
        configuration.encryption = Encryption::Required;
    }
    configuration.limits.connections = 4;
    configuration.limits.sessions = 4;
    configuration.limits.trees = 6;
    configuration.limits.open_files = 8;
    configuration.limits.handles = 12;
    configuration.limits.lock_ranges = 8;
    configuration.limits.waiting_requests = 8;
    configuration.limits.handle_extras = 12;
    configuration.limits.leases = 8;
    configuration.limits.pipes = 4;
    let world = World { milliseconds: Cell::new(1000), random: Cell::new(0) };
    let server = Server::new(world, configuration);
    let volume = Arc::new(MemoryVolume::new("FUZZ", clock));
    let everyone = if options & option::READ_ONLY != 0 { ShareAccess::Read } else { ShareAccess::Write };
    let share = ShareConfiguration {
        name: "data",
        remark: "",
        everyone,
        users: &[(UserId(2), ShareAccess::Read)],
        guest: ShareAccess::None,
        hidden: false,
        encrypt: false,
    };
    server.add_share(&share, volume.clone()).unwrap();

    let connect = || server.connect(Transport::Tcp).unwrap();
    let mut connections = [connect(), connect()];
    let mut clients = [Client::default(), Client::default()];
    for _ in 0..MAXIMUM_STEPS {
        if input.is_empty() {
            break;
        }
        let flags = input.byte();
        let mut message = input.piece().to_vec();
        let which = usize::from(flags & step::SECOND != 0);
        if flags & step::LATER != 0 {
            let clock = &server.environment().milliseconds;
            clock.set(clock.get() + 60_000);
            server.tick();
        }
        let cut = flags & step::CUT != 0;
        if cut || !server.is_connected(connections[which]) {
            server.disconnect(connections[which]);
            connections[which] = connect();
            clients[which] = Client::default();
            if cut {
                continue;
            }
        }
        let client = &mut clients[which];
        if flags & step::FIX != 0 {
            client.fix(&mut message);
        }
        if flags & step::SIGN != 0 {
            client.sign(&mut message);
        }
        let plain = message.clone();
        if flags & (step::SIGN | step::SEAL) != 0 && client.keys.is_some() {
            client.note_protected(&plain);
        }
        if flags & step::SEAL != 0 {
            client.seal(&mut message);
        }
        // The transport sees to it.
        message.truncate(server.maximum_message(connections[which]));
        let disposition = server.handle(connections[which], &mut message);
        let mut replies = Vec::new();
        for (connection, client) in connections.iter().zip(&mut clients) {
            while let Some(reply) = server.next_reply(*connection) {
                let mut bytes = Vec::new();
                reply.for_each(&mut |piece| bytes.extend_from_slice(piece));
                assert_eq!(bytes.len(), reply.wire_length());
                assert!(bytes.len() < 1 << 21 && bytes.len() >= 64);
                client.learn(&plain, &bytes);
                client.check(options, &bytes);
                replies.push(bytes);
            }
        }
        watch(&plain, &replies);
        if disposition == Disposition::Disconnect {
            server.disconnect(connections[which]);
        }
    }
    for connection in connections {
        server.disconnect(connection);
    }
    // Durable handles outlive their connection, but not for ever.
    let clock = &server.environment().milliseconds;
    clock.set(clock.get() + 3_600_000);
    server.tick();
    let left = server.statistics();
    assert_eq!((left.connections, left.sessions, left.trees), (0, 0, 0), "{left:?}");
    assert_eq!((left.open_files, left.handles, left.locks, left.waiting), (0, 0, 0, 0), "{left:?}");
    assert_eq!(volume.uses(), 0, "a node was not given back");
    if options & option::READ_ONLY != 0 {
        let mut count = 0;
        let root = volume.open(&[]).unwrap();
        volume
            .list(root, 0, &mut |_| {
                count += 1;
                true
            })
            .unwrap();
        assert_eq!(count, 0, "a share that can only be read was changed");
    }
}
