//! Routes, neighbours and devices of a network namespace, by `rtnetlink(7)`.

use std::{io, net::IpAddr};

use bytes::BytesMut;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
};
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};

/// More than the kernel puts into one datagram of a dump (`netlink_dump`: 32 KiB).
const DATAGRAM: usize = 64 * 1024;

/// A socket in the namespace that its thread was in when it was opened.
pub(super) struct Socket(netlink_sys::Socket);

/// What the kernel does with packets to an address.
pub(super) enum Route {
    /// It delivers them in this namespace.
    Local,
    /// It has no route, or one that refuses them.
    Nowhere,
    /// It hands them to a neighbour.
    Via {
        /// The index of the device,
        device: u32,
        /// and the neighbour: the gateway, or the address itself.
        next: IpAddr,
    },
}

/// What is known of a neighbour.
pub(super) enum Neighbour {
    /// Its hardware address.
    At(Vec<u8>),
    /// It does not answer ARP or neighbour solicitations.
    Silent,
    /// There is no entry, or the device has no hardware addresses.
    Unknown,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// As `ip route get`.
    pub(super) fn route(&mut self, to: IpAddr) -> io::Result<Route> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(to);
        request.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
        request.attributes = vec![RouteAttribute::Destination(to.into())];
        let mut route = Route::Nowhere;
        let asked = self.ask(RouteNetlinkMessage::GetRoute(request), 0, |message| {
            if let RouteNetlinkMessage::NewRoute(found) = message {
                route = read_route(&found, to);
            }
        });
        match asked.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(code)) if refuses(code) => Ok(Route::Nowhere),
            _ => asked.map(|()| route),
        }
    }

    /// The neighbour with this address on a device.
    pub(super) fn neighbour(&mut self, device: u32, address: IpAddr) -> io::Result<Neighbour> {
        let mut request = NeighbourMessage::default();
        request.header.family = family(address);
        let mut neighbour = Neighbour::Unknown;
        self.ask(
            RouteNetlinkMessage::GetNeighbour(request),
            NLM_F_DUMP,
            |message| {
                if let RouteNetlinkMessage::NewNeighbour(found) = message
                    && found.header.ifindex == device
                    && found.attributes.iter().any(|attribute| is_at(attribute, address))
                {
                    neighbour = read_neighbour(&found);
                }
            },
        )?;
        Ok(neighbour)
    }

    /// The hardware addresses of all devices, except those that are zero, such as the loopback device's.
    pub(super) fn hardware(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut addresses = Vec::new();
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.ask(request, NLM_F_DUMP, |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                let found = link
                    .attributes
                    .into_iter()
                    .filter_map(|attribute| match attribute {
                        LinkAttribute::Address(address) => Some(address),
                        _ => None,
                    });
                addresses.extend(found.filter(|address| address.iter().any(|byte| *byte != 0)));
            }
        })?;
        Ok(addresses)
    }

    /// Sends a request, and hands each message of the answer to `take`.
    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut buffer = BytesMut::with_capacity(DATAGRAM);
        loop {
            buffer.clear();
            self.0.recv(&mut buffer, 0)?;
            let mut rest = &buffer[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                let message = message.map_err(io::Error::other)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => take(inner),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                // Messages are aligned to four bytes.
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
                rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
            }
            if flags & NLM_F_DUMP == 0 {
                return Ok(());
            }
        }
    }
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// What the kernel says of an address that it does not send to: unreachable, prohibited, blackhole.
fn refuses(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

fn read_route(found: &RouteMessage, to: IpAddr) -> Route {
    match found.header.kind {
        RouteType::Local => return Route::Local,
        RouteType::Unicast => {}
        _ => return Route::Nowhere,
    }
    let (mut device, mut next) = (None, to);
    for attribute in &found.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway))
            | RouteAttribute::Via(RouteVia::Inet(gateway)) => next = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
            | RouteAttribute::Via(RouteVia::Inet6(gateway)) => next = (*gateway).into(),
            _ => {}
        }
    }
    device.map_or(Route::Nowhere, |device| Route::Via { device, next })
}

fn is_at(attribute: &NeighbourAttribute, address: IpAddr) -> bool {
    match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address == *found,
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address == *found,
        _ => false,
    }
}

fn read_neighbour(found: &NeighbourMessage) -> Neighbour {
    if matches!(
        found.header.state,
        NeighbourState::Failed | NeighbourState::Incomplete
    ) {
        return Neighbour::Silent;
    }
    let mut attributes = found.attributes.iter();
    attributes
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(address) => Some(Neighbour::At(address.clone())),
            _ => None,
        })
        .unwrap_or(Neighbour::Unknown)
}
