//! The NTLM challenge/response protocol, acceptor's side, version 2 only (MS-NLMP).

pub(crate) mod keys;
pub(crate) mod message;
mod rc4;

pub(crate) use rc4::Rc4;
