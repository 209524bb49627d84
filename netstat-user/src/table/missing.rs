//! What sweeps should have found and have not: rows that end without an event, and those of namespaces that are gone.

use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{
    End, SETTLING, Table,
    row::Row,
    slots::Place,
    transition::{Source, Transition},
};
use crate::{clock::Ktime, connection::Netns, facts::Form, reason::Cause, tcp::TcpState};

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

impl Table {
    /// The rows that [`Table::show_part`] has not shown since the last sweep began.
    #[must_use]
    pub fn unshown(&self) -> Unshown {
        let unshown = self.store.unshown(self.last_walk_before, self.last_walk);
        Unshown(unshown.map(|(place, _)| place).collect())
    }

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
    /// and has not are missed.
    ///
    /// A namespace that is nowhere may live on by its sockets: a full sock keeps it, until an event says that the
    /// sock has ended, or so long has passed that the event must be lost. A minisock does not, and ends with its
    /// namespace (`inet_twsk_purge`); while full socks keep that, nobody can look, and minisocks are taken to last as
    /// long as they can.
    pub fn end_sweep(&mut self, lost: &[Lost], start: Ktime, end: Ktime, out: &mut Vec<Transition>) {
        self.release(start, out);
        self.unborn.retain(|_, birth| birth.time.plus(UNBORN) >= start);
        self.newborn
            .retain(|_, newborn| newborn.hashed.plus(NEWBORN) >= start);
        let walks = std::mem::take(&mut self.walks);
        let mut closed: FxHashMap<Netns, bool> =
            lost.iter().map(|lost| (lost.netns, !lost.nowhere)).collect();
        for Lost { netns, .. } in lost {
            // The number of a namespace that is gone may be given to a new one.
            self.swept.remove(netns);
        }
        if !closed.is_empty() {
            let full = |row: &Row| row.form == Form::Full && !is_spent(row, start);
            for (_, row) in self.store.rows().filter(|(_, row)| full(row)) {
                closed
                    .entry(row.connection.netns)
                    .and_modify(|alive| *alive = true);
            }
        }
        // Of a row that no walk has shown.
        let missed = |row: &Row| {
            let netns = row.connection.netns;
            if let Some(walk) = walks.get(&netns) {
                return Some((walk.start, walk.end, Cause::Unknown));
            }
            let alive = *closed.get(&netns)?;
            let expired = match row.form {
                Form::Full => is_spent(row, start),
                Form::Minisock | Form::Request => row.since.plus(TIME_WAIT_LENGTH) <= start || !alive,
            };
            let cause = if alive { Cause::Unknown } else { Cause::Namespace };
            expired.then_some((start, end, cause))
        };
        let unshown = self.store.unshown(self.last_walk_before, self.last_walk);
        let missed: Vec<_> = unshown
            .filter_map(|(place, row)| Some((place, row, missed(row)?)))
            .filter(|(_, row, (start, ..))| row.last_fact.plus(SETTLING) < *start || is_doubted(row, *start))
            .map(|(place, row, time)| (place, row.last_fact, time))
            .collect();
        for (place, last_fact, (start, end, cause)) in missed {
            if last_fact.plus(SETTLING) < start {
                self.miss(place, (start, end), cause, out);
            } else {
                self.store.change(place, |row| row.missed = row.missed.max(1));
            }
        }
        self.close_sweep();
    }

    /// A row that a sweep should have found and has not. Kernels before 6.17 can pass over a socket when a hash
    /// chain changes between two reads, and a search for namespaces can pass over one that is handed from process
    /// to process; so it takes two to end a row that may still be there.
    fn miss(&mut self, place: Place, (start, end): (Ktime, Ktime), cause: Cause, out: &mut Vec<Transition>) {
        let gone = self.store.change(place, |row| {
            row.missed = row.missed.saturating_add(1);
            let gone = row.missed > 1 || is_expected_to_end(row, start);
            gone.then_some((row.last_fact, row.form))
        });
        if let Some((last_fact, form)) = gone.flatten() {
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

/// Whether a row that a sweep did not find is hidden from answers already, though it is too young to be judged: a minisock
/// that was only assumed. The kernel makes it before it announces what it is assumed by (`tcp_time_wait`), so a sweep
/// that began later sees it, if there was room for it (`tcp_max_tw_buckets`).
fn is_doubted(row: &Row, start: Ktime) -> bool {
    row.form == Form::Minisock && !row.confirmed() && row.last_fact < start
}

/// Whether a row that a sweep did not find was due to end: a minisock that was only assumed, or is old enough.
fn is_expected_to_end(row: &Row, now: Ktime) -> bool {
    let minisock = row.form == Form::Minisock;
    // FIN_WAIT2 lasts as long as `tcp_fin_timeout` says, which may be anything, or until data or a RST come.
    let due = row.state == TcpState::FinWait2 || row.since.plus(TIME_WAIT_LENGTH) <= now;
    minisock && (!row.confirmed() || due)
}
