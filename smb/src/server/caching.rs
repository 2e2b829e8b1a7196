//! Oplocks and leases: what clients may keep in their caches, and how they are told to give it up (MS-SMB2 3.3.4.6,
//! 3.3.4.7, 3.3.5.9.8, 3.3.5.9.11, 3.3.5.22; MS-FSA 2.1.4.12, 2.1.5.18).
//!
//! Both are seen here as three rights: to cache reads, writes, and the open handle itself. Level II is R, exclusive is RW,
//! batch is RWH.

use alloc::vec::Vec;

use super::create::compatible;
use super::dispatch::{Handled, Outcome, Request};
use super::reply::Draft;
use super::state::{ConnectionMarker, Handle, OpenFile, Session, State};
use super::waiting::WaitKind;
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::fscc::AccessMask;
use crate::reader::{Malformed, Reader, Writer};
use crate::status::NtStatus;
use crate::wire::header::{Command, Flags, Header};
use crate::wire::oplock_break::{self, Acknowledgment, LeaseNotification, level};

/// Cache reads.
pub(crate) const READ: u8 = 1;
/// Keep the handle open after the application closed it.
pub(crate) const HANDLE: u8 = 2;
/// Cache writes.
pub(crate) const WRITE: u8 = 4;

/// Milliseconds until a client that does not answer a break is taken to have done so, as in Windows.
pub(super) const BREAK_TIME: u64 = 35_000;

/// Response flag: the lease is being broken.
const LEASE_BREAK_IN_PROGRESS: u32 = 2;
/// The request and response name the lease of the directory above.
const LEASE_PARENT_KEY: u32 = 4;

/// Rights that do not touch what is cached.
const STAT_RIGHTS: AccessMask = AccessMask::READ_ATTRIBUTES
    .union(AccessMask::WRITE_ATTRIBUTES)
    .union(AccessMask::SYNCHRONIZE)
    .union(AccessMask::READ_CONTROL);

/// A client's lease of a file.
pub(crate) struct Lease {
    pub client: [u8; 16],
    pub key: [u8; 16],
    /// Raw id of its open file.
    pub file: u32,
    /// Handles under it.
    pub handles: u16,
    pub epoch: u16,
    pub state: u8,
    /// What it is to be after a break that was not acknowledged yet.
    pub breaking: Option<u8>,
    pub version_2: bool,
    /// Where to tell its client.
    pub connection: Id<ConnectionMarker>,
}

/// What a lease context asks for (2.2.13.2.8, 2.2.13.2.10).
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseRequest {
    pub key: [u8; 16],
    pub state: u8,
    pub flags: u32,
    pub parent: [u8; 16],
    pub epoch: u16,
    pub version_2: bool,
}

impl LeaseRequest {
    pub fn parse(data: &[u8]) -> Result<LeaseRequest, Malformed> {
        let mut reader = Reader::new(data);
        let key = reader.array::<16>()?;
        let state = (reader.u32()? & 7) as u8;
        let flags = reader.u32()?;
        reader.skip(8usize)?;
        let version_2 = data.len() >= 52;
        let (parent, epoch) = if version_2 { (reader.array::<16>()?, reader.u16()?) } else { ([0; 16], 0) };
        Ok(LeaseRequest { key, state, flags, parent, epoch, version_2 })
    }
}

/// What a request that meets other handles' caches is about to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Contention {
    /// Open with these rights and share modes.
    Open { access: AccessMask, share: u32, overwrite: bool },
    /// Change data: nobody else's cached reads hold any more.
    Change,
}

/// Whose caches are not touched: those of the handle or lease that acts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Actor {
    pub handle: Option<u32>,
    pub lease: Option<([u8; 16], [u8; 16])>,
}

/// Which rights an oplock level is.
fn rights_of_level(level: u32) -> u8 {
    match level {
        0 => 0,
        1 => READ,
        2 => READ | WRITE,
        _ => READ | WRITE | HANDLE,
    }
}

impl<V: Volume> State<V> {
    /// The lease that a handle is under.
    pub fn lease_of(&self, handle: &Handle<V::Node>) -> Option<Id<Lease>> {
        if !handle.has(Handle::<V::Node>::LEASED) {
            return None;
        }
        self.extras.get(handle.extra?)?.lease
    }

    /// What a handle's client may cache, and what it will be after a break under way.
    fn caching(&self, handle: &Handle<V::Node>) -> (u8, Option<u8>) {
        if let Some(lease) = self.lease_of(handle).and_then(|lease| self.leases.get(lease)) {
            return (lease.state, lease.breaking);
        }
        let state = rights_of_level(handle.oplock());
        let breaking = handle
            .has(Handle::<V::Node>::BREAKING)
            .then(|| if handle.has(Handle::<V::Node>::BREAKING_TO_II) { READ } else { 0 });
        (state, breaking)
    }

    fn is_actor(&self, id: Id<Handle<V::Node>>, handle: &Handle<V::Node>, actor: &Actor) -> bool {
        if actor.handle == Some(id.raw()) {
            return true;
        }
        let Some(lease) = self.lease_of(handle).and_then(|lease| self.leases.get(lease)) else {
            return false;
        };
        actor.lease == Some((lease.client, lease.key))
    }

    /// Breaks what stands in the way of `contention`. True when the request must wait for acknowledgments.
    ///
    /// # Errors
    /// SHARING_VIOLATION, when share modes conflict and no handle in conflict is merely cached.
    pub fn contend(
        &mut self,
        file: Id<OpenFile<V::Node>>,
        actor: &Actor,
        contention: Contention,
    ) -> Result<bool, NtStatus> {
        struct Other<N> {
            id: Id<Handle<N>>,
            state: u8,
            breaking: Option<u8>,
            conflict: bool,
            own: bool,
            leased: bool,
        }
        let others: Vec<Other<V::Node>> = self
            .handles_of(file)
            .map(|(id, handle)| {
                let (state, breaking) = self.caching(handle);
                let conflict = match contention {
                    Contention::Open { access, share, .. } => {
                        !compatible((access, share), (handle.access(), handle.share()))
                    }
                    Contention::Change => false,
                };
                Other {
                    id,
                    state,
                    breaking,
                    conflict,
                    own: self.is_actor(id, handle, actor),
                    leased: handle.has(Handle::<V::Node>::LEASED),
                }
            })
            .collect();
        let violation = others.iter().any(|other| other.conflict);
        let mut wait = false;
        for other in &others {
            if other.state == 0 {
                continue;
            }
            // Level II does not even outlast its own handle's change; a lease outlasts its own client's.
            let level_ii = other.state == READ && !other.leased;
            if other.own && !(level_ii && matches!(contention, Contention::Change)) {
                continue;
            }
            let (target, delaying) = match contention {
                Contention::Open { .. } if violation => {
                    if !other.conflict {
                        continue;
                    }
                    (other.state & !HANDLE, HANDLE)
                }
                Contention::Open { overwrite: true, .. } => (0, WRITE),
                Contention::Open { access, .. } => {
                    if (access - STAT_RIGHTS).is_empty() {
                        continue;
                    }
                    (other.state & !WRITE, WRITE)
                }
                Contention::Change => (0, 0),
            };
            if other.state & delaying != 0 {
                wait = true;
            }
            if target != other.state && self.handles.get(other.id).is_some_and(|handle| handle.tree.is_none())
            {
                // Its client is away and cannot answer: the handle is closed.
                self.purge.push(other.id);
                continue;
            }
            if target != other.state && other.breaking.is_none() {
                self.send_break(other.id, target);
            }
        }
        if violation && !wait && self.purge.is_empty() {
            Err(NtStatus::SHARING_VIOLATION)
        } else {
            Ok(wait || !self.purge.is_empty())
        }
    }

    /// Tells a client that its caching goes down to `target`.
    fn send_break(&mut self, id: Id<Handle<V::Node>>, target: u8) {
        let Some(handle) = self.handles.get(id) else { return };
        let connection = handle
            .tree
            .and_then(|tree| self.trees.get(tree))
            .and_then(|tree| self.connection_of(tree.session));
        if let Some(lease_id) = self.lease_of(handle) {
            let Some(lease) = self.leases.get_mut(lease_id) else { return };
            if lease.breaking.is_some() {
                return;
            }
            let acknowledge = lease.state & (WRITE | HANDLE) != 0;
            if lease.version_2 {
                lease.epoch = lease.epoch.wrapping_add(1);
            }
            let notification = LeaseNotification {
                epoch: if lease.version_2 { lease.epoch } else { 0 },
                acknowledge,
                key: lease.key,
                current: u32::from(lease.state),
                new: u32::from(target),
            };
            if acknowledge {
                lease.breaking = Some(target);
            } else {
                lease.state = target;
            }
            let connection = connection.unwrap_or(lease.connection);
            self.notify_client(connection, |writer| notification.emit(writer));
            return;
        }
        let to_ii = target & READ != 0;
        let Some(handle) = self.handles.get_mut(id) else { return };
        if handle.oplock() == 1 {
            handle.set_oplock(0);
        } else {
            handle.set(Handle::<V::Node>::BREAKING, true);
            handle.set(Handle::<V::Node>::BREAKING_TO_II, to_ii);
        }
        let level = if to_ii { level::LEVEL_II } else { level::NONE };
        if let Some(connection) = connection {
            let file_id = super::create::handle_file_id(id);
            self.notify_client(connection, |writer| oplock_break::emit_oplock(writer, level, file_id));
        }
    }

    fn notify_client(&mut self, connection: Id<ConnectionMarker>, body: impl FnOnce(&mut Writer<'_>)) {
        let mut draft = Draft::new();
        draft.begin();
        body(&mut Writer::new(draft.out()));
        let header = Header {
            credit_charge: 0,
            status: NtStatus::SUCCESS.0,
            command: Command::OplockBreak as u16,
            credits: 0,
            flags: Flags::empty(),
            next: 0,
            message_id: u64::MAX,
            tree_or_asynchronous: 0,
            session_id: 0,
            signature: [0; 16],
        };
        draft.end(header, None);
        // 3.3.4.1.4: with encryption required of the session, its notifications are encrypted, too.
        let sealing = self
            .sessions
            .iter()
            .find(|(_, session)| session.connection == Some(connection) && session.has(Session::ENCRYPT))
            .map(|(id, _)| id);
        let protection = sealing.and_then(|session| self.protection(session)).unwrap_or_default();
        let reply = draft.finish(protection);
        self.queue(connection, reply);
    }

    /// Grants a new handle what it asked for, as far as others leave it. `wanted` are the rights of an oplock.
    pub fn grant_oplock(&mut self, id: Id<Handle<V::Node>>, wanted: u32) -> u32 {
        let Some(handle) = self.handles.get(id) else { return 0 };
        let file = handle.file;
        if wanted == 0 || self.files.get(file).is_none_or(|file| file.has(OpenFile::<V::Node>::DIRECTORY)) {
            return 0;
        }
        let mut granted = wanted;
        for (other, entry) in self.handles_of(file) {
            if other == id {
                continue;
            }
            let (state, _) = self.caching(entry);
            if !(entry.access() - STAT_RIGHTS).is_empty() || state != 0 {
                granted = granted.min(1);
            }
            if entry.has(Handle::<V::Node>::LEASED) && state & HANDLE != 0 {
                granted = 0;
            }
            if state & WRITE != 0 {
                granted = 0;
            }
        }
        if self.files.get(file).is_some_and(|file| file.locks.is_some()) {
            granted = 0;
        }
        if let Some(handle) = self.handles.get_mut(id) {
            handle.set_oplock(granted);
        }
        granted
    }

    /// The lease of a client with this key.
    pub fn find_lease(&self, client: &[u8; 16], key: &[u8; 16]) -> Option<Id<Lease>> {
        self.leases.iter().find(|(_, lease)| lease.key == *key && lease.client == *client).map(|(id, _)| id)
    }

    /// Puts a new handle under the lease that it asked for, made when it is new; gives the response context.
    pub fn grant_lease(
        &mut self,
        id: Id<Handle<V::Node>>,
        client: [u8; 16],
        connection: Id<ConnectionMarker>,
        request: &LeaseRequest,
    ) -> Option<Vec<u8>> {
        let file = self.handles.get(id)?.file;
        let directory = self.files.get(file)?.has(OpenFile::<V::Node>::DIRECTORY);
        let mut wanted = request.state;
        // Without cached reads there is nothing else to cache.
        if wanted & READ == 0 || directory {
            wanted = 0;
        }
        let actor = Actor { handle: Some(id.raw()), lease: Some((client, request.key)) };
        for (other, entry) in self.handles_of(file) {
            if other == id || self.is_actor(other, entry, &actor) {
                continue;
            }
            let (state, _) = self.caching(entry);
            if !(entry.access() - STAT_RIGHTS).is_empty() || state != 0 {
                wanted &= !WRITE;
            }
            if state != 0 && !entry.has(Handle::<V::Node>::LEASED) {
                wanted &= !HANDLE;
            }
            if state & WRITE != 0 {
                wanted = 0;
            }
        }
        if self.files.get(file)?.locks.is_some() {
            wanted &= !(READ | WRITE);
            if wanted & READ == 0 {
                wanted = 0;
            }
        }
        let mut new = false;
        let lease = match self.find_lease(&client, &request.key) {
            Some(lease) => lease,
            None => {
                if wanted == 0 && directory {
                    return Some(response(request, 0, 0, request.epoch));
                }
                let lease = Lease {
                    client,
                    key: request.key,
                    file: file.raw(),
                    handles: 0,
                    epoch: request.epoch,
                    state: 0,
                    breaking: None,
                    version_2: request.version_2,
                    connection,
                };
                new = true;
                self.leases.insert(lease).ok()?
            }
        };
        self.extra_of(id)?.lease = Some(lease);
        self.handles.get_mut(id)?.set(Handle::<V::Node>::LEASED, true);
        let lease = self.leases.get_mut(lease)?;
        lease.handles = lease.handles.saturating_add(1);
        lease.connection = connection;
        let mut flags = 0;
        if lease.breaking.is_some() {
            flags = LEASE_BREAK_IN_PROGRESS;
        } else if (new || wanted == request.state)
            && wanted & lease.state == lease.state
            && wanted != lease.state
        {
            // 3.3.5.9.8: only more is granted, never less; and an upgrade is granted whole or not at all.
            lease.state = wanted;
            lease.epoch = lease.epoch.wrapping_add(1);
        }
        Some(response(request, flags, lease.state, lease.epoch))
    }

    /// A handle is gone: its lease may be, too, and who waited for it goes on.
    pub fn drop_caching(&mut self, lease: Option<Id<Lease>>, file: Id<OpenFile<V::Node>>) {
        if let Some(id) = lease
            && let Some(lease) = self.leases.get_mut(id)
        {
            lease.handles = lease.handles.saturating_sub(1);
            if lease.handles == 0 {
                self.leases.remove(id);
            }
        }
        self.wake(file);
    }

    /// Lets the requests that wait for a file's breaks try again.
    pub fn wake(&mut self, file: Id<OpenFile<V::Node>>) {
        let raw = file.raw();
        let waiting = self.waiting_where(|waiting| match &waiting.kind {
            WaitKind::Again(again) => again.file == raw && !again.queued,
            _ => false,
        });
        for id in waiting {
            if let Some(WaitKind::Again(again)) = self.waiting.get_mut(id).map(|waiting| &mut waiting.kind) {
                again.queued = true;
                self.resumable.push_back(id);
            }
        }
    }

    /// Nobody answered: the breaks of a file's handles are taken as acknowledged.
    pub fn force_breaks(&mut self, file: Id<OpenFile<V::Node>>) {
        let handles: Vec<_> = self.handles_of(file).map(|(id, _)| id).collect();
        for id in handles {
            let Some(handle) = self.handles.get_mut(id) else { continue };
            if handle.has(Handle::<V::Node>::BREAKING) {
                let level = u32::from(handle.has(Handle::<V::Node>::BREAKING_TO_II));
                handle.set(Handle::<V::Node>::BREAKING, false);
                handle.set_oplock(level);
            }
            let lease = self.handles.get(id).and_then(|handle| self.lease_of(handle));
            if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(lease))
                && let Some(target) = lease.breaking.take()
            {
                lease.state = target;
            }
        }
        self.wake(file);
    }
}

/// The response context.
pub(super) fn response(request: &LeaseRequest, flags: u32, state: u8, epoch: u16) -> Vec<u8> {
    let mut data = Vec::new();
    let mut writer = Writer::new(&mut data);
    writer.bytes(&request.key);
    writer.u32(u32::from(state));
    let parent = request.version_2 && request.flags & LEASE_PARENT_KEY != 0;
    writer.u32(flags | if parent { LEASE_PARENT_KEY } else { 0 });
    writer.u64(0);
    if request.version_2 {
        writer.bytes(if parent { &request.parent } else { &[0; 16] });
        writer.u16(epoch);
        writer.u16(0);
    }
    data
}

impl<E: Environment> Server<E> {
    /// An acknowledgment of a break (3.3.5.22).
    pub(super) fn acknowledge(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let session = request.session.ok_or(NtStatus::USER_SESSION_DELETED)?;
        let mut state = self.state.lock();
        let state = &mut *state;
        match Acknowledgment::parse(request.message)? {
            Acknowledgment::Oplock { level, file_id } => {
                let (tree, _) = state
                    .find_tree(session, request.header.tree_id())
                    .ok_or(NtStatus::NETWORK_NAME_DELETED)?;
                let id = u32::try_from(file_id.volatile)
                    .ok()
                    .and_then(Id::<Handle<NodeOf<E>>>::from_raw)
                    .ok_or(NtStatus::FILE_CLOSED)?;
                let handle = state.handles.get_mut(id).ok_or(NtStatus::FILE_CLOSED)?;
                if handle.tree != Some(tree) {
                    return Err(NtStatus::FILE_CLOSED);
                }
                if level == level::LEASE {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                if !handle.has(Handle::<NodeOf<E>>::BREAKING) {
                    return Err(NtStatus::INVALID_OPLOCK_PROTOCOL);
                }
                let to_ii = handle.has(Handle::<NodeOf<E>>::BREAKING_TO_II);
                handle.set(Handle::<NodeOf<E>>::BREAKING, false);
                let valid = level == level::NONE || (level == level::LEVEL_II && to_ii);
                let kept = u32::from(valid && level == level::LEVEL_II);
                handle.set_oplock(kept);
                let file = handle.file;
                state.wake(file);
                if !valid {
                    return Err(NtStatus::INVALID_OPLOCK_PROTOCOL);
                }
                oplock_break::emit_oplock(writer, level, file_id);
            }
            Acknowledgment::Lease { key, state: kept } => {
                let client = state
                    .connections
                    .get(super::state::connection_id(request.connection).ok_or(NtStatus::FILE_CLOSED)?)
                    .map(|connection| connection.client_guid)
                    .ok_or(NtStatus::FILE_CLOSED)?;
                let id = state.find_lease(&client, &key).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                let lease = state.leases.get_mut(id).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                let target = lease.breaking.ok_or(NtStatus::UNSUCCESSFUL)?;
                if kept & !u32::from(target) != 0 {
                    return Err(NtStatus::REQUEST_NOT_ACCEPTED);
                }
                lease.breaking = None;
                lease.state = kept as u8;
                if let Some(file) = Id::from_raw(lease.file) {
                    state.wake(file);
                }
                oplock_break::emit_lease(writer, &key, kept);
            }
        }
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// To be called about once a second: ends waits that have lasted too long and frees what outlived its time.
    pub fn tick(&self) {
        let now = self.environment.monotonic_milliseconds();
        {
            let mut state = self.state.lock();
            let state = &mut *state;
            let late: Vec<_> = state
                .waiting
                .iter()
                .filter_map(|(_, waiting)| match &waiting.kind {
                    WaitKind::Again(again) if !again.queued && again.deadline <= now => Some(again.file),
                    _ => None,
                })
                .collect();
            for file in late {
                if let Some(file) = Id::from_raw(file) {
                    state.force_breaks(file);
                }
            }
        }
        self.scavenge(now);
        self.resume();
        self.announce();
    }

    /// Other clients' cached reads of a file do not hold any more.
    pub(super) fn change_contends(&self, file: Id<OpenFile<NodeOf<E>>>, handle: Id<Handle<NodeOf<E>>>) {
        let mut state = self.state.lock();
        // One handle has nobody to disturb, but for its own level II.
        let alone = state
            .files
            .get(file)
            .and_then(|file| file.first_handle)
            .and_then(|first| state.handles.get(first))
            .is_none_or(|first| first.next.is_none() && first.oplock() != 1);
        if alone {
            return;
        }
        let lease = state
            .handles
            .get(handle)
            .and_then(|handle| state.lease_of(handle))
            .and_then(|lease| state.leases.get(lease))
            .map(|lease| (lease.client, lease.key));
        let actor = Actor { handle: Some(handle.raw()), lease };
        let _ = state.contend(file, &actor, Contention::Change);
        drop(state);
        self.purge();
    }
}

/// What the wire calls an oplock of one of the four levels.
pub(super) fn wire_level(granted: u32) -> u8 {
    match granted {
        0 => level::NONE,
        1 => level::LEVEL_II,
        2 => level::EXCLUSIVE,
        _ => level::BATCH,
    }
}

/// One of the four levels for what the wire asks; a lease and unknown ones are none.
pub(super) fn level_wanted(wire: u8) -> u32 {
    match wire {
        level::LEVEL_II => 1,
        level::EXCLUSIVE => 2,
        level::BATCH => 3,
        _ => 0,
    }
}
