//! Clients that ask for much and fetch nothing.

use super::*;

/// A file of 64 KiB, and `count` READs of it in one compound.
fn many_reads(client: &mut Client<'_>, count: usize) -> Vec<Vec<u8>> {
    let file = client.open("long", MAKE);
    assert_eq!(client.write(&file, 0, &vec![7; 0x1_0000]), NtStatus::SUCCESS);
    // Credits for all of them.
    for _ in 0..10 {
        client.read(&file, 0, 1).unwrap();
    }
    (0..count)
        .map(|_| client.request(Command::Read, Flags::empty(), &read_body(&file, 0, 0x1_0000)))
        .collect()
}

#[test]
fn who_fetches_no_answers_is_not_asked_for_more() {
    let fixture = fixture();
    let mut greedy = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let mut other = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let server = &fixture.server;
    let requests = many_reads(&mut greedy, 70);
    for request in requests {
        assert!(server.takes_requests(other.connection));
        let taken = server.takes_requests(greedy.connection);
        assert_eq!(greedy.send(vec![request]), Disposition::Continue);
        if !taken {
            break;
        }
    }
    assert!(!server.takes_requests(greedy.connection));
    // Who has fetched his answers is heard all the same.
    let file = other.open("long", Create { disposition: 1, ..MAKE });
    assert_eq!(other.read(&file, 0, 10).unwrap(), [7; 10]);
    while server.takes_requests(greedy.connection) || server.next_reply(greedy.connection).is_some() {
        if server.takes_requests(greedy.connection) {
            return;
        }
    }
    panic!("fetched answers make no room");
}

#[test]
fn a_compound_has_no_answer_longer_than_a_message() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let requests = many_reads(&mut client, 100);
    assert_eq!(client.send(requests), Disposition::Continue);
    let answers = client.receive();
    let good = answers.iter().filter(|answer| answer.status == NtStatus::SUCCESS).count();
    assert_eq!(answers.len(), 100);
    assert!((32..40).contains(&good), "{good}");
    let refused = |answer: &&Answer| answer.status == NtStatus::INSUFFICIENT_RESOURCES;
    assert_eq!(answers.iter().filter(refused).count(), 100 - good);
}
