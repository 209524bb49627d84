//! Listeners that several threads work with at once, so that connect, accept and close happen side by side.

use std::io;

use crate::lifecycle::{
    arena::Side,
    hand::{self, Hand},
    route::Route,
    shared::Shared,
    sys,
};

/// Puts a listener of this sort or that where the others find it, and closes the one before.
pub(super) fn listen(hand: &mut Hand<'_>) -> io::Result<()> {
    let Some(arena) = hand.arena else { return Ok(()) };
    let route = hand.route();
    let mptcp = hand.kernel.mptcp && hand.dice.chance(10);
    let socket = hand.bound(&route, mptcp.then_some(sys::IPPROTO_MPTCP))?;
    match hand.dice.below(6) {
        0 => sys::set_tcp(&socket, libc::TCP_DEFER_ACCEPT, 1)?,
        1 if !mptcp => sys::set_tcp(&socket, libc::TCP_FASTOPEN, 4)?,
        _ => {}
    }
    socket.listen(hand.dice.one_of(&[0, 2, 8, 64]))?;
    let target = hand::target(&route, &socket)?;
    arena.share(&mut hand.dice, Some(Shared::new(socket, &route, target)));
    Ok(())
}

/// Connects to one of them.
pub(super) fn connect(hand: &mut Hand<'_>) -> io::Result<()> {
    let Some(listener) = hand.arena.and_then(|arena| arena.shared(&mut hand.dice)) else {
        return Ok(());
    };
    let target = listener.target;
    let local = target.ip().to_canonical().is_loopback();
    let client = if local { listener.side } else { side(hand) };
    let side = listener.side;
    drop(listener);
    let route = Route {
        client,
        server: side,
        listen: target,
        reach: target.ip(),
        dual: false,
    };
    let client = hand.connect(&route, target)?;
    match hand.dice.below(6) {
        0 => hand::reset(client)?,
        1 => drop(client),
        2 => {
            hand.say(&client);
            hand.keep(client);
        }
        _ => hand.keep(client),
    }
    Ok(())
}

fn side(hand: &mut Hand<'_>) -> Side {
    hand.dice.one_of(&[Side::Left, Side::Right])
}

/// Accepts what waits at one of them.
#[expect(clippy::unnecessary_wraps, reason = "every kind of life may be refused")]
pub(super) fn accept(hand: &mut Hand<'_>) -> io::Result<()> {
    let Some(listener) = hand.arena.and_then(|arena| arena.shared(&mut hand.dice)) else {
        return Ok(());
    };
    for _ in 0..8 {
        let Ok(server) = hand::accept_now(&listener.socket) else {
            break;
        };
        match hand.dice.below(4) {
            0 => drop(server),
            1 => {
                hand::drain(&server);
                drop(server);
            }
            _ => hand.keep(server),
        }
    }
    Ok(())
}
