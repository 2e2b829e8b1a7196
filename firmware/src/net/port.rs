//! One Ethernet port: its interface, its addresses, and the sockets that are not a client's connection.

use alloc::boxed::Box;
use alloc::vec::Vec;

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{
    DhcpOption, EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address,
    Ipv6Cidr,
};

use super::connection::Connection;
use super::device::{Device, Scratch};
use super::flow::{self, Look};
use super::gather::{self, Gather};
use super::service::Reply;
use crate::board::{FrameReceiver, FrameTransmitter, NetworkPort};

/// How a port gets its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// Ask a DHCP server.
    pub dhcp: bool,
    /// The address without DHCP, or when no server answers.
    pub fallback: Option<StaticAddress>,
}

/// An address by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// Address and prefix length.
    pub address: Ipv4Cidr,
    /// Default router.
    pub router: Option<Ipv4Address>,
}

/// How long to wait for DHCP before the static address is used, in microseconds.
const DHCP_PATIENCE: u64 = 8_000_000;
const HOST_NAME_OPTION: u8 = 12;

/// A port and its interface.
pub(super) struct Port<P> {
    pub(super) hardware: P,
    interface: Interface,
    /// DHCP (and whatever else has no connection).
    sockets: SocketSet<'static>,
    /// `None`: not wanted.
    dhcp: Option<SocketHandle>,
    scratch: Scratch,
    gather: Gather,
    addressing: Addressing,
    router: Option<Ipv4Address>,
    started: u64,
    leased: bool,
    pub(super) deadline: u64,
    /// Frames with a wrong checksum.
    pub(super) damaged: u32,
    link: bool,
}

pub(super) fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now).unwrap_or(i64::MAX))
}

pub(super) fn microseconds(instant: Instant) -> u64 {
    u64::try_from(instant.total_micros()).unwrap_or(0)
}

macro_rules! device {
    ($port:ident) => {{
        let (receiver, transmitter) = $port.hardware.halves();
        Device { receiver, transmitter, scratch: &mut $port.scratch }
    }};
}

impl<P: NetworkPort> Port<P> {
    pub(super) fn new(
        mut hardware: P,
        seed: u64,
        host_name: &'static str,
        addressing: Addressing,
        now: u64,
    ) -> Self {
        let address = hardware.address();
        let (receiver, transmitter) = hardware.halves();
        let mut scratch = Scratch::new(transmitter.space());
        let mut device = Device { receiver, transmitter, scratch: &mut scratch };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(address)));
        config.random_seed = seed;
        config.slaac = true;
        let mut interface = Interface::new(config, &mut device, instant(now));
        interface.update_ip_addrs(|addresses| {
            // There is room: it is the first.
            let _ = addresses.push(IpCidr::Ipv6(link_local(address)));
        });
        let mut dhcp = dhcpv4::Socket::new();
        if !host_name.is_empty() {
            let option = DhcpOption { kind: HOST_NAME_OPTION, data: host_name.as_bytes() };
            // A port lives for ever.
            dhcp.set_outgoing_options(Box::leak(Box::new([option])));
        }
        let mut sockets = SocketSet::new(Vec::with_capacity(4));
        let dhcp = addressing.dhcp.then(|| sockets.add(dhcp));
        Self {
            hardware,
            interface,
            sockets,
            dhcp,
            scratch,
            gather: Gather::new(),
            addressing,
            router: None,
            started: now,
            leased: false,
            deadline: 0,
            damaged: 0,
            link: false,
        }
    }

    /// What the oldest received frame is; damaged ones are dropped on the way.
    pub(super) fn look(&mut self, index: u8) -> Option<Look> {
        loop {
            let (receiver, _) = self.hardware.halves();
            // Most looks find nothing; a look for two is two looks.
            receiver.front()?;
            // A burst of segments is answered by a burst of acknowledgements, of which the last says all.
            while receiver.front_pair().is_some_and(|(first, second)| flow::supersedes(first, second)) {
                receiver.pop();
            }
            match flow::look(receiver.front()?, index) {
                Look::Damaged => {
                    self.damaged = self.damaged.wrapping_add(1);
                    receiver.pop();
                }
                look => return Some(look),
            }
        }
    }

    /// Shows the oldest frame to the socket of a connection, and those behind it that carry on where it ends; returns
    /// how many frames that took.
    pub(super) fn deliver<R: Reply>(&mut self, now: u64, connection: &mut Connection<R>) -> usize {
        let (receiver, _) = self.hardware.halves();
        let carried = receiver.front_pair().and_then(|(first, second)| gather::continues(first, second));
        let queued = connection.queued();
        // The first goes by itself: two segments are what makes the stack acknowledge at once.
        let mut device = device!(self);
        let _: PollIngressSingleResult =
            self.interface.poll_ingress_single(instant(now), &mut device, &mut connection.sockets);
        // Only data in order are gathered: what comes behind a gap is answered one by one, which tells the peer of the loss.
        let Some(carried) = carried else { return 1 };
        if connection.queued() != queued + carried {
            return 1;
        }
        let (receiver, transmitter) = self.hardware.halves();
        let mut taken = 1;
        while let Some(frame) = receiver.front() {
            let fits = if taken == 1 { self.gather.begin(frame) } else { self.gather.append(frame) };
            if !fits {
                break;
            }
            receiver.pop();
            taken += 1;
        }
        if taken > 1 {
            let mut receiver = self.gather.finish();
            let mut device = Device { receiver: &mut receiver, transmitter, scratch: &mut self.scratch };
            let _: PollIngressSingleResult =
                self.interface.poll_ingress_single(instant(now), &mut device, &mut connection.sockets);
        }
        taken
    }

    /// Shows the oldest frame to the port's own sockets: pings and neighbours are answered, a segment for no
    /// connection is reset.
    pub(super) fn deliver_own(&mut self, now: u64) {
        let mut device = device!(self);
        let _: PollIngressSingleResult =
            self.interface.poll_ingress_single(instant(now), &mut device, &mut self.sockets);
        self.deadline = 0;
    }

    /// Lets a connection's socket send; returns whether it sent anything, and when it wants its next turn.
    pub(super) fn send(&mut self, now: u64, sockets: &mut SocketSet<'static>) -> bool {
        let mut device = device!(self);
        self.interface.poll_egress(instant(now), &mut device, sockets) == PollResult::SocketStateChanged
    }

    /// When the connection's socket wants its next turn.
    pub(super) fn next_turn(&mut self, now: u64, sockets: &SocketSet<'static>) -> u64 {
        self.interface.poll_at(instant(now), sockets).map_or(u64::MAX, microseconds)
    }

    /// The port's own business: DHCP, address changes, link. Called when its deadline has come.
    pub(super) fn maintain(&mut self, now: u64, index: usize) {
        let link = self.hardware.link_is_up();
        if link != self.link {
            self.link = link;
            log::info!("port {}: link {}", index + 1, if link { "up" } else { "down" });
            if let Some(dhcp) = self.dhcp
                && link
            {
                self.sockets.get_mut::<dhcpv4::Socket>(dhcp).reset();
            }
        }
        self.interface.poll_maintenance(instant(now));
        while {
            let mut device = device!(self);
            let sent = self.interface.poll_egress(instant(now), &mut device, &mut self.sockets);
            sent == PollResult::SocketStateChanged
        } {}
        self.configure(now, index);
        let wanted = self.next_turn_own(now);
        // Link changes are looked for every second or so.
        self.deadline = wanted.max(now + 1_000).min(now + 1_000_000);
    }

    fn next_turn_own(&mut self, now: u64) -> u64 {
        self.interface.poll_at(instant(now), &self.sockets).map_or(u64::MAX, microseconds)
    }

    fn configure(&mut self, now: u64, index: usize) {
        let event = self.dhcp.and_then(|dhcp| self.sockets.get_mut::<dhcpv4::Socket>(dhcp).poll());
        let change = match event {
            Some(dhcpv4::Event::Configured(config)) => Some(Some((config.address, config.router))),
            Some(dhcpv4::Event::Deconfigured) => Some(None),
            None => None,
        };
        match change {
            Some(Some((address, router))) => {
                self.leased = true;
                log::info!("port {}: {address} by DHCP", index + 1);
                self.set_address(Some(address), router);
            }
            Some(None) if self.leased => {
                self.leased = false;
                self.started = now;
                log::warn!("port {}: DHCP lease lost", index + 1);
                self.set_address(None, None);
            }
            _ => {}
        }
        let patience = if self.addressing.dhcp { DHCP_PATIENCE } else { 0 };
        if let Some(fallback) = self.addressing.fallback
            && !self.leased
            && now >= self.started + patience
            && self.interface.ipv4_addr().is_none()
        {
            log::info!("port {}: {} as configured", index + 1, fallback.address);
            self.set_address(Some(fallback.address), fallback.router);
        }
    }

    fn set_address(&mut self, address: Option<Ipv4Cidr>, router: Option<Ipv4Address>) {
        let valid = address.filter(|address| {
            let address = address.address();
            !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast()
        });
        self.interface.update_ip_addrs(|addresses| {
            addresses.retain(|address| !matches!(address, IpCidr::Ipv4(_)));
            if let Some(address) = valid {
                let _ = addresses.push(IpCidr::Ipv4(address));
            }
        });
        self.router = router;
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(router) = router {
            // Fails only when the table is full; local clients need no route.
            let _ = routes.add_default_ipv4_route(router);
        }
    }

    /// The addresses now, for the console.
    pub(super) fn addresses(&self) -> Vec<IpCidr> {
        self.interface.ip_addrs().to_vec()
    }

    /// The default router now, for the console.
    pub(super) fn router(&self) -> Option<Ipv4Address> {
        self.router
    }

    pub(super) fn link(&self) -> bool {
        self.link
    }

    /// Whether `address` is ours: a SYN to anything else is not worth a socket.
    pub(super) fn is_own(&self, address: IpAddress) -> bool {
        self.interface.has_ip_addr(address)
    }
}

/// The IPv6 link-local address made of the station address (RFC 4291, appendix A).
fn link_local(address: [u8; 6]) -> Ipv6Cidr {
    let [a, b, c, d, e, f] = address;
    let octets = [0xFE, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xFF, 0xFE, d, e, f];
    Ipv6Cidr::new(Ipv6Address::from_octets(octets), 64)
}
