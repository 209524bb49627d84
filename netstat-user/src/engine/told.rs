//! The table, and the recording of what it is told.

use std::ops::Deref;

use super::recorder::Recorder;
use crate::{
    clock::Ktime,
    facts::{ConnectFailure, HolderIndex, SocketGone, SocketMark, SocketNews, StateEvent},
    recording::Fact,
    table::{Lost, Place, Row, SweepPart, Table, Transition, Unshown, Vacated},
    view::Loss,
};

/// The table, which can be changed only by what is also recorded, if there is a recording.
#[derive(Debug)]
pub(super) struct Told {
    table: Table,
    recorder: Option<Recorder>,
}

impl Deref for Told {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl Told {
    pub(super) fn new(table: Table, recorder: Option<Recorder>) -> Self {
        Self { table, recorder }
    }

    fn record(&mut self, fact: impl FnOnce() -> Fact) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(&fact());
        }
    }

    /// Some facts have been told: what was recorded of them before is written if it is time.
    pub(super) fn keep_up(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.keep_up();
        }
    }

    /// As [`Vacated::from_now_on`], which changes no row.
    pub(super) fn vacated_from_now_on(&mut self, now: Ktime) -> Vacated {
        Vacated::from_now_on(&mut self.table, now)
    }

    pub(super) fn apply_event(&mut self, event: &StateEvent, out: &mut Vec<Transition>) {
        self.record(|| Fact::State(*event));
        self.table.apply_event(event, out);
    }

    pub(super) fn apply_news(&mut self, news: &SocketNews, out: &mut Vec<Transition>) {
        self.record(|| Fact::News(*news));
        self.table.apply_news(news, out);
    }

    pub(super) fn apply_gone(&mut self, gone: &SocketGone, out: &mut Vec<Transition>) {
        self.record(|| Fact::Gone(*gone));
        self.table.apply_gone(gone, out);
    }

    pub(super) fn apply_mark(&mut self, mark: &SocketMark, out: &mut Vec<Transition>) {
        self.record(|| Fact::Mark(*mark));
        self.table.apply_mark(mark, out);
    }

    pub(super) fn apply_connect_failure(
        &mut self,
        failure: &ConnectFailure,
        out: &mut Vec<Transition>,
    ) -> bool {
        self.record(|| Fact::ConnectFailure(*failure));
        self.table.apply_connect_failure(failure, out)
    }

    pub(super) fn release(&mut self, now: Ktime, out: &mut Vec<Transition>) {
        self.record(|| Fact::Released(now));
        self.table.release(now, out);
    }

    pub(super) fn begin_sweep(&mut self) {
        self.record(|| Fact::SweepBegun);
        self.table.begin_sweep();
    }

    pub(super) fn show_part(
        &mut self,
        part: &SweepPart,
        out: &mut Vec<Transition>,
        show: impl FnMut((Place, &Row)),
    ) {
        if self.recorder.is_some() {
            for seen in &part.sightings {
                self.record(|| Fact::Seen(*seen));
            }
            self.record(|| Fact::Walked {
                netns: part.netns,
                start: part.start,
                first: part.first,
                end: part.end,
            });
        }
        self.table.show_part(part, out, show);
    }

    pub(super) fn begin_judging(
        &mut self,
        lost: &[Lost],
        start: Ktime,
        end: Ktime,
        out: &mut Vec<Transition>,
    ) {
        for lost in lost {
            self.record(|| Fact::Absent(*lost));
        }
        self.record(|| Fact::SweepEnded { start, end });
        self.table.begin_judging(lost, start, end, out);
    }

    pub(super) fn judge(&mut self, count: usize, out: &mut Vec<Transition>) -> Option<Unshown> {
        self.record(|| Fact::Judged(count));
        self.table.judge(count, out)
    }

    pub(super) fn begin_joining(&mut self, scan: HolderIndex) {
        if self.recorder.is_some() {
            for holder in scan.holders() {
                self.record(|| Fact::Held(*holder));
            }
            let (start, complete) = (scan.start(), scan.is_complete());
            self.record(|| Fact::Scanned { start, complete });
        }
        self.table.begin_joining(scan);
    }

    pub(super) fn join(&mut self, count: usize) -> bool {
        self.record(|| Fact::Joined(count));
        self.table.join(count)
    }

    /// Events were lost, which the table is not told, but whoever reads the stream.
    pub(super) fn lost(&mut self, loss: Loss) {
        self.record(|| Fact::Unseen(loss));
    }
}
