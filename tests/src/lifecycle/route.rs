//! From where to where a connection goes: which namespaces, which addresses, which families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::Domain;

use super::{
    arena::{Side, cable4, cable6},
    dice::Dice,
};

/// The two ends of connections to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// Where the client is.
    pub(super) client: Side,
    /// Where the server is.
    pub(super) server: Side,
    /// What the listener binds to, with port 0.
    pub(super) listen: SocketAddr,
    /// What the client connects to.
    pub(super) reach: IpAddr,
    /// An IPv6 listener takes IPv4 connections as well.
    pub(super) dual: bool,
}

impl Route {
    /// Chooses one for a thread whose namespace is `home`; without a cable, one within it.
    #[must_use]
    pub(super) fn draw(dice: &mut Dice, home: Side, cable: bool) -> Self {
        let crossing = cable && dice.chance(35);
        let client = if crossing && dice.chance(50) {
            home.other()
        } else {
            home
        };
        let server = if crossing { client.other() } else { client };
        let near = !crossing && (!cable || dice.chance(80));
        let four = if near { loopback(dice) } else { cable4(server) };
        let six = if near {
            Ipv6Addr::LOCALHOST.into()
        } else {
            cable6(server)
        };
        let any = dice.chance(30);
        let (listen, reach, dual) = match dice.below(6) {
            0 | 1 => (if any { V4_ANY } else { four }, four, false),
            2 => (if any { V6_ANY } else { six }, six, dice.chance(50)),
            3 => (V6_ANY, four, true),
            4 => (if any { V4_ANY } else { four }, mapped(four), false),
            _ if any => (mapped(four), mapped(four), true),
            _ => (V6_ANY, mapped(four), true),
        };
        Self {
            client,
            server,
            listen: SocketAddr::new(listen, 0),
            reach,
            dual,
        }
    }

    /// The family of the client's socket.
    #[must_use]
    pub(super) fn client_domain(&self) -> Domain {
        Domain::for_address(SocketAddr::new(self.reach, 0))
    }

    /// Any address of the client's family.
    #[must_use]
    pub(super) fn client_any(&self) -> IpAddr {
        if self.reach.is_ipv4() { V4_ANY } else { V6_ANY }
    }
}

const V4_ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6_ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Most often the one that everybody uses, so that ports run short.
fn loopback(dice: &mut Dice) -> IpAddr {
    if dice.chance(70) {
        return Ipv4Addr::LOCALHOST.into();
    }
    let mut byte = || u8::try_from(dice.between(1, 254)).unwrap_or(1);
    Ipv4Addr::new(127, byte(), byte(), byte()).into()
}

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}
