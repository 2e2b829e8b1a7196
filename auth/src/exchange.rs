//! One log-on from the first token to the verdict.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zeroize::Zeroize;

use crate::account::{Account, AccountFlags, AccountNumber, AccountStore};
use crate::back_off::BackOff;
use crate::bytes::{Malformed, equal};
use crate::ntlm::Rc4;
use crate::ntlm::keys::{Side, Signer, hmac_md5, proof, response_key};
use crate::ntlm::message::{self, Authenticate, Flags};
use crate::spnego::{self, NegotiationState, Response, Token};

/// What the machine is called, and what it lets pass.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The NetBIOS name, at most 15 characters, upper case.
    pub name: &'a str,
    /// The DNS name; the NetBIOS name again where there is none.
    pub dns_name: &'a str,
    /// Whether nobody in particular may log on.
    pub anonymous: bool,
}

/// What one step needs from outside.
pub struct Context<'a> {
    /// The accounts.
    pub accounts: &'a dyn AccountStore,
    /// Names and permissions.
    pub policy: Policy<'a>,
    /// Fills bytes from a cryptographically strong generator.
    pub random: &'a mut dyn FnMut(&mut [u8]),
    /// The wall clock, in 100 ns since 1601.
    pub file_time: u64,
    /// Milliseconds on a clock that never goes back.
    pub monotonic_milliseconds: u64,
    /// Failures so far, kept between exchanges.
    pub back_off: &'a mut BackOff,
    /// Where the client is, as a number (a hash of its address); 0 when unknown.
    pub source: u64,
    /// As many answers are being held back as there may be: attempts for names that failed lately are refused unseen.
    pub crowded: bool,
}

/// Who logged on.
#[derive(Clone)]
pub struct Accepted {
    /// The account; None for nobody in particular.
    pub account: Option<AccountNumber>,
    /// What it may do.
    pub flags: AccountFlags,
    /// The key that both sides now share; all zeros, or of the client's choice, when anonymous.
    pub session_key: [u8; 16],
}

impl core::fmt::Debug for Accepted {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The key stays out of logs.
        formatter
            .debug_struct("Accepted")
            .field("account", &self.account)
            .field("flags", &self.flags)
            .finish()
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.session_key.zeroize();
    }
}

/// Why not. The client is told no more than the status named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Unknown user, wrong password, NTLMv1, a MIC that is wrong: STATUS_LOGON_FAILURE.
    LogonFailure,
    /// Too many failures lately, and too many answers held back: this attempt was not looked at. STATUS_LOGON_FAILURE, too.
    BackOff,
    /// The password was right, but the account is switched off: STATUS_ACCOUNT_DISABLED.
    Disabled,
    /// A token out of shape or out of turn, or no mechanism in common: STATUS_INVALID_PARAMETER.
    Malformed,
}

/// What a token led to.
#[derive(Debug)]
pub enum Step {
    /// The answer token is to be sent, and another token comes.
    Continue,
    /// The answer token, if any, is to be sent: the client is who it says.
    Accepted(Accepted),
    /// There is no answer token.
    Denied {
        /// Why.
        denial: Denial,
        /// So long is the answer to be held back, without keeping others waiting: failures have come before.
        hold_back_milliseconds: u64,
    },
}

/// Appends the token that a server sends before the client's first: SPNEGO's NegTokenInit2.
pub fn offer(out: &mut Vec<u8>) {
    spnego::emit_offer(out);
}

/// One log-on in progress. A step takes its state away, so an exchange that was denied or accepted takes nothing more.
#[derive(Debug, Default)]
pub struct Exchange {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// SPNEGO has chosen NTLMSSP, its first message is to come.
    Chosen(Negotiated),
    /// The challenge is out. Without SPNEGO when NTLMSSP came bare.
    Challenged(Box<Challenged>),
    Over,
}

/// What SPNEGO agreed on.
#[derive(Debug)]
struct Negotiated {
    /// The client's list as it was encoded: its MIC protects it.
    mechanisms: Vec<u8>,
    /// NTLMSSP was not the client's first choice: the list must be protected if the client can.
    reselected: bool,
}

#[derive(Debug)]
struct Challenged {
    spnego: Option<Negotiated>,
    server_challenge: [u8; 8],
    flags: Flags,
    /// Both messages so far, for the MIC over all three.
    negotiate: Vec<u8>,
    challenge: Vec<u8>,
}

impl Exchange {
    /// Bytes that an exchange keeps at most between steps, whatever the client sends.
    pub const MAXIMUM_MEMORY: usize = 4096;

    /// Longer NEGOTIATE_MESSAGEs (which carry two short names) are refused.
    const MAXIMUM_NEGOTIATE: usize = 1024;

    /// Longer lists of mechanisms are refused.
    const MAXIMUM_MECHANISMS: usize = 1024;

    /// Starts.
    pub const fn new() -> Exchange {
        Exchange { state: State::Start }
    }

    /// Takes the client's next token and appends the answer token to `out`.
    pub fn step(&mut self, token: &[u8], context: &mut Context<'_>, out: &mut Vec<u8>) -> Step {
        let state = core::mem::replace(&mut self.state, State::Over);
        match state.step(token, context, out) {
            Ok((state, step)) => {
                self.state = state;
                step
            }
            Err(Denied { denial, hold_back_milliseconds }) => Step::Denied { denial, hold_back_milliseconds },
        }
    }
}

/// How a step fails.
struct Denied {
    denial: Denial,
    hold_back_milliseconds: u64,
}

impl From<Malformed> for Denied {
    fn from(_: Malformed) -> Denied {
        Denial::Malformed.into()
    }
}

impl From<Malformed> for Denial {
    fn from(_: Malformed) -> Denial {
        Denial::Malformed
    }
}

impl From<Denial> for Denied {
    fn from(denial: Denial) -> Denied {
        Denied { denial, hold_back_milliseconds: 0 }
    }
}

impl State {
    fn step(
        self,
        token: &[u8],
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(State, Step), Denied> {
        if message::is_ntlm(token) {
            return match self {
                State::Start => challenge(None, token, context, out),
                State::Challenged(challenged) if challenged.spnego.is_none() => {
                    let (accepted, _) = challenged.authenticate(token, context)?;
                    Ok((State::Over, Step::Accepted(accepted)))
                }
                _ => Err(Denial::Malformed.into()),
            };
        }
        match (self, Token::parse(token)?) {
            (State::Start, Token::Initial(initial)) => {
                let position = initial.ntlm.ok_or(Denial::Malformed)?;
                if initial.mechanisms.len() > Exchange::MAXIMUM_MECHANISMS {
                    return Err(Denial::Malformed.into());
                }
                let mechanisms = initial.mechanisms.to_vec();
                let negotiated = Negotiated { mechanisms, reselected: position > 0 };
                match initial.token {
                    Some(token) if position == 0 => challenge(Some(negotiated), token, context, out),
                    _ => {
                        // A token for another mechanism is passed over (RFC 4178 4.2.2).
                        let state = negotiated.state();
                        spnego::emit_response(out, state, true, None, None);
                        Ok((State::Chosen(negotiated), Step::Continue))
                    }
                }
            }
            (State::Chosen(negotiated), Token::Response(Response { token: Some(token), .. })) => {
                challenge(Some(negotiated), token, context, out)
            }
            (State::Challenged(mut challenged), Token::Response(response)) => {
                let negotiated = challenged.spnego.take().ok_or(Denial::Malformed)?;
                let token = response.token.ok_or(Denial::Malformed)?;
                let (accepted, mut signers) = challenged.authenticate(token, context)?;
                let mic = match (response.mic, &mut signers) {
                    (Some(mic), Some([client, server])) => {
                        if !equal(mic, &client.sign(&negotiated.mechanisms)) {
                            return Err(Denial::LogonFailure.into());
                        }
                        Some(server.sign(&negotiated.mechanisms))
                    }
                    // Clients that protect nothing, and anonymous ones that cannot. There is only one mechanism here: a
                    // changed list gains an attacker nothing.
                    _ => None,
                };
                let mic = mic.as_ref().map(|mic| &mic[..]);
                spnego::emit_response(out, NegotiationState::AcceptCompleted, false, None, mic);
                Ok((State::Over, Step::Accepted(accepted)))
            }
            _ => Err(Denial::Malformed.into()),
        }
    }
}

impl Negotiated {
    fn state(&self) -> NegotiationState {
        if self.reselected { NegotiationState::RequestMic } else { NegotiationState::AcceptIncomplete }
    }
}

/// Answers a NEGOTIATE_MESSAGE.
fn challenge(
    spnego: Option<Negotiated>,
    token: &[u8],
    context: &mut Context<'_>,
    out: &mut Vec<u8>,
) -> Result<(State, Step), Denied> {
    if token.len() > Exchange::MAXIMUM_NEGOTIATE {
        return Err(Denial::Malformed.into());
    }
    let flags = message::parse_negotiate(token)?.answer();
    let mut server_challenge = [0; 8];
    (context.random)(&mut server_challenge);
    let mut challenge = Vec::new();
    let Policy { name, dns_name, .. } = context.policy;
    message::emit_challenge(&mut challenge, flags, &server_challenge, name, dns_name, context.file_time);
    match &spnego {
        Some(negotiated) => {
            // The mechanism is named in the first answer only; naming it again does no harm.
            let state = NegotiationState::AcceptIncomplete;
            spnego::emit_response(out, state, !negotiated.reselected, Some(&challenge), None);
        }
        None => out.extend_from_slice(&challenge),
    }
    let negotiate = token.to_vec();
    let challenged = Challenged { spnego, server_challenge, flags, negotiate, challenge };
    Ok((State::Challenged(Box::new(challenged)), Step::Continue))
}

impl Challenged {
    /// Judges an AUTHENTICATE_MESSAGE. Gives the session, and who signs for client and server (nobody when anonymous).
    fn authenticate(
        &self,
        token: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(Accepted, Option<[Signer; 2]>), Denied> {
        let authenticate = Authenticate::parse(token)?;
        // What both sides have said.
        let flags = Flags(self.flags.0 & authenticate.flags.0);
        if authenticate.is_anonymous() {
            if !context.policy.anonymous {
                return Err(Denial::LogonFailure.into());
            }
            let session_key = exchange_key(&[0; 16], flags, &authenticate)?;
            return Ok((Accepted { account: None, flags: AccountFlags::default(), session_key }, None));
        }

        let now = context.monotonic_milliseconds;
        if context.crowded && context.back_off.suspects(context.source, &authenticate.user, now) {
            return Err(Denial::BackOff.into());
        }
        match self.verify(token, &authenticate, flags, context.accounts) {
            Ok((account, session_key)) => {
                context.back_off.succeeded(context.source, &authenticate.user);
                if account.flags.disabled {
                    return Err(Denial::Disabled.into());
                }
                let signers = [Side::Client, Side::Server].map(|side| Signer::new(&session_key, flags, side));
                let accepted = Accepted { account: Some(account.number), flags: account.flags, session_key };
                Ok((accepted, Some(signers)))
            }
            Err(denial) => {
                let hold_back_milliseconds = context.back_off.failed(context.source, &authenticate.user, now);
                Err(Denied { denial, hold_back_milliseconds })
            }
        }
    }

    /// Checks the response, unwraps the session key, checks the MIC. An unknown user's response is checked against a key
    /// that nobody has, so it takes the time of a wrong password.
    fn verify(
        &self,
        token: &[u8],
        authenticate: &Authenticate<'_>,
        flags: Flags,
        accounts: &dyn AccountStore,
    ) -> Result<(Account, [u8; 16]), Denial> {
        let (found, rest) = authenticate.ntlmv2().ok_or(Denial::LogonFailure)?;
        let response_flags = message::response_flags(rest).ok_or(Denial::Malformed)?;
        let account = accounts.find(&authenticate.user);
        let nt_hash = account.as_ref().map_or([0x5A; 16], |account| account.nt_hash);
        let key = response_key(&nt_hash, &authenticate.user, &authenticate.domain);
        let wanted = proof(&key, &self.server_challenge, rest);
        let right = equal(found, &wanted);
        let Some(account) = account.filter(|_| right) else {
            return Err(Denial::LogonFailure);
        };
        let session_base_key = hmac_md5(&key, [&wanted[..]]);
        let session_key = exchange_key(&session_base_key, flags, authenticate)?;
        if response_flags & message::HAS_MIC != 0 {
            let (before, after) = token.split_at_checked(message::MIC.start).ok_or(Denial::Malformed)?;
            let (mic, after) = after.split_at_checked(message::MIC.len()).ok_or(Denial::Malformed)?;
            let messages = [&self.negotiate[..], &self.challenge, before, &[0; 16], after];
            if !equal(mic, &hmac_md5(&session_key, messages)) {
                return Err(Denial::LogonFailure);
            }
        }
        Ok((account, session_key))
    }
}

/// The session key: the client's choice, encrypted, when a key exchange was negotiated (MS-NLMP 3.2.5.1.2).
fn exchange_key(key: &[u8; 16], flags: Flags, authenticate: &Authenticate<'_>) -> Result<[u8; 16], Denial> {
    if !flags.contains(Flags::NEGOTIATE_KEY_EXCH) {
        return Ok(*key);
    }
    // Exactly 16 bytes: a longer one is an attack of old (CVE-2022-47939 and its kind).
    let mut session_key: [u8; 16] =
        authenticate.encrypted_session_key.try_into().map_err(|_| Denial::Malformed)?;
    Rc4::new(key).apply(&mut session_key);
    Ok(session_key)
}

const _: () = assert!(
    Exchange::MAXIMUM_MEMORY
        > Exchange::MAXIMUM_NEGOTIATE + Exchange::MAXIMUM_MECHANISMS + size_of::<Challenged>() + 1024
);
