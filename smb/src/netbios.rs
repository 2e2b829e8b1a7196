//! How messages are framed on a TCP stream: directly on port 445 (MS-SMB2 2.1), by the NetBIOS session service on port 139
//! (RFC 1002 4.3). Without I/O: headers and names, whole or not at all.

use alloc::vec::Vec;

use crate::reader::{Malformed, Reader};

/// Bytes of the header before every packet.
pub const HEADER_SIZE: usize = 4;

/// The longest message a header can announce on port 445; on port 139 it is [`MAXIMUM_SESSION_LENGTH`].
pub const MAXIMUM_DIRECT_LENGTH: u32 = 0x00FF_FFFF;

/// The longest message of the session service: 17 bits.
pub const MAXIMUM_SESSION_LENGTH: u32 = 0x0001_FFFF;

/// The answer to a session request that is granted.
pub const POSITIVE_RESPONSE: [u8; 4] = [0x82, 0, 0, 0];

/// What a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A message of so many bytes; none is nothing at all.
    Message(u32),
    /// A session request: so many bytes for [`SessionRequest::parse`] follow.
    SessionRequest(u32),
    /// A sign of life, without an answer.
    KeepAlive,
}

/// Reads a header on port 445: only messages come, and the first byte is 0.
pub fn parse_direct(header: [u8; HEADER_SIZE]) -> Result<Packet, Malformed> {
    match header {
        [0, high, middle, low] => Ok(Packet::Message(u32::from_be_bytes([0, high, middle, low]))),
        _ => Err(Malformed),
    }
}

/// Reads a header on port 139. Responses are for servers to send; getting one is malformed.
pub fn parse_session(header: [u8; HEADER_SIZE]) -> Result<Packet, Malformed> {
    /// Two names with their scopes cannot be longer.
    const LONGEST_REQUEST: u32 = 2 * 255;
    let [kind, flags, high, low] = header;
    // The lowest bit of the flags extends the length, the others are 0 (RFC 1002 4.3.1).
    if flags > 1 {
        return Err(Malformed);
    }
    let length = u32::from_be_bytes([0, flags, high, low]);
    match (kind, length) {
        (0x00, _) => Ok(Packet::Message(length)),
        (0x81, 1..=LONGEST_REQUEST) => Ok(Packet::SessionRequest(length)),
        (0x85, 0) => Ok(Packet::KeepAlive),
        _ => Err(Malformed),
    }
}

/// The header before a message of `length` bytes; None when it is too long for the port.
pub fn message_header(length: u32, session: bool) -> Option<[u8; HEADER_SIZE]> {
    let maximum = if session { MAXIMUM_SESSION_LENGTH } else { MAXIMUM_DIRECT_LENGTH };
    (length <= maximum).then(|| length.to_be_bytes())
}

/// Why a session is refused (RFC 1002 4.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// Nobody of the called name listens.
    NotListeningOnCalledName = 0x80,
    /// Nobody listens to the calling name.
    NotListeningForCallingName = 0x81,
    /// The called name is not here.
    CalledNameNotPresent = 0x82,
    /// No room now.
    InsufficientResources = 0x83,
    /// Anything else.
    Unspecified = 0x8F,
}

impl Refusal {
    /// The answer that says so; the connection ends after it.
    pub const fn response(self) -> [u8; 5] {
        [0x83, 0, 0, 1, self as u8]
    }
}

/// A NetBIOS name: 15 characters, padded with spaces, and a suffix that says what kind of service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetBiosName(pub [u8; 16]);

impl NetBiosName {
    /// The name that means the server, whatever its name is.
    pub const ANY_SERVER: NetBiosName = NetBiosName(*b"*SMBSERVER      ");

    /// From text in the local character set: upper-cased, cut and padded, with a suffix (0x20 for a file server).
    pub fn new(name: &str, suffix: u8) -> NetBiosName {
        let mut bytes = [b' '; 16];
        for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
            *to = from.to_ascii_uppercase();
        }
        bytes[15] = suffix;
        NetBiosName(bytes)
    }

    /// The characters without padding and suffix.
    pub fn characters(&self) -> &[u8] {
        let name = self.0.split_last().map_or(&[][..], |(_, name)| name);
        name.trim_ascii_end()
    }

    /// What kind of service it names.
    pub const fn suffix(&self) -> u8 {
        self.0[15]
    }

    /// Appends the name in first-level encoding: a length, each half byte as a letter, and the end of an empty scope.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.push(32);
        out.extend(self.0.iter().flat_map(|byte| [b'A' + (byte >> 4), b'A' + (byte & 0x0F)]));
        out.push(0);
    }

    /// Reads a name in first-level encoding and passes over its scope.
    pub fn parse(reader: &mut Reader<'_>) -> Result<NetBiosName, Malformed> {
        if reader.u8()? != 32 {
            return Err(Malformed);
        }
        let letters: [u8; 32] = reader.array()?;
        let mut name = [0; 16];
        for (byte, pair) in name.iter_mut().zip(letters.as_chunks::<2>().0) {
            let [high, low] = pair.map(|letter| letter.wrapping_sub(b'A'));
            if high > 15 || low > 15 {
                return Err(Malformed);
            }
            *byte = high << 4 | low;
        }
        // Labels of the scope; pointers make no sense outside of a datagram. Each step takes a byte at least.
        loop {
            match reader.u8()? {
                0 => return Ok(NetBiosName(name)),
                length @ 1..=63 => reader.skip(length)?,
                _ => return Err(Malformed),
            }
        }
    }
}

/// The names in a session request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// Whom the client wants.
    pub called: NetBiosName,
    /// Who the client is.
    pub calling: NetBiosName,
}

impl SessionRequest {
    /// Reads what follows the header.
    pub fn parse(bytes: &[u8]) -> Result<SessionRequest, Malformed> {
        let mut reader = Reader::new(bytes);
        let called = NetBiosName::parse(&mut reader)?;
        let calling = NetBiosName::parse(&mut reader)?;
        Ok(SessionRequest { called, calling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        assert_eq!(parse_direct([0, 1, 0, 0]), Ok(Packet::Message(65_536)));
        assert_eq!(parse_direct([0x85, 0, 0, 0]), Err(Malformed));
        assert_eq!(parse_direct(*b"GET "), Err(Malformed));
        assert_eq!(parse_session([0, 1, 0xFF, 0xFF]), Ok(Packet::Message(0x1_FFFF)));
        assert_eq!(parse_session([0, 2, 0, 0]), Err(Malformed));
        assert_eq!(parse_session([0x81, 0, 0, 68]), Ok(Packet::SessionRequest(68)));
        assert_eq!(parse_session([0x81, 0, 2, 0]), Err(Malformed));
        assert_eq!(parse_session([0x81, 1, 0, 0]), Err(Malformed));
        assert_eq!(parse_session([0x85, 0, 0, 0]), Ok(Packet::KeepAlive));
        assert_eq!(parse_session([0x82, 0, 0, 0]), Err(Malformed));
        assert_eq!(message_header(0x2_0000, true), None);
        assert_eq!(message_header(0x1_FFFF, true), Some([0, 1, 0xFF, 0xFF]));
        assert_eq!(message_header(0x0100_0000, false), None);
    }

    /// As smbclient sends it: to *SMBSERVER, from a machine "CLIENT".
    #[test]
    fn a_session_request() {
        let mut bytes = b" CKFDENECFDEFFCFGEFFCCACACACACACA\0".to_vec();
        assert_eq!(bytes.len(), 34);
        NetBiosName::new("client", 0).emit(&mut bytes);
        let request = SessionRequest::parse(&bytes).unwrap();
        assert_eq!(request.called, NetBiosName::ANY_SERVER);
        assert_eq!(request.calling.characters(), b"CLIENT");
        assert_eq!(request.calling.suffix(), 0);
        for length in 0..bytes.len() {
            assert_eq!(SessionRequest::parse(&bytes[..length]), Err(Malformed));
        }
    }

    #[test]
    fn scopes_are_passed_over_and_nothing_else() {
        let mut bytes = Vec::new();
        NetBiosName::new("NAS", 0x20).emit(&mut bytes);
        bytes.pop();
        bytes.extend(b"\x05scope\x03net\x00");
        assert_eq!(NetBiosName::parse(&mut Reader::new(&bytes)).unwrap().characters(), b"NAS");
        bytes[33] = 0xC0;
        assert_eq!(NetBiosName::parse(&mut Reader::new(&bytes)), Err(Malformed));
        bytes[33] = 0;
        bytes[1] = b'Q';
        assert_eq!(NetBiosName::parse(&mut Reader::new(&bytes)), Err(Malformed));
    }

    #[test]
    fn a_refusal_is_five_bytes() {
        assert_eq!(Refusal::CalledNameNotPresent.response(), [0x83, 0, 0, 1, 0x82]);
    }
}
