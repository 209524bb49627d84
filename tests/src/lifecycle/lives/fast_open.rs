//! TCP Fast Open: data in the SYN, and a server that has a connection before the handshake is complete.

use std::{io, net::SocketAddr};

use socket2::{SockAddr, Socket};

use crate::lifecycle::{
    hand::{self, Hand},
    route::Route,
    sys,
};

fn listener(hand: &mut Hand<'_>, route: &Route) -> io::Result<(Socket, SocketAddr)> {
    let (listener, target) = hand.listener(route, 8)?;
    let most = hand.dice.one_of(&[1, 8]);
    sys::set_tcp(&listener, libc::TCP_FASTOPEN, most)?;
    if hand.dice.chance(70) {
        sys::set_tcp(&listener, sys::TCP_FASTOPEN_NO_COOKIE, 1)?;
    }
    Ok((listener, target))
}

/// Clients that send with the SYN, and perhaps do not hear the answer.
pub(super) fn data_first(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = listener(hand, &route)?;
    for _ in 0..hand.dice.between(1, 3) {
        let client = hand.socket(route.client, route.client_domain())?;
        if hand.dice.chance(70) {
            sys::set_tcp(&client, sys::TCP_FASTOPEN_NO_COOKIE, 1)?;
        }
        let deaf = hand.dice.chance(40);
        if deaf {
            sys::deafen(&client)?;
        }
        let sent = client.send_to_with_flags(b"hello", &SockAddr::from(target), libc::MSG_FASTOPEN);
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        if hand.dice.chance(50)
            && let Ok(server) = hand::accept(&listener)
        {
            finish(hand, server)?;
        }
        if deaf && hand.dice.chance(50) {
            sys::hear(&client)?;
        }
        hand.keep_or_close(client);
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// What a server does with a connection whose handshake may not be complete.
fn finish(hand: &mut Hand<'_>, server: Socket) -> io::Result<()> {
    match hand.dice.below(5) {
        0 => drop(server),
        1 => hand::reset(server)?,
        2 => {
            // The kernel may not have the connection any more.
            let _ = server.shutdown(std::net::Shutdown::Write);
            hand.keep(server);
        }
        3 => {
            hand.say(&server);
            hand.keep(server);
        }
        _ => hand.keep(server),
    }
    Ok(())
}

/// `TCP_FASTOPEN_CONNECT`: SYN_SENT before there is a SYN, until the first data.
pub(super) fn never_sent(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = listener(hand, &route)?;
    let client = hand.socket(route.client, route.client_domain())?;
    sys::set_tcp(&client, libc::TCP_FASTOPEN_CONNECT, 1)?;
    sys::set_tcp(&client, sys::TCP_FASTOPEN_NO_COOKIE, 1)?;
    hand::start(&client, target)?;
    if hand.dice.chance(40) {
        hand.say(&client);
    }
    hand.keep_or_close(client);
    hand.keep_or_close(listener);
    Ok(())
}
