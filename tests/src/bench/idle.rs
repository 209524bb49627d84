//! What the daemon takes while nothing happens.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result};

use super::figure::Figure;
use crate::Daemon;

/// What the daemon gets to come to rest after its start.
const REST: Duration = Duration::from_secs(5);

/// Measures the processor time of all threads of the daemon over `time`.
pub(super) fn measure(time: Duration) -> Result<()> {
    let daemon = Daemon::start()?;
    thread::sleep(REST);
    let before = processor_time(daemon.pid())?;
    thread::sleep(time);
    let taken = processor_time(daemon.pid())?.saturating_sub(before);
    let figure = Figure {
        measure: "idle",
        subject: "netstate daemon --quiet",
        unit: "% of a core",
        value: taken.as_secs_f64() / time.as_secs_f64() * 100.0,
    };
    figure.print()
}

/// What `/proc/PID/task/TID/schedstat` says first, in nanoseconds, of all threads.
fn processor_time(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let time: Option<u64> = text.split(' ').next().and_then(|time| time.parse().ok());
        sum += time.context("schedstat says nothing")?;
    }
    Ok(Duration::from_nanos(sum))
}
