//! Times and durations.

use std::{
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use netstat_tests::{
    Daemon, Namespace,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
};

crate::tests![durations_are_right, times_are_right, in_a_time_namespace];

/// How long the connection stays established: far more than any of the steps around it takes.
const STAY: Duration = Duration::from_millis(300);

fn durations_are_right() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let before = Instant::now();
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let established = Instant::now();
    let near = cookie(&pair.client)?;
    thread::sleep(STAY);
    let least = established.elapsed();
    let row = daemon.wait_for_row(&namespace, "the client", |row| row.cookie == near)?;
    let listed = Duration::from_millis(row.in_state_ms.context("no duration")?);
    // Milliseconds that are cut off.
    ensure!(
        listed + Duration::from_millis(1) >= least && listed <= before.elapsed(),
        "listed as {listed:?}"
    );
    let least = established.elapsed();
    pair.client.shutdown(Shutdown::Write)?;
    let most = before.elapsed();
    wait_for_fin(&pair.server)?;
    let end = watch.wait("FIN_WAIT1", |seen| seen.cookie == near && seen.to == "FIN_WAIT1")?;
    let told = Duration::from_micros(end.in_state_us.context("no duration")?);
    ensure!(
        told + Duration::from_micros(1) >= least && told <= most,
        "{told:?}, not {least:?} to {most:?}"
    );
    Ok(())
}

fn times_are_right() -> Result<()> {
    times_are_told_by(&Daemon::start()?)
}

/// Where the daemon's own clock since boot is a day ahead of the kernel's.
fn in_a_time_namespace() -> Result<()> {
    let daemon = Daemon::start_through(&[
        "unshare",
        "--time",
        "--boottime",
        "86400",
        "--fork",
        "--kill-child=TERM",
    ])?;
    times_are_told_by(&daemon)
}

fn times_are_told_by(daemon: &Daemon) -> Result<()> {
    /// For the step between the kernel's two clocks, which cannot be read at one moment.
    const LEEWAY: SignedDuration = SignedDuration::from_millis(5);
    let namespace = Namespace::new()?;
    let watch = daemon.watch_in(&namespace)?;
    let before = Timestamp::now() - LEEWAY;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let after = Timestamp::now() + LEEWAY;
    let near = cookie(&pair.client)?;
    let path = watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    let mut times = vec![before];
    for seen in &path {
        times.push(
            seen.time
                .parse()
                .with_context(|| format!("not a time: {seen:?}"))?,
        );
    }
    times.push(after);
    ensure!(times.is_sorted(), "not in order: {times:?}");
    let row = daemon.wait_for_row(&namespace, "the client", |row| row.cookie == near)?;
    let since: Timestamp = row.since.context("no time")?.parse()?;
    let apart = since.duration_since(times[2]).abs();
    ensure!(apart <= LEEWAY, "since {since} in list, {} in watch", times[2]);
    let listed = Duration::from_millis(row.in_state_ms.context("no duration")?);
    ensure!(
        Timestamp::now().duration_since(since).unsigned_abs() + Duration::from_millis(5) >= listed,
        "{listed:?} in its state since {since}"
    );
    Ok(())
}
