//! Connections that do not come about.

use std::{io, net::SocketAddr};

use socket2::Domain;

use crate::lifecycle::{
    arena::{NOBODY, NOWHERE},
    hand::{self, Hand},
    sys,
};

/// A port where nobody listens, though somebody has it.
pub(super) fn refused(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let bound = hand.bound(&route, None)?;
    let target = hand::target(&route, &bound)?;
    let result = hand.connect(&route, target);
    hand.keep_or_close(bound);
    match result {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => other.map(|socket| hand.keep_or_close(socket)),
    }
}

/// A listener that does not hear: the SYN goes unanswered until the client gives up.
pub(super) fn unanswered(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 4)?;
    sys::deafen(&listener)?;
    let client = hand.socket(route.client, route.client_domain())?;
    if hand.dice.chance(50) {
        hand::hurry(&client, hand.dice.between(100, 2000))?;
    } else {
        sys::set_tcp(&client, libc::TCP_SYNCNT, 1)?;
    }
    hand::start(&client, target)?;
    hand.keep(client);
    hand.keep_or_close(listener);
    Ok(())
}

/// An address of the network that nobody has.
pub(super) fn no_neighbour(hand: &mut Hand<'_>) -> io::Result<()> {
    let client = hand.socket(hand.home, Domain::IPV4)?;
    hand::start(&client, SocketAddr::from((NOBODY, 9)))?;
    hand.keep(client);
    Ok(())
}

/// A route that leads nowhere: `connect` fails before there is a SYN.
pub(super) fn no_route(hand: &mut Hand<'_>) -> io::Result<()> {
    let client = hand.socket(hand.home, Domain::IPV4)?;
    match hand::start(&client, SocketAddr::from((NOWHERE, 9))) {
        Ok(()) => Err(io::Error::other("a blackhole has an end")),
        Err(_) => Ok(()),
    }
}

/// Closed while the SYN is under way.
pub(super) fn closed_early(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 4)?;
    if hand.dice.chance(70) {
        sys::deafen(&listener)?;
    }
    let client = hand.socket(route.client, route.client_domain())?;
    if hand.dice.chance(50) {
        sys::deafen(&client)?;
    }
    hand::start(&client, target)?;
    match hand.dice.below(3) {
        0 => hand::reset(client)?,
        1 => client.shutdown(std::net::Shutdown::Both)?,
        _ => drop(client),
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// A client that does not hear the SYN-ACK: the server's half is there until the kernel gives up.
pub(super) fn half_open(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 8)?;
    for _ in 0..hand.dice.between(1, 3) {
        let client = hand.socket(route.client, route.client_domain())?;
        sys::deafen(&client)?;
        hand::start(&client, target)?;
        if hand.dice.chance(30) {
            sys::hear(&client)?;
        }
        hand.keep_or_close(client);
    }
    hand.keep_or_close(listener);
    Ok(())
}
