//! A host without processor time to spare. These tests run alone, since they take all of it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, binary, process,
    saturation::{Saturation, Size},
    stats,
    wait::{SOON, patient, wait_for},
};

crate::tests![a_busy_host_loses_nothing, an_overload_is_bounded];

/// Two threads a processor that only compute, and eight pairs that make connections: as reported.
const BUSY: Size = Size {
    pairs: 8,
    neighbours: 2,
    held: 0,
};
/// Six state changes each, and far more bytes than the ring has room for.
const CONNECTIONS: u64 = 100_000;
/// How long they may take.
const LOAD: Duration = Duration::from_mins(3);
/// Enough of them to say that the reader does not keep up.
const LOSSES: u64 = 20_000;
/// An answer takes a second at most; four more are for a slow machine.
const ANSWERED: Duration = Duration::from_secs(5);
/// The table is right within a second after an overload; four more are for a slow machine.
const REPAIRED: Duration = Duration::from_secs(5);

/// The thread that reads the ring has precedence, so it is scheduled whatever else would run.
fn a_busy_host_loses_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut command = binary::netstate(daemon.socket())?;
    command.args(["watch", "--json"]);
    let mut reader = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start netstate watch")?;
    let mut load = Saturation::start(BUSY)?;
    let done = wait_for("the connections", LOAD, || {
        answers_in_time(daemon.socket(), &["stats"])?;
        Ok((load.connections() >= CONNECTIONS).then_some(()))
    });
    let stopped = load.stop();
    process::end(&mut reader, "netstate watch");
    done.and(stopped)?;
    let (counts, _) = stats::read(daemon.socket())?;
    println!("{} connections, {counts:?}", load.connections());
    ensure!(counts.events >= 6 * CONNECTIONS, "only {counts:?}");
    ensure!(counts.ring_full == 0, "{counts:?}");
    let nice = daemon.stats()?["nice"].as_i64();
    ensure!(nice == Some(-10), "read at nice {nice:?}");
    let nice = nice_of_thread(daemon.pid(), "engine")?;
    ensure!(nice == -10, "the thread runs at nice {nice}");
    // Readers are served with ordinary precedence.
    let nice = nice_of_thread(daemon.pid(), "readers")?;
    ensure!(nice == 0, "readers are served at nice {nice}");
    Ok(())
}

/// Far more events than are read, since the ring is small and its reader is scheduled last.
fn an_overload_is_bounded() -> Result<()> {
    const HELD: usize = 400;
    let daemon = Daemon::start_with(&["--ring-size", "64K", "--nice", "19"])?;
    let mut load = Saturation::start(Size { held: HELD, ..BUSY })?;
    let sockets = u64::try_from(2 * HELD * BUSY.pairs)?;
    let (mut most, mut rounds) = (0, 0);
    let done = wait_for("losses, and answers meanwhile", LOAD, || {
        answers_in_time(daemon.socket(), &["list", "-atn"])?;
        let stats = answers_in_time(daemon.socket(), &["stats", "--json"])?;
        let stats: serde_json::Value = serde_json::from_slice(&stats)?;
        most = most.max(stats["rows"].as_u64().context("no rows")?);
        rounds += 1;
        let lost = stats["lost"].as_u64().unwrap_or(0);
        Ok((lost > LOSSES && rounds >= 10).then_some(()))
    });
    let stopped = load.stop();
    let ended = Instant::now();
    done.and(stopped)?;
    for namespace in &load.namespaces {
        daemon.agrees(namespace)?;
    }
    let repaired = ended.elapsed();
    println!("{sockets} sockets, {most} rows at most; {rounds} rounds; right after {repaired:?}");
    ensure!(most >= sockets, "{most} rows of {sockets} sockets");
    ensure!(most <= 2 * sockets, "{most} rows of {sockets} sockets");
    ensure!(repaired < patient(REPAIRED), "right only after {repaired:?}");
    Ok(())
}

/// Runs a command that has to answer within [`ANSWERED`].
fn answers_in_time(socket: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command: Command = binary::netstate(socket)?;
    let asked = Instant::now();
    let output = command
        .args(arguments)
        .output()
        .context("cannot start netstate")?;
    let took = asked.elapsed();
    ensure!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(took < patient(ANSWERED), "{arguments:?} took {took:?}");
    Ok(output.stdout)
}

/// The nice value of a process's thread of this name: the 19th field of its `stat` (`proc_pid_stat(5)`).
fn nice_of_thread(pid: u32, name: &str) -> Result<i64> {
    let find = || -> Result<Option<i64>> {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            let (head, tail) = stat.rsplit_once(") ").context("not a stat")?;
            if head.ends_with(&format!("({name}")) {
                let nice = tail.split(' ').nth(16).context("stat is short")?;
                return Ok(Some(nice.parse()?));
            }
        }
        Ok(None)
    };
    wait_for(&format!("a thread called {name}"), SOON, find)
}
