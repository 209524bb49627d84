//! The life of a connection.

use std::io::{self, Write};

use serde::Serialize;

use super::{Socket, line, micros};
use crate::{
    clock::{Ktime, WallClock},
    facts::{Occurrence, Totals},
    labels::Labels,
    namespaces::Names,
    reason::{Reason, Side},
    table::Source,
    timeline,
    view::HistoryView,
};

/// Writes a connection's history: its row, what it has gone through, and how it ended.
///
/// # Errors
///
/// What `out` returns.
pub fn history(
    out: &mut impl Write,
    history: &HistoryView,
    names: &mut Names,
    labels: &mut Labels,
    clock: WallClock,
    now: Ktime,
) -> io::Result<()> {
    let time = |time: Ktime| clock.timestamp(time).to_string();
    let stays = timeline::stays(history, now);
    let stays = stays.iter().map(|stay| HistoryStay {
        state: stay.state.name(),
        since: stay.since.map(time),
        lasted_us: stay.lasted.map(micros),
        at_least: stay.at_least,
        source: stay.source,
        after_gap: stay.after_gap,
    });
    line(
        out,
        &History {
            socket: Socket::of(&history.row, names, labels, clock),
            stays: stays.collect(),
            annotations: history
                .marks()
                .iter()
                .map(|mark| HistoryMark {
                    what: mark.what,
                    count: mark.count,
                    first: time(mark.first),
                    last: time(mark.last),
                })
                .collect(),
            totals: history.totals,
            forgotten: history.forgotten,
            ended: history.ending.map(|ending| HistoryEnd {
                time: time(ending.time),
                earliest: ending.earliest.map(time),
                source: ending.source,
                reason: ending.reason.map(Reason::word),
                reason_detail: ending.reason.and_then(Reason::detail),
                closed_by: ending.reason.and_then(Reason::closed_by),
            }),
        },
    )
}

#[derive(Serialize)]
struct History {
    #[serde(flatten)]
    socket: Socket,
    stays: Vec<HistoryStay>,
    annotations: Vec<HistoryMark>,
    totals: Option<Totals>,
    forgotten: u32,
    ended: Option<HistoryEnd>,
}

#[derive(Serialize)]
struct HistoryStay {
    state: &'static str,
    since: Option<String>,
    lasted_us: Option<u64>,
    at_least: bool,
    source: Option<Source>,
    after_gap: bool,
}

#[derive(Serialize)]
struct HistoryEnd {
    time: String,
    earliest: Option<String>,
    source: Source,
    reason: Option<&'static str>,
    reason_detail: Option<String>,
    closed_by: Option<Side>,
}

#[derive(Serialize)]
struct HistoryMark {
    what: Occurrence,
    count: u32,
    first: String,
    last: String,
}
