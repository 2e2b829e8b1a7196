//! Requests that wait (for a lock, a change in a directory, an oplock): they are parked in an arena with an interim
//! answer on its way, and occupy no worker (MS-SMB2 3.3.4.2, 3.3.4.4).

use alloc::vec::Vec;

use super::dispatch::{Before, Request};
use super::lock::LockSequence;
use super::reply::{Draft, Protection};
use super::state::{ConnectionMarker, Handle, Session, State};
use super::{NodeOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire;
use crate::wire::header::{Flags, Header};

/// A parked request.
pub(crate) struct Waiting<N> {
    /// Counts up: who waits for longest comes first.
    pub number: u64,
    pub connection: Id<ConnectionMarker>,
    pub session: Id<Session>,
    pub handle: Option<Id<Handle<N>>>,
    /// The request's header.
    pub header: Header,
    pub signed: bool,
    pub encrypted: bool,
    pub kind: WaitKind,
}

/// What it waits for.
pub(crate) enum WaitKind {
    /// A byte range; the number of the request, if a replay of it is to be known.
    Lock(wire::lock::Element, Option<LockSequence>),
    /// A change in a directory: bytes of the largest answer.
    Notify(u32),
    /// Acknowledgments of breaks: the request is then handled once more from its start.
    Again(Again),
}

/// A request that will be handled once more, with all that follows in its compound.
pub(crate) struct Again {
    pub message: Vec<u8>,
    pub before: Before,
    /// Raw id of the open file whose breaks it waits for.
    pub file: u32,
    /// When it does not wait any longer.
    pub deadline: u64,
    /// It is in the queue of those that go on.
    pub queued: bool,
    /// The durable handle that it will make: a replay of it asks too early.
    pub name: Option<super::durable::DurableName>,
}

impl<V: Volume> State<V> {
    /// Parks a request: it gets an AsyncId and the interim answer is queued at once, in the same critical section, so
    /// that it comes before the final one.
    pub fn park(
        &mut self,
        request: &mut Request<'_>,
        handle: Option<Id<Handle<V::Node>>>,
        kind: WaitKind,
    ) -> Result<Id<Waiting<V::Node>>, NtStatus> {
        // 3.3.4.2: only the last element of a compound may go asynchronous; a CREATE takes the rest along.
        if !request.last && !matches!(kind, WaitKind::Again(_)) {
            return Err(NtStatus::INTERNAL_ERROR);
        }
        if let WaitKind::Again(again) = &kind
            && !self.has_room_to_park(again)
        {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let session = request.session.ok_or(NtStatus::INVALID_PARAMETER)?;
        self.parked += 1;
        let waiting = Waiting {
            number: self.parked,
            connection: request.connection,
            session,
            handle,
            header: request.header,
            signed: request.sign_with.is_some(),
            encrypted: request.encrypted,
            kind,
        };
        let id = self.waiting.insert(waiting).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        let mut header = request.header;
        header.credits = self.grant_credits(request.connection, header.credits);
        self.answer_asynchronously(id, header, NtStatus::PENDING, None);
        Ok(id)
    }

    /// Queues the final answer of a parked request. `body` appends the response; `None` makes an error response.
    pub fn complete(
        &mut self,
        id: Id<Waiting<V::Node>>,
        status: NtStatus,
        body: Option<&dyn Fn(&mut Writer<'_>)>,
    ) -> Option<Waiting<V::Node>> {
        let mut header = self.waiting.get(id)?.header;
        // The interim answer granted the credits.
        header.credits = 0;
        self.answer_asynchronously(id, header, status, body);
        self.waiting.remove(id)
    }

    fn answer_asynchronously(
        &mut self,
        id: Id<Waiting<V::Node>>,
        mut header: Header,
        status: NtStatus,
        body: Option<&dyn Fn(&mut Writer<'_>)>,
    ) {
        let Some(waiting) = self.waiting.get(id) else { return };
        log::trace!("{} (async {:#x}) answers {status:?}", header.message_id, id.raw());
        let (connection, session, signed, encrypted) =
            (waiting.connection, waiting.session, waiting.signed, waiting.encrypted);
        header.flags = (header.flags & Flags::PRIORITY) | Flags::ASYNCHRONOUS;
        header.status = status.0;
        header.tree_or_asynchronous = u64::from(id.raw());
        header.next = 0;
        header.signature = [0; 16];
        let mut draft = Draft::new();
        draft.begin();
        {
            let mut writer = Writer::new(draft.out());
            match body {
                Some(body) => body(&mut writer),
                None => wire::error::emit(&mut writer, None, &[]),
            }
        }
        // 3.3.4.1.1: an interim answer is not signed (GMAC would repeat its nonce).
        let sign = if signed && !encrypted && status != NtStatus::PENDING {
            self.signing_key(session, connection)
        } else {
            None
        };
        draft.end(header, sign);
        let protection = if encrypted {
            // Without the key nothing may go out.
            let Some(protection) = self.protection(session) else { return };
            protection
        } else {
            Protection::default()
        };
        let reply = draft.finish(protection);
        self.queue(connection, reply);
    }

    /// The parked request that a CANCEL means (3.3.5.16).
    pub fn find_waiting(
        &self,
        connection: Id<ConnectionMarker>,
        header: &Header,
    ) -> Option<Id<Waiting<V::Node>>> {
        if header.flags.contains(Flags::ASYNCHRONOUS) {
            let id = Id::from_raw(u32::try_from(header.tree_or_asynchronous).ok()?)?;
            return self.waiting.get(id).filter(|waiting| waiting.connection == connection).map(|_| id);
        }
        let own = self.waiting.iter().filter(|(_, waiting)| waiting.connection == connection);
        if header.message_id == 0 {
            // Samba's client library leaves the number out and means the request sent last. No request that waits can
            // have this number: it was the NEGOTIATE's.
            return own.max_by_key(|(_, waiting)| waiting.header.message_id).map(|(id, _)| id);
        }
        let mut own = own;
        own.find(|(_, waiting)| waiting.header.message_id == header.message_id).map(|(id, _)| id)
    }

    /// The parked requests that `matches` picks.
    pub fn waiting_where(&self, matches: impl Fn(&Waiting<V::Node>) -> bool) -> Vec<Id<Waiting<V::Node>>> {
        self.waiting.iter().filter(|(_, waiting)| matches(waiting)).map(|(id, _)| id).collect()
    }
}

impl<E: Environment> Server<E> {
    /// CANCEL: no answer of its own; the request it names ends with STATUS_CANCELLED if it still waits.
    pub(super) fn cancel(&self, connection: Id<ConnectionMarker>, header: &Header) {
        log::trace!("cancel of {} {:#x} {:?}", header.message_id, header.tree_or_asynchronous, header.flags);
        let mut state = self.state.lock();
        if let Some(id) = state.find_waiting(connection, header) {
            state.complete(id, NtStatus::CANCELLED, None);
        }
    }

    /// Ends what waits on a handle that goes away.
    pub(super) fn end_waiting_on(state: &mut State<E::Volume>, handle: Id<Handle<NodeOf<E>>>) {
        for id in state.waiting_where(|waiting| waiting.handle == Some(handle)) {
            let status = match state.waiting.get(id).map(|waiting| &waiting.kind) {
                // MS-FSA 2.1.5.9: closing the file cancels its lock requests; Windows says so in this way.
                Some(WaitKind::Lock(..)) => NtStatus::RANGE_NOT_LOCKED,
                Some(WaitKind::Notify(_)) => NtStatus::NOTIFY_CLEANUP,
                Some(WaitKind::Again(_)) | None => continue,
            };
            state.complete(id, status, None);
        }
    }
}
