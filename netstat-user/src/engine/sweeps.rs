//! Sweeps as the engine drives them: when they start, where they go, and what waits for them.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Core, EngineError,
    questions::{Question, figuring},
};
use crate::{
    clock::Ktime,
    connection::Netns,
    facts::{Fence, FigureSet},
    namespaces::Effort,
    schedule::Schedule,
    sweeper::{Decoder, Figuring, Job, Scanning, Scope, SweepDone, Walked},
    table::{Unsettled, Unshown, Vacated},
};

/// A sweep under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) questions: Vec<Question>,
    /// Scanned, but events of that time may still be in the ring.
    pub(super) unfenced: VecDeque<(Fence, Walked)>,
    pub(super) decoder: Decoder,
    /// What questions want to know besides the rows.
    pub(super) figures: FigureSet,
    pub(super) done: Option<SweepDone>,
    /// It was due, and not only asked for.
    pub(super) due: bool,
    /// Whether a scan for holders goes with it.
    pub(super) scanning: Scanning,
    /// What has ended since it began.
    pub(super) vacated: Vacated,
}

/// A scan that is over, and of which the consequences are still to be drawn.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) questions: Vec<Question>,
    pub(super) figures: Arc<FigureSet>,
    pub(super) done: SweepDone,
    pub(super) due: bool,
    pub(super) vacated: Vacated,
    /// Who holds MPTCP's subflows, only another scan behind its scan for holders can tell.
    pub(super) behind_scan: bool,
    /// The rows that it has not shown, once they have been judged.
    pub(super) unshown: Option<Arc<Unshown>>,
}

/// The engine's sweeps.
#[derive(Debug)]
pub(super) struct Sweeps {
    pub(super) schedule: Schedule,
    pub(super) running: Option<Running>,
    pub(super) ending: Option<Ending>,
    pub(super) waiting: Vec<Question>,
    pub(super) urgent: usize,
    pub(super) seeded: bool,
    /// The last sweep could not see everything, for a reason that will pass.
    pub(super) disturbed: bool,
    pub(super) not_ready: Vec<oneshot::Sender<()>>,
    /// The next sweep, which is due at once, is to come behind its scan for holders and not beside it.
    pub(super) behind_scan: bool,
}

impl Sweeps {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            schedule: Schedule::new(now),
            running: None,
            ending: None,
            waiting: Vec::new(),
            urgent: 0,
            seeded: false,
            disturbed: false,
            not_ready: Vec::new(),
            behind_scan: false,
        }
    }

    /// Whether a sweep may start.
    pub(super) fn idle(&self) -> bool {
        self.running.is_none() && self.ending.is_none()
    }

    /// When the next one is due: at once if somebody waits for it.
    pub(super) fn due(&self) -> Instant {
        if self.waiting.is_empty() && !self.behind_scan {
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

    /// The next fence that the ring has to be read up to.
    fn next_fence(&self) -> Option<u64> {
        let (fence, _) = self.running.as_ref()?.unfenced.front()?;
        Some(fence.position)
    }

    /// Whether a part of a scan waits for events that the ring has behind this position.
    pub(super) fn needs_events_behind(&self, consumed: u64) -> bool {
        self.next_fence().is_some_and(|position| position > consumed)
    }

    /// Whether so many parts wait for events that no more are taken, which would only take memory.
    pub(super) fn has_enough(&self) -> bool {
        const PARTS: usize = 4;
        let running = self.running.as_ref();
        running.is_some_and(|running| running.unfenced.len() >= PARTS)
    }

    /// Whether there is something to be done for a scan, the ring having been read so far.
    pub(super) fn can_go_on(&self, consumed: u64) -> bool {
        let fenced = self.next_fence().is_some_and(|position| position <= consumed);
        fenced || self.ending.is_some()
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
    pub(super) fn settling(&self) -> Duration {
        self.schedule.settling()
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
        let behind = std::mem::take(&mut self.sweeps.behind_scan);
        let now = Instant::now();
        let mut scope = self.scope(&questions, now);
        if !self.sweeps.seeded || questions.iter().any(Question::wants_holders) {
            // What a search is to tell to be gone, it must not know from a scan of some time ago; nothing is at first.
            let precise = self.sweeps.seeded && scope.effort == Effort::Thorough;
            scope.scanning = if behind || precise {
                Scanning::Before
            } else {
                Scanning::Beside
            };
            self.expect_scan();
        }
        let scanning = scope.scanning;
        let due = self.sweeps.schedule.due() <= now && scope.effort != Effort::Glance;
        self.jobs
            .send(Job::Sockets(scope))
            .map_err(|_| EngineError::SweeperGone)?;
        self.table.begin_sweep();
        self.sweeps.schedule.begun(now);
        let vacated = if questions.is_empty() {
            Vacated::default()
        } else {
            self.table.vacated_from_now_on(Ktime::now())
        };
        self.sweeps.running = Some(Running {
            questions,
            due,
            scanning,
            vacated,
            ..Running::default()
        });
        Ok(())
    }

    /// Where to look: everywhere when that is due or asked for, else where something is open or asked about.
    fn scope(&self, questions: &[Question], now: Instant) -> Scope {
        let schedule = &self.sweeps.schedule;
        if questions.is_empty() && schedule.is_glance(now) && self.sweeps.seeded {
            return Scope {
                everywhere: false,
                wanted: self.places.strangers().collect(),
                hints: self.places.hints(),
                effort: Effort::Glance,
                figures: Figuring::Nowhere,
                scanning: Scanning::Not,
            };
        }
        let everywhere = !self.sweeps.seeded
            || schedule.is_full_due(now)
            || questions.iter().any(|question| question.netns().is_none());
        let mut wanted: Vec<Netns> = questions.iter().filter_map(Question::netns).collect();
        let effort = schedule.effort(now, everywhere);
        if everywhere && effort == Effort::IfMissing {
            wanted.extend(self.places.unreachable());
        }
        let effort = match effort {
            // Who asks wants to know, also of a namespace whose known way leads there no more.
            Effort::Quick if !questions.is_empty() => Effort::IfMissing,
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
            scanning: Scanning::Not,
        }
    }
}
