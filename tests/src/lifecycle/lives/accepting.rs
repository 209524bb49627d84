//! Connections that wait at their listener.

use std::io;

use socket2::Socket;

use crate::lifecycle::{
    hand::{self, Hand},
    sys,
};

/// More connections than the queue has room for.
pub(super) fn overflow(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let backlog = hand.dice.one_of(&[0, 1, 2]);
    let (listener, target) = hand.listener(&route, backlog)?;
    for _ in 0..hand.dice.between(2, 6) {
        let client = hand.connect(&route, target)?;
        if hand.dice.chance(30) {
            hand.say(&client);
        }
        hand.keep_or_close(client);
    }
    if hand.dice.chance(30) {
        accept_some(hand, &listener, 2);
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// The server learns of a connection when it brings data: at once, late, or never.
pub(super) fn deferred(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 4)?;
    let seconds = i32::try_from(hand.dice.between(1, 4)).unwrap_or(1);
    sys::set_tcp(&listener, libc::TCP_DEFER_ACCEPT, seconds)?;
    for _ in 0..hand.dice.between(1, 3) {
        let client = hand.connect(&route, target)?;
        if hand.dice.chance(50) {
            hand.say(&client);
        }
        hand.keep_or_close(client);
    }
    if hand.dice.chance(60) {
        accept_some(hand, &listener, 2);
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// `SO_REUSEPORT`: several listeners share a port, and one closes with connections in its queue.
pub(super) fn several(hand: &mut Hand<'_>) -> io::Result<()> {
    let mut route = hand.route();
    let mut listeners = Vec::new();
    for _ in 0..hand.dice.between(2, 4) {
        let socket = hand.socket(route.server, socket2::Domain::for_address(route.listen))?;
        socket.set_reuse_port(true)?;
        if route.listen.is_ipv6() {
            socket.set_only_v6(!route.dual)?;
        }
        socket.bind(&route.listen.into())?;
        socket.listen(4)?;
        route.listen.set_port(hand::target(&route, &socket)?.port());
        listeners.push(socket);
    }
    let target = std::net::SocketAddr::new(route.reach, route.listen.port());
    for _ in 0..hand.dice.between(2, 8) {
        let client = hand.connect(&route, target)?;
        if hand.dice.chance(20) {
            sys::deafen(&client)?;
        }
        hand.keep_or_close(client);
    }
    let closed = hand.dice.below(listeners.len());
    drop(listeners.swap_remove(closed));
    for listener in listeners {
        if hand.dice.chance(50) {
            accept_some(hand, &listener, 3);
        }
        hand.keep_or_close(listener);
    }
    Ok(())
}

/// Takes at most so many connections out of the queue.
fn accept_some(hand: &mut Hand<'_>, listener: &Socket, most: usize) {
    for _ in 0..most {
        let Ok(accepted) = hand::accept_now(listener) else {
            return;
        };
        hand.keep_or_close(accepted);
    }
}
