//! Bounded little-endian reading and writing of wire structures.
//!
//! No other place slices by lengths that came from the wire. Lengths and offsets are taken in whatever integer the wire
//! had (`u16`, `u32`, `u64`): one that does not fit the machine's `usize` is [`Malformed`], like one beyond the end.

use alloc::vec::Vec;

/// The bytes do not hold what their lengths, offsets or structure sizes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A cursor over bytes from outside. Every read checks the bounds; a failed read moves nothing.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0 }
    }

    /// Bytes between the start and here.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// Whether none is left.
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The bytes that are left, without moving.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or(&[])
    }

    /// All the bytes that this reader was made from.
    pub const fn whole(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: impl TryInto<usize>) -> Result<&'a [u8], Malformed> {
        let length = length.try_into().map_err(|_| Malformed)?;
        let end = self.position.checked_add(length).ok_or(Malformed)?;
        let found = self.bytes.get(self.position..end).ok_or(Malformed)?;
        self.position = end;
        Ok(found)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Sixteen bytes, little-endian.
    pub fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }

    /// Passes over `length` bytes.
    pub fn skip(&mut self, length: impl TryInto<usize>) -> Result<(), Malformed> {
        self.bytes(length).map(|_| ())
    }

    /// Passes over the padding to the next multiple of `alignment` (a power of two), counted from the start.
    pub fn align(&mut self, alignment: usize) -> Result<(), Malformed> {
        let mask = alignment.checked_sub(1).ok_or(Malformed)?;
        self.skip(self.position.wrapping_neg() & mask)
    }

    /// A reader over `length` bytes at `offset` from the start (not from the position), which does not move this one.
    pub fn sub(
        &self,
        offset: impl TryInto<usize>,
        length: impl TryInto<usize>,
    ) -> Result<Reader<'a>, Malformed> {
        let offset = offset.try_into().map_err(|_| Malformed)?;
        let length = length.try_into().map_err(|_| Malformed)?;
        let end = offset.checked_add(length).ok_or(Malformed)?;
        self.bytes.get(offset..end).map(Reader::new).ok_or(Malformed)
    }

    /// A reader over the next `length` bytes; this one goes on after them.
    pub fn take(&mut self, length: impl TryInto<usize>) -> Result<Reader<'a>, Malformed> {
        self.bytes(length).map(Reader::new)
    }

    /// The next `length` **bytes** as UTF-16LE code units in the machine's order; an odd length is malformed.
    pub fn utf16(&mut self, length: impl TryInto<usize>) -> Result<Vec<u16>, Malformed> {
        let length = length.try_into().map_err(|_| Malformed)?;
        if length % 2 != 0 {
            return Err(Malformed);
        }
        self.bytes(length).map(|bytes| utf16_units(bytes).collect())
    }
}

/// The UTF-16LE code units in `bytes`; an odd last byte is left out.
pub fn utf16_units(bytes: &[u8]) -> impl ExactSizeIterator<Item = u16> + '_ {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair))
}

/// Appends a wire structure to a `Vec`. Positions and alignments count from where the writer started, so a structure
/// whose offsets count from its own first byte is written by a writer that starts there.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    origin: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the end of `out`: position 0 is the next byte appended.
    pub fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        let origin = out.len();
        Writer { out, origin }
    }

    /// Starts in what is there already: position 0 is byte `origin` of `out` (or its end, if that comes first).
    pub fn with_origin(out: &'a mut Vec<u8>, origin: usize) -> Writer<'a> {
        let origin = origin.min(out.len());
        Writer { out, origin }
    }

    /// A writer that appends to the same bytes and whose position 0 is here.
    pub fn nested(&mut self) -> Writer<'_> {
        Writer::new(self.out)
    }

    /// Bytes since the origin.
    pub fn position(&self) -> usize {
        self.out.len().saturating_sub(self.origin)
    }

    /// What was written since the origin.
    pub fn written(&self) -> &[u8] {
        self.out.get(self.origin..).unwrap_or(&[])
    }

    /// Makes room for `count` bytes more, so that they are appended without moving what is there.
    pub fn reserve(&mut self, count: usize) {
        self.out.reserve(count);
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Appends two bytes, little-endian.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends sixteen bytes, little-endian.
    pub fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len().saturating_add(count), 0);
    }

    /// Appends zero bytes up to the next multiple of `alignment` (a power of two) from the origin.
    pub fn align(&mut self, alignment: usize) {
        self.zeros(self.position().wrapping_neg() & alignment.saturating_sub(1));
    }

    /// Appends code units as UTF-16LE, without a terminator.
    pub fn utf16(&mut self, units: &[u16]) {
        let start = self.out.len();
        self.zeros(units.len().saturating_mul(2));
        let (places, _) = self.out.get_mut(start..).unwrap_or(&mut []).as_chunks_mut::<2>();
        for (place, unit) in places.iter_mut().zip(units) {
            *place = unit.to_le_bytes();
        }
    }

    /// Appends `text` as UTF-16LE, without a terminator.
    pub fn utf16_text(&mut self, text: &str) {
        for unit in text.encode_utf16() {
            self.u16(unit);
        }
    }

    /// Overwrites two bytes at `position`, which must have been written; otherwise nothing happens.
    pub fn patch_u16(&mut self, position: usize, value: u16) {
        self.patch(position, &value.to_le_bytes());
    }

    /// Overwrites four bytes at `position`, which must have been written; otherwise nothing happens.
    pub fn patch_u32(&mut self, position: usize, value: u32) {
        self.patch(position, &value.to_le_bytes());
    }

    /// Overwrites eight bytes at `position`, which must have been written; otherwise nothing happens.
    pub fn patch_u64(&mut self, position: usize, value: u64) {
        self.patch(position, &value.to_le_bytes());
    }

    /// Overwrites bytes at `position`, which must have been written; otherwise nothing happens.
    pub fn patch(&mut self, position: usize, bytes: &[u8]) {
        let start = self.origin.saturating_add(position);
        let target = self.out.get_mut(start..start.saturating_add(bytes.len()));
        debug_assert!(target.is_some(), "patched beyond what was written");
        if let Some(target) = target {
            target.copy_from_slice(bytes);
        }
    }

    /// Cuts back to `position`.
    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(self.origin.saturating_add(position));
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn reads_in_order_and_stops_at_the_end() {
        let bytes = [1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.u32(), Ok(3));
        assert_eq!(reader.u64(), Ok(4));
        assert_eq!(reader.u8(), Err(Malformed));
        assert_eq!(reader.position(), 15);
    }

    #[test]
    fn hostile_lengths_are_malformed_and_move_nothing() {
        let bytes = [0; 8];
        let mut reader = Reader::new(&bytes);
        reader.skip(3).unwrap();
        assert_eq!(reader.bytes(u64::MAX), Err(Malformed));
        assert_eq!(reader.bytes(u32::MAX), Err(Malformed));
        assert_eq!(reader.bytes(usize::MAX), Err(Malformed));
        assert!(reader.sub(u32::MAX, u32::MAX).is_err());
        assert!(reader.sub(8u32, 1u16).is_err());
        assert!(reader.sub(8u32, 0u16).is_ok());
        assert_eq!(reader.utf16(3), Err(Malformed));
        assert_eq!(reader.position(), 3);
        reader.align(8).unwrap();
        assert_eq!(reader.remaining(), 0);
        assert!(reader.align(8).is_ok());
    }

    #[test]
    fn alignment_that_leaves_the_bytes_is_malformed() {
        let mut reader = Reader::new(&[0; 3]);
        reader.skip(1).unwrap();
        assert_eq!(reader.align(4), Err(Malformed));
    }

    #[test]
    fn writer_counts_from_its_origin() {
        let mut out = vec![0xEE];
        let mut writer = Writer::new(&mut out);
        writer.u32(0);
        writer.u8(7);
        writer.align(4);
        writer.utf16_text("é");
        writer.patch_u32(0, 0x0403_0201);
        assert_eq!(writer.position(), 10);
        assert_eq!(out, [0xEE, 1, 2, 3, 4, 7, 0, 0, 0, 0xE9, 0]);
    }
}
