//! The engine as the net task and the workers see it.

use alloc::vec::Vec;

use smb::{Disposition, Reply};

use crate::appliance::Appliance;
use crate::board::Board;
use crate::net::{self, Service, Transport};
use crate::share_volume::PinnedPages;
use crate::workers::{Handler, Job};

/// An answer of the engine's on its way out.
pub struct Answer(Reply<PinnedPages>);

impl net::Reply for Answer {
    fn length(&self) -> usize {
        self.0.wire_length()
    }

    fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        self.0.for_each(visit);
    }
}

impl<B: Board> Service for Appliance<B> {
    type Reply = Answer;

    fn connect(&self, slot: usize, transport: Transport) -> bool {
        if !self.is_open() {
            return false;
        }
        let transport = match transport {
            Transport::Tcp => smb::Transport::Tcp,
            Transport::NetBios => smb::Transport::NetBios,
        };
        match self.server.connect(transport) {
            Ok(id) => {
                self.slots.bind(slot, id);
                true
            }
            Err(_) => false,
        }
    }

    fn disconnect(&self, slot: usize) {
        if let Some(id) = self.slots.unbind(slot) {
            self.pool.disconnect(slot, id.0);
        }
    }

    fn maximum_message(&self, slot: usize) -> usize {
        self.slots.connection(slot).map_or(0, |id| self.server.maximum_message(id))
    }

    fn is_authenticated(&self, slot: usize) -> bool {
        // The engine takes long messages from who has logged on.
        self.maximum_message(slot) > 0x1_0000
    }

    fn admit(&self, slot: usize, bytes: usize) -> bool {
        let takes = self.slots.connection(slot).is_none_or(|id| self.server.takes_requests(id));
        let admitted = takes && self.message_memory.take(bytes);
        if !admitted {
            self.message_memory.note_refused();
        }
        admitted
    }

    fn withdraw(&self, bytes: usize) {
        self.message_memory.give(bytes);
        self.tell_who_waits();
    }

    fn submit(&self, slot: usize, message: Vec<u8>) -> Result<(), Vec<u8>> {
        match self.slots.connection(slot) {
            Some(id) => self.pool.submit(slot, id.0, message),
            // Dropped by the engine meanwhile.
            None => {
                self.withdraw(message.len());
                Ok(())
            }
        }
    }

    fn next_reply(&self, slot: usize) -> Option<Answer> {
        let id = self.slots.connection(slot)?;
        let reply = self.server.next_reply(id).map(Answer);
        if reply.is_some() {
            self.tell_who_waits();
        } else if !self.server.is_connected(id) {
            self.mailbox.close(slot);
        }
        reply
    }
}

impl<B: Board> Appliance<B> {
    /// Memory was given back, or a reply has left: who waits for that tries again.
    fn tell_who_waits(&self) {
        if self.message_memory.take_refused() {
            self.mailbox.room();
        }
    }
}

impl<B: Board> Handler for Appliance<B> {
    fn handle(&self, job: Job) {
        let id = smb::ConnectionId(job.connection);
        match job.message {
            Some(mut message) => {
                let disposition = self.server.handle(id, &mut message);
                // The slot may be another client's by now.
                if disposition == Disposition::Disconnect && self.slots.connection(job.slot) == Some(id) {
                    self.mailbox.close(job.slot);
                }
                let bytes = message.len();
                drop(message);
                self.withdraw(bytes);
            }
            None => {
                self.server.disconnect(id);
                // Its answers, which nobody fetches any more, left room.
                self.tell_who_waits();
            }
        }
    }

    fn room(&self) {
        self.mailbox.room();
    }
}
