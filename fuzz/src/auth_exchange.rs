//! A log-on of up to eight tokens against an acceptor with one account.
//!
//! Input: a byte of options, then tokens. The server's challenge is fixed, so recorded log-ons stay right; with the option
//! [`REPAIR`], the proof in an AUTHENTICATE_MESSAGE is made right for the account's password first, so that what lies
//! behind a right password is reached by mutations as well.

use auth::{
    Account, AccountFlags, AccountNumber, AccountStore, BackOff, Context, Denial, Exchange, Policy, Step,
    nt_hash, same_name,
};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::input::Input;

/// Nobody in particular may log on.
pub const ANONYMOUS: u8 = 1;
/// Proofs are made right.
pub const REPAIR: u8 = 2;
/// What the server's challenge is made of.
pub const CHALLENGE: u8 = 0x31;
/// The account's password.
pub const PASSWORD: &str = "geheim";

struct Accounts;

impl AccountStore for Accounts {
    fn find(&self, name: &[u16]) -> Option<Account> {
        same_name(name, "nas").then(|| Account {
            number: AccountNumber(1),
            nt_hash: nt_hash(PASSWORD),
            flags: AccountFlags::default(),
        })
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let mut exchange = Exchange::new();
    let mut back_off = BackOff::new(1);
    let mut over = false;
    for now in 0..8 {
        if input.is_empty() {
            break;
        }
        let mut token = input.piece().to_vec();
        if options & REPAIR != 0 {
            repair(&mut token);
        }
        let mut context = Context {
            accounts: &Accounts,
            policy: Policy { name: "NAS", dns_name: "nas.local", anonymous: options & ANONYMOUS != 0 },
            random: &mut |bytes| bytes.fill(CHALLENGE),
            file_time: 132_000_000_000_000_000,
            monotonic_milliseconds: now,
            back_off: &mut back_off,
            source: 0,
            crowded: now % 2 == 1,
        };
        let mut out = Vec::new();
        let step = exchange.step(&token, &mut context, &mut out);
        assert!(out.len() < 2048, "the answer does not grow with the token");
        match step {
            Step::Continue => assert!(!over && !out.is_empty()),
            Step::Accepted(accepted) => {
                assert!(!over);
                assert!(accepted.account.is_some() || options & ANONYMOUS != 0);
                over = true;
            }
            Step::Denied { denial, .. } => {
                assert!(out.is_empty());
                assert!(!over || denial == Denial::Malformed, "what is over stays over");
                over = true;
            }
        }
    }
}

fn hmac_md5(key: &[u8], pieces: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).unwrap();
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

/// Finds an AUTHENTICATE_MESSAGE in the token and makes its proof right, if its fields make sense.
pub fn repair(token: &mut [u8]) -> Option<()> {
    let start = token.windows(12).position(|window| window == b"NTLMSSP\0\x03\0\0\0")?;
    let message = token.get_mut(start..)?;
    let field = |message: &[u8], at: usize| -> Option<core::ops::Range<usize>> {
        let length = usize::from(u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let offset = u32::from_le_bytes(message.get(at + 4..at + 8)?.try_into().ok()?) as usize;
        message.get(offset..offset.checked_add(length)?)?;
        Some(offset..offset + length)
    };
    let response = field(message, 20)?;
    let domain = message.get(field(message, 28)?)?.to_vec();
    let user = message.get(field(message, 36)?)?;
    let user: Vec<u8> = user.iter().map(u8::to_ascii_uppercase).collect();
    let key = hmac_md5(&nt_hash(PASSWORD), &[&user, &domain]);
    let (proof, rest) = message.get_mut(response)?.split_at_mut_checked(16)?;
    proof.copy_from_slice(&hmac_md5(&key, &[&[CHALLENGE; 8], rest]));
    Some(())
}
