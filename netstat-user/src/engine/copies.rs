//! Snapshots of the table, copied in parts.

use std::sync::Arc;

use super::questions::Parts;
use crate::{
    clock::Ktime,
    facts::FigureSet,
    table::Table,
    view::{About, PackedRows, RowPart, RowQuery, RowView},
};

/// Places of the table copied at once: a fraction of a millisecond.
const PART: usize = 4096;

/// A snapshot that somebody waits for.
#[derive(Debug)]
struct Copy {
    query: RowQuery,
    figures: Arc<FigureSet>,
    at: usize,
    about: About,
    /// Those that have been copied and not yet handed over.
    rows: PackedRows,
    reply: Parts,
}

/// Encodes rows, and hands over as many as fill a frame.
fn pack(
    views: impl Iterator<Item = RowView>,
    rows: &mut PackedRows,
    reply: &Parts,
) -> Result<(), postcard::Error> {
    for view in views {
        rows.push(&view)?;
        if rows.is_full() {
            // Whoever asked may have gone since.
            let _ = reply.send(Ok(RowPart::Rows(std::mem::take(rows))));
        }
    }
    Ok(())
}

/// The snapshots under way.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<Copy>);

impl Copies {
    /// Whether there are any.
    pub(super) fn pending(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn add(&mut self, query: RowQuery, about: About, figures: Arc<FigureSet>, reply: Parts) {
        self.0.push(Copy {
            query,
            figures,
            at: 0,
            about,
            rows: PackedRows::new(),
            reply,
        });
    }

    /// Copies one part for each, and hands it over.
    pub(super) fn advance(&mut self, table: &Table, now: Ktime) {
        for mut copy in std::mem::take(&mut self.0) {
            if copy.reply.is_closed() {
                continue;
            }
            let Some(part) = table.part(copy.at, PART) else {
                // Whoever asked may have gone since.
                if !copy.rows.is_empty() {
                    let _ = copy.reply.send(Ok(RowPart::Rows(copy.rows)));
                }
                let _ = copy.reply.send(Ok(RowPart::End(copy.about)));
                continue;
            };
            // A row that the sweep for this very answer did not find is not there.
            let wanted = part.filter(|row| !row.doubtful() && copy.query.wants(row));
            let views = wanted.map(|row| RowView::answering(&copy.query, row, &copy.figures, now));
            if let Err(error) = pack(views, &mut copy.rows, &copy.reply) {
                let _ = copy.reply.send(Err(format!(
                    "a row cannot be encoded: {error}; please report this"
                )));
                continue;
            }
            copy.at += PART;
            self.0.push(copy);
        }
    }
}
