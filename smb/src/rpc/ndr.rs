//! The little of NDR (C706 chapter 14) that the services need.

use alloc::vec::Vec;

use crate::fscc::Sid;
use crate::reader::{Malformed, Reader, Writer};
use crate::status::NtStatus;

/// Code units of a string that is read.
const MAXIMUM_STRING: u32 = 0x400;

/// A context handle as it lies on the wire (20 bytes); all zero is none.
pub(super) type RawHandle = [u8; 20];

/// Reads arguments. Integers are aligned to their size from the start of the stub.
pub(super) struct NdrReader<'a>(Reader<'a>);

impl<'a> NdrReader<'a> {
    pub fn new(stub: &'a [u8]) -> NdrReader<'a> {
        NdrReader(Reader::new(stub))
    }

    /// A short.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.align(2)?;
        self.0.u16()
    }

    /// A long.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.align(4)?;
        self.0.u32()
    }

    /// A context handle.
    pub fn handle(&mut self) -> Result<RawHandle, Malformed> {
        self.0.align(4)?;
        self.0.array()
    }

    /// The count of a conformant array, which is `wanted`.
    pub fn conformance(&mut self, wanted: u32) -> Result<(), Malformed> {
        if self.u32()? == wanted { Ok(()) } else { Err(Malformed) }
    }

    /// The counts of a conformant and varying array: how many elements follow.
    pub fn varying(&mut self) -> Result<u32, Malformed> {
        let maximum = self.u32()?;
        let offset = self.u32()?;
        let count = self.u32()?;
        if offset == 0 && count <= maximum { Ok(count) } else { Err(Malformed) }
    }

    /// A conformant and varying string, its terminator, if any, taken off.
    pub fn string(&mut self) -> Result<Vec<u16>, Malformed> {
        let count = self.varying()?;
        if count > MAXIMUM_STRING {
            return Err(Malformed);
        }
        let mut units = self.0.utf16(count * 2)?;
        if units.last() == Some(&0) {
            units.pop();
        }
        Ok(units)
    }

    /// A unique pointer to a string.
    pub fn unique_string(&mut self) -> Result<Option<Vec<u16>>, Malformed> {
        if self.u32()? == 0 { Ok(None) } else { self.string().map(Some) }
    }

    /// The fixed part of an RPC_UNICODE_STRING: whether units follow, after the structure it is in.
    pub fn unicode_header(&mut self) -> Result<bool, Malformed> {
        self.u32()?;
        Ok(self.u32()? != 0)
    }

    /// `count` RPC_UNICODE_STRINGs of an array, and then their units. Absent ones are empty.
    pub fn unicode_strings(&mut self, count: u32) -> Result<Vec<Vec<u16>>, Malformed> {
        let mut present = Vec::new();
        for _ in 0..count {
            present.push(self.unicode_header()?);
        }
        present.into_iter().map(|present| if present { self.string() } else { Ok(Vec::new()) }).collect()
    }

    /// A security identifier: its count is there twice.
    pub fn sid(&mut self) -> Result<Sid, Malformed> {
        let count = self.u32()?;
        let sid = Sid::parse(&mut self.0)?;
        if sid.subauthorities().len() as u64 == u64::from(count) { Ok(sid) } else { Err(Malformed) }
    }
}

/// What a pointer points at.
enum Deferred {
    /// A string with a terminator.
    String(Vec<u16>),
    /// The units of an RPC_UNICODE_STRING.
    Units(Vec<u16>),
    Sid(Sid),
}

/// Writes results: values first, what pointers point at after the structure they are in.
pub(super) struct NdrWriter {
    pub bytes: Vec<u8>,
    deferred: Vec<Deferred>,
    referents: u32,
}

impl NdrWriter {
    pub fn new() -> NdrWriter {
        NdrWriter { bytes: Vec::new(), deferred: Vec::new(), referents: 0 }
    }

    fn aligned(&mut self, alignment: usize) -> Writer<'_> {
        let mut writer = Writer::with_origin(&mut self.bytes, 0);
        writer.align(alignment);
        writer
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.aligned(2).u16(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.aligned(4).u32(value);
    }

    /// All of `values`.
    pub fn u32s(&mut self, values: &[u32]) {
        for value in values {
            self.u32(*value);
        }
    }

    /// A status, which ends every answer.
    pub fn status(&mut self, status: NtStatus) {
        self.u32(status.0);
    }

    pub fn handle(&mut self, handle: RawHandle) {
        self.aligned(4).bytes(&handle);
    }

    /// A pointer that is not null.
    pub fn referent(&mut self) {
        self.referents += 1;
        let value = 0x0002_0000 + self.referents * 4;
        self.u32(value);
    }

    /// A count and a pointer to a conformant array of as many; with none it is null. True when elements are to follow
    /// now, after the array's own count.
    pub fn counted(&mut self, count: usize) -> bool {
        self.u32(count as u32);
        if count == 0 {
            self.u32(0);
            return false;
        }
        self.referent();
        self.u32(count as u32);
        true
    }

    /// A pointer to a string, which follows with [`NdrWriter::flush`].
    pub fn string_pointer(&mut self, text: &[u16]) {
        self.referent();
        self.deferred.push(Deferred::String(text.to_vec()));
    }

    /// An RPC_UNICODE_STRING, whose units follow with [`NdrWriter::flush`].
    pub fn unicode_string(&mut self, text: &[u16]) {
        let size = (text.len() * 2) as u16;
        self.aligned(4).u16(size);
        self.u16(size);
        self.referent();
        self.deferred.push(Deferred::Units(text.to_vec()));
    }

    /// A pointer to a security identifier, which follows with [`NdrWriter::flush`]; null for none.
    pub fn sid_pointer(&mut self, sid: Option<Sid>) {
        match sid {
            Some(sid) => {
                self.referent();
                self.deferred.push(Deferred::Sid(sid));
            }
            None => self.u32(0),
        }
    }

    /// Appends what pointers since the last call point at.
    pub fn flush(&mut self) {
        for deferred in core::mem::take(&mut self.deferred) {
            let (text, terminator) = match deferred {
                Deferred::Sid(sid) => {
                    self.u32(sid.subauthorities().len() as u32);
                    sid.emit(&mut Writer::new(&mut self.bytes));
                    continue;
                }
                Deferred::String(text) => (text, &[0u16][..]),
                Deferred::Units(text) => (text, &[][..]),
            };
            let count = (text.len() + terminator.len()) as u32;
            self.u32s(&[count, 0, count]);
            let mut writer = Writer::new(&mut self.bytes);
            writer.utf16(&text);
            writer.utf16(terminator);
        }
    }
}
