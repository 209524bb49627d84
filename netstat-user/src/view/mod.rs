//! What leaves the engine: rows, histories, stream items and statistics, as values that can be sent and printed.

mod brief;
mod history;
mod packed;
mod rows;
mod stats;
mod stream;

pub use history::{Histories, HistoryQuery, HistoryView};
pub use packed::{PackedRows, unpack};
pub use rows::{About, RowPart, RowQuery, RowSink, RowView, Snapshot, Trouble, Unseen, Unswept};
pub use stats::{Population, Stats};
pub use stream::{Loss, StreamItem, WatchQuery};
