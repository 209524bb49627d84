//! Hundreds of sockets in mixed states, older and younger than the daemon.

use std::{
    io::Read,
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, binary,
    mixture::Mixture,
    snapshot,
    sockets::{LOOPBACK, accept, listen, socket_for, wait_for_fin},
    unaccepted::{Unaccepted, allow_open_files},
    wait::SOON,
};
use rustix::net::connect_unspec;

crate::tests![
    all_rows_are_right_two_seconds_after_the_last_change,
    a_snapshot_without_a_daemon_is_right,
    a_large_table_is_listed,
    used_again_while_they_are_listed,
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
        let rows = snapshot::agreement_at_once(namespace, &absent)?;
        ensure!(!rows.is_empty(), "no rows");
    }
    Ok(())
}

/// More rows than go into one message between daemon and client.
fn a_large_table_is_listed() -> Result<()> {
    const MESSAGE: usize = 4_096;
    /// Each has two ends.
    const CONNECTIONS: usize = MESSAGE / 2 + 50;
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let _connections = Unaccepted::new(&namespace, CONNECTIONS)?;
    let rows = snapshot::agreement(&namespace, daemon.socket(), SOON)?;
    ensure!(rows.len() > MESSAGE, "only {} rows", rows.len());
    Ok(())
}

/// A socket that is used again keeps its cookie, and so does each minisock that it has left behind. None of those may be told
/// twice, whether a list comes upon it before the socket is used again or after.
fn used_again_while_they_are_listed() -> Result<()> {
    const SOCKETS: usize = 1000;
    const ROUNDS: usize = 15;
    let namespace = Namespace::new()?;
    allow_open_files(2 * SOCKETS)?;
    // Each round takes a port for each socket, for as long as TIME_WAIT lasts.
    namespace.set_parameter("ipv4/ip_local_port_range", "1024 65535")?;
    // What tells them apart must not be what is remembered for `show`.
    let daemon = Daemon::start_with(&["--history", "0"])?;
    let listener = listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let clients: Vec<_> = (0..SOCKETS)
        .map(|_| socket_for(&namespace, target))
        .collect::<Result<_>>()?;
    let lists = thread::scope(|scope| -> Result<Vec<String>> {
        let using = scope.spawn(|| -> Result<()> {
            for client in (0..ROUNDS).flat_map(|_| &clients) {
                client.connect(&target.into())?;
                let server = accept(&listener)?;
                client.shutdown(Shutdown::Write)?;
                wait_for_fin(&server)?;
                drop(server);
                (&*client)
                    .read_exact(&mut [0])
                    .expect_err("the peer has said nothing");
                connect_unspec(client)?;
            }
            Ok(())
        });
        let mut lists = Vec::new();
        while !using.is_finished() {
            lists.push(binary::run_in(&namespace, daemon.socket(), "list -an")?);
        }
        let used = using.join().map_err(|_| anyhow!("the sockets' user panicked"))?;
        used.map(|()| lists)
    })?;
    // On a busy machine a list takes as long as a round or two.
    ensure!(lists.len() >= ROUNDS / 3, "only {} lists meanwhile", lists.len());
    for list in &lists {
        let mut minisocks: Vec<_> = list.lines().filter(|line| line.contains(" TIME_WAIT")).collect();
        minisocks.sort_unstable();
        if let Some(line) = minisocks
            .windows(2)
            .find(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
        {
            let local = line.split_whitespace().nth(3).unwrap_or_default();
            let port = local.rsplit(':').next().unwrap_or_default();
            let known = binary::run_in(&namespace, daemon.socket(), &format!("show --json sport {port}"))?;
            bail!("told twice: {line}; the daemon has {known}");
        }
    }
    daemon.agrees(&namespace)?;
    Ok(())
}
