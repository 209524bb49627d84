//! What sweeps should have found and have not: rows that end without an event, and those of namespaces that are gone.

use std::{ops::Range, time::Duration};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{
    End, SETTLING, Table,
    row::Row,
    slots::Place,
    sweeps::Walk,
    transition::{Source, Transition},
};
use crate::{clock::Ktime, connection::Netns, facts::Form, reason::Cause, sources::Coverage, tcp::TcpState};

/// No full sock that nobody holds lasts longer without a change: its FIN is sent eight times at most, unless
/// `tcp_orphan_retries` says more, with at most two minutes in between (`tcp_orphan_retries()`, `TCP_RTO_MAX`).
const ORPHAN: Duration = Duration::from_mins(20);

/// `TCP_TIMEWAIT_LEN`: no minisock outlives it without a segment that renews it.
const TIME_WAIT_LENGTH: Duration = Duration::from_mins(1);

/// A full sock whose minisock was hashed this long ago and that is not closed yet never will be: its event is lost.
/// `tcp_time_wait` does both in a moment, if nobody takes the processor away from it.
const NEWBORN: Duration = Duration::from_secs(10);

/// A child that an older kernel has announced under its listener's cookie, and that no event or sweep has shown for this
/// long, is gone, and the event lost: longer than a handshake can take (`tcp_synack_retries`, 5 of them: 63 s).
const UNBORN: Duration = Duration::from_mins(2);

/// A namespace that was looked for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Which.
    pub netns: Netns,
    /// The search went everywhere, so nothing can keep the namespace but sockets that nobody holds.
    pub nowhere: bool,
}

/// The rows that a sweep has not shown, by their places: it has passed over them, they have come too late for it, or it
/// did not go where they are.
///
/// A row may end after that, and another one take its place. It has not been told either, because no row moves.
#[derive(Debug, Clone, Default)]
pub struct Unshown(Vec<Place>);

/// The judgement of the rows that a scan has not shown, which goes over all rows in parts.
#[derive(Debug)]
pub(super) struct Judging {
    start: Ktime,
    end: Ktime,
    coverage: Coverage,
    walks: FxHashMap<Netns, Walk>,
    /// The namespaces that were looked for without success, and whether something keeps each of them.
    absent: FxHashMap<Netns, bool>,
    stage: Stage,
    unshown: Vec<Place>,
}

impl From<Vec<Place>> for Unshown {
    fn from(places: Vec<Place>) -> Self {
        Self(places)
    }
}

impl Unshown {
    /// Each of these places once, if it is not among `others`, which come in the order of their places.
    #[must_use]
    pub fn without(mut self, others: &Self) -> Self {
        let number = |place: &Place| place.0;
        self.0.sort_unstable_by_key(number);
        self.0.dedup();
        self.0
            .retain(|place| others.0.binary_search_by_key(&place.0, number).is_err());
        self
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is gone over next, from which place on.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Full socks, which keep a namespace.
    Keepers(usize),
    /// Rows that no scan has shown.
    Unshown(usize),
}

impl Table {
    /// Those of `unshown` in `from..from + count`, as they are by now. `None` behind the last one.
    #[must_use]
    pub fn unshown_part(
        &self,
        unshown: &Unshown,
        from: usize,
        count: usize,
    ) -> Option<impl Iterator<Item = &Row>> {
        let end = unshown.0.len().min(from.saturating_add(count));
        let places = unshown.0.get(from..end).filter(|places| !places.is_empty())?;
        Some(places.iter().filter_map(|place| self.store.at(*place)))
    }

    /// Says that a sweep is over, and which namespaces were looked for in vain: rows that it should have found
    /// and has not are missed. Returns the rows that it has not shown and that are left.
    pub fn end_sweep(
        &mut self,
        lost: &[Lost],
        start: Ktime,
        end: Ktime,
        out: &mut Vec<Transition>,
    ) -> Unshown {
        self.begin_judging(lost, start, end, out);
        loop {
            if let Some(unshown) = self.judge(usize::MAX, out) {
                return unshown;
            }
        }
    }

    /// The same, but the rows are judged by [`judge`](Self::judge), while other facts are applied in between.
    ///
    /// A namespace that is nowhere may live on by its sockets: a full sock keeps it, until an event says that the
    /// sock has ended, or so long has passed that the event must be lost. A minisock does not, and ends with its
    /// namespace (`inet_twsk_purge`); while full socks keep that, nobody can look, and minisocks are taken to last as
    /// long as they can.
    pub fn begin_judging(&mut self, lost: &[Lost], start: Ktime, end: Ktime, out: &mut Vec<Transition>) {
        self.release(start, out);
        self.unborn.retain(|_, birth| birth.time.plus(UNBORN) >= start);
        self.newborn
            .retain(|_, newborn| newborn.hashed.plus(NEWBORN) >= start);
        for Lost { netns, .. } in lost {
            // The number of a namespace that is gone may be given to a new one.
            self.swept.remove(netns);
        }
        let absent: FxHashMap<_, _> = lost.iter().map(|lost| (lost.netns, !lost.nowhere)).collect();
        self.judging = Some(Judging {
            start,
            end,
            coverage: self.coverage(),
            walks: std::mem::take(&mut self.walks),
            stage: if absent.is_empty() {
                Stage::Unshown(0)
            } else {
                Stage::Keepers(0)
            },
            absent,
            unshown: Vec::new(),
        });
    }

    /// Judges the rows in so many places more. When all are judged, returns those that the scan has not shown and that
    /// are left; rows that have come meanwhile may not be among them.
    pub fn judge(&mut self, count: usize, out: &mut Vec<Transition>) -> Option<Unshown> {
        let Some(mut judging) = self.judging.take() else {
            return Some(Unshown::default());
        };
        let next = match judging.stage {
            Stage::Keepers(from) => match self.store.part(from, count) {
                Some(part) => {
                    judging.find_keepers(part.map(|(_, row)| row));
                    Stage::Keepers(from.saturating_add(count))
                }
                None => Stage::Unshown(0),
            },
            Stage::Unshown(from) if from < self.store.end() => {
                self.judge_unshown(&mut judging, from..from.saturating_add(count), out);
                Stage::Unshown(from.saturating_add(count))
            }
            Stage::Unshown(_) => {
                self.close_sweep();
                return Some(Unshown(judging.unshown));
            }
        };
        judging.stage = next;
        self.judging = Some(judging);
        None
    }

    fn judge_unshown(&mut self, judging: &mut Judging, places: Range<usize>, out: &mut Vec<Transition>) {
        let walks = (self.last_walk_before, self.last_walk);
        let unshown = self.store.unshown(places, walks);
        let judged = unshown.map(|(place, row)| (place, row.last_fact, judging.verdict(row)));
        for (place, last_fact, verdict) in judged.collect::<Vec<_>>() {
            match verdict {
                Some(missed) if last_fact.plus(SETTLING) < missed.start => self.miss(place, missed, out),
                Some(_) => drop(self.store.change(place, Row::miss)),
                None => {}
            }
            if self.store.at(place).is_some() {
                judging.unshown.push(place);
            }
        }
    }

    /// A row that a sweep should have found and has not. Kernels before 6.17 can pass over a socket when a hash
    /// chain changes between two reads, and a search for namespaces can pass over one that is handed from process
    /// to process; so it takes two to end a row that may still be there.
    fn miss(&mut self, place: Place, Missed { start, end, cause }: Missed, out: &mut Vec<Transition>) {
        let gone = self.store.change(place, |row| {
            let gone = row.miss() || is_expected_to_end(row, start);
            gone.then_some((row.last_fact, row.form, row.is_due(end)))
        });
        if let Some((last_fact, form, due)) = gone.flatten() {
            // Its time was over since it was seen last. A RST or data in that same second would look the same.
            let cause = match cause {
                Cause::Unknown if due => Cause::Expired,
                cause => cause,
            };
            self.unannounced += u64::from(form == Form::Full);
            let end = End {
                time: end,
                source: Source::Sweep,
                cause,
                earliest: Some(last_fact),
            };
            self.end(place, end, out);
        }
    }
}

/// A row that was not found where it should be, by a scan of this time.
struct Missed {
    start: Ktime,
    end: Ktime,
    /// What has ended it, if it has ended.
    cause: Cause,
}

impl Judging {
    /// Notes which of the absent namespaces these rows keep.
    fn find_keepers<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) {
        let start = self.start;
        for row in rows.filter(|row| row.form == Form::Full && !is_spent(row, start)) {
            if let Some(alive) = self.absent.get_mut(&row.connection.netns) {
                *alive = true;
            }
        }
    }

    /// Whether a row that no scan has shown is missed.
    fn verdict(&self, row: &Row) -> Option<Missed> {
        let missed = self.whether_shown(row)?;
        let late =
            row.last_fact.plus(SETTLING) < missed.start || is_doubted(row, missed.start, self.coverage);
        late.then_some(missed)
    }

    fn whether_shown(&self, row: &Row) -> Option<Missed> {
        let netns = row.connection.netns;
        let cause = Cause::Unknown;
        if let Some(&Walk { start, end }) = self.walks.get(&netns) {
            return Some(Missed { start, end, cause });
        }
        let alive = *self.absent.get(&netns)?;
        let (start, end) = (self.start, self.end);
        let expired = match row.form {
            Form::Full => is_spent(row, start),
            Form::Minisock | Form::Request => row.since.plus(TIME_WAIT_LENGTH) <= start || !alive,
        };
        let cause = if alive { cause } else { Cause::Namespace };
        expired.then_some(Missed { start, end, cause })
    }
}

/// Whether a full sock must have ended, whatever events have told: nobody holds it, and it has sent its FIN for as long
/// as the kernel lets one.
fn is_spent(row: &Row, now: Ktime) -> bool {
    row.form == Form::Full
        && matches!(
            row.state,
            TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck
        )
        && !row.is_held()
        && row.last_fact.plus(ORPHAN) <= now
}

/// Whether a row that a scan did not find is hidden from answers already, though it is too young to be judged. The scan
/// began after the row's last fact, and the sock was in the hash by then, or never came there:
///
/// - a minisock that was only assumed: the kernel makes it before it announces what it is assumed by (`tcp_time_wait`), if
///   there was room for it (`tcp_max_tw_buckets`);
/// - a request sock or a minisock whose end is not announced, and that has been seen: its timer has ended it.
fn is_doubted(row: &Row, start: Ktime, coverage: Coverage) -> bool {
    let ends_unannounced = match row.form {
        Form::Full => false,
        Form::Minisock => !row.confirmed() || !coverage.minisocks,
        Form::Request => !coverage.requests,
    };
    ends_unannounced && row.last_fact < start
}

/// Whether a row that a sweep did not find was due to end: a minisock that was only assumed, or is old enough.
fn is_expected_to_end(row: &Row, now: Ktime) -> bool {
    let minisock = row.form == Form::Minisock;
    // FIN_WAIT2 lasts as long as `tcp_fin_timeout` says, which may be anything, or until data or a RST come.
    let due = row.state == TcpState::FinWait2 || row.since.plus(TIME_WAIT_LENGTH) <= now;
    minisock && (!row.confirmed() || due)
}
