//! What other threads leave for the net task.

use core::cell::Cell;

use super::SLOTS;
use crate::scheduler::Event;

/// A set of connection slots. Mostly empty, and asked for its members at every turn of the net task.
#[derive(Debug, Default)]
pub(super) struct SlotSet {
    words: [Cell<u32>; WORDS],
    /// Which of the words may have members.
    occupied: Cell<u32>,
}

const WORDS: usize = SLOTS / 32;
const _: () = assert!(WORDS <= 32);

impl SlotSet {
    pub(super) fn insert(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / 32) {
            word.set(word.get() | 1 << (slot % 32));
            self.occupied.set(self.occupied.get() | 1 << (slot / 32));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.occupied.get() == 0
    }

    /// Takes all members out and calls `visit` with each.
    pub(super) fn drain(&self, mut visit: impl FnMut(usize)) {
        let mut occupied = self.occupied.take();
        while occupied != 0 {
            let index = occupied.trailing_zeros() as usize;
            occupied &= occupied - 1;
            let mut bits = self.words.get(index).map_or(0, Cell::take);
            while bits != 0 {
                visit(index * 32 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

/// What other threads leave for the net task: slots with replies, room for messages, a wish to stop.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Signalled by the ports' interrupts too.
    pub(super) event: Event,
    pub(super) replies: SlotSet,
    pub(super) closing: SlotSet,
    pub(super) room: Cell<bool>,
    pub(super) stop: Cell<bool>,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// `slot` has a reply to fetch.
    pub fn reply_ready(&self, slot: usize) {
        self.replies.insert(slot);
        self.event.signal();
    }

    /// `slot` is to be closed once its replies are out.
    pub fn close(&self, slot: usize) {
        self.closing.insert(slot);
        self.event.signal();
    }

    /// A message that was handed back could be taken now.
    pub fn room(&self) {
        self.room.set(true);
        self.event.signal();
    }

    /// Take no more connections, and close those that are.
    pub fn stop(&self) {
        self.stop.set(true);
        self.event.signal();
    }

    /// The event that a port's interrupt should signal.
    pub fn event(&self) -> &Event {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_set_gives_each_member_once() {
        let set = SlotSet::default();
        assert!(set.is_empty());
        for slot in [255, 0, 31, 32, 0, 100, 255, 256, 100_000] {
            set.insert(slot);
        }
        assert!(!set.is_empty());
        let mut members = Vec::new();
        set.drain(|slot| members.push(slot));
        assert_eq!(members, [0, 31, 32, 100, 255]);
        assert!(set.is_empty());
        set.drain(|slot| panic!("{slot} is there again"));
    }
}
