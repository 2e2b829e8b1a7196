//! Durable handles: opens that outlive their connection for a while, in memory (MS-SMB2 3.3.5.9.6, 3.3.5.9.7,
//! 3.3.5.9.10, 3.3.5.9.12), and the replay of a CREATE (3.3.5.9.10).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::caching::{HANDLE, level_wanted, wire_level};
use super::create::{Created, handle_file_id};
use super::dispatch::{Outcome, Request};
use super::lease::LeaseRequest;
use super::names;
use super::state::{Handle, OpenFile, Session, State, Tree};
use super::waiting::WaitKind;
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, UserId, Volume};
use crate::reader::{Malformed, Reader, Writer};
use crate::status::NtStatus;
use crate::wire::FileId;
use crate::wire::create::{self as wire, context};
use crate::wire::header::{Command, Flags};
use crate::wire::oplock_break::level;

/// STATUS_DUPLICATE_OBJECTID: the GUID names another open, and the request does not say it is a replay.
const DUPLICATE_OBJECTID: NtStatus = NtStatus(0xC000_022A);

/// Flag of a version 2 handle: it survives a restart of the server.
const PERSISTENT: u32 = 2;

/// Milliseconds that a handle is kept when the client does not say.
const DEFAULT_TIME: u32 = 60_000;
/// Milliseconds that a handle is kept at most.
const MAXIMUM_TIME: u32 = 300_000;

/// A client, and what it calls a durable open (version 2).
pub(crate) type DurableName = ([u8; 16], [u8; 16]);

/// What is kept of an open that asked to be durable.
pub(crate) struct Durable {
    pub user: UserId,
    pub client: [u8; 16],
    /// The client's name of the open (version 2).
    pub create_guid: Option<[u8; 16]>,
    /// It was granted: the handle outlives its connection.
    pub granted: bool,
    /// How long, in milliseconds.
    pub time: u32,
    /// When it is closed, while it has no connection.
    pub expires: u64,
    /// The answer to its CREATE, for a replay.
    pub action: u32,
    pub oplock: u8,
    pub application: Option<[u8; 16]>,
    /// Nothing but its CREATE has used it: its client may not have got the answer.
    pub untouched: bool,
}

/// What the contexts of a CREATE say about durability.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DurableRequest {
    /// DHnQ.
    pub version_1: bool,
    /// DH2Q: time, GUID.
    pub version_2: Option<(u32, [u8; 16])>,
    /// DHnC or DH2C: the handle, its GUID.
    pub reconnect: Option<(FileId, Option<[u8; 16]>)>,
    pub application: Option<[u8; 16]>,
}

impl DurableRequest {
    pub fn parse(parsed: &wire::Request<'_>) -> Result<DurableRequest, NtStatus> {
        let mut request = DurableRequest {
            version_1: parsed.context(context::DURABLE_REQUEST).is_some(),
            ..DurableRequest::default()
        };
        if let Some(data) = parsed.context(context::DURABLE_REQUEST_2) {
            let mut reader = Reader::new(data);
            let time = reader.u32()?;
            reader.skip(12usize)?;
            request.version_2 = Some((time, reader.array::<16>()?));
        }
        let guid = |data: &[u8]| -> Result<[u8; 16], Malformed> {
            let mut reader = Reader::new(data);
            reader.skip(4usize)?;
            reader.array::<16>()
        };
        request.application = parsed.context(context::APPLICATION_INSTANCE).map(guid).transpose()?;
        let first = parsed.context(context::DURABLE_RECONNECT);
        let second = parsed.context(context::DURABLE_RECONNECT_2);
        if let Some(data) = second {
            // 3.3.5.9.12: nothing else goes with it.
            if first.is_some() || request.version_1 || request.version_2.is_some() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            let mut reader = Reader::new(data);
            let file_id = FileId::parse(&mut reader)?;
            request.reconnect = Some((file_id, Some(reader.array::<16>()?)));
            if reader.u32()? & PERSISTENT != 0 {
                // Such a handle was never given.
                return Err(NtStatus::INVALID_PARAMETER);
            }
        } else if let Some(data) = first {
            if request.version_2.is_some() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            request.reconnect = Some((FileId::parse(&mut Reader::new(data))?, None));
        } else if request.version_1 && request.version_2.is_some() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Ok(request)
    }
}

impl<V: Volume> State<V> {
    /// What is kept of a handle that asked to be durable.
    pub fn durable_of(&mut self, id: Id<Handle<V::Node>>) -> Option<&mut Durable> {
        let extra = self.handles.get(id)?.extra?;
        self.extras.get_mut(extra)?.durable.as_deref_mut()
    }

    /// Notes that a new handle asked to be durable; gives the response context when it is.
    pub fn grant_durable(
        &mut self,
        id: Id<Handle<V::Node>>,
        request: &DurableRequest,
        user: UserId,
        client: [u8; 16],
        answer: (u32, u8),
    ) -> Option<(&'static [u8], Vec<u8>)> {
        if !request.version_1 && request.version_2.is_none() {
            return None;
        }
        let handle = self.handles.get(id)?;
        if self.files.get(handle.file)?.has(OpenFile::<V::Node>::DIRECTORY) {
            // What a directory lists is all there is to it: its client opens it anew.
            return None;
        }
        let leased = self.lease_of(handle).and_then(|lease| self.leases.get(lease));
        // It must be so that nobody is kept out while the client is away: its handle can be broken.
        let granted = match leased {
            Some(lease) => lease.state & HANDLE != 0,
            None => handle.oplock() == 3,
        };
        let time = match request.version_2 {
            Some((0, _)) | None => DEFAULT_TIME,
            Some((time, _)) => time.min(MAXIMUM_TIME),
        };
        let durable = Durable {
            user,
            client,
            create_guid: request.version_2.map(|(_, guid)| guid),
            granted,
            time,
            expires: 0,
            action: answer.0,
            oplock: answer.1,
            application: request.application,
            untouched: true,
        };
        self.extra_of(id)?.durable = Some(Box::new(durable));
        if !granted {
            return None;
        }
        let mut data = Vec::new();
        let mut writer = Writer::new(&mut data);
        if request.version_2.is_some() {
            writer.u32(time);
            writer.u32(0);
            Some((context::DURABLE_REQUEST_2, data))
        } else {
            writer.u64(0);
            Some((context::DURABLE_REQUEST, data))
        }
    }

    /// A request uses a handle that has more to it. Once the client has counted a channel failure, what it sent before
    /// may arrive late and must not change anything (3.3.5.2.10).
    ///
    /// # Errors
    /// FILE_NOT_AVAILABLE: the request is one of those.
    pub fn note_use(&mut self, id: Id<Handle<V::Node>>, request: &Request<'_>) -> Result<(), NtStatus> {
        let extra = self.extra_of(id).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        if let Some(durable) = extra.durable.as_deref_mut() {
            durable.untouched = false;
        }
        let ahead = request.channel_sequence().wrapping_sub(extra.channel_sequence);
        if ahead <= 0x7FFF {
            extra.channel_sequence = request.channel_sequence();
            return Ok(());
        }
        match Command::from_number(request.header.command) {
            Some(Command::Write | Command::SetInfo | Command::Ioctl) => Err(NtStatus::FILE_NOT_AVAILABLE),
            _ => Ok(()),
        }
    }

    /// Takes a handle from its connection that is lost, if it is durable; false when it must be closed.
    pub fn keep_durable(&mut self, id: Id<Handle<V::Node>>, now: u64) -> bool {
        let Some(handle) = self.handles.get(id) else { return false };
        let doomed =
            self.files.get(handle.file).is_none_or(|file| file.has(OpenFile::<V::Node>::DELETE_PENDING));
        let held = match self.lease_of(handle).and_then(|lease| self.leases.get(lease)) {
            Some(lease) => lease.state & HANDLE != 0 && lease.breaking.is_none(),
            None => handle.oplock() == 3 && !handle.has(Handle::<V::Node>::BREAKING),
        };
        if doomed || !held {
            return false;
        }
        let Some(durable) = self.durable_of(id).filter(|durable| durable.granted) else { return false };
        durable.expires = now.saturating_add(u64::from(durable.time));
        if let Some(handle) = self.handles.get_mut(id) {
            handle.tree = None;
        }
        true
    }
}

impl<E: Environment> Server<E> {
    /// Gives a durable handle back to the client that lost its connection.
    pub(super) fn reconnect(
        &self,
        request: &Request<'_>,
        parsed: &wire::Request<'_>,
        tree: Id<Tree>,
        (client, lease): ([u8; 16], Option<&LeaseRequest>),
        wanted: (FileId, Option<[u8; 16]>),
        writer: &mut Writer<'_>,
    ) -> Result<Created<PayloadOf<E>>, NtStatus> {
        let (file_id, guid) = wanted;
        let id = u32::try_from(file_id.persistent)
            .ok()
            .and_then(Id::<Handle<NodeOf<E>>>::from_raw)
            .ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let (volume, node, held) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let user =
                request.session.and_then(|session| state.sessions.get(session)).map(|entry| entry.user);
            let volume = state.trees.get(tree).and_then(|tree| tree.volume);
            let handle = state.handles.get(id).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            let file = handle.file;
            let held = state.lease_of(handle).and_then(|lease| state.leases.get(lease));
            let held = held.map(|lease| (lease.client, lease.key));
            let connected = handle.tree.is_some();
            let durable = state.durable_of(id).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            // Version 1 does not say the GUID; a handle of version 1 has zeros for one.
            let same = guid.is_none_or(|guid| durable.create_guid.unwrap_or_default() == guid);
            if connected || !durable.granted || !same {
                return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
            }
            log::trace!("reconnect of {held:?} by {client:?} {lease:?}");
            // 3.3.5.9.7: a lease is given back to its client and by its key; without one there must be none.
            match (held, lease) {
                (None, None) => {}
                (Some(held), Some(asked)) if held.0 == client && held.1 == asked.key => {}
                _ => return Err(NtStatus::OBJECT_NAME_NOT_FOUND),
            }
            if Some(durable.user) != user {
                return Err(NtStatus::ACCESS_DENIED);
            }
            let entry = state.files.get(file).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            if Some(entry.volume) != volume {
                return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
            }
            let volume =
                state.volumes.get(usize::from(entry.volume)).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            (volume.clone(), entry.node, held)
        };
        if held.is_some() {
            // The name must still be the file's.
            let mut path = Vec::new();
            volume.path(node, &mut path)?;
            if !names::equal(&path, &parsed.name) {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let metadata = volume.metadata(node)?;
        let mut contexts: Vec<(&[u8], Vec<u8>)> = Vec::new();
        let oplock = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let handle = state.handles.get_mut(id).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            if handle.tree.is_some() {
                return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
            }
            handle.tree = Some(tree);
            let oplock = wire_level(handle.oplock());
            if let Some(durable) = state.durable_of(id) {
                durable.expires = 0;
            }
            if let Some(extra) = state.handles.get(id).and_then(|handle| handle.extra) {
                let extra = state.extras.get_mut(extra).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                extra.channel_sequence = request.channel_sequence();
            }
            let held = state.handles.get(id).and_then(|handle| state.lease_of(handle));
            match held.and_then(|lease| state.leases.get(lease)) {
                Some(lease) => {
                    contexts.push((context::LEASE, lease.context()));
                    level::LEASE
                }
                None => oplock,
            }
        };
        let file_id = handle_file_id(id);
        wire::Response {
            oplock,
            action: wire::action::OPENED,
            times: [metadata.created.0, metadata.accessed.0, metadata.modified.0, metadata.modified.0],
            allocated: metadata.allocated,
            size: metadata.size,
            attributes: metadata.attributes.to_wire(),
            file_id,
            contexts: &contexts,
        }
        .emit(writer);
        Ok((Some(file_id), Outcome::Done(NtStatus::SUCCESS)))
    }

    /// The open that a CREATE with this GUID made before: `None` when there is none. For a replay, the answer is given
    /// once more.
    pub(super) fn replay(
        &self,
        request: &Request<'_>,
        parsed: &wire::Request<'_>,
        tree: Id<Tree>,
        guid: [u8; 16],
        (client, lease): ([u8; 16], Option<&LeaseRequest>),
        writer: &mut Writer<'_>,
    ) -> Result<Option<Created<PayloadOf<E>>>, NtStatus> {
        let again = request.header.flags.contains(Flags::REPLAY);
        let (id, volume, node, action, mut oplock, time, mut granted, context) = {
            let state = self.state.lock();
            let pending = |kind: &WaitKind| match kind {
                WaitKind::Again(waiting) => waiting.name == Some((client, guid)),
                _ => false,
            };
            if again
                && request.resumed.is_none()
                && state.waiting.iter().any(|(_, waiting)| pending(&waiting.kind))
            {
                // What it repeats is still waiting.
                return Err(NtStatus::FILE_NOT_AVAILABLE);
            }
            let mut named = state.handles.iter().filter_map(|(id, handle)| {
                let durable = state.extras.get(handle.extra?)?.durable.as_deref()?;
                (durable.create_guid == Some(guid) && durable.client == client)
                    .then_some((id, handle, durable))
            });
            // 3.3.5.9.10: once the client has used the handle, it has had the answer.
            let found = if again { named.find(|(_, _, durable)| durable.untouched) } else { named.next() };
            let Some((id, handle, durable)) = found else { return Ok(None) };
            if !again {
                return Err(DUPLICATE_OBJECTID);
            }
            let user =
                request.session.and_then(|session| state.sessions.get(session)).map(|entry| entry.user);
            if Some(durable.user) != user {
                return Err(NtStatus::ACCESS_DENIED);
            }
            if handle.tree != Some(tree) {
                return Err(NtStatus::FILE_NOT_AVAILABLE);
            }
            let current = state.lease_of(handle).and_then(|lease| state.leases.get(lease));
            // 3.3.5.9.10: the replay asks for the same lease, or for none like the first.
            if current.map(|lease| lease.key) != lease.map(|lease| lease.key) {
                return Err(NtStatus::ACCESS_DENIED);
            }
            let file = state.files.get(handle.file).ok_or(NtStatus::FILE_CLOSED)?;
            let volume = state.volumes.get(usize::from(file.volume)).ok_or(NtStatus::FILE_CLOSED)?;
            let (action, oplock, time, granted) =
                (durable.action, durable.oplock, durable.time, durable.granted);
            let context = current.map(|lease| lease.context());
            (id, volume.clone(), file.node, action, oplock, time, granted, context)
        };
        let metadata = volume.metadata(node)?;
        let mut contexts: Vec<(&[u8], Vec<u8>)> = Vec::new();
        if let Some(lease) = context {
            oplock = level::LEASE;
            contexts.push((context::LEASE, lease));
        } else if level_wanted(parsed.oplock) < level_wanted(oplock) {
            // As Windows has it: who asks for less the second time is told of less.
            oplock = parsed.oplock;
            granted = false;
        }
        if granted {
            let mut data = Vec::new();
            let mut writer = Writer::new(&mut data);
            writer.u32(time);
            writer.u32(0);
            contexts.push((context::DURABLE_REQUEST_2, data));
        }
        let file_id = handle_file_id(id);
        wire::Response {
            oplock,
            action,
            times: [metadata.created.0, metadata.accessed.0, metadata.modified.0, metadata.modified.0],
            allocated: metadata.allocated,
            size: metadata.size,
            attributes: metadata.attributes.to_wire(),
            file_id,
            contexts: &contexts,
        }
        .emit(writer);
        Ok(Some((Some(file_id), Outcome::Done(NtStatus::SUCCESS))))
    }

    /// Another node of a cluster takes the application's opens over (3.3.5.9.13): those of other clients are closed.
    pub(super) fn take_over(&self, application: [u8; 16], client: [u8; 16]) {
        let others: Vec<_> = {
            let state = self.state.lock();
            let of = |handle: &Handle<NodeOf<E>>| {
                let durable = state.extras.get(handle.extra?)?.durable.as_deref()?;
                (durable.application == Some(application) && durable.client != client).then_some(())
            };
            state.handles.iter().filter(|(_, handle)| of(handle).is_some()).map(|(id, _)| id).collect()
        };
        for id in others {
            let _ = self.close_handle(id);
        }
    }

    /// Closes the handles that were found to be in the way while their clients are away.
    pub(super) fn purge(&self) -> bool {
        let mut any = false;
        loop {
            let Some(id) = self.state.lock().purge.pop() else { return any };
            any = true;
            let _ = self.close_handle(id);
        }
    }

    /// Closes durable handles whose clients did not come back.
    pub(super) fn scavenge(&self, now: u64) {
        let expired: Vec<_> = {
            let state = self.state.lock();
            let late = |handle: &Handle<NodeOf<E>>| {
                let durable = state.extras.get(handle.extra?)?.durable.as_deref()?;
                (handle.tree.is_none() && durable.expires <= now).then_some(())
            };
            state.handles.iter().filter(|(_, handle)| late(handle).is_some()).map(|(id, _)| id).collect()
        };
        for id in expired {
            let _ = self.close_handle(id);
        }
    }
}

/// Whether a session's handles may outlive it.
pub(super) fn may_outlive(session: &Session) -> bool {
    session.has(Session::VALID) && !session.has(Session::ANONYMOUS)
}
