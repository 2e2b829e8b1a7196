//! CLOSE, FLUSH, READ and WRITE (MS-SMB2 3.3.5.10 to 3.3.5.13), and how a request's file is found.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::access::{self, Operation};
use super::dispatch::{Handled, Outcome, Request};
use super::notify::{action, filter};
use super::state::{Handle, OpenFile};
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Metadata, MetadataChange, Payload, Volume};
use crate::fscc::{AccessMask, FileTime};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire::{self, FileId};

/// Bytes that a file can have, as NTFS has it: writes beyond it are invalid, not a lack of space.
const MAXIMUM_FILE_SIZE: u64 = 0xFFF_FFFF_0000;

/// A handle as a request found it: copies, because anything may change while the volume is called.
pub(super) struct Open<V: Volume> {
    pub handle: Id<Handle<V::Node>>,
    pub file: Id<OpenFile<V::Node>>,
    pub node: V::Node,
    pub volume: Arc<V>,
    pub access: AccessMask,
    /// The handle's bits.
    pub bits: u32,
    pub directory: bool,
    pub delete_pending: bool,
    pub file_id: u64,
    /// A write time that the volume does not know yet, or 0.
    pub write_time: u64,
    /// A change time that the volume cannot keep, or 0.
    pub change_time: u64,
    /// The allocation that was asked for, or 0.
    pub allocation: u64,
}

impl<V: Volume> Open<V> {
    pub fn has(&self, flag: u32) -> bool {
        self.bits & flag != 0
    }

    /// The change time: what a client set while the file is open, else the time of the last write.
    pub fn changed(&self, metadata: &Metadata) -> FileTime {
        if self.change_time != 0 { FileTime(self.change_time) } else { metadata.modified }
    }

    /// The node's metadata with what the engine knows better.
    pub fn metadata(&self) -> Result<Metadata, NtStatus> {
        let mut metadata = self.volume.metadata(self.node)?;
        if self.write_time != 0 {
            metadata.modified = FileTime(self.write_time);
        }
        metadata.allocated = metadata.allocated.max(self.allocation);
        Ok(metadata)
    }
}

impl<E: Environment> Server<E> {
    /// The file that a request names, if it is one of its tree's and the handle may do `operation`.
    pub(super) fn open_file(
        &self,
        request: &Request<'_>,
        named: FileId,
        operation: Operation,
    ) -> Result<Open<E::Volume>, NtStatus> {
        let named = request.file(named);
        let id = u32::try_from(named.volatile).ok().and_then(Id::from_raw).ok_or(NtStatus::FILE_CLOSED)?;
        let mut state = self.state.lock();
        let handle = state.handles.get(id).ok_or(NtStatus::FILE_CLOSED)?;
        if handle.tree.is_none() || handle.tree != request.tree || named.persistent != named.volatile {
            return Err(NtStatus::FILE_CLOSED);
        }
        if handle.extra.is_some() || request.channel_sequence() != 0 {
            state.note_use(id, request)?;
        }
        let handle = state.handles.get(id).ok_or(NtStatus::FILE_CLOSED)?;
        let allocation =
            handle.extra.and_then(|extra| state.extras.get(extra)).map_or(0, |extra| extra.allocation);
        if !access::allows(handle.access(), operation) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        request.used_file.set(Some(named));
        let file = state.files.get(handle.file).ok_or(NtStatus::FILE_CLOSED)?;
        let volume = state.volumes.get(usize::from(file.volume)).ok_or(NtStatus::FILE_CLOSED)?;
        Ok(Open {
            handle: id,
            file: handle.file,
            node: file.node,
            volume: volume.clone(),
            access: handle.access(),
            bits: handle.bits,
            directory: file.has(OpenFile::<NodeOf<E>>::DIRECTORY),
            delete_pending: file.has(OpenFile::<NodeOf<E>>::DELETE_PENDING),
            file_id: file.file_id,
            write_time: file.write_time,
            change_time: file.change_time,
            allocation,
        })
    }

    /// Whether the volume has room for a file of `allocation` bytes that has `allocated` by now; gives whole clusters.
    pub(super) fn allocation(
        &self,
        volume: &E::Volume,
        allocation: u64,
        allocated: u64,
    ) -> Result<u64, NtStatus> {
        let space = volume.space()?;
        if allocation.saturating_sub(allocated) > space.free {
            return Err(NtStatus::DISK_FULL);
        }
        Ok(allocation.next_multiple_of(u64::from(space.cluster.max(1))))
    }

    pub(super) fn close(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        if request.on_pipes {
            return self.close_pipe(request, writer);
        }
        let parsed = wire::close::Request::parse(request.message)?;
        let open = self.open_file(request, parsed.file_id, Operation::Any)?;
        let mut response = wire::close::Response::default();
        let query = parsed.flags & wire::close::POST_QUERY_ATTRIBUTES != 0;
        if query && let Ok(metadata) = open.metadata() {
            response = wire::close::Response {
                flags: wire::close::POST_QUERY_ATTRIBUTES,
                times: [
                    metadata.created.0,
                    metadata.accessed.0,
                    metadata.modified.0,
                    open.changed(&metadata).0,
                ],
                allocated: metadata.allocated,
                size: metadata.size,
                attributes: metadata.attributes.to_wire(),
            };
        }
        self.close_handle(open.handle)?;
        response.emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// Closes a handle: its locks and waiting requests end, and with the last one the file goes if it is to be
    /// deleted.
    ///
    /// # Errors
    /// The volume could not store the last write time, or not remove the file. The handle is closed all the same.
    pub(super) fn close_handle(&self, id: Id<Handle<NodeOf<E>>>) -> Result<(), NtStatus> {
        let (volume, node, file_id, remove, write_time, index, directory, written, own) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            Self::end_waiting_on(state, id);
            let file_id = state.handles.get(id).ok_or(NtStatus::FILE_CLOSED)?.file;
            let own = state.parent_key(id);
            state.release_locks(file_id, id);
            let handle = state.remove_handle(id).ok_or(NtStatus::FILE_CLOSED)?;
            state.retry_locks(file_id);
            let file = state.files.get_mut(file_id).ok_or(NtStatus::FILE_CLOSED)?;
            if handle.has(Handle::<NodeOf<E>>::DELETE_ON_CLOSE) {
                file.set(OpenFile::<NodeOf<E>>::DELETE_PENDING, true);
                state.end_watches_of_deleted(file_id);
            }
            let file = state.files.get_mut(file_id).ok_or(NtStatus::FILE_CLOSED)?;
            let mut write_time = 0;
            let written = handle.has(Handle::<NodeOf<E>>::WRITTEN);
            if written {
                write_time = core::mem::take(&mut file.write_time);
            }
            let volume = state.volumes.get(usize::from(file.volume)).ok_or(NtStatus::FILE_CLOSED)?.clone();
            let (node, index) = (file.node, file.volume);
            let directory = file.has(OpenFile::<NodeOf<E>>::DIRECTORY);
            let last = file.first_handle.is_none();
            let remove = last && file.has(OpenFile::<NodeOf<E>>::DELETE_PENDING);
            if remove {
                file.set(OpenFile::<NodeOf<E>>::REMOVING, true);
            } else if last {
                state.leave_file(file_id);
            }
            let written = written && !state.directory_leases.is_empty();
            (volume, node, file_id, remove, write_time, index, directory, written, own)
        };
        let mut result = Ok(());
        if remove {
            let mut path = Vec::new();
            let watched = {
                let state = self.state.lock();
                state.watches > 0 || !state.directory_leases.is_empty()
            };
            let watched = watched && volume.path(node, &mut path).is_ok();
            result = volume.remove(node);
            if watched && result.is_ok() {
                self.note_entry(index, &path, directory, action::REMOVED, own);
            }
        } else if write_time != 0 {
            let modified = Some(FileTime(write_time));
            result = volume.change_metadata(node, &MetadataChange { modified, ..MetadataChange::default() });
        }
        if written && !remove {
            // Only now: while a file is open for writing its directory lists what it will.
            self.change_parent_of_node(&*volume, node, index, own);
        }
        let closed = volume.close(node);
        if remove {
            let mut state = self.state.lock();
            if let Some(file) = state.files.get_mut(file_id) {
                file.set(OpenFile::<NodeOf<E>>::REMOVING | OpenFile::<NodeOf<E>>::DELETE_PENDING, false);
            }
            state.leave_file(file_id);
        }
        result.and(closed).map_err(NtStatus::from)
    }

    pub(super) fn flush(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        let file_id = wire::flush::parse(request.message)?;
        let open = self.open_file(request, file_id, Operation::Flush)?;
        self.store_write_time(&open)?;
        open.volume.flush(open.node)?;
        wire::flush::emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// Tells the volume the time of the last write, if it does not know it.
    pub(super) fn store_write_time(&self, open: &Open<E::Volume>) -> Result<(), NtStatus> {
        let time = {
            let mut state = self.state.lock();
            let Some(file) = state.files.get_mut(open.file) else { return Ok(()) };
            core::mem::take(&mut file.write_time)
        };
        if time != 0 {
            let modified = Some(FileTime(time));
            open.volume
                .change_metadata(open.node, &MetadataChange { modified, ..MetadataChange::default() })?;
        }
        Ok(())
    }

    /// Notes that the file's data was changed through a handle.
    pub(super) fn note_write(&self, open: &Open<E::Volume>) {
        // In the steps of 10 ms that volumes keep, so that it stays the same when it is stored.
        let now = self.environment.now().0;
        let now = now - now % 100_000;
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(handle) = state.handles.get_mut(open.handle) else { return };
        if handle.has(Handle::<NodeOf<E>>::WRITE_TIME_SET) {
            return;
        }
        handle.set(Handle::<NodeOf<E>>::WRITTEN, true);
        if let Some(file) = state.files.get_mut(open.file) {
            file.write_time = now;
            file.change_time = 0;
        }
    }

    pub(super) fn read(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        if request.on_pipes {
            return self.read_pipe(request, writer);
        }
        let parsed = wire::read::Request::parse(request.message)?;
        let open = self.open_file(request, parsed.file_id, Operation::Read)?;
        request.check_charge(parsed.length)?;
        if parsed.length > self.configuration.maximum_transfer {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if open.directory {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        // MS-FSA 2.1.5.2: offsets are signed numbers.
        let end = parsed.offset.checked_add(u64::from(parsed.length)).filter(|end| *end <= i64::MAX as u64);
        if end.is_none() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !self.state.lock().may_read(open.file, open.handle, parsed.offset, u64::from(parsed.length)) {
            return Err(NtStatus::FILE_LOCK_CONFLICT);
        }
        let payload = open.volume.read(open.node, parsed.offset, parsed.length)?;
        let length = u32::try_from(payload.len()).map_err(|_| NtStatus::INTERNAL_ERROR)?;
        if length < parsed.minimum_count || (length == 0 && parsed.length > 0) {
            return Err(NtStatus::END_OF_FILE);
        }
        wire::read::emit(writer, length);
        Ok(Outcome::Data(payload))
    }

    pub(super) fn write(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        if request.on_pipes {
            return self.write_pipe(request, writer);
        }
        let parsed = wire::write::Request::parse(request.message)?;
        let open = self.open_file(request, parsed.file_id, Operation::Write)?;
        let length = u32::try_from(parsed.data.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        request.check_charge(length)?;
        if length > self.configuration.maximum_transfer {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if open.directory {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        let limit = if length == 0 { i64::MAX as u64 } else { MAXIMUM_FILE_SIZE };
        let end = parsed.offset.checked_add(u64::from(length)).filter(|end| *end <= limit);
        if end.is_none() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !self.state.lock().may_write(open.file, open.handle, parsed.offset, u64::from(length)) {
            return Err(NtStatus::FILE_LOCK_CONFLICT);
        }
        if length > 0 {
            self.change_contends(open.file, open.handle);
            open.volume.write(open.node, parsed.offset, parsed.data)?;
            self.note_write(&open);
            self.note_change(&open, filter::SIZE | filter::LAST_WRITE);
            let through = parsed.flags & wire::write::WRITE_THROUGH != 0;
            if through || open.has(Handle::<NodeOf<E>>::WRITE_THROUGH) {
                open.volume.flush(open.node)?;
            }
        }
        wire::write::emit(writer, length);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }
}
