//! What can be asked of the engine that takes a sweep first.

use tokio::sync::oneshot;

use super::answer::RowAnswer;
use crate::{
    connection::Netns,
    sweeper::Figuring,
    view::{Histories, HistoryQuery, RowQuery},
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, String>>;

/// A question that waits for a sweep which starts after it was asked.
#[derive(Debug)]
pub(super) enum Question {
    /// The rows.
    Rows(RowQuery, RowAnswer),
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

    /// The answer, if its rows are told as the sweep shows them: holders are known only when their scan is over.
    pub(super) fn told_at_once(&mut self) -> Option<(&RowQuery, &mut RowAnswer)> {
        match self {
            Self::Rows(query, answer) if !query.holders => Some((query, answer)),
            _ => None,
        }
    }

    /// The question for another sweep, since the one that it waited for has come to nothing.
    pub(super) fn again(mut self) -> Self {
        if let Self::Rows(_, answer) = &mut self {
            answer.begin_again();
        }
        self
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
            Self::Rows(_, answer) => {
                answer.refuse(why);
                Ok(())
            }
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
