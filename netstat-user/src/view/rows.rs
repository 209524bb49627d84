//! Rows of the table, and what belongs to an answer that has them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::PackedRows;
use crate::{
    clock::Ktime,
    connection::{Connection, Netns},
    facts::{FigureSet, Figures, Form, Queues},
    filter::{Filter, Subject},
    namespaces::{Refused, UNREACHABLE},
    owners::Owners,
    settings::Settings,
    table::Row,
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
    /// Its `SO_MARK`; 0 for none.
    pub fwmark: Option<u32>,
    /// As [`Row::autobound`]; up to date if the answer was to have metrics.
    pub autobound: Option<bool>,
    /// It is bound, and neither listens nor connects; no row of the table is.
    pub bound: bool,
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
            at_least: row.at_least(),
            queues: row.queues(),
            uid: row.uid(),
            owners: row.owners(),
            cgroup: row.cgroup(),
            fwmark: row.fwmark(),
            autobound: row.autobound(),
            bound: false,
            inode: row.inode(),
            figures: None,
        }
    }

    /// Its ends, state and queues, and nothing else.
    #[must_use]
    pub fn in_brief(row: &Row) -> Self {
        Self {
            connection: row.connection,
            state: row.state,
            form: row.form,
            since: Ktime(0),
            in_state: Duration::ZERO,
            at_least: false,
            queues: row.queues(),
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

    /// As much of `row` as `query` asks for, with its figures out of `set`.
    #[must_use]
    pub fn answering(query: &RowQuery, row: &Row, set: &FigureSet, now: Ktime) -> Self {
        if query.brief {
            return Self::in_brief(row);
        }
        let mut view = Self::new(row, now);
        if !query.tells_owners() {
            view.owners = Owners::default();
        }
        if query.figures {
            return view.with_figures(set);
        }
        view
    }

    /// The same with its figures out of `set`.
    #[must_use]
    pub fn with_figures(mut self, set: &FigureSet) -> Self {
        self.figures = set.of(&self.connection, self.form);
        self.date();
        self
    }

    /// Corrects since when it is in its state, where no event reported that: the kernel's stamps and timers can show more than
    /// the first scan that found it.
    fn date(&mut self) {
        let Some(figures) = &self.figures else {
            return;
        };
        if !self.at_least || figures.state != self.state {
            return;
        }
        let age = figures.age_of_state();
        let now = self.since.plus(self.in_state);
        self.since = self.since.min(figures.time.minus(age.lasted));
        self.in_state = now.since(self.since);
        self.at_least = !age.exact;
    }
}

/// Which rows a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are a question's wishes")]
pub struct RowQuery {
    /// One namespace; `None` for all.
    pub netns: Option<Netns>,
    /// Those that this matches; `None` for all. With [`holders`](Self::holders), those too that it may match once it is known what
    /// has them, if no process is known that does: who asks finds that out, and leaves out what does not match.
    pub filter: Option<Filter>,
    /// Look for the holders of the sockets first. Without this the answer has no owners, unless it is
    /// [as the table has it](Self::as_is); the filter knows them nevertheless.
    pub holders: bool,
    /// Read the figures of the sockets too: timers, windows, round-trip times and the like.
    pub figures: bool,
    /// As the table has them now, without asking the kernel first; then there are no figures.
    pub as_is: bool,
    /// Ends, state and queues are enough; the rest is empty then.
    pub brief: bool,
}

impl RowQuery {
    /// What a diagnosis takes: owners and figures; and all rows, since what a filter matches is judged by all others too.
    #[must_use]
    pub const fn for_diagnosis(netns: Option<Netns>) -> Self {
        Self {
            netns,
            filter: None,
            holders: true,
            figures: true,
            as_is: false,
            brief: false,
        }
    }

    /// Whether the answer has owners.
    fn tells_owners(&self) -> bool {
        self.holders || self.as_is
    }

    /// Whether `row` is a part of the answer: see [`RowQuery::filter`].
    #[must_use]
    pub fn wants(&self, row: &Row) -> bool {
        let matches = |filter: &Filter| {
            let may_be_held = || self.holders && filter.names_holders() && row.is_kept();
            filter.matches_row(row) || may_be_held() && filter.can_match_kept(row)
        };
        self.netns.is_none_or(|netns| netns == row.connection.netns)
            && self.filter.as_ref().is_none_or(matches)
    }

    /// Keeps the rows that match, once it is known what else has sockets.
    pub(crate) fn retain_matching(&self, rows: &mut Vec<RowView>) {
        if let Some(filter) = self.filter.as_ref().filter(|filter| filter.names_holders()) {
            rows.retain(|row| filter.matches(&Subject::from(row)));
        }
    }
}

/// A piece of the answer to a [`RowQuery`].
#[derive(Debug)]
pub enum RowPart {
    /// Some of the rows.
    Rows(PackedRows),
    /// None of the rows so far is a part of the answer: they are told again.
    Again,
    /// There are no more; and what there is to know besides.
    End(About),
}

/// Whoever takes the rows of an answer as they come.
pub trait RowSink {
    /// Takes a row.
    fn take(&mut self, row: RowView);

    /// Forgets all of them: they are told again.
    fn begin_again(&mut self);
}

impl RowSink for Vec<RowView> {
    fn take(&mut self, row: RowView) {
        self.push(row);
    }

    fn begin_again(&mut self) {
        self.clear();
    }
}

/// The rows that answer a [`RowQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The rows.
    pub rows: Vec<RowView>,
    /// What there is to know besides.
    pub about: About,
}

/// What there is to know of a snapshot besides its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Namespaces of which the rows may be wrong or missing.
    pub unswept: Vec<Unswept>,
    /// Processes whose namespaces may be missing.
    pub refused: Option<Refused>,
    /// Why owners may be missing.
    pub unseen: Option<Unseen>,
    /// What the namespaces are set to, if figures were asked for.
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
            Self::Files(why) => write!(f, "cannot find the processes that hold the sockets, except those that acted on one: {why}"),
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
    /// Nothing leads into it: only sockets keep it, or a mount that another one covers. Its rows show what events have reported.
    Unreachable,
    /// Processes that may be in it cannot be looked into. Its rows show what events have reported.
    Refused(Refused),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(why) => f.write_str(why),
            Self::Unreachable => write!(f, "{UNREACHABLE}; its rows show what events have reported"),
            Self::Refused(refused) => write!(f, "{refused}; its rows show what events have reported"),
        }
    }
}
