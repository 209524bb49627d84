//! Comparing the table with the kernel, while both move.
//!
//! The kernel is asked before and after the table is: a socket that is the same both times stood still meanwhile,
//! and the table must have it so. The rest has moved and proves nothing. What differs may still settle, so that only
//! what differs for longer than the tracer claims to need is held against it.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::{
    connection::{Connection, Cookie, Endpoint},
    diag::KernelSocket,
    tcp::TcpState,
    view::RowView,
};

/// The kernel's view, the table's, and the kernel's again.
#[derive(Debug, Default)]
pub struct Look {
    /// The kernel's sockets before.
    pub before: Vec<KernelSocket>,
    /// The table's rows, those of namespaces that the kernel was asked about.
    pub rows: Vec<RowView>,
    /// The kernel's sockets after.
    pub after: Vec<KernelSocket>,
}

/// A socket of which table and kernel say different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The socket as the kernel has it; `None` when the kernel does not know it.
    pub kernel: Option<KernelSocket>,
    /// As the table has it; `None` when it lacks it.
    pub table: Option<KernelSocket>,
}

impl Difference {
    /// Which socket.
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        let either = self.kernel.as_ref().or(self.table.as_ref());
        either.map(|socket| &socket.connection)
    }

    /// What makes two differences the same one.
    fn key(&self) -> Option<Key> {
        let state = |socket: &Option<KernelSocket>| socket.as_ref().map(|socket| socket.state);
        Some((id(self.connection()?), state(&self.kernel), state(&self.table)))
    }
}

type Key = (Id, Option<TcpState>, Option<TcpState>);

/// What one look has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Sockets that both have, and have alike.
    pub agreed: usize,
    /// Sockets that moved while they were looked at.
    pub moved: usize,
    /// All others.
    pub differences: Vec<Difference>,
}

/// A cookie alone does not tell a socket that is used again from the minisock of its connection before.
pub type Id = (Cookie, Endpoint, Endpoint);

/// What tells `connection` from all others.
#[must_use]
pub fn id(connection: &Connection) -> Id {
    (connection.cookie, connection.local, connection.remote)
}

/// Compares what was seen.
#[must_use]
pub fn compare(look: &Look) -> Comparison {
    let by_id = |sockets: &[KernelSocket]| {
        let pairs = sockets.iter().map(|socket| (id(&socket.connection), *socket));
        pairs.collect::<FxHashMap<_, _>>()
    };
    let after = by_id(&look.after);
    let mut rows: FxHashMap<Id, KernelSocket> = look
        .rows
        .iter()
        .map(|row| (id(&row.connection), of_row(row)))
        .collect();
    let mut comparison = Comparison::default();
    let mut unlike = Vec::new();
    for (id, kernel) in by_id(&look.before) {
        let row = rows.remove(&id);
        if after.get(&id).is_none_or(|after| !alike(after, &kernel)) {
            comparison.moved += 1;
        } else if row.is_some_and(|row| alike(&row, &kernel)) {
            comparison.agreed += 1;
        } else {
            unlike.push((kernel, row));
        }
    }
    rows.retain(|id, _| {
        let came = after.contains_key(id);
        comparison.moved += usize::from(came);
        !came
    });
    let left: FxHashMap<Cookie, Id> = rows.keys().map(|id| (id.0, *id)).collect();
    for (kernel, row) in unlike {
        // A row with the wrong ends is one difference, not two.
        let table = row.or_else(|| rows.remove(left.get(&kernel.connection.cookie)?));
        comparison.differences.push(Difference {
            kernel: Some(kernel),
            table,
        });
    }
    comparison
        .differences
        .extend(rows.into_values().map(|row| Difference {
            kernel: None,
            table: Some(row),
        }));
    comparison
}

fn of_row(row: &RowView) -> KernelSocket {
    KernelSocket {
        connection: row.connection,
        state: row.state,
    }
}

/// Whether both are in the same state and of the same family in the same namespace; their ends are known to be.
fn alike(one: &KernelSocket, other: &KernelSocket) -> bool {
    let (a, b) = (&one.connection, &other.connection);
    (one.state, a.netns, a.family) == (other.state, b.netns, b.family)
}

/// How long each difference has lasted.
#[derive(Debug, Default)]
pub struct Ledger {
    since: FxHashMap<Key, Instant>,
    longest_settled: Duration,
}

impl Ledger {
    /// Enters what a look at `now` has found; what it has not found has settled. Returns each difference with how
    /// long it has lasted.
    pub fn enter(&mut self, now: Instant, found: &[Difference]) -> Vec<(Difference, Duration)> {
        let mut since = FxHashMap::default();
        let mut lasting = Vec::new();
        for difference in found {
            let Some(key) = difference.key() else { continue };
            let first = self.since.remove(&key).unwrap_or(now);
            since.insert(key, first);
            lasting.push((*difference, now - first));
        }
        let settled = std::mem::replace(&mut self.since, since);
        for first in settled.into_values() {
            self.longest_settled = self.longest_settled.max(now - first);
        }
        lasting
    }

    /// The longest that a difference has been seen that has settled since.
    #[must_use]
    pub fn longest_settled(&self) -> Duration {
        self.longest_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Ktime,
        connection::{Family, Netns},
        facts::Form,
        owners::Owners,
        tcp::TcpState::{Established, FinWait1, Listen},
    };

    fn socket(cookie: u64, state: TcpState) -> KernelSocket {
        let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        KernelSocket {
            connection: Connection {
                cookie: Cookie(cookie),
                netns: Netns(1),
                family: Family::Inet,
                local: end(80),
                remote: end(1000),
                device: None,
                mptcp: false,
            },
            state,
        }
    }

    fn row(cookie: u64, state: TcpState) -> RowView {
        RowView {
            connection: socket(cookie, state).connection,
            state,
            form: Form::Full,
            since: Ktime(0),
            in_state: Duration::ZERO,
            at_least: false,
            queues: None,
            uid: None,
            owners: Owners::default(),
            cgroup: None,
            fwmark: None,
            autobound: None,
            bound: false,
            inode: None,
            figures: None,
        }
    }

    #[test]
    fn what_stands_still_must_be_alike() {
        let look = Look {
            before: vec![socket(1, Listen), socket(2, Established), socket(3, Listen)],
            rows: vec![row(1, Listen), row(2, FinWait1), row(4, Established)],
            after: vec![socket(1, Listen), socket(2, Established), socket(3, Listen)],
        };
        let comparison = compare(&look);
        assert_eq!((comparison.agreed, comparison.moved), (1, 0));
        let mut states: Vec<_> = comparison.differences.iter().map(Difference::key).collect();
        states.sort();
        let states: Vec<_> = states
            .into_iter()
            .flatten()
            .map(|((cookie, ..), kernel, table)| (cookie, kernel, table))
            .collect();
        assert_eq!(
            states,
            [
                (Cookie(2), Some(Established), Some(FinWait1)),
                (Cookie(3), Some(Listen), None),
                (Cookie(4), None, Some(Established)),
            ]
        );
    }

    #[test]
    fn a_port_that_the_table_lacks_is_one_difference() {
        let mut without_port = row(1, Established);
        without_port.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), 0);
        let look = Look {
            before: vec![socket(1, Established)],
            rows: vec![without_port],
            after: vec![socket(1, Established)],
        };
        let [difference] = compare(&look).differences[..] else {
            panic!("not one difference");
        };
        assert!(difference.kernel.is_some() && difference.table.is_some());
    }

    #[test]
    fn what_moves_proves_nothing() {
        let look = Look {
            // One changes, one goes, one comes.
            before: vec![socket(1, Established), socket(2, Established)],
            rows: vec![row(2, FinWait1), row(3, Established)],
            after: vec![socket(1, FinWait1), socket(3, Established)],
        };
        let comparison = compare(&look);
        assert_eq!((comparison.agreed, comparison.moved), (0, 3));
        assert_eq!(comparison.differences, []);
    }

    #[test]
    fn a_difference_is_as_old_as_the_first_look_that_found_it() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        let missing = Difference {
            kernel: Some(socket(1, Listen)),
            table: None,
        };
        let later = start + Duration::from_secs(2);
        assert_eq!(ledger.enter(start, &[missing])[0].1, Duration::ZERO);
        assert_eq!(ledger.enter(later, &[missing])[0].1, Duration::from_secs(2));
        // A socket that differs in another way has moved on meanwhile.
        let other = Difference {
            kernel: Some(socket(1, Established)),
            table: None,
        };
        assert_eq!(ledger.enter(later, &[other])[0].1, Duration::ZERO);
        assert_eq!(ledger.longest_settled(), Duration::from_secs(2));
    }
}
