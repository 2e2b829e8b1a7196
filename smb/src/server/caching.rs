//! Oplocks and leases: what clients may keep in their caches, and how they are told to give it up (MS-SMB2 3.3.4.6,
//! 3.3.5.22; MS-FSA 2.1.4.12, 2.1.5.18).
//!
//! Both are seen here as three rights: to cache reads, writes, and the open handle itself. Level II is R, exclusive is RW,
//! batch is RWH.

use alloc::vec::Vec;

use super::create::compatible;
use super::dispatch::{Handled, Outcome, Request};
use super::lease::{Lease, LeaseKey};
use super::reply::Draft;
use super::state::{ConnectionMarker, Handle, OpenFile, Session, State};
use super::waiting::WaitKind;
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::fscc::AccessMask;
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire::header::{Command, Flags, Header};
use crate::wire::oplock_break::{self, Acknowledgment, level};

/// Cache reads.
pub(crate) const READ: u8 = 1;
/// Keep the handle open after the application closed it.
pub(crate) const HANDLE: u8 = 2;
/// Cache writes.
pub(crate) const WRITE: u8 = 4;

/// Milliseconds until a client that does not answer a break is taken to have done so, as in Windows.
pub(super) const BREAK_TIME: u64 = 35_000;

/// Rights that do not touch what is cached under an oplock.
const OPLOCK_STAT_RIGHTS: AccessMask =
    AccessMask::READ_ATTRIBUTES.union(AccessMask::WRITE_ATTRIBUTES).union(AccessMask::SYNCHRONIZE);

/// Rights that do not touch what is cached under a lease.
pub(super) const LEASE_STAT_RIGHTS: AccessMask = OPLOCK_STAT_RIGHTS.union(AccessMask::READ_CONTROL);

/// What a request that meets other handles' caches is about to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Contention {
    /// Open with these rights and share modes.
    Open { access: AccessMask, share: u32, overwrite: bool },
    /// Change data: nobody else's cached reads hold any more.
    Change,
    /// Rename: handles that are only cached must be given up first.
    Rename,
    /// Mark it to be deleted: handles that are only cached should be given up.
    Delete,
}

/// Whose caches are not touched: those of the handle or lease that acts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Actor {
    pub handle: Option<u32>,
    pub lease: Option<([u8; 16], LeaseKey)>,
    /// The lease of the directory above, which knows of what its client does.
    pub parent: Option<LeaseKey>,
    /// It has waited for others before.
    pub waited: bool,
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
    /// What a handle's client may cache, and what it will be after a break under way.
    pub fn caching(&self, handle: &Handle<V::Node>) -> u8 {
        match self.lease_of(handle).and_then(|lease| self.leases.get(lease)) {
            Some(lease) => lease.state,
            None => rights_of_level(handle.oplock()),
        }
    }

    /// Whether a break of a handle's lease is under way.
    fn is_breaking(&self, handle: Id<Handle<V::Node>>) -> bool {
        let lease = self.handles.get(handle).and_then(|handle| self.lease_of(handle));
        lease.and_then(|lease| self.leases.get(lease)).is_some_and(|lease| lease.breaking.is_some())
    }

    /// A handle as the one that acts.
    pub fn actor(&self, handle: Id<Handle<V::Node>>) -> Actor {
        let lease = self.handles.get(handle).and_then(|handle| self.lease_of(handle));
        let lease = lease.and_then(|lease| self.leases.get(lease));
        Actor {
            handle: Some(handle.raw()),
            lease: lease.map(|lease| (lease.client, lease.key)),
            parent: lease.and_then(|lease| lease.parent),
            waited: false,
        }
    }

    pub fn is_actor(&self, id: Id<Handle<V::Node>>, handle: &Handle<V::Node>, actor: &Actor) -> bool {
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
            conflict: bool,
            own: bool,
            leased: bool,
        }
        let others: Vec<Other<V::Node>> = self
            .handles_of(file)
            .map(|(id, handle)| {
                let state = self.caching(handle);
                let conflict = match contention {
                    Contention::Open { access, share, .. } => {
                        !compatible((access, share), (handle.access(), handle.share()))
                    }
                    Contention::Change | Contention::Rename | Contention::Delete => false,
                };
                Other {
                    id,
                    state,
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
                    let harmless = if other.leased { LEASE_STAT_RIGHTS } else { OPLOCK_STAT_RIGHTS };
                    if (access - harmless).is_empty() {
                        continue;
                    }
                    (other.state & !WRITE, WRITE)
                }
                Contention::Change => (0, 0),
                Contention::Rename | Contention::Delete if !other.leased => continue,
                Contention::Rename => (other.state & !HANDLE, HANDLE),
                Contention::Delete => (other.state & !HANDLE, 0),
            };
            // Who waited for a break waits to the end of it, although it may go further than this request needs.
            let breaking = actor.waited && other.leased && self.is_breaking(other.id);
            if other.state & delaying != 0 || breaking {
                wait = true;
            }
            if target != other.state && self.handles.get(other.id).is_some_and(|handle| handle.tree.is_none())
            {
                // Its client is away and cannot answer: the handle is closed.
                self.purge.push(other.id);
                continue;
            }
            if target != other.state {
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
        if let Some(lease) = self.lease_of(handle) {
            self.break_lease(lease, target);
            return;
        }
        if handle.has(Handle::<V::Node>::BREAKING) {
            return;
        }
        let connection = handle
            .tree
            .and_then(|tree| self.trees.get(tree))
            .and_then(|tree| self.connection_of(tree.session));
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

    pub fn notify_client(&mut self, connection: Id<ConnectionMarker>, body: impl FnOnce(&mut Writer<'_>)) {
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
            let state = self.caching(entry);
            if !(entry.access() - OPLOCK_STAT_RIGHTS).is_empty() || state != 0 {
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

    /// A handle is gone: its lease may be, too, and who waited for it goes on.
    pub fn drop_caching(&mut self, lease: Option<Id<Lease>>, file: Id<OpenFile<V::Node>>) {
        if let Some(lease) = lease {
            self.leave_lease(lease);
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

    /// Nobody answered: the clients of a file's breaking handles cache nothing any more (3.3.6.1, 3.3.6.5).
    pub fn force_breaks(&mut self, file: Id<OpenFile<V::Node>>) {
        let handles: Vec<_> = self.handles_of(file).map(|(id, _)| id).collect();
        for id in handles {
            let Some(handle) = self.handles.get_mut(id) else { continue };
            if handle.has(Handle::<V::Node>::BREAKING) {
                handle.set(Handle::<V::Node>::BREAKING, false);
                handle.set_oplock(0);
            }
            if let Some(lease) = self.handles.get(id).and_then(|handle| self.lease_of(handle)) {
                self.force_lease_break(lease);
            }
        }
        self.wake(file);
    }
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
                if handle.tree != Some(tree) || file_id.persistent != file_id.volatile {
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
                state.acknowledge_lease(id, kept)?;
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
        let actor = state.actor(handle);
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
