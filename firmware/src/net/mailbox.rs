//! What other threads leave for the net task.

use core::cell::Cell;

use super::SLOTS;
use crate::scheduler::Event;

/// A set of connection slots.
#[derive(Debug, Default)]
pub(super) struct SlotSet {
    words: [Cell<u32>; SLOTS / 32],
}

impl SlotSet {
    pub(super) fn insert(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / 32) {
            word.set(word.get() | 1 << (slot % 32));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.get() == 0)
    }

    /// Takes all members out and calls `visit` with each.
    pub(super) fn drain(&self, mut visit: impl FnMut(usize)) {
        for (index, word) in self.words.iter().enumerate() {
            let mut bits = word.take();
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
