//! Scans for holders as the engine drives them: with the sweep that seeds the table or answers a question, and by
//! themselves when they are due.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Core, EngineError, PART};
use crate::{
    clock::Ktime,
    facts::HolderIndex,
    processes,
    scan_schedule::ScanSchedule,
    sweeper::{Job, ScanDone},
    view::Unseen,
};

/// The engine's scans.
#[derive(Debug)]
pub(super) struct Scans {
    schedule: ScanSchedule,
    /// How many have been asked for and are not over.
    under_way: u32,
    /// A scan that began with the sweep under way, and is folded after it: what the sweep tells of MPTCP joins the
    /// holders to their sockets.
    held_back: Option<(HolderIndex, Duration)>,
    /// Those that the rows are to get, and the processor time that they took.
    waiting: VecDeque<(HolderIndex, Duration)>,
    /// The processor time of the one that the rows are getting.
    joining: Option<Duration>,
    /// That scan has asked for the cookie of an MPTCP socket as the first.
    first_asked: bool,
    /// The sweep under way waits for a scan, which begins after this.
    awaited: Option<Ktime>,
    /// Why the last one came to nothing.
    trouble: Option<String>,
}

impl Scans {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            schedule: ScanSchedule::new(now),
            under_way: 0,
            held_back: None,
            waiting: VecDeque::new(),
            joining: None,
            first_asked: false,
            awaited: None,
            trouble: None,
        }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Instant {
        self.schedule.due()
    }

    pub(super) fn idle(&self) -> bool {
        self.under_way == 0 && self.has_joined()
    }

    /// Whether the rows have all that scans have found.
    pub(super) fn has_joined(&self) -> bool {
        self.joining.is_none() && self.waiting.is_empty()
    }

    /// Whether there are rows to be given what a scan has found.
    pub(super) fn can_go_on(&self) -> bool {
        !self.has_joined()
    }

    fn begun(&mut self) {
        self.under_way += 1;
        self.schedule.begun(Instant::now());
    }

    /// Events or sightings have been folded, and left so many rows that ever came to lack an owner.
    pub(super) fn noticed(&mut self, now: Instant, ever_ownerless: u64) {
        self.schedule.noticed(now, ever_ownerless);
    }
}

impl Core {
    /// Has all open files scanned.
    pub(super) fn start_scan(&mut self) -> Result<(), EngineError> {
        self.scans.begun();
        self.jobs.send(Job::Holders).map_err(|_| EngineError::SweeperGone)
    }

    /// A scan is about to begin with a sweep, to be folded with it.
    pub(super) fn expect_scan(&mut self) {
        self.scans.awaited = Some(Ktime::now());
        self.scans.begun();
    }

    pub(super) fn scan_done(&mut self, done: ScanDone) {
        self.scans.under_way = self.scans.under_way.saturating_sub(1);
        match done.found {
            Ok(scan) if self.scans.awaited.is_some_and(|since| scan.start() >= since) => {
                self.scans.trouble = None;
                self.scans.held_back = Some((scan, done.cost));
                self.scans.first_asked = done.first_asked;
            }
            Ok(scan) => {
                self.scans.trouble = None;
                self.scans.waiting.push_back((scan, done.cost));
            }
            Err(error) => {
                let why = error.to_string();
                if self.scans.trouble.is_none() {
                    log::warn!("cannot find the processes that hold the sockets: {why}");
                }
                self.scans.trouble = Some(why);
                self.scanned(done.cost);
            }
        }
    }

    fn scanned(&mut self, cost: Duration) {
        let ownerless = self.table.ownerless();
        self.scans.schedule.scanned(Instant::now(), cost, ownerless);
    }

    /// Gives some more rows what a scan has found.
    pub(super) fn go_on_joining(&mut self) {
        if self.scans.joining.is_none()
            && let Some((scan, cost)) = self.scans.waiting.pop_front()
        {
            self.table.begin_joining(scan);
            self.scans.joining = Some(cost);
        }
        if self.scans.joining.is_some()
            && !self.table.join(PART)
            && let Some(cost) = self.scans.joining.take()
        {
            self.scanned(cost);
            self.scans.noticed(Instant::now(), self.table.ever_ownerless());
        }
    }

    /// Why owners may be missing.
    pub(super) fn unseen(&self) -> Option<Unseen> {
        let refused = self.scans.trouble.clone().map(Unseen::Files);
        refused.or_else(|| (!processes::all_visible()).then_some(Unseen::Processes))
    }

    /// Whether the scan that was held back has asked for cookies by which the sweep beside it could not join MPTCP to its
    /// holders.
    pub(super) fn came_late(&self) -> bool {
        self.scans.held_back.is_some() && self.scans.first_asked
    }

    /// The sweep is over that a scan was held back for.
    pub(super) fn fold_held_back(&mut self) {
        self.scans.awaited = None;
        self.scans.waiting.extend(self.scans.held_back.take());
    }
}
