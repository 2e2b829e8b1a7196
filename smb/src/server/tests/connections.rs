//! Connections and log-ons: what a message may be, and who may send it.

use super::*;

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
