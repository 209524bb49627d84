//! Ends that change hands while an answer is made: the kernel gives a new connection those of a minisock, which the answer may
//! have told of.

use std::{
    collections::VecDeque,
    hash::BuildHasher,
    sync::{Arc, Weak},
    time::Duration,
};

use foldhash::quality::RandomState;
use rustc_hash::FxHashSet;

use super::{Table, row::Row};
use crate::{clock::Ktime, connection::Tuple};

/// How long the kernel can take to choose a port for a connection that it has announced, among thousands that are taken.
const CONNECTING: Duration = Duration::from_secs(1);

/// Ends that are remembered at most: 2 MiB, and less than 10 MiB for each answer under way.
const MOST: usize = 1 << 18;

/// As many are kept before it is checked whether anybody still needs them.
const FEW: usize = 1024;

/// The ends of connections that have ended since some time.
#[derive(Debug, Clone, Default)]
pub struct Vacated {
    since: Ktime,
    /// The number of the next connection that ends.
    next: u64,
    ends: FxHashSet<u64>,
    /// More have ended than are remembered.
    incomplete: bool,
    /// Keeps [`Recent`] remembering.
    _guard: Arc<()>,
}

impl Vacated {
    /// None so far; from now on, which is `now`, those that end in `table`.
    #[must_use]
    pub fn from_now_on(table: &mut Table, now: Ktime) -> Self {
        let guard = Arc::new(());
        Self {
            since: now,
            next: table.recent.guard(&guard),
            ends: FxHashSet::default(),
            incomplete: false,
            _guard: guard,
        }
    }

    /// Whether a row of `table` has one of them: another connection had it before. Where too many have ended, every row that has
    /// begun lately counts as one.
    pub fn has(&mut self, row: &Row, table: &Table) -> bool {
        if !row.has_moved_soon_after_it_began(self.since, CONNECTING) {
            return false;
        }
        let recent = &table.recent;
        self.incomplete |= self.next < recent.first || self.ends.len() >= MOST;
        if self.incomplete {
            self.ends = FxHashSet::default();
            return true;
        }
        self.ends.extend(recent.since(self.next));
        self.next = recent.next();
        let ends = row.connection.tuple();
        ends.is_some_and(|ends| self.ends.contains(&recent.hash(&ends)))
    }
}

/// The ends of the connections that have ended last, hashed; as long as a [`Vacated`] needs them.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Oldest first.
    ends: VecDeque<u64>,
    /// The number of the oldest.
    first: u64,
    /// Who needs them, each with the first number.
    guards: Vec<(u64, Weak<()>)>,
    /// At so many it is checked whether anybody still needs them.
    check_at: usize,
    /// Ends come from the network: hashed with a secret.
    secret: RandomState,
}

impl Recent {
    /// Notes that a connection with these ends has ended.
    pub(super) fn note(&mut self, ends: Option<Tuple>) {
        if self.guards.is_empty() {
            return;
        }
        if self.ends.len() >= self.check_at {
            self.forget();
        }
        if let Some(ends) = ends {
            let hash = self.hash(&ends);
            self.ends.push_back(hash);
        }
    }

    /// Forgets what nobody needs, and the oldest if there are too many.
    fn forget(&mut self) {
        self.guards.retain(|(_, guard)| guard.strong_count() > 0);
        let needed = self.guards.iter().map(|(from, _)| *from).min();
        let unneeded = needed.unwrap_or_else(|| self.next()).saturating_sub(self.first);
        let excess = self.ends.len().saturating_sub(MOST / 2);
        let excess = if self.ends.len() >= MOST { excess } else { 0 };
        let gone = usize::try_from(unneeded).unwrap_or(usize::MAX).max(excess);
        let gone = gone.min(self.ends.len());
        self.ends.drain(..gone);
        self.first += gone as u64;
        if self.guards.is_empty() {
            self.ends = VecDeque::new();
        }
        self.check_at = (2 * self.ends.len()).clamp(FEW, MOST);
    }

    /// Remembers ends as long as `guard` is there. Returns the number of the next one.
    fn guard(&mut self, guard: &Arc<()>) -> u64 {
        self.forget();
        let next = self.next();
        self.guards.push((next, Arc::downgrade(guard)));
        next
    }

    fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// Those from this number on.
    fn since(&self, number: u64) -> impl Iterator<Item = u64> {
        let start = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.ends.range(start.min(self.ends.len())..).copied()
    }

    fn hash(&self, ends: &Tuple) -> u64 {
        self.secret.hash_one(ends)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        connection::{Connection, Cookie, Endpoint, Family, Netns},
        reason::Cause,
        table::row::Step,
        table::{End, Source},
        tcp::TcpState::{Close, Established},
    };

    fn connection(cookie: u64, port: u16) -> Connection {
        let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        Connection {
            cookie: Cookie(cookie),
            netns: Netns(1),
            family: Family::Inet,
            local: end(port),
            remote: end(80),
            device: None,
            mptcp: false,
        }
    }

    /// A connection that begins and moves at `time`.
    fn row(cookie: u64, port: u16, time: u64) -> Row {
        let mut row = Row::begun(connection(cookie, port), Close, Ktime(time));
        let step = Step {
            time: Ktime(time),
            from: Some(Close),
            to: Established,
            source: Source::Event,
        };
        row.enter(step, false);
        row
    }

    fn live_and_end(table: &mut Table, cookie: u64, port: u16, time: u64) {
        let place = table.store.insert(row(cookie, port, time));
        let end = End {
            time: Ktime(time),
            source: Source::Event,
            cause: Cause::Unknown,
            earliest: None,
        };
        table.end(place, end, &mut Vec::new());
    }

    /// A table without a history, as with `--history 0`.
    #[test]
    fn what_has_ended_is_known_without_a_history() {
        let mut table = Table::default();
        live_and_end(&mut table, 1, 1000, 10);
        let mut vacated = Vacated::from_now_on(&mut table, Ktime(20));
        live_and_end(&mut table, 2, 2000, 30);
        assert_eq!(table.remembered().0, 0);
        for (port, has) in [(1000, false), (2000, true), (3000, false)] {
            assert_eq!(vacated.has(&row(3, port, 40), &table), has, "{port}");
        }
        // It had its ends already when the answer was begun.
        assert!(!vacated.has(&row(3, 2000, 15), &table));
    }

    #[test]
    fn where_too_many_have_ended_every_young_connection_counts() {
        let mut table = Table::default();
        let mut vacated = Vacated::from_now_on(&mut table, Ktime(20));
        for number in 0..=MOST as u64 {
            let port = u16::try_from(1 + number % 1000).unwrap();
            table.recent.note(connection(number, port).tuple());
        }
        assert!(table.recent.ends.len() <= MOST);
        assert!(vacated.has(&row(3, 2000, 40), &table));
        assert!(!vacated.has(&row(3, 2000, 15), &table));
    }

    proptest! {
        /// Each answer has what ended since it was begun, and nothing is kept for those that are over.
        #[test]
        fn each_has_what_has_ended_since_it_was_begun(ops in prop::collection::vec(0..40_u16, 0..300)) {
            let mut table = Table::default();
            let mut open: VecDeque<(Vacated, Vec<u16>)> = VecDeque::new();
            for op in ops {
                match op {
                    0 => open.push_back((Vacated::from_now_on(&mut table, Ktime(1)), Vec::new())),
                    1 => drop(open.pop_front()),
                    port => {
                        table.recent.note(connection(1, port).tuple());
                        for (vacated, ended) in &mut open {
                            ended.push(port);
                            for asked in [port, port + 1] {
                                let has = vacated.has(&row(1, asked, 2), &table);
                                prop_assert_eq!(has, ended.contains(&asked));
                            }
                        }
                    }
                }
            }
            let needed = open.front().map_or(0, |(_, ended)| ended.len());
            table.recent.forget();
            prop_assert_eq!(table.recent.ends.len(), needed);
        }
    }
}
