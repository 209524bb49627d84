//! One row of the table: a connection, its state, and how it came there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie},
    facts::{Form, Occurrence, Queues, Sighting, Totals},
    owners::Owners,
    reason::{Known, Side},
    sources::Coverage,
    table::transition::Source,
    tcp::TcpState::{self, CloseWait, Closing, FinWait1, FinWait2, LastAck},
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

/// How many marks a row remembers; the oldest go first.
const MARKS: usize = 16;

/// What has happened to a row without changing its state, once or several times in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What.
    pub what: Occurrence,
    /// When the first time.
    pub first: Ktime,
    /// When the last time.
    pub last: Ktime,
    /// How often.
    pub count: u32,
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
    marks: Vec<Mark>,
    totals: Option<Box<Totals>>,
    /// Its end has been announced, and only its reason is not known yet.
    pub(super) announced: bool,
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
            marks: Vec::new(),
            totals: None,
            announced: false,
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
        self.marks.shrink_to_fit();
    }

    /// Bytes that the row takes besides its own place.
    pub(super) fn heap_size(&self) -> usize {
        let totals = self.totals.as_ref().map_or(0, |_| std::mem::size_of::<Totals>());
        self.history.capacity() * std::mem::size_of::<Step>()
            + self.marks.capacity() * std::mem::size_of::<Mark>()
            + totals
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

    /// Adds what happened to the marks: to the last one, if that is of the same kind and state.
    pub(super) fn mark(&mut self, what: Occurrence, time: Ktime) {
        if let Some(last) = self.marks.last_mut()
            && last.what == what
            && last.last >= self.since
        {
            last.last = last.last.max(time);
            last.count = last.count.saturating_add(1);
            return;
        }
        if self.marks.len() == MARKS {
            self.marks.remove(0);
        }
        self.marks.push(Mark {
            what,
            first: time,
            last: time,
            count: 1,
        });
    }

    /// What has happened besides the steps, oldest first: a bounded number of the latest.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Whether this has happened in the state that the row is in.
    pub(super) fn has_seen(&self, what: Occurrence) -> bool {
        let mut of_state = self.marks.iter().rev().take_while(|mark| mark.last >= self.since);
        of_state.any(|mark| mark.what == what)
    }

    /// What adds to an event that ends the row.
    pub(super) fn known(&self, answered: Option<bool>) -> Known {
        Known {
            closed_by: self.closed_by(),
            reset_received: self.has_seen(Occurrence::ResetReceived),
            reset_sent: self.has_seen(Occurrence::ResetSent),
            answered,
        }
    }

    /// Who closed first, as far as it was seen.
    #[must_use]
    pub fn closed_by(&self) -> Option<Side> {
        let was_in = |states: &[TcpState]| {
            let mut states = states.iter();
            states.any(|state| self.state == *state || self.history.iter().any(|step| step.to == *state))
        };
        if was_in(&[Closing]) {
            Some(Side::Both)
        } else if was_in(&[CloseWait, LastAck]) {
            Some(Side::Peer)
        } else {
            was_in(&[FinWait1, FinWait2]).then_some(Side::Us)
        }
    }

    /// Notes what has come of the connection when its full sock closes.
    pub(super) fn close_with(&mut self, totals: Totals) {
        self.totals = Some(Box::new(totals));
    }

    /// What had come of the connection when its full sock closed; `None` before that.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        self.totals.as_deref().copied()
    }

    /// Whether the row is probably gone: the last sweep did not find it, and the next one decides; or its end has
    /// been announced and is told in a moment.
    #[must_use]
    pub const fn doubtful(&self) -> bool {
        self.missed > 0 || self.announced
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
        let portless = (connecting || listening) && !coverage.ports;
        let assumed = self.form == Form::Minisock && !self.confirmed;
        // Most peers close too: the step to TIME_WAIT is only a round trip away.
        let closing = self.form == Form::Minisock && self.state == TcpState::FinWait2;
        let covered = match self.form {
            Form::Full => true,
            Form::Request => coverage.requests,
            Form::Minisock => coverage.minisocks,
        };
        let missing = portless || (closing && !coverage.minisocks);
        if missing || assumed || self.missed > 0 {
            Settlement::Urgent
        } else if covered {
            Settlement::Settled
        } else {
            Settlement::Lingering
        }
    }
}
