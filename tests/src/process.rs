//! Child processes that end with the test.

use std::{
    process::{Child, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// Sends `signal` to `child`.
///
/// # Errors
/// When the kernel refuses.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    kill_process(Pid::from_child(child), signal).with_context(|| format!("cannot send {signal:?}"))
}

/// Waits for `child` to end.
///
/// # Errors
/// When it has not within `limit`.
pub fn wait_for_end(child: &mut Child, what: &str, limit: Duration) -> Result<ExitStatus> {
    wait_for(&format!("the end of {what}"), limit, || Ok(child.try_wait()?))
}

/// Ends `child` whatever it does: politely, then not.
pub fn end(child: &mut Child, what: &str) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    // A stopped process cannot end on SIGTERM.
    let asked = signal(child, Signal::TERM).and_then(|()| signal(child, Signal::CONT));
    if asked
        .and_then(|()| wait_for_end(child, what, Duration::from_secs(5)))
        .is_err()
    {
        eprintln!("{what} did not end on SIGTERM and is killed");
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When it has ended.
pub fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .context("no VmRSS")?;
    Ok(kilobytes * 1024)
}
