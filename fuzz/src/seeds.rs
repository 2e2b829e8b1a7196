//! Seeds for the targets, made from what they are about: one of each kind that is right, and one for each known bug class
//! of SMB servers (docs/security.md numbers them). `cargo run --no-default-features --example make_seeds` writes them.

use crate::auth_exchange::{ANONYMOUS, REPAIR};
use crate::input::piece;

/// A target's name, a seed's name, and the seed.
pub type Seed = (&'static str, String, Vec<u8>);

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    log_ons(&mut seeds);
    names(&mut seeds);
    structures(&mut seeds);
    transforms(&mut seeds);
    disks(&mut seeds);
    messages(&mut seeds);
    pipes(&mut seeds);
    records(&mut seeds);
    keys(&mut seeds);
    seeds.extend(crate::seeds_server::all().into_iter().map(|(name, seed)| ("smb_server", name, seed)));
    seeds
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A DER element.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len() {
        length @ 0..=127 => out.push(length as u8),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(contents);
    out
}

const NTLMSSP: [u8; 12] = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A];
const KERBEROS: [u8; 11] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02];

fn initial(mechanisms: &[u8], token: Option<&[u8]>) -> Vec<u8> {
    let mut fields = der(0xA0, &der(0x30, mechanisms));
    if let Some(token) = token {
        fields.extend(der(0xA2, &der(0x04, token)));
    }
    let mut contents = vec![0x06, 0x06, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x02];
    contents.extend(der(0xA0, &der(0x30, &fields)));
    der(0x60, &contents)
}

fn response(token: &[u8], mic: Option<&[u8]>) -> Vec<u8> {
    let mut fields = der(0xA2, &der(0x04, token));
    if let Some(mic) = mic {
        fields.extend(der(0xA3, &der(0x04, mic)));
    }
    der(0xA1, &der(0x30, &fields))
}

fn negotiate() -> Vec<u8> {
    let mut out = b"NTLMSSP\0\x01\0\0\0".to_vec();
    out.extend(0xE208_8297u32.to_le_bytes());
    out.extend([0; 16]);
    out.extend([6, 1, 0, 0, 0, 0, 0, 15]);
    out
}

/// An AUTHENTICATE_MESSAGE whose proof the target makes right.
fn authenticate(user: &str, attributes: &[u8], key_length: usize) -> Vec<u8> {
    let mut nt = vec![0; 16];
    nt.extend([1, 1, 0, 0, 0, 0, 0, 0]);
    nt.extend([9; 8]);
    nt.extend([0xAA; 8]);
    nt.extend([0; 4]);
    nt.extend(attributes);
    nt.extend([0; 8]);
    let mut out = b"NTLMSSP\0\x03\0\0\0".to_vec();
    let mut payload = Vec::new();
    for field in [vec![0; 24], nt, utf16("WORKGROUP"), utf16(user), utf16("CLIENT"), vec![7; key_length]] {
        out.extend((field.len() as u16).to_le_bytes());
        out.extend((field.len() as u16).to_le_bytes());
        out.extend((88 + payload.len() as u32).to_le_bytes());
        payload.extend(field);
    }
    out.extend(0xE288_8215u32.to_le_bytes());
    out.extend([6, 1, 0, 0, 0, 0, 0, 15]);
    out.extend([0; 16]);
    out.extend(payload);
    out
}

fn log_ons(seeds: &mut Vec<Seed>) {
    let mut add = |name: &str, options: u8, tokens: &[Vec<u8>]| {
        let mut seed = vec![options];
        tokens.iter().for_each(|token| seed.extend(piece(token)));
        seeds.push(("auth_exchange", name.to_string(), seed));
    };
    let first = initial(&NTLMSSP, Some(&negotiate()));
    let plain = authenticate("nas", &[2, 0, 2, 0, 65, 0], 16);
    let both = [&KERBEROS[..], &NTLMSSP].concat();
    add("spnego", REPAIR, &[first.clone(), response(&plain, None)]);
    add("spnego-mic", REPAIR, &[first.clone(), response(&plain, Some(&[1; 16]))]);
    add("bare", REPAIR, &[negotiate(), plain.clone()]);
    add("promised-mic", REPAIR, &[negotiate(), authenticate("nas", &[6, 0, 4, 0, 2, 0, 0, 0], 16)]);
    add(
        "kerberos-first",
        REPAIR,
        &[initial(&both, Some(b"ticket")), response(&negotiate(), None), response(&plain, None)],
    );
    add("unknown-user", 0, &[first.clone(), response(&authenticate("who", &[], 16), None)]);
    let mut nobody = authenticate("", &[], 16);
    nobody[12..14].fill(0);
    nobody[20..22].fill(0);
    add("anonymous", ANONYMOUS, &[negotiate(), nobody]);

    for length in [0, 15, 17, 255] {
        let message = authenticate("nas", &[], length);
        add(&format!("class03-session-key-{length}"), REPAIR, &[negotiate(), message]);
    }
    for (field, at) in
        [("lm", 12), ("nt", 20), ("domain", 28), ("user", 36), ("workstation", 44), ("key", 52)]
    {
        let mut message = plain.clone();
        message[at + 4..at + 8].copy_from_slice(&0xFFFF_FFF8u32.to_le_bytes());
        add(&format!("class03-offset-{field}"), REPAIR, &[negotiate(), message]);
        let mut message = plain.clone();
        message[at..at + 2].fill(0xFF);
        add(&format!("class03-length-{field}"), REPAIR, &[negotiate(), message]);
    }
    add("class03-no-mech-token", REPAIR, &[initial(&NTLMSSP, None), response(&negotiate(), None)]);
    add("class03-empty-response", REPAIR, &[first.clone(), der(0xA1, &der(0x30, &[]))]);
    add("class03-der-bomb", 0, &[vec![0x60, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x06, 0x06]]);
    add("class03-der-nested", 0, &[[0x60, 0x82, 0x10, 0x00].repeat(200)]);
    add("class03-mechanisms", 0, &[initial(&NTLMSSP.repeat(60), Some(&negotiate()))]);
    add("class03-attributes", REPAIR, &[negotiate(), authenticate("nas", &[6, 0, 0xFF, 0xFF, 2, 0], 16)]);
    add("class07-endless", 0, &vec![first; 8]);
    let mut long = negotiate();
    long.resize(8000, 0);
    add("class07-long-negotiate", 0, &[long]);
}

fn names(seeds: &mut Vec<Seed>) {
    for (name, pattern, path) in [
        ("plain", "*.txt", "folder\\Name.TXT"),
        ("dos", "<.>>\"*", "a.b.c"),
        ("stream", "?*?", "a\\b:stream:$DATA"),
        ("data-stream", "name", "name::$DATA"),
        ("class12-dot-dot", "..", "a\\..\\..\\b"),
        ("class12-leading", "*", "\\a"),
        ("class12-empty", "*", "a\\\\b\\"),
        ("class12-wildcard", "*", "a*b"),
        ("class12-device", "con", "con\\aux.txt"),
        ("class12-trailing", "x ", "x. \\y."),
        ("class11-stars", "*a*b*c*d*e*f*g*h*", "aaaaaaaabbbbbbbbccccccccdddddddd"),
    ] {
        let mut seed = piece(&utf16(pattern));
        seed.extend(utf16(path));
        seeds.push(("smb_names", name.to_string(), seed));
    }
    let mut lone = piece(&[0x00, 0xD8]);
    lone.extend([0x00, 0xDC, 0x00, 0xD8, b'.', 0, 0x3C, 0xD8]);
    seeds.push(("smb_names", "class12-surrogates".to_string(), lone));
    let mut long = piece(&[0x3C, 0].repeat(255));
    long.extend([0x61, 0].repeat(255));
    seeds.push(("smb_names", "class12-255".to_string(), long));
}

fn structures(seeds: &mut Vec<Seed>) {
    let mut add = |name: &str, seed: Vec<u8>| seeds.push(("smb_structures", name.to_string(), seed));
    add("basic", [&[0][..], &[1; 40]].concat());
    let mut rename = vec![1, 0];
    rename.extend([1; 16]);
    rename.extend([4, 0, 0, 0, 97, 0, 98, 0]);
    add("rename", rename.clone());
    rename[18..22].fill(0xFF);
    add("class05-rename-length", rename);
    let attribute = [0, 0, 0, 0, 0, 1, 2, 0, b'n', 0, 7, 8];
    let mut list = attribute.to_vec();
    list[0] = 12;
    list.extend(attribute);
    add("attributes", [&[3][..], &list].concat());
    list[0] = 4;
    add("class11-attributes", [&[3][..], &list].concat());
    for class in [1, 2, 3, 12, 37, 38, 60, 63] {
        let mut listing = vec![4, class, 0, 2];
        for name in ["a", "long name.txt", "ümlaut"] {
            listing.extend(piece(&utf16(name)));
            listing.extend(piece(&utf16("SHORT~1.TXT")));
        }
        add(&format!("listing-{class}"), listing);
    }
    let mut request = vec![5];
    request.extend(b" CKFDENECFDEFFCFGEFFCCACACACACACA\0 EDEMEJEFEOFECACACACACACACACACAAA\0");
    add("session-request", request);
    add("class01-header", vec![5, 0x81, 1, 0xFF, 0xFF]);
}

fn transforms(seeds: &mut Vec<Seed>) {
    for cipher in 0..4 {
        let mut seed = vec![cipher, cipher % 3];
        seed.extend(b"\xFDSMB");
        seed.extend([7; 32]);
        seed.extend(16u32.to_le_bytes());
        seed.extend([0, 0, 1, 0]);
        seed.extend([1; 8]);
        seed.extend([9; 16]);
        seeds.push(("smb_transform", format!("cipher-{cipher}"), seed.clone()));
        seed[38..42].fill(0xFF);
        seeds.push(("smb_transform", format!("class01-size-{cipher}"), seed));
    }
}

fn disks(seeds: &mut Vec<Seed>) {
    use crate::storage_volume::{KINDS, option};
    for kind in 0..KINDS {
        let mut add = |name: &str, options: u8, patches: &[(u8, u16, &[u8])]| {
            let mut seed = vec![kind, options];
            for (region, offset, bytes) in patches {
                seed.push(*region);
                seed.extend(offset.to_le_bytes());
                seed.extend(piece(bytes));
            }
            seeds.push(("storage_volume", format!("{name}-{kind}"), seed));
        };
        add("sound", 0, &[]);
        add("read-only", option::READ_ONLY, &[]);
        add("no-repair", option::NO_REPAIR, &[(0, 112, &[50])]);
        add("boot-zeros", 0, &[(0, 11, &[0; 64])]);
        add("boot-ones", 0, &[(0, 64, &[0xFF; 40])]);
        add("boot-shifts", 0, &[(0, 108, &[0xFF, 0xFF])]);
        // A root that a repair finds room in, between what it wipes.
        add("root-strays", 0, &[(3, 0, &[0; 511]), (3, 32, &[0xC1]), (3, 96, &[0xC1])]);
        add("fat-loop", 0, &[(2, 8, &[2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0])]);
        add("fat-ones", 0, &[(2, 8, &[0xFF; 200])]);
        add("fat-zeros", 0, &[(2, 0, &[0; 512])]);
        add("root-zeros", 0, &[(3, 0, &[0; 96])]);
        add("root-ones", 0, &[(3, 96, &[0xFF; 512])]);
        add("root-count", 0, &[(3, 97, &[0xFF]), (3, 193, &[0])]);
        add("root-sizes", 0, &[(3, 136, &[0xFF; 24]), (3, 232, &[0xFF; 24])]);
        add("root-cluster", 0, &[(3, 148, &[1, 0, 0, 0]), (3, 90, &[0; 6]), (3, 122, &[0xFF; 6])]);
        add("table", 0, &[(4, 512, &[0xFF; 100]), (4, 446, &[0xFF; 64])]);
        add("folders", 0, &[(11, 0, &[0x85; 256]), (12, 32, &[0xC1; 128]), (13, 64, &[0xE5; 64])]);
        if kind >= 3 {
            add("journal-header", 0, &[(6, 8, &[0xFF; 28])]);
            add("journal-count", 0, &[(6, 16384 + 20, &[0xFF; 4])]);
            add("journal-sectors", 0, &[(6, 16384 + 32, &[0xFF; 64])]);
            add("journal-images", 0, &[(6, 16384 + 1024, &[0xFF; 512])]);
        }
    }
}

/// What the conversations of `smb_server` say, message by message, for the targets that begin further on.
fn messages(seeds: &mut Vec<Seed>) {
    for (name, conversation) in crate::seeds_server::all() {
        let bodies = crate::seeds_server::bodies(&conversation);
        let mut setups = Vec::new();
        let mut commands = Vec::new();
        for (index, (command, body)) in bodies.iter().enumerate() {
            match command {
                0 => seeds.push(("smb_negotiate", format!("{name}-{index}"), [&[2], &body[..]].concat())),
                1 => setups.extend([&[0], &piece(body)[..]].concat()),
                _ => commands.extend([&[*command as u8, 0], &piece(body)[..]].concat()),
            }
            if *command == 5 && body.len() > 56 {
                // The contexts lie where the body says, counted from the header.
                let number = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap()) as usize;
                let (start, length) = (number(48).saturating_sub(64), number(52));
                if let Some(contexts) =
                    body.get(start..start.saturating_add(length)).filter(|list| !list.is_empty())
                {
                    let seed = [&[body[3], body[36], body[40], body[41]], contexts].concat();
                    seeds.push(("smb_create_contexts", format!("{name}-{index}"), seed));
                }
            }
        }
        seeds.push(("smb_session_setup", name.clone(), setups));
        seeds.push(("smb_commands", name, commands));
    }
    // SMB1: 27 bytes of header after the command, then words, bytes, and where the next command of a chain is.
    for (name, rest) in [
        ("class13-word-count", [&[0; 27][..], &[255, 4, 0, 2]].concat()),
        ("class13-byte-count", [&[0; 27][..], &[0, 0xFF, 0xFF, 2]].concat()),
        ("class13-no-terminator", [&[0; 27][..], &[0, 12, 0], b"\x02SMB 2.002 no"].concat()),
        ("class13-chain", [&[0; 27][..], &[2, 0x72, 0, 32, 0, 4, 0, 2, 0, 0, 0]].concat()),
        ("class13-many", [&[0; 27][..], &[0, 0, 4], &b"\x02A\0".repeat(340)].concat()),
    ] {
        seeds.push(("smb_negotiate", name.to_string(), [&[1], &rest[..]].concat()));
    }
    for (name, data) in [
        ("apple", [&[1u8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8]].concat()),
        ("class02-apple-short", vec![1; 5]),
    ] {
        let mut list = vec![0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 24, 0, data.len() as u8, 0, 0, 0];
        list.extend(b"AAPL\0\0\0\0");
        list.extend(data);
        seeds.push(("smb_create_contexts", name.to_string(), [&[0, 3, 0, 0], &list[..]].concat()));
    }
}

fn pipes(seeds: &mut Vec<Seed>) {
    let mut add = |name: &str, first: u8, pieces: &[Vec<u8>]| {
        let mut seed = vec![first];
        pieces.iter().for_each(|bytes| seed.extend(piece(bytes)));
        seeds.push(("smb_rpc", name.to_string(), seed));
    };
    // How, type, flags; allocation hint, context, operation; the stub.
    let request = |operation: u8, flags: u8, stub: &[u8]| {
        [&[0, 0, flags, 0, 0, 0, 0, 0, 0, operation, 0][..], stub].concat()
    };
    let words =
        |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|number| number.to_le_bytes()).collect() };
    let handle = |number: u8| [&[0; 19][..], &[number]].concat();
    let name = [words(&[0x0006_0006, 1, 3, 0, 3]), utf16("ann")].concat();
    let sid = [words(&[1]), vec![1, 1, 0, 0, 0, 0, 0, 1], words(&[0])].concat();
    let shares = words(&[0, 1, 1, 0x20000, 0, 0, u32::MAX, 0]);
    add("shares", 4, &[request(15, 3, &shares), request(28, 3, &[0; 4]), request(21, 3, &words(&[0, 101]))]);
    add("fragments", 4, &[request(15, 1, &shares[..16]), request(15, 2, &shares[16..])]);
    add("workstation", 5, &[request(0, 3, &words(&[0, 100]))]);
    add("bind", 0, &[[&[1], &crate::smb_rpc::bind(0)[..]].concat()]);
    let mut policy = vec![request(44, 3, &[])];
    policy.push(request(7, 3, &[&handle(1)[..], &[5, 0]].concat()));
    policy.push(request(14, 3, &[&handle(1)[..], &words(&[1, 1]), &name, &words(&[0, 0, 1, 0])].concat()));
    policy.push(request(
        57,
        3,
        &[&handle(1)[..], &words(&[1, 1, 1, 1]), &sid, &words(&[0, 0, 1, 0, 0, 2])].concat(),
    ));
    policy.push(request(45, 3, &words(&[0, 0, 1, 0])));
    policy.push(request(0, 3, &handle(1)));
    add("policy", 6, &policy);
    let mut accounts =
        vec![request(57, 3, &[]), request(6, 3, &[&handle(1)[..], &words(&[0, 100])].concat())];
    let domain = [words(&[4]), vec![1, 4, 0, 0, 0, 0, 0, 5], words(&[21, 11, 22, 33])].concat();
    accounts.push(request(7, 3, &[&handle(1)[..], &words(&[0]), &domain].concat()));
    accounts.push(request(13, 3, &[&handle(2)[..], &words(&[0, 0, 100])].concat()));
    accounts.push(request(17, 3, &[&handle(2)[..], &words(&[1, 1000, 0, 1]), &name].concat()));
    accounts.push(request(18, 3, &[&handle(2)[..], &words(&[1, 1000, 0, 1, 1001])].concat()));
    accounts.push(request(34, 3, &[&handle(2)[..], &words(&[0, 1001])].concat()));
    accounts.push(request(36, 3, &[&handle(3)[..], &[21, 0]].concat()));
    accounts.push(request(39, 3, &handle(3)));
    add("accounts", 7, &accounts);
    add(
        "class05-counts",
        6,
        &[
            request(44, 3, &[]),
            request(15, 3, &[&handle(1)[..], &words(&[0x4000_0000, 1, 0x4000_0000])].concat()),
            request(14, 3, &[&handle(1)[..], &words(&[u32::MAX, u32::MAX])].concat()),
        ],
    );
    add("class05-string", 4, &[request(16, 3, &words(&[0, 0xFFFF_FFFF, 0, 0x8000_0001]))]);
    add("class01-length", 4, &[vec![1, 5, 0, 0, 3, 0x10, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0]]);
    add(
        "class08-handles",
        6,
        &[
            request(0, 3, &handle(0)),
            request(44, 3, &[]),
            request(0, 3, &handle(1)),
            request(0, 3, &handle(1)),
        ],
    );
}

fn records(seeds: &mut Vec<Seed>) {
    let mut add = |name: &str, options: u8, patches: &[(u8, u32, &[u8])]| {
        let mut seed = vec![options];
        for (area, offset, bytes) in patches {
            seed.extend([*area, (offset >> 8) as u8, (offset >> 16) as u8, *offset as u8]);
            seed.extend(piece(bytes));
        }
        seeds.push(("flash_records", name.to_string(), seed));
    };
    add("sound", 255, &[]);
    for steps in [0, 1, 5, 20, 60] {
        add(&format!("cut-{steps}"), steps, &[]);
    }
    add("log-head", 9, &[(3, 0, &[0; 16])]);
    add("log-generation", 9, &[(3, 0x20000, &[0xFF; 16]), (3, 8, &[0; 4])]);
    for offset in [16, 32, 64, 100, 300, 1000] {
        add(&format!("log-record-{offset}"), 9, &[(3, offset, &[0xFF, 0, 0xFF, 0x7F])]);
        add(&format!("log-zeros-{offset}"), 9, &[(3, offset, &[0; 40])]);
    }
    add("crash", 9, &[(4, 0, b"CRASH\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")]);
    add("seed", 9, &[(5, 0, &[0; 64])]);
    add("image", 9, &[(0, 0, &[0; 128]), (1, 0, &[0x7F; 128])]);
}

fn keys(seeds: &mut Vec<Seed>) {
    for (name, keys) in [
        ("lines", &b"status -v\rhelp\x1b[A\x1b[A\x1b[B\r"[..]),
        ("edit", b"abc\x01x\x05\x08\x7f\x1b[D\x1b[C\x1b[3~\x0b\x15\x17\x03"),
        ("complete", b"st\tus\t \t\r\x04"),
        ("wide", "gr\u{fc}\u{df}e \u{1F600}\x08\r".as_bytes()),
        ("bad-utf8", b"\xc3\xff\xe2\x82\r\xf0\x9f\r"),
        ("escapes", b"\x1b\x1b[\x1b[999999999999~\x1bO\x1b[1;5C\r"),
        ("long", &[b'x'; 3000]),
    ] {
        for secret in [0, 1] {
            seeds.push(("console_line", format!("{name}-{secret}"), [&[secret], keys].concat()));
        }
    }
}
