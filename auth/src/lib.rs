//! Log-on: a SPNEGO and NTLMv2 acceptor without I/O, and what it needs to know of accounts.
//!
//! [`Exchange`] takes the client's tokens one by one. It knows no network, no SMB and no clock: all that comes in through
//! [`Context`]. Tokens are from strangers: whatever they say, an exchange keeps at most [`Exchange::MAXIMUM_MEMORY`] bytes.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod back_off;
mod bytes;
mod der;
mod exchange;
mod ntlm;
mod spnego;

#[cfg(test)]
mod client;

pub use account::{Account, AccountFlags, AccountNumber, AccountStore, nt_hash, same_name};
pub use back_off::BackOff;
pub use exchange::{Accepted, Context, Denial, Exchange, Policy, Step, offer};
