//! As much of ASN.1's distinguished encoding as SPNEGO needs: definite lengths of up to four bytes, no recursion.

use alloc::vec::Vec;

use crate::bytes::{Malformed, Reader};

/// Tags that SPNEGO uses.
pub(crate) mod tag {
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0A;
    pub(crate) const GENERAL_STRING: u8 = 0x1B;
    pub(crate) const SEQUENCE: u8 = 0x30;
    /// `[APPLICATION 0]`: a GSS-API initial token.
    pub(crate) const INITIAL_TOKEN: u8 = 0x60;
    /// `[0]` to `[4]`, constructed.
    pub(crate) const fn context(number: u8) -> u8 {
        0xA0 + number
    }
}

/// One element: its tag, its contents, and all of its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Walks the elements in some bytes. Each takes at least two bytes, so walks end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Elements<'a> {
        Elements { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Malformed> {
        let mut reader = Reader::new(self.rest);
        let tag = reader.u8()?;
        let length = match reader.u8()? {
            short @ 0..=0x7F => u32::from(short),
            // 0x80 is an indefinite length; lengths beyond 32 bits cannot be in a message.
            long @ 0x81..=0x84 => {
                let bytes = reader.bytes(long & 0x7F)?;
                bytes.iter().fold(0, |length, byte| length << 8 | u32::from(*byte))
            }
            _ => return Err(Malformed),
        };
        let contents = reader.bytes(length)?;
        let taken = self.rest.len() - reader.rest().len();
        let (whole, rest) = self.rest.split_at_checked(taken).ok_or(Malformed)?;
        self.rest = rest;
        Ok(Element { tag, contents, whole })
    }

    /// The contents of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.next()?;
        if element.tag == tag { Ok(element.contents) } else { Err(Malformed) }
    }
}

/// Appends an element.
pub(crate) fn element(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    out.push(tag);
    match u32::try_from(contents.len()).unwrap_or(u32::MAX).to_be_bytes() {
        [0, 0, 0, length @ 0..0x80] => out.push(length),
        [0, 0, 0, length] => out.extend([0x81, length]),
        [0, 0, high, low] => out.extend([0x82, high, low]),
        [0, a, b, c] => out.extend([0x83, a, b, c]),
        [a, b, c, d] => out.extend([0x84, a, b, c, d]),
    }
    out.extend_from_slice(contents);
}

/// An element that holds others.
pub(crate) fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(contents.len() + 6);
    element(&mut out, tag, contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_convert_both_ways() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let contents = alloc::vec![7; length];
            let mut bytes = wrap(tag::OCTET_STRING, &contents);
            bytes.push(9);
            let mut elements = Elements::new(&bytes);
            let element = elements.next().unwrap();
            assert_eq!(element.contents, contents);
            assert_eq!(element.whole, &bytes[..bytes.len() - 1]);
            assert_eq!(elements.rest, [9]);
        }
    }

    #[test]
    fn length_bombs_are_malformed() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x01],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x82, 0x01],
            &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x30, 0xFF, 0],
        ] {
            assert!(Elements::new(bytes).next().is_err(), "{bytes:?}");
        }
        assert!(Elements::new(&[0x30, 0]).expect(0x31).is_err());
    }
}
