//! A hash over everything that happens, in order: equal hashes mean equal runs.

use std::cell::Cell;

/// The hash so far (FNV-1a, 64 bits).
#[derive(Debug)]
pub struct Trace(Cell<u64>, Cell<u64>);

impl Default for Trace {
    fn default() -> Self {
        Self(Cell::new(0xCBF2_9CE4_8422_2325), Cell::new(0))
    }
}

impl Trace {
    /// Notes that `what` happened at `now` with these bytes.
    pub fn note(&self, now: u64, what: &str, bytes: &[u8]) {
        let mut hash = self.0.get();
        for byte in now.to_be_bytes().iter().chain(what.as_bytes()).chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
        self.0.set(hash);
        self.1.set(self.1.get() + 1);
    }

    /// The hash.
    pub fn hash(&self) -> u64 {
        self.0.get()
    }

    /// How many things have happened.
    pub fn count(&self) -> u64 {
        self.1.get()
    }
}
