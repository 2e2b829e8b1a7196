//! Leases of files and directories, and what a client that lost a channel may repeat.

use super::*;

/// The key of a lease: one letter.
fn key(letter: u8) -> [u8; 16] {
    [letter; 16]
}

/// A lease context of version 2.
fn lease(letter: u8, state: u32, parent: Option<u8>) -> Vec<u8> {
    let data = put(|writer| {
        writer.bytes(&key(letter));
        writer.u32(state);
        writer.u32(if parent.is_some() { 4 } else { 0 });
        writer.u64(0);
        writer.bytes(&parent.map_or([0; 16], key));
        writer.u16(1);
        writer.u16(0);
    });
    context(b"RqLs", &data)
}

const READ: u32 = 1;
const HANDLE: u32 = 2;
const WRITE: u32 = 4;

pub(super) fn leased(letter: u8, state: u32, parent: Option<u8>) -> Create {
    Create { oplock: 0xFF, contexts: lease(letter, state, parent), ..MAKE }
}

/// State, flags, epoch of the lease that a CREATE was answered with.
fn granted(answer: &Answer) -> (u32, u32, u16) {
    assert_eq!((answer.status, answer.bytes[66]), (NtStatus::SUCCESS, 0xFF));
    let at = answer.bytes.windows(4).position(|window| window == b"RqLs").unwrap() + 8;
    let field =
        |offset: usize| u32::from_le_bytes(answer.bytes[at + offset..at + offset + 4].try_into().unwrap());
    (field(16), field(20), field(48) as u16)
}

/// Key, whether an acknowledgment is wanted, old state, new state, epoch of the next break that a client is told of.
fn told(client: &mut Client<'_>) -> ([u8; 16], bool, u32, u32, u16) {
    let answer = client.receive().remove(0);
    assert_eq!((answer.header.message_id, answer.header.command), (u64::MAX, Command::OplockBreak as u16));
    let field = |offset: usize| u32::from_le_bytes(answer.bytes[offset..offset + 4].try_into().unwrap());
    (answer.bytes[72..88].try_into().unwrap(), field(68) == 1, field(88), field(92), (field(64) >> 16) as u16)
}

fn acknowledge(client: &mut Client<'_>, letter: u8, state: u32) -> NtStatus {
    let body = put(|writer| {
        writer.u16(36);
        writer.zeros(6);
        writer.bytes(&key(letter));
        writer.u32(state);
        writer.u64(0);
    });
    let request = client.request(Command::OplockBreak, Flags::empty(), &body);
    client.send(vec![request]);
    // A further break may come before the answer.
    let mut answers = Vec::new();
    while let Some(message) = client.receive_raw() {
        answers.push(message);
    }
    let own = answers.iter().find(|message| Header::parse(message).unwrap().message_id != u64::MAX).unwrap();
    NtStatus(Header::parse(own).unwrap().status)
}

const DIRECTORY: u32 = 1;

#[test]
fn a_directory_lease_lasts_until_others_change_what_it_lists() {
    let fixture = fixture();
    let mut holder = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let directory = Create { options: DIRECTORY, ..leased(b'd', READ | HANDLE | WRITE, None) };
    // There is nothing to write behind in a directory.
    assert_eq!(granted(&holder.create("d", directory.clone())), (READ | HANDLE, 0, 2));
    // Who names the directory's lease knows of its own changes.
    let file = holder.open("d\\own", leased(b'f', READ | HANDLE | WRITE, Some(b'd')));
    assert_eq!(holder.write(&file, 0, b"x"), NtStatus::SUCCESS);
    assert_eq!(holder.close(&file), NtStatus::SUCCESS);
    other.open("elsewhere", MAKE);
    assert!(holder.receive_raw().is_none());
    // A new name.
    let file = other.open("D\\new", MAKE);
    assert_eq!(told(&mut holder), (key(b'd'), true, READ | HANDLE, 0, 3));
    // One break until it is acknowledged; then the lease can be had again.
    other.open("d\\newer", MAKE);
    assert!(holder.receive_raw().is_none());
    assert_eq!(acknowledge(&mut holder, b'd', 0), NtStatus::SUCCESS);
    assert_eq!(granted(&holder.create("d", directory.clone())), (READ | HANDLE, 0, 4));
    // What is written shows when the file is closed.
    assert_eq!(other.write(&file, 0, b"hello"), NtStatus::SUCCESS);
    assert!(holder.receive_raw().is_none());
    assert_eq!(other.close(&file), NtStatus::SUCCESS);
    assert_eq!(told(&mut holder).3, 0);
    assert_eq!(acknowledge(&mut holder, b'd', 0), NtStatus::SUCCESS);
    // A name that goes away.
    holder.open("d", directory.clone());
    let file = other.open("d\\new", Create { options: 0x1000, disposition: 1, ..MAKE });
    assert!(holder.receive_raw().is_none());
    other.close(&file);
    assert_eq!(told(&mut holder).3, 0);
    assert_eq!(acknowledge(&mut holder, b'd', 0), NtStatus::SUCCESS);
    // Deeper changes are none of the directory's.
    holder.open("d", directory);
    other.open("d\\below", Create { options: DIRECTORY, ..MAKE });
    assert_eq!(told(&mut holder).3, 0);
    assert_eq!(acknowledge(&mut holder, b'd', 0), NtStatus::SUCCESS);
    other.open("d\\below\\deep", MAKE);
    assert!(holder.receive_raw().is_none());
    fixture.server.disconnect(holder.connection);
    other.open("d\\late", MAKE);
}

#[test]
fn a_renamed_directory_keeps_its_lease_under_its_new_name() {
    let fixture = fixture();
    let mut holder = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let how = Create { options: DIRECTORY, ..leased(b'd', READ, None) };
    let directory = holder.open("d", how);
    let body = put(|writer| {
        writer.u16(33);
        writer.u8(1);
        writer.u8(10);
        writer.u32(22);
        writer.u32(96);
        writer.zeros(4);
        writer.bytes(&directory);
        writer.zeros(16);
        writer.u32(2);
        writer.bytes(&name("e"));
    });
    assert_eq!(holder.call(Command::SetInfo, &body).status, NtStatus::SUCCESS);
    other.open("e\\new", MAKE);
    // Reads alone are given up without an answer.
    assert_eq!(told(&mut holder), (key(b'd'), false, READ, 0, 3));
}

#[test]
fn a_lease_of_version_1_knows_no_directories() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let how = Create { options: DIRECTORY, ..leased(b'd', READ | HANDLE, None) };
    let answer = client.create("d", how);
    assert_eq!((answer.status, answer.bytes[66]), (NtStatus::SUCCESS, 0));
}

#[test]
fn a_break_goes_on_while_others_wait_for_less() {
    let fixture = fixture();
    let mut holder = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    holder.open("a", leased(b'a', READ | HANDLE | WRITE, None));
    for disposition in [1, 4] {
        let how = Create { disposition, ..MAKE };
        let request = other.request(Command::Create, Flags::empty(), &create_body("a", &how));
        other.send(vec![request]);
        assert_eq!(other.receive()[0].status, NtStatus::PENDING);
    }
    assert_eq!(told(&mut holder), (key(b'a'), true, 7, READ | HANDLE, 3));
    assert!(holder.receive_raw().is_none());
    // The second of the two overwrites: nothing may stay cached, in two more steps and one change of the epoch.
    assert_eq!(acknowledge(&mut holder, b'a', READ | HANDLE), NtStatus::SUCCESS);
    assert!(other.receive_raw().is_none());
    assert_eq!(granted(&holder.create("a", leased(b'a', READ, None))), (READ | HANDLE, 2, 3));
    assert_eq!(acknowledge(&mut holder, b'a', READ), NtStatus::SUCCESS);
    let answers = [other.receive()[0].status, other.receive()[0].status];
    assert_eq!(answers, [NtStatus::SUCCESS; 2]);
    assert_eq!(acknowledge(&mut holder, b'a', 0), NtStatus::UNSUCCESSFUL);
    // Who does not answer in time caches nothing any more.
    holder.open("b", leased(b'b', READ | HANDLE | WRITE, None));
    let request = other.request(Command::Create, Flags::empty(), &create_body("b", &MAKE));
    other.send(vec![request]);
    assert_eq!(other.receive()[0].status, NtStatus::PENDING);
    holder.receive();
    fixture.server.environment().milliseconds.store(36_000, Ordering::Relaxed);
    fixture.server.tick();
    assert_eq!(other.receive()[0].status, NtStatus::SUCCESS);
    assert_eq!(granted(&holder.create("b", leased(b'b', 0, None))).0, 0);
}

/// A durable open of version 2 with a GUID of one letter.
fn durable(letter: u8, oplock: u8) -> Create {
    let data = put(|writer| {
        writer.zeros(16);
        writer.bytes(&key(letter));
    });
    Create { oplock, contexts: context(b"DH2Q", &data), ..MAKE }
}

#[test]
fn a_create_is_replayed_until_its_answer_was_used() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let body = create_body("a", &durable(b'g', 9));
    let file = file_id(&client.call(Command::Create, &body));
    let again = |client: &mut Client<'_>| {
        let request = client.request(Command::Create, Flags::REPLAY, &body);
        client.send(vec![request]);
        // A break of its own oplock may come before.
        let mut answers = core::iter::from_fn(|| Some(client.receive().remove(0)));
        answers.find(|answer| answer.header.message_id != u64::MAX).unwrap()
    };
    assert_eq!(file_id(&again(&mut client)), file);
    assert_eq!(client.call(Command::Create, &body).status.0, 0xC000_022A);
    client.write(&file, 0, b"x");
    // It has had the answer: this is another open, which waits for the first one's oplock.
    assert_eq!(again(&mut client).status, NtStatus::PENDING);
    // And while that waits, so would its own replay.
    assert_eq!(again(&mut client).status, NtStatus::FILE_NOT_AVAILABLE);
}

#[test]
fn late_requests_of_a_channel_that_failed_change_nothing() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let file = client.open("a", MAKE);
    let write = |client: &mut Client<'_>, sequence: u32, data: &[u8]| {
        let body = put(|writer| {
            writer.u16(49);
            writer.u16(64 + 48);
            writer.u32(data.len() as u32);
            writer.u64(0);
            writer.bytes(&file);
            writer.zeros(16);
            writer.bytes(data);
        });
        let mut request = client.request(Command::Write, Flags::empty(), &body);
        request[8..12].copy_from_slice(&sequence.to_le_bytes());
        client.send(vec![request]);
        client.receive()[0].status
    };
    assert_eq!(write(&mut client, 0, b"old"), NtStatus::SUCCESS);
    assert_eq!(write(&mut client, 1, b"new"), NtStatus::SUCCESS);
    assert_eq!(write(&mut client, 0, b"old"), NtStatus::FILE_NOT_AVAILABLE);
    assert_eq!(write(&mut client, 0x8002, b"old"), NtStatus::FILE_NOT_AVAILABLE);
    // Reading is no harm.
    assert_eq!(client.read(&file, 0, 3).unwrap(), b"new");
    assert_eq!(write(&mut client, 0x8000, b"far"), NtStatus::SUCCESS);
    // In 2.1 the field means nothing.
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let file = client.open("b", MAKE);
    let mut request = client.request(Command::Close, Flags::empty(), &close_body(&file));
    request[8..12].copy_from_slice(&0xFFFF_FFFFu32.to_le_bytes());
    client.send(vec![request]);
    assert_eq!(client.receive()[0].status, NtStatus::SUCCESS);
}

#[test]
fn a_rename_waits_for_cached_handles() {
    let fixture = fixture();
    let mut holder = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    holder.open("a", leased(b'a', READ | HANDLE, None));
    let file = other.open("a", MAKE);
    let body = put(|writer| {
        writer.u16(33);
        writer.u8(1);
        writer.u8(10);
        writer.u32(22);
        writer.u32(96);
        writer.zeros(4);
        writer.bytes(&file);
        writer.zeros(16);
        writer.u32(2);
        writer.bytes(&name("b"));
    });
    let request = other.request(Command::SetInfo, Flags::empty(), &body);
    other.send(vec![request]);
    assert_eq!(other.receive()[0].status, NtStatus::PENDING);
    assert_eq!(told(&mut holder), (key(b'a'), true, READ | HANDLE, READ, 3));
    assert_eq!(acknowledge(&mut holder, b'a', READ), NtStatus::SUCCESS);
    assert_eq!(other.receive()[0].status, NtStatus::SUCCESS);
    other.open("b", Create { disposition: 1, ..MAKE });
}
