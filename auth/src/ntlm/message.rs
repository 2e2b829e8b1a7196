//! NTLM's three messages and the pairs of attributes in them (MS-NLMP 2.2).

use alloc::vec::Vec;

use crate::bytes::{Malformed, Reader};

/// What every message begins with.
const SIGNATURE: [u8; 8] = *b"NTLMSSP\0";

/// Whether a token is NTLMSSP's own, without SPNEGO around it.
pub(crate) fn is_ntlm(token: &[u8]) -> bool {
    token.starts_with(&SIGNATURE)
}

/// NEGOTIATE flags (MS-NLMP 2.2.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u32);

impl Flags {
    pub(crate) const UNICODE: Flags = Flags(0x0000_0001);
    pub(crate) const OEM: Flags = Flags(0x0000_0002);
    pub(crate) const REQUEST_TARGET: Flags = Flags(0x0000_0004);
    pub(crate) const SIGN: Flags = Flags(0x0000_0010);
    pub(crate) const SEAL: Flags = Flags(0x0000_0020);
    pub(crate) const NTLM: Flags = Flags(0x0000_0200);
    pub(crate) const ALWAYS_SIGN: Flags = Flags(0x0000_8000);
    pub(crate) const TARGET_TYPE_SERVER: Flags = Flags(0x0002_0000);
    pub(crate) const EXTENDED_SESSION_SECURITY: Flags = Flags(0x0008_0000);
    pub(crate) const TARGET_INFO: Flags = Flags(0x0080_0000);
    pub(crate) const VERSION: Flags = Flags(0x0200_0000);
    pub(crate) const NEGOTIATE_128: Flags = Flags(0x2000_0000);
    pub(crate) const NEGOTIATE_KEY_EXCH: Flags = Flags(0x4000_0000);
    pub(crate) const NEGOTIATE_56: Flags = Flags(0x8000_0000);

    pub(crate) const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// What the server answers to a client's flags: what was asked for of the optional, and what NTLMv2 always needs.
    pub(crate) fn answer(self) -> Flags {
        let optional = Flags::SIGN
            | Flags::SEAL
            | Flags::ALWAYS_SIGN
            | Flags::NEGOTIATE_128
            | Flags::NEGOTIATE_KEY_EXCH
            | Flags::NEGOTIATE_56
            | Flags::VERSION
            | Flags::REQUEST_TARGET;
        let characters = if self.contains(Flags::UNICODE) { Flags::UNICODE } else { Flags::OEM };
        Flags(self.0 & optional.0)
            | characters
            | Flags::NTLM
            | Flags::TARGET_TYPE_SERVER
            | Flags::EXTENDED_SESSION_SECURITY
            | Flags::TARGET_INFO
    }
}

impl core::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// The flags of a NEGOTIATE_MESSAGE. Where the client says it stands is of no interest.
pub(crate) fn parse_negotiate(bytes: &[u8]) -> Result<Flags, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != SIGNATURE || reader.u32()? != 1 {
        return Err(Malformed);
    }
    reader.u32().map(Flags)
}

/// Ids of attributes (MS-NLMP 2.2.2.1).
pub(crate) mod attribute {
    pub(crate) const END: u16 = 0;
    pub(crate) const COMPUTER_NAME: u16 = 1;
    pub(crate) const DOMAIN_NAME: u16 = 2;
    pub(crate) const DNS_COMPUTER_NAME: u16 = 3;
    pub(crate) const DNS_DOMAIN_NAME: u16 = 4;
    pub(crate) const FLAGS: u16 = 6;
    pub(crate) const TIMESTAMP: u16 = 7;
}

/// The bit of the attribute FLAGS that says there is a MIC in the AUTHENTICATE_MESSAGE.
pub(crate) const HAS_MIC: u32 = 2;

/// Appends a CHALLENGE_MESSAGE. `name` is the server's NetBIOS name, `dns_name` its DNS name, `time` a FILETIME.
pub(crate) fn emit_challenge(
    out: &mut Vec<u8>,
    flags: Flags,
    challenge: &[u8; 8],
    name: &str,
    dns_name: &str,
    time: u64,
) {
    const HEADER: u32 = 56;
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let target = if flags.contains(Flags::UNICODE) {
        utf16(name)
    } else {
        name.chars().map(|character| if character.is_ascii() { character as u8 } else { b'_' }).collect()
    };
    let mut information = Vec::new();
    let mut pair = |id: u16, value: &[u8]| {
        information.extend(id.to_le_bytes());
        information.extend(u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
        information.extend_from_slice(value);
    };
    // A machine in no domain is its own domain.
    pair(attribute::DOMAIN_NAME, &utf16(name));
    pair(attribute::COMPUTER_NAME, &utf16(name));
    pair(attribute::DNS_DOMAIN_NAME, &utf16(dns_name));
    pair(attribute::DNS_COMPUTER_NAME, &utf16(dns_name));
    pair(attribute::TIMESTAMP, &time.to_le_bytes());
    pair(attribute::END, &[]);

    let field = |out: &mut Vec<u8>, length: usize, offset: u32| {
        let length = u16::try_from(length).unwrap_or(0).to_le_bytes();
        out.extend(length);
        out.extend(length);
        out.extend(offset.to_le_bytes());
    };
    out.extend(SIGNATURE);
    out.extend(2u32.to_le_bytes());
    field(out, target.len(), HEADER);
    out.extend(flags.0.to_le_bytes());
    out.extend(challenge);
    out.extend([0; 8]);
    field(out, information.len(), HEADER + u32::try_from(target.len()).unwrap_or(0));
    // Version 6.1 of the protocol's fifteenth revision: some clients look at the revision.
    out.extend([6, 1, 0, 0, 0, 0, 0, 15]);
    out.extend(target);
    out.extend(information);
}

/// Where the MIC stands in an AUTHENTICATE_MESSAGE.
pub(crate) const MIC: core::ops::Range<usize> = 72..88;

/// An AUTHENTICATE_MESSAGE.
#[derive(Clone, Debug)]
pub(crate) struct Authenticate<'a> {
    pub(crate) lm_response: &'a [u8],
    pub(crate) nt_response: &'a [u8],
    pub(crate) domain: Vec<u16>,
    pub(crate) user: Vec<u16>,
    pub(crate) encrypted_session_key: &'a [u8],
    pub(crate) flags: Flags,
}

impl<'a> Authenticate<'a> {
    /// Longer names belong to nobody (and would cost memory).
    const MAXIMUM_NAME: usize = 512;

    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Authenticate<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != SIGNATURE || reader.u32()? != 3 {
            return Err(Malformed);
        }
        let mut field = || -> Result<&'a [u8], Malformed> {
            let length = reader.u16()?;
            reader.u16()?;
            let offset = reader.u32()?;
            if length == 0 {
                return Ok(&[]);
            }
            let mut payload = Reader::new(bytes);
            payload.bytes(offset)?;
            payload.bytes(length)
        };
        let [lm_response, nt_response, domain, user] = [field()?, field()?, field()?, field()?];
        // The workstation's name is checked to be in the message and otherwise of no interest.
        field()?;
        let encrypted_session_key = field()?;
        let flags = Flags(reader.u32()?);
        let text = |bytes: &[u8]| -> Result<Vec<u16>, Malformed> {
            if bytes.len() > Self::MAXIMUM_NAME {
                return Err(Malformed);
            }
            if !flags.contains(Flags::UNICODE) {
                return Ok(bytes.iter().map(|byte| u16::from(*byte)).collect());
            }
            let (units, rest) = bytes.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(Malformed);
            }
            Ok(units.iter().map(|unit| u16::from_le_bytes(*unit)).collect())
        };
        Ok(Authenticate {
            lm_response,
            nt_response,
            domain: text(domain)?,
            user: text(user)?,
            encrypted_session_key,
            flags,
        })
    }

    /// Nobody logs on: no name and no response (MS-NLMP 3.2.5.1.2).
    pub(crate) fn is_anonymous(&self) -> bool {
        self.user.is_empty() && self.nt_response.is_empty() && matches!(self.lm_response, [] | [0])
    }

    /// The response as NTLMv2: its proof, and what the proof is over. None for LM, NTLMv1 and anything shorter.
    pub(crate) fn ntlmv2(&self) -> Option<(&'a [u8; 16], &'a [u8])> {
        /// Version, reserved, time, challenge, reserved, and the end of the attributes (MS-NLMP 2.2.2.7).
        const SHORTEST: usize = 28;
        let (proof, rest) = self.nt_response.split_first_chunk::<16>()?;
        (rest.len() >= SHORTEST && rest.starts_with(&[1, 1])).then_some((proof, rest))
    }
}

/// The attribute FLAGS among those of an NTLMv2 response; 0 when absent. `None` when a pair is cut short.
pub(crate) fn response_flags(response: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(response);
    reader.bytes(28usize).ok()?;
    let mut flags = 0;
    while !reader.is_empty() {
        let (id, length) = (reader.u16().ok()?, reader.u16().ok()?);
        let value = reader.bytes(length).ok()?;
        match id {
            attribute::END => break,
            attribute::FLAGS => flags = Reader::new(value).u32().ok()?,
            _ => {}
        }
    }
    Some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticate(fields: [(u16, u32); 6], payload: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend(3u32.to_le_bytes());
        for (length, offset) in fields {
            out.extend(length.to_le_bytes());
            out.extend(length.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.extend(1u32.to_le_bytes());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn fields_out_of_the_message_are_malformed() {
        const NONE: (u16, u32) = (0, 0xFFFF_FFFF);
        assert!(Authenticate::parse(&authenticate([NONE; 6], b"")).is_ok());
        for index in 0..6 {
            for bad in [(1, 64), (2, 63), (0xFFFF, 0), (8, 0xFFFF_FFFF), (8, 0xFFFF_FFF8)] {
                let mut fields = [NONE; 6];
                fields[index] = bad;
                let message = authenticate(fields, b"");
                assert_eq!(message.len(), 64);
                assert!(Authenticate::parse(&message).is_err(), "{index} {bad:?}");
            }
        }
        let long = authenticate([NONE, NONE, NONE, (514, 64), NONE, NONE], &[0x61; 600]);
        assert!(Authenticate::parse(&long).is_err());
        let odd = authenticate([NONE, NONE, NONE, (3, 64), NONE, NONE], &[0x61; 600]);
        assert!(Authenticate::parse(&odd).is_err());
    }

    #[test]
    fn only_ntlmv2_counts() {
        const NONE: (u16, u32) = (0, 0);
        let mut payload = [0; 60];
        payload[16..18].copy_from_slice(&[1, 1]);
        let message = |length| authenticate([NONE, (length, 64), NONE, NONE, NONE, NONE], &payload);
        assert!(Authenticate::parse(&message(44)).unwrap().ntlmv2().is_some());
        for length in [0, 15, 24, 43] {
            assert!(Authenticate::parse(&message(length)).unwrap().ntlmv2().is_none());
        }
        let version_1 = authenticate([NONE, (44, 64), NONE, NONE, NONE, NONE], &[0; 60]);
        assert!(Authenticate::parse(&version_1).unwrap().ntlmv2().is_none());
    }

    #[test]
    fn flags_among_attributes() {
        let mut response = alloc::vec![0; 28];
        assert_eq!(response_flags(&response), Some(0));
        response.extend([2, 0, 2, 0, 65, 0]);
        response.extend([6, 0, 4, 0, 2, 0, 0, 0]);
        assert_eq!(response_flags(&response), Some(2));
        response.truncate(response.len() - 1);
        assert_eq!(response_flags(&response), None);
        assert_eq!(response_flags(&[0; 5]), None);
    }

    #[test]
    fn a_challenge_has_its_parts_where_it_says() {
        let mut out = Vec::new();
        let flags = Flags(0xE208_8297).answer();
        emit_challenge(&mut out, flags, &[7; 8], "NAS", "nas.local", 0x0102_0304_0506_0708);
        assert_eq!(out[..12], *b"NTLMSSP\0\x02\0\0\0");
        assert_eq!(out[12..20], [6, 0, 6, 0, 56, 0, 0, 0]);
        assert_eq!(out[24..32], [7; 8]);
        assert_eq!(out[56..62], *b"N\0A\0S\0");
        let length = usize::from(out[40]);
        assert_eq!(out.len(), 62 + length);
        assert_eq!(out[44], 62);
        assert_eq!(out[62..66], [2, 0, 6, 0]);
        assert!(out.ends_with(&[0; 4]));
    }
}
