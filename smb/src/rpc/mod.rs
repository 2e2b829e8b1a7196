//! DCE/RPC over named pipes (C706, MS-RPCE): connection-oriented PDUs in, PDUs out, without I/O.
//!
//! A [`Pipe`] takes the bytes that a client writes and holds the messages that it will read. Only little-endian NDR
//! version 2 without authentication is spoken, which is what clients use inside a signed or encrypted SMB session.

mod handles;
mod lsarpc;
mod ndr;
mod principals;
mod samr;
mod srvsvc;
#[cfg(test)]
mod tests;
mod wkssvc;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::environment::UserId;
use crate::reader::{Malformed, Reader, Writer};
use crate::status::NtStatus;
use handles::{Handles, Object};
use ndr::{NdrReader, NdrWriter};

/// What the services know of the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// NetBIOS name, UTF-16.
    pub name: Vec<u16>,
    /// Workgroup, UTF-16.
    pub workgroup: Vec<u16>,
    /// The three numbers of its security identifier, S-1-5-21-a-b-c.
    pub identifier: [u32; 3],
    /// Shares that are shown: name, remark, whether it is IPC$.
    pub shares: Vec<ShareEntry>,
    /// Its accounts.
    pub accounts: Vec<AccountEntry>,
    /// The wall clock: seconds since 1970 and hundredths of a second.
    pub time: (i64, u32),
}

/// A share as a service lists it.
#[derive(Clone, Debug)]
pub struct ShareEntry {
    /// Its name, UTF-16.
    pub name: Vec<u16>,
    /// Its description, UTF-16.
    pub remark: Vec<u16>,
    /// Pipes, not files.
    pub pipes: bool,
    /// Not shown in lists.
    pub hidden: bool,
}

/// An account as a service shows it.
#[derive(Clone, Debug)]
pub struct AccountEntry {
    /// Its number.
    pub user: UserId,
    /// Its name, UTF-16.
    pub name: Vec<u16>,
    /// May not log on.
    pub disabled: bool,
}

/// One call of an operation.
struct Call<'a, 'b> {
    machine: &'a Machine,
    caller: UserId,
    handles: &'a mut Handles,
    arguments: &'a mut NdrReader<'b>,
    out: &'a mut NdrWriter,
}

impl Call<'_, '_> {
    /// Answers with a new handle; its status is for the caller to add.
    fn open(&mut self, object: Object) -> NtStatus {
        let handle = self.handles.open(object);
        self.out.handle(handle.unwrap_or_default());
        if handle.is_some() { NtStatus::SUCCESS } else { NtStatus::INSUFFICIENT_RESOURCES }
    }

    /// As `open`, or a handle that is none and `missing`.
    fn open_found(&mut self, object: Option<Object>, missing: NtStatus) -> NtStatus {
        match object {
            Some(object) => self.open(object),
            None => {
                self.out.handle(Default::default());
                missing
            }
        }
    }

    /// Closes the handle that is the only argument.
    fn close(&mut self) -> Result<(), Fault> {
        self.handles.close(&self.arguments.handle()?)?;
        self.out.handle(Default::default());
        self.out.status(NtStatus::SUCCESS);
        Ok(())
    }
}

/// A syntax's UUID as it lies on the wire, and its version.
type Syntax = ([u8; 16], u32);

/// A service: its pipe's name, its interface, its operations.
struct Service {
    name: &'static str,
    syntax: Syntax,
    /// Whether somebody who has not logged on may ask it.
    anonymous: bool,
    call: fn(u16, &mut Call<'_, '_>) -> Result<(), Fault>,
}

impl core::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// A UUID as it is written, as it lies on the wire: its first three numbers are little-endian.
const fn uuid(written: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = written.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// The services that there are: MS-SRVS, MS-WKST, MS-LSAD with MS-LSAT, MS-SAMR. Names of accounts are for users only.
static SERVICES: [Service; 4] = [
    Service {
        name: "srvsvc",
        syntax: (uuid(0x4B32_4FC8_1670_01D3_1278_5A47_BF6E_E188), 3),
        anonymous: true,
        call: srvsvc::call,
    },
    Service {
        name: "wkssvc",
        syntax: (uuid(0x6BFF_D098_A112_3610_9833_46C3_F87E_345A), 1),
        anonymous: true,
        call: wkssvc::call,
    },
    Service {
        name: "lsarpc",
        syntax: (uuid(0x1234_5778_1234_ABCD_EF00_0123_4567_89AB), 0),
        anonymous: false,
        call: lsarpc::call,
    },
    Service {
        name: "samr",
        syntax: (uuid(0x1234_5778_1234_ABCD_EF00_0123_4567_89AC), 1),
        anonymous: false,
        call: samr::call,
    },
];

/// NDR version 2.
const NDR: Syntax = (uuid(0x8A88_5D04_1CEB_11C9_9FE8_0800_2B10_4860), 2);

/// How the identifiers begin that stand for features and not for a transfer syntax (MS-RPCE 3.3.1.5.3).
const FEATURES: [u8; 8] = [0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45];

/// Why a call was not carried out: the status of a fault PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault(u32);

impl Fault {
    /// nca_s_op_rng_error: there is no such operation.
    const OPERATION: Fault = Fault(0x1C01_0002);
    /// nca_s_unk_if: nothing was bound under the request's context.
    const INTERFACE: Fault = Fault(0x1C01_0003);
    /// nca_s_proto_error: the PDU is out of place.
    const PROTOCOL: Fault = Fault(0x1C01_000B);
    /// nca_s_fault_context_mismatch: the handle is none, or of another kind.
    const CONTEXT: Fault = Fault(0x1C00_001A);
    /// RPC_X_BAD_STUB_DATA: the arguments are malformed.
    const STUB: Fault = Fault(0x0000_06F7);
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Fault {
        Fault::STUB
    }
}

/// PDU types.
mod kind {
    pub const REQUEST: u8 = 0;
    pub const RESPONSE: u8 = 2;
    pub const FAULT: u8 = 3;
    pub const BIND: u8 = 11;
    pub const BIND_ACK: u8 = 12;
    pub const BIND_NAK: u8 = 13;
    pub const ALTER_CONTEXT: u8 = 14;
    pub const ALTER_CONTEXT_RESPONSE: u8 = 15;
    pub const CANCEL: u8 = 18;
    pub const ORPHANED: u8 = 19;
}

/// PDU flags.
const FIRST: u8 = 1;
const LAST: u8 = 2;
const DID_NOT_EXECUTE: u8 = 0x20;
const OBJECT: u8 = 0x80;
/// Why a bind is refused: authentication_type_not_recognized, protocol_version_not_supported.
const NO_AUTHENTICATION: u16 = 8;
const NO_VERSION: u16 = 4;
/// Bytes of the header that all PDUs share.
const HEADER: usize = 16;
/// Bytes of a fragment that is sent or taken, as Windows has it.
const FRAGMENT: u16 = 4280;
/// Bytes of a fragment that everybody must take (C706 12.6.3.1).
const LEAST_FRAGMENT: u16 = 1432;
/// Bytes that a pipe keeps of what it is sent.
const MAXIMUM_REQUEST: usize = 0x1_0000;
/// With as many bytes to be read, no more is answered.
const MAXIMUM_UNREAD: usize = 0x1_0000;
/// Presentation contexts of a pipe.
const MAXIMUM_CONTEXTS: usize = 16;

/// A request whose last fragment has not come.
#[derive(Debug)]
struct Pending {
    call: u32,
    context: u16,
    operation: u16,
    stub: Vec<u8>,
}

/// One end of an open named pipe.
#[derive(Debug)]
pub struct Pipe {
    service: &'static Service,
    caller: UserId,
    /// Bytes that do not make a PDU yet.
    input: Vec<u8>,
    /// What the client has not read yet: messages, of the first of which `read` bytes are gone.
    output: VecDeque<Vec<u8>>,
    read: usize,
    pending: Option<Pending>,
    handles: Handles,
    /// Bytes of a fragment that the client takes.
    fragment: u16,
    /// Contexts that the interface was bound under; `None` before the bind.
    contexts: Option<Vec<u16>>,
    /// The client broke the protocol: its answer can be read, nothing more is taken.
    ended: bool,
}

/// The client does not speak the protocol: its pipe is to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Broken {
        Broken
    }
}

/// The service whose pipe is `name`; case does not count.
fn service(name: &[u16]) -> Option<&'static Service> {
    SERVICES.iter().find(|service| {
        let text = service.name;
        text.len() == name.len()
            && text
                .bytes()
                .zip(name)
                .all(|(byte, unit)| u8::try_from(*unit).is_ok_and(|unit| unit.eq_ignore_ascii_case(&byte)))
    })
}

impl Pipe {
    /// Whether there is a pipe `name` (without `\pipe\`; case does not count).
    pub fn exists(name: &[u16]) -> bool {
        service(name).is_some()
    }

    /// Opens the pipe `name` for `caller`, or for somebody who has not logged on.
    ///
    /// # Errors
    /// OBJECT_NAME_NOT_FOUND when there is no such service, ACCESS_DENIED when it is for users only.
    pub fn open(name: &[u16], caller: Option<UserId>) -> Result<Pipe, NtStatus> {
        let service = service(name).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        if caller.is_none() && !service.anonymous {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(Pipe {
            service,
            // Nobody has this number, and a service that tells of callers has none without a log-on.
            caller: caller.unwrap_or(UserId(u16::MAX)),
            input: Vec::new(),
            output: VecDeque::new(),
            read: 0,
            pending: None,
            handles: Handles::default(),
            fragment: FRAGMENT,
            contexts: None,
            ended: false,
        })
    }

    /// Takes bytes that the client wrote; answers to whole PDUs are then there to read.
    ///
    /// # Errors
    /// `Broken` when they are no PDUs, or when more is sent than is kept, or asked than is read.
    pub fn write(&mut self, bytes: &[u8], machine: &Machine) -> Result<(), Broken> {
        if self.ended || self.input.len() + bytes.len() > MAXIMUM_REQUEST {
            return Err(Broken);
        }
        self.input.extend_from_slice(bytes);
        while let Some(length) = self.input.get(8..).and_then(|rest| rest.first_chunk::<2>()) {
            let length = usize::from(u16::from_le_bytes(*length));
            if length < HEADER {
                return Err(Broken);
            }
            if self.input.len() < length {
                break;
            }
            if self.ended || self.unread() > MAXIMUM_UNREAD {
                return Err(Broken);
            }
            let rest = self.input.split_off(length);
            let pdu = core::mem::replace(&mut self.input, rest);
            self.take(&pdu, machine)?;
        }
        Ok(())
    }

    fn unread(&self) -> usize {
        self.output.iter().map(Vec::len).sum()
    }

    /// Bytes that are left of the message that is read next.
    pub fn available(&self) -> usize {
        self.output.front().map_or(0, |message| message.len().saturating_sub(self.read))
    }

    /// Reads up to `length` bytes of one message; what is left of it is read next time.
    pub fn read(&mut self, length: usize) -> Vec<u8> {
        let Some(message) = self.output.front() else { return Vec::new() };
        let end = message.len().min(self.read.saturating_add(length));
        let bytes = message.get(self.read..end).unwrap_or(&[]).to_vec();
        self.read = end;
        if end == message.len() {
            self.output.pop_front();
            self.read = 0;
        }
        bytes
    }

    fn take(&mut self, pdu: &[u8], machine: &Machine) -> Result<(), Broken> {
        let mut reader = Reader::new(pdu);
        let version = reader.u8()?;
        reader.skip(1usize)?;
        let kind = reader.u8()?;
        let flags = reader.u8()?;
        // Little-endian integers, ASCII, IEEE.
        let representation = reader.u32()?;
        reader.skip(2usize)?;
        let authentication = reader.u16()?;
        let call = reader.u32()?;
        if representation & 0xFF != 0x10 {
            return Err(Broken);
        }
        if version != 5 {
            if kind != kind::BIND {
                return Err(Broken);
            }
            self.refuse_bind(call, NO_VERSION);
            return Ok(());
        }
        match kind {
            // Nobody can be authenticated here a second time.
            kind::BIND if authentication != 0 && self.contexts.is_none() => {
                self.refuse_bind(call, NO_AUTHENTICATION);
            }
            _ if authentication != 0 => self.end(call),
            kind::BIND if self.contexts.is_none() => self.bind(&mut reader, kind::BIND_ACK, call)?,
            kind::ALTER_CONTEXT if self.contexts.is_some() => {
                self.bind(&mut reader, kind::ALTER_CONTEXT_RESPONSE, call)?;
            }
            kind::REQUEST if self.contexts.is_some() => {
                self.request(&mut reader, flags, call, machine)?;
            }
            // Calls are carried out at once: there is never one to cancel.
            kind::CANCEL => {}
            kind::ORPHANED => self.pending = None,
            _ => self.end(call),
        }
        Ok(())
    }

    /// One fragment of a request; with the last, the call.
    fn request(
        &mut self,
        reader: &mut Reader<'_>,
        flags: u8,
        call: u32,
        machine: &Machine,
    ) -> Result<(), Broken> {
        reader.skip(4usize)?;
        let context = reader.u16()?;
        let operation = reader.u16()?;
        if flags & OBJECT != 0 {
            reader.skip(16usize)?;
        }
        let mut pending = match (self.pending.take(), flags & FIRST != 0) {
            (None, true) => Pending { call, context, operation, stub: Vec::new() },
            // One call at a time, whose fragments agree.
            (Some(pending), false) if pending.call == call && pending.operation == operation => pending,
            _ => {
                self.end(call);
                return Ok(());
            }
        };
        if pending.stub.len() + reader.rest().len() > MAXIMUM_REQUEST {
            return Err(Broken);
        }
        pending.stub.extend_from_slice(reader.rest());
        if flags & LAST == 0 {
            self.pending = Some(pending);
            return Ok(());
        }
        let bound = self.contexts.as_ref().is_some_and(|contexts| contexts.contains(&pending.context));
        let mut out = NdrWriter::new();
        let result = if bound {
            (self.service.call)(
                pending.operation,
                &mut Call {
                    machine,
                    caller: self.caller,
                    handles: &mut self.handles,
                    arguments: &mut NdrReader::new(&pending.stub),
                    out: &mut out,
                },
            )
        } else {
            Err(Fault::INTERFACE)
        };
        match result {
            Ok(()) => self.respond(call, pending.context, &out.bytes),
            Err(fault) => self.fault(call, pending.context, fault),
        }
        Ok(())
    }

    fn bind(&mut self, reader: &mut Reader<'_>, answer: u8, call: u32) -> Result<(), Broken> {
        let sends = reader.u16()?;
        let takes = reader.u16()?;
        let group = reader.u32()?;
        let count = reader.u8()?;
        reader.skip(3usize)?;
        let mut bound = self.contexts.take().unwrap_or_default();
        let mut results = Vec::new();
        for _ in 0..count {
            let context = reader.u16()?;
            let transfers = reader.u8()?;
            reader.skip(1usize)?;
            let wanted = (reader.array::<16>()?, reader.u32()?);
            let (mut ndr, mut features) = (false, false);
            for _ in 0..transfers {
                let syntax = (reader.array::<16>()?, reader.u32()?);
                ndr |= syntax == NDR;
                features |= syntax.0.starts_with(&FEATURES) && syntax.1 == 1;
            }
            // Result and reason: accepted; no such interface; no transfer syntax in common; a negotiation of
            // features, of which there are none; too many.
            let own = self.service.syntax;
            results.push(if features {
                (3u16, 0u16)
            } else if wanted != own {
                (2, 1)
            } else if !ndr {
                (2, 2)
            } else if bound.contains(&context) {
                (0, 0)
            } else if bound.len() < MAXIMUM_CONTEXTS {
                bound.push(context);
                (0, 0)
            } else {
                (2, 3)
            });
        }
        if self.contexts.is_none() && answer == kind::BIND_ACK {
            self.fragment = takes.clamp(LEAST_FRAGMENT, FRAGMENT);
        }
        self.contexts = Some(bound);
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.u16(self.fragment);
        writer.u16(sends.clamp(LEAST_FRAGMENT, FRAGMENT));
        writer.u32(if group == 0 { 0x4E41_5321 } else { group });
        // The pipe's name as the second address; not told again when a context is added.
        let address = if answer == kind::BIND_ACK { self.service.name } else { "" };
        if address.is_empty() {
            writer.u16(0);
        } else {
            writer.u16(address.len() as u16 + 7);
            writer.bytes(b"\\PIPE\\");
            writer.bytes(address.as_bytes());
            writer.u8(0);
        }
        // The body begins at 16, so its own alignment is the PDU's.
        writer.align(4);
        writer.u8(results.len() as u8);
        writer.zeros(3);
        for (result, reason) in results {
            writer.u16(result);
            writer.u16(reason);
            let (uuid, version) = if result == 0 { NDR } else { ([0; 16], 0) };
            writer.bytes(&uuid);
            writer.u32(version);
        }
        self.emit(answer, FIRST | LAST, call, &body);
        Ok(())
    }

    /// The client may bind once more in another way.
    fn refuse_bind(&mut self, call: u32, reason: u16) {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.u16(reason);
        // The versions that are spoken: one, 5.0.
        writer.bytes(&[1, 5, 0]);
        writer.zeros(3);
        self.emit(kind::BIND_NAK, FIRST | LAST, call, &body);
    }

    /// The PDU is out of place: says so, and takes no more.
    fn end(&mut self, call: u32) {
        self.pending = None;
        self.ended = true;
        self.fault(call, 0, Fault::PROTOCOL);
    }

    fn fault(&mut self, call: u32, context: u16, fault: Fault) {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.u32(0);
        writer.u16(context);
        writer.u16(0);
        writer.u32(fault.0);
        writer.u32(0);
        self.emit(kind::FAULT, FIRST | LAST | DID_NOT_EXECUTE, call, &body);
    }

    /// The answer, in as many fragments as the client needs.
    fn respond(&mut self, call: u32, context: u16, stub: &[u8]) {
        // All but the last have a multiple of eight bytes.
        let room = (usize::from(self.fragment) - HEADER - 8) & !7;
        let count = stub.len().div_ceil(room).max(1);
        for index in 0..count {
            let start = index * room;
            let piece = stub.get(start..stub.len().min(start + room)).unwrap_or(&[]);
            let mut body = Vec::new();
            let mut writer = Writer::new(&mut body);
            writer.u32((stub.len() - start.min(stub.len())) as u32);
            writer.u16(context);
            writer.u16(0);
            writer.bytes(piece);
            let first = if index == 0 { FIRST } else { 0 };
            let last = if index + 1 == count { LAST } else { 0 };
            self.emit(kind::RESPONSE, first | last, call, &body);
        }
    }

    fn emit(&mut self, kind: u8, flags: u8, call: u32, body: &[u8]) {
        let mut message = Vec::with_capacity(HEADER + body.len());
        let mut writer = Writer::new(&mut message);
        writer.bytes(&[5, 0, kind, flags, 0x10, 0, 0, 0]);
        writer.u16((HEADER + body.len()) as u16);
        writer.u16(0);
        writer.u32(call);
        writer.bytes(body);
        self.output.push_back(message);
    }
}
