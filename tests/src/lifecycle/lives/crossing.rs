//! Connections without a listener.

use std::{io, net::SocketAddr};

use socket2::Socket;

use crate::lifecycle::{
    hand::{self, Hand},
    route::Route,
    sys,
};

/// Two sockets that connect to each other. The first does not hear the refusal that its SYN gets while the
/// second is not under way.
pub(super) fn simultaneous_open(hand: &mut Hand<'_>) -> io::Result<()> {
    let mut route = hand.route();
    route.server = route.client;
    let (one, here) = bound(hand, &route)?;
    let (other, there) = bound(hand, &route)?;
    sys::deafen(&one)?;
    let both_deaf = hand.dice.chance(50);
    if both_deaf {
        sys::deafen(&other)?;
    }
    hand::start(&one, there)?;
    if !both_deaf {
        sys::hear(&one)?;
    }
    hand::start(&other, here)?;
    if both_deaf {
        // Each one's SYN is sent again a second later, and arrives.
        sys::hear(&one)?;
        sys::hear(&other)?;
    }
    hand.keep_or_close(one);
    hand.keep_or_close(other);
    Ok(())
}

/// A socket that connects to its own port.
pub(super) fn itself(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (socket, itself) = bound(hand, &route)?;
    hand::start(&socket, itself)?;
    if hand.dice.chance(50) {
        hand.say(&socket);
    }
    if hand.dice.chance(30) {
        socket.shutdown(std::net::Shutdown::Write)?;
    }
    hand.keep_or_close(socket);
    Ok(())
}

/// A socket with a port, and that end.
fn bound(hand: &mut Hand<'_>, route: &Route) -> io::Result<(Socket, SocketAddr)> {
    let socket = hand.socket(route.client, route.client_domain())?;
    let address = match route.reach.is_ipv4() {
        true => SocketAddr::from(([127, 0, 0, 1], 0)),
        // Mapped, so that IPv4 carries it.
        false if hand.dice.chance(50) => "[::ffff:127.0.0.1]:0".parse().map_err(io::Error::other)?,
        false => "[::1]:0".parse().map_err(io::Error::other)?,
    };
    socket.bind(&address.into())?;
    let local = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::Unsupported)?;
    Ok((socket, local))
}
