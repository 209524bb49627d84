//! The rows, and what is counted and found by them.

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::row::{Key, Row, Settlement};
use crate::{
    connection::{Cookie, Netns, Tuple},
    facts::Form,
    sources::Coverage,
    tcp::TcpState,
};

/// What waits for a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unsettled {
    /// Rows of which something is missing now.
    pub urgent: usize,
    /// Rows that will change without announcement.
    pub lingering: usize,
}

/// What is counted of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Population {
    rows: usize,
    unsettled: usize,
}

/// Rows by place, cookie and, for minisocks, by their ends; with counts kept as they change.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: Slab<Row>,
    places: FxHashMap<Key, usize>,
    /// Minisocks whose sockets have been used again, by the cookie that they share with those.
    left: FxHashMap<Cookie, Vec<Key>>,
    next_left: u64,
    /// Ends come from the network: hashed with a secret, unlike cookies, which the kernel deals out.
    minisocks: HashMap<Tuple, Key>,
    namespaces: FxHashMap<Netns, Population>,
    by_state: [usize; TcpState::ALL.len()],
    unsettled: Unsettled,
    coverage: Coverage,
}

impl Store {
    pub(super) fn new(coverage: Coverage) -> Self {
        Self {
            coverage,
            ..Self::default()
        }
    }

    pub(super) fn coverage(&self) -> Coverage {
        self.coverage
    }

    pub(super) fn get(&self, cookie: Cookie) -> Option<&Row> {
        self.at(Key::Socket(cookie))
    }

    fn at(&self, key: Key) -> Option<&Row> {
        self.rows.get(*self.places.get(&key)?)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().map(|(_, row)| row)
    }

    pub(super) fn part(&self, from: usize, count: usize) -> Option<impl Iterator<Item = &Row>> {
        // A slab's capacity bounds its keys.
        let end = self.rows.capacity().min(from.saturating_add(count));
        (from < end).then(|| (from..end).filter_map(|place| self.rows.get(place)))
    }

    pub(super) fn by_state(&self) -> [usize; TcpState::ALL.len()] {
        self.by_state
    }

    pub(super) fn unsettled(&self) -> Unsettled {
        self.unsettled
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = Netns> {
        self.namespaces.keys().copied()
    }

    pub(super) fn rows_in(&self, netns: Netns) -> usize {
        self.namespaces
            .get(&netns)
            .map_or(0, |population| population.rows)
    }

    pub(super) fn unsettled_namespaces(&self) -> impl Iterator<Item = Netns> {
        let unsettled = self
            .namespaces
            .iter()
            .filter(|(_, population)| population.unsettled > 0);
        unsettled.map(|(netns, _)| *netns)
    }

    /// The minisock that has these ends.
    pub(super) fn minisock(&self, tuple: &Tuple) -> Option<Key> {
        self.minisocks.get(tuple).copied()
    }

    /// The minisocks that a socket has left behind when it was used again.
    pub(super) fn left(&self, cookie: Cookie) -> &[Key] {
        self.left.get(&cookie).map_or(&[], Vec::as_slice)
    }

    /// The one of them that has these ends.
    pub(super) fn left_with(&self, cookie: Cookie, tuple: &Tuple) -> Option<Key> {
        let with_ends = |key: &&Key| self.at(**key).and_then(|row| row.connection.tuple()) == Some(*tuple);
        self.left(cookie).iter().find(with_ends).copied()
    }

    /// Adds a row; one that had its key is replaced.
    pub(super) fn insert(&mut self, row: Row) {
        self.remove(row.key);
        self.enlist(&row);
        self.places.insert(row.key, self.rows.insert(row));
    }

    /// Adds the row of a minisock whose socket has been used again.
    pub(super) fn insert_left(&mut self, mut row: Row) {
        row.key = Key::Left(self.next_left);
        self.next_left += 1;
        self.left.entry(row.connection.cookie).or_default().push(row.key);
        self.insert(row);
    }

    /// Makes room for another connection of the same socket: its minisock stays, and is found by its ends.
    pub(super) fn leave_behind(&mut self, cookie: Cookie) {
        if let Some(row) = self.remove(cookie) {
            self.insert_left(row);
        }
    }

    pub(super) fn remove(&mut self, key: impl Into<Key>) -> Option<Row> {
        let key = key.into();
        let place = self.places.remove(&key)?;
        let row = self.rows.remove(place);
        self.delist(&row);
        let cookie = row.connection.cookie;
        if matches!(key, Key::Left(_))
            && let Some(left) = self.left.get_mut(&cookie)
        {
            left.retain(|other| *other != key);
            if left.is_empty() {
                self.left.remove(&cookie);
            }
        }
        Some(row)
    }

    /// Changes a row, and the counts with it. `None` when there is no such row.
    pub(super) fn change<R>(&mut self, key: impl Into<Key>, change: impl FnOnce(&mut Row) -> R) -> Option<R> {
        let key = key.into();
        let place = *self.places.get(&key)?;
        let row = self.rows.get_mut(place)?;
        let before = Listing::of(row, self.coverage);
        let result = change(row);
        let after = Listing::of(row, self.coverage);
        if before != after {
            let netns = row.connection.netns;
            self.count(netns, before, usize::wrapping_sub);
            self.count(netns, after, usize::wrapping_add);
            if before.minisock != after.minisock {
                self.unlist_minisock(before.minisock, key);
                self.list_minisock(after.minisock, key);
            }
        }
        Some(result)
    }

    fn enlist(&mut self, row: &Row) {
        let listing = Listing::of(row, self.coverage);
        self.namespaces.entry(row.connection.netns).or_default().rows += 1;
        self.count(row.connection.netns, listing, usize::wrapping_add);
        self.list_minisock(listing.minisock, row.key);
    }

    fn delist(&mut self, row: &Row) {
        let listing = Listing::of(row, self.coverage);
        self.count(row.connection.netns, listing, usize::wrapping_sub);
        self.unlist_minisock(listing.minisock, row.key);
        if let Some(population) = self.namespaces.get_mut(&row.connection.netns) {
            population.rows -= 1;
            if population.rows == 0 {
                self.namespaces.remove(&row.connection.netns);
            }
        }
    }

    fn count(&mut self, netns: Netns, listing: Listing, by_one: impl Fn(usize, usize) -> usize) {
        let by_state = &mut self.by_state[listing.state.index()];
        *by_state = by_one(*by_state, 1);
        match listing.settlement {
            Settlement::Settled => return,
            Settlement::Lingering => self.unsettled.lingering = by_one(self.unsettled.lingering, 1),
            Settlement::Urgent => self.unsettled.urgent = by_one(self.unsettled.urgent, 1),
        }
        if let Some(population) = self.namespaces.get_mut(&netns) {
            population.unsettled = by_one(population.unsettled, 1);
        }
    }

    fn list_minisock(&mut self, tuple: Option<Tuple>, key: Key) {
        if let Some(tuple) = tuple {
            self.minisocks.insert(tuple, key);
        }
    }

    fn unlist_minisock(&mut self, tuple: Option<Tuple>, key: Key) {
        if let Some(tuple) = tuple
            && self.minisocks.get(&tuple) == Some(&key)
        {
            self.minisocks.remove(&tuple);
        }
    }
}

/// What the store counts and finds a row by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Listing {
    state: TcpState,
    settlement: Settlement,
    minisock: Option<Tuple>,
}

impl Listing {
    fn of(row: &Row, coverage: Coverage) -> Self {
        let minisock = (row.form == Form::Minisock)
            .then(|| row.connection.tuple())
            .flatten();
        Self {
            state: row.state,
            settlement: row.settlement(coverage),
            minisock,
        }
    }
}
