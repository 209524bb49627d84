//! Scans for holders as the engine drives them: with the sweep that seeds the table or answers a question, and by
//! themselves when they are due.

use std::time::Instant;

use super::{Core, EngineError};
use crate::{
    clock::Ktime,
    facts::HolderScan,
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
    held_back: Option<HolderScan>,
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
        self.under_way == 0
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
            Ok(scan) if self.scans.awaited.is_some_and(|since| scan.start >= since) => {
                self.scans.trouble = None;
                self.scans.held_back = Some(scan);
                self.scans.first_asked = done.first_asked;
            }
            Ok(scan) => {
                self.scans.trouble = None;
                self.table.apply_scan(scan);
            }
            Err(error) => {
                let why = error.to_string();
                if self.scans.trouble.is_none() {
                    log::warn!("cannot tell who holds the sockets: {why}");
                }
                self.scans.trouble = Some(why);
            }
        }
        let ownerless = self.table.ownerless();
        self.scans.schedule.scanned(Instant::now(), done.cost, ownerless);
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
        if let Some(scan) = self.scans.held_back.take() {
            self.table.apply_scan(scan);
        }
        self.scans.noticed(Instant::now(), self.table.ever_ownerless());
    }
}
