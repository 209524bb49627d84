//! What few programs do.

use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::lifecycle::{
    hand::{self, Hand, Pair},
    sys,
};
use crate::passing;

/// `TCP_REPAIR`, as checkpoints use it: the kernel closes without a word to the peer.
pub(super) fn repair(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    sys::set_tcp(&first, libc::TCP_REPAIR, 1)?;
    hand.silent.push(first.cookie()?);
    drop(first);
    hand.say(&second);
    hand.keep_or_close(second);
    Ok(())
}

/// Sockets that are bound to a device, whose ends may be alike on two of them.
pub(super) fn bound_to_device(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let near = route.client == route.server;
    let (listener, target) = hand.listener(&route, 4)?;
    let device: &[u8] = if near { b"lo" } else { b"cable" };
    if hand.dice.chance(50) {
        listener.bind_device(Some(device))?;
    }
    let client = hand.socket(route.client, route.client_domain())?;
    client.bind_device(Some(device))?;
    hand::start(&client, target)?;
    let server = hand::accept(&listener)?;
    hand.keep_or_close(client);
    hand.keep_or_close(server);
    hand.keep_or_close(listener);
    Ok(())
}

/// A descriptor on its way to another process, which never takes it: closed when what carries it is.
pub(super) fn passed_on(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    let (near, far) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    passing::pass(&near, &first)?;
    drop(first);
    if hand.dice.chance(50) {
        // In flight until the other end is closed.
        hand.keep(far);
    }
    hand.keep_or_close(second);
    Ok(())
}

/// `ss -K` on a listener, or on a connection in this state or that.
pub(super) fn destroyed(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    if hand.dice.chance(20) {
        let (listener, target) = hand.listener(&route, 4)?;
        let client = hand.connect(&route, target)?;
        hand.keep_or_close(client);
        let _ = hand.destroy(&listener);
        hand.keep_or_close(listener);
        return Ok(());
    }
    let (first, second) = hand.pair_on(&route)?.ends(&mut hand.dice);
    match hand.dice.below(3) {
        0 => first.shutdown(std::net::Shutdown::Write)?,
        1 => {
            second.shutdown(std::net::Shutdown::Write)?;
            hand::await_arrival(&first);
        }
        _ => {}
    }
    // `ENOENT` where it is in the other namespace.
    let _ = hand.destroy(&first);
    hand.keep_or_close(first);
    hand.keep_or_close(second);
    Ok(())
}

/// MPTCP at both ends, or at one: then the connection is plain TCP that an MPTCP socket holds.
pub(super) fn mptcp(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let both = hand.dice.below(3);
    let of = |wanted: bool| wanted.then_some(sys::IPPROTO_MPTCP);
    let listener = hand.bound(&route, of(both != 1))?;
    listener.listen(4)?;
    let target = hand::target(&route, &listener)?;
    let client = hand.socket_of(route.client, route.client_domain(), of(both != 2))?;
    hand::start(&client, target)?;
    let server = hand::accept(&listener)?;
    hand.say(&client);
    hand.say(&server);
    let (first, second) = Pair {
        listener,
        client,
        server,
    }
    .ends(&mut hand.dice);
    hand.keep_or_close(first);
    hand.keep_or_close(second);
    Ok(())
}
