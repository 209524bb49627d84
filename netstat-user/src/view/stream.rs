//! The stream of transitions.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::Netns,
    facts::ConnectFailure,
    filter::{Filter, Subject},
    table::Transition,
};

/// Which transitions somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WatchQuery {
    /// Those of one namespace; `None` for all.
    pub netns: Option<Netns>,
    /// Those that this matches; `None` for all.
    pub filter: Option<Filter>,
}

impl WatchQuery {
    /// Whether every transition is to be seen.
    #[must_use]
    pub const fn wants_all(&self) -> bool {
        self.netns.is_none() && self.filter.is_none()
    }

    /// Whether `item` is to be seen; what is about no connection in particular is about all.
    #[must_use]
    pub fn wants(&self, item: &StreamItem) -> bool {
        let subject: Subject<'_> = match item {
            StreamItem::Transition(transition) => transition.into(),
            StreamItem::ConnectFailed(failure) => failure.into(),
            StreamItem::Lost(_) | StreamItem::Missed { .. } => return true,
        };
        self.netns.is_none_or(|netns| netns == subject.connection.netns)
            && self.filter.as_ref().is_none_or(|filter| filter.matches(&subject))
    }
}

/// One item of the stream of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamItem {
    /// A connection changed its state.
    Transition(Transition),
    /// A `connect` failed, and its socket's state has not changed.
    ConnectFailed(ConnectFailure),
    /// The kernel had no room for some events, or could not run the program: the table is repaired, the
    /// transitions are gone. Comes after everything that happened before `until` and was not lost.
    Lost(Loss),
    /// This reader missed transitions: it was too slow, or they came faster than they could be compared with its query.
    Missed {
        /// How many that its query asks for.
        items: u64,
        /// `items` is an upper bound: some had to go before they were compared with the query.
        at_most: bool,
    },
}

/// State changes that the tracer has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// How many found the ring full.
    pub ring_full: u64,
    /// How many came while the program was running on the same CPU.
    pub interrupted: u64,
    /// None of them happened before that,
    pub since: Ktime,
    /// and none after that.
    pub until: Ktime,
}

impl Loss {
    /// This one and `other` together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ring_full: self.ring_full + other.ring_full,
            interrupted: self.interrupted + other.interrupted,
            since: self.since.min(other.since),
            until: self.until.max(other.until),
        }
    }

    /// How many, for whatever reason.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.ring_full + self.interrupted
    }
}
