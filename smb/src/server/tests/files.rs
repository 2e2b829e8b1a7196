//! Reading, writing, share modes, deletion, and whose files they are.

use super::*;

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
fn a_payload_must_be_paid_for() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let file = client.open("a", MAKE);
    assert_eq!(client.read(&file, 0, 0x1_0001), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(client.read(&file, u64::MAX, 2), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(client.write(&file, u64::MAX, b"xx"), NtStatus::INVALID_PARAMETER);
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
