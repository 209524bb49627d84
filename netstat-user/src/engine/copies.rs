//! Snapshots of the table, copied in parts.

use std::sync::Arc;

use super::questions::Reply;
use crate::{
    clock::Ktime,
    facts::FigureSet,
    table::Table,
    view::{About, RowQuery, RowView, Snapshot},
};

/// Places of the table copied at once: a fraction of a millisecond.
const PART: usize = 4096;

/// A snapshot that somebody waits for.
#[derive(Debug)]
struct Copy {
    query: RowQuery,
    figures: Arc<FigureSet>,
    at: usize,
    snapshot: Snapshot,
    reply: Reply<Snapshot>,
}

/// The snapshots under way.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<Copy>);

impl Copies {
    /// Whether there are any.
    pub(super) fn pending(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn add(
        &mut self,
        query: RowQuery,
        about: About,
        figures: Arc<FigureSet>,
        reply: Reply<Snapshot>,
    ) {
        self.0.push(Copy {
            query,
            figures,
            at: 0,
            snapshot: Snapshot {
                rows: Vec::new(),
                about,
            },
            reply,
        });
    }

    /// Copies one part for each; hands over those that are complete.
    pub(super) fn advance(&mut self, table: &Table, now: Ktime) {
        for mut copy in std::mem::take(&mut self.0) {
            if copy.reply.is_closed() {
                continue;
            }
            let Some(part) = table.part(copy.at, PART) else {
                // Whoever asked may have gone since.
                let _ = copy.reply.send(Ok(copy.snapshot));
                continue;
            };
            // A row that the sweep for this very answer did not find is not there.
            let wanted = part.filter(|row| !row.doubtful() && copy.query.wants(row));
            let rows = &mut copy.snapshot.rows;
            rows.extend(wanted.map(|row| RowView::new(row, now).with_figures(&copy.figures)));
            copy.at += PART;
            self.0.push(copy);
        }
    }
}
