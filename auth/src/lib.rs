//! SPNEGO and NTLMv2 acceptor, accounts.

#![no_std]
#![forbid(unsafe_code)]
