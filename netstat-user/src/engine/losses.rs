//! Watching the kernel's counters of what it could not hand over.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{clock::Ktime, loader::Losses, view::Loss};

/// How long after events came the counters are read: often enough to repair within a second, seldom enough
/// to cost nothing.
const INTERVAL: Duration = Duration::from_millis(250);

/// Reads the counters while there is traffic.
pub(super) struct LossWatch {
    read: Box<dyn FnMut() -> io::Result<Losses> + Send>,
    known: Losses,
    /// What was interrupted by the last look, which the next one has to confirm.
    seen: u64,
    looked: Ktime,
    due: Option<Instant>,
}

impl LossWatch {
    /// `read` reads the counters.
    pub(super) fn new(read: impl FnMut() -> io::Result<Losses> + Send + 'static, now: Ktime) -> Self {
        Self {
            read: Box::new(read),
            known: Losses::default(),
            seen: 0,
            looked: now,
            due: None,
        }
    }

    pub(super) fn events_came(&mut self, now: Instant) {
        self.due.get_or_insert(now + INTERVAL);
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    pub(super) fn due(&self) -> Instant {
        self.due.unwrap_or_else(Instant::now)
    }

    pub(super) fn total(&self) -> &Losses {
        &self.known
    }

    /// Whether something seems to be lost that the next look has to confirm.
    pub(super) fn is_rising(&self) -> bool {
        self.seen > self.known.recursion
    }

    /// Reads the counters; `None` when nothing was lost since the last time.
    pub(super) fn check(&mut self, now: Ktime) -> io::Result<Option<Loss>> {
        // Looks again if it fails: what was lost is still to be told.
        self.due = Some(Instant::now() + INTERVAL);
        let losses = (self.read)()?;
        self.due = None;
        let since = std::mem::replace(&mut self.looked, now);
        if losses == self.known {
            self.seen = losses.recursion;
            return Ok(None);
        }
        let ring_full = losses.ring_full().saturating_sub(self.known.ring_full());
        // The stand-in's count comes a moment later than that of what it stands in for, so a rise counts once it is still
        // there at the next look: one that was none would hide the next one that is.
        let recursion = losses.recursion.min(self.seen).max(self.known.recursion);
        if losses.recursion > recursion {
            self.due = Some(Instant::now() + INTERVAL);
            // It happened before this look.
            self.looked = since;
        }
        self.seen = losses.recursion;
        let interrupted = recursion - self.known.recursion;
        self.known = Losses { recursion, ..losses };
        let loss = Loss {
            ring_full,
            interrupted,
            since,
            until: Ktime::now(),
        };
        Ok((loss.count() > 0).then_some(loss))
    }
}
