//! QUERY_INFO and SET_INFO (MS-SMB2 3.3.5.20, 3.3.5.21; MS-FSA 2.1.5.12 to 2.1.5.15).

use alloc::vec::Vec;

use super::access::Operation;
use super::caching::Contention;
use super::create::{SHARE_READ, SHARE_WRITE, is_empty};
use super::dispatch::{Handled, Outcome, Request};
use super::file::Open;
use super::names::{self, SEPARATOR};
use super::notify::filter;
use super::state::{Handle, OpenFile};
use super::{NodeOf, PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Metadata, MetadataChange, NodeKind, Volume, VolumeError};
use crate::fscc::{
    self, AccessMask, BasicChange, DispositionFlags, FileAttributes, FileInformation, FileInformationClass,
    FileSystemAttributes, FileSystemInformation, FileSystemInformationClass, FileTime, RenameFlags,
    RenameRequest, SecurityDescriptor, SecurityInformation, Sid, StreamEntry, VolumeObjectId, short_name,
};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire::create::option;
use crate::wire::{query_info, set_info};

/// "::$DATA", the one stream of a file.
const DATA_STREAM: [u16; 7] =
    [b':' as u16, b':' as u16, b'$' as u16, b'D' as u16, b'A' as u16, b'T' as u16, b'A' as u16];

/// The modes that FileModeInformation knows.
const MODES: u32 = option::WRITE_THROUGH
    | option::SEQUENTIAL_ONLY
    | option::NO_INTERMEDIATE_BUFFERING
    | option::SYNCHRONOUS_IO_ALERT
    | option::SYNCHRONOUS_IO_NONALERT
    | option::DELETE_ON_CLOSE;

/// What a query of this class needs of the handle.
fn query_operation(class: FileInformationClass) -> Operation {
    use FileInformationClass::*;
    match class {
        Basic | All | NetworkOpen | AttributeTag => Operation::QueryAttributes,
        FullExtendedAttributes => Operation::QueryExtendedAttributes,
        _ => Operation::Any,
    }
}

/// What setting this class needs of the handle.
fn set_operation(class: FileInformationClass) -> Operation {
    use FileInformationClass::*;
    match class {
        Basic => Operation::SetAttributes,
        Rename | RenameExtended | Disposition | DispositionExtended | ShortName => Operation::Delete,
        EndOfFile | Allocation | ValidDataLength => Operation::SetSize,
        FullExtendedAttributes => Operation::SetExtendedAttributes,
        _ => Operation::Any,
    }
}

impl<E: Environment> Server<E> {
    pub(super) fn query_info(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let parsed = query_info::Request::parse(request.message)?;
        if parsed.output_length > self.configuration.maximum_transfer {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        request.check_charge(parsed.output_length.max(parsed.input.len() as u32))?;
        let mut output = Vec::new();
        let limit = parsed.output_length as usize;
        match parsed.info_type {
            _ if request.on_pipes => output = self.query_pipe(request, &parsed)?,
            query_info::INFO_FILE => self.query_file(request, &parsed, &mut output)?,
            query_info::INFO_FILE_SYSTEM => self.query_file_system(request, &parsed, &mut output)?,
            query_info::INFO_SECURITY => {
                self.query_security(request, &parsed, &mut output)?;
                if output.len() > limit {
                    // 3.3.5.20.3: the length that would do goes with the error.
                    let needed = (output.len() as u32).to_le_bytes().to_vec();
                    return Ok(Outcome::ErrorData(NtStatus::BUFFER_TOO_SMALL, needed));
                }
            }
            query_info::INFO_QUOTA => return Err(NtStatus::NOT_SUPPORTED),
            _ => return Err(NtStatus::INVALID_PARAMETER),
        }
        let status = if output.len() > limit { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS };
        output.truncate(limit);
        query_info::emit(writer, output.len() as u32);
        writer.bytes(&output);
        Ok(Outcome::Done(status))
    }

    fn query_file(
        &self,
        request: &Request<'_>,
        parsed: &query_info::Request<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), NtStatus> {
        let class = FileInformationClass::from_wire(parsed.class);
        let operation = class.map_or(Operation::Any, query_operation);
        let open = self.open_file(request, parsed.file_id, operation)?;
        let class = class.ok_or(NtStatus::INVALID_INFO_CLASS)?;
        let Some(minimum) = class.minimum_output() else {
            use FileInformationClass::*;
            return Err(match class {
                ObjectId | Quota | ReparsePoint => NtStatus::NOT_SUPPORTED,
                _ => NtStatus::INVALID_INFO_CLASS,
            });
        };
        if parsed.output_length < minimum {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        if class == FileInformationClass::FullExtendedAttributes {
            return Err(NtStatus::NO_EAS_ON_FILE);
        }
        let metadata = open.metadata()?;
        let mut name = Vec::new();
        use FileInformationClass as Class;
        if matches!(class, Class::Name | Class::NormalizedName | Class::All | Class::AlternateName) {
            name.push(SEPARATOR);
            open.volume.path(open.node, &mut name)?;
        }
        let mut short = Vec::new();
        if class == Class::AlternateName {
            open.volume.short_name(open.node, &mut short)?;
            if short.is_empty() {
                let last = names::last(&name);
                let made = short_name(last);
                short.extend_from_slice(made.as_ref().map_or(last, |made| made.units()));
            }
        }
        let serial = match class {
            Class::Id => u64::from(open.volume.information().serial),
            _ => 0,
        };
        let position = match class {
            Class::Position | Class::All => self.position(&open),
            _ => 0,
        };
        let stream = [StreamEntry { name: &DATA_STREAM, size: metadata.size, allocated: metadata.allocated }];
        let information = FileInformation {
            created: metadata.created,
            accessed: metadata.accessed,
            modified: metadata.modified,
            changed: open.changed(&metadata),
            attributes: metadata.attributes,
            size: metadata.size,
            allocated: metadata.allocated,
            links: u32::from(!open.delete_pending),
            delete_pending: open.delete_pending,
            file_id: metadata.file_id,
            volume_serial: serial,
            access: open.access,
            position,
            mode: mode(&open),
            name: &name,
            short_name: &short,
            streams: if open.directory { &[] } else { &stream },
        };
        if information.emit(class, &mut Writer::new(output)) {
            Ok(())
        } else {
            Err(NtStatus::INVALID_PARAMETER)
        }
    }

    fn position(&self, open: &Open<E::Volume>) -> u64 {
        let state = self.state.lock();
        let extra = state.handles.get(open.handle).and_then(|handle| handle.extra);
        extra.and_then(|extra| state.extras.get(extra)).map_or(0, |extra| extra.position)
    }

    fn query_file_system(
        &self,
        request: &Request<'_>,
        parsed: &query_info::Request<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), NtStatus> {
        let open = self.open_file(request, parsed.file_id, Operation::Any)?;
        let class =
            FileSystemInformationClass::from_wire(parsed.class).ok_or(NtStatus::INVALID_INFO_CLASS)?;
        if parsed.output_length < class.minimum_output() {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let volume = open.volume.information();
        let space = open.volume.space()?;
        let cluster = u64::from(space.cluster.max(1));
        let sector = space.sector.max(1);
        let mut attributes =
            FileSystemAttributes::CASE_PRESERVED_NAMES | FileSystemAttributes::UNICODE_ON_DISK;
        if volume.read_only {
            attributes |= FileSystemAttributes::READ_ONLY_VOLUME;
        }
        let mut object_id = [0; 16];
        if let Some(field) = object_id.first_chunk_mut::<4>() {
            *field = volume.serial.to_le_bytes();
        }
        FileSystemInformation {
            created: volume.created,
            serial: volume.serial,
            label: &volume.label,
            total_clusters: space.total / cluster,
            free_clusters: space.free / cluster,
            sectors_per_cluster: (space.cluster / sector).max(1),
            bytes_per_sector: sector,
            attributes,
            maximum_component: volume.maximum_component,
            file_system: volume.file_system,
            object_id: VolumeObjectId(object_id),
        }
        .emit(class, &mut Writer::new(output));
        Ok(())
    }

    fn query_security(
        &self,
        request: &Request<'_>,
        parsed: &query_info::Request<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), NtStatus> {
        let parts = SecurityInformation::from_bits_truncate(parsed.additional);
        let operation = if parts.contains(SecurityInformation::SACL) {
            Operation::QuerySystemSecurity
        } else {
            Operation::QuerySecurity
        };
        let open = self.open_file(request, parsed.file_id, operation)?;
        let access = {
            let state = self.state.lock();
            request.tree.and_then(|tree| state.trees.get(tree)).map(|tree| tree.access.maximal())
        };
        SecurityDescriptor {
            owner: Sid::ADMINISTRATORS,
            group: Sid::USERS,
            access: access.unwrap_or_default(),
            directory: open.directory,
        }
        .emit(parts, &mut Writer::new(output));
        Ok(())
    }

    pub(super) fn set_info(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let parsed = set_info::Request::parse(request.message)?;
        if parsed.input.len() > self.configuration.maximum_transfer as usize {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        request.check_charge(parsed.input.len() as u32)?;
        if request.on_pipes {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        match parsed.info_type {
            query_info::INFO_FILE => {
                if let Some(file) = self.set_file(request, &parsed)? {
                    self.park_again(request, file, None)?;
                    return Ok(Outcome::Parked);
                }
            }
            query_info::INFO_FILE_SYSTEM | query_info::INFO_QUOTA => {
                self.open_file(request, parsed.file_id, Operation::Any)?;
                return Err(NtStatus::NOT_SUPPORTED);
            }
            query_info::INFO_SECURITY => {
                // One operation for each part that is to be set; all are refused in the end, for nothing is stored.
                let parts = SecurityInformation::from_bits_retain(parsed.additional);
                for (part, operation) in [
                    (SecurityInformation::OWNER | SecurityInformation::GROUP, Operation::SetOwner),
                    (SecurityInformation::DACL, Operation::SetAccess),
                    (SecurityInformation::SACL, Operation::SetSystemSecurity),
                ] {
                    if parts.intersects(part) {
                        self.open_file(request, parsed.file_id, operation)?;
                    }
                }
                self.open_file(request, parsed.file_id, Operation::Any)?;
                return Err(NtStatus::NOT_SUPPORTED);
            }
            _ => return Err(NtStatus::INVALID_PARAMETER),
        }
        set_info::emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// Sets a class; gives the open file (raw id) for which others must give up what they cache first.
    fn set_file(
        &self,
        request: &Request<'_>,
        parsed: &set_info::Request<'_>,
    ) -> Result<Option<u32>, NtStatus> {
        let class = FileInformationClass::from_wire(parsed.class);
        let operation = class.map_or(Operation::Any, set_operation);
        let open = self.open_file(request, parsed.file_id, operation)?;
        use FileInformationClass as Class;
        let class = class.ok_or(NtStatus::INVALID_INFO_CLASS)?;
        if matches!(class, Class::Rename | Class::RenameExtended) {
            let extended = class == Class::RenameExtended;
            return self.rename(&open, &short(RenameRequest::parse(parsed.input, extended))?);
        }
        match class {
            Class::Basic => self.set_basic(&open, &short(BasicChange::parse(parsed.input))?),
            Class::Disposition => {
                let delete = short(fscc::disposition(parsed.input))?;
                let flags = if delete { DispositionFlags::DELETE } else { DispositionFlags::empty() };
                self.set_disposition(&open, flags)
            }
            Class::DispositionExtended => {
                self.set_disposition(&open, short(fscc::disposition_extended(parsed.input))?)
            }
            Class::EndOfFile => {
                let size = fixed(parsed.input, fscc::end_of_file)?;
                self.set_size(&open, size)
            }
            Class::Allocation => {
                let allocation = fixed(parsed.input, fscc::allocation_size)?;
                if open.directory {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                self.change_contends(open.file, open.handle);
                let metadata = open.volume.metadata(open.node)?;
                let promised = self.allocation(&open.volume, allocation, metadata.allocated)?;
                self.promise(open.handle, promised)?;
                // MS-FSA 2.1.5.15.1: it cuts the file, but never lengthens it.
                if allocation < metadata.size { self.set_size(&open, allocation) } else { Ok(()) }
            }
            Class::Position => {
                let position = fixed(parsed.input, fscc::position)?;
                let mut state = self.state.lock();
                let extra = state.extra_of(open.handle).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
                extra.position = position;
                Ok(())
            }
            Class::Mode => {
                let mode = short(fscc::mode(parsed.input))?;
                if mode & !MODES != 0 { Err(NtStatus::INVALID_PARAMETER) } else { self.set_mode(&open, mode) }
            }
            Class::FullExtendedAttributes => Err(NtStatus::EAS_NOT_SUPPORTED),
            Class::Link | Class::ShortName | Class::ValidDataLength | Class::Quota | Class::ObjectId => {
                Err(NtStatus::NOT_SUPPORTED)
            }
            _ => Err(NtStatus::INVALID_INFO_CLASS),
        }
        .map(|()| None)
    }

    /// Notes what allocation is shown for a handle's file at least.
    pub(super) fn promise(&self, handle: Id<Handle<NodeOf<E>>>, allocation: u64) -> Result<(), NtStatus> {
        let mut state = self.state.lock();
        state.extra_of(handle).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?.allocation = allocation;
        Ok(())
    }

    fn set_mode(&self, open: &Open<E::Volume>, mode: u32) -> Result<(), NtStatus> {
        let mut state = self.state.lock();
        let handle = state.handles.get_mut(open.handle).ok_or(NtStatus::FILE_CLOSED)?;
        handle.set(Handle::<NodeOf<E>>::WRITE_THROUGH, mode & option::WRITE_THROUGH != 0);
        handle.set(Handle::<NodeOf<E>>::SEQUENTIAL, mode & option::SEQUENTIAL_ONLY != 0);
        handle.set(Handle::<NodeOf<E>>::SYNCHRONOUS_ALERT, mode & option::SYNCHRONOUS_IO_ALERT != 0);
        handle.set(Handle::<NodeOf<E>>::SYNCHRONOUS, mode & option::SYNCHRONOUS_IO_NONALERT != 0);
        Ok(())
    }

    fn set_basic(&self, open: &Open<E::Volume>, change: &BasicChange) -> Result<(), NtStatus> {
        // MS-FSA 2.1.5.15.2: 0 leaves a time, -1 stops and -2 restarts its automatic updates through this handle.
        for time in [change.created, change.accessed, change.modified, change.changed] {
            if time < -2 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        let attributes = match change.attributes {
            Some(bits) => {
                let wrong =
                    if open.directory { FileAttributes::TEMPORARY } else { FileAttributes::DIRECTORY };
                if bits.intersects(wrong) {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                Some(bits & FileAttributes::STORED)
            }
            None => None,
        };
        let time = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0).map(FileTime);
        open.volume.change_metadata(
            open.node,
            &MetadataChange {
                attributes,
                created: time(change.created),
                accessed: time(change.accessed),
                modified: time(change.modified),
            },
        )?;
        let mut filter = 0;
        for (bit, set) in [
            (filter::ATTRIBUTES, attributes.is_some()),
            (filter::CREATION, change.created > 0),
            (filter::LAST_ACCESS, change.accessed > 0),
            (filter::LAST_WRITE, change.modified > 0),
        ] {
            if set {
                filter |= bit;
            }
        }
        self.note_change(open, filter);
        self.change_parent(open);
        if change.changed > 0
            && let Some(file) = self.state.lock().files.get_mut(open.file)
        {
            file.change_time = change.changed as u64;
        }
        if change.modified != 0 {
            let mut state = self.state.lock();
            if let Some(handle) = state.handles.get_mut(open.handle) {
                handle.set(Handle::<NodeOf<E>>::WRITE_TIME_SET, change.modified != -2);
                handle.set(Handle::<NodeOf<E>>::WRITTEN, false);
            }
            if change.modified > 0
                && let Some(file) = state.files.get_mut(open.file)
            {
                file.write_time = 0;
            }
        }
        Ok(())
    }

    /// Sets the end of the file, unless a locked range is in the way.
    pub(super) fn set_size(&self, open: &Open<E::Volume>, size: u64) -> Result<(), NtStatus> {
        if open.directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let current = open.volume.metadata(open.node)?.size;
        let (from, to) = (current.min(size), current.max(size));
        if !self.state.lock().may_write(open.file, open.handle, from, to - from) {
            return Err(NtStatus::FILE_LOCK_CONFLICT);
        }
        if current != size {
            self.change_contends(open.file, open.handle);
            open.volume.set_size(open.node, size)?;
            self.note_write(open);
            self.note_change(open, filter::SIZE | filter::LAST_WRITE);
            self.change_parent(open);
        }
        Ok(())
    }

    fn set_disposition(&self, open: &Open<E::Volume>, flags: DispositionFlags) -> Result<(), NtStatus> {
        let delete = flags.contains(DispositionFlags::DELETE);
        if delete {
            let metadata = open.volume.metadata(open.node)?;
            let ignored = flags.contains(DispositionFlags::IGNORE_READONLY_ATTRIBUTE);
            if metadata.attributes.contains(FileAttributes::READONLY) && !ignored {
                return Err(NtStatus::CANNOT_DELETE);
            }
            if open.directory {
                let mut path = Vec::new();
                open.volume.path(open.node, &mut path)?;
                if path.is_empty() {
                    return Err(NtStatus::CANNOT_DELETE);
                }
                if !is_empty(&*open.volume, open.node)? {
                    return Err(NtStatus::DIRECTORY_NOT_EMPTY);
                }
            }
        }
        let mut state = self.state.lock();
        if flags.contains(DispositionFlags::ON_CLOSE) {
            let handle = state.handles.get_mut(open.handle).ok_or(NtStatus::FILE_CLOSED)?;
            handle.set(Handle::<NodeOf<E>>::DELETE_ON_CLOSE, delete);
        } else {
            let file = state.files.get_mut(open.file).ok_or(NtStatus::FILE_CLOSED)?;
            file.set(OpenFile::<NodeOf<E>>::DELETE_PENDING, delete);
            if delete {
                state.end_watches_of_deleted(open.file);
                let actor = state.actor(open.handle);
                state.contend(open.file, &actor, Contention::Delete)?;
                drop(state);
                self.purge();
            }
        }
        Ok(())
    }

    /// Renames; gives the open file (raw id) for which others must give up what they cache first.
    fn rename(&self, open: &Open<E::Volume>, change: &RenameRequest) -> Result<Option<u32>, NtStatus> {
        if change.root_directory != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let name = change.name.strip_prefix(&[SEPARATOR]).unwrap_or(&change.name);
        let mut target = names::parse(name)?;
        if target.units.is_empty() {
            return Err(NtStatus::OBJECT_NAME_INVALID);
        }
        let mut path = Vec::new();
        open.volume.path(open.node, &mut path)?;
        if path.is_empty() {
            // The root stays.
            return Err(NtStatus::ACCESS_DENIED);
        }
        let mut resolved = target.units.clone();
        names::resolve_made_names(&*open.volume, &mut resolved)?;
        if names::equal(&resolved, &path) {
            // Not its own name again: the name that was made of it becomes its own.
            resolved.truncate(resolved.len() - names::last(&resolved).len());
            resolved.extend_from_slice(names::last(&target.units));
        }
        target.units = resolved;
        if path == target.units {
            return Ok(None);
        }
        if open.directory {
            if names::is_below(&target.units, &path) {
                return Err(NtStatus::OBJECT_PATH_NOT_FOUND);
            }
            self.check_nothing_open_below(open, &path)?;
        }
        let replace = change.flags.contains(RenameFlags::REPLACE_IF_EXISTS);
        let same = names::equal(&path, &target.units);
        if !same {
            self.check_rename_target(open, &target.units, replace)?;
        }
        self.check_parent(open, &path)?;
        if self.rename_waits(open)? {
            return Ok(Some(open.file.raw()));
        }
        self.store_write_time(open)?;
        open.volume.rename(open.node, &target.units, replace)?;
        self.note_rename(open, &path, &target.units);
        Ok(None)
    }

    /// Whether others must give up handles that they only cache, before the file gets another name.
    fn rename_waits(&self, open: &Open<E::Volume>) -> Result<bool, NtStatus> {
        let waits = {
            let mut state = self.state.lock();
            let actor = state.actor(open.handle);
            state.contend(open.file, &actor, Contention::Rename)?
        };
        // Those of clients that are away are closed.
        Ok(waits && !self.purge())
    }

    /// Renaming opens the directory to write in it, and shares it for reading and writing only.
    fn check_parent(&self, open: &Open<E::Volume>, path: &[u16]) -> Result<(), NtStatus> {
        let Some(parent) = names::parent(path) else { return Ok(()) };
        let node = open.volume.open(parent)?;
        let metadata = open.volume.metadata(node);
        let _ = open.volume.close(node);
        let metadata = metadata?;
        let state = self.state.lock();
        let volume = state.files.get(open.file).map(|file| file.volume).ok_or(NtStatus::FILE_CLOSED)?;
        match state.find_file(volume, metadata.file_id) {
            Some(parent) => state.check_open(parent, AccessMask::WRITE_DATA, SHARE_READ | SHARE_WRITE),
            None => Ok(()),
        }
    }

    /// A directory with open files in it is not renamed.
    fn check_nothing_open_below(&self, open: &Open<E::Volume>, directory: &[u16]) -> Result<(), NtStatus> {
        let nodes: Vec<_> = {
            let state = self.state.lock();
            let Some(own) = state.files.get(open.file) else { return Err(NtStatus::FILE_CLOSED) };
            let volume = own.volume;
            state
                .files
                .iter()
                .filter(|(id, file)| file.volume == volume && *id != open.file)
                .map(|(_, file)| file.node)
                .collect()
        };
        let mut path = Vec::new();
        for node in nodes {
            path.clear();
            if open.volume.path(node, &mut path).is_ok() && names::is_below(&path, directory) {
                return Err(NtStatus::ACCESS_DENIED);
            }
        }
        Ok(())
    }

    /// What is at the new name may be in the way.
    fn check_rename_target(
        &self,
        open: &Open<E::Volume>,
        target: &[u16],
        replace: bool,
    ) -> Result<(), NtStatus> {
        let node = match open.volume.open(target) {
            Ok(node) => node,
            Err(VolumeError::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let metadata = open.volume.metadata(node);
        let _ = open.volume.close(node);
        let metadata: Metadata = metadata?;
        if !replace {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        if metadata.kind == NodeKind::Directory
            || open.directory
            || metadata.attributes.contains(FileAttributes::READONLY)
        {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let state = self.state.lock();
        let volume = state.files.get(open.file).map(|file| file.volume).ok_or(NtStatus::FILE_CLOSED)?;
        if state.find_file(volume, metadata.file_id).is_some() {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(())
    }
}

/// A structure that is cut short is a mismatch of lengths.
fn short<T>(parsed: Result<T, crate::reader::Malformed>) -> Result<T, NtStatus> {
    parsed.map_err(|_| NtStatus::INFO_LENGTH_MISMATCH)
}

/// Eight bytes; a number out of bounds is an invalid parameter.
fn fixed(
    input: &[u8],
    parse: impl Fn(&[u8]) -> Result<u64, crate::reader::Malformed>,
) -> Result<u64, NtStatus> {
    if input.len() < 8 {
        return Err(NtStatus::INFO_LENGTH_MISMATCH);
    }
    parse(input).map_err(|_| NtStatus::INVALID_PARAMETER)
}

/// FileModeInformation of a handle.
fn mode<V: Volume>(open: &Open<V>) -> u32 {
    [
        (Handle::<V::Node>::WRITE_THROUGH, option::WRITE_THROUGH),
        (Handle::<V::Node>::SEQUENTIAL, option::SEQUENTIAL_ONLY),
        (Handle::<V::Node>::UNBUFFERED, option::NO_INTERMEDIATE_BUFFERING),
        (Handle::<V::Node>::SYNCHRONOUS_ALERT, option::SYNCHRONOUS_IO_ALERT),
        (Handle::<V::Node>::SYNCHRONOUS, option::SYNCHRONOUS_IO_NONALERT),
        (Handle::<V::Node>::DELETE_ON_CLOSE, option::DELETE_ON_CLOSE),
    ]
    .into_iter()
    .filter(|(flag, _)| open.has(*flag))
    .fold(0, |mode, (_, bit)| mode | bit)
}
