//! What can be asked of the engine that takes a sweep first.

use tokio::sync::{mpsc, oneshot};

use crate::{
    connection::Netns,
    sweeper::Figuring,
    view::{Histories, HistoryQuery, RowPart, RowQuery},
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, String>>;

/// Where the parts of an answer go, which has no more of them than the table has rows.
pub(super) type Parts = mpsc::UnboundedSender<Result<RowPart, String>>;

/// A question that waits for a sweep which starts after it was asked.
#[derive(Debug)]
pub(super) enum Question {
    /// The rows.
    Rows(RowQuery, Parts),
    /// Histories.
    Histories(HistoryQuery, Reply<Histories>),
    /// Whether there is such a namespace.
    Exists(Netns, Reply<()>),
}

impl Question {
    pub(super) fn netns(&self) -> Option<Netns> {
        match self {
            Self::Rows(query, _) => query.netns,
            Self::Histories(query, _) => query.rows.netns,
            Self::Exists(netns, _) => Some(*netns),
        }
    }

    /// The rows that it is about.
    fn rows(&self) -> Option<&RowQuery> {
        match self {
            Self::Rows(query, _) => Some(query),
            Self::Histories(query, _) => Some(&query.rows),
            Self::Exists(..) => None,
        }
    }

    pub(super) fn wants_holders(&self) -> bool {
        self.rows().is_some_and(|query| query.holders)
    }

    fn wants_figures(&self) -> bool {
        self.rows().is_some_and(|query| query.figures)
    }

    pub(super) fn refuse(self, why: String) {
        // Whoever asked may have gone since.
        let _ = match self {
            Self::Rows(_, reply) => reply.send(Err(why)).map_err(drop),
            Self::Histories(_, reply) => reply.send(Err(why)).map_err(drop),
            Self::Exists(_, reply) => reply.send(Err(why)).map_err(drop),
        };
    }
}

/// Where `questions` want figures.
pub(super) fn figuring(questions: &[Question]) -> Figuring {
    let mut these = Vec::new();
    for question in questions.iter().filter(|question| question.wants_figures()) {
        match question.netns() {
            Some(netns) => these.push(netns),
            None => return Figuring::Everywhere,
        }
    }
    Figuring::In(these)
}
