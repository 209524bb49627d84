//! Namespaces that come and go while the rest works, with sockets in them.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    arena::{Side, configure_here, here},
    dice::Dice,
    worker::{Terms, Yield, work},
};

/// What became of the namespaces that came and went.
#[derive(Debug, Default)]
pub(super) struct Vanished {
    /// Those that nothing leads to any more, by inode number.
    pub(super) namespaces: Vec<u32>,
    /// Sockets that are open in some of them.
    pub(super) kept: Vec<OwnedFd>,
    /// What was done in them.
    pub(super) done: Yield,
}

/// Makes namespaces one after the other until `stop`, works a while in each, and leaves it: with sockets that
/// stay open, or with none but those that nobody holds any more.
///
/// # Errors
/// When one cannot be made.
pub(super) fn come_and_go(mut dice: Dice, terms: Terms<'_>, stop: &AtomicBool) -> Result<Vanished> {
    let mut vanished = Vanished::default();
    while !stop.load(Ordering::Relaxed) {
        let mut dice = dice.fork();
        let keeps = dice.chance(40);
        let length = Duration::from_millis(u64::from(dice.between(50, 1500)));
        // A thread of its own, since a namespace without a name lasts as long as somebody is in it.
        let visit = thread::scope(|scope| scope.spawn(|| visit(dice, terms, length)).join());
        let (inode, mut done) = visit.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        vanished.namespaces.push(inode);
        if keeps {
            vanished.kept.append(&mut done.bag);
        }
        done.bag.clear();
        vanished.done.absorb(done);
        let most = terms.sockets;
        while vanished.kept.len() > most {
            vanished.kept.remove(0);
        }
    }
    Ok(vanished)
}

/// Works in a new namespace for so long; returns its inode number.
fn visit(mut dice: Dice, terms: Terms<'_>, length: Duration) -> Result<(u32, Yield)> {
    super::sys::leave_namespace().context("cannot make a network namespace")?;
    let inode = inode().context("cannot tell which namespace this is")?;
    // Without a process: one that starts holds a copy of every socket for a moment.
    super::sys::set_loopback_up().context("cannot set lo up")?;
    configure_here(&mut dice);
    let over = AtomicBool::new(false);
    let end = Instant::now() + length;
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(end.saturating_duration_since(Instant::now()));
            over.store(true, Ordering::Relaxed);
        });
        work(dice, Side::Left, None, terms, &over)
    });
    Ok((inode, done))
}

fn inode() -> io::Result<u32> {
    u32::try_from(here()?.metadata()?.ino()).map_err(io::Error::other)
}
