//! Folding scans for holders, and whose a connection is that nobody has accepted yet.

use rustc_hash::FxHashMap;

use super::{Table, row::Row, slots::Place};
use crate::{
    connection::{Connection, Cookie},
    facts::{Form, Holder, HolderScan},
    owners::PackedOwners,
    tcp::TcpState::{CloseWait, Established, SynRecv},
};

impl Table {
    /// Folds a scan of all open files. Rows that it should have found a holder of and has not are nobody's from then
    /// on, and keep their last owners.
    pub fn apply_scan(&mut self, mut scan: HolderScan) {
        scan.sort();
        let of_one = |a: &Holder, b: &Holder| a.cookie == b.cookie;
        let named = |holders: &'_ [Holder]| Some(holders.first()?.cookie);
        let mut found: FxHashMap<Cookie, &[Holder]> = FxHashMap::default();
        found.reserve(scan.holders.len());
        let sockets = scan.holders.chunk_by(of_one);
        found.extend(sockets.filter_map(|holders| Some((named(holders)?, holders))));
        let holders_of = |row: &Row| {
            let own = found.get(&row.connection.cookie);
            let above = row.mptcp().and_then(|mptcp| found.get(&mptcp));
            own.or(above).copied().unwrap_or_default()
        };
        // With very many rows, memory is what takes the time, so each is looked at once.
        let (mut heirs, mut requests) = (Vec::new(), Vec::new());
        for place in self.store.places() {
            match self.store.at(place).map(|row| row.form) {
                Some(Form::Full) => {
                    let waits = self.store.change(place, |row| {
                        let holders = holders_of(row);
                        row.change_owners(|owners| owners.scanned(scan.start, holders, scan.complete));
                        row.is_unaccepted()
                    });
                    heirs.extend(waits.filter(|waits| *waits).map(|_| place));
                }
                Some(Form::Request) => requests.push(place),
                Some(Form::Minisock) | None => {}
            }
        }
        // Only now is it known who holds the listeners.
        for place in heirs.into_iter().chain(requests) {
            self.inherit(place);
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
