//! `netstate verify --watch` over all namespaces, beside everything that is done to them.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{binary, process, wait::wait_for};

/// How long a round may take on a slow machine.
const ROUND: Duration = Duration::from_mins(1);

/// What all rounds came to.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// How many there were.
    pub(super) count: usize,
    /// Sockets that table and kernel had alike, in the round with most of them.
    pub(super) most_agreed: u64,
    /// The longest that a difference was seen before it settled.
    pub(super) slowest: Duration,
    /// How long one may take, as `verify` has it from the daemon.
    pub(super) settling: Duration,
    /// Differences that lasted longer, as they were printed.
    pub(super) lasting: Vec<Value>,
}

/// A running `netstate verify`.
#[derive(Debug)]
pub(super) struct Verifier {
    child: Child,
    lines: Receiver<Value>,
    rounds: Rounds,
}

impl Verifier {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(socket: &Path) -> Result<Self> {
        let mut command = binary::netstate(socket)?;
        command.args(["verify", "--watch", "--fail", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start netstate verify")?;
        let lines = read(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            lines,
            rounds: Rounds::default(),
        })
    }

    /// Lets it go on until whatever differs when this is called had the time that the daemon asks for, and ends it.
    ///
    /// # Errors
    /// When it has ended by itself, or its exit status does not fit what it has printed.
    pub(super) fn finish(mut self) -> Result<Rounds> {
        let called = Instant::now();
        wait_for("a round of netstate verify", ROUND, || {
            self.take()?;
            Ok((self.rounds.count > 0).then_some(()))
        })?;
        let limit = self.rounds.settling + ROUND;
        wait_for("netstate verify to look often enough", limit, || {
            let before = self.rounds.count;
            self.take()?;
            let over = called.elapsed() > self.rounds.settling && self.rounds.count > before;
            Ok(over.then_some(()))
        })?;
        process::signal(&self.child, rustix::process::Signal::INT)?;
        let status = process::wait_for_end(&mut self.child, "netstate verify", ROUND)?;
        // What it printed last is read to the end.
        while let Ok(line) = self.lines.recv() {
            self.rounds.enter(line)?;
        }
        let rounds = std::mem::take(&mut self.rounds);
        ensure!(
            status.success() == rounds.lasting.is_empty(),
            "netstate verify --fail ended with {status} after {} differences",
            rounds.lasting.len()
        );
        Ok(rounds)
    }

    fn take(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("netstate verify --watch has ended by itself: {status}");
        }
        while let Ok(line) = self.lines.try_recv() {
            self.rounds.enter(line)?;
        }
        Ok(())
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        process::end(&mut self.child, "netstate verify");
    }
}

impl Rounds {
    fn enter(&mut self, line: Value) -> Result<()> {
        let Some(verdict) = line.get("verdict") else {
            self.lasting.push(line);
            return Ok(());
        };
        let number = |key: &str| {
            let number = verdict[key].as_u64();
            number.with_context(|| format!("no {key} in {verdict}"))
        };
        self.count += 1;
        self.most_agreed = self.most_agreed.max(number("agreed")?);
        self.slowest = Duration::from_millis(number("longest_settled_ms")?);
        self.settling = self.settling.max(Duration::from_millis(number("settling_ms")?));
        Ok(())
    }
}

/// The lines of `output` as they come; what is no JSON comes as a string.
fn read(output: ChildStdout) -> Receiver<Value> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    lines
}
