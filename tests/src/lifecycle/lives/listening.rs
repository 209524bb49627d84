//! Listeners that nobody connects to.

use std::io;

use socket2::Domain;

use crate::lifecycle::hand::{self, Hand};

/// Listens, and perhaps closes again at once.
pub(super) fn idle(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let backlog = hand.dice.one_of(&[0, 1, 16, 4096, -1]);
    let (listener, _) = hand.listener(&route, backlog)?;
    if hand.dice.chance(30) {
        // Another limit, and no other state.
        listener.listen(7)?;
    }
    if hand.dice.chance(20) {
        listener.shutdown(std::net::Shutdown::Read)?;
        if hand.dice.chance(50) {
            listener.listen(3)?;
        }
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// `listen` without `bind`: the kernel picks the port after it has announced the state.
pub(super) fn unbound(hand: &mut Hand<'_>) -> io::Result<()> {
    let domain = hand.dice.one_of(&[Domain::IPV4, Domain::IPV6]);
    let socket = hand.socket(hand.home, domain)?;
    socket.listen(2)?;
    hand.keep_or_close(socket);
    Ok(())
}

/// `listen` on a port that another one listens on: LISTEN is announced, and then fails.
pub(super) fn fails(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let first = hand.bound(&route, None)?;
    let address = first.local_addr()?;
    let second = hand.socket(route.server, address.domain())?;
    if address.is_ipv6() {
        second.set_only_v6(!route.dual)?;
    }
    first.set_reuse_address(true)?;
    second.set_reuse_address(true)?;
    second.bind(&address)?;
    first.listen(4)?;
    let refused = second.listen(4).is_err();
    if hand.dice.chance(50) {
        drop(first);
        if hand.dice.chance(50) {
            let _ = second.listen(4);
        }
        hand.keep_or_close(second);
    } else {
        if hand.dice.chance(30) {
            let target = hand::target(&route, &first)?;
            let client = hand.connect(&route, target)?;
            hand.keep_or_close(client);
        }
        hand.keep_or_close(first);
    }
    if refused {
        Ok(())
    } else {
        Err(io::Error::other("two listeners on one port"))
    }
}
