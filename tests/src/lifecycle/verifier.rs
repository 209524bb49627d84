//! `netstate verify --watch` over all namespaces, beside everything that is done to them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{objects::Objects, wait::wait_for};

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
    verify: Objects,
    rounds: Rounds,
}

impl Verifier {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(socket: &Path) -> Result<Self> {
        Ok(Self {
            verify: Objects::start(socket, "verify --watch --fail --json")?,
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
        let settling = self.rounds.settling;
        wait_for("netstate verify to look often enough", settling + ROUND, || {
            let before = self.rounds.count;
            self.take()?;
            let over = called.elapsed() > settling && self.rounds.count > before;
            Ok(over.then_some(()))
        })?;
        let Self { verify, mut rounds } = self;
        let (status, last) = verify.finish(ROUND)?;
        last.into_iter().try_for_each(|line| rounds.enter(line))?;
        ensure!(
            status.success() == rounds.lasting.is_empty(),
            "netstate verify --fail ended with {status} after {} differences",
            rounds.lasting.len()
        );
        Ok(rounds)
    }

    fn take(&mut self) -> Result<()> {
        let lines = self.verify.take()?;
        lines.into_iter().try_for_each(|line| self.rounds.enter(line))
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
        self.settling = self
            .settling
            .max(Duration::from_millis(number("staleness_bound_ms")?));
        Ok(())
    }
}
