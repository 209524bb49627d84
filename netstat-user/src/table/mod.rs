//! The table: a pure fold of facts into rows and transitions, without I/O, clock or lock.
//!
//! Three kinds of facts come in. Events tell of each change of a full sock, in the order in which they happen
//! to that socket, and are exact in time (`events`). Where the kernel has hooks for it, news tell of minisocks
//! and request socks likewise (`news`). Sweeps tell of every socket that there is, at one moment each
//! (`sweeps`).
//!
//! A sweep is folded only after every event of its time: the caller holds it back until the sweep's fence
//! has come out of the event ring. So a sighting that is later than a row's last fact, and differs from it,
//! shows a change that no event announced; one that is earlier is out of date.

mod events;
mod holders;
mod index;
mod listeners;
mod marks;
mod missing;
mod news;
mod past;
mod row;
mod slots;
mod steps;
mod store;
mod sweeps;
mod transition;
mod vacated;

#[cfg(test)]
mod simulation;

pub use marks::ANSWER;
pub use missing::{Lost, Unshown};
pub use past::{Ended, Ending};
pub use row::{Mark, Row, Settlement, Step};
pub use slots::Place;
pub use steps::HISTORY;
pub use store::Unsettled;
pub use sweeps::{NamespaceSweep, SETTLING, SweepPart};
pub use transition::{Source, Transition};
pub use vacated::Vacated;

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use crate::{
    census::Census,
    clock::Ktime,
    connection::{Connection, Cookie, Netns, SkAddr},
    facts::StateEvent,
    reason::{Cause, of_minisock},
    sources::Coverage,
    tcp::TcpState,
};
use events::Birth;
use listeners::EndedListeners;
use news::Newborn;
use past::Past;
use store::Store;
use vacated::Recent;

/// Facts to look ahead: as many rows as a processor's first cache keeps beside everything else.
pub const AHEAD: usize = 16;

/// All TCP sockets of the host.
#[derive(Debug, Default)]
pub struct Table {
    store: Store,
    past: Past,
    /// See [`Vacated`].
    recent: Recent,
    /// Children that an older kernel announced under their listener's cookie: see [`events`].
    unborn: HashMap<SkAddr, Birth>,
    /// Rows that ended while a sweep was under way, which may still bring a sighting of them.
    departed: FxHashMap<Cookie, Ktime>,
    open_sweeps: usize,
    /// See [`Table::join`].
    joining: Option<holders::Joining>,
    /// See [`Table::judge`].
    judging: Option<missing::Judging>,
    /// Namespaces that have been swept since the sweep began.
    walks: FxHashMap<Netns, sweeps::Walk>,
    /// The number of the last walk over a namespace; 0 for none.
    last_walk: u32,
    /// What that was when the last sweep began.
    last_walk_before: u32,
    /// Minisocks whose full sock is not closed yet: see [`news`].
    newborn: FxHashMap<Cookie, Newborn>,
    /// Ends whose reason depends on what follows: see [`marks`].
    waiting: FxHashMap<Cookie, StateEvent>,
    /// Namespaces that have been swept, and since when: a socket that turns up there later is new.
    swept: FxHashMap<Netns, Ktime>,
    ended_listeners: EndedListeners,
    /// See [`Table::unannounced`].
    unannounced: u64,
}

impl Table {
    /// An empty table, for a kernel that announces what `coverage` says.
    #[must_use]
    pub fn new(coverage: Coverage) -> Self {
        Self {
            store: Store::new(coverage),
            ..Self::default()
        }
    }

    /// The same, with so many bytes for the histories of connections that have ended.
    #[must_use]
    pub fn remembering(coverage: Coverage, bytes: usize) -> Self {
        Self {
            past: Past::new(bytes),
            ..Self::new(coverage)
        }
    }

    /// What the kernel announces.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.store.coverage()
    }

    /// Looks at the rows of sockets of which facts are about to be folded, at most [`AHEAD`] at a time, so that the
    /// processor has them brought from memory side by side: with a million rows, that is what folding waits for.
    pub fn look_ahead(&self, cookies: impl IntoIterator<Item = Cookie>) {
        /// So many rows fit into the cache.
        const FEW: usize = 1 << 13;
        if self.len() > FEW {
            for cookie in cookies {
                std::hint::black_box(self.store.get(cookie).map(Row::glance));
            }
        }
    }

    /// The row of a socket.
    #[must_use]
    pub fn get(&self, cookie: Cookie) -> Option<&Row> {
        self.store.get(cookie)
    }

    /// The number of connections that have ended so far: where [`Table::ended_before`] begins.
    #[must_use]
    pub fn ended_until(&self) -> u64 {
        self.past.next()
    }

    /// So many of the connections that have ended before the one with number `until`, the latest first, and where to
    /// go on if there are more: to walk them in parts while the table changes in between.
    pub fn ended_before(&self, until: u64, count: usize) -> (impl Iterator<Item = &Ended>, Option<u64>) {
        self.past.before(until, count)
    }

    /// How many those are, and how many bytes they take.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        self.past.size()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.store.rows().map(|(_, row)| row)
    }

    /// The rows in places `from..from + count`, to walk the table in parts while it changes in between; no
    /// row appears twice. `None` behind the last place.
    #[must_use]
    pub fn part(&self, from: usize, count: usize) -> Option<impl Iterator<Item = &Row>> {
        Some(self.placed(from, count)?.map(|(_, row)| row))
    }

    /// As [`Table::part`], with the places, by which the rows are found again.
    #[must_use]
    pub fn placed(&self, from: usize, count: usize) -> Option<impl Iterator<Item = (Place, &Row)>> {
        self.store.part(from, count)
    }

    /// The row in a place; by now it may be another one.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Row> {
        self.store.at(place)
    }

    /// How many rows are in each state, by [`TcpState::index`].
    #[must_use]
    pub fn by_state(&self) -> [usize; TcpState::ALL.len()] {
        self.store.by_state()
    }

    /// What waits for a sweep.
    #[must_use]
    pub fn unsettled(&self) -> Unsettled {
        self.store.unsettled()
    }

    /// How many rows have ever come to lack the owner that they must have: more of them, and a scan is needed.
    #[must_use]
    pub fn ever_ownerless(&self) -> u64 {
        self.store.ever_ownerless()
    }

    /// How many rows lack the owner that they must have.
    #[must_use]
    pub fn ownerless(&self) -> usize {
        self.store.ownerless()
    }

    /// How many changes of full socks were found by sweeps alone. Each should have been an event: it was lost, or the
    /// kernel did not run the program (`docs/kernel.md`).
    #[must_use]
    pub fn unannounced(&self) -> u64 {
        self.unannounced
    }

    /// The namespaces that have rows.
    pub fn namespaces(&self) -> impl Iterator<Item = Netns> {
        self.store.namespaces()
    }

    /// How many rows a namespace has.
    #[must_use]
    pub fn rows_in(&self, netns: Netns) -> usize {
        self.store.rows_in(netns)
    }

    /// What the kernel counts in a namespace if it has what the table has, and nothing else.
    #[must_use]
    pub fn census(&self, netns: Netns) -> Census {
        self.store.census(netns)
    }

    /// The namespaces in which something waits for a sweep.
    pub fn unsettled_namespaces(&self) -> impl Iterator<Item = Netns> {
        let births = self.unborn.values().map(|birth| birth.netns);
        self.store.unsettled_namespaces().chain(births)
    }

    /// Ends a row: reports its last step and forgets it.
    fn end(&mut self, place: Place, step: End, out: &mut Vec<Transition>) {
        let Some(mut row) = self.store.remove(place) else {
            return;
        };
        let cause = match step.cause {
            Cause::Unknown if row.was_reset() => Cause::ResetByPeer,
            cause => cause,
        };
        let reason = of_minisock(row.state, row.form, cause, row.closed_by());
        let transition = Transition {
            reason,
            earliest: step.earliest,
            ..transition(&row, step.time, Some(row.state), TcpState::Close, step.source)
        };
        out.push(transition);
        let last = Step {
            time: step.time,
            from: Some(row.state),
            to: TcpState::Close,
            source: step.source,
        };
        row.enter(last, false);
        let ending = Ending {
            time: step.time,
            source: step.source,
            earliest: step.earliest,
            reason,
        };
        self.bury(row, ending);
    }

    /// Remembers a row that has ended: for those who ask, and while a sighting of it can still come.
    fn bury(&mut self, row: Row, ending: Ending) {
        if self.open_sweeps > 0 {
            self.departed.insert(row.connection.cookie, ending.time);
        }
        self.recent.note(row.connection.tuple());
        self.past.keep(row, ending);
    }
}

/// How a row ends that no event of its own ends.
#[derive(Clone, Copy)]
struct End {
    time: Ktime,
    source: Source,
    cause: Cause,
    /// As [`Transition::earliest`].
    earliest: Option<Ktime>,
}

/// A transition of `row` out of `from`, timed if `from` is the state that the row knows of.
fn transition(row: &Row, time: Ktime, from: Option<TcpState>, to: TcpState, source: Source) -> Transition {
    let timed = from == Some(row.state) && row.state != TcpState::Close;
    Transition {
        connection: row.connection,
        time,
        from,
        to,
        in_state: timed.then(|| time.since(row.since)),
        at_least: timed && row.at_least(),
        source,
        earliest: None,
        reason: None,
        owner: row.owner(),
        uid: row.uid(),
        cgroup: row.cgroup(),
        fwmark: row.fwmark(),
    }
}

/// Whether two descriptions are of one connection, the ends that are still missing aside.
fn same_ends(known: &Connection, seen: &Connection) -> bool {
    let mut completed = *known;
    completed.complete(seen);
    completed.local == seen.local && completed.remote == seen.remote
}
