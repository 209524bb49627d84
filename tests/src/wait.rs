//! Waiting for something to become true, with a limit.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Limit for what the kernel or `netstate` does at once; long only because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(10);

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

/// Calls `look` until what it returns is `expected`.
///
/// # Errors
/// As [`wait_for`]; the message shows what `look` returned last.
pub fn wait_until_equal<T: PartialEq + Debug>(
    what: &str,
    limit: Duration,
    expected: &T,
    mut look: impl FnMut() -> Result<T>,
) -> Result<()> {
    let mut last = None;
    let waited = wait_for(what, limit, || {
        let seen = look()?;
        let equal = seen == *expected;
        last = Some(seen);
        Ok(equal.then_some(()))
    });
    match (waited, last) {
        (Err(error), Some(last)) => Err(error.context(format!("expected {expected:?}, seen last {last:?}"))),
        (waited, _) => waited,
    }
}
