//! IOCTL (MS-SMB2 3.3.5.15).

use alloc::vec;
use alloc::vec::Vec;

use super::access::Operation;
use super::dispatch::{Handled, Outcome, Request};
use super::file::Open;
use super::{PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Payload, Volume};
use crate::reader::{Reader, Writer};
use crate::status::NtStatus;
use crate::wire::FileId;
use crate::wire::ioctl::{self as wire, IS_FSCTL, control};
use crate::wire::negotiate::Dialect;

/// STATUS_INVALID_VIEW_SIZE: a copy's source ends before the chunk does.
const INVALID_VIEW_SIZE: NtStatus = NtStatus(0xC000_001F);

/// Bytes of a NETWORK_INTERFACE_INFO.
const INTERFACE_SIZE: usize = 152;

/// Chunks of one COPYCHUNK.
const MAXIMUM_CHUNKS: u32 = 256;
/// Bytes of a chunk.
const MAXIMUM_CHUNK: u32 = 1 << 20;
/// Bytes of all chunks.
const MAXIMUM_COPY: u32 = 16 << 20;
/// Bytes copied or zeroed at a time.
const PIECE: u32 = 1 << 16;
/// The bytes that follow the handle in a resume key, so that not any number is one.
const RESUME_KEY_MARK: [u8; 12] = *b"resume key\0\0";

impl<E: Environment> Server<E> {
    pub(super) fn ioctl(&self, request: &mut Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        let parsed = wire::Request::parse(request.message)?;
        if parsed.flags != IS_FSCTL {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let largest = parsed.maximum_output.max(parsed.maximum_input);
        if largest > self.configuration.maximum_transfer
            || parsed.input.len() > self.configuration.maximum_transfer as usize
        {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        request.check_charge(largest.max(parsed.input.len() as u32))?;
        let output = match parsed.control {
            control::VALIDATE_NEGOTIATE_INFO => {
                match self.validate_negotiate(request, parsed.input, parsed.maximum_output)? {
                    Some(output) => output,
                    None => return Ok(Outcome::Disconnect),
                }
            }
            control::DFS_GET_REFERRALS | control::DFS_GET_REFERRALS_EX => {
                // 3.3.5.15.2: there is no DFS here.
                return Err(NtStatus::FS_DRIVER_REQUIRED);
            }
            control::REQUEST_RESUME_KEY => self.resume_key(request, &parsed)?,
            control::COPYCHUNK | control::COPYCHUNK_WRITE => {
                return self.copy_chunk(request, &parsed, writer);
            }
            control::SET_ZERO_DATA => self.zero_data(request, &parsed)?,
            control::QUERY_ALLOCATED_RANGES => {
                let output = self.allocated_ranges(request, &parsed)?;
                if output.len() > parsed.maximum_output as usize {
                    return Err(NtStatus::BUFFER_TOO_SMALL);
                }
                output
            }
            control::GET_REPARSE_POINT => {
                self.open_file(request, parsed.file_id, Operation::Any)?;
                return Err(NtStatus::NOT_A_REPARSE_POINT);
            }
            control::GET_COMPRESSION => {
                self.open_file(request, parsed.file_id, Operation::Any)?;
                if parsed.maximum_output < 2 {
                    return Err(NtStatus::BUFFER_TOO_SMALL);
                }
                // Nothing is compressed.
                0u16.to_le_bytes().to_vec()
            }
            control::SET_COMPRESSION => {
                self.open_file(request, parsed.file_id, Operation::Write)?;
                if Reader::new(parsed.input).u16()? != 0 {
                    return Err(NtStatus::NOT_SUPPORTED);
                }
                Vec::new()
            }
            control::QUERY_NETWORK_INTERFACE_INFO => {
                if parsed.file_id != FileId::PREVIOUS {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                let output = self.network_interfaces(request)?;
                if output.len() > parsed.maximum_output as usize {
                    return Err(NtStatus::BUFFER_TOO_SMALL);
                }
                output
            }
            control::PIPE_TRANSCEIVE => {
                if !request.on_pipes {
                    self.open_file(request, parsed.file_id, Operation::Any)?;
                    return Err(NtStatus::INVALID_DEVICE_REQUEST);
                }
                return self.transceive(request, &parsed, writer);
            }
            control::PIPE_WAIT => self.pipe_wait(request, parsed.input)?,
            control::CREATE_OR_GET_OBJECT_ID => self.object_id(request, &parsed)?,
            _ => {
                self.open_file(request, parsed.file_id, Operation::Any)?;
                return Err(NtStatus::INVALID_DEVICE_REQUEST);
            }
        };
        wire::emit(writer, parsed.control, request.file(parsed.file_id), &output);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    /// FSCTL_QUERY_NETWORK_INTERFACE_INFO (2.2.32.5).
    fn network_interfaces(&self, request: &Request<'_>) -> Result<Vec<u8>, NtStatus> {
        let state = self.state.lock();
        if request.dialect < Some(Dialect::Smb300) || state.interfaces.is_empty() {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let mut output = Vec::new();
        let mut writer = Writer::new(&mut output);
        let count = state.interfaces.len();
        for (index, interface) in state.interfaces.iter().enumerate() {
            let start = writer.position();
            writer.u32(if index + 1 == count { 0 } else { INTERFACE_SIZE as u32 });
            writer.u32(interface.index);
            writer.u32(0);
            writer.u32(0);
            writer.u64(interface.speed);
            // SOCKADDR_STORAGE: family, port, address.
            match interface.address {
                core::net::IpAddr::V4(address) => {
                    writer.u16(2);
                    writer.u16(0);
                    writer.bytes(&address.octets());
                }
                core::net::IpAddr::V6(address) => {
                    writer.u16(0x17);
                    writer.u16(0);
                    writer.u32(0);
                    writer.bytes(&address.octets());
                }
            }
            let written = writer.position() - start;
            writer.zeros(INTERFACE_SIZE - written);
        }
        Ok(output)
    }

    /// FSCTL_SRV_REQUEST_RESUME_KEY: 24 bytes that name the handle.
    fn resume_key(&self, request: &Request<'_>, parsed: &wire::Request<'_>) -> Result<Vec<u8>, NtStatus> {
        let open = self.open_file(request, parsed.file_id, Operation::Any)?;
        if parsed.maximum_output < 32 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut output = Vec::new();
        let mut writer = Writer::new(&mut output);
        writer.u32(open.handle.raw());
        writer.u64(open.file_id);
        writer.bytes(&RESUME_KEY_MARK);
        writer.u32(0);
        writer.u32(0);
        Ok(output)
    }

    /// FSCTL_CREATE_OR_GET_OBJECT_ID (MS-FSCC 2.3.1): made of the volume's and the file's number.
    fn object_id(&self, request: &Request<'_>, parsed: &wire::Request<'_>) -> Result<Vec<u8>, NtStatus> {
        let open = self.open_file(request, parsed.file_id, Operation::Any)?;
        if parsed.maximum_output < 64 {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        let volume = u64::from(open.volume.information().serial);
        let mut output = Vec::new();
        let mut writer = Writer::new(&mut output);
        for (high, low) in [(volume, open.file_id), (volume, 0), (volume, open.file_id), (0, 0)] {
            writer.u64(low);
            writer.u64(high);
        }
        Ok(output)
    }

    /// The handle that a resume key names, if it is of the same session.
    fn resumed(&self, request: &Request<'_>, key: &[u8]) -> Result<Open<E::Volume>, NtStatus> {
        let mut reader = Reader::new(key);
        let handle = reader.u32()?;
        let file = reader.u64()?;
        if reader.bytes(RESUME_KEY_MARK.len())? != RESUME_KEY_MARK {
            return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        let tree = {
            let state = self.state.lock();
            let tree = Id::from_raw(handle)
                .and_then(|id| state.handles.get(id))
                .and_then(|handle| handle.tree)
                .ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
            let session = state.trees.get(tree).map(|tree| tree.session);
            if session.is_none() || session != request.session {
                return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
            }
            tree
        };
        // The source may be open in another tree of the session.
        let elsewhere = Request {
            connection: request.connection,
            header: request.header,
            message: request.message,
            dialect: request.dialect,
            session: request.session,
            tree: Some(tree),
            on_pipes: false,
            previous_file: None,
            used_file: core::cell::Cell::new(None),
            last: request.last,
            rest: request.rest,
            resumed: None,
            before: request.before,
            encrypted: request.encrypted,
            sign_with: None,
            hash: request.hash,
        };
        let name = FileId { persistent: u64::from(handle), volatile: u64::from(handle) };
        let open = self.open_file(&elsewhere, name, Operation::CopyFrom)?;
        if open.file_id != file { Err(NtStatus::OBJECT_NAME_NOT_FOUND) } else { Ok(open) }
    }

    /// FSCTL_SRV_COPYCHUNK (3.3.5.15.6).
    fn copy_chunk(
        &self,
        request: &Request<'_>,
        parsed: &wire::Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let operation =
            if parsed.control == control::COPYCHUNK { Operation::CopyTo } else { Operation::CopyToWriteOnly };
        if parsed.maximum_output < 12 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut reader = Reader::new(parsed.input);
        let key = reader.bytes(24usize)?;
        let count = reader.u32()?;
        reader.skip(4usize)?;
        let source = self.resumed(request, key)?;
        let target = self.open_file(request, parsed.file_id, operation)?;
        if source.directory || target.directory {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        if count > MAXIMUM_CHUNKS {
            return Ok(answer_copy(request, parsed, writer, NtStatus::INVALID_PARAMETER, LIMITS));
        }
        let mut chunks = Vec::new();
        let mut total = 0u64;
        for _ in 0..count {
            let chunk = (reader.u64()?, reader.u64()?, reader.u32()?);
            reader.skip(4usize)?;
            total += u64::from(chunk.2);
            if chunk.2 == 0 || chunk.2 > MAXIMUM_CHUNK || total > u64::from(MAXIMUM_COPY) {
                return Ok(answer_copy(request, parsed, writer, NtStatus::INVALID_PARAMETER, LIMITS));
            }
            chunks.push(chunk);
        }
        let mut written = 0u32;
        let mut bytes = 0u32;
        let mut status = NtStatus::SUCCESS;
        for (from, to, length) in chunks {
            match self.copy_one(&source, &target, from, to, length) {
                Ok(()) => {
                    written += 1;
                    bytes += length;
                }
                Err(error) => {
                    status = error;
                    break;
                }
            }
        }
        if bytes > 0 {
            self.note_write(&target);
        }
        Ok(answer_copy(request, parsed, writer, status, (written, 0, bytes)))
    }

    fn copy_one(
        &self,
        source: &Open<E::Volume>,
        target: &Open<E::Volume>,
        from: u64,
        to: u64,
        length: u32,
    ) -> Result<(), NtStatus> {
        let bytes = u64::from(length);
        let ends = (from.checked_add(bytes), to.checked_add(bytes));
        let (Some(source_end), Some(_)) = ends else { return Err(NtStatus::INVALID_PARAMETER) };
        {
            let state = self.state.lock();
            if !state.may_read(source.file, source.handle, from, bytes)
                || !state.may_write(target.file, target.handle, to, bytes)
            {
                return Err(NtStatus::FILE_LOCK_CONFLICT);
            }
        }
        if source_end > source.volume.metadata(source.node)?.size {
            return Err(INVALID_VIEW_SIZE);
        }
        // Where a file is copied onto itself, further on, what comes later must be read before it is written over.
        let backward = source.file == target.file && from < to;
        let mut pieces: Vec<u32> = (0..length).step_by(PIECE as usize).collect();
        if backward {
            pieces.reverse();
        }
        for start in pieces {
            let size = (length - start).min(PIECE);
            let payload = source.volume.read(source.node, from + u64::from(start), size)?;
            let mut piece = Vec::with_capacity(size as usize);
            payload.for_each(&mut |bytes| piece.extend_from_slice(bytes));
            target.volume.write(target.node, to + u64::from(start), &piece)?;
        }
        Ok(())
    }

    /// FSCTL_SET_ZERO_DATA (MS-FSCC 2.3.71): what lies beyond the end of the file is zero already.
    fn zero_data(&self, request: &Request<'_>, parsed: &wire::Request<'_>) -> Result<Vec<u8>, NtStatus> {
        let open = self.open_file(request, parsed.file_id, Operation::SetSize)?;
        let mut reader = Reader::new(parsed.input);
        let from = reader.u64()?;
        let to = reader.u64()?;
        if from > to || to > i64::MAX as u64 || open.directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !self.state.lock().may_write(open.file, open.handle, from, to - from) {
            return Err(NtStatus::FILE_LOCK_CONFLICT);
        }
        let end = to.min(open.volume.metadata(open.node)?.size);
        let zeros = vec![0; PIECE as usize];
        let mut at = from;
        while at < end {
            let size = (end - at).min(u64::from(PIECE));
            open.volume.write(open.node, at, zeros.get(..size as usize).unwrap_or(&zeros))?;
            at += size;
        }
        if from < end {
            self.note_write(&open);
        }
        Ok(Vec::new())
    }

    /// FSCTL_QUERY_ALLOCATED_RANGES (MS-FSCC 2.3.49): all of the file is allocated.
    fn allocated_ranges(
        &self,
        request: &Request<'_>,
        parsed: &wire::Request<'_>,
    ) -> Result<Vec<u8>, NtStatus> {
        let open = self.open_file(request, parsed.file_id, Operation::Read)?;
        let mut reader = Reader::new(parsed.input);
        let from = reader.u64()?;
        let length = reader.u64()?;
        let end = from.checked_add(length).filter(|end| *end <= i64::MAX as u64);
        let end = end.ok_or(NtStatus::INVALID_PARAMETER)?;
        let end = end.min(open.metadata()?.size);
        let mut output = Vec::new();
        if from < end {
            let mut writer = Writer::new(&mut output);
            writer.u64(from);
            writer.u64(end - from);
        }
        Ok(output)
    }
}

/// What a COPYCHUNK that asks for too much is told: chunks, bytes a chunk, bytes in all.
const LIMITS: (u32, u32, u32) = (MAXIMUM_CHUNKS, MAXIMUM_CHUNK, MAXIMUM_COPY);

fn answer_copy<P>(
    request: &Request<'_>,
    parsed: &wire::Request<'_>,
    writer: &mut Writer<'_>,
    status: NtStatus,
    numbers: (u32, u32, u32),
) -> Outcome<P> {
    let mut output = Vec::new();
    let mut fields = Writer::new(&mut output);
    fields.u32(numbers.0);
    fields.u32(numbers.1);
    fields.u32(numbers.2);
    wire::emit(writer, parsed.control, request.file(parsed.file_id), &output);
    Outcome::Done(status)
}
