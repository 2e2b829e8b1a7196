//! A client of one message: an SMB2 NEGOTIATE, to see whether a server is there.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// An SMB2 NEGOTIATE request (MS-SMB2 2.2.3) that offers 2.0.2, 2.1, 3.0 and 3.0.2, behind its length (direct TCP
/// transport, MS-SMB2 2.1).
fn request() -> Vec<u8> {
    let dialects: [u16; 4] = [0x0202, 0x0210, 0x0300, 0x0302];
    let mut message = Vec::new();
    message.extend(b"\xFESMB");
    message.extend(64u16.to_le_bytes());
    // Credit charge, status, command (0), credits asked for, flags, next command.
    message.extend([0; 8]);
    message.extend(1u16.to_le_bytes());
    message.extend([0; 8]);
    // Message id, process id, tree id, session id, signature.
    message.extend([0; 40]);
    // Body: size, dialects, security mode "signing enabled", reserved, capabilities "encryption", client GUID, start time.
    message.extend(36u16.to_le_bytes());
    message.extend((dialects.len() as u16).to_le_bytes());
    message.extend(1u16.to_le_bytes());
    message.extend([0; 2]);
    message.extend(0x40u32.to_le_bytes());
    message.extend(*b"xtask negotiates");
    message.extend([0; 8]);
    message.extend(dialects.iter().flat_map(|dialect| dialect.to_le_bytes()));
    let mut framed = (message.len() as u32).to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

/// Sends a NEGOTIATE to `port` of 127.0.0.1 and waits up to `limit` for a whole answer; the dialect that it chose.
pub fn negotiate(port: u16, limit: Duration) -> Result<u16, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(text)?;
    stream.set_read_timeout(Some(limit)).map_err(text)?;
    stream.write_all(&request()).map_err(text)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(text)?;
    let length = u32::from_be_bytes(length);
    if !(64 + 65..0x2_0000).contains(&length) {
        return Err(format!("{address}: a NEGOTIATE answer of {length} bytes"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).map_err(text)?;
    match (answer.get(..4), answer.get(8..12), answer.get(12..14), answer.get(68..70)) {
        (Some(b"\xFESMB"), Some([0, 0, 0, 0]), Some([0, 0]), Some([low, high])) => {
            Ok(u16::from_le_bytes([*low, *high]))
        }
        _ => Err(format!("{address}: not an answer to NEGOTIATE")),
    }
}
