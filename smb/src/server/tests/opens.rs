//! What an open is asked for and asked: create contexts, information classes, control codes. One table a kind, every number in it.

use alloc::string::String;

use super::*;

/// The data of the context `tag` in a CREATE's answer.
fn context_data(answer: &Answer, tag: &[u8; 4]) -> Option<Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(answer.bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, length) = (number(144), number(148));
    if length == 0 {
        return None;
    }
    loop {
        let short = |offset: usize| {
            usize::from(u16::from_le_bytes(answer.bytes[at + offset..at + offset + 2].try_into().unwrap()))
        };
        let name = &answer.bytes[at + short(4)..at + short(4) + short(6)];
        if name == tag {
            let start = at + short(10);
            return Some(answer.bytes[start..start + number(at + 12)].to_vec());
        }
        match number(at) {
            0 => return None,
            next => at += next,
        }
    }
}

fn with(tag: &[u8; 4], data: &[u8]) -> Create {
    Create { contexts: context(tag, data), ..MAKE }
}

#[test]
fn each_create_context_is_answered_or_refused() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let answer = client.create("a", with(b"MxAc", &[]));
    let maximal = [&[0; 4][..], &0x001F_01FFu32.to_le_bytes()].concat();
    assert_eq!(context_data(&answer, b"MxAc").unwrap(), maximal);
    let answer = client.create("a", with(b"QFid", &[]));
    let identity = context_data(&answer, b"QFid").unwrap();
    assert_eq!((identity.len(), &identity[16..]), (32, &[0; 16][..]));
    let again = client.create("a", with(b"QFid", &[]));
    assert_eq!(context_data(&again, b"QFid").unwrap(), identity);
    let other = client.create("b", with(b"QFid", &[]));
    assert_ne!(context_data(&other, b"QFid").unwrap()[..8], identity[..8]);
    let query = [&[1, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 15]].concat();
    let answer = client.create("", Create { disposition: 1, options: 1, ..with(b"AAPL", &query) });
    assert_eq!(
        context_data(&answer, b"AAPL").unwrap()[16..32],
        [0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(context_data(&answer, b"MxAc"), None);
    for (tag, data, status) in [
        (b"AAPL", &query[..23], NtStatus::INVALID_PARAMETER),
        (b"TWrp", &[1; 8][..], NtStatus::OBJECT_NAME_NOT_FOUND),
        (b"AlSi", &[0xFF; 8], NtStatus::DISK_FULL),
        (b"AlSi", &[0; 7], NtStatus::INVALID_PARAMETER),
        (b"ExtA", &[0; 16], NtStatus::EAS_NOT_SUPPORTED),
        (b"RqLs", &[0; 31], NtStatus::INVALID_PARAMETER),
    ] {
        let how = Create { oplock: if tag == b"RqLs" { 0xFF } else { 0 }, ..with(tag, data) };
        assert_eq!(client.create("new", how).status, status, "{tag:?}");
        let found = client.create("new", Create { disposition: 1, ..MAKE }).status;
        assert_eq!(found, NtStatus::OBJECT_NAME_NOT_FOUND, "{tag:?} left a file behind");
    }
    // Contexts that nobody knows are passed over.
    assert_eq!(client.create("a", with(b"Zzzz", &[9; 9])).status, NtStatus::SUCCESS);
    assert_eq!(client.create("a", with(b"AlSi", &[0, 16, 0, 0, 0, 0, 0, 0])).status, NtStatus::SUCCESS);
    // What macOS keeps beside a file is a file.
    for name in ["._a", ".DS_Store", "Icon\u{F00D}", "a\u{F022}b"] {
        let file = client.open(name, MAKE);
        assert_eq!(client.write(&file, 0, b"Mac"), NtStatus::SUCCESS);
        assert_eq!(client.close(&file), NtStatus::SUCCESS);
    }
}

fn query(
    client: &mut Client<'_>,
    file: &[u8; 16],
    (kind, class): (u8, u8),
    additional: u32,
    length: u32,
) -> Answer {
    let body = put(|writer| {
        writer.u16(41);
        writer.u8(kind);
        writer.u8(class);
        writer.u32(length);
        writer.u16(104);
        writer.u16(0);
        writer.u32(0);
        writer.u32(additional);
        writer.u32(0);
        writer.bytes(file);
        writer.zeros(1);
    });
    client.call(Command::QueryInfo, &body)
}

pub(super) fn set(
    client: &mut Client<'_>,
    file: &[u8; 16],
    (kind, class): (u8, u8),
    data: &[u8],
) -> NtStatus {
    let body = put(|writer| {
        writer.u16(33);
        writer.u8(kind);
        writer.u8(class);
        writer.u32(data.len() as u32);
        writer.u16(96);
        writer.u16(0);
        writer.u32(0);
        writer.bytes(file);
        writer.bytes(data);
    });
    client.call(Command::SetInfo, &body).status
}

/// Bytes of the answer to a query.
fn output(answer: &Answer) -> &[u8] {
    &answer.bytes[72..]
}

#[test]
fn each_class_of_a_file_is_answered_or_refused() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    client.open("folder", Create { options: 1, ..MAKE });
    let file = client.open("folder\\a long name.txt", MAKE);
    client.write(&file, 0, b"five!");
    // "\folder\a long name.txt", "::$DATA".
    let (path, stream) = (46, 14);
    for class in 0..=255 {
        let answer = query(&mut client, &file, (1, class), 0, 1024);
        let length = match class {
            4 => 40,
            5 => 24,
            6 | 14 => 8,
            7 | 8 | 16 | 17 => 4,
            9 => 4 + path,
            18 => 96 + 4 + path,
            // "ALONGN~1.TXT" or the like.
            21 => 4 + 24,
            22 => 24 + stream,
            28 | 54 => 16,
            34 => 56,
            35 => 8,
            48 => 4 + path - 2,
            59 => 24,
            15 => {
                assert_eq!(answer.status, NtStatus::NO_EAS_ON_FILE);
                continue;
            }
            29 | 32 | 33 => {
                assert_eq!(answer.status, NtStatus::NOT_SUPPORTED, "{class}");
                continue;
            }
            _ => {
                let refused = [NtStatus::INVALID_INFO_CLASS, NtStatus::INVALID_PARAMETER];
                assert!(refused.contains(&answer.status), "{class}: {:?}", answer.status);
                continue;
            }
        };
        assert_eq!((answer.status, output(&answer).len()), (NtStatus::SUCCESS, length), "{class}");
        let short = query(&mut client, &file, (1, class), 0, 1).status;
        assert_eq!(short, NtStatus::INFO_LENGTH_MISMATCH, "{class}");
    }
    let cut = query(&mut client, &file, (1, 9), 0, 12);
    assert_eq!((cut.status, output(&cut).len()), (NtStatus::BUFFER_OVERFLOW, 12));
    // A directory has no stream.
    let folder = client.open("folder", Create { disposition: 1, options: 1, ..MAKE });
    assert!(output(&query(&mut client, &folder, (1, 22), 0, 64)).is_empty());
}

#[test]
fn each_class_of_a_volume_is_answered_or_refused() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb302);
    let file = client.open("a", MAKE);
    for class in 0..=255 {
        let answer = query(&mut client, &file, (2, class), 0, 1024);
        let least = match class {
            1 => 18,
            3 => 24,
            4 => 8,
            5 => 12,
            6 => 48,
            7 => 32,
            8 => 64,
            11 => 28,
            _ => {
                assert_eq!(answer.status, NtStatus::INVALID_INFO_CLASS, "{class}");
                continue;
            }
        };
        assert_eq!(answer.status, NtStatus::SUCCESS, "{class}");
        assert!(output(&answer).len() >= least, "{class}: {}", output(&answer).len());
    }
    // No streams, no access lists, no quotas, no links: nothing that is refused is said to be there.
    let attributes = query(&mut client, &file, (2, 5), 0, 1024);
    assert_eq!(output(&attributes)[..4], 6u32.to_le_bytes());
    assert_eq!(query(&mut client, &file, (4, 0), 0, 1024).status, NtStatus::NOT_SUPPORTED);
    assert_eq!(query(&mut client, &file, (5, 0), 0, 1024).status, NtStatus::INVALID_PARAMETER);
    for class in [2, 6, 8] {
        assert_eq!(set(&mut client, &file, (2, class), &[0; 64]), NtStatus::NOT_SUPPORTED, "{class}");
    }
    assert_eq!(set(&mut client, &file, (4, 0), &[0; 64]), NtStatus::NOT_SUPPORTED);
}

#[test]
fn each_class_is_set_or_refused() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb302);
    let file = client.open("a", MAKE);
    client.write(&file, 0, &[1; 5000]);
    for class in 0..=255 {
        let data = match class {
            4 => put(|writer| {
                writer.zeros(32);
                writer.u32(0x20);
                writer.u32(0);
            }),
            13 => vec![0],
            14 => vec![3, 0, 0, 0, 0, 0, 0, 0],
            16 => vec![2, 0, 0, 0],
            19 => 8192u64.to_le_bytes().to_vec(),
            20 => 100u64.to_le_bytes().to_vec(),
            64 => vec![0; 4],
            10 | 65 => continue,
            _ => vec![0; 64],
        };
        let status = set(&mut client, &file, (1, class), &data);
        let expected: &[NtStatus] = match class {
            4 | 13 | 14 | 16 | 19 | 20 | 64 => &[NtStatus::SUCCESS],
            11 | 29 | 32 | 39 | 40 => &[NtStatus::NOT_SUPPORTED],
            15 => &[NtStatus::EAS_NOT_SUPPORTED],
            _ => &[NtStatus::INVALID_INFO_CLASS, NtStatus::INVALID_PARAMETER],
        };
        assert!(expected.contains(&status), "{class}: {status:?}");
    }
    assert_eq!(client.read(&file, 0, 200).unwrap(), [1; 100]);
    assert_eq!(output(&query(&mut client, &file, (1, 14), 0, 64)), [3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(output(&query(&mut client, &file, (1, 16), 0, 64)), [2, 0, 0, 0]);
}

#[test]
fn a_descriptor_that_does_not_fit_says_how_long_it_is() {
    for (dialect, length) in [(Dialect::Smb302, 4), (Dialect::Smb311, 12)] {
        let fixture = fixture();
        let mut client = Client::log_on(&fixture.server, 1, dialect);
        let file = client.open("a", MAKE);
        let whole = query(&mut client, &file, (3, 0), 7, 1024);
        assert_eq!(whole.status, NtStatus::SUCCESS);
        let needed = output(&whole).len() as u32;
        let short = query(&mut client, &file, (3, 0), 7, 8);
        assert_eq!(short.status, NtStatus::BUFFER_TOO_SMALL);
        // ErrorContextCount and ByteCount; in 3.1.1 the number is in a context.
        assert_eq!((short.bytes[66], short.bytes[68]), (u8::from(dialect == Dialect::Smb311), length));
        assert_eq!(short.bytes[72 + usize::from(length) - 4..], needed.to_le_bytes());
        assert_eq!(set(&mut client, &file, (3, 0), output(&whole)), NtStatus::NOT_SUPPORTED);
    }
}

#[test]
fn each_control_code_is_answered_or_refused() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb302);
    let file = client.open("a", MAKE);
    client.write(&file, 0, &[1; 100]);
    let mut control = |file: &[u8; 16], code: u32, input: &[u8], flags: u32| {
        let body = put(|writer| {
            writer.u16(57);
            writer.u16(0);
            writer.u32(code);
            writer.bytes(file);
            writer.u32(120);
            writer.u32(input.len() as u32);
            writer.zeros(12);
            writer.u32(4096);
            writer.u32(flags);
            writer.u32(0);
            writer.bytes(input);
            writer.zeros(1);
        });
        client.call(Command::Ioctl, &body).status
    };
    let range = [&0u64.to_le_bytes()[..], &50u64.to_le_bytes()].concat();
    let none = [0xFF; 16];
    for (file, code, input, status) in [
        (&none, 0x0006_0194, &[0; 8][..], NtStatus::FS_DRIVER_REQUIRED),
        (&none, 0x0006_01B0, &[0; 8], NtStatus::FS_DRIVER_REQUIRED),
        (&file, 0x0014_0078, &[], NtStatus::SUCCESS),
        (&file, 0x0009_80C8, &range, NtStatus::SUCCESS),
        (&file, 0x0009_80C8, &range[..15], NtStatus::INVALID_PARAMETER),
        (&file, 0x0009_40CF, &range, NtStatus::SUCCESS),
        (&file, 0x0009_00C0, &[], NtStatus::SUCCESS),
        (&file, 0x0009_00A8, &[], NtStatus::NOT_A_REPARSE_POINT),
        // No ports were named.
        (&none, 0x0014_01FC, &[], NtStatus::NOT_SUPPORTED),
        // Pipes only.
        (&file, 0x0011_C017, &[], NtStatus::INVALID_DEVICE_REQUEST),
        (&none, 0x0011_0018, &[0; 16], NtStatus::INVALID_DEVICE_REQUEST),
        // Compression (there is none, which may be asked and set), sparse files, reparse points, snapshots, resiliency, what nobody knows.
        (&file, 0x0009_C040, &[0; 2], NtStatus::SUCCESS),
        (&file, 0x0009_C040, &[1, 0], NtStatus::NOT_SUPPORTED),
        (&file, 0x0009_003C, &[], NtStatus::SUCCESS),
        (&file, 0x0009_00C4, &[1], NtStatus::INVALID_DEVICE_REQUEST),
        (&file, 0x0009_00A4, &[0; 8], NtStatus::INVALID_DEVICE_REQUEST),
        (&file, 0x0014_4064, &[], NtStatus::INVALID_DEVICE_REQUEST),
        (&file, 0x0014_01D4, &[0; 8], NtStatus::INVALID_DEVICE_REQUEST),
        (&file, 0xFFFF_FFFF, &[], NtStatus::INVALID_DEVICE_REQUEST),
        (&none, 0x0014_0078, &[], NtStatus::FILE_CLOSED),
    ] {
        assert_eq!(control(file, code, input, 1), status, "{code:#x}");
    }
    // An IOCTL that is no file system control.
    assert_eq!(control(&file, 0x0014_0078, &[], 0), NtStatus::NOT_SUPPORTED);
}

fn list(client: &mut Client<'_>, directory: &[u8; 16], (class, flags): (u8, u8), pattern: &str) -> Answer {
    let pattern = name(pattern);
    let body = put(|writer| {
        writer.u16(33);
        writer.u8(class);
        writer.u8(flags);
        writer.u32(0);
        writer.bytes(directory);
        writer.u16(96);
        writer.u16(pattern.len() as u16);
        writer.u32(4096);
        writer.bytes(&pattern);
        writer.zeros(1);
    });
    client.call(Command::QueryDirectory, &body)
}

#[test]
fn each_class_lists_a_directory() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb302);
    for name in ["one.txt", "two.txt", "three", "a.b.c"] {
        let file = client.open(name, MAKE);
        client.close(&file);
    }
    let root = client.open("", Create { disposition: 1, options: 1, ..MAKE });
    let mut list = |class: u8, flags: u8, pattern: &str| list(&mut client, &root, (class, flags), pattern);
    let has = |answer: &Answer, text: &str| {
        let wanted = name(text);
        answer.bytes.windows(wanted.len()).any(|window| window == wanted)
    };
    for class in 0..=255 {
        let answer = list(class, 1, "*");
        if matches!(class, 1 | 2 | 3 | 12 | 37 | 38 | 60 | 63) {
            assert_eq!(answer.status, NtStatus::SUCCESS, "{class}");
            assert!(
                ["one.txt", "two.txt", "three", "a.b.c"].iter().all(|text| has(&answer, text)),
                "{class}"
            );
            assert_eq!(list(class, 0, "*").status, NtStatus::NO_MORE_FILES, "{class}");
        } else {
            assert_eq!(answer.status, NtStatus::INVALID_INFO_CLASS, "{class}");
        }
    }
    // One at a time: ".", "..", four names, the end.
    for index in 0..7 {
        let status = list(37, 2 | u8::from(index == 0), "*").status;
        assert_eq!(status, if index < 6 { NtStatus::SUCCESS } else { NtStatus::NO_MORE_FILES }, "{index}");
    }
    // DOS_STAR, DOS_QM, DOS_DOT.
    for (pattern, found) in [
        ("<.txt", &["one.txt", "two.txt"][..]),
        ("<.c", &["a.b.c"]),
        ("*\"*", &["one.txt", "two.txt", "three", "a.b.c"]),
        (">>>.txt", &["one.txt", "two.txt"]),
        ("t>>>>>>>", &["three"]),
        ("THREE", &["three"]),
    ] {
        let answer = list(12, 1, pattern);
        assert_eq!(answer.status, NtStatus::SUCCESS, "{pattern}");
        for text in ["one.txt", "two.txt", "three", "a.b.c"] {
            assert_eq!(has(&answer, text), found.contains(&text), "{pattern} {text}");
        }
    }
    assert_eq!(list(12, 1, "nothing*").status, NtStatus::NO_SUCH_FILE);
}

/// The 8.3 name of a file, by FileAlternateNameInformation.
fn alternate(client: &mut Client<'_>, path: &str) -> String {
    let file = client.open(path, Create { disposition: 1, ..MAKE });
    let answer = query(client, &file, (1, 21), 0, 64);
    client.close(&file);
    let (units, _) = output(&answer)[4..].as_chunks::<2>();
    String::from_utf16(&units.iter().map(|unit| u16::from_le_bytes(*unit)).collect::<Vec<_>>()).unwrap()
}

#[test]
fn made_up_short_names_open_what_they_are_made_of() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let folder = client.open("a long folder", Create { options: 1, ..MAKE });
    let file = client.open("a long folder\\some page.html", MAKE);
    assert_eq!(client.write(&file, 0, b"five!"), NtStatus::SUCCESS);
    client.close(&file);
    let (above, below) =
        (alternate(&mut client, "a long folder"), alternate(&mut client, "a long folder\\some page.html"));
    assert!(above.ends_with("~1") && below.ends_with("~1.HTM"), "{above} {below}");
    let (path, open) =
        (alloc::format!("{above}\\{}", below.to_lowercase()), Create { disposition: 1, ..MAKE });
    let found = client.open(&path, open.clone());
    assert_eq!(client.read(&found, 0, 9).unwrap(), b"five!");
    // Its name is the long one.
    assert_eq!(
        output(&query(&mut client, &found, (1, 9), 0, 128))[4..],
        name("\\a long folder\\some page.html")
    );
    client.close(&found);
    // A listing shows the same names, and takes them as patterns; `*.htm` does not mean them.
    for (pattern, status) in [
        (&below[..], NtStatus::SUCCESS),
        ("*~1.*", NtStatus::SUCCESS),
        ("*.htm", NtStatus::NO_SUCH_FILE),
        ("SO0000~1.HTM", NtStatus::NO_SUCH_FILE),
    ] {
        let answer = list(&mut client, &folder, (3, 1), pattern);
        assert_eq!(answer.status, status, "{pattern}");
        if status == NtStatus::SUCCESS {
            let short = name(&below);
            assert_eq!(usize::from(output(&answer)[68]), short.len(), "{pattern}");
            assert_eq!(&output(&answer)[70..70 + short.len()], short, "{pattern}");
        }
    }
    // What is there is in the way of a new file and of a rename; but a file may get its own short name.
    assert_eq!(
        client.create(&path, Create { disposition: 2, ..MAKE }).status,
        NtStatus::OBJECT_NAME_COLLISION
    );
    let rename = |to: &str| {
        let to = name(to);
        [&[0; 16][..], &(to.len() as u32).to_le_bytes(), &to, &[0; 4]].concat()
    };
    let other = client.open("other", MAKE);
    assert_eq!(set(&mut client, &other, (1, 10), &rename(&path)), NtStatus::OBJECT_NAME_COLLISION);
    let found = client.open(&path, open.clone());
    assert_eq!(set(&mut client, &found, (1, 10), &rename(&path)), NtStatus::SHARING_VIOLATION);
    client.close(&folder);
    assert_eq!(set(&mut client, &found, (1, 10), &rename(&path)), NtStatus::SUCCESS);
    client.close(&found);
    assert_eq!(
        client.create("a long folder\\some page.html", open.clone()).status,
        NtStatus::OBJECT_NAME_NOT_FOUND
    );
    assert_eq!(alternate(&mut client, &path), below.to_lowercase());
    // A file of that very name wins over one that it is made of.
    let long = client.open("a long folder\\some page.html", MAKE);
    let short = client.open(&path, open.clone());
    assert_eq!(client.read(&long, 0, 9), Err(NtStatus::END_OF_FILE));
    assert_eq!(client.read(&short, 0, 9).unwrap(), b"five!");
    // What has the form and nothing to it.
    for (path, status) in [
        ("SO0000~1.HTM", NtStatus::OBJECT_NAME_NOT_FOUND),
        ("SO0000~1.HTM\\x", NtStatus::OBJECT_PATH_NOT_FOUND),
        ("other\\SO0000~1.HTM", NtStatus::OBJECT_PATH_NOT_FOUND),
    ] {
        assert_eq!(client.create(path, open.clone()).status, status, "{path}");
    }
}

#[test]
fn a_path_has_its_share_of_made_up_names() {
    let fixture = fixture();
    let mut client = Client::log_on(&fixture.server, 1, Dialect::Smb311);
    let (mut long, mut short) = (String::new(), String::new());
    let made = crate::fscc::short_name(&"long name".encode_utf16().collect::<Vec<_>>()).unwrap();
    let made = String::from_utf16(made.units()).unwrap();
    for depth in 1..=30 {
        long.push_str("long name");
        client.open(&long, Create { options: 1, ..MAKE });
        short.push_str(&made);
        let status = client.create(&short, Create { disposition: 1, options: 1, ..MAKE }).status;
        let enough =
            if depth == 29 { NtStatus::OBJECT_NAME_NOT_FOUND } else { NtStatus::OBJECT_PATH_NOT_FOUND };
        assert_eq!(status, if depth <= 28 { NtStatus::SUCCESS } else { enough }, "{depth}");
        long.push('\\');
        short.push('\\');
    }
}
