//! Searches for connections, live and ended, done in parts.

use std::sync::Arc;

use super::{PART, questions::Reply};
use crate::{
    clock::Ktime,
    facts::FigureSet,
    table::Table,
    view::{Histories, HistoryQuery, HistoryView},
};

/// A search that somebody waits for.
#[derive(Debug)]
struct Search {
    query: HistoryQuery,
    figures: Arc<FigureSet>,
    stage: Stage,
    found: Vec<HistoryView>,
    more: usize,
    reply: Reply<Histories>,
}

/// What is looked through next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The rows from this place on.
    Live(usize),
    /// What has ended, before this number.
    Ended(u64),
}

/// The searches under way.
#[derive(Debug, Default)]
pub(super) struct Searches(Vec<Search>);

impl Searches {
    /// Whether there are any.
    pub(super) fn pending(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn add(&mut self, query: HistoryQuery, figures: Arc<FigureSet>, reply: Reply<Histories>) {
        self.0.push(Search {
            query,
            figures,
            stage: Stage::Live(0),
            found: Vec::new(),
            more: 0,
            reply,
        });
    }

    /// Does one part of each; answers those that are done.
    pub(super) fn advance(&mut self, table: &Table, now: Ktime) {
        for mut search in std::mem::take(&mut self.0) {
            if search.reply.is_closed() {
                continue;
            }
            match search.part(table, now) {
                Some(stage) => {
                    search.stage = stage;
                    self.0.push(search);
                }
                None => search.answer(),
            }
        }
    }
}

impl Search {
    /// Looks through one part; `None` when that was the last one.
    fn part(&mut self, table: &Table, now: Ktime) -> Option<Stage> {
        match self.stage {
            Stage::Live(from) => {
                let Some(part) = table.part(from, PART) else {
                    return Some(Stage::Ended(table.ended_until()));
                };
                let query = &self.query.rows;
                let wanted = part.filter(|row| !row.doubtful() && query.wants(row));
                self.found
                    .extend(wanted.map(|row| HistoryView::new(row, now).with_figures(&self.figures)));
                self.keep_latest();
                Some(Stage::Live(from + PART))
            }
            Stage::Ended(until) => {
                let (part, next) = table.ended_before(until, PART);
                let query = &self.query.rows;
                let wanted = part.filter(|ended| query.wants(&ended.row));
                self.found
                    .extend(wanted.map(|ended| HistoryView::ended(ended, now)));
                self.keep_latest();
                next.map(Stage::Ended)
            }
        }
    }

    /// Keeps those of which something was heard last.
    fn keep_latest(&mut self) {
        let most = self.query.most as usize;
        self.found
            .sort_by_key(|history| std::cmp::Reverse(history.row.since));
        self.more += self.found.len().saturating_sub(most);
        self.found.truncate(most);
    }

    fn answer(self) {
        // Whoever asked may have gone since.
        let _ = self.reply.send(Ok(Histories {
            found: self.found,
            more: self.more,
        }));
    }
}
