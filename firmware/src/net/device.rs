//! An Ethernet port as smoltcp wants it, with the work that offloading hardware would do: checksums of TCP and the
//! cutting of long segments, both in the pass that copies into the ring.

use alloc::vec::Vec;
use core::num::NonZeroUsize;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::checksum;
use super::flow::{ETHERNET, Segment, segment, segment_sum};
use crate::board::{FrameReceiver, FrameTransmitter};

/// The longest frame without CRC.
pub(super) const FRAME: usize = 1514;

/// Payload of a full frame: what a long segment is cut into. TCP options take from it.
const FULL_PAYLOAD: usize = 1460;

/// How many full frames a long segment may come to.
const LONGEST: usize = 22;

/// Headers of a TCP segment without options over IPv4, from the Ethernet header on.
const HEADERS: usize = 54;

/// Bytes before a long frame in its buffer, so that its payload lies on a word: fast to copy.
const SHIFT: usize = 2;

/// Where the stack writes what is to be cut, and what fits nowhere.
pub(super) struct Scratch {
    buffer: Vec<u8>,
    /// The longest frame the stack is told it may make.
    pub(super) longest: usize,
}

impl Scratch {
    /// For a transmit ring of `ring` frames: a long segment takes half of it at most.
    pub(super) fn new(ring: usize) -> Self {
        // Whole frames, with nothing left over to make a short one of.
        let longest = HEADERS + FULL_PAYLOAD * (ring / 2).clamp(1, LONGEST);
        Self { buffer: alloc::vec![0; longest + SHIFT], longest }
    }

    /// How many frames a segment may come to.
    pub(super) fn frames(&self) -> usize {
        self.longest.div_ceil(FULL_PAYLOAD - 60)
    }
}

/// A port for the length of one call into the stack.
pub(super) struct Device<'a, R, T> {
    pub(super) receiver: &'a mut R,
    pub(super) transmitter: &'a mut T,
    pub(super) scratch: &'a mut Scratch,
}

impl<R: FrameReceiver, T: FrameTransmitter> phy::Device for Device<'_, R, T> {
    type RxToken<'b>
        = Received<'b, R>
    where
        Self: 'b;
    type TxToken<'b>
        = Transmission<'b, T>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.receiver.front()?;
        let transmission = Transmission { transmitter: self.transmitter, scratch: self.scratch, cut: None };
        Some((Received(self.receiver), transmission))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        // Whatever the stack makes of it has room.
        (self.transmitter.space() >= self.scratch.frames()).then_some(Transmission {
            transmitter: self.transmitter,
            scratch: self.scratch,
            cut: None,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        // Verified by the look at the frame, made below.
        capabilities.checksum.tcp = Checksum::None;
        // smoltcp 0.14 drops an IPv6 packet that is longer than a frame before the device could cut it.
        capabilities.segmentation.tcpv4 = NonZeroUsize::new(self.scratch.longest);
        capabilities
    }
}

/// The oldest frame of the receive ring.
pub(super) struct Received<'a, R>(&'a mut R);

impl<R: FrameReceiver> phy::RxToken for Received<'_, R> {
    fn consume<O, F: FnOnce(&[u8]) -> O>(self, body: F) -> O {
        let result = body(self.0.front().unwrap_or_default());
        self.0.pop();
        result
    }
}

/// Room for one segment.
pub(super) struct Transmission<'a, T> {
    transmitter: &'a mut T,
    scratch: &'a mut Scratch,
    /// Payload bytes a frame, when the segment is to be cut.
    cut: Option<usize>,
}

impl<T: FrameTransmitter> phy::TxToken for Transmission<'_, T> {
    fn consume<O, F: FnOnce(&mut [u8]) -> O>(self, length: usize, body: F) -> O {
        if length <= FRAME && self.transmitter.space() > 0 {
            return self.transmitter.transmit(length, |frame| {
                let result = body(frame);
                if let Some(segment) = segment(frame) {
                    fill_checksum(frame, &segment);
                }
                result
            });
        }
        // Too long, or an answer that the ring has no room for (lost, as on any wire).
        if self.scratch.buffer.len() < length + SHIFT {
            self.scratch.buffer.resize(length + SHIFT, 0);
        }
        let buffer = self.scratch.buffer.get_mut(SHIFT..length + SHIFT).unwrap_or_default();
        let result = body(buffer);
        if let Some(cut) = self.cut {
            cut_segment(buffer, cut, self.transmitter);
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.cut = meta.segmentation_offload_size.map(|size| usize::from(size.get()));
    }
}

/// Writes the TCP checksum of a frame whose field is 0.
fn fill_checksum(frame: &mut [u8], segment: &Segment) {
    let at = segment.transport + 16;
    put(frame, at, [0, 0]);
    let sum = checksum::finish(segment_sum(frame, segment));
    put(frame, at, sum.to_be_bytes());
}

/// Writes a field of a header.
fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = field;
    }
}

/// Bits of the TCP flags that belong to a segment's last byte: FIN and PSH.
const LAST_FLAGS: u8 = 0x09;

/// Sends the long TCP frame `long` as frames of `cut` payload bytes each. Sequence number, lengths, PSH/FIN (on the last
/// frame only) and checksums are set for each; the sums over what the headers have in common are made once.
fn cut_segment(long: &mut [u8], cut: usize, transmitter: &mut impl FrameTransmitter) {
    // The stack leaves the length fields of what is to be cut as they may be: find the headers by themselves.
    let version4 = long.get(12..14) == Some(&[0x08, 0x00]);
    let transport = ETHERNET + if version4 { 20 } else { 40 };
    let Some(data_offset) = long.get(transport + 12).map(|byte| usize::from(byte >> 4) * 4) else { return };
    let headers = transport + data_offset;
    let Some((header, payload)) = long.split_at_mut_checked(headers) else { return };
    let (Some(&sequence), Some(&flags)) =
        (header.get(transport + 4..).and_then(<[u8]>::first_chunk), header.get(transport + 13))
    else {
        return;
    };
    let sequence = u32::from_be_bytes(sequence);
    put(header, transport + 4, [0; 4]);
    put(header, transport + 13, [flags & !LAST_FLAGS]);
    put(header, transport + 16, [0; 2]);
    if version4 {
        put(header, ETHERNET + 2, [0; 2]);
        put(header, ETHERNET + 10, [0; 2]);
    }
    let network_sum = checksum::add(0, header.get(ETHERNET..transport).unwrap_or_default());
    // Without the header's own length, in one's complement: each frame's is added below.
    let segment = Segment { transport, end: headers, version4 };
    let transport_sum = segment_sum(header, &segment) + (0xFFFF - data_offset as u64);
    let mut rest = payload.chunks(cut.max(1)).enumerate().peekable();
    while let Some((index, piece)) = rest.next() {
        if transmitter.space() == 0 {
            return;
        }
        let last_flags = if rest.peek().is_none() { flags & LAST_FLAGS } else { 0 };
        transmitter.transmit(headers + piece.len(), |frame| {
            let Some((head, body)) = frame.split_at_mut_checked(headers) else { return };
            head.copy_from_slice(header);
            let length = data_offset + piece.len();
            let sequence = sequence.wrapping_add((index * cut) as u32);
            put(head, transport + 4, sequence.to_be_bytes());
            put(head, transport + 13, [flags & !LAST_FLAGS | last_flags]);
            if version4 {
                put(head, ETHERNET + 2, ((20 + length) as u16).to_be_bytes());
                put(head, ETHERNET + 10, checksum::finish(network_sum + 20 + length as u64).to_be_bytes());
            } else {
                put(head, ETHERNET + 4, (length as u16).to_be_bytes());
            }
            // The headers' length is a multiple of four, so the payload starts on a word of the sum.
            let sum = transport_sum + length as u64 + u64::from(sequence) + u64::from(last_flags);
            let sum = checksum::finish(checksum::copy_and_add(sum, body, piece));
            put(head, transport + 16, sum.to_be_bytes());
        });
    }
}
