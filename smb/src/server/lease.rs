//! Leases: what a client may cache of a file or directory, under a key of its own for all its handles (MS-SMB2 3.3.4.7,
//! 3.3.5.9.8, 3.3.5.9.11, 3.3.5.22.2).

use alloc::vec::Vec;

use super::caching::{Actor, HANDLE, LEASE_STAT_RIGHTS, READ, WRITE};
use super::state::{Connection, ConnectionMarker, Handle, OpenFile, State};
use crate::arena::Id;
use crate::environment::Volume;
use crate::reader::{Malformed, Reader, Writer};
use crate::status::NtStatus;
use crate::wire::oplock_break::LeaseNotification;

/// What a client calls a lease.
pub(crate) type LeaseKey = [u8; 16];

/// Response flag: the lease is being broken.
const BREAK_IN_PROGRESS: u32 = 2;
/// The request and response name the lease of the directory above.
const PARENT_KEY_SET: u32 = 4;

/// A client's lease of a file or directory.
pub(crate) struct Lease {
    pub client: [u8; 16],
    pub key: LeaseKey,
    /// The key of the client's lease of the directory above.
    pub parent: Option<LeaseKey>,
    /// Raw id of its open file.
    pub file: u32,
    /// Handles under it.
    pub handles: u16,
    pub epoch: u16,
    pub state: u8,
    /// What it is to be after a break that was not acknowledged yet.
    pub breaking: Option<u8>,
    /// What it must come down to; once the break under way is acknowledged, more follow if need be.
    required: u8,
    pub version_2: bool,
}

/// What a lease context asks for (2.2.13.2.8, 2.2.13.2.10).
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseRequest {
    pub key: LeaseKey,
    pub state: u8,
    pub parent: Option<LeaseKey>,
    pub epoch: u16,
    pub version_2: bool,
}

impl LeaseRequest {
    /// Version 2 contexts are longer, and known from SMB 3 on.
    pub fn parse(data: &[u8], version_2_known: bool) -> Result<LeaseRequest, Malformed> {
        let mut reader = Reader::new(data);
        let key = reader.array::<16>()?;
        let state = (reader.u32()? & u32::from(READ | HANDLE | WRITE)) as u8;
        let flags = reader.u32()?;
        reader.skip(8usize)?;
        let version_2 = version_2_known && data.len() >= 52;
        let (mut parent, mut epoch) = (None, 0);
        if version_2 {
            let above = reader.array::<16>()?;
            parent = (flags & PARENT_KEY_SET != 0).then_some(above);
            epoch = reader.u16()?;
        }
        Ok(LeaseRequest { key, state, parent, epoch, version_2 })
    }
}

impl Lease {
    /// The response context. It is of the version that the lease was made with, whatever the request's is.
    pub fn context(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut writer = Writer::new(&mut data);
        writer.bytes(&self.key);
        writer.u32(u32::from(self.state));
        let breaking = if self.breaking.is_some() { BREAK_IN_PROGRESS } else { 0 };
        let parent = if self.parent.is_some() { PARENT_KEY_SET } else { 0 };
        writer.u32(breaking | parent);
        writer.u64(0);
        if self.version_2 {
            writer.bytes(&self.parent.unwrap_or_default());
            writer.u16(self.epoch);
            writer.u16(0);
        }
        data
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

    /// The lease of a client with this key.
    pub fn find_lease(&self, client: &[u8; 16], key: &LeaseKey) -> Option<Id<Lease>> {
        self.leases.iter().find(|(_, lease)| lease.key == *key && lease.client == *client).map(|(id, _)| id)
    }

    /// Puts a new handle under the lease that it asked for, made when it is new; gives the response context. `path` is
    /// the file's.
    pub fn grant_lease(
        &mut self,
        id: Id<Handle<V::Node>>,
        client: [u8; 16],
        request: &LeaseRequest,
        path: &[u16],
    ) -> Option<Vec<u8>> {
        let file = self.handles.get(id)?.file;
        let directory = self.files.get(file)?.has(OpenFile::<V::Node>::DIRECTORY);
        let mut asked = request.state;
        if directory {
            // A directory has no data to write behind; version 1 does not know of directories.
            if !request.version_2 || !self.may_lease_directory(path) {
                return None;
            }
            asked &= !WRITE;
        }
        let mut wanted = asked;
        // Without cached reads there is nothing else to cache.
        if wanted & READ == 0 {
            wanted = 0;
        }
        let actor = Actor { handle: Some(id.raw()), lease: Some((client, request.key)), ..Actor::default() };
        for (other, entry) in self.handles_of(file) {
            if other == id || self.is_actor(other, entry, &actor) {
                continue;
            }
            let state = self.caching(entry);
            if !(entry.access() - LEASE_STAT_RIGHTS).is_empty() || state != 0 {
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
            wanted = 0;
        }
        let mut new = false;
        let lease_id = match self.find_lease(&client, &request.key) {
            Some(lease) => lease,
            None => {
                new = true;
                self.leases
                    .insert(Lease {
                        client,
                        key: request.key,
                        parent: request.parent,
                        file: file.raw(),
                        handles: 0,
                        epoch: request.epoch,
                        state: 0,
                        breaking: None,
                        required: 0,
                        version_2: request.version_2,
                    })
                    .ok()?
            }
        };
        match self.extra_of(id) {
            Some(extra) => extra.lease = Some(lease_id),
            None => {
                if new {
                    self.leases.remove(lease_id);
                }
                return None;
            }
        }
        self.handles.get_mut(id)?.set(Handle::<V::Node>::LEASED, true);
        if new && directory {
            let volume = self.files.get(file)?.volume;
            self.enter_directory_lease(lease_id, volume, path);
        }
        let lease = self.leases.get_mut(lease_id)?;
        lease.handles = lease.handles.saturating_add(1);
        if lease.breaking.is_none()
            && (new || wanted == asked)
            && wanted & lease.state == lease.state
            && wanted != lease.state
        {
            // 3.3.5.9.8: only more is granted, never less; and an upgrade is granted whole or not at all.
            lease.state = wanted;
            lease.epoch = lease.epoch.wrapping_add(1);
        }
        Some(lease.context())
    }

    /// One handle less under a lease; without any, it ends.
    pub fn leave_lease(&mut self, id: Id<Lease>) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        lease.handles = lease.handles.saturating_sub(1);
        if lease.handles == 0 {
            self.leases.remove(id);
            self.directory_leases.retain(|entry| entry.lease != id);
        }
    }

    /// Has a lease come down to `target`: at once, or after the break under way.
    pub fn break_lease(&mut self, id: Id<Lease>, target: u8) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        if lease.breaking.is_some() {
            lease.required &= target;
            return;
        }
        if lease.state & !target != 0 {
            lease.required = lease_target(target);
            if lease.version_2 {
                lease.epoch = lease.epoch.wrapping_add(1);
            }
            self.send_lease_break(id, lease_target(target));
        }
    }

    /// Tells a lease's client that it goes down to `target`.
    fn send_lease_break(&mut self, id: Id<Lease>, target: u8) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        let acknowledge = lease.state & (WRITE | HANDLE) != 0;
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
        let client = lease.client;
        if let Some(connection) = self.first_connection_of(&client) {
            self.notify_client(connection, |writer| notification.emit(writer));
        }
    }

    /// Where a client hears of its leases: on the oldest of its connections (3.3.4.7).
    fn first_connection_of(&self, client: &[u8; 16]) -> Option<Id<ConnectionMarker>> {
        let own = |(_, connection): &(_, &Connection<V::Payload>)| {
            connection.client_guid == *client && connection.sessions > 0
        };
        let (id, _) = self.connections.iter().filter(own).min_by_key(|(_, connection)| connection.since)?;
        Id::from_raw(id.raw())
    }

    /// A client acknowledges a break and keeps `kept`.
    ///
    /// # Errors
    /// UNSUCCESSFUL: no break is under way. REQUEST_NOT_ACCEPTED: more is kept than was left.
    pub fn acknowledge_lease(&mut self, id: Id<Lease>, kept: u32) -> Result<(), NtStatus> {
        let lease = self.leases.get_mut(id).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let target = lease.breaking.ok_or(NtStatus::UNSUCCESSFUL)?;
        if kept & !u32::from(target) != 0 {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        let kept = kept as u8;
        lease.breaking = None;
        lease.state = kept;
        let (required, file) = (lease.required, lease.file);
        if kept & !required != 0 {
            // Others wait for less: first for the handle, what is read last. It is one change, so the epoch stays.
            let gently = required | (kept & READ);
            let next = if kept & !gently != 0 { gently } else { required };
            self.send_lease_break(id, next);
            // A break that waits for nobody may be the last of the chain.
            if self.leases.get(id).is_some_and(|lease| lease.breaking.is_some()) {
                return Ok(());
            }
        }
        if let Some(file) = Id::from_raw(file) {
            self.wake(file);
        }
        Ok(())
    }

    /// A client did not answer in time: it caches nothing any more (3.3.6.5).
    pub fn force_lease_break(&mut self, id: Id<Lease>) {
        if let Some(lease) = self.leases.get_mut(id)
            && lease.breaking.take().is_some()
        {
            lease.state = 0;
        }
    }
}

/// Without cached reads nothing else is left.
fn lease_target(target: u8) -> u8 {
    if target & READ == 0 { 0 } else { target }
}
