//! An Ethernet port as smoltcp wants it, with the work that offloading hardware would do: checksums of TCP and the
//! cutting of long segments, both in the pass that copies into the ring.

use alloc::vec::Vec;
use core::num::NonZeroUsize;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::checksum;
use super::flow::{ETHERNET, Segment, pseudo_header, segment};
use crate::board::{FrameReceiver, FrameTransmitter};

/// The longest frame without CRC.
pub(super) const FRAME: usize = 1514;

/// Payload of a full frame: what a long segment is cut into. TCP options take from it.
const FULL_PAYLOAD: usize = 1460;

/// The longest frame the stack may make, to be cut into full frames.
const LONGEST: usize = 32 * 1024;

/// Where the stack writes what is to be cut, and what fits nowhere.
pub(super) struct Scratch {
    buffer: Vec<u8>,
    /// The longest frame the stack is told it may make.
    pub(super) longest: usize,
}

impl Scratch {
    /// For a transmit ring of `ring` frames: a long segment takes half of it at most.
    pub(super) fn new(ring: usize) -> Self {
        let longest = (ring / 2 * FULL_PAYLOAD).clamp(FRAME, LONGEST);
        Self { buffer: alloc::vec![0; longest], longest }
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
        if self.scratch.buffer.len() < length {
            self.scratch.buffer.resize(length, 0);
        }
        let buffer = self.scratch.buffer.get_mut(..length).unwrap_or_default();
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
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.fill(0);
    }
    let sum = pseudo_header(frame, segment, segment.end - segment.transport);
    let sum = checksum::add(sum, frame.get(segment.transport..segment.end).unwrap_or_default());
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }
}

/// Sends the long TCP frame `long` as frames of `cut` payload bytes each. Sequence number, lengths, identification,
/// PSH/FIN (on the last frame only) and checksums are set for each.
fn cut_segment(long: &[u8], cut: usize, transmitter: &mut impl FrameTransmitter) {
    // The stack leaves the length fields of what is to be cut as they may be: find the headers by themselves.
    let version4 = long.get(12..14) == Some(&[0x08, 0x00]);
    let network = ETHERNET;
    let transport = network + if version4 { 20 } else { 40 };
    let Some(data_offset) = long.get(transport + 12).map(|byte| usize::from(byte >> 4) * 4) else { return };
    let headers = transport + data_offset;
    let (Some(header), Some(payload)) = (long.get(..headers), long.get(headers..)) else { return };
    let (Some(sequence), Some(&flags)) = (
        long.get(transport + 4..transport + 8).and_then(|bytes| bytes.first_chunk::<4>()),
        long.get(transport + 13),
    ) else {
        return;
    };
    let sequence = u32::from_be_bytes(*sequence);
    let count = payload.len().div_ceil(cut.max(1));
    for (index, piece) in payload.chunks(cut.max(1)).enumerate() {
        if transmitter.space() == 0 {
            return;
        }
        transmitter.transmit(headers + piece.len(), |frame| {
            let Some((head, body)) = frame.split_at_mut_checked(headers) else { return };
            head.copy_from_slice(header);
            let length = data_offset + piece.len();
            let mut put = |at: usize, bytes: &[u8]| {
                if let Some(field) = head.get_mut(at..at + bytes.len()) {
                    field.copy_from_slice(bytes);
                }
            };
            put(transport + 4, &sequence.wrapping_add((index * cut) as u32).to_be_bytes());
            put(transport + 16, &[0, 0]);
            if index + 1 < count {
                // FIN and PSH belong to the last byte.
                put(transport + 13, &[flags & !0x09]);
            }
            if version4 {
                put(network + 2, &((20 + length) as u16).to_be_bytes());
                put(network + 10, &[0, 0]);
                let sum =
                    checksum::finish(checksum::add(0, head.get(network..transport).unwrap_or_default()));
                if let Some(field) = head.get_mut(network + 10..network + 12) {
                    field.copy_from_slice(&sum.to_be_bytes());
                }
            } else {
                put(network + 4, &(length as u16).to_be_bytes());
            }
            let segment = Segment { transport, end: headers + piece.len(), version4 };
            let sum = pseudo_header(head, &segment, length);
            let sum = checksum::add(sum, head.get(transport..).unwrap_or_default());
            // The header's length is a multiple of four, so the payload starts on a word of the sum.
            let sum = checksum::finish(checksum::copy_and_add(sum, body, piece));
            if let Some(field) = head.get_mut(transport + 16..transport + 18) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
        });
    }
}
