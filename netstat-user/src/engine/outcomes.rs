//! What comes of a scan: its parts are folded once the event ring has been read up to their fences, and when it is over, the
//! questions that waited for it are answered.

use std::{sync::Arc, time::Instant};

use super::{
    Core, Events, PART,
    copies::{Copying, Rest},
    questions::Question,
    sweeps::{Ending, Running},
};
use crate::{
    clock::Ktime,
    facts::FigureSet,
    sweeper::{Job, Outcome, Scanning, SweepDone},
    table::Unshown,
    view::{About, Trouble, Unswept},
};

impl Core {
    pub(super) fn outcome(&mut self, outcome: Outcome, ring: &mut impl Events) {
        match outcome {
            Outcome::Counted(number, counted) => self.counted(number, counted.as_deref(), ring),
            Outcome::LooksPrepared(prepared) => self.looks.prepared(prepared),
            Outcome::Looked(number, looked) => self.looked(number, looked, ring),
            Outcome::HoldersDone(done) => self.scan_done(done),
            Outcome::Part(part, fence) => {
                if let Some(running) = &mut self.sweeps.running {
                    running.unfenced.push_back((fence, part));
                }
            }
            Outcome::SocketsDone(done) => {
                if let Some(running) = &mut self.sweeps.running {
                    running.done = Some(done);
                }
            }
        }
    }

    /// Does the next thing for the scan under way: folds a part of it if the ring has been read up to its fence; when it is
    /// over, judges some of the rows that it has not shown; and when all is done, answers who has waited.
    pub(super) fn go_on_with_sweep(&mut self) {
        let over = |running: &mut Running| running.unfenced.is_empty() && running.done.is_some();
        self.fold_part();
        if let Some(running) = self.sweeps.running.take_if(over) {
            self.end_sweep(running);
        }
        let Some(ending) = &mut self.sweeps.ending else {
            return;
        };
        if ending.unshown.is_none() {
            ending.unshown = self.table.judge(PART, &mut self.fresh).map(Arc::new);
            if ending.unshown.is_some() {
                self.fold_held_back();
            }
            self.publish();
        } else if self.scans.has_joined()
            && let Some(ending) = self.sweeps.ending.take()
        {
            self.finish_sweep(ending);
        }
    }

    /// Folds the next part of the scan if the ring has been read up to its fence.
    fn fold_part(&mut self) {
        let Some(running) = &mut self.sweeps.running else {
            return;
        };
        let consumed = self.consumed;
        let fenced = running
            .unfenced
            .pop_front_if(|(fence, _)| fence.position <= consumed);
        let Some((_, walked)) = fenced else { return };
        let Some(part) = running.decoder.decode(&walked, &mut running.figures) else {
            return;
        };
        let now = Ktime::now();
        let (questions, figures) = (&mut running.questions, &running.figures);
        let mut waiting: Vec<_> = questions.iter_mut().filter_map(Question::told_at_once).collect();
        self.table.show_part(&part, &mut self.fresh, |shown| {
            for (query, answer) in &mut waiting {
                answer.tell_shown(query, shown, figures, now);
            }
        });
        running.decoder.take_back(part);
        self.publish();
    }

    /// The scan is over: takes over what it tells of namespaces, and begins to judge the rows that it has not shown.
    fn end_sweep(&mut self, running: Running) {
        let Running {
            done: Some(mut done),
            decoder,
            questions,
            figures,
            due,
            scanning,
            vacated,
            ..
        } = running
        else {
            return;
        };
        let behind_scan = scanning == Scanning::Beside && decoder.saw_nameless() && self.came_late();
        decoder.judge(&mut done);
        if let Some(why) = self.places.swept(&done, Instant::now()) {
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
        let lost = self.places.lost(&done);
        self.table
            .begin_judging(&lost, done.start, done.end, &mut self.fresh);
        self.sweeps.ending = Some(Ending {
            questions,
            figures: Arc::new(figures),
            done,
            due,
            vacated,
            behind_scan,
            unshown: None,
        });
    }

    /// The rows have been judged, and have their holders if there was a scan for them.
    fn finish_sweep(&mut self, ending: Ending) {
        let Ending {
            mut questions,
            figures,
            done,
            due,
            vacated,
            behind_scan,
            unshown,
        } = ending;
        let now = Instant::now();
        self.places.forget(|netns| self.table.rows_in(netns) > 0);
        self.counters.swept(done.cost + done.search.unwrap_or_default());
        self.plan_next(now, &done, due);
        if behind_scan {
            // Whose MPTCP's subflows are can be told by the next sweep; what does not ask for it need not wait.
            let wants_holders = |question: &mut Question| question.wants_holders();
            let again = questions.extract_if(.., wants_holders).map(Question::again);
            self.sweeps.waiting.extend(again);
            self.sweeps.behind_scan = true;
        }
        if self.sweeps.disturbed {
            self.sweeps.schedule.damaged(now);
        } else if done.everywhere && !self.sweeps.seeded && !behind_scan {
            self.sweeps.seeded = true;
            // If the sweeper is gone, the engine is about to end for it.
            let _ = self.jobs.send(Job::PrepareLooks);
            for reply in self.sweeps.not_ready.drain(..) {
                let _ = reply.send(());
            }
        }
        let rest = Rest::These(unshown.unwrap_or_default(), Unshown::default(), vacated);
        self.answer(questions, &figures, &rest, &done);
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

    /// Answers `questions` after the sweep that they waited for.
    fn answer(
        &mut self,
        questions: Vec<Question>,
        figures: &Arc<FigureSet>,
        unshown: &Rest,
        done: &SweepDone,
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
                Some((_, answer)) => unshown.clone().and(answer.take_deferred()),
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
                        refused: self.places.refused(query.netns),
                        unseen: query.holders.then(|| self.unseen()).flatten(),
                        settings: figures.settings().collect(),
                    };
                    self.copies.add(Copying {
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
