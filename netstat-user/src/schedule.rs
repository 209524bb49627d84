//! When to sweep: soon where something is missing, seldom where nothing is, for no more than a hundredth of one
//! processor; and after a loss, whatever it costs, within a second.

use std::time::{Duration, Instant};

use crate::{sources::Coverage, table::Unsettled};

/// Between the first hint that a sweep is needed and the sweep: most connections settle by themselves meanwhile.
const FIRST: Duration = Duration::from_millis(20);
/// The longest wait while something is missing, and the wait while minisocks or request socks linger.
const LINGERING: Duration = Duration::from_secs(1);
/// The wait between looks at all namespaces: half-open connections are announced by nobody.
const FULL: Duration = Duration::from_secs(5);

/// Sweeps take at most one part in this many of one processor while something is missing.
const BUDGET: u32 = 100;
/// Repairs after a loss take at most one part in this many, unless that would put them off for more than
/// [`REPAIR`].
const REPAIR_BUDGET: u32 = 20;
/// The longest that a repair waits.
const REPAIR: Duration = Duration::from_millis(500);
/// Looks at all namespaces, needed or not, take at most one part in this many.
const FULL_BUDGET: u32 = 1000;

/// Decides when the next sweep is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    due: Instant,
    earliest: Instant,
    wait: Duration,
    full: Instant,
    repair: Instant,
    /// What the last look at all namespaces took.
    cost: Duration,
    /// Something was lost after the last sweep had begun, so that sweep does not make it good.
    damaged: bool,
}

impl Schedule {
    /// A first sweep is due at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            due: now,
            earliest: now,
            wait: FIRST,
            full: now,
            repair: now,
            cost: Duration::ZERO,
            damaged: false,
        }
    }

    /// When the next sweep is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether it is time to look at all namespaces.
    #[must_use]
    pub fn is_full_due(&self, now: Instant) -> bool {
        self.full <= now
    }

    /// The longest that the table can differ from the kernel where nothing is lost, and as long as it takes to be
    /// repaired where something is.
    #[must_use]
    pub fn settling(&self, coverage: Coverage) -> Duration {
        if coverage.is_complete() {
            REPAIR * 2
        } else {
            FULL.max(self.cost * FULL_BUDGET) + REPAIR
        }
    }

    /// Something has come up that only a sweep can tell.
    pub fn unsettled(&mut self, now: Instant) {
        self.wait = FIRST;
        self.due = self.due.min((now + FIRST).max(self.earliest));
    }

    /// Events were lost, or a sweep came to nothing: the table is not right without one.
    pub fn damaged(&mut self, now: Instant) {
        self.damaged = true;
        self.due = self.due.min((now + FIRST).max(self.repair));
        self.full = self.full.min(now);
    }

    /// A namespace is gone: the next sweep, when it is due, is about all of them.
    pub fn look_everywhere(&mut self, now: Instant) {
        self.full = self.full.min(now);
        self.due = self.due.min((now + FIRST).max(self.earliest));
    }

    /// A sweep begins: what was lost before is made good by it.
    pub fn begun(&mut self) {
        self.damaged = false;
    }

    /// A sweep is over that took `cost` of processor time, was about all namespaces if `full`, and left
    /// `unsettled`.
    pub fn swept(&mut self, now: Instant, cost: Duration, unsettled: Unsettled, full: bool) {
        self.earliest = now + cost * BUDGET;
        self.repair = now + (cost * REPAIR_BUDGET).min(REPAIR);
        if full {
            self.full = now + FULL.max(cost * FULL_BUDGET);
            self.cost = cost;
        }
        self.due = if unsettled.urgent > 0 {
            self.wait = (self.wait * 2).min(LINGERING);
            (now + self.wait).max(self.earliest)
        } else if unsettled.lingering > 0 {
            (now + LINGERING).max(self.earliest)
        } else {
            self.full.max(self.earliest)
        };
        if self.damaged {
            self.damaged(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URGENT: Unsettled = Unsettled {
        urgent: 1,
        lingering: 0,
    };

    #[test]
    fn waits_longer_each_time_while_something_is_missing() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            schedule.swept(now, Duration::ZERO, URGENT, false);
            waits.push(schedule.due() - now);
        }
        assert!(waits.is_sorted());
        assert_eq!(waits[0], FIRST * 2);
        assert_eq!(waits[7], LINGERING);
        schedule.unsettled(now);
        assert_eq!(schedule.due() - now, FIRST);
    }

    #[test]
    fn an_expensive_sweep_is_not_repeated_before_its_cost_is_a_hundredth() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.swept(now, Duration::from_millis(125), URGENT, true);
        schedule.unsettled(now + Duration::from_millis(1));
        assert_eq!(schedule.due() - now, Duration::from_millis(12_500));
        assert!(!schedule.is_full_due(now + Duration::from_mins(2)));
        schedule.damaged(now);
        assert_eq!(schedule.due() - now, REPAIR);
        assert!(schedule.is_full_due(now));
    }

    #[test]
    fn what_is_lost_during_a_sweep_is_not_made_good_by_it() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        let settled = Unsettled::default();
        schedule.begun();
        schedule.damaged(now);
        schedule.swept(now, Duration::ZERO, settled, true);
        assert_eq!(schedule.due() - now, FIRST);
        assert!(schedule.is_full_due(now));
        schedule.begun();
        schedule.swept(now, Duration::ZERO, settled, true);
        assert_eq!(schedule.due() - now, FULL);
    }
}
