//! CREATE (MS-SMB2 3.3.5.9, MS-FSA 2.1.5.1).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::access::ShareAccess;
use super::apple;
use super::caching::{self, Actor, Contention};
use super::dispatch::{Outcome, Request};
use super::durable::{DurableName, DurableRequest, may_outlive};
use super::lease::LeaseRequest;
use super::names::{self, Path};
use super::notify::action as notify_action;
use super::state::{Handle, OpenFile, State, Tree, connection_id};
use super::waiting::{Again, WaitKind};
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Metadata, MetadataChange, NodeKind, Volume, VolumeError};
use crate::fscc::{AccessMask, FileAttributes};
use crate::reader::{Reader, Writer};
use crate::status::NtStatus;
use crate::wire::FileId;
use crate::wire::create::{self as wire, action, context, disposition, option};
use crate::wire::negotiate::Dialect;
use crate::wire::oplock_break::level;

/// STATUS_BAD_IMPERSONATION_LEVEL.
const BAD_IMPERSONATION_LEVEL: NtStatus = NtStatus(0xC000_00A5);

/// Options that a server refuses with STATUS_NOT_SUPPORTED.
const OPTIONS_NOT_SUPPORTED: u32 =
    option::CREATE_TREE_CONNECTION | option::OPEN_BY_FILE_ID | option::RESERVE_OPFILTER;
/// Option bits without a meaning.
const OPTIONS_INVALID: u32 = 0xFF00_0000;
/// Attribute bits that CREATE takes; those that cannot be stored are passed over.
const ATTRIBUTES_VALID: u32 = 0x0000_7FB7;
/// Access bits that nobody can be granted.
const ACCESS_INVALID: u32 = 0x0CE0_FE00;

/// The rights that count when share modes are compared: a handle with none of them disturbs nobody.
const READERS: AccessMask = AccessMask::READ_DATA.union(AccessMask::EXECUTE);
const WRITERS: AccessMask = AccessMask::WRITE_DATA.union(AccessMask::APPEND_DATA);

/// Share access bits.
pub(super) const SHARE_READ: u32 = 1;
pub(super) const SHARE_WRITE: u32 = 2;
const SHARE_DELETE: u32 = 4;

/// Whether two handles of one file get along: what the first does must be shared by the second, and the other way
/// round (MS-FSA 2.1.5.1.2.2).
pub(super) fn compatible(first: (AccessMask, u32), second: (AccessMask, u32)) -> bool {
    let counts = |access: AccessMask| access.intersects(READERS | WRITERS | AccessMask::DELETE);
    if !counts(first.0) || !counts(second.0) {
        return true;
    }
    let allowed = |access: AccessMask, share: u32| {
        (share & SHARE_READ != 0 || !access.intersects(READERS))
            && (share & SHARE_WRITE != 0 || !access.intersects(WRITERS))
            && (share & SHARE_DELETE != 0 || !access.intersects(AccessMask::DELETE))
    };
    allowed(first.0, second.1) && allowed(second.0, first.1)
}

/// What CREATE found out about its tree.
struct Place<V> {
    tree: Id<Tree>,
    volume: Arc<V>,
    index: u16,
    access: ShareAccess,
}

/// A new handle's id, for the elements that follow in the compound, and the answer.
pub(super) type Created<P> = (Option<FileId>, Outcome<P>);

/// Why there is no handle (yet).
enum Refusal {
    /// There will be none.
    Status(NtStatus),
    /// Others must give up what they cache of this open file (raw id) first.
    Wait(u32),
}

impl From<NtStatus> for Refusal {
    fn from(status: NtStatus) -> Refusal {
        Refusal::Status(status)
    }
}

/// A handle that was opened.
struct Opened<N> {
    handle: Id<Handle<N>>,
    metadata: Metadata,
    action: u32,
    maximal: AccessMask,
}

impl<E: Environment> Server<E> {
    /// Opens; also gives the new handle's id, for the elements that follow in the compound.
    pub(super) fn create(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<Created<PayloadOf<E>>, NtStatus> {
        let parsed = wire::Request::parse(request.message)?;
        log::trace!(
            "create {:?} access {:#x} attributes {:#x} share {} disposition {} options {:#x}",
            alloc::string::String::from_utf16_lossy(&parsed.name),
            parsed.access,
            parsed.attributes,
            parsed.share,
            parsed.disposition,
            parsed.options
        );
        let tree = request.tree.ok_or(NtStatus::NETWORK_NAME_DELETED)?;
        let place = {
            let state = self.state.lock();
            let entry = state.trees.get(tree).ok_or(NtStatus::NETWORK_NAME_DELETED)?;
            let Some(index) = entry.volume else {
                drop(state);
                return self.create_pipe(request, &parsed, writer);
            };
            let volume = state.volumes.get(usize::from(index)).ok_or(NtStatus::NETWORK_NAME_DELETED)?;
            Place { tree, volume: volume.clone(), index, access: entry.access }
        };
        let lease = match parsed.context(context::LEASE) {
            Some(data) if request.dialect > Some(Dialect::Smb202) => {
                Some(LeaseRequest::parse(data, request.dialect >= Some(Dialect::Smb300))?)
            }
            _ => None,
        };
        let client = {
            let state = self.state.lock();
            let id = connection_id::<PayloadOf<E>>(request.connection);
            id.and_then(|id| state.connections.get(id)).map_or([0; 16], |connection| connection.client_guid)
        };
        let durable = DurableRequest::parse(&parsed)?;
        if let Some(wanted) = durable.reconnect {
            // This is about the handle that there was; the other fields do not count.
            return self.reconnect(request, &parsed, tree, (client, lease.as_ref()), wanted, writer);
        }
        if parsed.impersonation > 3 {
            return Err(BAD_IMPERSONATION_LEVEL);
        }
        check_arguments(&parsed)?;
        let mut path = names::parse(&parsed.name)?;
        if path.directory && parsed.options & option::NON_DIRECTORY_FILE != 0 {
            return Err(NtStatus::OBJECT_NAME_INVALID);
        }
        if parsed.context(context::TIMEWARP).is_some() {
            // 3.3.5.9.1: there are no snapshots.
            return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        if parsed.context(context::EXTENDED_ATTRIBUTES).is_some_and(|data| !data.is_empty()) {
            return Err(NtStatus::EAS_NOT_SUPPORTED);
        }
        let apple = parsed.context(context::APPLE).map(apple::answer).transpose()?;
        // A new open has a lease only if its oplock level says so.
        let lease = lease.filter(|_| parsed.oplock == level::LEASE);
        names::resolve_made_names(&*place.volume, &mut path.units)?;
        let actor = Actor {
            handle: None,
            lease: lease.map(|lease| (client, lease.key)),
            parent: lease.and_then(|lease| lease.parent),
            waited: request.resumed.is_some(),
        };
        if let Some(application) = durable.application {
            self.take_over(application, client);
        }
        if let Some((_, guid)) = durable.version_2
            && let Some(answer) =
                self.replay(request, &parsed, tree, guid, (client, lease.as_ref()), writer)?
        {
            return Ok(answer);
        }
        let allocation = match parsed.context(context::ALLOCATION_SIZE) {
            Some(data) if parsed.disposition != disposition::OPEN => {
                self.allocation(&place.volume, Reader::new(data).u64()?, 0)?
            }
            _ => 0,
        };
        let opened = match self.open_or_create(&place, &path, &parsed, &actor) {
            Ok(mut opened) => {
                if allocation > opened.metadata.allocated
                    && opened.action != action::OPENED
                    && opened.metadata.kind == NodeKind::File
                {
                    // With a full table it is but a wish that was not granted.
                    if self.promise(opened.handle, allocation).is_ok() {
                        opened.metadata.allocated = allocation;
                    }
                }
                opened
            }
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Wait(file)) => {
                let name = durable.version_2.map(|(_, guid)| (client, guid));
                self.park_again(request, file, name)?;
                return Ok((None, Outcome::Parked));
            }
        };
        let file_id = handle_file_id(opened.handle);
        let mut contexts: Vec<(&[u8], Vec<u8>)> = Vec::new();
        if parsed.context(context::MAXIMAL_ACCESS).is_some() {
            let mut data = Vec::new();
            let mut writer = Writer::new(&mut data);
            writer.u32(NtStatus::SUCCESS.0);
            writer.u32(opened.maximal.bits());
            contexts.push((context::MAXIMAL_ACCESS, data));
        }
        if parsed.context(context::QUERY_FILE_ID).is_some() {
            let mut data = Vec::new();
            let mut writer = Writer::new(&mut data);
            writer.u64(opened.metadata.file_id);
            writer.u64(u64::from(place.volume.information().serial));
            writer.zeros(16);
            contexts.push((context::QUERY_FILE_ID, data));
        }
        if let Some(data) = apple {
            contexts.push((context::APPLE, data));
        }
        let mut oplock = level::NONE;
        {
            let mut state = self.state.lock();
            match &lease {
                Some(lease) => {
                    if let Some(data) = state.grant_lease(opened.handle, client, lease, &path.units) {
                        oplock = level::LEASE;
                        contexts.push((context::LEASE, data));
                    }
                }
                None => {
                    let wanted = caching::level_wanted(parsed.oplock);
                    oplock = caching::wire_level(state.grant_oplock(opened.handle, wanted));
                }
            }
            let session = request.session.and_then(|session| state.sessions.get(session));
            if let Some(user) = session.filter(|session| may_outlive(session)).map(|session| session.user) {
                let answer = (opened.action, oplock);
                contexts.extend(state.grant_durable(opened.handle, &durable, user, client, answer));
            }
        }
        let metadata = &opened.metadata;
        wire::Response {
            oplock,
            action: opened.action,
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

    /// The request waits until the caches of others are given up. `name` is that of the durable handle that it will
    /// make.
    pub(super) fn park_again(
        &self,
        request: &mut Request<'_>,
        file: u32,
        name: Option<DurableName>,
    ) -> Result<(), NtStatus> {
        let deadline = self.environment.monotonic_milliseconds().saturating_add(caching::BREAK_TIME);
        let (message, before) = (request.rest.to_vec(), request.before);
        let again = Again { message, before, file, deadline, queued: false, name };
        let mut state = self.state.lock();
        if let Some(number) = request.resumed {
            // Still under the same number: its client knows it already.
            let waiting = Id::from_raw(number).and_then(|id| state.waiting.get_mut(id));
            let waiting = waiting.ok_or(NtStatus::CANCELLED)?;
            waiting.kind = WaitKind::Again(again);
            return Ok(());
        }
        state.park(request, None, WaitKind::Again(again)).map(|_| ())
    }

    /// Opens what is there or makes it, as the disposition says. Others may make or remove it meanwhile: then again.
    fn open_or_create(
        &self,
        place: &Place<E::Volume>,
        path: &Path,
        parsed: &wire::Request<'_>,
        actor: &Actor,
    ) -> Result<Opened<NodeOf<E>>, Refusal> {
        for _ in 0..4 {
            if parsed.disposition != disposition::CREATE || path.units.is_empty() {
                match place.volume.open(&path.units) {
                    Ok(node) => {
                        let opened = if parsed.disposition == disposition::CREATE {
                            Err(NtStatus::OBJECT_NAME_COLLISION.into())
                        } else {
                            self.open_existing(place, path, parsed, node, actor)
                        };
                        if opened.is_err() {
                            let _ = place.volume.close(node);
                        }
                        if matches!(opened, Err(Refusal::Wait(_))) && self.purge() {
                            // Who was in the way is gone.
                            continue;
                        }
                        return opened;
                    }
                    Err(VolumeError::NotFound)
                        if !matches!(parsed.disposition, disposition::OPEN | disposition::OVERWRITE) => {}
                    Err(error) => return Err(NtStatus::from(error).into()),
                }
            }
            match self.create_new(place, path, parsed, actor) {
                // Somebody was faster.
                Err(Refusal::Status(NtStatus::OBJECT_NAME_COLLISION))
                    if parsed.disposition != disposition::CREATE => {}
                result => return result,
            }
        }
        Err(NtStatus::SHARING_VIOLATION.into())
    }

    fn create_new(
        &self,
        place: &Place<E::Volume>,
        path: &Path,
        parsed: &wire::Request<'_>,
        actor: &Actor,
    ) -> Result<Opened<NodeOf<E>>, Refusal> {
        let directory = parsed.options & option::DIRECTORY_FILE != 0;
        if path.directory && !directory {
            return Err(NtStatus::OBJECT_NAME_INVALID.into());
        }
        if place.access != ShareAccess::Write {
            return Err(NtStatus::ACCESS_DENIED.into());
        }
        let maximal = place.access.maximal();
        let granted = grant(parsed.access, maximal, maximal)?;
        let mut attributes = FileAttributes::from_bits_retain(parsed.attributes) & FileAttributes::STORED;
        if parsed.options & option::DELETE_ON_CLOSE != 0 {
            if attributes.contains(FileAttributes::READONLY) {
                return Err(NtStatus::CANNOT_DELETE.into());
            }
            if !granted.contains(AccessMask::DELETE) {
                return Err(NtStatus::INVALID_PARAMETER.into());
            }
        }
        let kind = if directory {
            NodeKind::Directory
        } else {
            attributes |= FileAttributes::ARCHIVE;
            NodeKind::File
        };
        let node = place.volume.create(&path.units, kind, attributes).map_err(NtStatus::from)?;
        let result = place
            .volume
            .metadata(node)
            .map_err(|error| Refusal::from(NtStatus::from(error)))
            .and_then(|metadata| {
                let handle = self.enter_handle(place, parsed, node, &metadata, (granted, granted), actor)?;
                Ok(Opened { handle, metadata, action: action::CREATED, maximal })
            });
        if result.is_ok() {
            self.note_entry(place.index, &path.units, directory, notify_action::ADDED, actor.parent);
        }
        if result.is_err() {
            // Nobody has seen it; a use of it must not stay behind.
            let _ = place.volume.close(node);
        }
        result
    }

    /// Opens `node`, whose use goes to the handle when this succeeds.
    fn open_existing(
        &self,
        place: &Place<E::Volume>,
        path: &Path,
        parsed: &wire::Request<'_>,
        node: NodeOf<E>,
        actor: &Actor,
    ) -> Result<Opened<NodeOf<E>>, Refusal> {
        let mut metadata = place.volume.metadata(node).map_err(NtStatus::from)?;
        let directory = metadata.kind == NodeKind::Directory;
        if directory && parsed.options & option::NON_DIRECTORY_FILE != 0 {
            return Err(NtStatus::FILE_IS_A_DIRECTORY.into());
        }
        if !directory && (parsed.options & option::DIRECTORY_FILE != 0 || path.directory) {
            return Err(NtStatus::NOT_A_DIRECTORY.into());
        }
        let overwrite = matches!(
            parsed.disposition,
            disposition::SUPERSEDE | disposition::OVERWRITE | disposition::OVERWRITE_IF
        );
        if overwrite && directory {
            return Err(NtStatus::FILE_IS_A_DIRECTORY.into());
        }
        let read_only = !directory && metadata.attributes.contains(FileAttributes::READONLY);
        let maximal = place.access.maximal();
        // MS-FSA 2.1.5.1.2.1: the attribute takes away the rights to change the data.
        let available = if read_only { maximal - WRITERS } else { maximal };
        let granted = grant(parsed.access, available, maximal)?;
        let mut effective = granted;
        if overwrite {
            if read_only || place.access != ShareAccess::Write {
                return Err(NtStatus::ACCESS_DENIED.into());
            }
            // A hidden or system file must be named as such by who overwrites it.
            let guarded = metadata.attributes & (FileAttributes::HIDDEN | FileAttributes::SYSTEM);
            if !FileAttributes::from_bits_retain(parsed.attributes).contains(guarded) {
                return Err(NtStatus::ACCESS_DENIED.into());
            }
            effective |= AccessMask::WRITE_DATA;
        }
        if parsed.options & option::DELETE_ON_CLOSE != 0 {
            if read_only || path.units.is_empty() {
                return Err(NtStatus::CANNOT_DELETE.into());
            }
            if !granted.contains(AccessMask::DELETE) {
                return Err(NtStatus::INVALID_PARAMETER.into());
            }
            if directory && !is_empty(&*place.volume, node)? {
                return Err(NtStatus::DIRECTORY_NOT_EMPTY.into());
            }
        }
        let handle = self.enter_handle(place, parsed, node, &metadata, (granted, effective), actor)?;
        let mut action = action::OPENED;
        if overwrite {
            match self.overwrite(place, parsed, node) {
                Ok(changed) => metadata = changed,
                Err(status) => {
                    // The caller gives the use back, so only the handle goes.
                    let mut state = self.state.lock();
                    if let Some(handle) = state.remove_handle(handle) {
                        state.leave_file(handle.file);
                    }
                    return Err(status.into());
                }
            }
            self.state.lock().break_directory(place.index, &path.units, actor.parent);
            action = if parsed.disposition == disposition::SUPERSEDE {
                action::SUPERSEDED
            } else {
                action::OVERWRITTEN
            };
        }
        Ok(Opened { handle, metadata, action, maximal: available })
    }

    fn overwrite(
        &self,
        place: &Place<E::Volume>,
        parsed: &wire::Request<'_>,
        node: NodeOf<E>,
    ) -> Result<Metadata, NtStatus> {
        place.volume.set_size(node, 0)?;
        let attributes = FileAttributes::from_bits_retain(parsed.attributes) & FileAttributes::STORED;
        let now = self.environment.now();
        place.volume.change_metadata(
            node,
            &MetadataChange {
                attributes: Some(attributes | FileAttributes::ARCHIVE),
                modified: Some(now),
                accessed: Some(now),
                created: None,
            },
        )?;
        Ok(place.volume.metadata(node)?)
    }

    /// Checks share modes and makes the handle. `effective` is what share modes are compared with.
    fn enter_handle(
        &self,
        place: &Place<E::Volume>,
        parsed: &wire::Request<'_>,
        node: NodeOf<E>,
        metadata: &Metadata,
        (granted, effective): (AccessMask, AccessMask),
        actor: &Actor,
    ) -> Result<Id<Handle<NodeOf<E>>>, Refusal> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if !state.trees.contains(place.tree) {
            return Err(NtStatus::NETWORK_NAME_DELETED.into());
        }
        let directory = metadata.kind == NodeKind::Directory;
        if let Some(known) = state.find_file(place.index, metadata.file_id) {
            let entry = state.files.get(known).ok_or(NtStatus::FILE_CLOSED)?;
            if entry.has(OpenFile::<NodeOf<E>>::DELETE_PENDING | OpenFile::<NodeOf<E>>::REMOVING) {
                return Err(NtStatus::DELETE_PENDING.into());
            }
            let overwrite = matches!(
                parsed.disposition,
                disposition::SUPERSEDE | disposition::OVERWRITE | disposition::OVERWRITE_IF
            );
            let contention = Contention::Open { access: effective, share: parsed.share, overwrite };
            if state.contend(known, actor, contention)? {
                return Err(Refusal::Wait(known.raw()));
            }
            if parsed.options & option::DELETE_ON_CLOSE != 0
                && state.contend(known, actor, Contention::Delete)?
            {
                // Only for handles whose clients are away, and which are closed now.
                return Err(Refusal::Wait(known.raw()));
            }
        }
        if let Some((client, key)) = actor.lease
            && let Some(lease) = state.find_lease(&client, &key).and_then(|lease| state.leases.get(lease))
        {
            // 3.3.5.9.8: one key is for one file.
            let own = state.find_file(place.index, metadata.file_id).map(Id::raw);
            if own != Some(lease.file) {
                return Err(NtStatus::INVALID_PARAMETER.into());
            }
        }
        let file = state
            .enter_file(place.index, metadata.file_id, node, directory)
            .map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        let mut handle = Handle::new(file, place.tree, granted, parsed.share);
        for (bit, flag) in [
            (option::DELETE_ON_CLOSE, Handle::<NodeOf<E>>::DELETE_ON_CLOSE),
            (option::WRITE_THROUGH, Handle::<NodeOf<E>>::WRITE_THROUGH),
            (option::SEQUENTIAL_ONLY, Handle::<NodeOf<E>>::SEQUENTIAL),
            (option::NO_INTERMEDIATE_BUFFERING, Handle::<NodeOf<E>>::UNBUFFERED),
            (option::SYNCHRONOUS_IO_ALERT, Handle::<NodeOf<E>>::SYNCHRONOUS_ALERT),
            (option::SYNCHRONOUS_IO_NONALERT, Handle::<NodeOf<E>>::SYNCHRONOUS),
        ] {
            handle.set(flag, parsed.options & bit != 0);
        }
        handle.next = state.files.get(file).and_then(|file| file.first_handle);
        let Ok(id) = state.handles.insert(handle) else {
            state.leave_file(file);
            return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
        };
        if let Some(file) = state.files.get_mut(file) {
            file.first_handle = Some(id);
        }
        Ok(id)
    }
}

impl<V: Volume> State<V> {
    /// Whether one more handle of the file may be opened: DELETE_PENDING, SHARING_VIOLATION.
    pub fn check_open(
        &self,
        file: Id<OpenFile<V::Node>>,
        access: AccessMask,
        share: u32,
    ) -> Result<(), NtStatus> {
        let entry = self.files.get(file).ok_or(NtStatus::FILE_CLOSED)?;
        if entry.has(OpenFile::<V::Node>::DELETE_PENDING | OpenFile::<V::Node>::REMOVING) {
            return Err(NtStatus::DELETE_PENDING);
        }
        if self
            .handles_of(file)
            .all(|(_, other)| compatible((access, share), (other.access(), other.share())))
        {
            Ok(())
        } else {
            Err(NtStatus::SHARING_VIOLATION)
        }
    }
}

/// The wire's name of a handle.
pub(super) fn handle_file_id<N>(handle: Id<Handle<N>>) -> FileId {
    FileId { persistent: u64::from(handle.raw()), volatile: u64::from(handle.raw()) }
}

/// The checks that need no volume, in the order that Windows makes them.
fn check_arguments(parsed: &wire::Request<'_>) -> Result<(), NtStatus> {
    if parsed.access == 0 || parsed.access & ACCESS_INVALID != 0 {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if parsed.disposition > disposition::OVERWRITE_IF
        || parsed.options & OPTIONS_INVALID != 0
        || parsed.share & !7 != 0
        || parsed.attributes & !ATTRIBUTES_VALID != 0
    {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if parsed.options & OPTIONS_NOT_SUPPORTED != 0 {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    const BOTH: u32 = option::DIRECTORY_FILE | option::NON_DIRECTORY_FILE;
    if parsed.options & BOTH == BOTH {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if parsed.options & option::DIRECTORY_FILE != 0
        && matches!(
            parsed.disposition,
            disposition::SUPERSEDE | disposition::OVERWRITE | disposition::OVERWRITE_IF
        )
    {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

/// The rights that a handle gets: those asked for, or all that are `available` where the client leaves it open.
/// `maximal` is what the share gives.
fn grant(asked: u32, available: AccessMask, maximal: AccessMask) -> Result<AccessMask, NtStatus> {
    let asked = AccessMask::from_bits_retain(asked);
    if asked.contains(AccessMask::ACCESS_SYSTEM_SECURITY) {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    let expanded = asked.expand_generic();
    let named = expanded - AccessMask::MAXIMUM_ALLOWED;
    if !maximal.contains(named) || !available.contains(named) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    Ok(if expanded.contains(AccessMask::MAXIMUM_ALLOWED) { available } else { named })
}

/// Whether a directory has no entry.
pub(super) fn is_empty<V: Volume>(volume: &V, directory: V::Node) -> Result<bool, NtStatus> {
    let mut empty = true;
    volume.list(directory, 0, &mut |_| {
        empty = false;
        false
    })?;
    Ok(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_modes_count_both_ways() {
        let read = AccessMask::READ_DATA;
        let write = AccessMask::WRITE_DATA;
        let delete = AccessMask::DELETE;
        assert!(compatible((read, 1), (read, 1)));
        assert!(!compatible((read, 1), (write, 1)));
        assert!(!compatible((write, 1), (read, 1)));
        assert!(compatible((write, 3), (read, 3)));
        assert!(!compatible((delete, 7), (read, 3)));
        // Only attributes: no conflict with anything.
        assert!(compatible((AccessMask::READ_ATTRIBUTES, 0), (write | delete, 0)));
        assert!(!compatible((AccessMask::EXECUTE, 0), (read, 7)));
    }

    #[test]
    fn maximum_allowed_is_what_is_left() {
        let all = AccessMask::ALL;
        assert_eq!(grant(0x0200_0000, all, all), Ok(all));
        assert_eq!(
            grant(0x0200_0000, AccessMask::READ_ONLY, AccessMask::READ_ONLY),
            Ok(AccessMask::READ_ONLY)
        );
        assert_eq!(grant(0x8000_0000, all, all), Ok(AccessMask::READ));
        assert_eq!(
            grant(0x4000_0000, AccessMask::READ_ONLY, AccessMask::READ_ONLY),
            Err(NtStatus::ACCESS_DENIED)
        );
        assert_eq!(grant(0x0100_0000, all, all), Err(NtStatus::PRIVILEGE_NOT_HELD));
    }
}
