//! Answers of rows, completed out of the table in parts.

use std::sync::Arc;

use super::{PART, answer::RowAnswer};
use crate::{
    clock::Ktime,
    facts::FigureSet,
    table::{Table, Unshown, Vacated},
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
    /// Those that the sweep has not shown; the others have been told meanwhile. Not those with ends that were another's when it
    /// began, which the sweep may have shown.
    These(Arc<Unshown>, Vacated),
}

/// The answers under way, and how far each has come.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<(Copying, usize)>);

impl Copies {
    /// Whether there are any.
    pub(super) fn pending(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn add(&mut self, copy: Copying) {
        self.0.push((copy, 0));
    }

    /// Copies one part for each, and hands it over.
    pub(super) fn advance(&mut self, table: &Table, now: Ktime) {
        for (mut copy, at) in std::mem::take(&mut self.0) {
            if copy.answer.is_idle() {
                continue;
            }
            if copy.advance(table, at, now) {
                self.0.push((copy, at + PART));
            } else {
                copy.answer.end(copy.about);
            }
        }
    }
}

impl Copying {
    /// Tells of the part that begins at `at`. Returns whether there was one.
    fn advance(&mut self, table: &Table, at: usize, now: Ktime) -> bool {
        match &mut self.rest {
            Rest::All => table.part(at, PART).map(|part| {
                part.for_each(|row| {
                    self.answer.tell(&self.query, row, &self.figures, now);
                });
            }),
            Rest::These(unshown, vacated) => table.unshown_part(unshown, at, PART).map(|part| {
                part.filter(|row| !vacated.has(row, table)).for_each(|row| {
                    self.answer.tell(&self.query, row, &self.figures, now);
                });
            }),
        }
        .is_some()
    }
}
