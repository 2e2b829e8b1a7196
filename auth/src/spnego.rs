//! SPNEGO tokens (RFC 4178, MS-SPNG).

use alloc::vec::Vec;

use crate::bytes::Malformed;
use crate::der::{Elements, element, tag, wrap};

/// 1.3.6.1.5.5.2: SPNEGO itself.
const SPNEGO: [u8; 6] = [0x2B, 0x06, 0x01, 0x05, 0x05, 0x02];

/// 1.3.6.1.4.1.311.2.2.10: NTLMSSP.
pub(crate) const NTLMSSP: [u8; 10] = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A];

/// More mechanisms than any client offers.
const MAXIMUM_MECHANISMS: usize = 32;

/// What the acceptor says of the negotiation (RFC 4178 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum NegotiationState {
    AcceptCompleted = 0,
    AcceptIncomplete = 1,
    RequestMic = 3,
}

/// The client's first token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Initial<'a> {
    /// The mechanisms as they were encoded, for their MIC.
    pub(crate) mechanisms: &'a [u8],
    /// Where NTLMSSP stands among them.
    pub(crate) ntlm: Option<usize>,
    /// A token for the first mechanism, sent in the hope that the server takes it.
    pub(crate) token: Option<&'a [u8]>,
}

/// A client's later token.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Response<'a> {
    /// For the chosen mechanism.
    pub(crate) token: Option<&'a [u8]>,
    /// Over the list of mechanisms.
    pub(crate) mic: Option<&'a [u8]>,
}

/// Either.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token<'a> {
    Initial(Initial<'a>),
    Response(Response<'a>),
}

impl<'a> Token<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Token<'a>, Malformed> {
        let outer = Elements::new(bytes).next()?;
        match outer.tag {
            tag::INITIAL_TOKEN => {
                let mut elements = Elements::new(outer.contents);
                if elements.expect(tag::OBJECT_IDENTIFIER)? != SPNEGO {
                    return Err(Malformed);
                }
                initial(elements.expect(tag::context(0))?).map(Token::Initial)
            }
            // Some clients leave the GSS-API frame out.
            0xA0 => initial(outer.contents).map(Token::Initial),
            0xA1 => response(outer.contents).map(Token::Response),
            _ => Err(Malformed),
        }
    }
}

fn initial(bytes: &[u8]) -> Result<Initial<'_>, Malformed> {
    let mut fields = Elements::new(Elements::new(bytes).expect(tag::SEQUENCE)?);
    let list = Elements::new(fields.expect(tag::context(0))?).next()?;
    if list.tag != tag::SEQUENCE {
        return Err(Malformed);
    }
    let mut ntlm = None;
    let mut mechanisms = Elements::new(list.contents);
    let mut position = 0;
    while !mechanisms.is_empty() {
        if position == MAXIMUM_MECHANISMS {
            return Err(Malformed);
        }
        if mechanisms.expect(tag::OBJECT_IDENTIFIER)? == NTLMSSP {
            ntlm.get_or_insert(position);
        }
        position += 1;
    }
    let mut token = None;
    while !fields.is_empty() {
        let field = fields.next()?;
        // [1] are flags that nobody sets, [3] hints or a MIC that cannot be checked yet.
        if field.tag == tag::context(2) {
            token = Some(Elements::new(field.contents).expect(tag::OCTET_STRING)?);
        }
    }
    Ok(Initial { mechanisms: list.whole, ntlm, token })
}

fn response(bytes: &[u8]) -> Result<Response<'_>, Malformed> {
    let mut fields = Elements::new(Elements::new(bytes).expect(tag::SEQUENCE)?);
    let mut response = Response::default();
    while !fields.is_empty() {
        let field = fields.next()?;
        // [0] is the state, [1] the mechanism: the acceptor has chosen already.
        if field.tag == tag::context(2) {
            response.token = Some(Elements::new(field.contents).expect(tag::OCTET_STRING)?);
        } else if field.tag == tag::context(3) {
            response.mic = Some(Elements::new(field.contents).expect(tag::OCTET_STRING)?);
        }
    }
    Ok(response)
}

/// Appends the NegTokenInit2 that a server sends first: NTLMSSP is what there is, and Windows' customary hint.
pub(crate) fn emit_offer(out: &mut Vec<u8>) {
    let list = wrap(tag::SEQUENCE, &wrap(tag::OBJECT_IDENTIFIER, &NTLMSSP));
    let hint = wrap(tag::GENERAL_STRING, b"not_defined_in_RFC4178@please_ignore");
    let mut fields = wrap(tag::context(0), &list);
    element(&mut fields, tag::context(3), &wrap(tag::SEQUENCE, &wrap(tag::context(0), &hint)));
    let mut contents = wrap(tag::OBJECT_IDENTIFIER, &SPNEGO);
    element(&mut contents, tag::context(0), &wrap(tag::SEQUENCE, &fields));
    element(out, tag::INITIAL_TOKEN, &contents);
}

/// Appends a NegTokenResp.
pub(crate) fn emit_response(
    out: &mut Vec<u8>,
    state: NegotiationState,
    name_mechanism: bool,
    token: Option<&[u8]>,
    mic: Option<&[u8]>,
) {
    let mut fields = wrap(tag::context(0), &wrap(tag::ENUMERATED, &[state as u8]));
    if name_mechanism {
        element(&mut fields, tag::context(1), &wrap(tag::OBJECT_IDENTIFIER, &NTLMSSP));
    }
    if let Some(token) = token {
        element(&mut fields, tag::context(2), &wrap(tag::OCTET_STRING, token));
    }
    if let Some(mic) = mic {
        element(&mut fields, tag::context(3), &wrap(tag::OCTET_STRING, mic));
    }
    element(out, tag::context(1), &wrap(tag::SEQUENCE, &fields));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Windows client's first token: NTLMSSP only, with its NEGOTIATE_MESSAGE ("SMB 3.1.1 pre-authentication integrity
    /// in Windows 10").
    const WINDOWS: [u8; 74] = [
        0x60, 0x48, 0x06, 0x06, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x02, 0xA0, 0x3E, 0x30, 0x3C, 0xA0, 0x0E, 0x30,
        0x0C, 0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A, 0xA2, 0x2A, 0x04, 0x28,
        0x4E, 0x54, 0x4C, 0x4D, 0x53, 0x53, 0x50, 0x00, 0x01, 0x00, 0x00, 0x00, 0x97, 0x82, 0x08, 0xE2, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x03,
        0x80, 0x25, 0x00, 0x00, 0x00, 0x0F,
    ];

    #[test]
    fn a_windows_token() {
        let Token::Initial(initial) = Token::parse(&WINDOWS).unwrap() else { panic!("not initial") };
        assert_eq!(initial.ntlm, Some(0));
        assert_eq!(initial.mechanisms, &WINDOWS[16..30]);
        assert_eq!(initial.token.unwrap().len(), 40);
        assert!(initial.token.unwrap().starts_with(b"NTLMSSP\0"));
    }

    #[test]
    fn every_cut_of_it_is_malformed() {
        for length in 0..WINDOWS.len() {
            assert!(Token::parse(&WINDOWS[..length]).is_err());
        }
    }

    #[test]
    fn responses_convert_both_ways() {
        let mut out = Vec::new();
        emit_response(&mut out, NegotiationState::AcceptIncomplete, true, Some(b"token"), Some(b"mic"));
        let Token::Response(response) = Token::parse(&out).unwrap() else { panic!("not a response") };
        assert_eq!((response.token, response.mic), (Some(&b"token"[..]), Some(&b"mic"[..])));
    }

    #[test]
    fn the_offer_is_a_token_of_its_own_kind() {
        let mut out = Vec::new();
        emit_offer(&mut out);
        let Token::Initial(initial) = Token::parse(&out).unwrap() else { panic!("not initial") };
        assert_eq!((initial.ntlm, initial.token), (Some(0), None));
        // As Samba and Windows send it, but for the mechanisms they have beside.
        assert_eq!(out[..2], [0x60, 0x48]);
        assert!(out.ends_with(b"not_defined_in_RFC4178@please_ignore"));
    }

    #[test]
    fn too_many_mechanisms() {
        let list = [0x06, 0x01, 0x2B].repeat(40);
        let fields = wrap(tag::context(0), &wrap(tag::SEQUENCE, &list));
        let token = wrap(tag::context(0), &wrap(tag::SEQUENCE, &fields));
        assert!(Token::parse(&token).is_err());
    }
}
