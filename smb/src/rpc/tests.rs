//! Pipes from outside: PDUs in, PDUs out.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::fscc::Sid;

const NDR64: Syntax = (uuid(0x7171_0533_BEBA_4937_8319_B5DB_EF9C_CC36), 1);
const FEATURE: Syntax = (uuid(0x6CB7_1C2C_9812_4540_0300_0000_0000_0000), 1);

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn machine() -> Machine {
    let share =
        |name: &str| ShareEntry { name: units(name), remark: Vec::new(), pipes: false, hidden: false };
    let account =
        |number, name: &str| AccountEntry { user: UserId(number), name: units(name), disabled: false };
    Machine {
        name: units("ATTIC"),
        workgroup: units("HOME"),
        identifier: [11, 22, 33],
        shares: (0..200).map(|_| share("a share of some length")).collect(),
        accounts: vec![account(1, "ann"), account(7, "bob")],
        ..Machine::default()
    }
}

fn open(name: &str) -> Pipe {
    Pipe::open(&units(name), Some(UserId(7))).unwrap()
}

fn pdu_with(kind: u8, flags: u8, call: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.bytes(&[5, 0, kind, flags, 0x10, 0, 0, 0]);
    writer.u16(HEADER as u16 + body.len() as u16);
    writer.u16(0);
    writer.u32(call);
    writer.bytes(body);
    out
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    pdu_with(kind, FIRST | LAST, 7, body)
}

/// A bind or alter_context with these contexts: number, interface, transfer syntaxes.
fn bind_with(kind: u8, fragment: u16, contexts: &[(u16, Syntax, &[Syntax])]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    writer.u16(fragment);
    writer.u16(fragment);
    writer.u32(0);
    writer.u32(contexts.len() as u32);
    for (number, (interface, version), transfers) in contexts {
        writer.u16(*number);
        writer.u16(transfers.len() as u16);
        writer.bytes(interface);
        writer.u32(*version);
        for (syntax, version) in *transfers {
            writer.bytes(syntax);
            writer.u32(*version);
        }
    }
    pdu(kind, &body)
}

fn bind(service: &str) -> Vec<u8> {
    bind_with(kind::BIND, 4280, &[(0, super::service(&units(service)).unwrap().syntax, &[NDR])])
}

fn request_body(context: u16, operation: u16, stub: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    writer.u32(stub.len() as u32);
    writer.u16(context);
    writer.u16(operation);
    writer.bytes(stub);
    body
}

fn bound(name: &str) -> Pipe {
    let mut pipe = open(name);
    pipe.write(&bind(name), &machine()).unwrap();
    assert_eq!(pipe.read(1000)[2], kind::BIND_ACK);
    pipe
}

/// The stub of the answer to one call, or the fault's number.
fn call(pipe: &mut Pipe, operation: u16, stub: &[u8]) -> Result<Vec<u8>, u32> {
    pipe.write(&pdu(kind::REQUEST, &request_body(0, operation, stub)), &machine()).unwrap();
    let mut all = Vec::new();
    loop {
        let message = pipe.read(usize::MAX);
        if message[2] == kind::FAULT {
            return Err(u32::from_le_bytes(message[24..28].try_into().unwrap()));
        }
        assert_eq!(message[2], kind::RESPONSE);
        all.extend_from_slice(&message[24..]);
        if message[3] & LAST != 0 {
            return Ok(all);
        }
    }
}

/// The status that ends an answer.
fn status(stub: &[u8]) -> u32 {
    u32::from_le_bytes(*stub.last_chunk().unwrap())
}

/// The stub of a call with these arguments.
fn stub(write: impl FnOnce(&mut NdrWriter)) -> Vec<u8> {
    let mut out = NdrWriter::new();
    write(&mut out);
    out.flush();
    out.bytes
}

/// NetrShareEnum, level 1, no server name.
fn share_enumeration() -> Vec<u8> {
    stub(|out| out.u32s(&[0, 1, 1, 0x20000, 0, 0, u32::MAX, 0]))
}

#[test]
fn binds_answers_and_faults() {
    let mut pipe = open("SrvSvc");
    let machine = machine();
    // Bytes may come one by one.
    for byte in bind("srvsvc") {
        pipe.write(&[byte], &machine).unwrap();
    }
    let answer = pipe.read(1000);
    assert_eq!((answer[2], answer.len()), (kind::BIND_ACK, usize::from(answer[8])));
    pipe.write(&pdu(kind::REQUEST, &request_body(0, 15, &share_enumeration())), &machine).unwrap();
    let mut fragments = 0;
    loop {
        // A message is read in pieces, but no read goes beyond it.
        let first = pipe.read(10);
        assert!(pipe.available() > 0);
        let message = [first, pipe.read(usize::MAX)].concat();
        assert!(
            message.len() <= 4280
                && message.len() == usize::from(u16::from_le_bytes([message[8], message[9]]))
        );
        assert_eq!(message[3] & FIRST != 0, fragments == 0);
        fragments += 1;
        if message[3] & LAST != 0 {
            break;
        }
        assert_eq!((message.len() - 24) % 8, 0);
    }
    assert!(fragments > 2 && pipe.available() == 0 && pipe.read(1).is_empty());
    assert_eq!(call(&mut pipe, 99, &[]), Err(0x1C01_0002));
    assert_eq!(call(&mut pipe, 16, &[1, 2, 3]), Err(0x6F7));
}

#[test]
fn small_fragments_are_what_the_client_gets() {
    let mut pipe = open("srvsvc");
    let own = super::service(&units("srvsvc")).unwrap().syntax;
    pipe.write(&bind_with(kind::BIND, 1, &[(0, own, &[NDR])]), &machine()).unwrap();
    pipe.read(1000);
    let long = call(&mut bound("srvsvc"), 15, &share_enumeration()).unwrap();
    pipe.write(&pdu(kind::REQUEST, &request_body(0, 15, &share_enumeration())), &machine()).unwrap();
    let mut all = Vec::new();
    while pipe.available() > 0 {
        let message = pipe.read(usize::MAX);
        assert!(message.len() <= usize::from(LEAST_FRAGMENT));
        all.extend_from_slice(&message[24..]);
    }
    assert_eq!(all, long);
}

#[test]
fn requests_come_in_fragments() {
    let mut pipe = bound("srvsvc");
    let whole = share_enumeration();
    let (front, back) = whole.split_at(16);
    let send = |pipe: &mut Pipe, flags, call, stub: &[u8]| {
        pipe.write(&pdu_with(kind::REQUEST, flags, call, &request_body(0, 15, stub)), &machine())
    };
    send(&mut pipe, FIRST, 9, front).unwrap();
    assert_eq!(pipe.available(), 0);
    send(&mut pipe, LAST, 9, back).unwrap();
    assert_eq!(pipe.read(4280)[2], kind::RESPONSE);
    // What does not go on, or begins in between, ends the conversation.
    for flags in [LAST, 0] {
        let mut pipe = bound("srvsvc");
        send(&mut pipe, flags, 9, back).unwrap();
        assert_eq!(pipe.read(100)[24..28], 0x1C01_000Bu32.to_le_bytes());
        assert_eq!(send(&mut pipe, FIRST | LAST, 10, &whole), Err(Broken));
    }
    for (flags, number) in [(FIRST, 9), (LAST, 8)] {
        let mut pipe = bound("srvsvc");
        send(&mut pipe, FIRST, 9, front).unwrap();
        send(&mut pipe, flags, number, back).unwrap();
        assert_eq!(pipe.read(100)[2], kind::FAULT);
    }
    // An orphaned call is forgotten.
    let mut pipe = bound("srvsvc");
    send(&mut pipe, FIRST, 9, front).unwrap();
    pipe.write(&pdu(kind::ORPHANED, &[]), &machine()).unwrap();
    assert!(call(&mut pipe, 15, &whole).is_ok());
    // More than is kept.
    let mut pipe = bound("srvsvc");
    let mut sent = send(&mut pipe, FIRST, 9, &[0; 30_000]);
    for _ in 0..2 {
        assert_eq!(sent, Ok(()));
        sent = send(&mut pipe, 0, 9, &[0; 30_000]);
    }
    assert_eq!(sent, Err(Broken));
}

#[test]
fn contexts_are_negotiated_one_by_one() {
    let own = super::service(&units("lsarpc")).unwrap().syntax;
    let other = super::service(&units("srvsvc")).unwrap().syntax;
    let mut pipe = open("lsarpc");
    let contexts: [(u16, Syntax, &[Syntax]); 5] = [
        (3, own, &[NDR64]),
        (4, own, &[NDR64, NDR]),
        (5, own, &[FEATURE]),
        (6, other, &[NDR]),
        (7, (own.0, 9), &[NDR]),
    ];
    pipe.write(&bind_with(kind::BIND, 4280, &contexts), &machine()).unwrap();
    let answer = pipe.read(1000);
    // Lengths of fragments, group, "\PIPE\lsarpc", padding, count.
    assert_eq!(answer[40..44], [5, 0, 0, 0]);
    let results: Vec<_> =
        answer[44..].chunks(24).map(|result| (result[0], result[2], result[4] == NDR.0[0])).collect();
    assert_eq!(results, [(2, 2, false), (0, 0, true), (3, 0, false), (2, 1, false), (2, 1, false)]);
    let with_context = |pipe: &mut Pipe, context| {
        pipe.write(&pdu(kind::REQUEST, &request_body(context, 44, &[])), &machine()).unwrap();
        pipe.read(1000)
    };
    assert_eq!(with_context(&mut pipe, 4)[2], kind::RESPONSE);
    for refused in [0, 3, 5, 6] {
        let answer = with_context(&mut pipe, refused);
        assert_eq!((answer[2], &answer[24..28]), (kind::FAULT, &0x1C01_0003u32.to_le_bytes()[..]));
    }
    pipe.write(&bind_with(kind::ALTER_CONTEXT, 4280, &[(6, own, &[NDR])]), &machine()).unwrap();
    assert_eq!(pipe.read(1000)[2], kind::ALTER_CONTEXT_RESPONSE);
    assert_eq!(with_context(&mut pipe, 6)[2], kind::RESPONSE);
    assert_eq!(with_context(&mut pipe, 4)[2], kind::RESPONSE);
    // Contexts are few.
    for number in 10..40 {
        pipe.write(&bind_with(kind::ALTER_CONTEXT, 4280, &[(number, own, &[NDR])]), &machine()).unwrap();
        let answer = pipe.read(1000);
        assert_eq!(answer[32] == 0, number < 10 + MAXIMUM_CONTEXTS as u16 - 2, "{number}");
    }
}

#[test]
fn what_is_out_of_place_is_told_and_ends_it() {
    let own = super::service(&units("srvsvc")).unwrap().syntax;
    let alter = bind_with(kind::ALTER_CONTEXT, 4280, &[(0, own, &[NDR])]);
    let mut verified = pdu(kind::REQUEST, &[0; 40]);
    verified[10] = 16;
    for (mut pipe, sent) in [
        (open("srvsvc"), pdu(kind::REQUEST, &[0; 8])),
        (open("srvsvc"), alter),
        (bound("srvsvc"), bind("srvsvc")),
        (bound("srvsvc"), pdu(kind::RESPONSE, &[0; 8])),
        (bound("srvsvc"), pdu(99, &[])),
        (bound("srvsvc"), verified),
    ] {
        pipe.write(&sent, &machine()).unwrap();
        let answer = pipe.read(100);
        assert_eq!((answer[2], &answer[24..28]), (kind::FAULT, &0x1C01_000Bu32.to_le_bytes()[..]));
        assert_eq!(pipe.write(&bind("srvsvc"), &machine()), Err(Broken));
    }
    // A bind with a verifier, or of another version, is refused; one without may follow.
    let mut authenticated = bind("srvsvc");
    authenticated[10] = 32;
    let mut version = bind("srvsvc");
    version[0] = 4;
    for (sent, reason) in [(authenticated, 8), (version, 4)] {
        let mut pipe = open("srvsvc");
        pipe.write(&sent, &machine()).unwrap();
        let answer = pipe.read(100);
        assert_eq!((answer[2], answer[16]), (kind::BIND_NAK, reason));
        pipe.write(&bind("srvsvc"), &machine()).unwrap();
        assert_eq!(pipe.read(100)[2], kind::BIND_ACK);
    }
}

#[test]
fn what_is_no_pdu_breaks_the_pipe() {
    let machine = machine();
    assert_eq!(Pipe::open(&units("srvsv"), None).unwrap_err(), NtStatus::OBJECT_NAME_NOT_FOUND);
    for bad in [
        [0; 16].to_vec(),
        [4, 0, 0, 3, 16, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0].to_vec(),
        // Big-endian.
        [5, 0, 11, 3, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0].to_vec(),
    ] {
        assert_eq!(open("srvsvc").write(&bad, &machine), Err(Broken));
    }
    let good = bind("srvsvc");
    for length in 17..good.len() {
        let mut cut = good[..length].to_vec();
        cut[8..10].copy_from_slice(&(length as u16).to_le_bytes());
        assert_eq!(open("srvsvc").write(&cut, &machine), Err(Broken), "{length}");
    }
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let mut pipe = bound("srvsvc");
    let request = pdu(kind::REQUEST, &request_body(0, 15, &share_enumeration()));
    let mut answered = 0;
    while pipe.write(&request, &machine()).is_ok() {
        answered += 1;
        assert!(answered < 100);
    }
    assert!(pipe.unread() < 2 * MAXIMUM_UNREAD);
}

#[test]
fn names_are_for_users() {
    for name in ["lsarpc", "samr"] {
        assert_eq!(Pipe::open(&units(name), None).unwrap_err(), NtStatus::ACCESS_DENIED);
    }
    assert!(Pipe::open(&units("srvsvc"), None).is_ok() && Pipe::exists(&units("WKSSVC")));
}

/// The policy's handle.
fn policy(pipe: &mut Pipe) -> [u8; 20] {
    let answer = call(pipe, 44, &[]).unwrap();
    assert_eq!(status(&answer), 0);
    answer[..20].try_into().unwrap()
}

#[test]
fn names_and_identifiers_are_each_others() {
    let mut pipe = bound("lsarpc");
    let policy = policy(&mut pipe);
    let machine = machine();
    let account = Sid::machine([11, 22, 33]);
    let known = [
        ("ATTIC\\bob", account.child(1007), 1),
        ("ann", account.child(1001), 1),
        ("none", account.child(513), 2),
        ("attic", account, 3),
        ("BUILTIN\\Administrators", Sid::ADMINISTRATORS, 4),
        ("Users", Sid::USERS, 4),
        ("everyone", Sid::EVERYONE, 5),
        ("\\Everyone", Sid::EVERYONE, 5),
    ];
    for (name, sid, kind) in known {
        let found = machine.by_text(&units(name));
        assert_eq!((found.sid(&machine), found.kind), (Some(sid), kind), "{name}");
        let back = machine.by_sid(sid);
        assert_eq!((back.sid(&machine), back.kind), (Some(sid), kind), "{name}");
        // LsarLookupNames3.
        let arguments = stub(|out| {
            out.handle(policy);
            out.u32s(&[1, 1]);
            out.unicode_string(&units(name));
            out.flush();
            out.u32s(&[0, 0, 1, 0, 0, 2]);
        });
        let answer = call(&mut pipe, 68, &arguments).unwrap();
        assert_eq!(status(&answer), 0);
        let mut wire = Vec::new();
        sid.emit(&mut Writer::new(&mut wire));
        assert!(answer.windows(wire.len()).any(|window| window == wire), "{name}");
    }
    for name in ["", "carol", "ATTIC\\Users", "BUILTIN\\ann", "OTHER\\ann", "ATTIC\\ann\\", "\\"] {
        assert!(!machine.by_text(&units(name)).is_known(), "{name}");
    }
    let text = |sid| alloc::string::String::from_utf16(&machine.by_sid(sid).name).unwrap();
    assert_eq!(text(account.child(0x1F4)), "000001F4");
    assert_eq!(text(Sid::new(5, &[21, 1, 2, 3, 4])), "S-1-5-21-1-2-3-4");
    assert_eq!(text(Sid::new(5, &[])), "S-1-5");
    // LsarLookupSids: one that is known, one that is not.
    let arguments = stub(|out| {
        out.handle(policy);
        out.u32s(&[2, 1, 2]);
        out.sid_pointer(Some(Sid::EVERYONE));
        out.sid_pointer(Some(Sid::new(9, &[1])));
    });
    let answer = call(&mut pipe, 15, &arguments).unwrap();
    assert_eq!(status(&answer), 0x107);
    // Cut anywhere, it is a malformed stub.
    for length in 0..arguments.len() {
        assert_eq!(call(&mut pipe, 15, &arguments[..length]), Err(0x6F7), "{length}");
    }
    // Nobody is counted a billion times.
    let huge = stub(|out| {
        out.handle(policy);
        out.u32s(&[0x4000_0000, 1, 0x4000_0000]);
    });
    assert_eq!(call(&mut pipe, 15, &huge), Err(0x6F7));
    assert_eq!(call(&mut pipe, 14, &huge), Err(0x6F7));
}

#[test]
fn handles_are_a_pipes_own() {
    let mut pipe = bound("lsarpc");
    let first = policy(&mut pipe);
    let other = policy(&mut bound("lsarpc"));
    assert_eq!(first, other);
    assert_eq!(call(&mut bound("lsarpc"), 13, &first), Err(0x1C00_001A));
    assert_eq!(status(&call(&mut pipe, 13, &first).unwrap()), NtStatus::NO_MORE_ENTRIES.0);
    assert_eq!(status(&call(&mut pipe, 0, &first).unwrap()), 0);
    assert_eq!(call(&mut pipe, 13, &first), Err(0x1C00_001A));
    assert_eq!(call(&mut pipe, 0, &first), Err(0x1C00_001A));
    assert_eq!(call(&mut pipe, 0, &[0; 20]), Err(0x1C00_001A));
    for _ in 0..32 {
        policy(&mut pipe);
    }
    let full = call(&mut pipe, 44, &[]).unwrap();
    assert_eq!((&full[..20], status(&full)), (&[0; 20][..], NtStatus::INSUFFICIENT_RESOURCES.0));
    // A handle of another kind is none.
    let mut accounts = bound("samr");
    let server: [u8; 20] = call(&mut accounts, 57, &[]).unwrap()[..20].try_into().unwrap();
    for operation in [8, 13, 17, 18, 34, 36, 39] {
        assert_eq!(call(&mut accounts, operation, &server), Err(0x1C00_001A), "{operation}");
    }
}

#[test]
fn the_caller_is_told_who_it_is() {
    let mut pipe = bound("lsarpc");
    let answer = call(&mut pipe, 45, &stub(|out| out.u32s(&[0, 0, 0]))).unwrap();
    assert_eq!(status(&answer), 0);
    assert!(answer.windows(6).any(|window| window == b"b\0o\0b\0"));
    assert!(!answer.windows(10).any(|window| window == b"A\0T\0T\0I\0C\0"));
    let answer = call(&mut pipe, 45, &stub(|out| out.u32s(&[0, 0, 1, 0]))).unwrap();
    assert!(answer.windows(10).any(|window| window == b"A\0T\0T\0I\0C\0"));
}

#[test]
fn accounts_are_listed_and_looked_at() {
    let mut pipe = bound("samr");
    let server: [u8; 20] = call(&mut pipe, 57, &[]).unwrap()[..20].try_into().unwrap();
    let open_domain = |pipe: &mut Pipe, sid: Sid| {
        let arguments = stub(|out| {
            out.handle(server);
            out.u32(0x0200_0000);
            out.u32(sid.subauthorities().len() as u32);
            sid.emit(&mut Writer::new(&mut out.bytes));
        });
        let answer = call(pipe, 7, &arguments).unwrap();
        (<[u8; 20]>::try_from(&answer[..20]).unwrap(), status(&answer))
    };
    assert_eq!(open_domain(&mut pipe, Sid::new(5, &[21, 1, 2, 3])), ([0; 20], 0xC000_00DF));
    let (domain, opened) = open_domain(&mut pipe, Sid::machine([11, 22, 33]));
    assert_eq!(opened, 0);
    let users = call(
        &mut pipe,
        13,
        &stub(|out| {
            out.handle(domain);
            out.u32s(&[0, 0, 1000]);
        }),
    );
    let users = users.unwrap();
    assert_eq!(users[8..12], 2u32.to_le_bytes());
    assert_eq!(users[20..24], 1001u32.to_le_bytes());
    assert_eq!((status(&users), users[users.len() - 8]), (0, 2));
    let open_user = |pipe: &mut Pipe, relative: u32| {
        let arguments = stub(|out| {
            out.handle(domain);
            out.u32s(&[0x0200_0000, relative]);
        });
        call(pipe, 34, &arguments).unwrap()
    };
    for nobody in [0, 513, 1002, 1000 + 0x1_0001, u32::MAX] {
        assert_eq!(status(&open_user(&mut pipe, nobody)), NtStatus::NO_SUCH_USER.0, "{nobody}");
    }
    let user: [u8; 20] = open_user(&mut pipe, 1007)[..20].try_into().unwrap();
    for (class, length) in [(7u16, 8 + 8 + 12 + 8 + 4), (9, 12 + 4), (16, 12 + 4), (21, 0)] {
        let arguments = stub(|out| {
            out.handle(user);
            out.u16(class);
        });
        let answer = call(&mut pipe, 36, &arguments).unwrap();
        assert_eq!(status(&answer), 0);
        assert!(length == 0 || answer.len() <= length, "{class}");
    }
    let unknown = stub(|out| {
        out.handle(user);
        out.u16(99);
    });
    assert_eq!(status(&call(&mut pipe, 47, &unknown).unwrap()), NtStatus::INVALID_INFO_CLASS.0);
    let names = stub(|out| {
        out.handle(domain);
        out.u32s(&[2, 1000, 0, 2]);
        out.unicode_string(&units("BOB"));
        out.unicode_string(&units("carol"));
    });
    let answer = call(&mut pipe, 17, &names).unwrap();
    assert_eq!(answer[12..20], [0xEF, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(status(&answer), 0x107);
}
