//! One run, from the first namespace to the verdict.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    arena::{Arena, Side},
    dice::Dice,
    judge::{self, Place},
    kernel::Kernel,
    lives::KINDS,
    options::{Options, Rate},
    report::{Report, StreamFacts},
    stream::Stream,
    sys,
    trial::Trial,
    vanishing::{Vanished, come_and_go},
    verifier::Verifier,
    withheld::Witness,
    worker::{Terms, Yield, work},
};
use crate::{Daemon, stats};

/// Descriptors that are not sockets of the bags.
const SPARE: usize = 2000;
/// A namespace that comes and goes is small.
const VISITED: usize = 150;

/// Makes lives as `options` say, and judges.
///
/// # Errors
/// When something other than netstate's answers is wrong.
pub fn run(options: &Options) -> Result<Report> {
    let descriptors = sys::raise_descriptor_limit()?;
    let mut dice = Dice::new(options.seed, 0);
    let arenas: Vec<Arena> = (0..options.namespaces.div_ceil(2).max(1))
        .map(|_| Arena::new(&mut dice))
        .collect::<Result<_>>()?;
    let kernel = Kernel::probe(&arenas[0].link.left);
    let mut flags = Vec::new();
    if options.without_hooks {
        flags.push("--without-hooks");
    }
    if let Some(file) = &options.record {
        flags.extend([
            "--record",
            file.to_str().context("the recording's name is not UTF-8")?,
        ]);
    }
    let first = sys::next_cookies()?;
    let witness = Witness::start()?;
    let daemon = Daemon::start_with(&flags)?;
    let stream = Stream::start(daemon.socket())?;
    let places = places(&arenas)?;
    // A namespace's first sweep tells nothing of what it finds: from now on everything is told.
    for place in &places {
        judge::list(daemon.socket(), Some(place.inode))?;
    }
    let watcher = Verifier::start(daemon.socket())?;
    let sockets = options.sockets.min(descriptors.saturating_sub(SPARE));
    let started = Instant::now();
    let (mut done, mut vanished) = live(options, &arenas, kernel, sockets)?;
    let ran_for = started.elapsed();
    done.absorb(std::mem::take(&mut vanished.done));
    let gone = (vanished.namespaces.len(), vanished.kept.len());
    let silent = std::mem::take(&mut done.silent);
    let mut trial = Trial::new(daemon.socket(), places, &vanished, first, silent)?;
    let open = std::mem::take(&mut done.bag);
    let unasked = trial.unasked(&stream)?;
    let verified = watcher.finish()?;
    trial.lists(open, vanished.kept, &arenas, kernel)?;
    drop(arenas);
    trial.gone()?;
    let (counts, sweeping) = stats::read(daemon.socket())?;
    let mut histories = stream.finish()?;
    let announced = witness.map_or_else(|| Ok(Vec::new()), Witness::finish)?;
    let withheld = histories.withhold(&announced);
    let left_out = KINDS.iter().filter(|kind| !kind.is_possible(kernel));
    Ok(Report {
        options: options.clone(),
        left_out: left_out.map(|kind| kind.name).collect(),
        ran_for,
        done,
        vanished: gone,
        withheld,
        stream: StreamFacts::of(&histories),
        explained: trial.explained(&histories),
        findings: trial.findings(&histories, &unasked, &verified, &counts),
        unasked,
        verified,
        lists: trial.verdicts,
        ghosts: trial.ghosts,
        counts,
        sweeping,
    })
}

/// Runs all threads for their time.
fn live(options: &Options, arenas: &[Arena], kernel: Kernel, sockets: usize) -> Result<(Yield, Vanished)> {
    let each = options.threads.max(1);
    let threads = arenas.len() * 2 * each;
    let pace = match options.rate {
        Rate::Unlimited => None,
        Rate::PerSecond(rate) => Some(Duration::from_secs(1) * u32::try_from(threads + 1)? / rate),
    };
    let terms = Terms {
        sockets: sockets / threads,
        pace,
        kernel,
        without: &options.without,
    };
    let visit = Terms {
        sockets: terms.sockets.min(VISITED),
        ..terms
    };
    let over = AtomicBool::new(false);
    let (over, seed) = (&over, options.seed);
    thread::scope(|scope| {
        for _ in 0..options.neighbours {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let vanishing = scope.spawn(move || come_and_go(Dice::new(seed, u64::MAX), visit, over));
        let mut workers = Vec::new();
        for number in 0..threads {
            let arena = &arenas[number / (2 * each)];
            let side = if number % 2 == 0 { Side::Left } else { Side::Right };
            let dice = Dice::new(seed, number as u64 + 1);
            workers.push(scope.spawn(move || -> Result<Yield> {
                arena.namespace(side).enter_for_good()?;
                Ok(work(dice, side, Some(arena), terms, over))
            }));
        }
        thread::sleep(Duration::from_secs(options.seconds));
        over.store(true, Ordering::Relaxed);
        let mut done = Yield::default();
        for worker in workers {
            done.absorb(joined(worker.join())?);
        }
        Ok((done, joined(vanishing.join())?))
    })
}

fn joined<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The namespaces of the arenas.
fn places(arenas: &[Arena]) -> Result<Vec<Place>> {
    let place = |namespace: &crate::Namespace| {
        Ok(Place {
            inode: namespace.inode(),
            way: namespace.way()?,
            open: true,
        })
    };
    arenas.iter().flat_map(Arena::namespaces).map(place).collect()
}
