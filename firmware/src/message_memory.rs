//! Memory for requests on their way in: one budget for all connections, so that many clients that begin long messages at
//! once, or never end them, do not take what the tasks need.

use core::cell::Cell;

/// Bytes of long messages, from their first byte until a worker has handled them.
const LIMIT: usize = 16 << 20;
/// A message of at most so many bytes is always admitted: all connections there can be have 4 MiB of these.
const SHORT: usize = 16 * 1024;

/// The budget.
#[derive(Default)]
pub struct MessageMemory {
    used: Cell<usize>,
    refused: Cell<bool>,
}

impl MessageMemory {
    /// Takes `bytes`; false when there are not as many.
    pub fn take(&self, bytes: usize) -> bool {
        let used = self.used.get().saturating_add(bytes);
        if bytes > SHORT && used > LIMIT {
            return false;
        }
        self.used.set(used);
        true
    }

    /// Gives `bytes` back.
    pub fn give(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }

    /// Notes that somebody waits for memory, or for replies to go out.
    pub fn note_refused(&self) {
        self.refused.set(true);
    }

    /// Whether somebody waits; it is his turn now.
    pub fn take_refused(&self) -> bool {
        self.refused.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_share_a_budget_and_short_ones_always_fit() {
        let memory = MessageMemory::default();
        let megabyte = 1 << 20;
        assert!((0..16).all(|_| memory.take(megabyte)));
        assert!(!memory.take(SHORT + 1));
        assert!(memory.take(SHORT));
        memory.give(SHORT);
        memory.give(megabyte);
        assert!(memory.take(megabyte) && !memory.take(megabyte));
    }
}
