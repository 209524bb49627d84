//! What a scan of all open files has found.

use std::ops::Range;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Cookie, Owner},
};

/// A descriptor that holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The socket; of MPTCP the one above its subflows.
    pub cookie: Cookie,
    /// Who holds it.
    pub owner: Owner,
}

/// What one scan of all open files has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderScan {
    /// A time before the first look.
    pub start: Ktime,
    /// It went through all processes, and not only those of another PID namespace than the root's.
    pub complete: bool,
    /// The descriptors that hold sockets.
    pub holders: Vec<Holder>,
}

/// The same, found by socket. To make it takes a sort and a map of everything, so the scanning thread does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderIndex {
    scan: HolderScan,
    found: FxHashMap<Cookie, Range<usize>>,
}

impl From<HolderScan> for HolderIndex {
    /// Puts the descriptors of a scan in order.
    fn from(mut scan: HolderScan) -> Self {
        scan.holders.sort_unstable_by_key(|holder| {
            let Owner {
                start, pid, tid, fd, ..
            } = holder.owner;
            (holder.cookie, start, pid, tid, fd)
        });
        let mut found = FxHashMap::default();
        found.reserve(scan.holders.len());
        let mut at = 0;
        for holders in scan.holders.chunk_by(|a, b| a.cookie == b.cookie) {
            let end = at + holders.len();
            found.extend(holders.first().map(|holder| (holder.cookie, at..end)));
            at = end;
        }
        Self { scan, found }
    }
}

impl HolderIndex {
    /// A time before the first look.
    #[must_use]
    pub fn start(&self) -> Ktime {
        self.scan.start
    }

    /// As [`HolderScan::complete`].
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.scan.complete
    }

    /// All descriptors that hold sockets, by socket.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.scan.holders
    }

    /// Those of a socket, or of the MPTCP socket above it.
    #[must_use]
    pub fn holders_of(&self, cookie: Cookie, mptcp: Option<Cookie>) -> &[Holder] {
        let own = self.found.get(&cookie);
        let above = || self.found.get(&mptcp?);
        let place = own.or_else(above).cloned();
        place
            .and_then(|place| self.scan.holders.get(place))
            .unwrap_or_default()
    }
}
