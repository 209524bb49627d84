//! Answers of rows, completed out of the table in parts.

use std::{ops::RangeInclusive, sync::Arc};

use super::{PART, answer::RowAnswer};
use crate::{
    clock::Ktime,
    facts::FigureSet,
    table::Table,
    view::{About, RowQuery},
};

/// An answer that somebody waits for.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) query: RowQuery,
    pub(super) figures: Arc<FigureSet>,
    pub(super) about: About,
    pub(super) answer: RowAnswer,
    /// The walks, by [`Table::walks`], whose rows have been told already.
    pub(super) shown: Option<RangeInclusive<u32>>,
}

/// The answers under way, and the place of the table that each has come to.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<(Copy, usize)>);

impl Copies {
    /// Whether there are any.
    pub(super) fn pending(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether no sweep may begin: it would show rows again, and none could be told from those that are still to be told.
    pub(super) fn hold_sweeps(&self) -> bool {
        self.0.iter().any(|(copy, _)| copy.shown.is_some())
    }

    pub(super) fn add(&mut self, copy: Copy) {
        self.0.push((copy, 0));
    }

    /// Copies one part for each, and hands it over.
    pub(super) fn advance(&mut self, table: &Table, now: Ktime) {
        for (mut copy, at) in std::mem::take(&mut self.0) {
            if copy.answer.is_idle() {
                continue;
            }
            let Some(part) = table.part(at, PART) else {
                copy.answer.end(copy.about);
                continue;
            };
            for row in part {
                if copy
                    .shown
                    .as_ref()
                    .is_none_or(|shown| !shown.contains(&row.walk()))
                {
                    copy.answer.tell(&copy.query, row, &copy.figures, now);
                }
            }
            self.0.push((copy, at + PART));
        }
    }
}
