//! Ends that change hands while an answer is made: the kernel gives a new connection those of a minisock, which the answer may
//! have told of.

use std::{collections::HashSet, time::Duration};

use foldhash::quality::RandomState;

use super::{Table, row::Row};
use crate::{clock::Ktime, connection::Tuple};

/// How long the kernel can take to choose a port for a connection that it has announced, among thousands that are taken.
const CONNECTING: Duration = Duration::from_secs(1);

/// The ends of connections that have ended since some time.
#[derive(Debug, Clone, Default)]
pub struct Vacated {
    since: Ktime,
    /// The number of the next connection that ends.
    next: u64,
    /// Ends come from the network: hashed with a secret.
    ends: HashSet<Tuple, RandomState>,
}

impl Vacated {
    /// None so far; from now on, which is `now`, those that end in `table`.
    #[must_use]
    pub fn from_now_on(table: &Table, now: Ktime) -> Self {
        Self {
            since: now,
            next: table.ended_until(),
            ends: HashSet::default(),
        }
    }

    /// Whether a row of `table` has one of them: another connection had it before.
    pub fn has(&mut self, row: &Row, table: &Table) -> bool {
        if !row.has_moved_soon_after_it_began(self.since, CONNECTING) {
            return false;
        }
        let ended = table.ended_since(self.next);
        self.ends
            .extend(ended.filter_map(|ended| ended.row.connection.tuple()));
        self.next = table.ended_until();
        row.connection
            .tuple()
            .is_some_and(|ends| self.ends.contains(&ends))
    }
}
