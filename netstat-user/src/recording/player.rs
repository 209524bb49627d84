//! Telling a table what another was told.

use std::mem;

use super::Fact;
use crate::{
    facts::{Holder, HolderScan, Sighting},
    sources::Coverage,
    table::{AHEAD, Lost, SweepPart, Table, Transition},
    view::StreamItem,
};

/// A table that is told what a recording says.
#[derive(Debug)]
pub struct Player {
    table: Table,
    seen: Vec<Sighting>,
    held: Vec<Holder>,
    absent: Vec<Lost>,
    fresh: Vec<Transition>,
}

impl Player {
    /// An empty table, for a kernel that announces what `coverage` says.
    #[must_use]
    pub fn new(coverage: Coverage) -> Self {
        Self {
            table: Table::new(coverage),
            seen: Vec::new(),
            held: Vec::new(),
            absent: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// The table as it is by now.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Tells the table all of this, and adds what comes of it to `out`.
    pub fn tell_all(&mut self, facts: &[Fact], out: &mut Vec<StreamItem>) {
        for some in facts.chunks(AHEAD) {
            self.table.look_ahead(some.iter().filter_map(Fact::cookie));
            for fact in some {
                self.tell(fact, out);
            }
        }
    }

    /// Tells the table one thing, and adds what comes of it to `out`.
    pub fn tell(&mut self, fact: &Fact, out: &mut Vec<StreamItem>) {
        let fresh = &mut self.fresh;
        match *fact {
            Fact::State(ref event) => self.table.apply_event(event, fresh),
            Fact::News(ref news) => self.table.apply_news(news, fresh),
            Fact::Gone(ref gone) => self.table.apply_gone(gone, fresh),
            Fact::Mark(ref mark) => self.table.apply_mark(mark, fresh),
            Fact::Released(now) => self.table.release(now, fresh),
            Fact::SweepBegun => self.table.begin_sweep(),
            Fact::Seen(seen) => self.seen.push(seen),
            Fact::Walked {
                netns,
                start,
                first,
                end,
            } => {
                let sightings = mem::take(&mut self.seen);
                let part = SweepPart {
                    netns,
                    start,
                    first,
                    end,
                    sightings,
                };
                self.table.apply_part(&part, fresh);
            }
            Fact::Absent(lost) => self.absent.push(lost),
            Fact::SweepEnded { start, end } => {
                let absent = mem::take(&mut self.absent);
                self.table.begin_judging(&absent, start, end, fresh);
            }
            Fact::Judged(count) => drop(self.table.judge(count, fresh)),
            Fact::Held(holder) => self.held.push(holder),
            Fact::Scanned { start, complete } => {
                let holders = mem::take(&mut self.held);
                let scan = HolderScan {
                    start,
                    complete,
                    holders,
                };
                self.table.begin_joining(scan.into());
            }
            Fact::Joined(count) => drop(self.table.join(count)),
            Fact::Unseen(loss) => out.push(StreamItem::Lost(loss)),
            Fact::ConnectFailure(ref failure) => {
                let alone = self.table.apply_connect_failure(failure, fresh);
                out.extend(fresh.drain(..).map(StreamItem::Transition));
                if alone {
                    out.push(StreamItem::ConnectFailed(*failure));
                }
            }
        }
        out.extend(self.fresh.drain(..).map(StreamItem::Transition));
    }
}
