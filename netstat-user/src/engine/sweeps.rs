//! Sweeps as the engine drives them: when they start, what waits for them, and holding each back until its
//! fence has come out of the event ring.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Core, EngineError,
    copies::{Copy, Rest},
    questions::{Question, figuring},
};
use crate::{
    clock::Ktime,
    connection::Netns,
    facts::{Fence, FigureSet, Sighting},
    namespaces::Effort,
    schedule::Schedule,
    sources::Coverage,
    sweeper::{Figuring, Job, Outcome, Scope, SweepDone, SweepError, Walked},
    table::{Unsettled, Unshown},
    view::{About, Trouble, Unswept},
};

/// A fence: its session and time. The kernel calls the iterator's end again when its output found no room, and
/// only the last of such fences is in the sweep.
type Mark = (u64, Ktime);

fn mark(fence: Fence) -> Mark {
    (fence.session, fence.time)
}

/// A sweep under way.
#[derive(Debug, Default)]
struct Running {
    questions: Vec<Question>,
    /// Walked, but events of that time may still be in the ring.
    unfenced: VecDeque<(Mark, Walked)>,
    /// Namespaces of which a part made no sense, and why; the rest of their walks is passed over.
    senseless: Vec<(Netns, SweepError)>,
    /// Room for the sightings of a part; empty between two of them, and kept for its memory.
    sightings: Vec<Sighting>,
    /// What questions want to know besides the rows.
    figures: FigureSet,
    done: Option<SweepDone>,
    /// Some namespace's fence found no room in the ring, so its sweep cannot be placed among the events.
    void: bool,
    /// It was due, and not only asked for.
    due: bool,
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
    /// The last sweep could not see everything, for a reason that will pass.
    disturbed: bool,
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
            disturbed: false,
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

    pub(super) fn want(&mut self, question: Question) {
        self.waiting.push(question);
    }

    pub(super) fn when_seeded(&mut self, reply: oneshot::Sender<()>) {
        if self.seeded {
            let _ = reply.send(());
        } else {
            self.not_ready.push(reply);
        }
    }

    /// Whether a part of a sweep waits for its fence.
    pub(super) fn awaits_fence(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| !running.unfenced.is_empty())
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

    /// Something has come up that no row stands for yet.
    pub(super) fn missing(&mut self, now: Instant) {
        self.schedule.unsettled(now);
    }

    /// As [`Schedule::settling`].
    pub(super) fn settling(&self, coverage: Coverage) -> Duration {
        self.schedule.settling(coverage)
    }

    pub(super) fn damaged(&mut self, now: Instant) {
        self.schedule.damaged(now);
    }

    /// Whether something is lost that no sweep has made good yet.
    pub(super) fn is_damaged(&self) -> bool {
        self.schedule.is_damaged()
    }

    /// An event came from a namespace that is not known.
    pub(super) fn strangers_came(&mut self, now: Instant) {
        self.schedule.strangers(now);
    }
}

impl Core {
    pub(super) fn start_sweep(&mut self) -> Result<(), EngineError> {
        let questions = std::mem::take(&mut self.sweeps.waiting);
        if !self.sweeps.seeded || questions.iter().any(Question::wants_holders) {
            self.start_scan_with_sweep()?;
        }
        let now = Instant::now();
        let scope = self.scope(&questions, now);
        let due = self.sweeps.schedule.due() <= now && scope.effort != Effort::Glance;
        self.jobs
            .send(Job::Sockets(scope))
            .map_err(|_| EngineError::SweeperGone)?;
        self.table.begin_sweep();
        self.sweeps.schedule.begun(now);
        self.sweeps.running = Some(Running {
            questions,
            due,
            ..Running::default()
        });
        Ok(())
    }

    /// Where to look: everywhere when that is due or asked for, else where something is open or asked about.
    fn scope(&self, questions: &[Question], now: Instant) -> Scope {
        let schedule = &self.sweeps.schedule;
        if questions.is_empty() && schedule.is_glance(now) {
            return Scope {
                everywhere: false,
                wanted: self.places.strangers().collect(),
                hints: self.places.hints(),
                effort: Effort::Glance,
                figures: Figuring::Nowhere,
            };
        }
        let everywhere =
            schedule.is_full_due(now) || questions.iter().any(|question| question.netns().is_none());
        let mut wanted: Vec<Netns> = questions.iter().filter_map(Question::netns).collect();
        let effort = match schedule.effort(now, everywhere) {
            // Who asks for one namespace wants to know.
            Effort::Quick if !wanted.is_empty() => Effort::IfMissing,
            effort => effort,
        };
        let worthy = |netns: &Netns| self.places.is_worth_a_look(*netns, now);
        if everywhere {
            wanted.extend(self.table.namespaces().filter(worthy));
        } else if schedule.due() <= now {
            wanted.extend(self.table.unsettled_namespaces().filter(worthy));
        }
        wanted.extend(self.places.strangers().filter(worthy));
        wanted.sort_unstable();
        wanted.dedup();
        Scope {
            everywhere,
            wanted,
            hints: self.places.hints(),
            effort,
            figures: figuring(questions),
        }
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::LookedUp(_) => {}
            Outcome::HoldersDone(done) => self.scan_done(done),
            Outcome::Part(part, fence) => {
                if let Some(running) = &mut self.sweeps.running {
                    running.void |= !fence.in_ring;
                    // What a void sweep has seen before that is as true as any sighting; what follows, the next one sees.
                    if !running.void {
                        running.unfenced.push_back((mark(fence), part));
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

    /// Folds the parts of the sweep whose fence has come out of the ring, and ends the walk when all are.
    pub(super) fn fold_fenced(&mut self) {
        let Some(running) = &mut self.sweeps.running else {
            return;
        };
        let passed = &mut self.sweeps.passed;
        // Fences come out of the ring in the order of the parts.
        while let Some((_, part)) = running.unfenced.pop_front_if(|(mark, _)| passed.remove(mark)) {
            let netns = part.netns();
            if running.senseless.iter().any(|(senseless, _)| *senseless == netns) {
                continue;
            }
            let part = match part.decode(std::mem::take(&mut running.sightings), &mut running.figures) {
                Ok(part) => part,
                Err(error) => {
                    running.senseless.push((netns, error));
                    continue;
                }
            };
            let now = Ktime::now();
            let (questions, figures) = (&mut running.questions, &running.figures);
            let mut waiting: Vec<_> = questions.iter_mut().filter_map(Question::told_at_once).collect();
            self.table.show_part(&part, &mut self.fresh, |row| {
                for (query, answer) in &mut waiting {
                    answer.show(query, row, figures, now);
                }
            });
            running.sightings = part.sightings;
        }
        let over = running.unfenced.is_empty() && running.done.is_some();
        if over && let Some(running) = self.sweeps.running.take() {
            self.finish_sweep(running);
        }
        self.publish();
    }

    fn finish_sweep(&mut self, running: Running) {
        let Running {
            done: Some(mut done),
            senseless,
            questions,
            figures,
            void,
            due,
            ..
        } = running
        else {
            return;
        };
        done.found
            .retain(|found| senseless.iter().all(|(netns, _)| netns != found));
        done.failed.extend(senseless);
        let now = Instant::now();
        if let Some(why) = self.places.swept(&done, now) {
            log::warn!(
                "the rows of some network namespaces may be wrong or missing, see `netstate stats`: {why}"
            );
        }
        let disturbance = done.disturbance();
        match disturbance {
            // Said once: it may last, and is tried again several times a second.
            Some(error) if !self.sweeps.disturbed => log::warn!("the table may be out of date: {error}"),
            None if self.sweeps.disturbed => log::warn!("the table is up to date again"),
            _ => {}
        }
        self.sweeps.disturbed = disturbance.is_some();
        let unshown = if void {
            self.table.abandon_sweep();
            Unshown::default()
        } else {
            let lost = self.places.lost(&done);
            self.table.end_sweep(&lost, done.start, done.end, &mut self.fresh)
        };
        self.fold_held_back();
        self.places.forget(|netns| self.table.rows_in(netns) > 0);
        self.sweeps.passed.clear();
        self.counters
            .swept(done.cost + done.search.unwrap_or_default(), void);
        self.plan_next(now, &done, due);
        if void {
            self.sweeps.schedule.damaged(now);
            self.sweeps
                .waiting
                .extend(questions.into_iter().map(Question::again));
            return;
        }
        if disturbance.is_some() {
            self.sweeps.schedule.damaged(now);
        } else if done.everywhere && !self.sweeps.seeded {
            self.sweeps.seeded = true;
            for reply in self.sweeps.not_ready.drain(..) {
                let _ = reply.send(());
            }
        }
        self.answer(questions, &Arc::new(figures), &done, Arc::new(unshown));
    }

    fn plan_next(&mut self, now: Instant, done: &SweepDone, due: bool) {
        let schedule = &mut self.sweeps.schedule;
        if let Some(cost) = done.search {
            schedule.searched(now, cost);
        }
        let unsettled = self.table.unsettled();
        self.sweeps.urgent = unsettled.urgent;
        if due {
            schedule.swept(now, done.cost, unsettled, done.everywhere);
        } else {
            schedule.swept_besides(now, done.cost, done.everywhere);
        }
        if done.search.is_none() && !done.absent.is_empty() {
            schedule.missed(now);
        }
        if self.places.has_strangers() {
            schedule.strangers(now);
        }
    }

    /// Answers `questions` after a sweep that has not shown these rows.
    #[expect(clippy::needless_pass_by_value, reason = "each answer shares it")]
    fn answer(
        &mut self,
        questions: Vec<Question>,
        figures: &Arc<FigureSet>,
        done: &SweepDone,
        unshown: Arc<Unshown>,
    ) {
        let figures_for = |wanted| {
            if wanted {
                Arc::clone(figures)
            } else {
                Arc::default()
            }
        };
        for mut question in questions {
            let rest = match question.told_at_once() {
                Some(_) => Rest::These(Arc::clone(&unshown)),
                None => Rest::All,
            };
            let netns = question.netns();
            let failed = done.failed.iter().find(|(failed, _)| netns == Some(*failed));
            let failed = failed.map(|(_, error)| error).or(done.broken.as_ref());
            let failed = failed.map(ToString::to_string);
            // Of a namespace that nobody can get into, the rows are known nevertheless.
            let absent = netns.filter(|netns| self.table.rows_in(*netns) == 0);
            let absent = absent.and_then(|netns| Some(done.failure(netns)?.to_string()));
            match (failed.or(absent), question) {
                (Some(why), question) => question.refuse(why),
                (None, Question::Rows(query, answer)) => {
                    let mut unswept = self.places.unswept_in(query.netns);
                    let passing = done.failed.iter().filter(|(failed, error)| {
                        !error.is_forbidden() && query.netns.is_none_or(|netns| netns == *failed)
                    });
                    unswept.extend(passing.map(|(netns, error)| Unswept {
                        netns: *netns,
                        trouble: Trouble::Closed(error.to_string()),
                    }));
                    let figures = figures_for(query.figures);
                    let about = About {
                        unswept,
                        unseen: query.holders.then(|| self.unseen()).flatten(),
                        settings: figures.settings().collect(),
                    };
                    self.copies.add(Copy {
                        query,
                        figures,
                        about,
                        answer,
                        rest,
                    });
                }
                (None, Question::Histories(query, reply)) => {
                    let figures = figures_for(query.rows.figures);
                    self.searches.add(query, figures, reply);
                }
                (None, Question::Exists(_, reply)) => {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }
}
