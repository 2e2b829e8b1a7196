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
mod leases;
mod opens;
mod protection;

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
        let body = put(|writer| {
            writer.u16(48);
            writer.u16(1);
            writer.u32(0);
            writer.bytes(file);
            writer.u64(offset);
            writer.u64(length);
            writer.u32(flags);
            writer.u32(0);
        });
        self.request(Command::Lock, Flags::empty(), &body)
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

#[test]
fn every_dialect_reads_back_what_it_wrote() {
    for dialect in Dialect::BEST_FIRST {
        let fixture = fixture();
        let mut client = Client::log_on(&fixture.server, 1, dialect);
        let file = client.open("a.txt", MAKE);
        assert_eq!(client.write(&file, 3, b"hello"), NtStatus::SUCCESS);
        assert_eq!(client.read(&file, 0, 100).unwrap(), b"\0\0\0hello");
        assert_eq!(client.read(&file, 8, 1), Err(NtStatus::END_OF_FILE));
        assert_eq!(client.close(&file), NtStatus::SUCCESS);
        assert_eq!(client.close(&file), NtStatus::FILE_CLOSED);
        fixture.server.disconnect(client.connection);
        assert_eq!(fixture.volume.uses(), 0);
        let left = fixture.server.statistics();
        assert_eq!(
            (left.connections, left.sessions, left.trees, left.handles, left.open_files),
            (0, 0, 0, 0, 0)
        );
    }
}

#[test]
fn a_second_negotiate_or_an_old_number_ends_the_connection() {
    let fixture = fixture();
    let mut client = Client::new(&fixture.server);
    client.negotiate(&[0x0311]);
    let request = client.request(Command::Negotiate, Flags::empty(), &[36, 0, 1, 0]);
    assert_eq!(client.send(vec![request]), Disposition::Disconnect);
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    client.message -= 1;
    let request = client.request(Command::Echo, Flags::empty(), &[4, 0, 0, 0]);
    assert_eq!(client.send(vec![request]), Disposition::Disconnect);
}

#[test]
fn wrong_credentials_leave_nothing_behind() {
    let fixture = fixture();
    let mut client = Client::new(&fixture.server);
    client.negotiate(&[0x0210]);
    assert_eq!(client.setup(b"x", 0).status, NtStatus::LOGON_FAILURE);
    assert_eq!(fixture.server.statistics().sessions, 0);
    client.session = 0x1234;
    assert_eq!(client.setup(b"u1", 0).status, NtStatus::USER_SESSION_DELETED);
}

#[test]
fn unsigned_and_forged_requests_are_refused() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    client.sign = None;
    let request = client.request(Command::Create, Flags::empty(), &create_body("a", &MAKE));
    assert_eq!(client.send_raw(request), Disposition::Disconnect);
    assert_eq!(client.receive()[0].status, NtStatus::ACCESS_DENIED);
    fixture.server.disconnect(client.connection);
    // Where nobody must sign, a wrong signature is wrong all the same.
    let fixture = fixture_with(|configuration| configuration.signing_required = false);
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let key = client.sign.take().unwrap();
    client.open("a", MAKE);
    let mut request = client.request(Command::Create, Flags::SIGNED, &create_body("b", &MAKE));
    key.sign(&mut request, None);
    *request.last_mut().unwrap() ^= 1;
    assert_eq!(client.send_raw(request), Disposition::Disconnect);
    assert_eq!(client.receive()[0].status, NtStatus::ACCESS_DENIED);
    assert_eq!(fixture.volume.uses(), 1);
}

#[test]
fn encryption_hides_everything_and_can_be_demanded() {
    let fixture = fixture_with(|configuration| configuration.encryption = Encryption::Required);
    let mut client = Client::new(&fixture.server);
    client.negotiate(&[0x0311]);
    client.setup(b"m", 0);
    client.setup(b"u1", 0);
    let keys = SessionKeys::derive(
        b"1111111111111111",
        KeyDerivation::Preauthentication(client.preauth.value()),
        SigningAlgorithm::AesCmac,
        Some(crate::crypto::Cipher::Aes128Gcm),
    );
    client.sign = Some(keys.signing.clone());
    assert_eq!(client.connect_tree("data"), NtStatus::ACCESS_DENIED);
    client.seal = Some((keys.decryption.clone().unwrap(), keys.encryption.clone().unwrap()));
    assert_eq!(client.connect_tree("secret"), NtStatus::SUCCESS);
    let file = client.open("plainname", MAKE);
    client.write(&file, 0, b"plain text");
    let request = client.request(Command::Read, Flags::empty(), &read_body(&file, 0, 10));
    client.send(vec![request]);
    let bytes = client.receive_raw().unwrap();
    assert_eq!(bytes[..4], *b"\xFDSMB");
    assert!(!bytes.windows(5).any(|window| window == b"plain"));
    // Without encryption the dialect is refused at once.
    let mut old = Client::new(&fixture.server);
    assert_eq!(old.negotiate(&[0x0210]).status, NtStatus::ACCESS_DENIED);
}

#[test]
fn a_share_that_wants_encryption_refuses_clear_requests() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    assert_eq!(client.connect_tree("secret"), NtStatus::SUCCESS);
    assert_eq!(client.create("a", MAKE).status, NtStatus::ACCESS_DENIED);
    let mut old = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    assert_eq!(old.connect_tree("secret"), NtStatus::ACCESS_DENIED);
}

#[test]
fn share_rights_bind_handles() {
    let fixture = fixture();
    let mut owner = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let file = owner.open("a", MAKE);
    owner.write(&file, 0, b"x");
    let mut reader = Client::log_on(&fixture.server, 2, Dialect::Smb311);
    assert_eq!(reader.create("a", MAKE).status, NtStatus::ACCESS_DENIED);
    assert_eq!(reader.create("new", Create { access: 1, ..MAKE }).status, NtStatus::ACCESS_DENIED);
    let file = reader.open("a", Create { access: 0x0200_0000, disposition: 1, ..MAKE });
    assert_eq!(reader.read(&file, 0, 1).unwrap(), b"x");
    assert_eq!(reader.write(&file, 0, b"y"), NtStatus::ACCESS_DENIED);
    assert_eq!(owner.connect_tree("nothing"), NtStatus::BAD_NETWORK_NAME);
    // Nobody's: IPC$ and no more.
    let mut nobody = Client::new(&fixture.server);
    nobody.negotiate(&[0x0210]);
    nobody.setup(b"u0", 0);
    assert_eq!(nobody.connect_tree("data"), NtStatus::ACCESS_DENIED);
    assert_eq!(nobody.connect_tree("IPC$"), NtStatus::SUCCESS);
    // And a share that says so, with what it says, whatever users may do there.
    let open = ShareConfiguration {
        name: "open",
        remark: "",
        everyone: ShareAccess::Write,
        users: &[],
        guest: ShareAccess::Read,
        hidden: true,
        encrypt: false,
    };
    fixture.server.add_share(&open, fixture.volume.clone()).unwrap();
    assert_eq!(nobody.connect_tree("open"), NtStatus::SUCCESS);
    assert_eq!(nobody.create("made", MAKE).status, NtStatus::ACCESS_DENIED);
    let file = nobody.open("a", Create { access: 0x0200_0000, disposition: 1, ..MAKE });
    assert_eq!(nobody.read(&file, 0, 1).unwrap(), b"x");
    assert_eq!(nobody.write(&file, 0, b"z"), NtStatus::ACCESS_DENIED);
    assert_eq!(owner.connect_tree("open"), NtStatus::SUCCESS);
    owner.open("made", MAKE);
}

#[test]
fn sessions_trees_and_files_of_others_are_out_of_reach() {
    let fixture = fixture();
    let mut first = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let mut second = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let file = first.open("a", MAKE);
    assert_eq!(second.close(&file), NtStatus::FILE_CLOSED);
    let own = (second.session, second.tree);
    second.tree = first.tree;
    assert_eq!(second.close(&file), NtStatus::NETWORK_NAME_DELETED);
    (second.session, second.tree) = (first.session, first.tree);
    assert_eq!(second.close(&file), NtStatus::USER_SESSION_DELETED);
    (second.session, second.tree) = own;
    assert_eq!(first.close(&file), NtStatus::SUCCESS);
}

#[test]
fn compounds_pass_on_ids_and_errors() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let previous = [0xFF; 16];
    let create = client.request(Command::Create, Flags::empty(), &create_body("a", &MAKE));
    let read = client.request(Command::Read, Flags::RELATED, &read_body(&previous, 0, 1));
    let close = client.request(Command::Close, Flags::RELATED, &close_body(&previous));
    client.send(vec![create, read, close]);
    let answers: Vec<_> = client.receive().iter().map(|answer| answer.status).collect();
    assert_eq!(answers, [NtStatus::SUCCESS, NtStatus::END_OF_FILE, NtStatus::SUCCESS]);
    // A CREATE that fails takes what follows with it.
    let how = Create { disposition: 1, ..MAKE };
    let create = client.request(Command::Create, Flags::empty(), &create_body("b", &how));
    let close = client.request(Command::Close, Flags::RELATED, &close_body(&previous));
    client.send(vec![create, close]);
    let answers: Vec<_> = client.receive().iter().map(|answer| answer.status).collect();
    assert_eq!(answers, [NtStatus::OBJECT_NAME_NOT_FOUND; 2]);
    // The first cannot be related; a tree is gone for what follows its disconnection.
    let close = client.request(Command::Close, Flags::RELATED, &close_body(&previous));
    client.send(vec![close]);
    assert_eq!(client.receive()[0].status, NtStatus::INVALID_PARAMETER);
    let file = client.open("a", MAKE);
    let leave = client.request(Command::TreeDisconnect, Flags::empty(), &[4, 0, 0, 0]);
    let read = client.request(Command::Read, Flags::empty(), &read_body(&file, 0, 1));
    client.send(vec![leave, read]);
    let answers: Vec<_> = client.receive().iter().map(|answer| answer.status).collect();
    assert_eq!(answers, [NtStatus::SUCCESS, NtStatus::NETWORK_NAME_DELETED]);
}

#[test]
fn links_that_lead_astray_end_the_connection() {
    let fixture = fixture();
    for next in [1u32, 8, 60, 66, 72, 1 << 20, u32::MAX] {
        let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb210);
        let mut request = client.request(Command::Echo, Flags::empty(), &[4, 0, 0, 0]);
        request[20..24].copy_from_slice(&next.to_le_bytes());
        assert_eq!(client.send_raw(request), Disposition::Disconnect, "{next}");
    }
}

#[test]
fn share_modes_keep_others_out_until_the_close() {
    let fixture = fixture();
    let mut first = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut second = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let file = first.open("a", Create { share: 1, ..MAKE });
    assert_eq!(second.create("A", MAKE).status, NtStatus::SHARING_VIOLATION);
    second.open("a", Create { access: 0x80, ..MAKE });
    first.close(&file);
    second.open("a", MAKE);
}

#[test]
fn deleted_with_the_last_close() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let keeper = client.open("a", MAKE);
    let deleter = client.open("a", Create { options: 0x1000, disposition: 1, ..MAKE });
    client.close(&deleter);
    assert_eq!(client.create("a", MAKE).status, NtStatus::DELETE_PENDING);
    client.write(&keeper, 0, b"still here");
    client.close(&keeper);
    assert_eq!(client.create("a", Create { disposition: 1, ..MAKE }).status, NtStatus::OBJECT_NAME_NOT_FOUND);
    assert_eq!(fixture.volume.uses(), 0);
}

#[test]
fn a_lock_waits_without_a_worker() {
    let fixture = fixture();
    let mut first = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut second = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let (mine, yours) = (first.open("a", MAKE), second.open("a", MAKE));
    let request = first.lock(&mine, 0, 10, 2);
    first.send(vec![request]);
    assert_eq!(first.receive()[0].status, NtStatus::SUCCESS);
    let request = second.lock(&yours, 5, 10, 2 | 0x10);
    second.send(vec![request]);
    assert_eq!(second.receive()[0].status, NtStatus::LOCK_NOT_GRANTED);
    assert_eq!(second.write(&yours, 9, b"x"), NtStatus::FILE_LOCK_CONFLICT);
    let request = second.lock(&yours, 5, 10, 2);
    second.send(vec![request]);
    let interim = second.receive().remove(0);
    assert_eq!(interim.status, NtStatus::PENDING);
    assert!(interim.header.flags.contains(Flags::ASYNCHRONOUS));
    assert!(second.receive_raw().is_none());
    first.close(&mine);
    let granted = second.receive().remove(0);
    assert_eq!(granted.status, NtStatus::SUCCESS);
    assert_eq!(granted.header.tree_or_asynchronous, interim.header.tree_or_asynchronous);
    assert_eq!(fixture.server.statistics().waiting, 0);
    // A wait ends with CANCEL, and with its connection.
    let mine = first.open("a", MAKE);
    let request = first.lock(&mine, 5, 1, 2);
    first.send(vec![request]);
    assert_eq!(first.receive()[0].status, NtStatus::PENDING);
    first.message -= 1;
    let cancel = first.request(Command::Cancel, Flags::empty(), &[4, 0, 0, 0]);
    first.send(vec![cancel]);
    assert_eq!(first.receive()[0].status, NtStatus::CANCELLED);
    let request = first.lock(&mine, 5, 1, 2);
    first.send(vec![request]);
    fixture.server.disconnect(first.connection);
    fixture.server.disconnect(second.connection);
    let left = fixture.server.statistics();
    assert_eq!((left.waiting, left.locks, left.handles), (0, 0, 0));
}

#[test]
fn an_open_waits_for_an_oplock_to_be_given_up() {
    let fixture = fixture();
    let mut first = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut second = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let answer = first.create("a", Create { oplock: 9, ..MAKE });
    assert_eq!(answer.bytes[66], 9);
    let file = file_id(&answer);
    let request = second.request(Command::Create, Flags::empty(), &create_body("a", &MAKE));
    let previous = [0xFF; 16];
    let close = second.request(Command::Close, Flags::RELATED, &close_body(&previous));
    second.send(vec![request, close]);
    assert_eq!(second.receive()[0].status, NtStatus::PENDING);
    let notice = first.receive().remove(0);
    assert_eq!((notice.header.message_id, notice.bytes[66]), (u64::MAX, 1));
    let body = put(|writer| {
        writer.u16(24);
        writer.u8(1);
        writer.zeros(5);
        writer.bytes(&file);
    });
    assert_eq!(first.call(Command::OplockBreak, &body).status, NtStatus::SUCCESS);
    let answers: Vec<_> = second.receive().iter().map(|answer| answer.status).collect();
    assert_eq!(answers, [NtStatus::SUCCESS; 2]);
    assert_eq!(first.call(Command::OplockBreak, &body).status, NtStatus::INVALID_OPLOCK_PROTOCOL);
    // Who does not answer is not waited for beyond its time.
    first.close(&file);
    first.open("b", Create { oplock: 9, ..MAKE });
    let request = second.request(Command::Create, Flags::empty(), &create_body("b", &MAKE));
    second.send(vec![request]);
    assert_eq!(second.receive()[0].status, NtStatus::PENDING);
    fixture.server.tick();
    assert!(second.receive_raw().is_none());
    fixture.server.environment().milliseconds.store(36_000, Ordering::Relaxed);
    fixture.server.tick();
    assert_eq!(second.receive()[0].status, NtStatus::SUCCESS);
    assert_eq!(fixture.server.statistics().waiting, 0);
}

#[test]
fn a_durable_handle_comes_back_or_is_scavenged() {
    let fixture = fixture();
    let how = Create { oplock: 9, contexts: context(b"DHnQ", &[0; 16]), ..MAKE };
    let mut first = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let file = first.open("a", how.clone());
    fixture.server.disconnect(first.connection);
    assert_eq!(fixture.server.statistics().handles, 1);
    let again = Create { contexts: context(b"DHnC", &file), ..MAKE };
    let mut other = Client::log_on(&fixture.server, 4, Dialect::Smb210);
    assert_eq!(other.create("a", again.clone()).status, NtStatus::ACCESS_DENIED);
    let mut second = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    assert_eq!(second.open("a", again.clone()), file);
    assert_eq!(second.create("a", again.clone()).status, NtStatus::OBJECT_NAME_NOT_FOUND);
    assert_eq!(second.write(&file, 0, b"x"), NtStatus::SUCCESS);
    fixture.server.disconnect(second.connection);
    fixture.server.environment().milliseconds.store(61_000, Ordering::Relaxed);
    fixture.server.tick();
    assert_eq!(fixture.server.statistics().handles, 0);
    assert_eq!(fixture.volume.uses(), 0);
    assert_eq!(other.create("a", again).status, NtStatus::OBJECT_NAME_NOT_FOUND);
}

#[test]
fn changes_are_told_to_who_watches() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let directory = client.open("d", Create { options: 1, ..MAKE });
    let body = put(|writer| {
        writer.u16(32);
        writer.u16(0);
        writer.u32(4096);
        writer.bytes(&directory);
        writer.u32(3);
        writer.u32(0);
    });
    let request = client.request(Command::ChangeNotify, Flags::empty(), &body);
    client.send(vec![request]);
    assert_eq!(client.receive()[0].status, NtStatus::PENDING);
    client.open("elsewhere", MAKE);
    let request = client.request(Command::Create, Flags::empty(), &create_body("d\\new", &MAKE));
    client.send(vec![request]);
    let told = client.receive().remove(0);
    assert_eq!(told.status, NtStatus::SUCCESS);
    assert_eq!(told.bytes[72 + 4..72 + 8], 1u32.to_le_bytes());
    assert_eq!(told.bytes[72 + 12..], name("new"));
    client.receive();
    // What happens between two requests is kept.
    client.open("d\\newer", MAKE);
    let told = client.call(Command::ChangeNotify, &body);
    assert_eq!(told.bytes[72 + 12..], name("newer"));
}

#[test]
fn full_tables_refuse_and_leak_nothing() {
    let fixture = fixture_with(|configuration| {
        configuration.limits = Limits { handles: 3, open_files: 2, trees: 2, ..Limits::default() };
    });
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    client.open("a", MAKE);
    client.open("a", MAKE);
    client.open("b", MAKE);
    assert_eq!(client.create("b", MAKE).status, NtStatus::INSUFFICIENT_RESOURCES);
    assert_eq!(client.create("c", MAKE).status, NtStatus::INSUFFICIENT_RESOURCES);
    assert_eq!(client.connect_tree("data"), NtStatus::SUCCESS);
    assert_eq!(client.connect_tree("data"), NtStatus::INSUFFICIENT_RESOURCES);
    fixture.server.disconnect(client.connection);
    assert_eq!(fixture.volume.uses(), 0);
}

#[test]
fn a_flood_of_silent_connections_drops_the_oldest() {
    let fixture = fixture();
    let client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let first = fixture.server.connect(Transport::Tcp).unwrap();
    for second in 1..500 {
        fixture.server.environment().milliseconds.store(second, Ordering::Relaxed);
        fixture.server.connect(Transport::NetBios).unwrap();
    }
    assert!(!fixture.server.is_connected(first));
    assert!(fixture.server.is_connected(client.connection));
    assert_eq!(fixture.server.statistics().connections, 33);
    assert!(fixture.server.maximum_message(first) <= 0x4000);
    // One more can log on all the same.
    Client::log_on(&fixture.server, 1, Dialect::Smb210);
}

#[test]
fn a_payload_must_be_paid_for() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let file = client.open("a", MAKE);
    assert_eq!(client.read(&file, 0, 0x1_0001), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(client.read(&file, u64::MAX, 2), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(client.write(&file, u64::MAX, b"xx"), NtStatus::INVALID_PARAMETER);
}

/// Changes bytes of good messages in many ways: nothing may panic, and a client that behaves must still be served.
#[test]
fn damaged_messages_harm_nobody() {
    let fixture = fixture_with(|configuration| configuration.signing_required = false);
    let mut seed = 0x2545_F491_4F6C_DD1Du64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let lease = context(b"RqLs", &[7; 52]);
    let mut ended = 0;
    for round in 0..400 {
        let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
        client.sign = None;
        let file = client.open("a", MAKE);
        let directory = client.open("d", Create { options: 1, ..MAKE });
        let how = Create { oplock: 0xFF, contexts: lease.clone(), ..MAKE };
        let query = |class: u8, file: &[u8; 16]| {
            put(|writer| {
                writer.u16(33);
                writer.u8(class);
                writer.zeros(5);
                writer.bytes(file);
                writer.u16(96);
                writer.u16(2);
                writer.u32(4096);
                writer.bytes(&[b'*', 0]);
            })
        };
        let ioctl = put(|writer| {
            writer.u16(57);
            writer.u16(0);
            writer.u32(0x0009_80C8);
            writer.bytes(&file);
            writer.u32(120);
            writer.u32(16);
            writer.u32(0);
            writer.u32(0);
            writer.u32(0);
            writer.u32(64);
            writer.u32(1);
            writer.u32(0);
            writer.zeros(16);
        });
        let commands = [
            (Command::Create, create_body("b", &how)),
            (Command::Read, read_body(&file, 0, 64)),
            (Command::QueryDirectory, query(37, &directory)),
            (Command::Ioctl, ioctl),
            (Command::Close, close_body(&file)),
        ];
        for (command, body) in commands {
            let mut request = client.request(command, Flags::empty(), &body);
            for _ in 0..=round % 4 {
                let length = request.len() as u64;
                match random() % 4 {
                    0 => request.truncate((random() % length).max(1) as usize),
                    // The numbers in a header that lead anywhere are few; the body has the rest.
                    1 => request[(64 + random() % 200).min(length - 1) as usize] = 0xFF,
                    _ => request[(random() % length) as usize] = random() as u8,
                }
            }
            if client.send_raw(request) == Disposition::Disconnect {
                ended += 1;
                break;
            }
        }
        fixture.server.disconnect(client.connection);
    }
    assert!(ended > 0);
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let file = client.open("after", MAKE);
    assert_eq!(client.write(&file, 0, b"x"), NtStatus::SUCCESS);
    fixture.server.disconnect(client.connection);
    let left = fixture.server.statistics();
    assert_eq!((left.handles, left.trees, left.waiting, left.locks), (0, 0, 0, 0));
    assert_eq!(fixture.volume.uses(), 0);
}
