//! CHANGE_NOTIFY: what is told to whom, and how a watch ends.

use alloc::string::String;

use super::*;

const FILE_NAME: u32 = 1;
const DIRECTORY_NAME: u32 = 2;
const ATTRIBUTES: u32 = 4;
const SIZE: u32 = 8;
const TREE: u16 = 1;

const ADDED: u32 = 1;
const REMOVED: u32 = 2;
const MODIFIED: u32 = 3;
const OLD_NAME: u32 = 4;
const NEW_NAME: u32 = 5;

fn body(directory: &[u8; 16], flags: u16, filter: u32, length: u32) -> Vec<u8> {
    put(|writer| {
        writer.u16(32);
        writer.u16(flags);
        writer.u32(length);
        writer.bytes(directory);
        writer.u32(filter);
        writer.u32(0);
    })
}

/// Begins to wait for changes; the interim answer's header.
fn watch(client: &mut Client<'_>, body: &[u8]) -> Header {
    let interim = client.call(Command::ChangeNotify, body);
    assert_eq!(interim.status, NtStatus::PENDING);
    assert!(interim.header.flags.contains(Flags::ASYNCHRONOUS));
    interim.header
}

/// The CANCEL of a request that waits, by the number it waits under or by its own.
fn cancel(client: &mut Client<'_>, interim: &Header, asynchronous: bool) -> Vec<u8> {
    let next = core::mem::replace(&mut client.message, interim.message_id);
    let mut cancel = client.request(Command::Cancel, Flags::empty(), &[4, 0, 0, 0]);
    client.message = next;
    if asynchronous {
        cancel[16] |= 2;
        cancel[24..32].fill(0);
        cancel[32..40].copy_from_slice(&interim.tree_or_asynchronous.to_le_bytes());
    }
    cancel
}

/// The events of an answer: FILE_NOTIFY_INFORMATION (MS-FSCC 2.7.1).
fn events(answer: &Answer) -> Vec<(u32, String)> {
    assert_eq!(answer.status, NtStatus::SUCCESS);
    let number = |at: usize| u32::from_le_bytes(answer.bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, end) = (72, 72 + number(68));
    assert_eq!(end, answer.bytes.len());
    let mut events = Vec::new();
    loop {
        let name = &answer.bytes[at + 12..at + 12 + number(at + 8)];
        let (units, rest) = name.as_chunks::<2>();
        let units: Vec<_> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        assert!(rest.is_empty() && at % 4 == 0);
        events.push((number(at + 4) as u32, String::from_utf16(&units).unwrap()));
        match number(at) {
            0 => return events,
            next => at += next,
        }
    }
}

fn event(action: u32, name: &str) -> (u32, String) {
    (action, name.into())
}

/// Opens a directory as who watches does: renaming in it must not be kept from others.
fn directory(client: &mut Client<'_>, path: &str) -> [u8; 16] {
    client.open(path, Create { options: 1, access: 0x0012_019F, ..MAKE })
}

fn make(client: &mut Client<'_>, path: &str) {
    let file = client.open(path, MAKE);
    client.close(&file);
}

fn rename(client: &mut Client<'_>, from: &str, to: &str) {
    let file = client.open(from, Create { disposition: 1, ..MAKE });
    let to = name(to);
    let data = [&[0; 16][..], &(to.len() as u32).to_le_bytes(), &to, &[0; 4]].concat();
    assert_eq!(opens::set(client, &file, (1, 10), &data), NtStatus::SUCCESS);
    client.close(&file);
}

#[test]
fn changes_are_told_to_who_watches() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let folder = directory(&mut client, "d");
    let body = body(&folder, 0, FILE_NAME | DIRECTORY_NAME, 4096);
    watch(&mut client, &body);
    other.open("elsewhere", MAKE);
    assert!(client.receive_raw().is_none());
    other.open("d\\new", MAKE);
    assert_eq!(events(&client.receive()[0]), [event(ADDED, "new")]);
    // What happens between two requests is kept.
    make(&mut other, "d\\newer");
    directory(&mut other, "d\\newest");
    let told = client.call(Command::ChangeNotify, &body);
    assert_eq!(events(&told), [event(ADDED, "newer"), event(ADDED, "newest")]);
}

#[test]
fn a_watch_of_a_tree_is_told_of_all_below() {
    let fixture = fixture();
    let mut watcher = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    for path in ["w", "w\\a", "w\\b", "out"] {
        let folder = directory(&mut client, path);
        client.close(&folder);
    }
    let above = directory(&mut watcher, "w");
    let above = body(&above, TREE, FILE_NAME | DIRECTORY_NAME, 4096);
    let near = directory(&mut watcher, "w");
    let near = body(&near, 0, FILE_NAME | DIRECTORY_NAME, 4096);
    // Begun, so that what follows is kept for it.
    let interim = watch(&mut watcher, &near);
    let cancel = cancel(&mut watcher, &interim, true);
    watcher.send(vec![cancel]);
    assert_eq!(watcher.receive()[0].status, NtStatus::CANCELLED);
    let mut told = |client: &mut Client<'_>, act: &dyn Fn(&mut Client<'_>)| {
        watch(&mut watcher, &above);
        act(client);
        let answer = events(&watcher.receive()[0]);
        assert!(watcher.receive_raw().is_none());
        answer
    };
    assert_eq!(told(&mut client, &|client| make(client, "w\\a\\file")), [event(ADDED, "a\\file")]);
    // From one directory to another: gone here, new there.
    let moved = told(&mut client, &|client| rename(client, "w\\a\\file", "w\\b\\moved"));
    assert_eq!(moved, [event(REMOVED, "a\\file"), event(ADDED, "b\\moved")]);
    let renamed = told(&mut client, &|client| rename(client, "w\\b\\moved", "w\\b\\again"));
    assert_eq!(renamed, [event(OLD_NAME, "b\\moved"), event(NEW_NAME, "b\\again")]);
    // Out of the tree, and into it.
    let out = told(&mut client, &|client| rename(client, "w\\b\\again", "out\\file"));
    assert_eq!(out, [event(REMOVED, "b\\again")]);
    let back = told(&mut client, &|client| rename(client, "out\\file", "w\\a\\back"));
    assert_eq!(back, [event(ADDED, "a\\back")]);
    // A directory takes along what is in it, without a word of that.
    let moved = told(&mut client, &|client| rename(client, "w\\a", "w\\b\\a"));
    assert_eq!(moved, [event(REMOVED, "a"), event(ADDED, "b\\a")]);
    // Of all this, who does not watch the tree hears that the directory is gone.
    assert_eq!(events(&watcher.call(Command::ChangeNotify, &near)), [event(REMOVED, "a")]);
}

#[test]
fn each_directory_hears_of_a_move_what_concerns_it() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let (from, to) = (directory(&mut client, "from"), directory(&mut other, "to"));
    make(&mut client, "from\\x");
    watch(&mut client, &body(&from, 0, FILE_NAME, 4096));
    watch(&mut other, &body(&to, 0, FILE_NAME, 4096));
    let mut mover = Client::log_on(&fixture.server, 1, Dialect::Smb202);
    rename(&mut mover, "from\\x", "to\\y");
    assert_eq!(events(&client.receive()[0]), [event(REMOVED, "x")]);
    assert_eq!(events(&other.receive()[0]), [event(ADDED, "y")]);
    // Only what the filter names: no directories here, and what a file is rather than how it is called.
    watch(&mut client, &body(&from, 0, FILE_NAME, 4096));
    directory(&mut mover, "from\\folder");
    make(&mut mover, "from\\z");
    assert_eq!(events(&client.receive()[0]), [event(ADDED, "z")]);
    let changes = directory(&mut other, "from");
    let changes = body(&changes, 0, ATTRIBUTES | SIZE, 4096);
    watch(&mut other, &changes);
    let file = mover.open("from\\z", MAKE);
    mover.write(&file, 0, b"longer");
    assert_eq!(events(&other.receive()[0]), [event(MODIFIED, "z")]);
    watch(&mut other, &changes);
    let hidden = [&[0; 32][..], &2u32.to_le_bytes(), &[0; 4]].concat();
    assert_eq!(opens::set(&mut mover, &file, (1, 4), &hidden), NtStatus::SUCCESS);
    assert_eq!(events(&other.receive()[0]), [event(MODIFIED, "z")]);
}

#[test]
fn too_much_news_is_said_to_be_too_much() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let folder = directory(&mut client, "d");
    // One event with a name of four characters, and not a unit more.
    let body = body(&folder, 0, FILE_NAME, 20);
    watch(&mut client, &body);
    make(&mut other, "d\\four");
    assert_eq!(events(&client.receive()[0]), [event(ADDED, "four")]);
    watch(&mut client, &body);
    make(&mut other, "d\\fives");
    let answer = client.receive().remove(0);
    assert_eq!((answer.status, &answer.bytes[66..72]), (NtStatus::NOTIFY_ENUM_DIR, &[0; 6][..]));
    // Between two requests, too; and then it goes on as before.
    make(&mut other, "d\\1");
    make(&mut other, "d\\2");
    assert_eq!(client.call(Command::ChangeNotify, &body).status, NtStatus::NOTIFY_ENUM_DIR);
    watch(&mut client, &body);
    make(&mut other, "d\\3");
    assert_eq!(events(&client.receive()[0]), [event(ADDED, "3")]);
    // Who has no room at all hears only that there is something.
    let blind = directory(&mut client, "d");
    watch(&mut client, &self::body(&blind, 0, FILE_NAME, 0));
    make(&mut other, "d\\4");
    assert_eq!(client.receive()[0].status, NtStatus::NOTIFY_ENUM_DIR);
    assert_eq!(fixture.server.statistics().waiting, 0);
}

#[test]
fn a_watch_ends_with_its_handle() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    // With CLOSE, with the tree, with the session: the watch is answered first.
    for (command, request) in [
        (Command::Close, None),
        (Command::TreeDisconnect, Some([4, 0, 0, 0])),
        (Command::Logoff, Some([4, 0, 0, 0])),
    ] {
        assert_eq!(client.connect_tree("data"), NtStatus::SUCCESS);
        let folder = directory(&mut client, "d");
        let interim = watch(&mut client, &body(&folder, TREE, FILE_NAME, 4096));
        let end = request.map_or_else(|| close_body(&folder), |bytes: [u8; 4]| bytes.to_vec());
        let end = client.request(command, Flags::empty(), &end);
        client.send(vec![end]);
        let told = client.receive().remove(0);
        assert_eq!(told.status, NtStatus::NOTIFY_CLEANUP, "{command:?}");
        assert_eq!(told.header.message_id, interim.message_id);
        assert_eq!(told.header.tree_or_asynchronous, interim.tree_or_asynchronous);
        assert_eq!(client.receive()[0].status, NtStatus::SUCCESS, "{command:?}");
    }
    let left = fixture.server.statistics();
    assert_eq!((left.waiting, left.handles, fixture.volume.uses()), (0, 0, 0));
    // With the connection there is nobody left to be told.
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb210);
    let folder = directory(&mut client, "d");
    watch(&mut client, &body(&folder, 0, FILE_NAME, 4096));
    fixture.server.disconnect(client.connection);
    assert_eq!(fixture.server.statistics().waiting, 0);
}

#[test]
fn a_watch_of_what_is_deleted_ends() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let folder = directory(&mut client, "d");
    let body = body(&folder, 0, FILE_NAME, 4096);
    watch(&mut client, &body);
    let again = other.open("d", Create { disposition: 1, ..MAKE });
    assert_eq!(opens::set(&mut other, &again, (1, 13), &[1]), NtStatus::SUCCESS);
    assert_eq!(client.receive()[0].status, NtStatus::DELETE_PENDING);
    assert_eq!(client.call(Command::ChangeNotify, &body).status, NtStatus::DELETE_PENDING);
}

#[test]
fn a_cancelled_watch_keeps_what_it_was_for() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let folder = directory(&mut client, "d");
    let body = body(&folder, 0, FILE_NAME, 4096);
    for asynchronous in [true, false] {
        let interim = watch(&mut client, &body);
        let cancel = cancel(&mut client, &interim, asynchronous);
        client.send(vec![cancel.clone()]);
        let told = client.receive().remove(0);
        assert_eq!((told.status, told.header.message_id), (NtStatus::CANCELLED, interim.message_id));
        // A second CANCEL comes too late, and is not answered.
        client.send(vec![cancel]);
        assert!(client.receive_raw().is_none());
    }
    // The handle watches on.
    make(&mut other, "d\\x");
    assert_eq!(events(&client.call(Command::ChangeNotify, &body)), [event(ADDED, "x")]);
    // Nobody cancels what another's connection waits for.
    let interim = watch(&mut client, &body);
    let cancel = cancel(&mut other, &interim, true);
    other.send(vec![cancel]);
    assert!(client.receive_raw().is_none());
    assert_eq!(fixture.server.statistics().waiting, 1);
}

#[test]
fn what_cannot_be_watched() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let (file, folder) = (client.open("f", MAKE), directory(&mut client, "d"));
    let blind = client.open("d", Create { access: 0x80, disposition: 1, ..MAKE });
    for (file, length, status) in [
        (&file, 4096, NtStatus::INVALID_PARAMETER),
        (&blind, 4096, NtStatus::ACCESS_DENIED),
        (&[7; 16], 4096, NtStatus::FILE_CLOSED),
        // More than one credit pays for, and more than is ever sent at once.
        (&folder, 0x1_0001, NtStatus::INVALID_PARAMETER),
        (&folder, u32::MAX, NtStatus::INVALID_PARAMETER),
    ] {
        let answer = client.call(Command::ChangeNotify, &body(file, 0, FILE_NAME, length));
        assert_eq!(answer.status, status, "{length}");
    }
    assert_eq!(fixture.server.statistics().waiting, 0);
}
