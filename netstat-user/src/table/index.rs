//! Finding rows: places by a hash of what they are found by, in eight bytes each.
//!
//! What a row is found by is in the row, which whoever finds it looks at anyway. So the index has no copy of it.

use hashbrown::HashTable;

use super::slots::Place;

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    place: Place,
}

/// Places by tags, which several can share.
#[derive(Debug, Default)]
pub(super) struct Index(HashTable<Entry>);

/// The table's hash takes both ends of it: the upper seven bits, and as many of the lower as there are buckets.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place with this tag that is the one.
    pub(super) fn find(&self, tag: u32, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let found = self
            .0
            .find(spread(tag), |entry| entry.tag == tag && is_it(entry.place));
        found.map(|entry| entry.place)
    }

    pub(super) fn insert(&mut self, tag: u32, place: Place) {
        self.0
            .insert_unique(spread(tag), Entry { tag, place }, |entry| spread(entry.tag));
    }

    /// Takes a place out, if it is there.
    pub(super) fn remove(&mut self, tag: u32, place: Place) {
        let entry = self.0.find_entry(spread(tag), |entry| entry.place == place);
        if let Ok(entry) = entry {
            entry.remove();
        }
    }
}
