//! Frames of one connection that carry on where the one before ended, made one long segment: the stack then does its work
//! once for all of them. Their checksums are verified in the pass that copies the payloads together.

use alloc::vec::Vec;

use super::checksum;
use super::flow::{ETHERNET, plain_segment};
use crate::board::FrameReceiver;

/// Bytes of a TCP header without options; no other is gathered.
const TRANSPORT_HEADER: usize = 20;

/// What a long segment may carry: its IP packet has a 16-bit length.
const LONGEST: usize = 65_535 - 40 - TRANSPORT_HEADER;

/// Bytes before the frame in its buffer, so that the payload lies on a word.
const SHIFT: usize = 2;

/// Flags that may be set besides ACK, and need: data to be handed on at once.
const PUSH: u8 = 0x08;
const ACKNOWLEDGE: u8 = 0x10;

/// The long segment being made.
pub(super) struct Gather {
    buffer: Vec<u8>,
    /// Where the TCP header begins in the frame.
    transport: usize,
    /// Payload gathered.
    length: usize,
    /// The sequence number to go on with.
    next: u32,
}

/// A data segment that may be gathered, taken apart.
struct Piece<'a> {
    header: &'a [u8; TRANSPORT_HEADER],
    ends: &'a [u8],
    transport: usize,
    sequence: u32,
    payload: &'a [u8],
}

fn piece(frame: &[u8]) -> Option<Piece<'_>> {
    let (header, ends, length) = plain_segment(frame)?;
    let transport = ETHERNET + if frame.get(12) == Some(&0x08) { 20 } else { 40 };
    let payload = frame.get(transport + TRANSPORT_HEADER..transport + length)?;
    if header[12] >> 4 != 5 || header[13] & !PUSH != ACKNOWLEDGE || payload.is_empty() {
        return None;
    }
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    Some(Piece { header, ends, transport, sequence, payload })
}

/// If both are data segments and `second` carries on where `first` ends: how many bytes `first` carries.
pub(super) fn continues(first: &[u8], second: &[u8]) -> Option<usize> {
    let (first, second) = (piece(first)?, piece(second)?);
    let end = first.sequence.wrapping_add(first.payload.len() as u32);
    (first.ends == second.ends && end == second.sequence).then_some(first.payload.len())
}

impl Gather {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), transport: 0, length: 0, next: 0 }
    }

    /// Begins a segment with `frame`, which is to be right in its checksum. False when it cannot be gathered.
    pub(super) fn begin(&mut self, frame: &[u8]) -> bool {
        let Some(piece) = piece(frame) else { return false };
        if self.buffer.is_empty() {
            self.buffer.resize(SHIFT + ETHERNET + 40 + TRANSPORT_HEADER + LONGEST, 0);
        }
        let headers = piece.transport + TRANSPORT_HEADER;
        let (Some(to), Some(from)) = (self.buffer.get_mut(SHIFT..SHIFT + headers), frame.get(..headers))
        else {
            return false;
        };
        to.copy_from_slice(from);
        self.transport = piece.transport;
        self.length = 0;
        self.next = piece.sequence;
        self.append(frame)
    }

    /// Appends `frame` if it carries on and its checksum is right.
    pub(super) fn append(&mut self, frame: &[u8]) -> bool {
        let Some(piece) = piece(frame) else { return false };
        let headers = SHIFT + self.transport + TRANSPORT_HEADER;
        let addresses = self.transport + 4 - piece.ends.len();
        let length = piece.payload.len();
        if piece.sequence != self.next
            || piece.transport != self.transport
            || self.buffer.get(SHIFT + addresses..SHIFT + self.transport + 4) != Some(piece.ends)
            || self.length + length > LONGEST
        {
            return false;
        }
        let Some(place) = self.buffer.get_mut(headers + self.length..headers + self.length + length) else {
            return false;
        };
        let before = frame.get(addresses..self.transport + TRANSPORT_HEADER).unwrap_or_default();
        let sum = checksum::add(6 + (TRANSPORT_HEADER + length) as u64, before);
        if checksum::finish(checksum::copy_and_add(sum, place, piece.payload)) != 0 {
            return false;
        }
        self.length += length;
        self.next = self.next.wrapping_add(length as u32);
        // Acknowledgement number, flags and window are the newest.
        if let Some(header) = self.buffer.get_mut(headers - TRANSPORT_HEADER..headers)
            && let (Some(to), Some(from)) = (header.get_mut(8..16), piece.header.get(8..16))
        {
            to.copy_from_slice(from);
        }
        true
    }

    /// The long segment as a receiver with one frame. Its TCP checksum is not right: nobody looks at it again.
    pub(super) fn finish(&mut self) -> Gathered<'_> {
        let end = SHIFT + self.transport + TRANSPORT_HEADER + self.length;
        let frame = self.buffer.get_mut(SHIFT..end).unwrap_or_default();
        let length = (TRANSPORT_HEADER + self.length) as u16;
        let mut put = |at: usize, field: u16| {
            if let Some(place) = frame.get_mut(at..at + 2) {
                place.copy_from_slice(&field.to_be_bytes());
            }
        };
        if self.transport == ETHERNET + 20 {
            put(ETHERNET + 2, 20 + length);
            put(ETHERNET + 10, 0);
            let sum = checksum::add(0, frame.get(ETHERNET..self.transport).unwrap_or_default());
            if let Some(place) = frame.get_mut(ETHERNET + 10..ETHERNET + 12) {
                place.copy_from_slice(&checksum::finish(sum).to_be_bytes());
            }
        } else {
            put(ETHERNET + 4, length);
        }
        Gathered(Some(frame))
    }
}

/// A receiver with one frame.
pub(super) struct Gathered<'a>(Option<&'a [u8]>);

impl FrameReceiver for Gathered<'_> {
    fn front(&mut self) -> Option<&[u8]> {
        self.0
    }

    fn pop(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::{Look, look, segment, segment_sum};
    use super::*;
    use std::vec::Vec;

    fn frame(version4: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let length = (20 + payload.len()) as u16;
        if version4 {
            frame.extend([0x08, 0, 0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = checksum::finish(checksum::add(0, &frame[14..34]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame.extend([0x86, 0xDD, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([6, 64]);
            frame.extend([0xFE; 32]);
        }
        frame.extend([0xC3, 0x50, 0x01, 0xBD]);
        frame.extend(sequence.to_be_bytes());
        frame.extend((sequence / 7).to_be_bytes());
        frame.extend([0x50, flags, 0x10, sequence as u8, 0, 0, 0, 0]);
        frame.extend(payload);
        let segment = segment(&frame).unwrap();
        let sum = checksum::finish(segment_sum(&frame, &segment));
        frame[segment.transport + 16..segment.transport + 18].copy_from_slice(&sum.to_be_bytes());
        assert!(matches!(look(&frame, 0), Look::Tcp { .. }));
        frame
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 7 + length) as u8).collect()
    }

    #[test]
    fn segments_in_order_become_one() {
        for version4 in [true, false] {
            let headers = if version4 { 54 } else { 74 };
            let mut gather = Gather::new();
            for _ in 0..2 {
                let start = 0xFFFF_FF00u32;
                let mut sequence = start;
                let mut expected = Vec::new();
                let mut last = Vec::new();
                for (index, length) in [1460, 1460, 999, 1, 1460].into_iter().enumerate() {
                    let bytes = payload(length);
                    last = frame(version4, sequence, if index == 4 { 0x18 } else { 0x10 }, &bytes);
                    assert!(if index == 0 { gather.begin(&last) } else { gather.append(&last) });
                    expected.extend(bytes);
                    sequence = sequence.wrapping_add(length as u32);
                }
                let mut gathered = gather.finish();
                let long = gathered.front().unwrap();
                assert_eq!(long[headers..], expected);
                let segment = segment(long).unwrap();
                assert_eq!(segment.end, long.len());
                assert_eq!(long[headers - 16..headers - 12], start.to_be_bytes());
                assert_eq!(long[headers - 12..headers - 4], last[headers - 12..headers - 4]);
                if version4 {
                    assert_eq!(checksum::finish(checksum::add(0, &long[14..34])), 0);
                }
                gathered.pop();
                assert!(gathered.front().is_none());
            }
        }
    }

    #[test]
    fn what_does_not_carry_on_is_left() {
        let first = frame(true, 1000, 0x10, &payload(100));
        assert_eq!(continues(&first, &frame(true, 1100, 0x18, b"x")), Some(100));
        let mut gather = Gather::new();
        assert!(gather.begin(&first));
        let mut damaged = frame(true, 1100, 0x10, b"abc");
        damaged[55] ^= 1;
        let mut other = frame(true, 1100, 0x10, b"abc");
        other[34] ^= 1;
        for left in [
            frame(true, 1101, 0x10, b"abc"),
            frame(true, 1099, 0x10, b"abc"),
            frame(true, 1100, 0x11, b"abc"),
            frame(true, 1100, 0x14, b"abc"),
            frame(true, 1100, 0x12, b"abc"),
            frame(true, 1100, 0x10, b""),
            frame(false, 1100, 0x10, b"abc"),
            other,
            damaged,
        ] {
            assert!(!gather.append(&left), "{left:02x?}");
        }
        assert!(!gather.append(&frame(true, 1100, 0x10, b"abc")[..56]));
        assert!(gather.append(&frame(true, 1100, 0x10, b"abc")));
        // The length of a packet is the limit.
        let mut sequence = 1103;
        while gather.append(&frame(true, sequence, 0x10, &payload(1460))) {
            sequence += 1460;
        }
        let mut gathered = gather.finish();
        let long = gathered.front().unwrap();
        assert!(long.len() > 62_000 && segment(long).unwrap().end == long.len());
    }
}
