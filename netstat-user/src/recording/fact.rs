//! One thing that the table is told.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Cookie, Netns},
    facts::{ConnectFailure, Holder, Sighting, SocketGone, SocketMark, SocketNews, StateEvent},
    table::Lost,
    view::Loss,
};

/// One thing that the table is told, or of the stream's own. What is long comes in parts: the sightings of a sweep, then
/// that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A socket changed its state.
    State(StateEvent),
    /// A hook told of a socket.
    News(SocketNews),
    /// A hook told of a sock that ended.
    Gone(SocketGone),
    /// Something happened to a socket.
    Mark(SocketMark),
    /// So late was it when ends that waited for their reason were told.
    Released(Ktime),
    /// A sweep began.
    SweepBegun,
    /// A sweep has seen a socket.
    Seen(Sighting),
    /// It has seen a part of a namespace, that is, all sockets since the last of these.
    Walked {
        /// The namespace.
        netns: Netns,
        /// A time before the first look at the namespace.
        start: Ktime,
        /// It is the first part.
        first: bool,
        /// A time after the last look, if it is the last part.
        end: Option<Ktime>,
    },
    /// A namespace was looked for in vain.
    Absent(Lost),
    /// The sweep is over, with all namespaces that were looked for in vain before this.
    SweepEnded {
        /// When it began.
        start: Ktime,
        /// When it ended.
        end: Ktime,
    },
    /// The rows in so many places more were judged by the sweep that is over.
    Judged(usize),
    /// A scan has found a descriptor.
    Held(Holder),
    /// The scan is over, with all descriptors that were found before this.
    Scanned {
        /// A time before the first look.
        start: Ktime,
        /// It went through all processes.
        complete: bool,
    },
    /// The rows in so many places more got what the scan has found.
    Joined(usize),
    /// The kernel had no room for some events.
    Unseen(Loss),
    /// A `connect` failed.
    ConnectFailure(ConnectFailure),
}

impl Fact {
    /// The socket that it is about, if it is an event of one.
    #[must_use]
    pub const fn cookie(&self) -> Option<Cookie> {
        match self {
            Self::State(event) => Some(event.connection.cookie),
            Self::News(news) => Some(news.connection.cookie),
            Self::Gone(gone) => Some(gone.cookie),
            Self::Mark(mark) => Some(mark.cookie),
            Self::ConnectFailure(failure) => Some(failure.connection.cookie),
            _ => None,
        }
    }
}
