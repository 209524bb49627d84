//! Losses, counted to the last one.
//!
//! The tracepoint is the host's, so what two daemons count can only be compared while nothing happens: these tests
//! run alone, and wait for moments in which no counter moves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    stats::{self, Counts},
    traffic::come_and_go,
    wait::wait_for,
};
use rustix::process::Signal;

crate::tests![every_loss_is_counted];

/// Connections that come and go while the ring is full.
const CONNECTIONS: usize = 1000;
/// How long a moment in which nothing happens on the host may be waited for.
const QUIET: Duration = Duration::from_mins(1);
/// A loss is repaired within a second; four more are for a slow machine.
const REPAIRED: Duration = Duration::from_secs(5);

/// What has happened as far as a daemon knows, read or not.
fn happened(counts: &Counts) -> u64 {
    counts.events + counts.undecodable + counts.lost
}

fn counted(daemon: &Daemon) -> Result<Counts> {
    let (counts, _) = stats::read(daemon.socket())?;
    ensure!(
        counts.ring_full + counts.interrupted == counts.lost,
        "losses by kind and CPU do not make up the sum: {counts:?}"
    );
    Ok(counts)
}

/// What both have counted up to one moment: between two looks at each, nothing has happened.
fn at_one_moment(daemons: [&Daemon; 2]) -> Result<[Counts; 2]> {
    let look = || -> Result<[Counts; 2]> { Ok([counted(daemons[0])?, counted(daemons[1])?]) };
    let mut last = look()?;
    wait_for("a moment in which nothing happens", QUIET, || {
        let now = look()?;
        let quiet = now == last;
        last = now;
        Ok(quiet.then_some(now))
    })
}

/// The ring of a daemon that is stopped overruns, while another has room for everything.
fn every_loss_is_counted() -> Result<()> {
    let namespace = Namespace::new()?;
    let small = Daemon::start_with(&["--ring-size", "16K"])?;
    let large = Daemon::start_with(&["--ring-size", "64M"])?;
    let watch = small.watch_in(&namespace)?;
    let kept = Pair::new(&namespace, LOOPBACK)?;
    let closed = Pair::new(&namespace, LOOPBACK)?;
    let ([small_before, large_before], told_before) = (at_one_moment([&small, &large])?, watch.lost());
    small.signal(Signal::STOP)?;
    come_and_go(&namespace, CONNECTIONS)?;
    let begun = Pair::new(&namespace, LOOPBACK)?;
    drop(closed.client);
    wait_for_fin(&closed.server)?;
    small.signal(Signal::CONT)?;
    let continued = Instant::now();
    small.agrees(&namespace)?;
    let repaired = continued.elapsed();
    let [small_after, large_after] = at_one_moment([&small, &large])?;
    let (happened, lost) = (
        happened(&large_after) - happened(&large_before),
        small_after.lost - small_before.lost,
    );
    let read = small_after.events - small_before.events;
    println!("{happened} state changes: {read} read and {lost} lost; repaired after {repaired:?}");
    let least = u64::try_from(CONNECTIONS * 6)?;
    ensure!(happened >= least, "only {happened} state changes, of {least}");
    ensure!(
        lost > 0 && read + lost == happened,
        "{happened} state changes, but {read} read and {lost} lost: {small_before:?} {small_after:?}"
    );
    ensure!(
        large_after.lost == large_before.lost,
        "the large ring has lost some, too: {large_after:?}"
    );
    let told = || watch.lost() - told_before;
    wait_for("the stream to tell all losses", REPAIRED, || {
        Ok((told() >= lost).then_some(()))
    })?;
    ensure!(
        told() == lost,
        "{lost} were lost, and the stream has told {}",
        told()
    );
    ensure!(repaired < REPAIRED, "repaired after {repaired:?}");
    let rows = small.agrees(&namespace)?;
    for known in [
        cookie(&kept.client)?,
        cookie(&begun.server)?,
        cookie(&closed.server)?,
    ] {
        ensure!(
            rows.iter().any(|row| row.cookie == known),
            "{known} is not in {rows:#?}"
        );
    }
    Ok(())
}
