//! Connections that have ended: the latest of them, as many as there is room for.

use std::{collections::VecDeque, mem};

use serde::{Deserialize, Serialize};

use super::{Source, row::Row};
use crate::{clock::Ktime, reason::Reason};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When.
    pub time: Ktime,
    /// How that is known.
    pub source: Source,
    /// As [`Transition::earliest`](super::Transition::earliest).
    pub earliest: Option<Ktime>,
    /// Why, if the kernel said.
    pub reason: Option<Reason>,
}

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its row, as it was in the end.
    pub row: Row,
    /// How it ended.
    pub ending: Ending,
}

/// What has ended, oldest first, numbered as it came.
#[derive(Debug, Default)]
pub(super) struct Past {
    ended: VecDeque<Ended>,
    /// The number of the oldest.
    first: u64,
    /// Bytes that they take, and may take.
    bytes: usize,
    limit: usize,
}

impl Ended {
    /// Bytes that it takes.
    fn size(&self) -> usize {
        mem::size_of::<Self>() + self.row.heap_size()
    }
}

impl Past {
    /// Keeps as many as fit into `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub(super) fn keep(&mut self, mut row: Row, ending: Ending) {
        row.shrink();
        let latest = Ended { row, ending };
        self.bytes += latest.size();
        self.ended.push_back(latest);
        while self.bytes > self.limit
            && let Some(oldest) = self.ended.pop_front()
        {
            self.bytes -= oldest.size();
            self.first += 1;
        }
    }

    /// The number that the next one will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.ended.len() as u64
    }

    /// So many of those with numbers below `until`, the latest first, and the number of the last of them if there
    /// are more. To walk them in parts while more come and the oldest go.
    pub(super) fn before(&self, until: u64, count: usize) -> (impl Iterator<Item = &Ended>, Option<u64>) {
        let end = usize::try_from(until.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let end = end.min(self.ended.len());
        let start = end.saturating_sub(count);
        let part = self.ended.range(start..end).rev();
        (part, (start > 0).then(|| self.first + start as u64))
    }

    /// How many there are, and the bytes that they take.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.ended.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        connection::{Connection, Cookie, Endpoint, Family, Netns},
        tcp::TcpState,
    };

    fn row(port: u16) -> Row {
        let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        let connection = Connection {
            cookie: Cookie(port.into()),
            netns: Netns(1),
            family: Family::Inet,
            local: end(port),
            remote: end(80),
            device: None,
            mptcp: false,
        };
        Row::begun(connection, TcpState::Close, Ktime(0))
    }

    const ENDING: Ending = Ending {
        time: Ktime(1),
        source: Source::Event,
        earliest: None,
        reason: None,
    };

    fn all_of(past: &Past, count: usize) -> Vec<&Ended> {
        let mut all = Vec::new();
        let mut until = Some(past.next());
        while let Some(before) = until {
            let (some, next) = past.before(before, count);
            all.extend(some);
            until = next;
        }
        all
    }

    proptest! {
        #[test]
        fn the_latest_are_kept_and_found(ports in 0..40_u16, room in 0..12_usize, part in 1..5_usize) {
            let size = mem::size_of::<Ended>();
            let mut past = Past::new(room * size);
            let mut expected = Vec::new();
            for port in 1..=ports {
                past.keep(row(port), ENDING);
                expected.insert(0, port);
                expected.truncate(room);
            }
            let found = all_of(&past, part).into_iter();
            let found: Vec<_> = found.filter_map(|ended| ended.row.connection.local.port()).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(past.size(), (expected.len(), expected.len() * size));
        }
    }
}
