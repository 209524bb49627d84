//! Which processes have to act for a finding to go away, and which of them can be expected to.

use std::{fmt, num::NonZeroU32};

use super::Kind;
use crate::{
    activity::{Activity, Epoll, Hindrance, Question},
    connection::{Owner, OwnerSource},
    owners::Kept,
    processes,
};

/// A process that a finding depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Which process, and how it is known.
    pub owner: Owner,
    /// How many connections it holds, or has held last, that came from the listener.
    pub accepted: usize,
    /// What it was doing, once somebody has read that.
    pub activity: Option<Activity>,
}

/// The processes that a finding depends on: those that hold the listener or the socket, or the other end of the
/// connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Suspects {
    listed: Vec<Suspect>,
    /// How many others there are.
    unlisted: u32,
    /// The inode of the listener, if it is about one.
    listener: Option<u64>,
    /// What has the socket, where no process has a descriptor of it.
    kept: Option<Kept>,
}

impl Suspects {
    pub(super) const fn new(listed: Vec<Suspect>, unlisted: u32, listener: Option<u64>) -> Self {
        Self {
            listed,
            unlisted,
            listener,
            kept: None,
        }
    }

    pub(super) fn with_kept(self, kept: Option<&Kept>) -> Self {
        Self {
            kept: kept.cloned(),
            ..self
        }
    }

    /// What has the socket, where no process has a descriptor of it.
    #[must_use]
    pub const fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// All of them, those first that can be expected to act.
    pub fn iter(&self) -> impl Iterator<Item = &Suspect> {
        self.listed.iter()
    }

    /// How many are not listed.
    #[must_use]
    pub const fn unlisted(&self) -> u32 {
        self.unlisted
    }

    /// What has to be read of them: see [`activity::read`](crate::activity::read).
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.listed.iter().map(|suspect| Question {
            owner: suspect.owner,
            listener: self.listener,
        })
    }

    /// Takes what has been read, in the order of [`questions`](Self::questions).
    pub fn learn(&mut self, activities: impl IntoIterator<Item = Option<Activity>>) {
        for (suspect, activity) in self.listed.iter_mut().zip(activities) {
            suspect.activity = activity;
        }
        self.listed
            .sort_by_key(|suspect| (suspect.rank(), std::cmp::Reverse(suspect.accepted)));
    }

    /// Those that can be expected to act: of a listener those that have accepted from it or wait to do so, unless
    /// there are none.
    pub fn expected(&self) -> impl Iterator<Item = &Suspect> {
        let best = self.listed.iter().map(Suspect::rank).min();
        let only_best = self.listener.is_some() && best < Some(Rank::Listens);
        let keeps = move |suspect: &&Suspect| !only_best || suspect.rank() < Rank::Listens;
        self.listed.iter().filter(keeps)
    }

    /// What keeps those from acting that can be expected to, each with its process.
    pub fn hindrances(&self) -> impl Iterator<Item = (&Suspect, &Hindrance)> {
        self.expected()
            .flat_map(|suspect| suspect.hindrances().map(move |hindrance| (suspect, hindrance)))
    }

    /// The first that can be expected to act and that is able to.
    pub(super) fn able(&self) -> Option<&Suspect> {
        self.expected()
            .find(|suspect| !suspect.hindrances().any(Hindrance::stops_all))
    }
}

/// How much can be expected of a process that holds a listener, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Accepted,
    Waits,
    Listens,
}

impl Suspect {
    pub(super) const fn new(owner: Owner, accepted: usize) -> Self {
        Self {
            owner,
            accepted,
            activity: None,
        }
    }

    /// What keeps it from running.
    pub fn hindrances(&self) -> impl Iterator<Item = &Hindrance> {
        self.activity.iter().flat_map(|activity| &activity.hindrances)
    }

    /// Its name and process id.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} ({})", self.owner.comm, self.owner.pid)
    }

    fn rank(&self) -> Rank {
        let waits = |activity: &Activity| activity.accepts || activity.epoll.is_some();
        if self.accepted > 0 {
            Rank::Accepted
        } else if self.activity.as_ref().is_some_and(waits) {
            Rank::Waits
        } else {
            Rank::Listens
        }
    }

    /// It waits for events that come once for several connections.
    pub(super) fn misses_events(&self) -> bool {
        let epoll = self.activity.as_ref().and_then(|activity| activity.epoll);
        epoll.is_some_and(|epoll| epoll.edge_triggered)
    }

    /// The command that follows what it does.
    pub(super) fn trace(&self) -> String {
        match self.thread() {
            Some(thread) => format!("`strace -p {thread}`"),
            None => format!("`strace -fp {}`", self.owner.pid),
        }
    }

    /// Where `/proc` shows its descriptors and its stack.
    pub(super) fn folder(&self) -> String {
        processes::folder(self.owner.pid, self.thread().and_then(NonZeroU32::new))
    }

    /// The thread to look at, where the main thread does not have the socket, or is gone.
    fn thread(&self) -> Option<u32> {
        let with_socket = self.owner.tid.map(NonZeroU32::get);
        with_socket.or_else(|| self.living_thread())
    }

    fn living_thread(&self) -> Option<u32> {
        self.hindrances().find_map(|hindrance| match hindrance {
            Hindrance::LeaderExited { thread, .. } => Some(*thread),
            _ => None,
        })
    }
}

/// What is known of one that holds a listener.
pub(crate) struct AsHolder<'a>(pub(crate) &'a Suspect);

impl fmt::Display for AsHolder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suspect = self.0;
        write!(f, "{}", suspect.name())?;
        if let Some(fd) = suspect.owner.fd {
            write!(f, " fd {fd}")?;
        }
        let activity = suspect.activity.as_ref();
        let accepts = activity.is_some_and(|activity| activity.accepts);
        let epoll = activity.and_then(|activity| activity.epoll);
        match suspect.accepted {
            0 if accepts || epoll.is_some() => {}
            0 => f.write_str(" only listens")?,
            accepted => write!(f, " has accepted {accepted}")?,
        }
        if accepts {
            f.write_str(" waits in accept")?;
        }
        match epoll {
            Some(Epoll { edge_triggered: true }) => f.write_str(" watches it by epoll (edge-triggered)")?,
            Some(_) => f.write_str(" watches it by epoll")?,
            None => {}
        }
        let mut hindrances = suspect.hindrances().peekable();
        if hindrances.peek().is_none()
            && let Some(function) = activity.and_then(|activity| activity.function.as_ref())
            && !accepts
        {
            write!(f, ", sleeps in {function}")?;
        }
        hindrances.try_for_each(|hindrance| write!(f, ", {hindrance}"))
    }
}

/// Whether a finding of this kind depends on who holds a listener.
pub(super) const fn is_about_listener(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::HeldByAcceptQueue | Kind::AcceptQueueFull | Kind::AcceptQueueFilling
    )
}

/// Whether it depends on whoever holds the other end.
pub(super) const fn is_about_peer(kind: Kind) -> bool {
    matches!(kind, Kind::ZeroWindow | Kind::HalfClosed | Kind::PeerNotClosing)
}

/// Whether it depends on whoever holds this end.
pub(super) const fn is_about_holder(kind: Kind) -> bool {
    matches!(kind, Kind::DataUnread | Kind::NotClosed)
}

/// Those of `owners` that hold the socket.
pub(super) fn holding<'a>(owners: impl Iterator<Item = &'a Owner>) -> impl Iterator<Item = &'a Owner> {
    owners.filter(|owner| owner.source != OwnerSource::Last)
}
