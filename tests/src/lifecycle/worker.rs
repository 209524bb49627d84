//! The threads that make lives, as fast as they may, until they are told to stop.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    arena::{Arena, Side},
    dice::Dice,
    hand::Hand,
    kernel::Kernel,
    lives::{KINDS, weights},
    touch::touch,
};

/// How a worker is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Sockets that it keeps at most.
    pub(super) sockets: usize,
    /// The least time between two actions.
    pub(super) pace: Option<Duration>,
    /// What the kernel can.
    pub(super) kernel: Kernel,
    /// Kinds that are left out.
    pub(super) without: &'a [String],
}

/// What came of a kind of life.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// How often it was made.
    pub(super) made: u64,
    /// How often the kernel refused, by its word for it.
    pub(super) refused: BTreeMap<String, u64>,
}

/// What a worker leaves behind.
#[derive(Debug, Default)]
pub(super) struct Yield {
    /// The sockets that are still open.
    pub(super) bag: Vec<OwnedFd>,
    /// What it did, by kind.
    pub(super) tallies: BTreeMap<&'static str, Tally>,
    /// How often it did something to a socket of the bag.
    pub(super) touches: u64,
    /// Cookies of sockets whose end nobody can explain.
    pub(super) silent: Vec<u64>,
}

impl Yield {
    /// Adds what another one did.
    pub(super) fn absorb(&mut self, other: Self) {
        self.bag.extend(other.bag);
        self.touches += other.touches;
        self.silent.extend(other.silent);
        for (name, tally) in other.tallies {
            let sum = self.tallies.entry(name).or_default();
            sum.made += tally.made;
            for (error, count) in tally.refused {
                *sum.refused.entry(error).or_default() += count;
            }
        }
    }
}

/// Works in the calling thread's namespace until `stop`. What it does follows from `dice` alone; what comes
/// of it is up to the kernel and the other threads.
pub(super) fn work(
    dice: Dice,
    home: Side,
    arena: Option<&Arena>,
    terms: Terms<'_>,
    stop: &AtomicBool,
) -> Yield {
    let mut dice = dice;
    let mut hand = Hand::new(dice.fork(), terms.kernel, arena, home);
    let weights = weights(terms.kernel, terms.without);
    let mut done = Yield::default();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        hand.dice = dice.fork();
        if hand.dice.chance(55) {
            let kind = &KINDS[hand.dice.weighted(&weights)];
            let tally = done.tallies.entry(kind.name).or_default();
            tally.made += 1;
            if let Err(error) = kind.make(&mut hand) {
                *tally.refused.entry(word(&error)).or_default() += 1;
            }
        } else {
            done.touches += 1;
            touch(&mut hand);
        }
        while hand.bag.len() > terms.sockets {
            let place = hand.dice.below(hand.bag.len());
            hand.bag.swap_remove(place);
        }
        if let Some(pace) = terms.pace {
            due += pace;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    done.bag = hand.bag;
    done.silent = hand.silent;
    done
}

fn word(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => rustix::io::Errno::from_raw_os_error(errno).to_string(),
        None => error.to_string(),
    }
}
