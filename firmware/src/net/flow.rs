//! Which connection a frame belongs to, found before the stack sees it.
//!
//! The stack would try one socket after the other. Here every connection has a socket set of its own, and a hash of
//! addresses and ports says which one a frame is for.

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::checksum;

/// The ends of a TCP connection on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// The Ethernet port.
    pub(super) port: u8,
    /// The peer's address.
    pub(super) remote: IpAddress,
    /// Ours.
    pub(super) local: IpAddress,
    /// The peer's TCP port.
    pub(super) remote_port: u16,
    /// Ours.
    pub(super) local_port: u16,
}

impl Flow {
    fn hash(&self, seed: u32) -> u32 {
        let mut hash = seed ^ (u32::from(self.remote_port) << 16 | u32::from(self.local_port));
        let mut mix = |word: u32| {
            hash = (hash ^ word).wrapping_mul(0x9E37_79B1);
            hash ^= hash >> 15;
        };
        mix(u32::from(self.port));
        match self.remote {
            IpAddress::Ipv4(address) => mix(u32::from(address)),
            IpAddress::Ipv6(address) => {
                let bits = u128::from(address);
                mix((bits >> 96) as u32);
                mix((bits >> 64) as u32);
                mix((bits >> 32) as u32);
                mix(bits as u32);
            }
        }
        hash
    }
}

/// What a look at a frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A TCP segment whose checksum is right.
    Tcp {
        /// Its ends.
        flow: Flow,
        /// It opens a connection: SYN without ACK or RST.
        opens: bool,
    },
    /// A TCP segment whose checksum is wrong: to be dropped.
    Damaged,
    /// Says where a neighbour is (ARP, neighbour discovery): who waits for an address can go on.
    Neighbour,
    /// Anything else.
    Other,
}

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;

/// Where the TCP segment in an Ethernet frame lies.
pub(super) struct Segment {
    /// First byte of the TCP header.
    pub(super) transport: usize,
    /// One past the segment's last byte.
    pub(super) end: usize,
    /// IPv4 (else IPv6).
    pub(super) version4: bool,
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Finds the TCP segment in `frame`; `None` for anything else, fragments and extension headers included.
pub(super) fn segment(frame: &[u8]) -> Option<Segment> {
    let segment = match u16_at(frame, 12)? {
        0x0800 => {
            let first = *frame.get(ETHERNET)?;
            let header = usize::from(first & 0x0F) * 4;
            let total = usize::from(u16_at(frame, ETHERNET + 2)?);
            let fragment = u16_at(frame, ETHERNET + 6)? & 0x3FFF;
            let protocol = *frame.get(ETHERNET + 9)?;
            if first >> 4 != 4 || header < 20 || protocol != 6 || fragment != 0 {
                return None;
            }
            Segment { transport: ETHERNET + header, end: ETHERNET + total, version4: true }
        }
        0x86DD => {
            if *frame.get(ETHERNET)? >> 4 != 6 || *frame.get(ETHERNET + 6)? != 6 {
                return None;
            }
            let length = usize::from(u16_at(frame, ETHERNET + 4)?);
            let transport = ETHERNET + 40;
            Segment { transport, end: transport + length, version4: false }
        }
        _ => return None,
    };
    (segment.end <= frame.len() && segment.transport + 20 <= segment.end).then_some(segment)
}

/// The sum over the segment in `frame` and its pseudo header (RFC 9293 3.1, RFC 8200 8.1).
pub(super) fn segment_sum(frame: &[u8], segment: &Segment) -> u64 {
    let (addresses, length) = if segment.version4 { (ETHERNET + 12, 8) } else { (ETHERNET + 8, 32) };
    // Protocol and length.
    let sum = 6 + (segment.end - segment.transport) as u64;
    if addresses + length == segment.transport {
        // Without options the addresses lie right before the segment.
        return checksum::add(sum, frame.get(addresses..segment.end).unwrap_or_default());
    }
    let sum = checksum::add(sum, frame.get(addresses..addresses + length).unwrap_or_default());
    checksum::add(sum, frame.get(segment.transport..segment.end).unwrap_or_default())
}

/// Where the TCP header and the addresses before it lie in a frame without IP options, and the segment's length by the IP
/// header; `None` for anything else.
pub(super) fn plain_segment(frame: &[u8]) -> Option<(&[u8; 20], &[u8], usize)> {
    let (transport, addresses, length) = match frame.get(12..24)? {
        [0x08, 0x00, 0x45, _, high, low, _, _, fragment, 0, _, 6] if fragment & 0x3F == 0 => {
            (ETHERNET + 20, ETHERNET + 12, usize::from(u16::from_be_bytes([*high, *low])).checked_sub(20)?)
        }
        [0x86, 0xDD, version, _, _, _, high, low, 6, _, _, _] if version >> 4 == 6 => {
            (ETHERNET + 40, ETHERNET + 8, usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => return None,
    };
    // With the ports.
    Some((frame.get(transport..)?.first_chunk()?, frame.get(addresses..transport + 4)?, length))
}

/// Whether `first` is an acknowledgement and nothing else, and `second` a later segment of the same connection that
/// acknowledges more: then the stack need not see `first`. One that acknowledges no more is a sign of loss, and is kept.
/// (Checksums have not been looked at. If `second` is damaged, an acknowledgement is lost, as one may be.)
pub(super) fn supersedes(first: &[u8], second: &[u8]) -> bool {
    let Some((first, first_ends, first_length)) = plain_segment(first) else { return false };
    let header = usize::from(first[12] >> 4) * 4;
    // ACK alone, without data.
    if first[13] != 0x10 || first_length != header {
        return false;
    }
    let Some((second, second_ends, _)) = plain_segment(second) else { return false };
    if second[13] & FIN_SYN_RST_ACK & !0x01 != 0x10 || first_ends != second_ends {
        return false;
    }
    let acknowledged = |header: &[u8; 20]| u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    (acknowledged(second).wrapping_sub(acknowledged(first)) as i32) > 0
}

/// Looks at a frame received on `port`.
pub(super) fn look(frame: &[u8], port: u8) -> Look {
    let Some(segment) = segment(frame) else {
        let neighbour = match u16_at(frame, 12) {
            Some(0x0806) => true,
            // Next header ICMPv6, type neighbour solicitation or advertisement.
            Some(0x86DD) => {
                frame.get(ETHERNET + 6) == Some(&58) && matches!(frame.get(ETHERNET + 40), Some(135 | 136))
            }
            _ => false,
        };
        return if neighbour { Look::Neighbour } else { Look::Other };
    };
    let bytes = frame.get(segment.transport..segment.end).unwrap_or_default();
    let (Some(&ports), Some(&flags)) = (bytes.first_chunk::<4>(), bytes.get(13)) else { return Look::Other };
    if checksum::finish(segment_sum(frame, &segment)) != 0 {
        return Look::Damaged;
    }
    let address = |offset: usize| {
        if segment.version4 {
            let octets = frame.get(ETHERNET + 12 + offset * 4..)?.first_chunk::<4>()?;
            Some(IpAddress::Ipv4(Ipv4Address::from_octets(*octets)))
        } else {
            let octets = frame.get(ETHERNET + 8 + offset * 16..)?.first_chunk::<16>()?;
            Some(IpAddress::Ipv6(Ipv6Address::from_octets(*octets)))
        }
    };
    let (Some(remote), Some(local)) = (address(0), address(1)) else { return Look::Other };
    let flow = Flow {
        port,
        remote,
        local,
        remote_port: u16::from_be_bytes([ports[0], ports[1]]),
        local_port: u16::from_be_bytes([ports[2], ports[3]]),
    };
    Look::Tcp { flow, opens: flags & FIN_SYN_RST_ACK == SYN }
}

const BUCKETS: usize = 512;
const END: u16 = u16::MAX;

/// Finds slots by their flow.
pub(super) struct FlowTable {
    seed: u32,
    buckets: [u16; BUCKETS],
    /// For every slot its flow and the next slot of its bucket.
    entries: alloc::vec::Vec<(Option<Flow>, u16)>,
}

impl FlowTable {
    /// An empty table for `slots` slots. `seed` keeps peers from choosing ports that fall into one bucket.
    pub(super) fn new(slots: usize, seed: u32) -> Self {
        Self { seed, buckets: [END; BUCKETS], entries: alloc::vec![(None, END); slots] }
    }

    fn bucket(&self, flow: &Flow) -> usize {
        flow.hash(self.seed) as usize % BUCKETS
    }

    /// The slot whose flow this is.
    pub(super) fn find(&self, flow: &Flow) -> Option<usize> {
        let mut at = *self.buckets.get(self.bucket(flow))?;
        while let Some((entry, next)) = self.entries.get(usize::from(at)) {
            if entry.as_ref() == Some(flow) {
                return Some(usize::from(at));
            }
            at = *next;
        }
        None
    }

    /// Gives `slot`, which has none, the flow.
    pub(super) fn insert(&mut self, slot: usize, flow: Flow) {
        let bucket = self.bucket(&flow);
        if let (Some(head), Some(entry)) = (self.buckets.get_mut(bucket), self.entries.get_mut(slot)) {
            *entry = (Some(flow), *head);
            *head = slot as u16;
        }
    }

    /// Takes `slot`'s flow away.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some((Some(flow), next)) = self.entries.get(slot).copied() else { return };
        let bucket = self.bucket(&flow);
        let Some(head) = self.buckets.get(bucket).copied() else { return };
        if usize::from(head) == slot {
            if let Some(head) = self.buckets.get_mut(bucket) {
                *head = next;
            }
        } else {
            let mut at = usize::from(head);
            while let Some((_, link)) = self.entries.get_mut(at) {
                if usize::from(*link) == slot {
                    *link = next;
                    break;
                }
                at = usize::from(*link);
            }
        }
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = (None, END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(remote_port: u16) -> Flow {
        Flow {
            port: 1,
            remote: IpAddress::v4(10, 0, 2, 2),
            local: IpAddress::v4(10, 0, 2, 15),
            remote_port,
            local_port: 445,
        }
    }

    #[test]
    fn slots_are_found_until_removed() {
        // More flows than buckets, so that chains form.
        let mut table = FlowTable::new(1000, 7);
        for slot in 0..1000 {
            table.insert(slot, flow(slot as u16 + 1));
        }
        for slot in (0..1000).step_by(3) {
            table.remove(slot);
        }
        for slot in 0..1000 {
            let expected = (slot % 3 != 0).then_some(slot);
            assert_eq!(table.find(&flow(slot as u16 + 1)), expected);
        }
        assert_eq!(table.find(&Flow { port: 0, ..flow(2) }), None);
        assert_eq!(table.find(&flow(2000)), None);
    }

    /// A SYN of a Linux client, as captured.
    const SYN_FRAME: &str = "525400123456 525500000202 0800 4500002c00010000 4006 0000 0a000202 0a00020f \
        c350 01bd 0000fa01 00000000 6002 ffff 0000 0000 020405b4";

    fn frame() -> Vec<u8> {
        let digits: Vec<u8> = SYN_FRAME.bytes().filter(u8::is_ascii_hexdigit).collect();
        let mut frame: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let segment = segment(&frame).unwrap();
        let sum = checksum::finish(segment_sum(&frame, &segment));
        frame[segment.transport + 16..segment.transport + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn a_syn_is_recognised() {
        let good = frame();
        let Look::Tcp { flow: seen, opens: true } = look(&good, 1) else { panic!() };
        assert_eq!(seen, flow(50000));
        let mut padded = good.clone();
        padded.resize(60, 0xAA);
        assert_eq!(look(&padded, 1), look(&good, 1));
        let mut bad = good.clone();
        bad[50] ^= 1;
        assert_eq!(look(&bad, 1), Look::Damaged);
        for length in 0..good.len() {
            assert!(!matches!(look(&good[..length], 1), Look::Tcp { .. }));
        }
        let mut fragment = good.clone();
        fragment[20] = 0x20;
        assert_eq!(look(&fragment, 1), Look::Other);
    }

    /// An acknowledgement of `number` with `flags`, its source port and so many bytes of data.
    fn acknowledgement(number: u32, flags: u8, port: u16, data: usize) -> Vec<u8> {
        let mut frame = frame();
        frame.truncate(54);
        frame.resize(54 + data, 0x55);
        frame[17] = 40 + data as u8;
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame[42..46].copy_from_slice(&number.to_be_bytes());
        frame[46..48].copy_from_slice(&[0x50, flags]);
        frame
    }

    #[test]
    fn an_acknowledgement_is_superseded_by_a_later_one() {
        let first = acknowledgement(1000, 0x10, 1, 0);
        let mut padded = first.clone();
        padded.resize(60, 0);
        for (second, expected) in [
            (acknowledgement(1001, 0x10, 1, 0), true),
            (acknowledgement(1001, 0x18, 1, 50), true),
            (acknowledgement(1001, 0x11, 1, 0), true),
            (acknowledgement(1000, 0x10, 1, 0), false),
            (acknowledgement(999, 0x10, 1, 0), false),
            (acknowledgement(0x8000_0000 + 1000, 0x10, 1, 0), false),
            (acknowledgement(1001, 0x10, 2, 0), false),
            (acknowledgement(1001, 0x14, 1, 0), false),
            (acknowledgement(1001, 0x12, 1, 0), false),
            (acknowledgement(1001, 0x00, 1, 0), false),
        ] {
            assert_eq!(supersedes(&first, &second), expected, "{second:02x?}");
            assert_eq!(supersedes(&padded, &second), expected);
            for length in 0..54 {
                assert!(!supersedes(&first[..length], &second));
                assert!(!supersedes(&first, &second[..length]));
            }
        }
        let late = acknowledgement(5, 0x10, 1, 0);
        assert!(supersedes(&acknowledgement(0xFFFF_FFFF, 0x10, 1, 0), &late));
        // Not an acknowledgement and nothing else.
        for kept in
            [acknowledgement(1, 0x10, 1, 1), acknowledgement(1, 0x18, 1, 0), acknowledgement(1, 0x11, 1, 0)]
        {
            assert!(!supersedes(&kept, &late));
        }
    }
}
