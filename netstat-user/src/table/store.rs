//! The rows, and what is counted and found by them.

use std::{hash::BuildHasher, ops::Range};

use foldhash::quality::RandomState;
use rustc_hash::FxHashMap;

use super::{
    index::Index,
    row::{Row, Settlement},
    slots::{Place, Slots},
};
use crate::{
    census::Census,
    connection::{Connection, Cookie, Netns, Tuple},
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
    /// As the kernel counts them.
    census: Census,
}

/// Rows by place, cookie and, for minisocks, by their ends; with counts kept as they change.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: Slots,
    /// Rows by cookie, those that are left aside.
    sockets: Index,
    /// Minisocks whose sockets have been used again, by the cookie that they share with those.
    left: FxHashMap<Cookie, Vec<Place>>,
    minisocks: Index,
    /// Ends come from the network: hashed with a secret, unlike cookies, which the kernel deals out.
    secret: RandomState,
    /// Listeners by namespace and port, which several can share.
    listeners: FxHashMap<(Netns, u16), Vec<Place>>,
    ownerless: usize,
    ever_ownerless: u64,
    namespaces: FxHashMap<Netns, Population>,
    by_state: [usize; TcpState::ALL.len()],
    unsettled: Unsettled,
    coverage: Coverage,
}

/// Where a cookie stands in the index.
fn tag(cookie: Cookie) -> u32 {
    u32::try_from(cookie.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0)
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

    /// The place of a socket's row.
    pub(super) fn find(&self, cookie: Cookie) -> Option<Place> {
        self.sockets.find(tag(cookie), |place| {
            self.at(place).is_some_and(|row| row.connection.cookie == cookie)
        })
    }

    pub(super) fn get(&self, cookie: Cookie) -> Option<&Row> {
        self.at(self.find(cookie)?)
    }

    pub(super) fn at(&self, place: Place) -> Option<&Row> {
        self.rows.get(place)
    }

    /// As [`Slots::mark_shown`].
    pub(super) fn mark_shown(&mut self, place: Place, walk: u32) -> bool {
        self.rows.mark_shown(place, walk)
    }

    /// As [`Slots::unshown`].
    pub(super) fn unshown(
        &self,
        places: Range<usize>,
        walks: (u32, u32),
    ) -> impl Iterator<Item = (Place, &Row)> {
        self.rows.unshown(places, walks)
    }

    /// As [`Slots::end`].
    pub(super) fn end(&self) -> usize {
        self.rows.end()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (Place, &Row)> {
        self.rows.iter()
    }

    pub(super) fn part(&self, from: usize, count: usize) -> Option<impl Iterator<Item = (Place, &Row)>> {
        let end = self.rows.end().min(from.saturating_add(count));
        (from < end).then(|| self.rows.range(from..end))
    }

    pub(super) fn by_state(&self) -> [usize; TcpState::ALL.len()] {
        self.by_state
    }

    pub(super) fn unsettled(&self) -> Unsettled {
        self.unsettled
    }

    pub(super) fn ownerless(&self) -> usize {
        self.ownerless
    }

    pub(super) fn ever_ownerless(&self) -> u64 {
        self.ever_ownerless
    }

    /// The listeners on the port that `child` has, in its namespace.
    pub(super) fn listeners(&self, child: &Connection) -> impl Iterator<Item = &Row> + Clone {
        let listed = child.local.port().map(|port| (child.netns, port));
        let places = listed.and_then(|listed| self.listeners.get(&listed));
        places.into_iter().flatten().filter_map(|place| self.at(*place))
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
    pub(super) fn minisock(&self, tuple: &Tuple) -> Option<Place> {
        if self.minisocks.is_empty() {
            return None;
        }
        self.minisock_tagged(self.ends_tag(tuple), tuple)
    }

    fn minisock_tagged(&self, tag: u32, tuple: &Tuple) -> Option<Place> {
        let has_ends = |row: &Row| row.connection.tuple().as_ref() == Some(tuple);
        self.minisocks
            .find(tag, |place| self.at(place).is_some_and(has_ends))
    }

    /// Where ends stand in the index.
    fn ends_tag(&self, tuple: &Tuple) -> u32 {
        let hash = self.secret.hash_one(tuple);
        u32::try_from(hash >> 32).unwrap_or(0)
    }

    /// The minisocks that a socket has left behind when it was used again.
    pub(super) fn left(&self, cookie: Cookie) -> &[Place] {
        self.left.get(&cookie).map_or(&[], Vec::as_slice)
    }

    /// The one of them that has these ends.
    pub(super) fn left_with(&self, cookie: Cookie, tuple: &Tuple) -> Option<Place> {
        let with_ends =
            |place: &&Place| self.at(**place).and_then(|row| row.connection.tuple()) == Some(*tuple);
        self.left(cookie).iter().find(with_ends).copied()
    }

    /// Adds a row; one of the same socket is replaced.
    pub(super) fn insert(&mut self, row: Row) -> Place {
        let cookie = row.connection.cookie;
        if let Some(replaced) = self.find(cookie) {
            self.remove(replaced);
        }
        let place = self.rows.insert(row);
        self.sockets.insert(tag(cookie), place);
        self.enlist(place);
        place
    }

    /// Adds the row of a minisock whose socket has been used again.
    pub(super) fn insert_left(&mut self, mut row: Row) -> Place {
        row.leave();
        let cookie = row.connection.cookie;
        let place = self.rows.insert(row);
        self.left.entry(cookie).or_default().push(place);
        self.enlist(place);
        place
    }

    /// Makes room for another connection of the same socket: its minisock stays where it is, and is found by its ends.
    pub(super) fn leave_behind(&mut self, cookie: Cookie) {
        if let Some(place) = self.find(cookie) {
            self.sockets.remove(tag(cookie), place);
            self.change(place, Row::leave);
            self.left.entry(cookie).or_default().push(place);
        }
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Row> {
        let row = self.rows.remove(place)?;
        self.delist(&row, place);
        let cookie = row.connection.cookie;
        if !row.is_left() {
            self.sockets.remove(tag(cookie), place);
        } else if let Some(left) = self.left.get_mut(&cookie) {
            left.retain(|other| *other != place);
            if left.is_empty() {
                self.left.remove(&cookie);
            }
        }
        Some(row)
    }

    /// Changes the row of a socket, as [`Store::change`].
    pub(super) fn change_of<R>(&mut self, cookie: Cookie, change: impl FnOnce(&mut Row) -> R) -> Option<R> {
        self.change(self.find(cookie)?, change)
    }

    /// Changes a row, and the counts with it. `None` when there is no such row.
    pub(super) fn change<R>(&mut self, place: Place, change: impl FnOnce(&mut Row) -> R) -> Option<R> {
        let row = self.rows.get_mut(place)?;
        let before = Listing::of(row, self.coverage);
        let result = change(row);
        let after = Listing::of(row, self.coverage);
        self.ever_ownerless += u64::from(after.ownerless && !before.ownerless);
        if before != after {
            let netns = row.connection.netns;
            if before.listener != after.listener {
                self.unlist_listener(netns, before.listener, place);
                self.list_listener(netns, after.listener, place);
            }
            self.count(netns, before, usize::wrapping_sub);
            self.count(netns, after, usize::wrapping_add);
            if before.counted != after.counted {
                self.take_census(netns, before.counted, usize::wrapping_sub);
                self.take_census(netns, after.counted, usize::wrapping_add);
            }
            if before.minisock != after.minisock {
                self.unlist_minisock(before.minisock, place);
                self.list_minisock(after.minisock, place);
            }
        }
        Some(result)
    }

    fn enlist(&mut self, place: Place) {
        let Some(row) = self.rows.get(place) else { return };
        let netns = row.connection.netns;
        let listing = Listing::of(row, self.coverage);
        self.ever_ownerless += u64::from(listing.ownerless);
        self.namespaces.entry(netns).or_default().rows += 1;
        self.count(netns, listing, usize::wrapping_add);
        self.take_census(netns, listing.counted, usize::wrapping_add);
        self.list_minisock(listing.minisock, place);
        self.list_listener(netns, listing.listener, place);
    }

    fn delist(&mut self, row: &Row, place: Place) {
        let listing = Listing::of(row, self.coverage);
        let netns = row.connection.netns;
        self.count(netns, listing, usize::wrapping_sub);
        self.take_census(netns, listing.counted, usize::wrapping_sub);
        self.unlist_minisock(listing.minisock, place);
        self.unlist_listener(netns, listing.listener, place);
        if let Some(population) = self.namespaces.get_mut(&netns) {
            population.rows -= 1;
            if population.rows == 0 {
                self.namespaces.remove(&netns);
            }
        }
    }

    /// What the kernel would count in a namespace if it had what the table has.
    pub(super) fn census(&self, netns: Netns) -> Census {
        let population = self.namespaces.get(&netns);
        population.map_or_else(Census::default, |population| population.census)
    }

    fn count(&mut self, netns: Netns, listing: Listing, by_one: impl Fn(usize, usize) -> usize) {
        let by_state = &mut self.by_state[listing.state.index()];
        *by_state = by_one(*by_state, 1);
        if listing.ownerless {
            self.ownerless = by_one(self.ownerless, 1);
        }
        match listing.settlement {
            Settlement::Settled => return,
            Settlement::Lingering => self.unsettled.lingering = by_one(self.unsettled.lingering, 1),
            Settlement::Urgent => self.unsettled.urgent = by_one(self.unsettled.urgent, 1),
        }
        if let Some(population) = self.namespaces.get_mut(&netns) {
            population.unsettled = by_one(population.unsettled, 1);
        }
    }

    fn take_census(
        &mut self,
        netns: Netns,
        counted: Option<Counted>,
        by_one: impl Fn(usize, usize) -> usize,
    ) {
        let (Some(counted), Some(population)) = (counted, self.namespaces.get_mut(&netns)) else {
            return;
        };
        let count = match counted {
            Counted::Full => &mut population.census.full,
            Counted::Minisock => &mut population.census.minisocks,
        };
        *count = by_one(*count, 1);
    }

    /// Has the minisock found by its ends, in place of any other that is.
    fn list_minisock(&mut self, tuple: Option<Tuple>, place: Place) {
        let Some(tuple) = tuple else { return };
        let tag = self.ends_tag(&tuple);
        if let Some(other) = self.minisock_tagged(tag, &tuple) {
            self.minisocks.remove(tag, other);
        }
        self.minisocks.insert(tag, place);
    }

    fn unlist_minisock(&mut self, tuple: Option<Tuple>, place: Place) {
        if let Some(tuple) = tuple {
            self.minisocks.remove(self.ends_tag(&tuple), place);
        }
    }

    fn list_listener(&mut self, netns: Netns, port: Option<u16>, place: Place) {
        if let Some(port) = port {
            self.listeners.entry((netns, port)).or_default().push(place);
        }
    }

    fn unlist_listener(&mut self, netns: Netns, port: Option<u16>, place: Place) {
        let Some(listed) = port.map(|port| (netns, port)) else {
            return;
        };
        if let Some(places) = self.listeners.get_mut(&listed) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.listeners.remove(&listed);
            }
        }
    }
}

/// As what the kernel counts a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Full,
    Minisock,
}

/// What the store counts and finds a row by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Listing {
    state: TcpState,
    settlement: Settlement,
    minisock: Option<Tuple>,
    /// The port of a listener.
    listener: Option<u16>,
    ownerless: bool,
    /// `None` if the kernel does not count it.
    counted: Option<Counted>,
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
            listener: row
                .connection
                .local
                .port()
                .filter(|_| row.state == TcpState::Listen),
            ownerless: row.is_ownerless(),
            counted: match row.form {
                // The end has been announced, and so it has been taken out of the hash.
                _ if row.announced() => None,
                Form::Full => Some(Counted::Full),
                Form::Minisock => Some(Counted::Minisock),
                Form::Request => None,
            },
        }
    }
}
