//! Sweeps as the engine drives them: when they start, what waits for them, and holding each back until its
//! fence has come out of the event ring.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Core, EngineError};
use crate::{
    clock::Ktime,
    connection::Netns,
    facts::Fence,
    schedule::Schedule,
    sources::Coverage,
    sweeper::{Job, Outcome, Scope, SweepDone, SweepError},
    table::{NamespaceSweep, Unsettled},
    view::{RowQuery, RowView},
};

/// A fence: its session and time. The kernel calls the iterator's end again when its output found no room, and
/// only the last of such fences is in the sweep.
type Mark = (u64, Ktime);

fn mark(fence: Fence) -> Mark {
    (fence.session, fence.time)
}

type Reply = oneshot::Sender<Result<Vec<RowView>, String>>;

/// A question that waits for a sweep which starts after it was asked.
#[derive(Debug)]
struct Question {
    query: RowQuery,
    reply: Reply,
}

/// A sweep under way.
#[derive(Debug, Default)]
struct Running {
    questions: Vec<Question>,
    /// Walked, but events of that time may still be in the ring.
    unfenced: HashMap<Mark, NamespaceSweep>,
    done: Option<SweepDone>,
    /// Some namespace's fence found no room in the ring, so its sweep cannot be placed among the events.
    void: bool,
}

/// The engine's sweeps.
#[derive(Debug)]
pub(super) struct Sweeps {
    schedule: Schedule,
    running: Option<Running>,
    /// Fences that came out of the ring before the sweeper reported their sweep.
    passed: HashSet<Mark>,
    waiting: Vec<Question>,
    urgent: usize,
    seeded: bool,
    not_ready: Vec<oneshot::Sender<()>>,
}

impl Sweeps {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            schedule: Schedule::new(now),
            running: None,
            passed: HashSet::new(),
            waiting: Vec::new(),
            urgent: 0,
            seeded: false,
            not_ready: Vec::new(),
        }
    }

    /// Whether a sweep may start.
    pub(super) fn idle(&self) -> bool {
        self.running.is_none()
    }

    /// When the next one is due: at once if somebody waits for it.
    pub(super) fn due(&self) -> Instant {
        if self.waiting.is_empty() {
            self.schedule.due()
        } else {
            Instant::now()
        }
    }

    pub(super) fn want(&mut self, query: RowQuery, reply: Reply) {
        self.waiting.push(Question { query, reply });
    }

    pub(super) fn when_seeded(&mut self, reply: oneshot::Sender<()>) {
        if self.seeded {
            let _ = reply.send(());
        } else {
            self.not_ready.push(reply);
        }
    }

    pub(super) fn fence_passed(&mut self, fence: Fence) {
        self.passed.insert(mark(fence));
    }

    /// Events have been folded and left this much open.
    pub(super) fn noticed(&mut self, now: Instant, unsettled: Unsettled) {
        if unsettled.urgent > self.urgent {
            self.schedule.unsettled(now);
        }
        self.urgent = unsettled.urgent;
    }

    /// As [`Schedule::settling`].
    pub(super) fn settling(&self, coverage: Coverage) -> Duration {
        self.schedule.settling(coverage)
    }

    pub(super) fn damaged(&mut self, now: Instant) {
        self.schedule.damaged(now);
    }
}

impl Core {
    pub(super) fn start_sweep(&mut self) -> Result<(), EngineError> {
        let questions = std::mem::take(&mut self.sweeps.waiting);
        if questions.iter().any(|question| question.query.holders) {
            self.jobs
                .send(Job::Holders)
                .map_err(|_| EngineError::SweeperGone)?;
        }
        let scope = self.scope(&questions, Instant::now());
        self.jobs
            .send(Job::Sockets(scope))
            .map_err(|_| EngineError::SweeperGone)?;
        self.table.begin_sweep();
        self.sweeps.schedule.begun();
        self.sweeps.running = Some(Running {
            questions,
            ..Running::default()
        });
        Ok(())
    }

    /// Where to look: everywhere when that is due or asked for, else where something is open or asked about.
    fn scope(&self, questions: &[Question], now: Instant) -> Scope {
        let asked: Option<Vec<Netns>> = questions.iter().map(|question| question.query.netns).collect();
        let everywhere = self.sweeps.schedule.is_full_due(now);
        match asked {
            Some(mut namespaces) if !everywhere => {
                if self.sweeps.schedule.due() <= now {
                    namespaces.extend(self.table.unsettled_namespaces());
                }
                namespaces.sort_unstable();
                namespaces.dedup();
                Scope::Only(namespaces)
            }
            _ => Scope::All(self.table.namespaces().collect()),
        }
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Holders(Ok(holders)) => self.table.apply_holders(holders),
            Outcome::Holders(Err(error)) => log::warn!("cannot tell who holds the sockets: {error}"),
            Outcome::Namespace(sweep, fence) => {
                if let Some(running) = &mut self.sweeps.running {
                    running.void |= !fence.in_ring;
                    if fence.in_ring {
                        running.unfenced.insert(mark(fence), sweep);
                    }
                }
            }
            Outcome::SocketsDone(done) => {
                if let Some(running) = &mut self.sweeps.running {
                    running.done = Some(done);
                }
            }
        }
        self.fold_fenced();
    }

    /// Folds the sweeps whose fence has come out of the ring, and ends the walk when all are.
    pub(super) fn fold_fenced(&mut self) {
        let Some(running) = &mut self.sweeps.running else {
            return;
        };
        let passed = &mut self.sweeps.passed;
        let ready: Vec<_> = running
            .unfenced
            .extract_if(|mark, _| passed.remove(mark))
            .collect();
        let over = running.unfenced.is_empty() && running.done.is_some();
        for (_, sweep) in ready {
            self.table.apply_sweep(&sweep, &mut self.fresh);
        }
        if over
            && let Some(Running {
                done: Some(done),
                questions,
                void,
                ..
            }) = self.sweeps.running.take()
        {
            self.finish_sweep(&done, questions, void);
        }
        self.publish();
    }

    fn finish_sweep(&mut self, done: &SweepDone, questions: Vec<Question>, void: bool) {
        for (netns, error) in &done.failed {
            log::debug!("network namespace {} was not swept: {error}", netns.0);
        }
        match &done.found {
            Some(found) if !void => self.table.end_sweep(found, done.start, done.end, &mut self.fresh),
            _ => self.table.abandon_sweep(),
        }
        self.sweeps.passed.clear();
        let now = Instant::now();
        self.counters.swept(done.cost, void);
        let unsettled = self.table.unsettled();
        self.sweeps.urgent = unsettled.urgent;
        self.sweeps
            .schedule
            .swept(now, done.cost, unsettled, done.found.is_some());
        if done
            .failed
            .iter()
            .any(|(_, error)| matches!(error, SweepError::Absent(_)))
        {
            self.sweeps.schedule.look_everywhere(now);
        }
        if void {
            self.sweeps.schedule.damaged(now);
            self.sweeps.waiting.extend(questions);
            return;
        }
        if done.found.is_some() && !self.sweeps.seeded {
            self.sweeps.seeded = true;
            for reply in self.sweeps.not_ready.drain(..) {
                let _ = reply.send(());
            }
        }
        self.answer(questions, done);
    }

    fn answer(&mut self, questions: Vec<Question>, done: &SweepDone) {
        for Question { query, reply } in questions {
            let failure = done.failed.iter().find(|(netns, _)| query.netns == Some(*netns));
            match failure {
                Some((_, error)) => {
                    let _ = reply.send(Err(error.to_string()));
                }
                None => self.copies.add(query.netns, reply),
            }
        }
    }
}
