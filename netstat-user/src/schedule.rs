//! When to sweep, and when to look everywhere for namespaces: soon where something is missing, seldom where
//! nothing is, for no more than a hundredth of one processor; and after a loss, whatever it costs, within a second.

use std::time::{Duration, Instant};

use crate::{namespaces::Effort, table::Unsettled};

/// Between the first hint that a sweep is needed and the sweep: most connections settle by themselves meanwhile.
const FIRST: Duration = Duration::from_millis(20);
/// The longest wait while something is missing, and the wait while minisocks or request socks linger.
const LINGERING: Duration = Duration::from_secs(1);
/// The wait between looks at all namespaces: half-open connections are announced by nobody.
const FULL: Duration = Duration::from_secs(5);

/// The shortest wait between glances at new namespaces, which are cheap and made whatever sweeps have cost before.
const GLANCE: Duration = Duration::from_millis(250);

/// Sweeps, the quick search for namespaces included, take at most one part in this many of one processor while
/// something is missing. With [`SEARCH_BUDGET`] and [`FULL_BUDGET`] that makes a hundredth.
const BUDGET: u32 = 150;
/// Searches that go everywhere take at most one part in this many.
const SEARCH_BUDGET: u32 = 1000;
/// Repairs after a loss take at most one part in this many, unless that would put them off for more than
/// [`REPAIR`].
const REPAIR_BUDGET: u32 = 20;
/// The longest that a repair waits.
const REPAIR: Duration = Duration::from_millis(500);
/// Looks at all namespaces, needed or not, take at most one part in this many; and so do searches that go
/// everywhere without anything being missed.
const FULL_BUDGET: u32 = 600;
/// The wait between such searches: for what no event tells of.
const SEARCH: Duration = Duration::from_secs(30);

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
    /// What a look at some has taken lately, at the most.
    partial_cost: Duration,
    /// When the last sweep began.
    begun: Instant,
    /// How long sweeps have taken lately, at the most, until their results were in the table. On a busy host that is far
    /// more than their processor time.
    took: Duration,
    /// The earliest search that goes everywhere.
    search: Instant,
    /// When one is due, even though nothing is missed.
    full_search: Instant,
    /// The earliest glance at new namespaces.
    glance: Instant,
    /// When there are new ones to glance at.
    strangers: Option<Instant>,
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
            partial_cost: Duration::ZERO,
            begun: now,
            took: Duration::ZERO,
            search: now,
            full_search: now,
            glance: now,
            strangers: None,
            damaged: false,
        }
    }

    /// When the next sweep is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.strangers.map_or(self.due, |glance| glance.min(self.due))
    }

    /// Whether it is time to look at all namespaces.
    #[must_use]
    pub fn is_full_due(&self, now: Instant) -> bool {
        self.full <= now
    }

    /// The longest that the table can differ from the kernel where nothing is lost, and as long as it takes to be
    /// repaired where something is. However much the kernel announces, it does not tell that the minisocks of a namespace
    /// end with that, whose number may be another's at once.
    #[must_use]
    pub fn settling(&self) -> Duration {
        // A row that is not where it was takes two sweeps to go.
        let known = self.partial_cost * BUDGET * 2;
        FULL.max(self.cost * FULL_BUDGET).max(known) + REPAIR + self.took * 2
    }

    /// How hard a look at all namespaces, if `everywhere`, or at some is to search for them now.
    #[must_use]
    pub fn effort(&self, now: Instant, everywhere: bool) -> Effort {
        if everywhere && self.full_search <= now {
            Effort::Thorough
        } else if self.search <= now {
            Effort::IfMissing
        } else {
            Effort::Quick
        }
    }

    /// A search that went everywhere is over, and took `cost` of processor time.
    pub fn searched(&mut self, now: Instant, cost: Duration) {
        self.search = now + cost * SEARCH_BUDGET;
        self.full_search = now + SEARCH.max(cost * SEARCH_BUDGET * 2);
    }

    /// A namespace is missed, and only a search that goes everywhere can tell more: a sweep is due once that is
    /// allowed.
    pub fn missed(&mut self, now: Instant) {
        self.due = self.due.min((now + FIRST).max(self.search).max(self.earliest));
    }

    /// A namespace that was not known has turned up.
    pub fn strangers(&mut self, now: Instant) {
        let glance = (now + FIRST).max(self.glance);
        self.strangers = Some(self.strangers.map_or(glance, |due| due.min(glance)));
    }

    /// Whether a sweep now is about new namespaces alone, since nothing else may be swept yet.
    #[must_use]
    pub fn is_glance(&self, now: Instant) -> bool {
        self.strangers.is_some() && !self.damaged && now < self.earliest
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

    /// Whether something was lost since the last sweep began.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// A sweep begins: what was lost before is made good by it.
    pub fn begun(&mut self, now: Instant) {
        self.begun = now;
        self.damaged = false;
        self.strangers = None;
        self.glance = now + GLANCE;
    }

    /// A sweep is over that was not due: it answered a question, or glanced at a new namespace. What is due does not
    /// come later for it. It took `cost` of processor time, and was about all namespaces if `full`.
    pub fn swept_besides(&mut self, now: Instant, cost: Duration, full: bool) {
        self.note_time(now);
        self.repair = now + (cost * REPAIR_BUDGET).min(REPAIR);
        if full {
            self.full = self.full.max(now + FULL.max(cost * FULL_BUDGET));
            self.cost = cost;
        }
        self.remind(now);
    }

    /// A sweep is over that took `cost` of processor time, was about all namespaces if `full`, and left
    /// `unsettled`.
    pub fn swept(&mut self, now: Instant, cost: Duration, unsettled: Unsettled, full: bool) {
        self.note_time(now);
        if !full {
            // A look at all namespaces, which may cost a hundred times as much, has a budget of its own.
            self.earliest = self.earliest.max(now + cost * BUDGET);
            self.partial_cost = cost.max(self.partial_cost * 7 / 8);
        }
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
        self.remind(now);
    }

    fn note_time(&mut self, now: Instant) {
        let took = now.saturating_duration_since(self.begun);
        self.took = took.max(self.took * 7 / 8);
    }

    /// What came up during a sweep is still to be done.
    fn remind(&mut self, now: Instant) {
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
    fn an_expensive_sweep_is_not_repeated_before_its_cost_is_within_the_budget() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.swept(now, Duration::from_millis(125), URGENT, true);
        assert_eq!(
            schedule.due() - now,
            FIRST * 2,
            "all of them are another budget's"
        );
        schedule.swept(now, Duration::from_millis(125), URGENT, false);
        schedule.unsettled(now + Duration::from_millis(1));
        assert_eq!(schedule.due() - now, Duration::from_millis(125) * BUDGET);
        let full = now + Duration::from_millis(125) * FULL_BUDGET;
        assert!(!schedule.is_full_due(now + Duration::from_secs(40)) && schedule.is_full_due(full));
        schedule.damaged(now);
        assert_eq!(schedule.due() - now, REPAIR);
        assert!(schedule.is_full_due(now));
    }

    /// It takes two to judge a row, and neither is a moment.
    #[test]
    fn the_bound_grows_with_the_time_that_sweeps_take() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        let settled = Unsettled::default();
        schedule.begun(now);
        schedule.swept(now, Duration::ZERO, settled, true);
        assert_eq!(schedule.settling(), FULL + REPAIR);
        let took = Duration::from_secs(2);
        schedule.begun(now);
        schedule.swept(now + took, Duration::ZERO, settled, true);
        assert_eq!(schedule.settling(), FULL + REPAIR + took * 2);
        for _ in 0..100 {
            schedule.begun(now);
            schedule.swept_besides(now, Duration::ZERO, false);
        }
        assert!(schedule.settling() < FULL + REPAIR + Duration::from_millis(1));
    }

    #[test]
    fn answers_do_not_put_off_what_is_due() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.swept(now, Duration::ZERO, URGENT, false);
        let due = schedule.due();
        for answer in 1..100 {
            let now = now + Duration::from_millis(answer);
            schedule.begun(now);
            schedule.swept_besides(now, Duration::from_millis(500), false);
            assert_eq!(schedule.due(), due);
        }
    }

    #[test]
    fn a_new_namespace_does_not_wait_for_the_budget() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.begun(now);
        schedule.swept(now, Duration::from_millis(100), URGENT, false);
        schedule.strangers(now);
        assert_eq!(schedule.due() - now, GLANCE);
        let glance = schedule.due();
        assert!(schedule.is_glance(glance));
        schedule.begun(glance);
        schedule.swept_besides(glance, Duration::from_millis(1), false);
        assert_eq!(schedule.due() - now, Duration::from_millis(100) * BUDGET);
        assert!(!schedule.is_glance(schedule.due()));
    }

    #[test]
    fn an_expensive_search_is_not_repeated_before_its_cost_is_within_the_budget() {
        let now = Instant::now();
        let cost = Duration::from_millis(500);
        let mut schedule = Schedule::new(now);
        assert_eq!(schedule.effort(now, true), Effort::Thorough);
        schedule.searched(now, cost);
        schedule.swept(now, Duration::ZERO, Unsettled::default(), true);
        assert_eq!(schedule.effort(now + FULL, true), Effort::Quick);
        schedule.missed(now + Duration::from_secs(1));
        assert_eq!(schedule.due() - now, FULL, "what is due anyway is not put off");
        let later = now + cost * SEARCH_BUDGET;
        assert_eq!(schedule.effort(later, true), Effort::IfMissing);
        assert_eq!(
            schedule.effort(now + cost * SEARCH_BUDGET * 2, true),
            Effort::Thorough
        );
        assert_eq!(
            schedule.effort(now + cost * SEARCH_BUDGET * 2, false),
            Effort::IfMissing
        );
    }

    #[test]
    fn what_is_lost_during_a_sweep_is_not_made_good_by_it() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        let settled = Unsettled::default();
        schedule.begun(now);
        schedule.damaged(now);
        schedule.swept(now, Duration::ZERO, settled, true);
        assert_eq!(schedule.due() - now, FIRST);
        assert!(schedule.is_full_due(now));
        schedule.begun(now);
        schedule.swept(now, Duration::ZERO, settled, true);
        assert_eq!(schedule.due() - now, FULL);
    }
}
