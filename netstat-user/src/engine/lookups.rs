//! Answers to questions about few sockets without a walk over all: the table says which they are, and the kernel is asked
//! for each of those alone.
//!
//! That is right where the table knows of every socket that the filter can match. Full socks are announced; half-open
//! connections and what minisocks do are not everywhere, nor is the port of every `connect`. Wherever one of those could
//! make a difference, the question waits for a sweep as any other. So it does if the kernel says anything else than the
//! table: a state is announced before it is stored (`inet_sk_set_state`), so once every event of the time of the look has been
//! folded, an announced one is the same in both.

use std::collections::VecDeque;

use super::{Core, PART, answer::RowAnswer, questions::Question};
use crate::{
    clock::Ktime,
    connection::Connection,
    facts::{FigureSet, Form, Looked},
    filter::{Filter, Op, Test},
    loader::EventRing,
    sweeper::Job,
    table::{Row, Table},
    tcp::TcpState,
    view::{About, RowQuery, RowView},
};

/// More sockets than this are found sooner by a walk.
const FEW: usize = 256;

/// A question whose sockets are being found.
#[derive(Debug)]
struct Lookup {
    query: RowQuery,
    answer: RowAnswer,
    /// The place of the table that the search has come to.
    at: usize,
    found: Vec<Connection>,
}

/// The questions under way.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    searching: Vec<Lookup>,
    /// Those that the kernel is asked about, in the order in which it is.
    asked: VecDeque<Lookup>,
}

/// What a row is to a question.
enum Relation {
    /// A part of the answer.
    Wanted,
    /// Nothing.
    Stranger,
    /// Only a sweep can tell.
    Unclear,
}

impl Lookups {
    /// Whether a search is under way.
    pub(super) fn pending(&self) -> bool {
        !self.searching.is_empty()
    }

    /// Whether `query` can be answered so.
    pub(super) fn can_answer(query: &RowQuery, table: &Table, now: Ktime) -> bool {
        let Some(filter) = &query.filter else {
            return false;
        };
        // The owner of a socket, and whether it is of MPTCP, can change without an event.
        let unannounced = |op: &Op| matches!(op, Op::Test(Test::Uid(_) | Test::Mptcp));
        if filter.ops().iter().any(unannounced) {
            return false;
        }
        let knows_requests = table.coverage().requests || !filter.can_match(TcpState::SynRecv);
        let knows_namespace = query.netns.is_none_or(|netns| table.rows_in(netns) > 0);
        knows_requests
            && knows_namespace
            // Of an inode, no event tells.
            && query.brief
            && !(query.as_is || query.holders || query.figures)
            && !table.is_expecting(now)
    }

    pub(super) fn add(&mut self, query: RowQuery, answer: RowAnswer) {
        self.searching.push(Lookup {
            query,
            answer,
            at: 0,
            found: Vec::new(),
        });
    }
}

impl Lookup {
    /// Searches a part of the table. `None` when it takes a sweep, else whether that was the last part.
    fn search(&mut self, table: &Table) -> Option<bool> {
        let Some(part) = table.part(self.at, PART) else {
            return Some(true);
        };
        self.at += PART;
        let minisocks = table.coverage().minisocks;
        for row in part {
            match relation(&self.query, row, minisocks) {
                Relation::Stranger => {}
                Relation::Unclear => return None,
                Relation::Wanted if self.found.len() == FEW => return None,
                Relation::Wanted => self.found.push(row.connection),
            }
        }
        Some(false)
    }

    fn into_question(self) -> Question {
        Question::Rows(self.query, self.answer)
    }
}

/// What `row` is to `query`, where what minisocks do is announced if `minisocks` says so.
fn relation(query: &RowQuery, row: &Row, minisocks: bool) -> Relation {
    let elsewhere = query.netns.is_some_and(|netns| netns != row.connection.netns);
    if elsewhere {
        return Relation::Stranger;
    }
    if query.wants(row) {
        // It may not be there any more; or it shares its cookie with another connection of its socket.
        return if row.doubtful() || row.is_left() {
            Relation::Unclear
        } else {
            Relation::Wanted
        };
    }
    let portless = row.connection.local.port().is_none();
    let moves = row.form == Form::Minisock && row.state == TcpState::FinWait2 && !minisocks;
    let by_state = |filter: &Filter| filter.names_states() && filter.can_match(TcpState::TimeWait);
    if portless || moves && query.filter.as_ref().is_some_and(by_state) {
        Relation::Unclear
    } else {
        Relation::Stranger
    }
}

impl Core {
    /// Goes on with the searches, and has the kernel asked where one is over.
    pub(super) fn search_few(&mut self) {
        for mut lookup in std::mem::take(&mut self.lookups.searching) {
            if lookup.answer.is_idle() {
                continue;
            }
            match lookup.search(&self.table) {
                None => self.sweeps.want(lookup.into_question()),
                Some(false) => self.lookups.searching.push(lookup),
                Some(true) => {
                    let job = Job::Lookup(lookup.found.clone());
                    if self.jobs.send(job).is_ok() {
                        self.lookups.asked.push_back(lookup);
                    }
                }
            }
        }
    }

    /// The kernel has been asked about the sockets of the first question that waits for that.
    pub(super) fn looked_up(&mut self, found: Option<Vec<Looked>>, ring: &mut EventRing) {
        let Some(lookup) = self.lookups.asked.pop_front() else {
            return;
        };
        // What is in the ring may be older than the look.
        let now = Ktime::now();
        while self.drain(ring) && self.latest <= now {}
        // Nor does the table know of everything once something is lost, until a sweep has made it good.
        self.check_losses();
        let whole = !self.sweeps.is_damaged() && !self.losses.is_rising();
        let alike = |(connection, looked): (&Connection, &Looked)| {
            let row = self.table.get(connection.cookie);
            row.is_some_and(|row| row.state == looked.state && row.connection == *connection)
        };
        match found.filter(|_| whole) {
            Some(found) if lookup.found.iter().zip(&found).all(alike) => self.end_lookup(lookup, &found),
            _ => self.sweeps.want(lookup.into_question()),
        }
    }

    fn end_lookup(&mut self, mut lookup: Lookup, found: &[Looked]) {
        let now = Ktime::now();
        let none = FigureSet::default();
        for (connection, looked) in lookup.found.iter().zip(found) {
            if let Some(row) = self.table.get(connection.cookie) {
                let view = RowView {
                    queues: Some(looked.queues),
                    ..RowView::answering(&lookup.query, row, &none, now)
                };
                lookup.answer.push(&view);
            }
        }
        lookup.answer.end(About {
            unswept: self.places.unswept_in(lookup.query.netns),
            ..About::default()
        });
    }
}
