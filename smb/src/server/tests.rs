//! The whole engine with a client of a few lines: what a request of each kind comes to, and what nobody may get away with.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{
    Disposition, Encryption, Limits, Server, ServerConfiguration, ShareAccess, ShareConfiguration, Transport,
};
use crate::ConnectionId;
use crate::crypto::{
    CipherKey, KeyDerivation, PreauthenticationHash, SessionKeys, SigningAlgorithm, SigningKey,
    TransformHeader,
};
use crate::environment::{Account, Authentication, Environment, ExchangeId, Identity, UserId};
use crate::fscc::FileTime;
use crate::memory::MemoryVolume;
use crate::reader::{Reader, Writer};
use crate::status::NtStatus;
use crate::wire::header::{Command, Flags, Header};
use crate::wire::negotiate::Dialect;

mod backlog;
mod compounds;
mod connections;
mod files;
mod leases;
mod notify;
mod opens;
mod protection;
mod waiting;

/// A clock that a test moves, and a generator that counts.
#[derive(Default)]
struct World {
    milliseconds: AtomicU32,
    counter: AtomicU32,
}

fn clock() -> FileTime {
    FileTime::from_unix(1_700_000_000, 0)
}

/// The token that logs user N on is "uN"; "m" makes one more leg; anything else is denied.
impl Environment for World {
    type Volume = MemoryVolume;

    fn now(&self) -> FileTime {
        clock()
    }

    fn monotonic_milliseconds(&self) -> u64 {
        u64::from(self.milliseconds.load(Ordering::Relaxed))
    }

    fn random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.counter.fetch_add(1, Ordering::Relaxed) as u8;
        }
    }

    fn reply_ready(&self, _: ConnectionId) {}

    fn authentication_offer(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"offer");
    }

    fn authenticate(&self, _: ExchangeId, token: &[u8], out: &mut Vec<u8>) -> Authentication {
        match token {
            b"m" => {
                out.extend_from_slice(b"more");
                Authentication::Continue
            }
            [b'u', digit] => Authentication::Accepted(Identity {
                user: UserId(u16::from(digit - b'0')),
                anonymous: *digit == b'0',
                administrator: false,
                session_key: [*digit; 16],
            }),
            _ => Authentication::Denied(NtStatus::LOGON_FAILURE),
        }
    }

    fn abandon_authentication(&self, _: ExchangeId) {}

    fn visit_accounts(&self, visit: &mut dyn FnMut(Account<'_>)) {
        for (number, name) in [(1, "one"), (2, "two")] {
            visit(Account { user: UserId(number), name, disabled: false });
        }
    }
}

struct Fixture {
    server: Server<World>,
    volume: Arc<MemoryVolume>,
}

fn fixture_with(change: impl FnOnce(&mut ServerConfiguration)) -> Fixture {
    let mut configuration = ServerConfiguration::new([7; 16]);
    configuration.minimum_dialect = Dialect::Smb202;
    change(&mut configuration);
    let server = Server::new(World::default(), configuration);
    let volume = Arc::new(MemoryVolume::new("test", clock));
    let mut share = ShareConfiguration {
        name: "data",
        remark: "",
        everyone: ShareAccess::Write,
        users: &[(UserId(2), ShareAccess::Read), (UserId(3), ShareAccess::None)],
        guest: ShareAccess::None,
        hidden: false,
        encrypt: false,
    };
    server.add_share(&share, volume.clone()).unwrap();
    share.name = "secret";
    share.encrypt = true;
    server.add_share(&share, volume.clone()).unwrap();
    Fixture { server, volume }
}

fn fixture() -> Fixture {
    fixture_with(|_| {})
}

/// A client: builds requests, signs or encrypts them, and takes answers apart.
struct Client<'a> {
    server: &'a Server<World>,
    connection: ConnectionId,
    message: u64,
    session: u64,
    tree: u32,
    sign: Option<SigningKey>,
    seal: Option<(CipherKey, CipherKey)>,
    preauth: PreauthenticationHash,
    /// All that went over the wire, both ways.
    wire: Vec<u8>,
}

struct Answer {
    header: Header,
    status: NtStatus,
    /// The whole element.
    bytes: Vec<u8>,
}

fn put(build: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut Writer::new(&mut out));
    out
}

fn name(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

impl<'a> Client<'a> {
    fn new(server: &'a Server<World>) -> Client<'a> {
        Client {
            server,
            connection: server.connect(Transport::Tcp).unwrap(),
            message: 0,
            session: 0,
            tree: 0,
            sign: None,
            seal: None,
            preauth: PreauthenticationHash::new(),
            wire: Vec::new(),
        }
    }

    fn request(&mut self, command: Command, flags: Flags, body: &[u8]) -> Vec<u8> {
        let header = Header {
            credit_charge: 1,
            status: 0,
            command: command as u16,
            credits: 16,
            flags,
            next: 0,
            message_id: self.message,
            tree_or_asynchronous: u64::from(self.tree) << 32,
            session_id: self.session,
            signature: [0; 16],
        };
        self.message += 1;
        let mut message = put(|writer| header.emit(writer));
        message.extend_from_slice(body);
        message
    }

    /// Sends elements as one message.
    fn send(&mut self, mut elements: Vec<Vec<u8>>) -> Disposition {
        let count = elements.len();
        let mut message = Vec::new();
        for (index, element) in elements.iter_mut().enumerate() {
            if index + 1 < count {
                element.resize(element.len().next_multiple_of(8), 0);
                let next = element.len() as u32;
                element[20..24].copy_from_slice(&next.to_le_bytes());
            }
            if let Some(key) = self.sign.as_ref().filter(|_| self.seal.is_none()) {
                element[16] |= 8;
                key.sign(element, None);
            }
            message.extend_from_slice(element);
        }
        self.send_raw(message)
    }

    fn send_raw(&mut self, mut message: Vec<u8>) -> Disposition {
        if let Some((key, _)) = &self.seal {
            let header = key.seal(self.message, self.session, &mut message).unwrap();
            let mut sealed = Vec::new();
            header.emit(&mut sealed);
            sealed.extend_from_slice(&message);
            message = sealed;
        }
        self.wire.extend_from_slice(&message);
        self.server.handle(self.connection, &mut message)
    }

    fn receive_raw(&mut self) -> Option<Vec<u8>> {
        let reply = self.server.next_reply(self.connection)?;
        let mut bytes = Vec::new();
        reply.for_each(&mut |piece| bytes.extend_from_slice(piece));
        assert_eq!(bytes.len(), reply.wire_length());
        self.wire.extend_from_slice(&bytes);
        Some(bytes)
    }

    /// The elements of the next message.
    fn receive(&mut self) -> Vec<Answer> {
        let mut bytes = self.receive_raw().expect("an answer");
        if let Some((_, key)) = &self.seal {
            let header = TransformHeader::parse(&mut Reader::new(&bytes)).unwrap();
            bytes.drain(..52);
            key.open(&header, &mut bytes).unwrap();
        }
        let mut answers = Vec::new();
        loop {
            let header = Header::parse(&bytes).unwrap();
            assert!(header.flags.contains(Flags::RESPONSE));
            let rest = if header.next == 0 { Vec::new() } else { bytes.split_off(header.next as usize) };
            // Without a session there is no key, only the flag.
            let keyless = header.status == NtStatus::USER_SESSION_DELETED.0 && header.signature == [0; 16];
            if header.flags.contains(Flags::SIGNED) && !keyless {
                self.sign.as_ref().unwrap().verify(&bytes).unwrap();
            }
            answers.push(Answer { header, status: NtStatus(header.status), bytes });
            if rest.is_empty() {
                return answers;
            }
            bytes = rest;
        }
    }

    fn call(&mut self, command: Command, body: &[u8]) -> Answer {
        let request = self.request(command, Flags::empty(), body);
        assert_eq!(self.send(vec![request]), Disposition::Continue, "{command:?}");
        self.receive().remove(0)
    }

    fn negotiate(&mut self, dialects: &[u16]) -> Answer {
        let body = put(|writer| {
            writer.u16(36);
            writer.u16(dialects.len() as u16);
            writer.u16(1);
            writer.u16(0);
            writer.u32(0x40);
            writer.bytes(&self.connection.0.to_le_bytes());
            writer.zeros(12);
            let contexts = (64 + 36 + dialects.len() * 2).next_multiple_of(8);
            writer.u32(contexts as u32);
            writer.u16(2);
            writer.u16(0);
            for dialect in dialects {
                writer.u16(*dialect);
            }
            writer.zeros(contexts - 64 - 36 - dialects.len() * 2);
            for bytes in [&[1u16, 6, 0, 0, 1, 0, 1][..], &[2, 4, 0, 0, 1, 2]] {
                for (index, unit) in bytes.iter().enumerate() {
                    if index == 0 {
                        writer.align(8);
                    }
                    writer.u16(*unit);
                }
            }
        });
        let request = self.request(Command::Negotiate, Flags::empty(), &body);
        self.preauth.update(&request);
        self.send(vec![request]);
        let answer = self.receive().remove(0);
        self.preauth.update(&answer.bytes);
        answer
    }

    fn setup(&mut self, token: &[u8], previous: u64) -> Answer {
        let body = put(|writer| {
            writer.u16(25);
            writer.u8(0);
            writer.u8(1);
            writer.zeros(8);
            writer.u16(64 + 24);
            writer.u16(token.len() as u16);
            writer.u64(previous);
            writer.bytes(token);
        });
        let request = self.request(Command::SessionSetup, Flags::empty(), &body);
        self.preauth.update(&request);
        self.send(vec![request]);
        let bytes = self.receive_raw().unwrap();
        let header = Header::parse(&bytes).unwrap();
        if header.status == NtStatus::MORE_PROCESSING_REQUIRED.0 {
            self.preauth.update(&bytes);
        }
        self.session = header.session_id;
        Answer { header, status: NtStatus(header.status), bytes }
    }

    fn connect_tree(&mut self, share: &str) -> NtStatus {
        let path = name(&alloc::format!("\\\\server\\{share}"));
        let body = put(|writer| {
            writer.u16(9);
            writer.u16(0);
            writer.u16(72);
            writer.u16(path.len() as u16);
            writer.bytes(&path);
        });
        let answer = self.call(Command::TreeConnect, &body);
        self.tree = answer.header.tree_id();
        answer.status
    }

    /// Negotiates, logs on and connects "data".
    fn log_on(server: &'a Server<World>, user: u8, dialect: Dialect) -> Client<'a> {
        let mut client = Client::new(server);
        assert_eq!(client.negotiate(&[dialect as u16]).status, NtStatus::SUCCESS);
        assert_eq!(client.setup(b"m", 0).status, NtStatus::MORE_PROCESSING_REQUIRED);
        let answer = client.setup(&[b'u', b'0' + user], 0);
        assert_eq!(answer.status, NtStatus::SUCCESS);
        let (derivation, algorithm) = match dialect {
            Dialect::Smb202 | Dialect::Smb210 => (KeyDerivation::SessionKey, SigningAlgorithm::HmacSha256),
            Dialect::Smb300 | Dialect::Smb302 => (KeyDerivation::FixedLabels, SigningAlgorithm::AesCmac),
            // The test client offers no signing context.
            Dialect::Smb311 => {
                (KeyDerivation::Preauthentication(client.preauth.value()), SigningAlgorithm::AesCmac)
            }
        };
        let cipher = match dialect {
            Dialect::Smb202 | Dialect::Smb210 => None,
            Dialect::Smb300 | Dialect::Smb302 => Some(crate::crypto::Cipher::Aes128Ccm),
            Dialect::Smb311 => Some(crate::crypto::Cipher::Aes128Gcm),
        };
        let keys = SessionKeys::derive(&[b'0' + user; 16], derivation, algorithm, cipher);
        keys.signing.verify(&answer.bytes).unwrap();
        client.sign = Some(keys.signing.clone());
        if server.configuration.encryption == Encryption::Required {
            client.seal = keys.decryption.clone().zip(keys.encryption.clone());
        }
        assert_eq!(client.connect_tree("data"), NtStatus::SUCCESS);
        client
    }

    fn create(&mut self, path: &str, how: Create) -> Answer {
        let body = create_body(path, &how);
        self.call(Command::Create, &body)
    }

    fn open(&mut self, path: &str, how: Create) -> [u8; 16] {
        let answer = self.create(path, how);
        assert_eq!(answer.status, NtStatus::SUCCESS, "{path}");
        file_id(&answer)
    }

    fn close(&mut self, file: &[u8; 16]) -> NtStatus {
        self.call(Command::Close, &close_body(file)).status
    }

    fn write(&mut self, file: &[u8; 16], offset: u64, data: &[u8]) -> NtStatus {
        let body = put(|writer| {
            writer.u16(49);
            writer.u16(64 + 48);
            writer.u32(data.len() as u32);
            writer.u64(offset);
            writer.bytes(file);
            writer.zeros(16);
            writer.bytes(data);
        });
        self.call(Command::Write, &body).status
    }

    fn read(&mut self, file: &[u8; 16], offset: u64, length: u32) -> Result<Vec<u8>, NtStatus> {
        let answer = self.call(Command::Read, &read_body(file, offset, length));
        if answer.status == NtStatus::SUCCESS { Ok(answer.bytes[80..].to_vec()) } else { Err(answer.status) }
    }

    fn lock(&mut self, file: &[u8; 16], offset: u64, length: u64, flags: u32) -> Vec<u8> {
        self.request(Command::Lock, Flags::empty(), &lock_body(file, 0, &[(offset, length, flags)]))
    }
}

#[derive(Clone)]
struct Create {
    access: u32,
    share: u32,
    disposition: u32,
    options: u32,
    oplock: u8,
    contexts: Vec<u8>,
}

const MAKE: Create =
    Create { access: 0x001F_01FF, share: 7, disposition: 3, options: 0, oplock: 0, contexts: Vec::new() };

fn create_body(path: &str, how: &Create) -> Vec<u8> {
    let path = name(path);
    put(|writer| {
        writer.u16(57);
        writer.u8(0);
        writer.u8(how.oplock);
        writer.u32(2);
        writer.zeros(16);
        writer.u32(how.access);
        writer.u32(0x80);
        writer.u32(how.share);
        writer.u32(how.disposition);
        writer.u32(how.options);
        writer.u16(120);
        writer.u16(path.len() as u16);
        let contexts = (120 + path.len()).next_multiple_of(8);
        writer.u32(if how.contexts.is_empty() { 0 } else { contexts as u32 });
        writer.u32(how.contexts.len() as u32);
        writer.bytes(&path);
        if !how.contexts.is_empty() {
            writer.zeros(contexts - 120 - path.len());
            writer.bytes(&how.contexts);
        } else {
            writer.zeros(1);
        }
    })
}

fn context(tag: &[u8; 4], data: &[u8]) -> Vec<u8> {
    put(|writer| {
        writer.u32(0);
        writer.u16(16);
        writer.u16(4);
        writer.u16(0);
        writer.u16(24);
        writer.u32(data.len() as u32);
        writer.bytes(tag);
        writer.zeros(4);
        writer.bytes(data);
    })
}

fn lock_body(file: &[u8; 16], sequence: u32, elements: &[(u64, u64, u32)]) -> Vec<u8> {
    put(|writer| {
        writer.u16(48);
        writer.u16(elements.len() as u16);
        writer.u32(sequence);
        writer.bytes(file);
        for (offset, length, flags) in elements {
            writer.u64(*offset);
            writer.u64(*length);
            writer.u32(*flags);
            writer.u32(0);
        }
    })
}

fn close_body(file: &[u8; 16]) -> Vec<u8> {
    put(|writer| {
        writer.u16(24);
        writer.zeros(6);
        writer.bytes(file);
    })
}

fn read_body(file: &[u8; 16], offset: u64, length: u32) -> Vec<u8> {
    put(|writer| {
        writer.u16(49);
        writer.u16(0);
        writer.u32(length);
        writer.u64(offset);
        writer.bytes(file);
        writer.zeros(17);
    })
}

fn file_id(answer: &Answer) -> [u8; 16] {
    answer.bytes[128..144].try_into().unwrap()
}
