//! How old something is: by the kernel's own stamps and timers, where nobody has watched.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    daemon::directory,
    link::Way,
    sockets::{LOOPBACK, Pair, accept, connect, listen, start_connecting},
    wait::{SOON, wait_for},
};
use serde_json::Value;

use super::{evidence, find, stuck};

crate::tests![
    a_half_open_connection_that_nobody_watched,
    a_half_open_connection_that_a_daemon_found_late,
    a_closed_connection_that_nobody_watched,
    data_after_the_carrier_is_lost,
];

/// Waits for a finding of `kind` that has lasted for `age`, without a daemon; says how long it has lasted by then, in
/// milliseconds.
fn find_alone(namespace: &Namespace, kind: &str, age: &str) -> Result<(Value, u64)> {
    let directory = directory()?;
    let socket = directory.path().join("none.sock");
    let arguments = format!("--netns {} --older {age}", namespace.inode());
    let finding = wait_for(&format!("{kind} to be found"), SOON, || {
        let (findings, _) = stuck(&socket, &arguments)?;
        Ok(findings.into_iter().find(|finding| finding["finding"] == kind))
    })?;
    let oldest = age_of(&finding)?;
    Ok((finding, oldest))
}

fn age_of(finding: &Value) -> Result<u64> {
    finding["oldest_ms"].as_u64().context("no age")
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The client is there, and sends its SYN again, which begins the timer of the SYN-ACK anew.
fn a_half_open_connection_that_nobody_watched() -> Result<()> {
    let link = Link::new()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let begun = Instant::now();
    let _connecting = start_connecting(&link.left, listener.local_addr()?)?;
    let (finding, oldest) = find_alone(&link.right, "syn_ack_unanswered", "4s")?;
    ensure!((4_000..=millis(begun)).contains(&oldest), "{finding}");
    let shown = evidence(&finding);
    ensure!(
        shown.contains("SYN-ACK sent") && shown.contains("the kernel gives up in some"),
        "{shown}"
    );
    // A SYN that comes again is counted as dropped, and is no sign of a flood.
    ensure!(!shown.contains("dropped"), "{shown}");
    Ok(())
}

/// The daemon comes when the connection has been half open for a while: it does not begin to count then.
fn a_half_open_connection_that_a_daemon_found_late() -> Result<()> {
    let link = Link::new()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let _connecting = start_connecting(&link.left, listener.local_addr()?)?;
    let (_, oldest) = find_alone(&link.right, "syn_ack_unanswered", "3s")?;
    let begun = Instant::now();
    let daemon = Daemon::start()?;
    let least = oldest + millis(begun);
    let finding = find(&daemon, &link.right, "syn_ack_unanswered", "")?;
    ensure!(age_of(&finding)? >= least, "at least {least} ms: {finding}");
    Ok(())
}

/// A minisock in FIN_WAIT2.
fn a_closed_connection_that_nobody_watched() -> Result<()> {
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let begun = Instant::now();
    drop(pair.client);
    let (finding, oldest) = find_alone(&namespace, "peer_not_closing", "3s")?;
    // What the kernel counts in jiffies is up to two of them off.
    ensure!((3_000..=millis(begun) + 20).contains(&oldest), "{finding}");
    ensure!(finding["state"] == "FIN_WAIT2", "{finding}");
    ensure!(evidence(&finding).contains("forgotten in"), "{finding}");
    Ok(())
}

/// The timeouts do not double while this host itself cannot send.
fn data_after_the_carrier_is_lost() -> Result<()> {
    let link = Link::new()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let mut client = connect(&link.left, listener.local_addr()?)?;
    let _server = accept(&listener)?;
    link.right.ip("link set cable down")?;
    client.write_all(b"hello")?;
    let begun = Instant::now();
    let directory = directory()?;
    let socket = directory.path().join("none.sock");
    let arguments = format!("--netns {}", link.left.inode());
    let (finding, waited) = wait_for("the error, after some retransmissions", SOON, || {
        let waited = begun.elapsed();
        let (findings, _) = stuck(&socket, &arguments)?;
        let found = findings
            .into_iter()
            .find(|finding| finding["finding"] == "data_unacknowledged");
        let shown = found.as_ref().map(evidence).unwrap_or_default();
        let found =
            found.filter(|_| shown.contains("last error on the way") && waited > Duration::from_secs(8));
        Ok(found.map(|finding| (finding, waited)))
    })?;
    let shown = evidence(&finding);
    ensure!(shown.contains("no route to host (errno 113)"), "{shown}");
    // All but the time until the first retransmission, which comes after the loss probe.
    let least = waited.saturating_sub(Duration::from_secs(1)).as_millis();
    ensure!(
        u128::from(age_of(&finding)?) >= least,
        "at least {least} ms: {finding}"
    );
    Ok(())
}
