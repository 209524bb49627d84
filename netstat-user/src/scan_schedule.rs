//! When to scan all open files for the holders of sockets: soon when a socket has come that somebody must hold,
//! seldom otherwise, and for no more than a hundredth of one processor. Questions have scans of their own.

use std::time::{Duration, Instant};

/// Between the first socket without an owner and the scan: most are accepted by then, and many closed again.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait between scans: owners change without a word, by `fork`, `exec` and descriptors that are passed on.
const LONGEST: Duration = Duration::from_secs(30);
/// Scans take at most one part in this many of one processor.
const BUDGET: u32 = 100;

/// Decides when the next scan is due.
#[derive(Debug, Clone)]
pub struct ScanSchedule {
    due: Instant,
    earliest: Instant,
    wait: Duration,
    seen: u64,
}

impl ScanSchedule {
    /// The first scan comes with the first sweep, and not by this.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            due: now + LONGEST,
            earliest: now,
            wait: FIRST,
            seen: 0,
        }
    }

    /// When the next scan is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// So many sockets have ever come to lack an owner.
    pub fn noticed(&mut self, now: Instant, ever_ownerless: u64) {
        if ever_ownerless > self.seen {
            self.wait = FIRST;
            self.due = self.due.min((now + FIRST).max(self.earliest));
        }
        self.seen = ever_ownerless;
    }

    /// A scan begins.
    pub fn begun(&mut self, now: Instant) {
        self.due = now + LONGEST;
    }

    /// A scan is over, took `cost` of processor time, and left so many sockets without an owner.
    pub fn scanned(&mut self, now: Instant, cost: Duration, ownerless: usize) {
        self.earliest = now + cost * BUDGET;
        self.wait = if ownerless > 0 {
            (self.wait * 2).min(LONGEST)
        } else {
            LONGEST
        };
        // What has come up during the scan is still to be done.
        self.due = self.due.min(now + self.wait).max(self.earliest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_socket_without_an_owner_is_looked_at_soon_and_then_less_and_less() {
        let now = Instant::now();
        let mut schedule = ScanSchedule::new(now);
        schedule.noticed(now, 1);
        assert_eq!(schedule.due() - now, FIRST);
        let mut waits = Vec::new();
        for _ in 0..12 {
            schedule.begun(now);
            schedule.scanned(now, Duration::ZERO, 1);
            waits.push(schedule.due() - now);
        }
        assert!(waits.is_sorted());
        assert_eq!((waits[0], waits[11]), (FIRST * 2, LONGEST));
        schedule.noticed(now, 1);
        assert_eq!(schedule.due() - now, LONGEST, "the same one is no news");
        schedule.noticed(now, 2);
        assert_eq!(schedule.due() - now, FIRST);
    }

    #[test]
    fn an_expensive_scan_is_not_repeated_before_its_cost_is_within_the_budget() {
        let now = Instant::now();
        let cost = Duration::from_millis(500);
        let mut schedule = ScanSchedule::new(now);
        schedule.begun(now);
        schedule.noticed(now, 7);
        schedule.scanned(now, cost, 0);
        assert_eq!(schedule.due() - now, cost * BUDGET);
        schedule.noticed(now, 8);
        assert_eq!(schedule.due() - now, cost * BUDGET);
    }

    #[test]
    fn where_nothing_is_missing_scans_are_rare() {
        let now = Instant::now();
        let mut schedule = ScanSchedule::new(now);
        schedule.begun(now);
        schedule.scanned(now, Duration::from_millis(1), 0);
        assert_eq!(schedule.due() - now, LONGEST);
    }
}
