//! Room for rows: places that are numbered, filled and emptied, and filled again.
//!
//! It grows by a piece at a time, so that no row ever moves and no growth takes as long as there are rows.

use super::row::Row;

/// Rows in a piece: 16 KiB.
const PIECE: usize = 64;

/// The number of a row's place, until the row is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub(super) u32);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most places are full")]
enum Slot {
    Full(Row),
    /// And the next one that is free, if there is one.
    Free(Option<Place>),
}

/// Begins where a line of the cache does, so that a row takes no more of them than it must.
#[derive(Debug)]
#[repr(align(64))]
struct Piece([Slot; PIECE]);

/// Rows by their places.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pieces: Vec<Box<Piece>>,
    /// By place, the number of the last walk that has shown its row; 0 for none. Apart from the rows, because who looks for
    /// those that a walk has not shown has to look at all.
    shown: Vec<u32>,
    free: Option<Place>,
    /// Places that have ever been filled.
    used: usize,
    len: usize,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A number above that of any place.
    pub(super) fn end(&self) -> usize {
        self.used
    }

    fn slot(&self, place: Place) -> Option<&Slot> {
        let place = place.0 as usize;
        Some(&self.pieces.get(place / PIECE)?.0[place % PIECE])
    }

    fn slot_mut(&mut self, place: Place) -> Option<&mut Slot> {
        let place = place.0 as usize;
        Some(&mut self.pieces.get_mut(place / PIECE)?.0[place % PIECE])
    }

    pub(super) fn get(&self, place: Place) -> Option<&Row> {
        match self.slot(place)? {
            Slot::Full(row) => Some(row),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Row> {
        match self.slot_mut(place)? {
            Slot::Full(row) => Some(row),
            Slot::Free(_) => None,
        }
    }

    /// Puts a row somewhere.
    ///
    /// # Panics
    ///
    /// With four billion rows, which would take a terabyte.
    pub(super) fn insert(&mut self, row: Row) -> Place {
        let place = self.free.unwrap_or_else(|| {
            if self.used == self.pieces.len() * PIECE {
                self.pieces
                    .push(Box::new(Piece([const { Slot::Free(None) }; PIECE])));
            }
            self.used += 1;
            self.shown.push(0);
            Place(u32::try_from(self.used - 1).expect("there is no room for so many rows"))
        });
        if let Some(slot) = self.slot_mut(place)
            && let Slot::Free(next) = std::mem::replace(slot, Slot::Full(row))
        {
            self.free = next;
        }
        if let Some(shown) = self.shown.get_mut(place.0 as usize) {
            *shown = 0;
        }
        self.len += 1;
        place
    }

    /// Notes that this walk has shown the row in a place. Returns whether it shows that for the first time.
    pub(super) fn mark_shown(&mut self, place: Place, walk: u32) -> bool {
        let shown = self.shown.get_mut(place.0 as usize);
        shown.is_some_and(|shown| std::mem::replace(shown, walk) != walk)
    }

    /// The rows in `places` that none of the walks behind number `before` up to `last` has shown.
    pub(super) fn unshown(
        &self,
        places: std::ops::Range<usize>,
        (before, last): (u32, u32),
    ) -> impl Iterator<Item = (Place, &Row)> {
        let walks = last.wrapping_sub(before);
        let start = places.start;
        let shown = self.shown.get(start..places.end.min(self.shown.len()));
        let places = shown.into_iter().flatten().enumerate();
        let places = places.map(move |(at, shown)| (start + at, shown));
        let since = move |shown: u32| shown != 0 && shown.wrapping_sub(before).wrapping_sub(1) < walks;
        let unshown = places.filter(move |(_, shown)| !since(**shown));
        unshown.filter_map(|(place, _)| {
            let place = Place(u32::try_from(place).ok()?);
            Some((place, self.get(place)?))
        })
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Row> {
        let next = self.free;
        let slot = self.slot_mut(place)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Full(row) = std::mem::replace(slot, Slot::Free(next)) else {
            return None;
        };
        self.free = Some(place);
        self.len -= 1;
        Some(row)
    }

    /// The rows in these places.
    pub(super) fn range(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = (Place, &Row)> {
        let places = places.start..places.end.min(self.used);
        places.filter_map(|place| {
            let place = Place(u32::try_from(place).ok()?);
            Some((place, self.get(place)?))
        })
    }

    /// All rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &Row)> {
        self.range(0..self.used)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::Ktime,
        connection::{Connection, Cookie, Endpoint, Family, Netns},
        tcp::TcpState,
    };

    fn row(cookie: u64) -> Row {
        let end = Endpoint::new("127.0.0.1".parse().unwrap(), 1);
        let connection = Connection {
            cookie: Cookie(cookie),
            netns: Netns(1),
            family: Family::Inet,
            local: end,
            remote: end,
            device: None,
            mptcp: false,
        };
        Row::begun(connection, TcpState::Close, Ktime(0))
    }

    proptest! {
        #[test]
        fn what_is_put_in_is_there_until_it_is_taken_out(ops in prop::collection::vec((any::<bool>(), 0..300_u32), 0..600)) {
            let mut slots = Slots::default();
            let mut plain: BTreeMap<u32, u64> = BTreeMap::new();
            for (number, (put, place)) in ops.into_iter().enumerate() {
                if put {
                    let number = number as u64;
                    let place = slots.insert(row(number));
                    prop_assert_eq!(plain.insert(place.0, number), None);
                } else {
                    let taken = slots.remove(Place(place)).map(|row| row.connection.cookie.0);
                    prop_assert_eq!(taken, plain.remove(&place));
                }
                prop_assert_eq!(slots.len(), plain.len());
            }
            let there: Vec<_> = slots.iter().map(|(place, row)| (place.0, row.connection.cookie.0)).collect();
            prop_assert_eq!(there, plain.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_no_walk_has_shown_is_found() {
        let mut slots = Slots::default();
        let places = [1, 2, 3, 4].map(|cookie| slots.insert(row(cookie)));
        // Also where the numbers begin again, and pass over 0.
        for (before, next) in [(7, 8), (u32::MAX - 1, u32::MAX), (u32::MAX, 1)] {
            assert!(slots.mark_shown(places[0], next));
            assert!(slots.mark_shown(places[1], next));
            assert!(!slots.mark_shown(places[1], next), "again");
            assert!(slots.mark_shown(places[2], before), "by an earlier one");
            let unshown: Vec<_> = slots
                .unshown(0..9, (before, next))
                .map(|(place, _)| place)
                .collect();
            assert_eq!(unshown, [places[2], places[3]]);
        }
        slots.remove(places[0]);
        let place = slots.insert(row(5));
        assert_eq!(place, places[0], "used again");
        let unshown = slots.unshown(0..9, (u32::MAX, 1)).map(|(place, _)| place);
        assert!(unshown.take(1).eq([place]));
    }

    #[test]
    fn a_place_takes_no_more_than_its_row() {
        assert_eq!(size_of::<Slot>(), size_of::<Row>());
    }
}
