//! What happens to a socket that has been open for a while, whatever its state.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::connect_unspec;
use socket2::{SockRef, Socket};

use super::{
    hand::{self, Hand},
    sys,
};

/// What can happen, and how often.
const TOUCHES: &[(Touch, u32)] = &[
    (Touch::Close, 40),
    (Touch::Reset, 8),
    (Touch::Shutdown(Shutdown::Write), 8),
    (Touch::Shutdown(Shutdown::Read), 3),
    (Touch::Shutdown(Shutdown::Both), 4),
    (Touch::Say, 10),
    (Touch::Drain, 10),
    (Touch::Accept, 12),
    (Touch::Disconnect, 5),
    (Touch::Reconnect, 6),
    (Touch::Listen, 3),
    (Touch::Deafen, 4),
    (Touch::Hear, 10),
    (Touch::Hurry, 4),
    (Touch::Linger, 2),
    (Touch::Copy, 2),
    (Touch::Destroy, 3),
];

#[derive(Debug, Clone, Copy)]
enum Touch {
    Close,
    Reset,
    Shutdown(Shutdown),
    Say,
    Drain,
    Accept,
    Disconnect,
    Reconnect,
    Listen,
    Deafen,
    Hear,
    Hurry,
    Linger,
    Copy,
    Destroy,
}

/// Does something to a socket of the bag. That the kernel often refuses is a part of it.
pub(super) fn touch(hand: &mut Hand<'_>) {
    if hand.bag.is_empty() {
        return;
    }
    let place = hand.dice.below(hand.bag.len());
    let touch = hand.dice.weighted(TOUCHES);
    let socket = hand.bag.swap_remove(place);
    if matches!(touch, Touch::Close) {
        return;
    }
    let _ = apply(hand, &socket, touch);
    if !matches!(touch, Touch::Reset) {
        hand.bag.push(socket);
    }
}

fn apply(hand: &mut Hand<'_>, socket: &OwnedFd, touch: Touch) -> io::Result<()> {
    match touch {
        Touch::Close => Ok(()),
        Touch::Reset => hand::reset(socket.try_clone()?),
        Touch::Shutdown(how) => SockRef::from(socket).shutdown(how),
        Touch::Say => {
            hand.say(socket);
            Ok(())
        }
        Touch::Drain => {
            hand::drain(socket);
            Ok(())
        }
        Touch::Accept => {
            let accepted = hand::accept_now(socket)?;
            hand.keep_or_close(accepted);
            Ok(())
        }
        Touch::Disconnect => Ok(connect_unspec(socket)?),
        Touch::Reconnect => reconnect(hand, socket),
        Touch::Listen => SockRef::from(socket).listen(hand.dice.one_of(&[0, 1, 8])),
        Touch::Deafen => sys::deafen(socket),
        Touch::Hear => sys::hear(socket),
        Touch::Hurry => hand::hurry(socket, hand.dice.between(100, 2000)),
        Touch::Linger => sys::set_tcp(socket, libc::TCP_LINGER2, hand.dice.one_of(&[-1, 1, 62])),
        Touch::Copy => {
            let copy = socket.try_clone()?;
            hand.keep(copy);
            Ok(())
        }
        Touch::Destroy => hand.destroy(socket),
    }
}

/// Connects what is not connected to a listener that is there, if the families fit.
fn reconnect(hand: &mut Hand<'_>, socket: impl AsFd) -> io::Result<()> {
    let listener = hand.arena.and_then(|arena| arena.shared(&mut hand.dice));
    let listener = listener.ok_or(io::ErrorKind::NotFound)?;
    let copy: Socket = socket.as_fd().try_clone_to_owned()?.into();
    hand::start(&copy, listener.target)
}
