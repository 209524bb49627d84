//! How often the event ring is looked at: at once when something comes, unless much comes; then every few
//! milliseconds, so that neither the host nor the daemon pays a wake-up for each event.

use std::time::{Duration, Instant};

/// The wait between two looks while much happens. A ring of the default size takes what comes in many times that.
const PERIOD: Duration = Duration::from_millis(4);
/// Wake-ups in a row that are taken before that: what a few connections bring is told at once.
const MOST: u32 = 32;

/// Decides whether to wait for a wake-up or for time to pass.
#[derive(Debug)]
pub(super) struct Pace {
    /// Wake-ups that may still be taken.
    credit: u32,
    /// Since when that is counted.
    since: Instant,
    /// When to look, woken or not.
    due: Option<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            credit: MOST,
            since: now,
            due: None,
        }
    }

    /// When to look, if that does not depend on wake-ups.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The ring has been emptied, and `read` records came out of it.
    pub(super) fn looked(&mut self, now: Instant, read: usize) {
        let earned = (now - self.since).as_nanos() / PERIOD.as_nanos();
        if earned > 0 {
            self.credit = MOST.min(self.credit.saturating_add(u32::try_from(earned).unwrap_or(MOST)));
            self.since = now;
        }
        self.credit = self.credit.saturating_sub(1);
        self.due = (self.credit == 0 && read > 0).then(|| now + PERIOD);
    }
}
