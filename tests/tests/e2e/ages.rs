//! How long a socket has been in its state, where nobody watched it come into it: as far back as the kernel's stamps and
//! timers show.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, binary,
    daemon::directory,
    link::Way,
    snapshot::{self, Listed},
    sockets::{LOOPBACK, Pair, cookie, listen, start_connecting, wait_for_fin},
    wait::{SOON, patient, wait_for},
};
use serde_json::Value;

crate::tests![
    of_a_half_open_connection,
    of_a_closed_connection,
    of_a_connection_in_time_wait,
];

/// By how many milliseconds what the kernel counts in jiffies can be off: two of them, and more where timer interrupts come late.
fn jiffies() -> u64 {
    u64::try_from(patient(Duration::from_millis(20)).as_millis()).unwrap_or(u64::MAX)
}

/// The row in `state`, and how many milliseconds after `begun` it cannot be older.
fn aged(namespace: &Namespace, socket: &Path, state: &str, begun: Instant) -> Result<Option<(Listed, u64)>> {
    let rows = snapshot::list(namespace, socket)?;
    let most = u64::try_from(begun.elapsed().as_millis())? + jiffies();
    Ok(rows
        .into_iter()
        .find(|row| row.state == state)
        .map(|row| (row, most)))
}

/// Waits, without a daemon, until a socket has been in `state` for a second at least, and starts a daemon then: to that the socket is
/// as old. Returns the daemon, and the age in milliseconds.
fn found_late(namespace: &Namespace, state: &str, begun: Instant) -> Result<(Daemon, u64)> {
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    let mut last = None;
    let (row, most) = wait_for(&format!("{state} to be a second old"), SOON, || {
        last = aged(namespace, &absent, state, begun)?;
        Ok(last.clone().filter(|(row, _)| row.in_state_ms >= Some(1_000)))
    })
    .with_context(|| format!("listed last: {last:?}"))?;
    let before = row.in_state_ms.context("no age")?;
    ensure!(before <= most, "not older than {most} ms: {row:?}");
    let daemon = Daemon::start()?;
    let (row, most) = aged(namespace, daemon.socket(), state, begun)?.context("no row")?;
    let age = row.in_state_ms.context("no age")?;
    ensure!(
        (before.saturating_sub(jiffies())..=most).contains(&age),
        "from {before} to {most} ms: {row:?}"
    );
    Ok((daemon, age))
}

/// The history of the socket with this cookie.
fn history(daemon: &Daemon, cookie: u64) -> Result<Value> {
    let output = binary::run(daemon.socket(), &format!("show --json {cookie}"))?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

/// Its first SYN-ACK has a stamp, so its age is no bound.
fn of_a_half_open_connection() -> Result<()> {
    let link = Link::new()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let begun = Instant::now();
    let _connecting = start_connecting(&link.left, listener.local_addr()?)?;
    let (daemon, age) = found_late(&link.right, "SYN_RECV", begun)?;
    let (row, _) = aged(&link.right, daemon.socket(), "SYN_RECV", begun)?.context("no row")?;
    ensure!(!row.at_least, "{row:?}");
    let history = history(&daemon, row.cookie)?;
    let stay = &history["stays"][0];
    ensure!(
        history["in_state_ms"].as_u64() >= Some(age) && history["since"] == stay["since"],
        "{history}"
    );
    ensure!(stay["lasted_us"].as_u64() >= Some(age * 1_000), "{history}");
    ensure!(stay["at_least"] == false, "{history}");
    // The client's end has a stamp of its own.
    let (row, most) = aged(&link.left, daemon.socket(), "SYN_SENT", begun)?.context("no row")?;
    ensure!(
        row.at_least && (age..=most).contains(&row.in_state_ms.unwrap_or(0)),
        "from {age} to {most} ms: {row:?}"
    );
    Ok(())
}

/// Its process has closed it, and its peer has not.
fn of_a_closed_connection() -> Result<()> {
    let namespace = Namespace::new()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&client)?;
    let begun = Instant::now();
    drop(client);
    wait_for_fin(&server)?;
    let (daemon, age) = found_late(&namespace, "FIN_WAIT2", begun)?;
    let (row, _) = aged(&namespace, daemon.socket(), "FIN_WAIT2", begun)?.context("no row")?;
    // It may have been in this state as a full sock before.
    ensure!(row.at_least && row.cookie == near, "{row:?}");
    let history = history(&daemon, near)?;
    let stay = &history["stays"][0];
    ensure!(
        stay["at_least"] == true
            && stay["since"].is_null()
            && stay["lasted_us"].as_u64() >= Some(age * 1_000),
        "{history}"
    );
    // The last acknowledgement that the other end has had is the one of the FIN.
    let (row, most) = aged(&namespace, daemon.socket(), "CLOSE_WAIT", begun)?.context("no row")?;
    let age = age.saturating_sub(jiffies());
    ensure!(
        row.at_least && (age..=most).contains(&row.in_state_ms.unwrap_or(0)),
        "from {age} to {most} ms: {row:?}"
    );
    Ok(())
}

fn of_a_connection_in_time_wait() -> Result<()> {
    let namespace = Namespace::new()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    drop(client);
    wait_for_fin(&server)?;
    let begun = Instant::now();
    drop(server);
    let (daemon, _) = found_late(&namespace, "TIME_WAIT", begun)?;
    let (row, _) = aged(&namespace, daemon.socket(), "TIME_WAIT", begun)?.context("no row")?;
    ensure!(row.at_least, "{row:?}");
    Ok(())
}
