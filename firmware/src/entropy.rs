//! Random numbers: a hash generator over the jitter of interrupts.
//!
//! Every time the CPU is woken, the low bits of its tick counter go into the pool: when frames and disk completions
//! arrive is not known to anybody outside to the tick. Output is SHA-256 over a key and a counter, and the key is
//! replaced after every request, so what was given out cannot be found from a later state. A seed kept in flash carries
//! the pool over a power cycle.

use core::cell::{Cell, RefCell};

use sha2::{Digest, Sha256};

/// Words of raw jitter that make a new key.
const WORDS_A_KEY: u32 = 64;

/// The generator.
pub struct EntropyPool {
    /// Raw jitter, stirred in place.
    pool: [Cell<u32>; 16],
    stirred: Cell<u32>,
    state: RefCell<State>,
}

struct State {
    key: [u8; 32],
    counter: u64,
    /// How often the pool has made a new key.
    generation: u32,
}

impl Default for EntropyPool {
    fn default() -> Self {
        Self::new()
    }
}

impl EntropyPool {
    /// A generator that knows nothing yet: seed it, or let it see some interrupts.
    pub const fn new() -> Self {
        Self {
            pool: [const { Cell::new(0) }; 16],
            stirred: Cell::new(0),
            state: RefCell::new(State { key: [0; 32], counter: 0, generation: 0 }),
        }
    }

    /// Adds a word with some unpredictable bits. A few instructions: called at every wake-up.
    pub fn stir(&self, word: u32) {
        let count = self.stirred.get();
        if let Some(cell) = self.pool.get(count as usize % 16) {
            cell.set(cell.get().rotate_left(7) ^ word);
        }
        self.stirred.set(count.wrapping_add(1));
    }

    /// Mixes `seed` into the key.
    pub fn seed(&self, seed: &[u8]) {
        let mut state = self.state.borrow_mut();
        let mut hash = Sha256::new();
        hash.update(b"seed");
        hash.update(state.key);
        hash.update(seed);
        state.key = hash.finalize().into();
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.borrow_mut();
        if self.stirred.get() >= WORDS_A_KEY || state.generation == 0 {
            self.stirred.set(0);
            let mut hash = Sha256::new();
            hash.update(b"jitter");
            hash.update(state.key);
            for cell in &self.pool {
                hash.update(cell.get().to_be_bytes());
            }
            state.key = hash.finalize().into();
            state.generation = state.generation.wrapping_add(1).max(1);
        }
        for block in bytes.chunks_mut(32) {
            let output = state.next(b"output");
            for (to, from) in block.iter_mut().zip(output) {
                *to = from;
            }
        }
        state.key = state.next(b"key");
    }

    /// A random word.
    pub fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

impl State {
    fn next(&mut self, purpose: &[u8]) -> [u8; 32] {
        self.counter = self.counter.wrapping_add(1);
        let mut hash = Sha256::new();
        hash.update(purpose);
        hash.update(self.key);
        hash.update(self.counter.to_be_bytes());
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &EntropyPool) -> [u8; 40] {
        let mut bytes = [0; 40];
        pool.fill(&mut bytes);
        bytes
    }

    #[test]
    fn outputs_differ_and_depend_on_all_that_went_in() {
        let one = EntropyPool::new();
        let other = EntropyPool::new();
        assert_eq!(take(&one), take(&other));
        assert_ne!(take(&one), take(&one));
        let _ = take(&other);
        let _ = take(&other);
        assert_eq!(take(&one), take(&other));
        one.seed(b"a");
        other.seed(b"b");
        assert_ne!(take(&one), take(&other));

        let one = EntropyPool::new();
        let other = EntropyPool::new();
        for index in 0..WORDS_A_KEY {
            one.stir(index);
            other.stir(index ^ u32::from(index == 3));
        }
        assert_ne!(take(&one), take(&other));
    }
}
