//! Several requests in one message.

use super::*;

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

const ECHO: [u8; 4] = [4, 0, 0, 0];

/// MS-SMB2 3.3.5.17. Where no session stands, a server should end the connection: clients that look whether it is still
/// there would lose it between two log-ons, so here it is answered.
#[test]
fn an_echo_is_answered_whoever_asks() {
    let fixture = fixture();
    let mut client = Client::new(&fixture.server);
    let early = client.request(Command::Echo, Flags::empty(), &ECHO);
    assert_eq!(client.send(vec![early]), Disposition::Disconnect);
    let mut client = Client::new(&fixture.server);
    client.negotiate(&[0x0311]);
    let answer = client.call(Command::Echo, &ECHO);
    assert_eq!((answer.status, &answer.bytes[64..]), (NtStatus::SUCCESS, &ECHO[..]));
    assert_eq!(client.call(Command::Echo, &[5, 0, 0, 0]).status, NtStatus::INVALID_PARAMETER);
    assert_eq!(client.call(Command::Echo, &ECHO[..3]).status, NtStatus::INVALID_PARAMETER);
    // A session that is named must be there.
    client.session = 0x1234;
    assert_eq!(client.call(Command::Echo, &ECHO).status, NtStatus::USER_SESSION_DELETED);
}

#[test]
fn an_echo_of_a_session_is_protected_as_the_session_is() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    assert!(client.call(Command::Echo, &ECHO).header.flags.contains(Flags::SIGNED));
    // Between others, and related to them.
    let create = client.request(Command::Create, Flags::empty(), &create_body("a", &MAKE));
    let echo = client.request(Command::Echo, Flags::RELATED, &ECHO);
    let close = client.request(Command::Close, Flags::RELATED, &close_body(&[0xFF; 16]));
    let last = client.request(Command::Echo, Flags::empty(), &ECHO);
    client.send(vec![create, echo, close, last]);
    let answers = client.receive();
    assert_eq!(answers.len(), 4);
    for answer in answers {
        assert!(answer.status == NtStatus::SUCCESS && answer.header.flags.contains(Flags::SIGNED));
    }
    assert_eq!(fixture.volume.uses(), 0);
    // Without a session it needs no signature; with one it does.
    let key = client.sign.take();
    let session = core::mem::take(&mut client.session);
    let answer = client.call(Command::Echo, &ECHO);
    assert_eq!((answer.status, answer.header.flags), (NtStatus::SUCCESS, Flags::RESPONSE));
    client.session = session;
    let request = client.request(Command::Echo, Flags::empty(), &ECHO);
    assert_eq!(client.send(vec![request]), Disposition::Disconnect);
    client.sign = key;
    assert_eq!(client.receive()[0].status, NtStatus::ACCESS_DENIED);
    // Where all must be encrypted, it is.
    let fixture = fixture_with(|configuration| configuration.encryption = Encryption::Required);
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let request = client.request(Command::Echo, Flags::empty(), &ECHO);
    client.send(vec![request]);
    assert_eq!(client.receive_raw().unwrap()[..4], *b"\xFDSMB");
    client.seal = None;
    assert_eq!(client.call(Command::Echo, &ECHO).status, NtStatus::ACCESS_DENIED);
    (client.session, client.sign) = (0, None);
    assert_eq!(client.call(Command::Echo, &ECHO).status, NtStatus::SUCCESS);
}
