//! What carries the messages.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// A byte stream to the server.
pub trait Transport {
    /// Sends all of `bytes`; false when the connection broke.
    fn send(&self, bytes: &[u8]) -> bool;

    /// Receives exactly `length` bytes; `None` when the connection ends before.
    fn receive(&self, length: usize) -> Option<Vec<u8>>;

    /// Breaks the connection off.
    fn abort(&self);
}

impl Transport for TcpStream {
    fn send(&self, bytes: &[u8]) -> bool {
        let mut stream = self;
        stream.write_all(bytes).is_ok()
    }

    fn receive(&self, length: usize) -> Option<Vec<u8>> {
        let mut stream = self;
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn abort(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}
