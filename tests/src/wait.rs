//! Waiting for something to become true, with a limit.

use std::{
    env,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Limit for what takes seconds at most; long because the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// By how much all limits are longer where the machine is slow, such as a virtual one; 1 if it is not set.
pub const PATIENCE: &str = "NETSTATE_TEST_PATIENCE";

/// A limit as it is on this machine.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    limit * patience()
}

/// Whether this machine is said to be slow.
#[must_use]
pub fn is_slow() -> bool {
    patience() > 1
}

fn patience() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        let value = env::var(PATIENCE).ok();
        value.and_then(|value| value.parse().ok()).unwrap_or(1)
    })
}

/// Between two looks. Short against every limit, long enough to leave the processors to the others.
const PAUSE: Duration = Duration::from_millis(15);

/// Calls `look` until it finds something, and returns that.
///
/// # Errors
/// When `look` fails, or finds nothing within `limit`, which is longer where [`PATIENCE`] says so; the message names `what` was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let (started, limit) = (Instant::now(), patient(limit));
    loop {
        // Whether time is up is asked before the look, so that the last look is after the limit.
        let late = started.elapsed() >= limit;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if late {
            bail!("waited {limit:?} for {what}, in vain");
        }
        // Longer too where everything takes longer: a look is often a process, and several wait at a time.
        thread::sleep(patient(PAUSE));
    }
}
