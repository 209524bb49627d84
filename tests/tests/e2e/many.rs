//! Hundreds of sockets in mixed states, older and younger than the daemon.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    mixture::Mixture,
    snapshot,
    sockets::{LOOPBACK, accept, connect, listen, wait_for_fin},
    wait::SOON,
};

crate::tests![
    all_rows_are_right_two_seconds_after_the_last_change,
    a_snapshot_without_a_daemon_is_right,
    a_large_table_is_listed,
];

/// The promise: this long after the last change the table is the kernel's.
const SETTLED: Duration = Duration::from_secs(2);
/// Rounds of [`Mixture`], of some 50 sockets each.
const ROUNDS: usize = 5;

fn all_rows_are_right_two_seconds_after_the_last_change() -> Result<()> {
    let (old, young) = (Link::new()?, Link::new()?);
    let mut older = Mixture::new(&old, ROUNDS)?;
    let daemon = Daemon::start()?;
    let _younger = Mixture::new(&young, ROUNDS)?;
    older.close_open_ones()?;
    let settled = Instant::now() + SETTLED;
    let mut states = std::collections::BTreeSet::new();
    let mut count = 0;
    for namespace in [&old.left, &old.right, &young.left, &young.right] {
        let left = settled.saturating_duration_since(Instant::now());
        let rows = snapshot::agreement(namespace, daemon.socket(), left).with_context(|| daemon.log())?;
        count += rows.len();
        states.extend(rows.into_iter().map(|row| row.state));
    }
    ensure!(count >= 300, "only {count} sockets");
    let all: Vec<&str> = states.iter().map(String::as_str).collect();
    let expected = [
        "CLOSE_WAIT",
        "CLOSING",
        "ESTABLISHED",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "LAST_ACK",
        "LISTEN",
        "SYN_RECV",
        "SYN_SENT",
        "TIME_WAIT",
    ];
    ensure!(
        all == expected,
        "the mixture was to have every state, but {all:?}"
    );
    Ok(())
}

fn a_snapshot_without_a_daemon_is_right() -> Result<()> {
    let link = Link::new()?;
    let _sockets = Mixture::new(&link, 2)?;
    let directory = netstat_tests::daemon::directory()?;
    let absent = directory.path().join("absent.sock");
    for namespace in [&link.left, &link.right] {
        // No time to settle: it is one look at the kernel.
        let rows = snapshot::agreement(namespace, &absent, Duration::ZERO)?;
        ensure!(!rows.is_empty(), "no rows");
    }
    Ok(())
}

/// More rows than go into one message between daemon and client.
fn a_large_table_is_listed() -> Result<()> {
    const CONNECTIONS: usize = 4_500;
    const MESSAGE: usize = 4_096;
    let namespace = Namespace::new()?;
    // Else the client's ports would come again, and TIME_WAIT end with that.
    namespace.set_parameter("ipv4/tcp_tw_reuse", "0")?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    for _ in 0..CONNECTIONS {
        let client = connect(&namespace, listener.local_addr()?)?;
        let server = accept(&listener)?;
        drop(client);
        wait_for_fin(&server)?;
    }
    let rows = snapshot::agreement(&namespace, daemon.socket(), SOON)?;
    ensure!(rows.len() > MESSAGE, "only {} rows", rows.len());
    Ok(())
}
