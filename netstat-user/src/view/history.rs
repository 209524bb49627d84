//! The lives of connections.

use serde::{Deserialize, Serialize};

use super::{RowQuery, RowView};
use crate::{
    clock::Ktime,
    facts::{FigureSet, Totals},
    table::{Ended, Ending, Mark, Row, Step},
};

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
            steps: row.history().collect(),
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

    /// One that is made up, for tests.
    #[cfg(test)]
    pub(crate) fn of_steps(row: RowView, steps: Vec<Step>, ending: Option<Ending>) -> Self {
        Self {
            row,
            steps,
            marks: Vec::new(),
            totals: None,
            forgotten: 0,
            ending,
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
