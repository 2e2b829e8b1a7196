//! Requests that wait, and handles that outlive their connection.

use super::*;

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

const SHARED: u32 = 1;
const EXCLUSIVE: u32 = 2;
const UNLOCK: u32 = 4;

#[test]
fn a_range_goes_to_who_waits_for_longest() {
    let fixture = fixture();
    let mut clients: Vec<_> = (0..4).map(|_| Client::log_on(&fixture.server, 1, Dialect::Smb311)).collect();
    let files: Vec<_> = clients.iter_mut().map(|client| client.open("a", MAKE)).collect();
    let range = |file| lock_body(file, 0, &[(0, 1, EXCLUSIVE)]);
    assert_eq!(clients[0].call(Command::Lock, &range(&files[0])).status, NtStatus::SUCCESS);
    let waits = |client: &mut Client<'_>, file| {
        let interim = client.call(Command::Lock, &range(file));
        assert_eq!(interim.status, NtStatus::PENDING);
        interim.header
    };
    // The second is gone again when the fourth comes, which takes its place in the table and not in the row.
    let second = waits(&mut clients[1], &files[1]);
    waits(&mut clients[2], &files[2]);
    clients[1].message = second.message_id;
    let cancel = clients[1].request(Command::Cancel, Flags::empty(), &[4, 0, 0, 0]);
    clients[1].send(vec![cancel]);
    assert_eq!(clients[1].receive()[0].status, NtStatus::CANCELLED);
    waits(&mut clients[3], &files[3]);
    clients[0].close(&files[0]);
    assert!(clients[3].receive_raw().is_none());
    assert_eq!(clients[2].receive()[0].status, NtStatus::SUCCESS);
    clients[2].close(&files[2]);
    assert_eq!(clients[3].receive()[0].status, NtStatus::SUCCESS);
}

#[test]
fn what_was_unlocked_before_an_error_is_free() {
    let fixture = fixture();
    let mut first = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut second = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let (mine, yours) = (first.open("a", MAKE), second.open("a", MAKE));
    for (wrong, status) in
        [((10, 1, SHARED), NtStatus::INVALID_PARAMETER), ((20, 1, UNLOCK), NtStatus::RANGE_NOT_LOCKED)]
    {
        let body = lock_body(&mine, 0, &[(0, 1, EXCLUSIVE)]);
        assert_eq!(first.call(Command::Lock, &body).status, NtStatus::SUCCESS);
        let body = lock_body(&yours, 0, &[(0, 1, EXCLUSIVE)]);
        assert_eq!(second.call(Command::Lock, &body).status, NtStatus::PENDING);
        let body = lock_body(&mine, 0, &[(0, 1, UNLOCK), wrong]);
        assert_eq!(first.call(Command::Lock, &body).status, status);
        assert_eq!(second.receive()[0].status, NtStatus::SUCCESS);
        let body = lock_body(&yours, 0, &[(0, 1, UNLOCK)]);
        assert_eq!(second.call(Command::Lock, &body).status, NtStatus::SUCCESS);
    }
}

/// MS-SMB2 3.3.5.14: a LOCK with a number that was carried out is answered again, not carried out again.
#[test]
fn a_lock_that_waited_is_known_when_it_is_replayed() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    // Two handles of one lease; the second is durable, and so what is told of its locks is remembered.
    let how = leases::leased(b'l', 7, None);
    let holder = client.open("a", how.clone());
    let mut contexts = how.contexts.clone();
    contexts.resize(contexts.len().next_multiple_of(8), 0);
    let next = contexts.len() as u32;
    contexts[..4].copy_from_slice(&next.to_le_bytes());
    contexts.extend(context(b"DHnQ", &[0; 16]));
    let durable = client.open("a", Create { contexts, ..how });
    let range = |sequence| lock_body(&durable, sequence, &[(0, 1, EXCLUSIVE)]);
    assert_eq!(client.call(Command::Lock, &range(0x11)).status, NtStatus::SUCCESS);
    assert_eq!(client.call(Command::Lock, &range(0x11)).status, NtStatus::SUCCESS);
    let free = lock_body(&durable, 0x12, &[(0, 1, UNLOCK)]);
    assert_eq!(client.call(Command::Lock, &free).status, NtStatus::SUCCESS);
    assert_eq!(client.call(Command::Lock, &free).status, NtStatus::SUCCESS);
    let other = lock_body(&holder, 0, &[(0, 1, EXCLUSIVE)]);
    assert_eq!(client.call(Command::Lock, &other).status, NtStatus::SUCCESS);
    assert_eq!(client.call(Command::Lock, &range(0x13)).status, NtStatus::PENDING);
    let close = client.request(Command::Close, Flags::empty(), &close_body(&holder));
    client.send(vec![close]);
    for _ in 0..2 {
        assert_eq!(client.receive()[0].status, NtStatus::SUCCESS);
    }
    assert_eq!(client.call(Command::Lock, &range(0x13)).status, NtStatus::SUCCESS);
}
