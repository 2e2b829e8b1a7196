//! DCE/RPC over named pipes (C706, MS-RPCE): connection-oriented PDUs in, PDUs out, without I/O.
//!
//! A [`Pipe`] takes the bytes that a client writes and holds those that it will read. Only little-endian NDR version 2
//! without authentication is spoken, which is what clients use inside a signed or encrypted SMB session.

mod ndr;
mod srvsvc;
mod wkssvc;

use alloc::vec::Vec;

use crate::reader::{Malformed, Reader, Writer};

/// What the services know of the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// NetBIOS name, UTF-16.
    pub name: Vec<u16>,
    /// Workgroup, UTF-16.
    pub workgroup: Vec<u16>,
    /// Shares that are shown: name, remark, whether it is IPC$.
    pub shares: Vec<ShareEntry>,
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

/// The services that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// MS-SRVS.
    Server,
    /// MS-WKST.
    Workstation,
}

/// A syntax's UUID as it lies on the wire, and its version.
type Syntax = ([u8; 16], u32);

impl Service {
    const fn syntax(self) -> Syntax {
        match self {
            Service::Server => (
                [
                    0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1,
                    0x88,
                ],
                3,
            ),
            Service::Workstation => (
                [
                    0x98, 0xD0, 0xFF, 0x6B, 0x12, 0xA1, 0x10, 0x36, 0x98, 0x33, 0x46, 0xC3, 0xF8, 0x7E, 0x34,
                    0x5A,
                ],
                1,
            ),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Service::Server => "srvsvc",
            Service::Workstation => "wkssvc",
        }
    }

    fn call(self, operation: u16, stub: &[u8], machine: &Machine) -> Result<Vec<u8>, Fault> {
        match self {
            Service::Server => srvsvc::call(operation, stub, machine),
            Service::Workstation => wkssvc::call(operation, stub, machine),
        }
    }
}

/// NDR version 2.
const NDR: Syntax =
    ([0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60], 2);

/// Why a call was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// There is no such operation.
    Operation,
    /// The arguments are malformed.
    Stub,
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Fault {
        Fault::Stub
    }
}

/// PDU types.
const REQUEST: u8 = 0;
const RESPONSE: u8 = 2;
const FAULT: u8 = 3;
const BIND: u8 = 11;
const BIND_ACK: u8 = 12;
const ALTER_CONTEXT: u8 = 14;
const ALTER_CONTEXT_RESPONSE: u8 = 15;
/// PDU flags.
const FIRST: u8 = 1;
const LAST: u8 = 2;
const OBJECT: u8 = 0x80;
/// Bytes of the header that all PDUs share.
const HEADER: usize = 16;
/// Bytes of a fragment that is sent or taken, as Windows has it.
const FRAGMENT: u16 = 4280;
/// Bytes that a pipe keeps of a request in fragments.
const MAXIMUM_REQUEST: usize = 0x1_0000;

/// One end of an open named pipe.
#[derive(Debug)]
pub struct Pipe {
    service: Service,
    /// Bytes that do not make a PDU yet.
    input: Vec<u8>,
    /// What the client has not read yet.
    output: Vec<u8>,
    /// The arguments of a request whose last fragment has not come.
    stub: Vec<u8>,
    /// Bytes of a fragment that the client takes.
    fragment: u16,
    bound: bool,
}

/// The client does not speak the protocol: its pipe is to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Broken {
        Broken
    }
}

impl Pipe {
    /// Opens the pipe `name` (without `\pipe\`; case does not count). `None` when there is no such service.
    pub fn open(name: &[u16]) -> Option<Pipe> {
        let named = |service: &Service| {
            let text = service.name();
            text.len() == name.len()
                && text.bytes().zip(name).all(|(byte, unit)| {
                    u8::try_from(*unit).is_ok_and(|unit| unit.eq_ignore_ascii_case(&byte))
                })
        };
        let service = [Service::Server, Service::Workstation].into_iter().find(named)?;
        Some(Pipe {
            service,
            input: Vec::new(),
            output: Vec::new(),
            stub: Vec::new(),
            fragment: FRAGMENT,
            bound: false,
        })
    }

    /// Takes bytes that the client wrote; answers to whole PDUs are then there to read.
    ///
    /// # Errors
    /// `Broken` when they are no PDUs, or when more is sent than is kept.
    pub fn write(&mut self, bytes: &[u8], machine: &Machine) -> Result<(), Broken> {
        if self.input.len() + bytes.len() > MAXIMUM_REQUEST {
            return Err(Broken);
        }
        self.input.extend_from_slice(bytes);
        loop {
            let Some(length) = self.input.get(8..10) else { return Ok(()) };
            let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
            if length < HEADER {
                return Err(Broken);
            }
            if self.input.len() < length {
                return Ok(());
            }
            let rest = self.input.split_off(length);
            let pdu = core::mem::replace(&mut self.input, rest);
            self.take(&pdu, machine)?;
        }
    }

    /// Bytes that are there to read.
    pub fn available(&self) -> usize {
        self.output.len()
    }

    /// Reads up to `length` bytes; what is left is read next time.
    pub fn read(&mut self, length: usize) -> Vec<u8> {
        let rest = self.output.split_off(length.min(self.output.len()));
        core::mem::replace(&mut self.output, rest)
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
        let authentication = usize::from(reader.u16()?);
        let call = reader.u32()?;
        if version != 5 || representation & 0xFF != 0x10 {
            return Err(Broken);
        }
        match kind {
            BIND | ALTER_CONTEXT => self.bind(&mut reader, kind, call),
            REQUEST if self.bound => {
                reader.skip(4usize)?;
                let context = reader.u16()?;
                let operation = reader.u16()?;
                if flags & OBJECT != 0 {
                    reader.skip(16usize)?;
                }
                let stub = reader.rest();
                // A verifier, if any, has eight bytes before it; it is not looked at.
                let trailer = if authentication > 0 { authentication + 8 } else { 0 };
                let stub = stub.get(..stub.len().checked_sub(trailer).ok_or(Broken)?).ok_or(Broken)?;
                if flags & FIRST != 0 {
                    self.stub.clear();
                }
                if self.stub.len() + stub.len() > MAXIMUM_REQUEST {
                    return Err(Broken);
                }
                self.stub.extend_from_slice(stub);
                if flags & LAST != 0 {
                    let stub = core::mem::take(&mut self.stub);
                    self.answer(call, context, self.service.call(operation, &stub, machine));
                }
                Ok(())
            }
            _ => Err(Broken),
        }
    }

    fn bind(&mut self, reader: &mut Reader<'_>, kind: u8, call: u32) -> Result<(), Broken> {
        reader.skip(2usize)?;
        let takes = reader.u16()?;
        let group = reader.u32()?;
        let contexts = reader.u8()?;
        reader.skip(3usize)?;
        let mut results = Vec::new();
        for _ in 0..contexts {
            reader.skip(2usize)?;
            let transfers = reader.u8()?;
            reader.skip(1usize)?;
            let wanted = (reader.array::<16>()?, reader.u32()?);
            let mut ndr = false;
            for _ in 0..transfers {
                let syntax = (reader.array::<16>()?, reader.u32()?);
                ndr |= syntax == NDR;
            }
            // Result and reason: accepted; abstract syntax unknown; no transfer syntax in common.
            let own = self.service.syntax();
            results.push(if wanted.0 != own.0 || wanted.1 & 0xFFFF != own.1 {
                (2u16, 1u16)
            } else if ndr {
                self.bound = true;
                (0, 0)
            } else {
                (2, 2)
            });
        }
        self.fragment = takes.clamp(1024, FRAGMENT);
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.u16(FRAGMENT);
        writer.u16(FRAGMENT);
        writer.u32(if group == 0 { 0x4E41_5321 } else { group });
        let address = self.service.name();
        writer.u16(address.len() as u16 + 7);
        writer.bytes(b"\\PIPE\\");
        writer.bytes(address.as_bytes());
        writer.u8(0);
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
        let kind = if kind == BIND { BIND_ACK } else { ALTER_CONTEXT_RESPONSE };
        self.emit(kind, FIRST | LAST, call, &body);
        Ok(())
    }

    fn answer(&mut self, call: u32, context: u16, result: Result<Vec<u8>, Fault>) {
        let stub = match result {
            Ok(stub) => stub,
            Err(fault) => {
                let mut body = Vec::new();
                let mut writer = Writer::new(&mut body);
                writer.u32(0);
                writer.u16(context);
                writer.u16(0);
                // nca_s_op_rng_error, RPC_X_BAD_STUB_DATA.
                writer.u32(match fault {
                    Fault::Operation => 0x1C01_0002,
                    Fault::Stub => 0x0000_06F7,
                });
                writer.u32(0);
                self.emit(FAULT, FIRST | LAST, call, &body);
                return;
            }
        };
        let room = usize::from(self.fragment) - HEADER - 8;
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
            self.emit(RESPONSE, first | last, call, &body);
        }
    }

    fn emit(&mut self, kind: u8, flags: u8, call: u32, body: &[u8]) {
        let mut writer = Writer::new(&mut self.output);
        writer.bytes(&[5, 0, kind, flags, 0x10, 0, 0, 0]);
        writer.u16((HEADER + body.len()) as u16);
        writer.u16(0);
        writer.u32(call);
        writer.bytes(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.bytes(&[5, 0, kind, 3, 0x10, 0, 0, 0]);
        writer.u16(HEADER as u16 + body.len() as u16);
        writer.u16(0);
        writer.u32(7);
        writer.bytes(body);
        out
    }

    fn bind() -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.u16(4280);
        writer.u16(4280);
        writer.u32(0);
        writer.u32(1);
        writer.u16(0);
        writer.u16(1);
        let (uuid, version) = Service::Server.syntax();
        writer.bytes(&uuid);
        writer.u32(version);
        writer.bytes(&NDR.0);
        writer.u32(NDR.1);
        pdu(BIND, &body)
    }

    fn machine() -> Machine {
        let share = |name: &str| ShareEntry {
            name: name.encode_utf16().collect(),
            remark: Vec::new(),
            pipes: false,
            hidden: false,
        };
        Machine { shares: (0..200).map(|_| share("a share of some length")).collect(), ..Machine::default() }
    }

    #[test]
    fn binds_answers_and_faults() {
        let name: Vec<u16> = "SrvSvc".encode_utf16().collect();
        let mut pipe = Pipe::open(&name).unwrap();
        let machine = machine();
        // Bytes may come one by one.
        for byte in bind() {
            pipe.write(&[byte], &machine).unwrap();
        }
        let answer = pipe.read(1000);
        assert_eq!((answer[2], answer.len()), (BIND_ACK, usize::from(answer[8])));
        // NetrShareEnum, level 1, no server name.
        let mut body = Vec::new();
        let mut writer = Writer::new(&mut body);
        writer.u32(0);
        writer.u16(0);
        writer.u16(15);
        for word in [0u32, 1, 1, 0x20000, 0, 0, u32::MAX, 0] {
            writer.u32(word);
        }
        pipe.write(&pdu(REQUEST, &body), &machine).unwrap();
        let mut fragments = 0;
        let mut output = pipe.read(usize::MAX);
        while !output.is_empty() {
            let length = usize::from(u16::from_le_bytes([output[8], output[9]]));
            assert!(length <= 4280);
            assert_eq!(output[3] & FIRST != 0, fragments == 0);
            assert_eq!(output[3] & LAST != 0, length == output.len());
            output.drain(..length);
            fragments += 1;
        }
        assert!(fragments > 2);
        body[6] = 99;
        pipe.write(&pdu(REQUEST, &body), &machine).unwrap();
        assert_eq!(pipe.read(100)[2], FAULT);
    }

    #[test]
    fn what_is_no_pdu_breaks_the_pipe() {
        let name: Vec<u16> = "srvsvc".encode_utf16().collect();
        let machine = machine();
        assert!(Pipe::open(&name[..5]).is_none());
        for bad in [
            pdu(REQUEST, &[0; 8]),
            pdu(99, &[]),
            [0; 16].to_vec(),
            [4, 0, 11, 3, 16, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0].to_vec(),
        ] {
            assert_eq!(Pipe::open(&name).unwrap().write(&bad, &machine), Err(Broken));
        }
        let good = bind();
        for length in 17..good.len() {
            let mut cut = good[..length].to_vec();
            cut[8..10].copy_from_slice(&(length as u16).to_le_bytes());
            assert_eq!(Pipe::open(&name).unwrap().write(&cut, &machine), Err(Broken), "{length}");
        }
    }
}
