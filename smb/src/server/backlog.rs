//! Memory that clients decide about: answers they have not fetched yet, and requests parked with all that follows in their
//! compounds. A client that reads slowly, or not at all, must not take what the others need.

use super::state::{ConnectionMarker, State, connection_id};
use super::waiting::{Again, WaitKind};
use super::{PayloadOf, Server, Transport};
use crate::ConnectionId;
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::status::NtStatus;
use crate::wire::Command;

/// Bytes of answers that one connection may have waiting before no more requests are taken from it.
const OWN: usize = 4 << 20;
/// Bytes of answers that all connections may have waiting before requests are taken from those alone that have none.
const ALL: usize = 8 << 20;
/// Bytes of answers waiting at which requests that make long ones are refused.
const MOST: usize = 32 << 20;
/// Bytes of a compound's answers behind which no long one is added: with one more they fit into a message of the transport,
/// which has lengths of 24 bits.
const LONGEST: usize = 2 << 20;
/// The same for a NetBIOS session, whose lengths have 17 bits.
const LONGEST_NETBIOS: usize = 0xF000;
/// Bytes of requests that are parked to be handled once more.
const PARKED: usize = 4 << 20;

impl<E: Environment> Server<E> {
    /// Whether a further request of the connection should be handed over now. When not, it is to wait in the transport
    /// until [`next_reply`](Self::next_reply) has taken more of the answers.
    pub fn takes_requests(&self, connection: ConnectionId) -> bool {
        let state = self.state.lock();
        let entry = Id::from_raw(connection.0).and_then(|id| state.connections.get(id));
        entry.is_none_or(|entry| entry.backlog == 0 || (entry.backlog < OWN && state.backlog < ALL))
    }

    /// Whether `command` may be carried out, when the elements before it in its compound have answers of `before` bytes: not
    /// when its answer may be long and there are too many of them already. Those who ask
    /// [`takes_requests`](Self::takes_requests) first do not get there with messages of one element.
    pub(super) fn has_memory_for(
        &self,
        connection: Id<ConnectionMarker>,
        command: Command,
        before: usize,
    ) -> Result<(), NtStatus> {
        if !matches!(command, Command::Read | Command::QueryDirectory | Command::QueryInfo | Command::Ioctl) {
            return Ok(());
        }
        let state = self.state.lock();
        let entry = connection_id::<PayloadOf<E>>(connection).and_then(|id| state.connections.get(id));
        let longest = match entry.map(|entry| entry.transport) {
            Some(Transport::NetBios) => LONGEST_NETBIOS,
            _ => LONGEST,
        };
        if before > longest || state.backlog >= MOST { Err(NtStatus::INSUFFICIENT_RESOURCES) } else { Ok(()) }
    }
}

impl<V: Volume> State<V> {
    /// Whether `again` can be parked beside what is.
    pub(super) fn has_room_to_park(&self, again: &Again) -> bool {
        let parked = |kind: &WaitKind| match kind {
            WaitKind::Again(again) => again.message.len(),
            WaitKind::Lock(..) | WaitKind::Notify(_) => 0,
        };
        let others: usize = self.waiting.iter().map(|(_, waiting)| parked(&waiting.kind)).sum();
        others.saturating_add(again.message.len()) <= PARKED
    }
}
