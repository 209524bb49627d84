//! Events that find no room, and those that have to wait.

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    sockets::{LOOPBACK, Pair, cookie, reset, wait_for_fin, wait_for_reset},
    traffic::come_and_go,
    wait::{SOON, wait_for},
};
use rustix::process::Signal;

crate::tests![losses_are_told_and_repaired, a_pause_loses_nothing];

/// Connections that come and go, each with six transitions.
const CONNECTIONS: usize = 500;

/// The daemon is stopped while far more happens than its ring can hold.
fn losses_are_told_and_repaired() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start_with(&["--ring-size", "64K"])?;
    let watch = daemon.watch_in(&namespace)?;
    let kept = Pair::new(&namespace, LOOPBACK)?;
    let ended = Pair::new(&namespace, LOOPBACK)?;
    daemon.agrees(&namespace)?;
    daemon.signal(Signal::STOP)?;
    come_and_go(&namespace, CONNECTIONS)?;
    let begun = Pair::new(&namespace, LOOPBACK)?;
    reset(ended.client)?;
    wait_for_reset(&ended.server)?;
    drop(kept.client);
    wait_for_fin(&kept.server)?;
    daemon.signal(Signal::CONT)?;
    wait_for("the loss to be told", SOON, || {
        Ok((watch.lost() > 0).then_some(()))
    })?;
    daemon.agrees(&namespace)?;
    let output = binary::run(daemon.socket(), "stats --json")?;
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        stats["lost"].as_u64().context("no count of losses")? > 0,
        "not counted: {stats}"
    );
    let again = Pair::new(&namespace, LOOPBACK)?;
    watch.wait_for_path(cookie(&again.client)?, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    drop(begun);
    Ok(())
}

/// What fits into the ring is told when the daemon goes on.
fn a_pause_loses_nothing() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    daemon.signal(Signal::STOP)?;
    come_and_go(&namespace, CONNECTIONS / 10)?;
    daemon.signal(Signal::CONT)?;
    // The listener begins and ends too.
    let expected = CONNECTIONS / 10 * 6 + 2;
    let told = || watch.count_in(namespace.inode());
    wait_for("all transitions to be told", SOON, || {
        Ok((told() >= expected).then_some(()))
    })
    .with_context(|| format!("{} of {expected}, {} lost", told(), watch.lost()))?;
    ensure!(
        daemon.agrees(&namespace)?.is_empty(),
        "what is gone is still listed"
    );
    ensure!(told() == expected, "{} transitions, of {expected}", told());
    Ok(())
}
