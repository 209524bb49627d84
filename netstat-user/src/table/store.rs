//! The rows, and what is counted and found by them.

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::row::{Row, Settlement};
use crate::{
    connection::{Cookie, Netns, Tuple},
    facts::Form,
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
    places: FxHashMap<Cookie, usize>,
    /// Ends come from the network: hashed with a secret, unlike cookies, which the kernel deals out.
    minisocks: HashMap<Tuple, Cookie>,
    namespaces: FxHashMap<Netns, Population>,
    by_state: [usize; TcpState::ALL.len()],
    unsettled: Unsettled,
}

impl Store {
    pub(super) fn get(&self, cookie: Cookie) -> Option<&Row> {
        self.rows.get(*self.places.get(&cookie)?)
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
    pub(super) fn minisock(&self, tuple: &Tuple) -> Option<Cookie> {
        self.minisocks.get(tuple).copied()
    }

    /// Adds a row; one that had its cookie is replaced.
    pub(super) fn insert(&mut self, row: Row) {
        let cookie = row.connection.cookie;
        self.remove(cookie);
        self.enlist(&row);
        self.places.insert(cookie, self.rows.insert(row));
    }

    pub(super) fn remove(&mut self, cookie: Cookie) -> Option<Row> {
        let place = self.places.remove(&cookie)?;
        let row = self.rows.remove(place);
        self.delist(&row);
        Some(row)
    }

    /// Changes a row, and the counts with it. `None` when there is no such row.
    pub(super) fn change<R>(&mut self, cookie: Cookie, change: impl FnOnce(&mut Row) -> R) -> Option<R> {
        let place = *self.places.get(&cookie)?;
        let row = self.rows.get_mut(place)?;
        let before = Listing::of(row);
        let result = change(row);
        let after = Listing::of(row);
        if before != after {
            let netns = row.connection.netns;
            self.count(netns, before, usize::wrapping_sub);
            self.count(netns, after, usize::wrapping_add);
            if before.minisock != after.minisock {
                self.unlist_minisock(before.minisock, cookie);
                self.list_minisock(after.minisock, cookie);
            }
        }
        Some(result)
    }

    fn enlist(&mut self, row: &Row) {
        let listing = Listing::of(row);
        self.namespaces.entry(row.connection.netns).or_default().rows += 1;
        self.count(row.connection.netns, listing, usize::wrapping_add);
        self.list_minisock(listing.minisock, row.connection.cookie);
    }

    fn delist(&mut self, row: &Row) {
        let listing = Listing::of(row);
        self.count(row.connection.netns, listing, usize::wrapping_sub);
        self.unlist_minisock(listing.minisock, row.connection.cookie);
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

    fn list_minisock(&mut self, tuple: Option<Tuple>, cookie: Cookie) {
        if let Some(tuple) = tuple {
            self.minisocks.insert(tuple, cookie);
        }
    }

    fn unlist_minisock(&mut self, tuple: Option<Tuple>, cookie: Cookie) {
        if let Some(tuple) = tuple
            && self.minisocks.get(&tuple) == Some(&cookie)
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
    fn of(row: &Row) -> Self {
        let minisock = (row.form == Form::Minisock)
            .then(|| row.connection.tuple())
            .flatten();
        Self {
            state: row.state,
            settlement: row.settlement(),
            minisock,
        }
    }
}
