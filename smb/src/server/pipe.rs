//! Named pipes on IPC$ (MS-SMB2 3.3.5.9 to 3.3.5.15 where they speak of pipes): opened by name, written, read,
//! transceived. What is said in them is `rpc`'s business.

use alloc::vec::Vec;

use super::dispatch::{Handled, Outcome, Request};
use super::state::{Session, State, Tree};
use super::{PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Volume};
use crate::fscc::FileInformationClass;
use crate::reader::{Reader, Writer};
use crate::rpc;
use crate::status::NtStatus;
use crate::wire::create::{self, action};
use crate::wire::{self, FileId, query_info};

/// An open pipe.
pub(crate) struct OpenPipe {
    pub tree: Id<Tree>,
    pub pipe: rpc::Pipe,
}

/// Pipes that one session can have open: the others get theirs, too.
const PIPES_OF_A_SESSION: usize = 16;

/// Set in the volatile id of a pipe: files have it clear.
const PIPE_MARK: u64 = 1 << 32;

/// The pipe's raw id, if the id is a pipe's.
fn pipe_id(id: FileId) -> Option<Id<OpenPipe>> {
    if id.volatile >> 32 != 1 {
        return None;
    }
    Id::from_raw(id.volatile as u32)
}

impl<V: Volume> State<V> {
    /// The pipe that a request names, if it is one of its tree's.
    fn pipe(&mut self, request: &Request<'_>, named: FileId) -> Result<&mut rpc::Pipe, NtStatus> {
        let named = request.file(named);
        let id = pipe_id(named).ok_or(NtStatus::FILE_CLOSED)?;
        let pipe = self.pipes.get_mut(id).ok_or(NtStatus::FILE_CLOSED)?;
        if Some(pipe.tree) != request.tree {
            return Err(NtStatus::FILE_CLOSED);
        }
        request.used_file.set(Some(named));
        Ok(&mut pipe.pipe)
    }

    /// Closes what a tree has of pipes.
    pub fn close_pipes(&mut self, tree: Id<Tree>) {
        let own: Vec<_> = self.pipes.iter().filter(|(_, pipe)| pipe.tree == tree).map(|(id, _)| id).collect();
        for id in own {
            self.pipes.remove(id);
        }
    }
}

impl<E: Environment> Server<E> {
    /// What the services may tell.
    fn machine(&self) -> rpc::Machine {
        let (seconds, nanoseconds) = self.environment.now().to_unix();
        let mut accounts = Vec::new();
        self.environment.visit_accounts(&mut |account| {
            let name = account.name.encode_utf16().collect();
            accounts.push(rpc::AccountEntry { user: account.user, name, disabled: account.disabled });
        });
        let state = self.state.lock();
        rpc::Machine {
            name: self.configuration.name.clone(),
            workgroup: self.configuration.workgroup.clone(),
            identifier: self.configuration.machine_identifier(),
            accounts,
            shares: state
                .shares
                .iter()
                .map(|(_, share)| rpc::ShareEntry {
                    name: share.name.clone(),
                    remark: share.remark.clone(),
                    pipes: share.volume.is_none(),
                    hidden: share.hidden,
                })
                .collect(),
            time: (seconds, nanoseconds / 10_000_000),
        }
    }

    pub(super) fn create_pipe(
        &self,
        request: &Request<'_>,
        parsed: &create::Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<super::create::Created<PayloadOf<E>>, NtStatus> {
        let tree = request.tree.ok_or(NtStatus::NETWORK_NAME_DELETED)?;
        let id = {
            let mut state = self.state.lock();
            let session = state.trees.get(tree).ok_or(NtStatus::NETWORK_NAME_DELETED)?.session;
            let entry = state.sessions.get(session).ok_or(NtStatus::USER_SESSION_DELETED)?;
            let caller = (!entry.has(Session::ANONYMOUS)).then_some(entry.user);
            let pipe = rpc::Pipe::open(&parsed.name, caller)?;
            let of_session =
                |pipe: &OpenPipe| state.trees.get(pipe.tree).is_some_and(|tree| tree.session == session);
            if state.pipes.iter().filter(|(_, pipe)| of_session(pipe)).count() >= PIPES_OF_A_SESSION {
                return Err(NtStatus::INSUFFICIENT_RESOURCES);
            }
            state.pipes.insert(OpenPipe { tree, pipe }).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?
        };
        let volatile = PIPE_MARK | u64::from(id.raw());
        let file_id = FileId { persistent: volatile, volatile };
        create::Response {
            oplock: 0,
            action: action::OPENED,
            times: [0; 4],
            allocated: 4096,
            size: 0,
            attributes: 0x80,
            file_id,
            contexts: &[],
        }
        .emit(writer);
        Ok((Some(file_id), Outcome::Done(NtStatus::SUCCESS)))
    }

    pub(super) fn close_pipe(&self, request: &Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        let parsed = wire::close::Request::parse(request.message)?;
        let mut state = self.state.lock();
        state.pipe(request, parsed.file_id)?;
        if let Some(id) = pipe_id(request.file(parsed.file_id)) {
            state.pipes.remove(id);
        }
        wire::close::Response::default().emit(writer);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    pub(super) fn write_pipe(&self, request: &Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        let parsed = wire::write::Request::parse(request.message)?;
        self.feed(request, parsed.file_id, parsed.data)?;
        wire::write::emit(writer, parsed.data.len() as u32);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    fn feed(&self, request: &Request<'_>, file_id: FileId, data: &[u8]) -> Result<(), NtStatus> {
        let machine = self.machine();
        let mut state = self.state.lock();
        state.pipe(request, file_id)?.write(data, &machine).map_err(|_| NtStatus::PIPE_DISCONNECTED)
    }

    pub(super) fn read_pipe(&self, request: &Request<'_>, writer: &mut Writer<'_>) -> Handled<PayloadOf<E>> {
        let parsed = wire::read::Request::parse(request.message)?;
        request.check_charge(parsed.length)?;
        let mut state = self.state.lock();
        let pipe = state.pipe(request, parsed.file_id)?;
        let left = pipe.available();
        if left == 0 {
            // There is only one end: nothing will come while the client waits.
            return Err(NtStatus::PIPE_EMPTY);
        }
        let data = pipe.read(parsed.length as usize);
        let more = data.len() < left;
        wire::read::emit(writer, data.len() as u32);
        writer.bytes(&data);
        Ok(Outcome::Done(if more { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS }))
    }

    /// FileStandardInformation, the one thing that Windows asks of a pipe (MS-FSCC 2.4.47): 4 KiB, one link, gone
    /// when it is closed.
    pub(super) fn query_pipe(
        &self,
        request: &Request<'_>,
        parsed: &query_info::Request<'_>,
    ) -> Result<Vec<u8>, NtStatus> {
        self.state.lock().pipe(request, parsed.file_id)?;
        let standard = FileInformationClass::from_wire(parsed.class) == Some(FileInformationClass::Standard);
        if parsed.info_type != query_info::INFO_FILE || !standard {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        if parsed.output_length < 24 {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let mut output = Vec::new();
        let mut writer = Writer::new(&mut output);
        writer.u64(4096);
        writer.u64(0);
        writer.u32(1);
        writer.u32(1);
        Ok(output)
    }

    /// FSCTL_PIPE_WAIT (MS-FSCC 2.3.47): a pipe that is there can be opened at once.
    pub(super) fn pipe_wait(&self, request: &Request<'_>, input: &[u8]) -> Result<Vec<u8>, NtStatus> {
        if !request.on_pipes {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        let mut reader = Reader::new(input);
        // Time-out.
        reader.skip(8usize)?;
        let length = reader.u32()?;
        reader.skip(2usize)?;
        let name = reader.utf16(length)?;
        if rpc::Pipe::exists(&name) { Ok(Vec::new()) } else { Err(NtStatus::OBJECT_NAME_NOT_FOUND) }
    }

    /// FSCTL_PIPE_TRANSCEIVE: a write and a read in one.
    pub(super) fn transceive(
        &self,
        request: &Request<'_>,
        parsed: &wire::ioctl::Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        // MS-FSCC 2.3.45: an answer to be read first would be taken for this one's.
        if self.state.lock().pipe(request, parsed.file_id)?.available() > 0 {
            return Err(NtStatus::PIPE_BUSY);
        }
        self.feed(request, parsed.file_id, parsed.input)?;
        let mut state = self.state.lock();
        let pipe = state.pipe(request, parsed.file_id)?;
        let left = pipe.available();
        let data = pipe.read(parsed.maximum_output as usize);
        let more = data.len() < left;
        wire::ioctl::emit(writer, parsed.control, request.file(parsed.file_id), &data);
        Ok(Outcome::Done(if more { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS }))
    }
}
