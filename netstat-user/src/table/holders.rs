//! Folding scans for holders, and whose a connection is that nobody has accepted yet.

use super::{Table, row::Row, slots::Place};
use crate::{
    connection::Connection,
    facts::{Form, HolderIndex},
    owners::PackedOwners,
    tcp::TcpState::{CloseWait, Established, SynRecv},
};

/// A scan of all open files whose findings are given to the rows in parts.
#[derive(Debug)]
pub(super) struct Joining {
    scan: HolderIndex,
    /// The next place to give them to.
    at: usize,
    /// Rows that may inherit, once the holders of all listeners are known.
    heirs: Vec<Place>,
}

impl Table {
    /// Folds a scan of all open files. Rows that it should have found a holder of and has not are nobody's from then
    /// on, and keep their last owners.
    pub fn apply_scan(&mut self, scan: impl Into<HolderIndex>) {
        self.begin_joining(scan.into());
        while self.join(usize::MAX) {}
    }

    /// The same, but the rows get what was found by [`join`](Self::join), while other facts are applied in between.
    pub fn begin_joining(&mut self, scan: HolderIndex) {
        self.joining = Some(Joining {
            scan,
            at: 0,
            heirs: Vec::new(),
        });
    }

    /// Gives the findings of the scan to the rows in so many places more. Returns whether there is more to do.
    pub fn join(&mut self, count: usize) -> bool {
        let Some(mut joining) = self.joining.take() else {
            return false;
        };
        let end = self.store.end();
        if joining.at < end {
            let to = end.min(joining.at.saturating_add(count));
            for place in joining.at..to {
                self.join_at(&mut joining, place);
            }
            joining.at = to;
        } else {
            // Only now is it known who holds the listeners.
            let rest = joining.heirs.len().saturating_sub(count);
            for place in joining.heirs.drain(rest..) {
                self.inherit(place);
            }
            if joining.heirs.is_empty() {
                return false;
            }
        }
        self.joining = Some(joining);
        true
    }

    fn join_at(&mut self, joining: &mut Joining, place: usize) {
        let Ok(place) = u32::try_from(place).map(Place) else {
            return;
        };
        let scan = &joining.scan;
        match self.store.at(place).map(|row| row.form) {
            Some(Form::Full) => {
                let waits = self.store.change(place, |row| {
                    let holders = scan.holders_of(row.connection.cookie, row.mptcp());
                    row.change_owners(|owners| owners.scanned(scan.start(), holders, scan.is_complete()));
                    row.is_unaccepted()
                });
                joining.heirs.extend(waits.filter(|waits| *waits).map(|_| place));
            }
            Some(Form::Request) => joining.heirs.push(place),
            Some(Form::Minisock) | None => {}
        }
    }

    /// Gives a connection that nobody holds yet to the holders of its listener.
    pub(super) fn inherit(&mut self, place: Place) {
        let waits = |row: &&Row| row.form != Form::Minisock && row.is_unaccepted();
        let Some(row) = self.store.at(place).filter(waits) else {
            return;
        };
        let owners = self.owners_by_listener(&row.connection);
        if owners.first().is_some() {
            self.store.change(place, |row| row.inherit(owners));
        }
    }

    /// Whose a new child is. Several listeners can share a port (`SO_REUSEPORT`): if these are not one process's,
    /// nobody knows which one the kernel has chosen.
    pub(super) fn owners_by_listener(&self, child: &Connection) -> PackedOwners {
        let listeners = self.store.listeners(child);
        let fit = |listener: &Row| fitness(&listener.connection, child);
        let Some(best) = listeners.clone().filter_map(fit).max() else {
            return PackedOwners::default();
        };
        let mut best = listeners.filter(|listener| fit(listener) == Some(best));
        let Some(listener) = best.next() else {
            return PackedOwners::default();
        };
        let owners = listener.bequest();
        let same = |other: &Row| match (owners.first(), other.owner()) {
            (Some(one), Some(other)) => one.is_same_process(&other),
            _ => false,
        };
        if best.all(same) {
            owners
        } else {
            PackedOwners::default()
        }
    }
}

impl Row {
    /// Whether the connection may wait to be accepted: it is open, and nobody is known to hold it or to have held it.
    /// An orphan is in none of these states.
    fn is_unaccepted(&self) -> bool {
        let open = matches!(self.state, Established | CloseWait | SynRecv);
        open && self.inode().is_none() && self.owner().is_none()
    }
}

/// How well a listener's ends fit a child's; the kernel takes the one that fits best (`compute_score`, and
/// `__inet_lookup_listener`, which looks for the address before it looks for any).
fn fitness(listener: &Connection, child: &Connection) -> Option<(bool, bool)> {
    let address = listener.local.addr(listener.family);
    let exact = address == child.local.addr(child.family);
    let device = listener.device.is_none() || listener.device == child.device;
    let fits = listener.family == child.family && device && (exact || address.is_unspecified());
    fits.then_some((exact, listener.device.is_some()))
}
