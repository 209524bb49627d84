//! What is tested, and on what.

use serde::{Deserialize, Serialize};

use super::{Pattern, Ports, Prefix, StateSet};
use crate::{
    connection::{Comm, Connection, Cookie, Endpoint, Family, Netns, Owner},
    facts::ConnectFailure,
    owners::Owners,
    table::{Row, Transition},
    tcp::TcpState,
    view::RowView,
};

/// One test of a socket. What is not known fits none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// Is in one of these states, or goes from or to one.
    State(StateSet),
    /// Has such an end.
    End(Side, Ends),
    /// Is held by this process.
    Pid(u32),
    /// Is held by a process of this name.
    Comm(Comm),
    /// Is held by a process with a name of this kind.
    CommLike(Pattern),
    /// Belongs to this user.
    Uid(u32),
    /// Lives in this network namespace.
    Netns(Netns),
    /// Is bound to the interface with this number, in this network namespace if one is given: numbers are each namespace's own.
    Device(Option<Netns>, u32),
    /// Is of this address family.
    Family(Family),
    /// Is the one with this cookie.
    Cookie(Cookie),
    /// Is a subflow of an MPTCP connection.
    Mptcp,
    /// Belongs to the control group with this number.
    Cgroup(u64),
    /// Is bound, and neither listens nor connects.
    Bound,
    /// Has this `SO_MARK`, as far as the mask goes.
    Fwmark {
        /// What is left of the mark.
        value: u32,
        /// The bits that count.
        mask: u32,
    },
    /// Has a local port that the kernel has chosen.
    Autobound,
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// This host's.
    Local,
    /// The other.
    Remote,
    /// One of the two.
    Either,
}

/// What an end is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Its address; any if there is none.
    pub prefix: Option<Prefix>,
    /// Its port; any, or no port at all, if there are none.
    pub ports: Option<Ports>,
}

impl Ends {
    fn include(self, end: &Endpoint, family: Family) -> bool {
        self.prefix.is_none_or(|prefix| prefix.covers(end, family))
            && self.ports.is_none_or(|ports| ports.contain(end.port()))
    }
}

impl Test {
    /// Whether it is about who holds a socket.
    pub(super) const fn is_about_holders(&self) -> bool {
        matches!(self, Self::Pid(_) | Self::Comm(_) | Self::CommLike(_))
    }

    /// Whether `subject` passes.
    #[must_use]
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        let connection = subject.connection;
        match *self {
            Self::State(states) => states.meets(subject.states),
            Self::End(side, ends) => {
                let local = || ends.include(&connection.local, connection.family);
                let remote = || ends.include(&connection.remote, connection.family);
                match side {
                    Side::Local => local(),
                    Side::Remote => remote(),
                    Side::Either => local() || remote(),
                }
            }
            Self::Pid(pid) => subject.is_held_by(|owner| owner.pid == pid),
            Self::Comm(comm) => subject.is_held_by(|owner| owner.comm == comm),
            Self::CommLike(pattern) => subject.is_held_by(|owner| pattern.fits(&owner.comm)),
            Self::Uid(uid) => subject.uid == Some(uid),
            Self::Netns(netns) => connection.netns == netns,
            Self::Device(netns, index) => {
                connection.device.is_some_and(|device| device.get() == index)
                    && netns.is_none_or(|netns| netns == connection.netns)
            }
            Self::Family(family) => connection.family == family,
            Self::Cookie(cookie) => connection.cookie == cookie,
            Self::Mptcp => connection.mptcp,
            Self::Bound => subject.bound,
            Self::Cgroup(cgroup) => subject.cgroup == Some(cgroup),
            Self::Fwmark { value, mask } => subject.fwmark.is_some_and(|fwmark| fwmark & mask == value),
            Self::Autobound => subject.autobound == Some(true),
        }
    }
}

/// What a filter looks at: a row of the table, or a transition.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Which connection.
    pub connection: &'a Connection,
    /// Its state, or both states of a transition.
    pub states: StateSet,
    /// Who holds it, or did something with it.
    pub owner: Option<Owner>,
    /// All that hold it, as far as they are listed.
    pub owners: Option<&'a Owners>,
    /// Its user.
    pub uid: Option<u32>,
    /// Its control group.
    pub cgroup: Option<u64>,
    /// Its `SO_MARK`.
    pub fwmark: Option<u32>,
    /// Whether the kernel has chosen its port, as far as that can be told.
    pub autobound: Option<bool>,
    /// It is bound, and neither listens nor connects.
    pub bound: bool,
}

impl Subject<'_> {
    fn is_held_by(&self, wanted: impl Fn(&Owner) -> bool) -> bool {
        let mut listed = self.owners.into_iter().flat_map(Owners::iter);
        self.owner.is_some_and(|owner| wanted(&owner)) || listed.any(wanted)
    }
}

impl<'a> From<&'a Row> for Subject<'a> {
    /// Without the owners, which are not in the row in this form.
    fn from(row: &'a Row) -> Self {
        Self {
            connection: &row.connection,
            states: row.state.into(),
            owner: None,
            owners: None,
            uid: row.uid(),
            cgroup: row.cgroup(),
            fwmark: row.fwmark(),
            autobound: row.autobound(),
            bound: false,
        }
    }
}

impl<'a> From<&'a RowView> for Subject<'a> {
    fn from(row: &'a RowView) -> Self {
        Self {
            connection: &row.connection,
            states: row.state.into(),
            owner: None,
            owners: Some(&row.owners),
            uid: row.uid,
            cgroup: row.cgroup,
            fwmark: row.fwmark,
            autobound: row.autobound,
            bound: row.bound,
        }
    }
}

impl<'a> From<&'a ConnectFailure> for Subject<'a> {
    fn from(failure: &'a ConnectFailure) -> Self {
        Self {
            connection: &failure.connection,
            states: TcpState::Close.into(),
            owner: failure.owner,
            owners: None,
            uid: Some(failure.uid),
            cgroup: failure.cgroup,
            fwmark: Some(failure.fwmark),
            autobound: None,
            bound: false,
        }
    }
}

impl<'a> From<&'a Transition> for Subject<'a> {
    fn from(transition: &'a Transition) -> Self {
        let from = transition.from.map(StateSet::from).unwrap_or_default();
        Self {
            connection: &transition.connection,
            states: from.union(transition.to.into()),
            owner: transition.owner,
            owners: None,
            uid: transition.uid,
            cgroup: transition.cgroup,
            fwmark: transition.fwmark,
            autobound: None,
            bound: false,
        }
    }
}
