//! DCE/RPC on named pipes: PDUs in any pieces to one of the services.
//!
//! Input: a byte that chooses the service and whether the target binds first, then pieces, which are PDUs whose header the
//! target makes right when their first byte is even (type, flags, stub follow), or bytes as they are.

use smb::environment::UserId;
use smb::rpc::{AccountEntry, Machine, Pipe, ShareEntry};

use crate::input::Input;

const PIPES: [&str; 4] = ["srvsvc", "wkssvc", "lsarpc", "samr"];

/// Interfaces of the pipes as they lie on the wire, and their versions.
const INTERFACES: [([u8; 16], u16); 4] = [
    ([0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1, 0x88], 3),
    ([0x98, 0xD0, 0xFF, 0x6B, 0x12, 0xA1, 0x10, 0x36, 0x98, 0x33, 0x46, 0xC3, 0xF8, 0x7E, 0x34, 0x5A], 1),
    ([0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xCD, 0xAB, 0xEF, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB], 0),
    ([0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xCD, 0xAB, 0xEF, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAC], 1),
];
const NDR: [u8; 20] = [
    0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60, 2, 0, 0,
    0,
];

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn machine() -> Machine {
    let share = |name: &str| ShareEntry {
        name: units(name),
        remark: units("remark"),
        pipes: name == "IPC$",
        hidden: false,
    };
    let account =
        |number, name: &str| AccountEntry { user: UserId(number), name: units(name), disabled: false };
    Machine {
        name: units("ATTIC"),
        workgroup: units("HOME"),
        identifier: [11, 22, 33],
        shares: vec![share("data"), share("IPC$")],
        accounts: vec![account(1, "ann"), account(7, "bob")],
        time: (1_700_000_000, 50),
    }
}

/// A PDU with a right header.
fn pdu(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = (16 + body.len()) as u16;
    let mut out = vec![5, 0, kind, flags, 0x10, 0, 0, 0];
    out.extend(length.to_le_bytes());
    out.extend([0, 0, 1, 0, 0, 0]);
    out.extend(body);
    out
}

/// A bind to the service of this number.
pub fn bind(service: usize) -> Vec<u8> {
    let (uuid, version) = INTERFACES[service % 4];
    let mut body = vec![0xB8, 0x10, 0xB8, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0];
    body.extend(uuid);
    body.extend(version.to_le_bytes());
    body.extend([0, 0]);
    body.extend(NDR);
    pdu(11, 3, &body)
}

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let first = input.byte();
    let service = usize::from(first % 4);
    let machine = machine();
    let mut pipe = Pipe::open(&units(PIPES[service]), Some(UserId(7))).unwrap();
    if first & 4 != 0 {
        pipe.write(&bind(service), &machine).unwrap();
        assert_eq!(pipe.read(4280)[2], 12);
    }
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let piece = input.piece();
        let written = match piece {
            [how, kind, flags, body @ ..] if how % 2 == 0 && body.len() < 0xFF00 => pdu(*kind, *flags, body),
            _ => piece.to_vec(),
        };
        if pipe.write(&written, &machine).is_err() {
            break;
        }
        while pipe.available() > 0 {
            let length = pipe.available();
            let message = pipe.read(length);
            assert!(message.len() == length && (24..=4280 + 3000).contains(&length));
            assert_eq!(usize::from(u16::from_le_bytes([message[8], message[9]])), length);
        }
    }
}
