//! Connections that come about as they should, and the ways in which they end.

use std::{io, net::Shutdown, time::Duration};

use socket2::{SockRef, TcpKeepalive};

use crate::lifecycle::{
    hand::{self, Hand, await_arrival, drain},
    sys,
};

/// Open, some data, closed by one side and then the other; or left at any of these points.
pub(super) fn ordinary(hand: &mut Hand<'_>) -> io::Result<()> {
    let pair = hand.pair()?;
    for _ in 0..hand.dice.below(3) {
        hand.say(&pair.client);
        hand.say(&pair.server);
        await_arrival(&pair.client);
        drain(&pair.client);
        drain(&pair.server);
    }
    let (first, second) = pair.ends(&mut hand.dice);
    if hand.dice.chance(20) {
        hand.keep(first);
        hand.keep(second);
        return Ok(());
    }
    drain(&first);
    drop(first);
    if hand.dice.chance(80) {
        await_arrival(&second);
        drain(&second);
    }
    if hand.dice.chance(30) {
        hand.keep(second);
    }
    Ok(())
}

/// One direction ends, and the other lasts.
pub(super) fn half_close(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    let how = hand
        .dice
        .one_of(&[Shutdown::Write, Shutdown::Write, Shutdown::Read, Shutdown::Both]);
    first.shutdown(how)?;
    hand.say(&second);
    if hand.dice.chance(30) {
        second.shutdown(hand.dice.one_of(&[Shutdown::Write, Shutdown::Both]))?;
    }
    hand.keep_or_close(first);
    hand.keep_or_close(second);
    Ok(())
}

/// Both FINs are under way at once: a side that does not hear makes it so.
pub(super) fn both(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    sys::deafen(&second)?;
    let other_too = hand.dice.chance(50);
    if other_too {
        sys::deafen(&first)?;
    }
    first.shutdown(Shutdown::Write)?;
    second.shutdown(Shutdown::Write)?;
    let closed = hand.dice.below(4);
    let heard = hand.dice.chance(60);
    if heard {
        sys::hear(&second)?;
        if other_too {
            sys::hear(&first)?;
        }
    }
    if closed & 1 == 0 {
        hand.keep(first);
    }
    if closed & 2 == 0 {
        hand.keep(second);
    }
    Ok(())
}

/// `SO_LINGER` with no time.
pub(super) fn reset_one(hand: &mut Hand<'_>) -> io::Result<()> {
    let pair = hand.pair()?;
    let (first, second) = pair.ends(&mut hand.dice);
    match hand.dice.below(4) {
        0 => second.shutdown(Shutdown::Write)?,
        1 => first.shutdown(Shutdown::Write)?,
        2 => hand.say(&second),
        _ => {}
    }
    hand::reset(first)?;
    hand.keep_or_close(second);
    Ok(())
}

/// Closed with data that nobody has read: the kernel sends a RST.
pub(super) fn unread(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    hand.say(&second);
    await_arrival(&first);
    if hand.dice.chance(30) {
        first.shutdown(Shutdown::Write)?;
    }
    drop(first);
    hand.keep_or_close(second);
    Ok(())
}

/// FIN_WAIT2 that nobody holds, for as long as the peer and the kernel let it.
pub(super) fn orphan(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, mut second) = hand.pair()?.ends(&mut hand.dice);
    // Negative: not at all. Above 60 s the kernel keeps the full sock for the time beyond.
    let linger = hand.dice.one_of(&[0, 0, 0, -1, 1, 3, 62, 100]);
    if linger != 0 {
        sys::set_tcp(&first, libc::TCP_LINGER2, linger)?;
    }
    if hand.dice.chance(20) {
        first.shutdown(Shutdown::Write)?;
        await_arrival(&second);
    }
    drop(first);
    await_arrival(&second);
    if hand.dice.chance(30) {
        // Data for a socket that is closed: a RST answers it.
        hand.say(&mut second);
    }
    hand.keep(second);
    Ok(())
}

/// Data that nobody acknowledges.
pub(super) fn data_timeout(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    sys::deafen(&second)?;
    hand::hurry(&first, hand.dice.between(50, 1500))?;
    hand.say(&first);
    match hand.dice.below(4) {
        0 => first.shutdown(Shutdown::Write)?,
        1 => {
            hand.keep(second);
            return Ok(());
        }
        2 => {
            hand.keep(first);
            return Ok(());
        }
        _ => {}
    }
    hand.keep(first);
    hand.keep(second);
    Ok(())
}

/// A peer that does not answer to keepalives.
pub(super) fn keepalive_timeout(hand: &mut Hand<'_>) -> io::Result<()> {
    let (first, second) = hand.pair()?.ends(&mut hand.dice);
    let second_long = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(second_long)
        .with_interval(second_long);
    SockRef::from(&first).set_tcp_keepalive(&keepalive.with_retries(1))?;
    if hand.dice.chance(70) {
        sys::deafen(&second)?;
    }
    hand.keep(first);
    hand.keep(second);
    Ok(())
}
