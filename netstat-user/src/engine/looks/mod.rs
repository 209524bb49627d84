//! Answers by a look at each socket that the table has, where it is, instead of a walk over all.
//!
//! That is right where the table knows of every socket that the filter can match. Full socks are announced everywhere. Of
//! minisocks the beginning is known, and a look tells whether they have ended. Half-open connections are not announced
//! everywhere, but a look at their listeners tells whether there are any. Wherever something is not clear, the question waits for a
//! sweep as any other. So it does if the kernel says anything else than the table, and goes on to: a state is
//! announced before it is stored (`inet_sk_set_state`), so once every event of the time of the look has been folded, an
//! announced one is the same in both, unless it is changing just then.

use std::collections::VecDeque;

use super::{Core, Events, PART, answer::RowAnswer, counting::knows_all, questions::Question};
use crate::{
    clock::Ktime,
    connection::Cookie,
    facts::{Form, Look, LookKind, Looked, Queues},
    filter::{Filter, Op, Test},
    loader::LoadError,
    sources::Coverage,
    sweeper::Job,
    table::{Place, Row, Settlement, Table, Vacated},
    tcp::TcpState,
    view::{About, RowQuery},
};

/// Parts of the table that are looked at at the same time: one while the next one is searched, and another one behind it.
const AHEAD: usize = 3;
/// How often what changes just then is looked at again, before a sweep is asked.
const TRIES: u8 = 3;

/// The row of a socket that is looked at.
#[derive(Debug, Clone, Copy)]
struct Target {
    place: Place,
    /// There may be another row in its place by then.
    cookie: Cookie,
}

/// Sockets to look at, and the rows that they have.
#[derive(Debug, Default)]
struct Aims {
    targets: Vec<Target>,
    looks: Vec<Look>,
}

/// A question whose sockets are looked at.
#[derive(Debug)]
struct Looking {
    number: u64,
    /// When it was asked.
    time: Ktime,
    query: RowQuery,
    answer: RowAnswer,
    /// The place that the search through the table has come to; `None` when it is over.
    at: Option<usize>,
    /// What the sweeper has been asked and has not answered yet, in that order.
    asked: VecDeque<Aims>,
    /// What has ended since.
    vacated: Vacated,
    /// Rows of which the table and the kernel have not said the same.
    again: Vec<Target>,
    /// How often those have been looked at again.
    tries: u8,
}

/// The questions under way.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The kernel lets sockets be looked at, and everything is ready for that.
    possible: bool,
    /// It has been said that they cannot be.
    told: bool,
    questions: Vec<Looking>,
}

impl Looks {
    /// Whether sockets can be looked at.
    pub(super) fn prepared(&mut self, prepared: Result<(), LoadError>) {
        match prepared {
            Ok(()) => self.possible = true,
            Err(error) => self.refused(&error),
        }
    }

    /// Sockets cannot be looked at until it is said again that they can.
    fn refused(&mut self, error: &LoadError) {
        self.possible = false;
        if !std::mem::replace(&mut self.told, true) {
            log::info!("each list scans all sockets, since single sockets cannot be read: {error}");
        }
    }

    /// Whether a search can go on.
    pub(super) fn pending(&self) -> bool {
        let can_go_on = |looking: &Looking| looking.searches() || looking.answer.is_idle();
        self.questions.iter().any(can_go_on)
    }

    /// Whether `query` is of a kind that can be answered so.
    pub(super) fn can_answer(&self, query: &RowQuery) -> bool {
        // The owner of a socket, its mark, and whether it is of MPTCP, can change without an event.
        let unannounced = |op: &Op| {
            let Op::Test(test) = op else { return false };
            matches!(
                test,
                Test::Uid(_) | Test::Mptcp | Test::Cgroup(_) | Test::Fwmark { .. } | Test::Autobound
            )
        };
        let filter = query.filter.as_ref();
        // Of an inode, no event tells.
        let plain = query.brief && !(query.as_is || query.holders || query.figures);
        self.possible && plain && !filter.is_some_and(|filter| filter.ops().iter().any(unannounced))
    }

    pub(super) fn add(
        &mut self,
        number: u64,
        query: RowQuery,
        answer: RowAnswer,
        vacated: Vacated,
        now: Ktime,
    ) {
        self.questions.push(Looking {
            number,
            time: now,
            query,
            answer,
            at: Some(0),
            asked: VecDeque::new(),
            vacated,
            again: Vec::new(),
            tries: 0,
        });
    }
}

/// Only a sweep can tell.
struct Unclear;

/// Whether half-open connections can be a part of the answer, and nobody tells of them: their listeners have to be asked whether there
/// are any.
pub(super) fn must_ask_listeners(query: &RowQuery, coverage: Coverage) -> bool {
    let filter = query.filter.as_ref();
    !coverage.requests && filter.is_none_or(|filter| filter.can_match(TcpState::SynRecv))
}

impl Looking {
    fn searches(&self) -> bool {
        self.at.is_some() && self.asked.len() < AHEAD && self.answer.can_go_on()
    }

    /// Searches the next part of the table for what to look at.
    fn search(&mut self, table: &Table) -> Result<Aims, Unclear> {
        let mut aims = Aims::default();
        let coverage = table.coverage();
        let listeners = must_ask_listeners(&self.query, coverage);
        let at = self.at.unwrap_or_default();
        let part = table.placed(at, PART);
        self.at = part.is_some().then_some(at + PART);
        for (place, row) in part.into_iter().flatten() {
            if self
                .query
                .netns
                .is_some_and(|netns| netns != row.connection.netns)
            {
                continue;
            }
            if listeners && row.form == Form::Request {
                return Err(Unclear);
            }
            if self.query.wants(row) || listeners && row.state == TcpState::Listen {
                self.consider(place, row, table, &mut aims)?;
            } else if can_become_wanted(self.query.filter.as_ref(), row, coverage) {
                return Err(Unclear);
            }
        }
        Ok(aims)
    }

    /// Adds to `aims` what was not clear before.
    fn search_again(&mut self, table: &Table) -> Result<Aims, Unclear> {
        let mut aims = Aims::default();
        for target in std::mem::take(&mut self.again) {
            if let Some(row) = target.row(table) {
                self.consider(target.place, row, table, &mut aims)?;
            }
        }
        Ok(aims)
    }

    /// What is to be done with a row that is a part of the answer: its sock is looked at, unless the table knows all of it,
    /// since it has no queues.
    fn consider(&mut self, place: Place, row: &Row, table: &Table, aims: &mut Aims) -> Result<(), Unclear> {
        let coverage = table.coverage();
        let target = Target {
            place,
            cookie: row.connection.cookie,
        };
        if row.announced() {
            // It is not there any more.
        } else if row.has_begun_since(self.time) || self.vacated.has(row, table) {
            // It was not there yet, or not with these ends; who had them then may have been told of.
        } else if row.connection.local.port().is_none() {
            // Its event came before it had one.
            self.again.push(target);
        } else if row.form != Form::Full && row.settlement(coverage) == Settlement::Settled {
            self.answer.tell_with(&self.query, row, Queues::default());
        } else if let Some(skaddr) = row.skaddr().filter(|_| row.form != Form::Request) {
            aims.targets.push(target);
            aims.looks.push(Look {
                skaddr,
                cookie: target.cookie,
                kind: kind(row),
            });
        } else if row.form == Form::Full || coverage.minisocks {
            self.again.push(target);
        } else {
            // Where it is, only a sweep can tell.
            return Err(Unclear);
        }
        Ok(())
    }

    /// What the kernel says of a row, whose events up to then have all been folded.
    fn compare(&mut self, target: Target, look: Look, looked: Looked, table: &Table) -> Result<(), Unclear> {
        let Some(row) = target.row(table) else {
            return Ok(());
        };
        let same_kind = kind(row) == look.kind;
        match looked {
            Looked::There(sight) if same_kind && row.state == sight.state => {
                let listens = look.kind == LookKind::Listener;
                if listens && must_ask_listeners(&self.query, table.coverage()) && sight.requests > 0 {
                    return Err(Unclear);
                }
                if !self.vacated.has(row, table) {
                    self.answer.tell_with(&self.query, row, sight.queues);
                }
            }
            // It has ended, and nobody has said so.
            Looked::Gone if look.kind == LookKind::Minisock && row.skaddr() == Some(look.skaddr) => {}
            _ => self.again.push(target),
        }
        Ok(())
    }

    fn into_question(self) -> Question {
        Question::Rows(self.query, self.answer).again()
    }
}

impl Target {
    fn row(self, table: &Table) -> Option<&Row> {
        let row = table.at(self.place);
        row.filter(|row| row.connection.cookie == self.cookie)
    }
}

/// What a look at the sock of `row` is at; no request sock is looked at.
fn kind(row: &Row) -> LookKind {
    match (row.form, row.state) {
        (Form::Minisock | Form::Request, _) => LookKind::Minisock,
        (Form::Full, TcpState::Listen) => LookKind::Listener,
        (Form::Full, _) => LookKind::Connection,
    }
}

/// Whether `row`, which `filter` does not match, can have become one without anybody having told.
fn can_become_wanted(filter: Option<&Filter>, row: &Row, coverage: Coverage) -> bool {
    let Some(filter) = filter else {
        return false;
    };
    let portless = row.connection.local.port().is_none() && row.state != TcpState::Close;
    let moves = row.form == Form::Minisock && row.state == TcpState::FinWait2 && !coverage.minisocks;
    let by_state = |filter: &Filter| filter.names_states() && filter.can_match(TcpState::TimeWait);
    portless || moves && by_state(filter)
}

impl Core {
    /// Goes on with the search of one question, each in its turn, and has the sweeper look at what it finds.
    pub(super) fn search_for_looks(&mut self) {
        let questions = &mut self.looks.questions;
        questions.retain(|looking| !looking.answer.is_idle());
        if let Some(next) = questions.iter().position(Looking::searches) {
            let mut looking = questions.remove(next);
            let found = looking.search(&self.table);
            self.go_on(looking, found);
        }
    }

    /// Has the sweeper look at what was found, or, if there is nothing left to do for the question, ends it.
    fn go_on(&mut self, mut looking: Looking, mut found: Result<Aims, Unclear>) {
        loop {
            let Ok(aims) = found else {
                self.sweeps.want(looking.into_question());
                return;
            };
            if !aims.targets.is_empty() {
                // If the sweeper is gone, the engine is about to end for it.
                let _ = self.jobs.send(Job::Look(looking.number, aims.looks.clone()));
                looking.asked.push_back(aims);
            }
            if looking.at.is_some() || !looking.asked.is_empty() {
                self.looks.questions.push(looking);
                return;
            }
            if looking.again.is_empty() || looking.tries == TRIES {
                self.end_looks(looking);
                return;
            }
            looking.tries += 1;
            found = looking.search_again(&self.table);
        }
    }

    /// Sockets have been looked at for the question with this number.
    pub(super) fn looked(
        &mut self,
        number: u64,
        found: Result<Vec<Looked>, LoadError>,
        ring: &mut impl Events,
    ) {
        if let Err(error) = &found {
            self.looks.refused(error);
            // It may have been for want of memory.
            let _ = self.jobs.send(Job::PrepareLooks);
        }
        let questions = &mut self.looks.questions;
        let Some(at) = questions.iter().position(|looking| looking.number == number) else {
            return;
        };
        let mut looking = questions.remove(at);
        let (Ok(found), Some(aims)) = (found, looking.asked.pop_front()) else {
            self.sweeps.want(looking.into_question());
            return;
        };
        // What is in the ring may be older than the look.
        self.read_up_to(Ktime::now(), ring);
        let mut found = aims.targets.into_iter().zip(aims.looks).zip(found);
        let compared =
            found.try_for_each(|((target, look), looked)| looking.compare(target, look, looked, &self.table));
        self.go_on(looking, compared.map(|()| Aims::default()));
    }

    fn end_looks(&mut self, looking: Looking) {
        // The table does not know of everything once something is lost, until a sweep has made it good.
        self.check_losses();
        let whole = !self.sweeps.is_damaged() && !self.losses.is_rising();
        // A listener may have ended in the meantime, and not all that belonged to it.
        let known = knows_all(&self.table, &looking.query, Ktime::now());
        if whole && known && looking.again.is_empty() {
            self.counters.looks += 1;
            looking.answer.end(About {
                unswept: self.places.unswept_in(looking.query.netns),
                refused: self.places.refused(looking.query.netns),
                ..About::default()
            });
        } else {
            self.sweeps.want(looking.into_question());
        }
    }
}

#[cfg(test)]
mod tests;
