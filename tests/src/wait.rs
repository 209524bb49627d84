//! Waiting for something to become true, with a limit.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Limit for what takes seconds at most; long because the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Between two looks. Short against every limit, long enough to leave the processors to the others.
const PAUSE: Duration = Duration::from_millis(15);

/// Calls `look` until it finds something, and returns that.
///
/// # Errors
/// When `look` fails, or finds nothing within `limit`; the message names `what` was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        // Whether time is up is asked before the look, so that the last look is after the limit.
        let late = started.elapsed() >= limit;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if late {
            bail!("waited {limit:?} for {what}, in vain");
        }
        thread::sleep(PAUSE);
    }
}
