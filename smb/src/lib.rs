#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arena;
pub mod crypto;
pub mod environment;
pub mod fscc;
pub mod memory;
pub mod netbios;
pub mod reader;
pub mod rpc;
pub mod server;
pub mod status;
pub mod wire;

pub use server::{
    Disposition, Encryption, Reply, Server, ServerConfiguration, ShareAccess, ShareConfiguration, Transport,
};

/// Names one transport connection: a generation-checked arena id in raw form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u32);
