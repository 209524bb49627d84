//! What leaves the engine: rows, stream items and statistics, as values that can be sent and printed.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Connection, Netns},
    facts::{FigureSet, Figures, Form, Queues, Totals},
    filter::Filter,
    owners::Owners,
    settings::Settings,
    sources::HookState,
    table::{Ended, Ending, Mark, Row, Step, Transition},
    tcp::TcpState,
};

/// A row of the table at the moment of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowView {
    /// Which connection.
    pub connection: Connection,
    /// Its state.
    pub state: TcpState,
    /// The kernel's structure for it.
    pub form: Form,
    /// Since when.
    pub since: Ktime,
    /// How long that is.
    pub in_state: Duration,
    /// Both are bounds: the state is older than that.
    pub at_least: bool,
    /// Its queues, read from the kernel for this answer.
    pub queues: Option<Queues>,
    /// The socket's user.
    pub uid: Option<u32>,
    /// Who holds it, or held it last.
    pub owners: Owners,
    /// The socket's control group.
    pub cgroup: Option<u64>,
    /// The inode of the file behind it.
    pub inode: Option<u64>,
    /// Its figures, read from the kernel for this answer, if it was asked for them. A socket that has become
    /// something else since has none.
    pub figures: Option<Box<Figures>>,
}

impl RowView {
    /// `row` as it is at `now`.
    #[must_use]
    pub fn new(row: &Row, now: Ktime) -> Self {
        Self {
            connection: row.connection,
            state: row.state,
            form: row.form,
            since: row.since,
            in_state: row.in_state(now),
            at_least: row.at_least,
            queues: row.queues,
            uid: row.uid,
            owners: row.owners.clone(),
            cgroup: row.cgroup,
            inode: row.inode,
            figures: None,
        }
    }

    /// The same with its figures out of `set`.
    #[must_use]
    pub fn with_figures(self, set: &FigureSet) -> Self {
        let figures = set.of(&self.connection, self.form);
        Self { figures, ..self }
    }
}

/// Which rows a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowQuery {
    /// One namespace; `None` for all.
    pub netns: Option<Netns>,
    /// Those that this matches; `None` for all.
    pub filter: Option<Filter>,
    /// Look for the holders of the sockets first.
    pub holders: bool,
    /// Read the figures of the sockets too: timers, windows, round-trip times and the like.
    pub figures: bool,
    /// As the table has them now, without asking the kernel first; then there are no figures.
    pub as_is: bool,
}

impl RowQuery {
    /// Whether `row` is a part of the answer.
    #[must_use]
    pub fn wants(&self, row: &Row) -> bool {
        self.netns.is_none_or(|netns| netns == row.connection.netns)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&row.into()))
    }
}

/// Which transitions somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WatchQuery {
    /// Those of one namespace; `None` for all.
    pub netns: Option<Netns>,
    /// Those that this matches; `None` for all.
    pub filter: Option<Filter>,
}

impl WatchQuery {
    /// Whether `item` is to be seen; what is about no connection in particular is about all.
    #[must_use]
    pub fn wants(&self, item: &StreamItem) -> bool {
        let StreamItem::Transition(transition) = item else {
            return true;
        };
        self.netns
            .is_none_or(|netns| netns == transition.connection.netns)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&transition.into()))
    }
}

/// What the table remembers of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    /// The row, as it is, or as it was in the end.
    pub row: RowView,
    steps: Vec<Step>,
    marks: Vec<Mark>,
    /// What had come of it when its full sock closed, if that is over.
    pub totals: Option<Totals>,
    /// How many older steps it has forgotten.
    pub forgotten: u32,
    /// How it has ended; `None` when it has not.
    pub ending: Option<Ending>,
}

impl HistoryView {
    /// What `row` remembers at `now`.
    #[must_use]
    pub fn new(row: &Row, now: Ktime) -> Self {
        Self {
            row: RowView::new(row, now),
            steps: row.history().to_vec(),
            marks: row.marks().to_vec(),
            totals: row.totals(),
            forgotten: row.forgotten(),
            ending: None,
        }
    }

    /// The same with the row's figures out of `set`.
    #[must_use]
    pub fn with_figures(self, set: &FigureSet) -> Self {
        let row = self.row.with_figures(set);
        Self { row, ..self }
    }

    /// What is left of a connection that has ended.
    #[must_use]
    pub fn ended(ended: &Ended, now: Ktime) -> Self {
        Self {
            ending: Some(ended.ending),
            ..Self::new(&ended.row, now)
        }
    }

    /// The steps, oldest first.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Retransmissions and RSTs, oldest first.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}

/// Which histories a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Those of the rows that this is about, and of what was such a row until it ended.
    pub rows: RowQuery,
    /// So many, those first of which something was heard last; at most [`HistoryQuery::MOST`].
    pub most: u32,
}

impl HistoryQuery {
    /// As many as fit into one frame.
    pub const MOST: u32 = 256;
}

/// What answers a [`HistoryQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histories {
    /// Those of which something was heard last come first.
    pub found: Vec<HistoryView>,
    /// How many there are besides.
    pub more: usize,
}

/// The rows that answer a [`RowQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The rows.
    pub rows: Vec<RowView>,
    /// Namespaces of which the rows may be wrong or missing.
    pub unswept: Vec<Unswept>,
    /// Why owners may be missing.
    pub unseen: Option<Unseen>,
    /// What the namespaces are set to, if figures were asked for.
    pub settings: Vec<(Netns, Settings)>,
}

/// What comes behind the rows of a snapshot: as in [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the fields of a snapshot")]
pub struct SnapshotEnd {
    pub unswept: Vec<Unswept>,
    pub unseen: Option<Unseen>,
    pub settings: Vec<(Netns, Settings)>,
}

/// Why nobody can tell who holds some sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unseen {
    /// Open files cannot be scanned: what the system said.
    Files(String),
    /// The scan goes through one PID namespace, which is not the root's.
    Processes,
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(why) => write!(f, "cannot tell who holds the sockets, but for those who were seen to act: {why}"),
            Self::Processes => f.write_str(
                "cannot see the processes outside of this PID namespace, so the owners of their sockets are missing: \
                 run netstate in the host's, such as with `nsenter -t 1 -p`, or `docker run --pid=host`",
            ),
        }
    }
}

/// A network namespace whose sockets cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unswept {
    /// Which.
    pub netns: Netns,
    /// Why.
    pub trouble: Trouble,
}

/// Why the sockets of a namespace cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// It could not be entered: what the system said.
    Closed(String),
    /// Nothing leads into it: sockets alone keep it alive. Its rows are what events have told.
    Unreachable,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(why) => f.write_str(why),
            Self::Unreachable => f.write_str(
                "nothing but sockets keeps it, so nobody can look into it: what is shown is what events have told",
            ),
        }
    }
}

/// How many rows a namespace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// Which namespace.
    pub netns: Netns,
    /// Its rows.
    pub rows: usize,
}

/// One item of the stream of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamItem {
    /// A connection changed its state.
    Transition(Transition),
    /// The kernel had no room for some events, or could not run the program: the table is repaired, the
    /// transitions are gone. Comes after everything that happened before `until` and was not lost.
    Lost(Loss),
    /// This reader was too slow and missed items.
    Missed {
        /// How many.
        items: u64,
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

/// Counts of the tracer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The version of the program that answers.
    pub version: String,
    /// How long the tracer has been attached.
    pub uptime: Duration,
    /// Rows by [`TcpState::index`].
    pub by_state: [usize; TcpState::ALL.len()],
    /// Namespaces that have rows: those with most rows first, at most [`Stats::MOST_NAMESPACES`].
    pub by_namespace: Vec<Population>,
    /// How many namespaces have rows.
    pub namespaces: usize,
    /// Namespaces that cannot be looked into, at most [`Stats::MOST_NAMESPACES`].
    pub unswept: Vec<Unswept>,
    /// Events read.
    pub events: u64,
    /// Events a second over the last ten seconds.
    pub events_per_second: f64,
    /// Transitions reported.
    pub transitions: u64,
    /// Events for which the ring had no room, by CPU.
    pub lost_ring_full: Vec<u64>,
    /// What hooks told of minisocks, request socks and ports, and found no room, by CPU.
    pub lost_news_ring_full: Vec<u64>,
    /// Events that came while the program was running on the same CPU.
    pub lost_recursion: u64,
    /// Retransmissions and RSTs that are not in any history, for whatever reason. No row is wrong for want of them.
    pub lost_marks: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
    /// The hooks in the kernel, and why it has not taken some.
    pub hooks: Vec<HookState>,
    /// The longest that the table can differ from the kernel.
    pub settling: Duration,
    /// Sweeps finished.
    pub sweeps: u64,
    /// Sweeps that came to nothing.
    pub sweeps_void: u64,
    /// Processor time of the last sweep.
    pub sweep_cost: Duration,
    /// Processor time of all sweeps.
    pub sweep_cost_total: Duration,
    /// Rows of which something is missing until the next sweep.
    pub urgent: usize,
    /// Minisocks and request socks, whose changes sweeps find.
    pub lingering: usize,
    /// Connections that have ended and are remembered.
    pub ended: usize,
    /// Bytes that those take.
    pub ended_bytes: usize,
    /// Readers of the stream.
    pub subscribers: usize,
}

impl Stats {
    /// How many namespaces are told one by one.
    pub const MOST_NAMESPACES: usize = 1000;

    /// State changes lost, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let ring_full = self.lost_ring_full.iter().chain(&self.lost_news_ring_full);
        ring_full.sum::<u64>() + self.lost_recursion
    }
}
