//! Answers of rows, completed out of the table in parts.

use std::sync::Arc;

use super::{PART, answer::RowAnswer};
use crate::{
    clock::Ktime,
    facts::FigureSet,
    table::{Place, Table, Unshown, Vacated},
    view::{About, RowQuery},
};

/// An answer that somebody waits for.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) query: RowQuery,
    pub(super) figures: Arc<FigureSet>,
    pub(super) about: About,
    pub(super) answer: RowAnswer,
    pub(super) rest: Rest,
}

/// The rows that are not told yet.
#[derive(Debug, Clone)]
pub(super) enum Rest {
    /// All.
    All,
    /// Those that the scan has not shown, and those that it has when there was no room; the others have been told meanwhile.
    /// Not those with ends that were another's when it began, which the scan may have shown.
    These(Arc<Unshown>, Unshown, Vacated),
}

impl Rest {
    /// The same, and the rows in these places. Another row may be there by now, which the scan has not shown or has shown, too: it
    /// is told once.
    pub(super) fn and(self, deferred: Vec<Place>) -> Self {
        match self {
            Self::All => Self::All,
            Self::These(unshown, _, vacated) => {
                let deferred = Unshown::from(deferred).without(&unshown);
                Self::These(unshown, deferred, vacated)
            }
        }
    }
}

/// The answers under way, and how far each has come.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<(Copying, usize)>);

impl Copies {
    /// Whether any can go on: one whose reader is slow waits for that.
    pub(super) fn pending(&self) -> bool {
        self.0.iter().any(|(copy, _)| copy.answer.can_go_on())
    }

    pub(super) fn add(&mut self, copy: Copying) {
        self.0.push((copy, 0));
    }

    /// Copies one part for each that can go on, and hands it over.
    pub(super) fn advance(&mut self, table: &Table, now: Ktime) {
        for (mut copy, at) in std::mem::take(&mut self.0) {
            if copy.answer.is_idle() {
                continue;
            }
            if !copy.answer.can_go_on() {
                self.0.push((copy, at));
            } else if let Some(next) = copy.advance(table, at, now) {
                self.0.push((copy, next));
            } else {
                copy.answer.end(copy.about);
            }
        }
    }
}

impl Copying {
    /// Tells of the part that begins at `at`. Returns where the next one begins; `None` if there was none.
    fn advance(&mut self, table: &Table, at: usize, now: Ktime) -> Option<usize> {
        let Self {
            query,
            figures,
            answer,
            rest,
            ..
        } = self;
        match rest {
            Rest::All => table.part(at, PART)?.for_each(|row| {
                answer.tell(query, row, figures, now);
            }),
            Rest::These(unshown, deferred, vacated) => {
                let Some(part) = table.unshown_part(unshown, at, PART) else {
                    let deferred = std::mem::take(deferred);
                    if deferred.is_empty() {
                        return None;
                    }
                    *unshown = Arc::new(deferred);
                    return Some(0);
                };
                let known = part.filter(|row| !vacated.has(row, table));
                known.for_each(|row| answer.tell(query, row, figures, now));
            }
        }
        Some(at + PART)
    }
}
