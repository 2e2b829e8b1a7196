//! A client for the tests: the other side of SPNEGO and NTLMv2, and exchanges with it.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::Reader;
use crate::der::{Elements, element, tag, wrap};
use crate::ntlm::Rc4;
use crate::ntlm::keys::{Side, Signer, hmac_md5, proof, response_key};
use crate::ntlm::message::Flags;
use crate::spnego::NTLMSSP;
use crate::*;

/// Kerberos 5, as Windows numbers it first.
const KERBEROS: [u8; 9] = [0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// What the client is like.
#[derive(Clone)]
struct Client {
    user: String,
    domain: String,
    password: String,
    flags: u32,
    /// Sends a MIC in its AUTHENTICATE_MESSAGE, and says so.
    mic: bool,
    /// Kerberos first, with a token for it.
    kerberos: bool,
    /// No SPNEGO.
    bare: bool,
    /// Sends a MIC over its list of mechanisms.
    list_mic: bool,
    session_key: [u8; 16],
    /// Done to the AUTHENTICATE_MESSAGE before its MIC is computed.
    damage: fn(&mut Vec<u8>),
    /// Done to the last token.
    damage_token: fn(&mut Vec<u8>),
}

impl Client {
    fn new(user: &str, password: &str) -> Client {
        Client {
            user: user.to_string(),
            domain: "WORKGROUP".to_string(),
            password: password.to_string(),
            flags: 0xE208_8297,
            mic: true,
            kerberos: false,
            bare: false,
            list_mic: true,
            session_key: [0x77; 16],
            damage: |_| {},
            damage_token: |_| {},
        }
    }

    fn negotiate(&self) -> Vec<u8> {
        let mut out = b"NTLMSSP\0\x01\0\0\0".to_vec();
        out.extend(self.flags.to_le_bytes());
        out.extend([0; 16]);
        out.extend([6, 1, 0, 0, 0, 0, 0, 15]);
        out
    }

    fn mechanisms(&self) -> Vec<u8> {
        let mut list = Vec::new();
        if self.kerberos {
            element(&mut list, tag::OBJECT_IDENTIFIER, &KERBEROS);
        }
        element(&mut list, tag::OBJECT_IDENTIFIER, &NTLMSSP);
        wrap(tag::SEQUENCE, &list)
    }

    fn initial(&self) -> Vec<u8> {
        if self.bare {
            return self.negotiate();
        }
        let token = if self.kerberos { b"a ticket".to_vec() } else { self.negotiate() };
        let mut fields = wrap(tag::context(0), &self.mechanisms());
        element(&mut fields, tag::context(2), &wrap(tag::OCTET_STRING, &token));
        let mut contents = wrap(tag::OBJECT_IDENTIFIER, &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x02]);
        element(&mut contents, tag::context(0), &wrap(tag::SEQUENCE, &fields));
        wrap(tag::INITIAL_TOKEN, &contents)
    }

    fn response(&self, token: &[u8], mic: Option<&[u8]>) -> Vec<u8> {
        if self.bare {
            return token.to_vec();
        }
        let mut fields = wrap(tag::context(2), &wrap(tag::OCTET_STRING, token));
        if let Some(mic) = mic {
            element(&mut fields, tag::context(3), &wrap(tag::OCTET_STRING, mic));
        }
        wrap(tag::context(1), &wrap(tag::SEQUENCE, &fields))
    }

    /// The NTLM message, or the signature, in a server's token.
    fn unwrap(&self, token: &[u8], field: u8) -> Option<Vec<u8>> {
        if self.bare {
            return Some(token.to_vec());
        }
        let response = Elements::new(token).expect(tag::context(1)).unwrap();
        let mut fields = Elements::new(Elements::new(response).expect(tag::SEQUENCE).unwrap());
        while !fields.is_empty() {
            let found = fields.next().unwrap();
            if found.tag == tag::context(field) {
                return Some(Elements::new(found.contents).expect(tag::OCTET_STRING).unwrap().to_vec());
            }
        }
        None
    }

    /// The AUTHENTICATE_MESSAGE.
    fn authenticate(&self, challenge: &[u8]) -> Vec<u8> {
        let server_challenge: [u8; 8] = challenge[24..32].try_into().unwrap();
        let flags = u32::from_le_bytes(challenge[20..24].try_into().unwrap());
        let mut target = Reader::new(&challenge[40..48]);
        let length = usize::from(target.u16().unwrap());
        target.u16().unwrap();
        let offset = target.u32().unwrap() as usize;
        let information = &challenge[offset..offset + length];

        let utf16 = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        let bytes = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let key = response_key(&nt_hash(&self.password), &utf16(&self.user), &utf16(&self.domain));
        let mut rest = vec![1, 1, 0, 0, 0, 0, 0, 0];
        rest.extend([9; 8]);
        rest.extend([0xAA; 8]);
        rest.extend([0; 4]);
        rest.extend(&information[..information.len() - 4]);
        if self.mic {
            rest.extend([6, 0, 4, 0, 2, 0, 0, 0]);
        }
        rest.extend([0; 8]);
        let proof = proof(&key, &server_challenge, &rest);
        let exchange_key = hmac_md5(&key, [&proof[..]]);
        let mut encrypted = self.session_key.to_vec();
        Rc4::new(&exchange_key).apply(&mut encrypted);
        let mut response = proof.to_vec();
        response.extend(rest);

        let mut out = b"NTLMSSP\0\x03\0\0\0".to_vec();
        let mut payload = Vec::new();
        let workstation = bytes("CLIENT");
        for field in
            [&[0; 24][..], &response, &bytes(&self.domain), &bytes(&self.user), &workstation, &encrypted]
        {
            out.extend((field.len() as u16).to_le_bytes());
            out.extend((field.len() as u16).to_le_bytes());
            out.extend((88 + payload.len() as u32).to_le_bytes());
            payload.extend_from_slice(field);
        }
        out.extend((flags & self.flags).to_le_bytes());
        out.extend([6, 1, 0, 0, 0, 0, 0, 15]);
        out.extend([0; 16]);
        out.extend(payload);
        (self.damage)(&mut out);
        if self.mic && out.len() >= 88 {
            let mic = hmac_md5(&self.session_key, [&self.negotiate()[..], challenge, &out]);
            out[72..88].copy_from_slice(&mic);
        }
        out
    }
}

/// A server with two accounts.
struct Server {
    back_off: BackOff,
    now: u64,
    anonymous: bool,
    crowded: bool,
    /// How long the last answer was to be held back.
    held_back: u64,
}

impl AccountStore for Server {
    fn find(&self, name: &[u16]) -> Option<Account> {
        let account = |number, password, disabled| Account {
            number: AccountNumber(number),
            nt_hash: nt_hash(password),
            flags: AccountFlags { administrator: number == 1, disabled },
        };
        if same_name(name, "nas") {
            Some(account(1, "geheim", false))
        } else if same_name(name, "gone") {
            Some(account(2, "gone", true))
        } else {
            None
        }
    }
}

impl Server {
    fn new() -> Server {
        Server { back_off: BackOff::new(3), now: 1_000_000, anonymous: true, crowded: false, held_back: 0 }
    }

    fn step(&mut self, exchange: &mut Exchange, token: &[u8]) -> (Step, Vec<u8>) {
        let accounts = Server::new();
        let mut context = Context {
            accounts: &accounts,
            policy: Policy { name: "NAS", dns_name: "nas.local", anonymous: self.anonymous },
            random: &mut |bytes| bytes.fill(0x31),
            file_time: 132_000_000_000_000_000,
            monotonic_milliseconds: self.now,
            back_off: &mut self.back_off,
            source: 0,
            crowded: self.crowded,
        };
        let mut out = Vec::new();
        let step = exchange.step(token, &mut context, &mut out);
        (step, out)
    }

    /// Runs a whole log-on.
    fn log_on(&mut self, client: &Client) -> Result<Accepted, Denial> {
        let mut exchange = Exchange::new();
        let (mut step, mut answer) = self.step(&mut exchange, &client.initial());
        if client.kerberos && matches!(step, Step::Continue) {
            assert!(client.unwrap(&answer, 2).is_none());
            (step, answer) = self.step(&mut exchange, &client.response(&client.negotiate(), None));
        }
        if let Step::Denied { denial, .. } = step {
            return Err(denial);
        }
        let authenticate = client.authenticate(&client.unwrap(&answer, 2).unwrap());
        let flags = Flags(client.flags);
        let mic = Signer::new(&client.session_key, flags, Side::Client).sign(&client.mechanisms());
        let mut token = client.response(&authenticate, client.list_mic.then_some(&mic[..]));
        (client.damage_token)(&mut token);
        let (step, answer) = self.step(&mut exchange, &token);
        // Whatever came out, the exchange is over.
        let (again, _) = self.step(&mut exchange, &token);
        assert!(matches!(again, Step::Denied { denial: Denial::Malformed, .. }));
        match step {
            Step::Continue => panic!("no verdict"),
            Step::Denied { denial, hold_back_milliseconds } => {
                self.held_back = hold_back_milliseconds;
                assert!(answer.is_empty());
                Err(denial)
            }
            Step::Accepted(accepted) => {
                if client.list_mic && !client.bare && accepted.account.is_some() {
                    let mic =
                        Signer::new(&accepted.session_key, flags, Side::Server).sign(&client.mechanisms());
                    assert_eq!(client.unwrap(&answer, 3), Some(mic.to_vec()));
                }
                Ok(accepted)
            }
        }
    }
}

#[test]
fn all_kinds_of_clients_log_on() {
    let mut server = Server::new();
    for bits in 0..16 {
        let mut client = Client::new("NAS", "geheim");
        client.mic = bits & 1 != 0;
        client.kerberos = bits & 2 != 0;
        client.bare = bits & 4 != 0 && !client.kerberos;
        client.list_mic = bits & 8 != 0;
        let accepted = server.log_on(&client).unwrap();
        assert_eq!(accepted.account, Some(AccountNumber(1)));
        assert!(accepted.flags.administrator);
        assert_eq!(accepted.session_key, [0x77; 16]);
    }
}

#[test]
fn without_key_exchange_the_key_comes_from_the_password() {
    let mut client = Client::new("nas", "geheim");
    client.flags &= !0x4000_0000;
    client.mic = false;
    client.list_mic = false;
    let accepted = Server::new().log_on(&client).unwrap();
    assert_ne!(accepted.session_key, [0x77; 16]);
}

#[test]
fn wrong_passwords_and_unknown_users_are_alike() {
    let mut server = Server::new();
    assert_eq!(server.log_on(&Client::new("nas", "wrong")).unwrap_err(), Denial::LogonFailure);
    assert_eq!(server.log_on(&Client::new("nobody", "geheim")).unwrap_err(), Denial::LogonFailure);
    assert_eq!(server.log_on(&Client::new("gone", "gone")).unwrap_err(), Denial::Disabled);
    assert_eq!(server.log_on(&Client::new("gone", "wrong")).unwrap_err(), Denial::LogonFailure);
}

#[test]
fn failures_back_off_for_known_and_unknown_names() {
    for name in ["nas", "nobody"] {
        let mut server = Server::new();
        for delay in [0, 0, 0, 250, 500] {
            assert_eq!(server.log_on(&Client::new(name, "wrong")).unwrap_err(), Denial::LogonFailure);
            assert_eq!(server.held_back, delay);
        }
        server.crowded = true;
        assert_eq!(server.log_on(&Client::new(name, "geheim")).unwrap_err(), Denial::BackOff);
        server.crowded = false;
        // The right password counts at once, and ends it.
        assert_eq!(server.log_on(&Client::new(name, "geheim")).is_ok(), name == "nas");
        server.crowded = true;
        assert_eq!(server.log_on(&Client::new(name, "geheim")).is_ok(), name == "nas");
    }
}

#[test]
fn damage_is_noticed() {
    let mut server = Server::new();
    let mut denied = |damage: fn(&mut Vec<u8>), damage_token: fn(&mut Vec<u8>), wanted: Denial| {
        let mut client = Client::new("nas", "geheim");
        client.damage = damage;
        client.damage_token = damage_token;
        assert_eq!(server.log_on(&client).unwrap_err(), wanted);
        server.back_off = BackOff::new(3);
    };
    // The last byte of the MIC over the list of mechanisms, and of the MIC over the three messages.
    denied(|_| {}, |token| *token.last_mut().unwrap() ^= 1, Denial::LogonFailure);
    denied(
        |_| {},
        |token| {
            let start = token.windows(8).position(|window| window == b"NTLMSSP\0").unwrap();
            token[start + 87] ^= 1;
        },
        Denial::LogonFailure,
    );
    // A session key that is longer, and one that is shorter.
    denied(|message| message[52..54].copy_from_slice(&[15, 0]), |_| {}, Denial::Malformed);
    denied(
        |message| {
            message[52..54].copy_from_slice(&[17, 0]);
            message.push(0);
        },
        |_| {},
        Denial::Malformed,
    );
    // NTLMv1: a response of 24 bytes; LM only.
    denied(|message| message[20..22].copy_from_slice(&[24, 0]), |_| {}, Denial::LogonFailure);
    denied(|message| message[20..22].copy_from_slice(&[0, 0]), |_| {}, Denial::LogonFailure);
    // Cut.
    denied(|_| {}, |token| token.truncate(token.len() - 1), Denial::Malformed);
    denied(|message| message.truncate(60), |_| {}, Denial::Malformed);
}

#[test]
fn a_mic_that_was_promised_must_be_there() {
    let mut server = Server::new();
    let mut client = Client::new("nas", "geheim");
    client.damage_token = |token| {
        let start = token.windows(8).position(|window| window == b"NTLMSSP\0").unwrap();
        token[start + 72..start + 88].fill(0);
    };
    assert_eq!(server.log_on(&client).unwrap_err(), Denial::LogonFailure);
}

#[test]
fn nobody_logs_on_when_allowed() {
    let mut server = Server::new();
    let mut client = Client::new("", "");
    client.mic = false;
    client.list_mic = false;
    // No name, no responses.
    client.damage = |message| {
        message[12..14].fill(0);
        message[20..22].fill(0);
    };
    let accepted = server.log_on(&client).unwrap();
    assert_eq!(accepted.account, None);
    server.anonymous = false;
    assert_eq!(server.log_on(&client).unwrap_err(), Denial::LogonFailure);
}

#[test]
fn tokens_out_of_turn_or_out_of_shape() {
    let client = Client::new("nas", "geheim");
    let mut server = Server::new();
    let mut big = client.negotiate();
    big.extend([0; 2000]);
    for token in [
        &[][..],
        b"garbage",
        b"NTLMSSP\0",
        b"NTLMSSP\0\x02\0\0\0\0\0\0\0",
        b"NTLMSSP\0\x03\0\0\0\0\0\0\0",
        &client.response(b"", None),
        &client.response(&client.negotiate(), None),
        &big,
    ] {
        let (step, out) = server.step(&mut Exchange::new(), token);
        assert!(matches!(step, Step::Denied { denial: Denial::Malformed, .. }), "{token:?}");
        assert!(out.is_empty());
    }
    // SPNEGO first, then a bare message; and the other way round.
    for (bare_first, bare_second) in [(false, true), (true, false)] {
        let mut exchange = Exchange::new();
        let mut first = client.clone();
        first.bare = bare_first;
        let (_, answer) = server.step(&mut exchange, &first.initial());
        let authenticate = first.authenticate(&first.unwrap(&answer, 2).unwrap());
        let mut second = client.clone();
        second.bare = bare_second;
        let (step, _) = server.step(&mut exchange, &second.response(&authenticate, None));
        assert!(matches!(step, Step::Denied { denial: Denial::Malformed, .. }));
    }
}

#[test]
fn no_cut_of_a_token_panics_or_logs_on() {
    let client = Client::new("nas", "geheim");
    let mut server = Server::new();
    let initial = client.initial();
    for length in 0..initial.len() {
        let (step, _) = server.step(&mut Exchange::new(), &initial[..length]);
        assert!(matches!(step, Step::Denied { .. }));
    }
    let mut exchange = Box::new(Exchange::new());
    let (_, answer) = server.step(&mut exchange, &initial);
    let token = client.response(&client.authenticate(&client.unwrap(&answer, 2).unwrap()), None);
    for length in 0..token.len() {
        let mut exchange = Exchange::new();
        server.step(&mut exchange, &initial);
        let (step, _) = server.step(&mut exchange, &token[..length]);
        assert!(matches!(step, Step::Denied { .. }));
        server.back_off = BackOff::new(3);
    }
}
