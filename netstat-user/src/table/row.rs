//! One row of the table: a connection, its state, and how it came there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie},
    facts::{Form, Queues, Sighting},
    owners::Owners,
    sources::Coverage,
    table::transition::Source,
    tcp::TcpState,
};

/// How many steps a row remembers; the oldest go first.
pub const HISTORY: usize = 16;

/// A past step of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub time: Ktime,
    /// The state before, if known.
    pub from: Option<TcpState>,
    /// The state after.
    pub to: TcpState,
    /// How it is known.
    pub source: Source,
}

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The one of this socket.
    Socket(Cookie),
    /// The one of a minisock whose socket has been disconnected and used again, and has the cookie too.
    Left(u64),
}

impl From<Cookie> for Key {
    fn from(cookie: Cookie) -> Self {
        Self::Socket(cookie)
    }
}

/// How urgently a row waits for a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Every change will be announced.
    Settled,
    /// A minisock in TIME_WAIT, or a request sock: its end comes unannounced, but not soon.
    Lingering,
    /// Something is missing, or will be in a moment, that only a sweep can tell.
    Urgent,
}

/// A connection as the table knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which connection.
    pub connection: Connection,
    /// Its state.
    pub state: TcpState,
    /// The kernel's structure for it.
    pub form: Form,
    /// Since when it is in that state.
    pub since: Ktime,
    /// The state is older than `since`: it was there when the row was first seen.
    pub at_least: bool,
    /// The socket's user.
    pub uid: Option<u32>,
    /// The socket's control group.
    pub cgroup: Option<u64>,
    /// The inode of the file behind the socket.
    pub inode: Option<u64>,
    /// Of a subflow, the MPTCP socket that processes hold.
    pub mptcp: Option<Cookie>,
    /// The processes that hold the socket, or held it last.
    pub owners: Owners,
    /// Queues at the last sighting; `None` when there was none yet.
    pub queues: Option<Queues>,
    pub(super) key: Key,
    history: Vec<Step>,
    forgotten: u32,
    /// The latest time at which anything was known of the row.
    pub(super) last_fact: Ktime,
    /// The last sweep that passed over the row's place.
    pub(super) generation: u32,
    /// How many sweeps in a row did not find it.
    pub(super) missed: u8,
    /// A sweep has seen the row in its present form.
    pub(super) confirmed: bool,
}

impl Row {
    /// A row that begins with an event.
    pub(super) fn begun(connection: Connection, state: TcpState, time: Ktime) -> Self {
        Self {
            connection,
            state,
            form: Form::Full,
            since: time,
            at_least: false,
            uid: None,
            cgroup: None,
            inode: None,
            mptcp: None,
            owners: Owners::default(),
            queues: None,
            key: Key::Socket(connection.cookie),
            history: Vec::new(),
            forgotten: 0,
            last_fact: time,
            generation: 0,
            missed: 0,
            confirmed: false,
        }
    }

    /// A row that a sweep came upon.
    pub(super) fn found(seen: &Sighting, generation: u32) -> Self {
        let mut row = Self::begun(seen.connection, seen.state, seen.time);
        row.at_least = true;
        row.see(seen, generation);
        row
    }

    /// Takes over what a sighting tells, the state excepted.
    pub(super) fn see(&mut self, seen: &Sighting, generation: u32) {
        self.connection.complete(&seen.connection);
        self.form = seen.form;
        self.uid = seen.uid.or(self.uid);
        self.cgroup = seen.cgroup.or(self.cgroup);
        self.inode = seen.inode;
        self.mptcp = seen.mptcp.or(self.mptcp);
        // A subflow has no file of its own.
        let nobodys = seen.inode.is_none() && !self.connection.mptcp && self.owners.is_held();
        if seen.form == Form::Minisock || nobodys {
            self.owners.let_go(seen.time);
        }
        self.queues = Some(seen.queues);
        self.last_fact = seen.time;
        self.confirmed = true;
        self.passed(generation);
    }

    /// Notes that a sweep found the row.
    pub(super) fn passed(&mut self, generation: u32) {
        self.generation = generation;
        self.missed = 0;
    }

    /// Moves the row to another state.
    pub(super) fn enter(&mut self, step: Step, at_least: bool) {
        self.record(step);
        self.state = step.to;
        self.since = step.time;
        self.at_least = at_least;
    }

    /// Adds a step to the history, in its place.
    pub(super) fn record(&mut self, step: Step) {
        if self.history.len() == HISTORY {
            self.history.remove(0);
            self.forgotten += 1;
        }
        let at = self.history.partition_point(|past| past.time <= step.time);
        self.history.insert(at, step);
    }

    /// Gives back memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.history.shrink_to_fit();
    }

    /// Bytes that the row takes besides its own place.
    pub(super) fn heap_size(&self) -> usize {
        self.history.capacity() * std::mem::size_of::<Step>()
    }

    /// The row's steps, oldest first, at most [`HISTORY`].
    #[must_use]
    pub fn history(&self) -> &[Step] {
        &self.history
    }

    /// How many older steps the row has forgotten.
    #[must_use]
    pub const fn forgotten(&self) -> u32 {
        self.forgotten
    }

    /// Whether the last sweep did not find the row: then it is probably gone, and the next one decides.
    #[must_use]
    pub const fn doubtful(&self) -> bool {
        self.missed > 0
    }

    /// How long the row has been in its state.
    #[must_use]
    pub fn in_state(&self, now: Ktime) -> Duration {
        now.since(self.since)
    }

    /// Whether a process must hold the socket, and none is known that does.
    #[must_use]
    pub fn is_ownerless(&self) -> bool {
        // In the other states it may be an orphan, or is so for a moment only.
        let held = matches!(
            self.state,
            TcpState::Listen | TcpState::SynSent | TcpState::Established | TcpState::CloseWait
        );
        self.form == Form::Full && held && self.owners.is_open()
    }

    /// What the row still waits for, if the kernel announces what `coverage` says.
    #[must_use]
    pub fn settlement(&self, coverage: Coverage) -> Settlement {
        let no_port = self.connection.local.port().is_none();
        let connecting = no_port && self.state == TcpState::SynSent;
        // `listen` without `bind` is announced before the kernel picks the port (`inet_csk_listen_start`).
        let listening = no_port && self.state == TcpState::Listen;
        let assumed = self.form == Form::Minisock && !self.confirmed;
        // Most peers close too: the step to TIME_WAIT is only a round trip away.
        let closing = self.form == Form::Minisock && self.state == TcpState::FinWait2;
        let covered = match self.form {
            Form::Full => true,
            Form::Request => coverage.requests,
            Form::Minisock => coverage.minisocks,
        };
        let missing = (connecting && !coverage.ports) || listening || (closing && !coverage.minisocks);
        if missing || assumed || self.doubtful() {
            Settlement::Urgent
        } else if covered {
            Settlement::Settled
        } else {
            Settlement::Lingering
        }
    }
}
