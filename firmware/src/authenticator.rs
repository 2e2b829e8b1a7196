//! The auth task: one thread owns the log-ons in progress and the accounts; workers leave it tokens in its mailbox.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use auth::{
    Account, AccountFlags, AccountNumber, AccountStore, BackOff, Context, Denial, Exchange, Policy, Step,
};
use flash_layout::configuration::Configuration;
use smb::environment::{Authentication, Identity, UserId};
use smb::status::NtStatus;

use crate::clock::Clock;
use crate::entropy::EntropyPool;
use crate::scheduler::{self, Event};

/// Log-ons in progress at once: as many as the engine has. With one more, the oldest is forgotten.
const EXCHANGES: usize = 64;

/// Failures that are held back at once: each keeps a worker.
const HELD_BACK: usize = 4;

/// What the accounts are, and what the machine is called.
struct Accounts {
    accounts: Vec<(String, Account)>,
    name: String,
}

impl Accounts {
    fn new(configuration: &Configuration) -> Self {
        let accounts = configuration.users.iter().map(|user| {
            let flags = AccountFlags { administrator: user.administrator, disabled: user.disabled };
            let account = Account { number: AccountNumber(user.number), nt_hash: user.nt_hash, flags };
            (user.name.clone(), account)
        });
        Self { accounts: accounts.collect(), name: configuration.host_name.to_uppercase() }
    }
}

impl AccountStore for Accounts {
    fn find(&self, name: &[u16]) -> Option<Account> {
        let mut found = None;
        // All are looked at: the time does not tell whether the name exists.
        for (own, account) in &self.accounts {
            if auth::same_name(name, own) {
                found = Some(account.clone());
            }
        }
        found
    }
}

/// A worker's wish, and where it waits.
struct Ticket {
    exchange: u32,
    token: Vec<u8>,
    answer: RefCell<Option<(Vec<u8>, Authentication)>>,
    done: Event,
}

enum Letter {
    Step(Rc<Ticket>),
    Abandon(u32),
}

/// The task's mailbox and what it knows.
pub struct Authenticator {
    letters: RefCell<VecDeque<Letter>>,
    arrived: Event,
    accounts: RefCell<Rc<Accounts>>,
    clock: &'static Clock,
    entropy: &'static EntropyPool,
}

impl Authenticator {
    /// With the accounts of `configuration`.
    pub fn new(configuration: &Configuration, clock: &'static Clock, entropy: &'static EntropyPool) -> Self {
        Self {
            letters: RefCell::default(),
            arrived: Event::new(),
            accounts: RefCell::new(Rc::new(Accounts::new(configuration))),
            clock,
            entropy,
        }
    }

    /// Uses the accounts of a changed configuration from now on.
    pub fn set_accounts(&self, configuration: &Configuration) {
        self.accounts.replace(Rc::new(Accounts::new(configuration)));
    }

    /// Hands one leg of a log-on to the task and waits for its answer, which is appended to `out`.
    pub fn authenticate(&self, exchange: u32, token: &[u8], out: &mut Vec<u8>) -> Authentication {
        let ticket = Rc::new(Ticket {
            exchange,
            token: token.to_vec(),
            answer: RefCell::new(None),
            done: Event::new(),
        });
        self.letters.borrow_mut().push_back(Letter::Step(ticket.clone()));
        self.arrived.signal();
        ticket.done.wait();
        match ticket.answer.take() {
            Some((token, authentication)) => {
                out.extend_from_slice(&token);
                authentication
            }
            None => Authentication::Denied(NtStatus::LOGON_FAILURE),
        }
    }

    /// The log-on will not be continued.
    pub fn abandon(&self, exchange: u32) {
        self.letters.borrow_mut().push_back(Letter::Abandon(exchange));
        self.arrived.signal();
    }

    /// Calls `visit` with each account.
    pub fn visit_accounts(&self, visit: &mut dyn FnMut(smb::environment::Account<'_>)) {
        let accounts = self.accounts.borrow().clone();
        for (name, account) in &accounts.accounts {
            let user = UserId(account.number.0);
            visit(smb::environment::Account { user, name, disabled: account.flags.disabled });
        }
    }

    /// The task.
    pub fn run(&self) {
        let mut back_off = BackOff::new(self.entropy.next_u64());
        let mut exchanges: VecDeque<(u32, Exchange)> = VecDeque::new();
        // Answers to failures after failures, and when they go out.
        let mut held_back: Vec<(u64, Rc<Ticket>)> = Vec::new();
        loop {
            let now = scheduler::now();
            held_back.retain(|(due, ticket)| {
                let wait = now < *due;
                if !wait {
                    ticket.done.signal();
                }
                wait
            });
            // Not in the condition: the borrow must end first.
            let letter = self.letters.borrow_mut().pop_front();
            match letter {
                None => match held_back.iter().map(|(due, _)| *due).min() {
                    Some(due) => {
                        self.arrived.wait_until(due);
                    }
                    None => self.arrived.wait(),
                },
                Some(Letter::Abandon(id)) => exchanges.retain(|(known, _)| *known != id),
                Some(Letter::Step(ticket)) => {
                    let mut exchange = match exchanges.iter().position(|(known, _)| *known == ticket.exchange)
                    {
                        Some(at) => exchanges.remove(at).map(|(_, exchange)| exchange).unwrap_or_default(),
                        None => Exchange::new(),
                    };
                    let mut out = Vec::new();
                    let crowded = held_back.len() >= HELD_BACK;
                    let (answer, delay) =
                        self.step(&mut exchange, &ticket.token, &mut back_off, crowded, &mut out);
                    if answer == Verdict::Continue {
                        if exchanges.len() >= EXCHANGES {
                            exchanges.pop_front();
                        }
                        exchanges.push_back((ticket.exchange, exchange));
                    }
                    ticket.answer.replace(Some((out, answer.into())));
                    if delay > 0 && !crowded {
                        held_back.push((scheduler::now().saturating_add(delay), ticket));
                    } else {
                        ticket.done.signal();
                    }
                }
            }
        }
    }

    /// The verdict, and the microseconds for which it is to be held back.
    fn step(
        &self,
        exchange: &mut Exchange,
        token: &[u8],
        back_off: &mut BackOff,
        crowded: bool,
        out: &mut Vec<u8>,
    ) -> (Verdict, u64) {
        let accounts = self.accounts.borrow().clone();
        let now = scheduler::now();
        let mut context = Context {
            accounts: &*accounts,
            policy: Policy { name: &accounts.name, dns_name: &accounts.name, anonymous: true },
            random: &mut |bytes| self.entropy.fill(bytes),
            file_time: self.clock.file_time(),
            monotonic_milliseconds: now / 1_000,
            back_off,
            source: 0,
            crowded,
        };
        let verdict = match exchange.step(token, &mut context, out) {
            Step::Continue => Verdict::Continue,
            Step::Accepted(accepted) => {
                Verdict::Accepted(Identity {
                    // Nobody's number is one that no access list names.
                    user: UserId(accepted.account.map_or(u16::MAX, |number| number.0)),
                    anonymous: accepted.account.is_none(),
                    administrator: accepted.flags.administrator,
                    session_key: accepted.session_key,
                })
            }
            Step::Denied { denial, hold_back_milliseconds } => {
                log::warn!("log-on refused: {denial:?}");
                let status = match denial {
                    Denial::LogonFailure | Denial::BackOff => NtStatus::LOGON_FAILURE,
                    Denial::Disabled => NtStatus::ACCOUNT_DISABLED,
                    Denial::Malformed => NtStatus::INVALID_PARAMETER,
                };
                return (Verdict::Denied(status), hold_back_milliseconds.saturating_mul(1_000));
            }
        };
        (verdict, 0)
    }
}

/// As [`Authentication`], comparable.
#[derive(PartialEq)]
enum Verdict {
    Continue,
    Accepted(Identity),
    Denied(NtStatus),
}

impl From<Verdict> for Authentication {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Continue => Self::Continue,
            Verdict::Accepted(identity) => Self::Accepted(identity),
            Verdict::Denied(status) => Self::Denied(status),
        }
    }
}
