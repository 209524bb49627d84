//! What `netstate stats --json` says.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary;

/// The answer as it is.
///
/// # Errors
/// When there is none.
pub fn json(socket: &Path) -> Result<Value> {
    let output = binary::run(socket, "stats --json")?;
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).with_context(|| format!("stats --json: {said}"))
}

/// What the daemon has counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Events that it has read.
    pub events: u64,
    /// Events that it has not, whatever the reason.
    pub lost: u64,
    /// Those of them that found the ring full, of all kinds and on all CPUs.
    pub ring_full: u64,
    /// Those that came while the tracer's program was running.
    pub interrupted: u64,
    /// Records that it could not decode.
    pub undecodable: u64,
}

/// How it sweeps.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sweeping {
    /// Sweeps finished.
    pub sweeps: u64,
    /// Processor time of the last one.
    pub cost: Duration,
    /// How far it says that the table can be behind the kernel.
    pub settling: Duration,
}

/// Asks the daemon.
///
/// # Errors
/// When it does not answer, or not with all of them.
pub fn read(socket: &Path) -> Result<(Counts, Sweeping)> {
    let stats = json(socket)?;
    let number = |key: &str| {
        stats[key]
            .as_u64()
            .with_context(|| format!("no {key} in {stats}"))
    };
    let by_cpu = |key: &str| {
        let counts = stats[key]
            .as_array()
            .with_context(|| format!("no {key} in {stats}"))?;
        Ok::<u64, anyhow::Error>(counts.iter().filter_map(Value::as_u64).sum())
    };
    let counts = Counts {
        events: number("events")?,
        lost: number("lost")?,
        ring_full: by_cpu("lost_ring_full_by_cpu")? + by_cpu("lost_hook_events_by_cpu")?,
        interrupted: number("lost_recursion")?,
        undecodable: number("undecodable")?,
    };
    let sweeping = Sweeping {
        sweeps: number("scans")?,
        cost: Duration::from_micros(number("scan_cost_us")?),
        settling: Duration::from_millis(number("staleness_bound_ms")?),
    };
    Ok((counts, sweeping))
}

/// Whether the kernel has taken all hooks for a `subject`, so that what happens to it is announced.
///
/// # Errors
/// When the daemon does not tell.
pub fn announces(socket: &Path, subject: &str) -> Result<bool> {
    let stats = json(socket)?;
    let hooks = stats["hooks"].as_array().context("no hooks in stats")?;
    let mut hooks = hooks.iter().filter(|hook| hook["subject"] == subject).peekable();
    ensure!(hooks.peek().is_some(), "no hooks for {subject} in {stats}");
    Ok(hooks.all(|hook| hook["refused"].is_null()))
}
