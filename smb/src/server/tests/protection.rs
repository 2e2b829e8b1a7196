//! What signatures and encryption are for: a request that somebody bent on its way, and one who listens.

use super::*;

/// Bits of a request that are flipped: all, but where every test runs on an emulated processor, some.
const STRIDE: usize = if cfg!(target_endian = "big") { 13 } else { 1 };

/// Requests that would leave something behind, or tell something.
fn requests(client: &mut Client<'_>, file: &[u8; 16]) -> Vec<Vec<Vec<u8>>> {
    let write = put(|writer| {
        writer.u16(49);
        writer.u16(64 + 48);
        writer.u32(8);
        writer.u64(0);
        writer.bytes(file);
        writer.zeros(16);
        writer.bytes(b"scribble");
    });
    let delete = Create { options: 0x1000, ..MAKE };
    let single = [
        (Command::Create, create_body("made", &MAKE)),
        (Command::Create, create_body("kept", &delete)),
        (Command::Write, write.clone()),
        (Command::Read, read_body(file, 0, 8)),
        (Command::Close, close_body(file)),
    ];
    let first = client.message;
    let mut all = Vec::new();
    for (command, body) in single {
        client.message = first;
        all.push(vec![client.request(command, Flags::empty(), &body)]);
    }
    client.message = first;
    // The first element's own signature may hold: it leaves nothing behind.
    let compound = vec![
        client.request(
            Command::Create,
            Flags::empty(),
            &create_body("kept", &Create { disposition: 1, ..MAKE }),
        ),
        client.request(Command::Write, Flags::RELATED, &write),
    ];
    all.push(compound);
    client.message = first;
    all
}

/// What the other user finds, and that it finds anything at all.
fn check_untouched(other: &mut Client<'_>, file: &[u8; 16], what: &str) {
    assert_eq!(other.read(file, 0, 100).unwrap(), b"as it was", "{what}");
    let only_open = Create { disposition: 1, ..MAKE };
    assert_eq!(other.create("made", only_open).status, NtStatus::OBJECT_NAME_NOT_FOUND, "{what}");
}

/// Sends each of `requests` with each bit flipped, on a connection of its own, and sees what became of it.
fn flip(change: fn(&mut ServerConfiguration)) {
    let mut number = 0;
    loop {
        let mut bit = 0;
        loop {
            let fixture = fixture_with(change);
            let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
            let kept = other.open("kept", MAKE);
            assert_eq!(other.write(&kept, 0, b"as it was"), NtStatus::SUCCESS);
            let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
            let file = client.open("kept", MAKE);
            let before = fixture.server.statistics();
            let mut all = requests(&mut client, &file);
            if number == all.len() {
                return;
            }
            let elements = all.swap_remove(number);
            let count = elements.len();
            let mut message = on_wire(&client, elements);
            if bit >= message.len() * 8 {
                break;
            }
            let at = bit / 8;
            message[at] ^= 1 << (bit % 8);
            let what = alloc::format!("request {number} bit {bit}");
            let mut sent = message.clone();
            let disposition = fixture.server.handle(client.connection, &mut sent);
            let sealed = client.seal.take().is_some();
            // Another session's number (or none's): that session is not on this connection, and this one has no part in it.
            let elsewhere = !sealed && (40..48).contains(&at);
            if elsewhere {
                assert_eq!(disposition, Disposition::Continue, "{what}");
                assert_eq!(client.receive()[0].status, NtStatus::USER_SESSION_DELETED, "{what}");
            } else {
                assert_eq!(disposition, Disposition::Disconnect, "{what}");
                client.sign = None;
                if let Some(mut bytes) = client.receive_raw() {
                    assert!(!sealed, "{what}");
                    let mut answered = 1;
                    while let next @ 1.. = Header::parse(&bytes).unwrap().next as usize {
                        bytes.drain(..next);
                        answered += 1;
                    }
                    // What no longer begins as an element should is not even answered.
                    let status = Header::parse(&bytes).unwrap().status;
                    assert!(answered < count || status == NtStatus::ACCESS_DENIED.0, "{what}: {status:#x}");
                }
                fixture.server.disconnect(client.connection);
            }
            let after = fixture.server.statistics();
            let gone = u32::from(!elsewhere);
            assert_eq!(
                (after.sessions, after.connections, after.handles),
                (before.sessions - gone, before.connections - gone, before.handles - gone),
                "{what}"
            );
            check_untouched(&mut other, &kept, &what);
            bit += STRIDE;
        }
        number += 1;
    }
}

/// The message as the client would send it.
fn on_wire(client: &Client<'_>, mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    let count = elements.len();
    let mut message = Vec::new();
    for (index, element) in elements.iter_mut().enumerate() {
        if index + 1 < count {
            element.resize(element.len().next_multiple_of(8), 0);
            let next = element.len() as u32;
            element[20..24].copy_from_slice(&next.to_le_bytes());
        }
        if client.seal.is_none() {
            element[16] |= 8;
            client.sign.as_ref().unwrap().sign(element, None);
        }
        message.extend_from_slice(element);
    }
    let Some((key, _)) = &client.seal else { return message };
    let header = key.seal(client.message, client.session, &mut message).unwrap();
    let mut sealed = Vec::new();
    header.emit(&mut sealed);
    sealed.extend_from_slice(&message);
    sealed
}

#[test]
fn a_bit_flipped_in_a_signed_request_ends_its_connection_and_nothing_else() {
    flip(|_| {});
}

#[test]
fn a_bit_flipped_in_an_encrypted_request_ends_its_connection_and_nothing_else() {
    flip(|configuration| configuration.encryption = Encryption::Required);
}

#[test]
fn a_listener_learns_nothing_where_encryption_is_required() {
    let fixture = fixture_with(|configuration| configuration.encryption = Encryption::Required);
    for dialect in [Dialect::Smb300, Dialect::Smb302, Dialect::Smb311] {
        let mut client = Client::log_on(&fixture.server, 1, dialect);
        let file = client.open("quarterly", MAKE);
        let content: Vec<u8> = (0..5000u32).map(|index| ((index * index) >> 3) as u8).collect();
        assert_eq!(client.write(&file, 0, &content), NtStatus::SUCCESS);
        assert_eq!(client.read(&file, 0, 8192).unwrap(), content);
        let list = put(|writer| {
            writer.u16(33);
            writer.u8(37);
            writer.u8(0);
            writer.u32(0);
            writer.bytes(&file_id(&client.create("", Create { options: 1, ..MAKE })));
            writer.u16(96);
            writer.u16(2);
            writer.u32(4096);
            writer.bytes(b"*\0");
        });
        let listed = client.call(Command::QueryDirectory, &list);
        assert!(listed.bytes.windows(18).any(|window| window == name("quarterly")));
        assert_eq!(client.create("quarterly\\absent", MAKE).status, NtStatus::OBJECT_PATH_NOT_FOUND);
        assert_eq!(client.connect_tree("no-such-share"), NtStatus::BAD_NETWORK_NAME);
        for secret in ["data", "quarterly", "absent", "no-such-share"] {
            for pattern in [secret.as_bytes().to_vec(), name(secret)] {
                let found = client.wire.windows(pattern.len()).any(|window| window == pattern);
                assert!(!found, "{secret} in dialect {dialect:?}");
            }
        }
        for piece in content.chunks(16).filter(|piece| piece.len() == 16) {
            assert!(!client.wire.windows(16).any(|window| window == piece), "a piece of the file");
        }
        fixture.server.disconnect(client.connection);
    }
    for dialect in [Dialect::Smb202, Dialect::Smb210] {
        assert_eq!(Client::new(&fixture.server).negotiate(&[dialect as u16]).status, NtStatus::ACCESS_DENIED);
    }
}
