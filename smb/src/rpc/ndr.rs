//! The little of NDR (C706 chapter 14) that the services need.

use alloc::vec::Vec;

use crate::reader::{Malformed, Reader, Writer};

/// Reads arguments.
pub(super) struct NdrReader<'a>(Reader<'a>);

impl<'a> NdrReader<'a> {
    pub fn new(stub: &'a [u8]) -> NdrReader<'a> {
        NdrReader(Reader::new(stub))
    }

    /// An aligned long.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.align(4)?;
        self.0.u32()
    }

    /// A conformant and varying string, its terminator taken off.
    pub fn string(&mut self) -> Result<Vec<u16>, Malformed> {
        let maximum = self.u32()?;
        let offset = self.u32()?;
        let count = self.u32()?;
        if offset != 0 || count > maximum || count > 0x400 {
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
}

/// Writes results: values first, what pointers point at after the structure they are in.
pub(super) struct NdrWriter {
    pub bytes: Vec<u8>,
    deferred: Vec<Vec<u16>>,
    referents: u32,
}

impl NdrWriter {
    pub fn new() -> NdrWriter {
        NdrWriter { bytes: Vec::new(), deferred: Vec::new(), referents: 0 }
    }

    pub fn u32(&mut self, value: u32) {
        Writer::with_origin(&mut self.bytes, 0).u32(value);
    }

    /// A pointer that is not null.
    pub fn referent(&mut self) {
        self.referents += 1;
        let value = 0x0002_0000 + self.referents * 4;
        self.u32(value);
    }

    /// A pointer to a string, which follows with [`NdrWriter::flush`].
    pub fn string_pointer(&mut self, text: &[u16]) {
        self.referent();
        self.deferred.push(text.to_vec());
    }

    /// Appends the strings that pointers since the last call point at.
    pub fn flush(&mut self) {
        for text in core::mem::take(&mut self.deferred) {
            let count = text.len() as u32 + 1;
            let mut writer = Writer::with_origin(&mut self.bytes, 0);
            writer.u32(count);
            writer.u32(0);
            writer.u32(count);
            writer.utf16(&text);
            writer.u16(0);
            writer.align(4);
        }
    }
}
