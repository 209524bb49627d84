//! The thread that walks the kernel's sockets and open files.
//!
//! It is a thread of its own because it enters network namespaces, which a thread can, and because the walk
//! waits for sockets that are locked.

mod counting;
mod iterate;
mod job;
mod outcome;
mod scan;
mod walked;

use std::{
    fs::File,
    io, mem,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    thread::{LinkNameSpaceType, move_into_link_name_space},
    time::{ClockId, clock_gettime},
};
use tokio::sync::mpsc as channel;

use crate::{
    clock::{Ktime, Tick},
    connection::Netns,
    facts::Fence,
    loader::Iterators,
    namespaces::{self, Aim, Effort, Found, Held, Refusals},
    settings::Settings,
};
pub use job::{Figuring, Job, Scanning, Scope};
pub use outcome::{Outcome, ScanDone, SweepDone, SweepError};
use scan::Scan;
pub use walked::{Decoder, Walked};

/// Outcomes that wait to be folded: a part with figures takes a megabyte, so the scan waits for whoever folds it.
const AHEAD: usize = 4;

/// Starts the thread. It ends when the sender of jobs is dropped.
///
/// # Errors
///
/// When no thread can be started.
pub fn start(iterators: Iterators) -> io::Result<(mpsc::Sender<Job>, channel::Receiver<Outcome>)> {
    let (jobs, inbox) = mpsc::channel();
    let (outbox, outcomes) = channel::channel(AHEAD);
    thread::Builder::new().name("sweeper".to_owned()).spawn(move || {
        let mut walker = Walker::new(iterators);
        while let Ok(job) = inbox.recv() {
            walker.run(job, |outcome| {
                // Nobody listens any more: the program is about to end.
                let _ = outbox.blocking_send(outcome);
            });
        }
    })?;
    Ok((jobs, outcomes))
}

/// Walks on the calling thread, which it leaves where it was.
pub struct Walker {
    iterators: Arc<Iterators>,
    /// The namespace to return to: a thread keeps the one that it is in alive.
    home: Option<File>,
    /// Processes that the last search could not look into.
    refusals: Refusals,
    /// Where namespaces were when they were last looked for.
    known: Found,
    tick: Tick,
    /// What the last scan of all files has found of namespaces, and when it ended.
    scanned: Option<(Instant, Held)>,
    /// It has been said that the kernel does not let figures be read.
    told: bool,
}

impl Walker {
    /// A walker that has not looked anywhere yet.
    #[must_use]
    pub fn new(iterators: Iterators) -> Self {
        Self {
            iterators: Arc::new(iterators),
            home: None,
            known: Found::new(),
            refusals: Refusals::default(),
            tick: Tick::read(),
            scanned: None,
            told: false,
        }
    }

    /// Does one job.
    pub fn run(&mut self, job: Job, mut report: impl FnMut(Outcome)) {
        match job {
            Job::Sockets(scope) => {
                let beside = match scope.scanning {
                    // Without another thread, the one comes after the other.
                    Scanning::Beside => Scan::beside(&self.iterators).ok(),
                    Scanning::Before | Scanning::Not => None,
                };
                if beside.is_none() && scope.scanning != Scanning::Not {
                    report(self.scanned(Scan::of(&self.iterators)));
                }
                self.sockets(&scope, beside, &mut report);
            }
            Job::Count {
                number,
                wanted,
                everywhere,
            } => {
                let counted = self.count(wanted, everywhere);
                self.return_home();
                report(Outcome::Counted(number, counted));
            }
            Job::PrepareLooks => report(Outcome::LooksPrepared(self.iterators.prepare_looks())),
            Job::Look(number, these) => report(Outcome::Looked(number, self.iterators.look(&these))),
            Job::Holders => report(self.scanned(Scan::of(&self.iterators))),
        }
    }

    /// A scan is over: what it has found of namespaces serves the next search.
    fn scanned(&mut self, scan: Scan) -> Outcome {
        let mut first_asked = false;
        let found = scan.found.map(|files| {
            self.scanned = Some((scan.ended, files.held));
            first_asked = files.first_asked;
            files.holders
        });
        Outcome::HoldersDone(ScanDone {
            found,
            first_asked,
            cost: scan.cost,
        })
    }

    fn sockets(&mut self, scope: &Scope, beside: Option<JoinHandle<Scan>>, report: &mut impl FnMut(Outcome)) {
        let (start, cpu) = (Ktime::now(), processor_time());
        let mut visited = Visited::default();
        self.refusals.begin();
        let mut plan = match beside {
            // As far as can be told without the scan.
            Some(_) => self.plan(&Scope {
                effort: scope.effort.min(Effort::Quick),
                ..scope.clone()
            }),
            None => self.plan(scope),
        };
        let mut planning = processor_time().saturating_sub(cpu);
        let mut unreachable = plan.unreachable.take();
        let mut lost = self.walk(mem::take(&mut plan.ways), scope, report, &mut visited);
        if let Some(scan) = beside {
            // A thread of which nothing comes has never been seen.
            let scan = scan.join().unwrap_or_else(|_| Scan::of(&self.iterators));
            report(self.scanned(scan));
            let missing = !(plan.absent.is_empty() && lost.is_empty());
            if scope.effort == Effort::Thorough || scope.effort == Effort::IfMissing && missing {
                let before = processor_time();
                plan = self.plan(scope);
                planning = processor_time().saturating_sub(before);
                unreachable = plan.unreachable.take().or(unreachable);
                plan.ways.retain(|(netns, _)| !visited.includes(*netns));
                let (ways, ended) = (mem::take(&mut plan.ways), lost);
                lost = self.walk(ways, scope, report, &mut visited);
                // This search has been behind the end of their way already.
                plan.absent.extend(ended);
            }
        }
        let mut absent = plan.absent;
        if plan.thorough && !lost.is_empty() {
            // What led there, mostly a process, has ended since it was found, and something else may.
            let plan = self.plan(&Scope {
                everywhere: false,
                wanted: lost,
                ..scope.clone()
            });
            absent.extend(plan.absent);
            lost = self.walk(plan.ways, scope, report, &mut visited);
        }
        absent.extend(lost);
        absent.sort_unstable();
        absent.dedup();
        // What has been walked was there, whatever a search behind that says.
        absent.retain(|netns| !visited.found.contains(netns));
        if let Some(unreachable) = &mut unreachable {
            unreachable.retain(|netns| !visited.includes(*netns));
        }
        plan.gone.retain(|netns| absent.contains(netns));
        let taken = processor_time().saturating_sub(cpu);
        let (search, cost) = if plan.thorough {
            (Some(planning), taken.saturating_sub(planning))
        } else {
            (None, taken)
        };
        let others = if absent.is_empty() {
            Vec::new()
        } else {
            self.known.keys().copied().collect()
        };
        report(Outcome::SocketsDone(SweepDone {
            everywhere: scope.everywhere,
            found: visited.found,
            others,
            absent,
            unreachable,
            refused: self.refusals.summary(),
            gone: plan.gone,
            start,
            end: Ktime::now(),
            cost,
            search,
            failed: visited.failed,
            broken: plan.broken.map(SweepError::Search),
        }));
    }

    /// Walks namespaces, and returns to the thread's own. Those that are there are added to `visited`; returned are those that their
    /// way leads to no more.
    fn walk(
        &mut self,
        ways: Vec<(Netns, PathBuf)>,
        scope: &Scope,
        report: &mut impl FnMut(Outcome),
        visited: &mut Visited,
    ) -> Vec<Netns> {
        let mut lost = Vec::new();
        for (netns, way) in ways {
            let start = Ktime::now();
            let figures = scope.figures.includes(netns);
            let tick = self.tick;
            let mut first = true;
            let mut report = |records, fence: Fence, settings: &mut Option<Settings>| {
                let walked = Walked {
                    netns,
                    start,
                    first: std::mem::replace(&mut first, false),
                    end: (!fence.more).then_some(fence.time),
                    records,
                    tick,
                    settings: settings.take(),
                };
                report(Outcome::Part(walked, fence));
            };
            match self.namespace(netns, &way, figures, &mut report) {
                Ok(()) => visited.found.push(netns),
                Err(error) if error.is_elsewhere() => lost.push(netns),
                Err(error) => visited.failed.push((netns, error)),
            }
        }
        self.return_home();
        lost
    }

    /// Finds the ways into the namespaces of `scope`.
    fn plan(&mut self, scope: &Scope) -> Plan {
        if !scope.everywhere
            && let Some(ways) = scope.wanted.iter().map(|netns| self.known_way(*netns)).collect()
        {
            return Plan {
                ways,
                ..Plan::default()
            };
        }
        let mut late = false;
        let aim = Aim {
            everything: scope.everywhere,
            wanted: &scope.wanted,
            hints: &scope.hints,
            effort: scope.effort,
            held: &mut || match self.scanned.take() {
                Some((ended, held)) if ended.elapsed() < JUST_NOW => Some(held),
                // What has changed since then, only the search for what is gone must know.
                Some((_, held)) if scope.scanning == Scanning::Beside => {
                    late = true;
                    Some(held)
                }
                _ => iterate::files(&self.iterators).ok().map(|files| files.held),
            },
        };
        let findings = namespaces::search(aim, &self.known);
        self.known = findings.found;
        self.refusals.take_over(findings.refused);
        let way = |netns: &Netns| Some((*netns, self.known.get(netns)?.clone()));
        let ways = if scope.everywhere {
            self.known.clone().into_iter().collect()
        } else {
            scope.wanted.iter().filter_map(way).collect()
        };
        let missing = |netns: &&Netns| !self.known.contains_key(netns);
        let absent: Vec<_> = scope.wanted.iter().filter(missing).copied().collect();
        let gone = absent.iter().filter(|netns| !findings.hidden.contains(netns));
        let hidden = findings.hidden.iter();
        let unreachable = hidden
            .filter(|netns| !self.known.contains_key(netns))
            .copied()
            .collect();
        Plan {
            gone: if findings.complete && !late {
                gone.copied().collect()
            } else {
                Vec::new()
            },
            ways,
            absent,
            unreachable: findings.thorough.then_some(unreachable),
            thorough: findings.thorough,
            broken: findings.error,
        }
    }

    /// The way into a namespace that was found before, if it still leads there.
    fn known_way(&self, netns: Netns) -> Option<(Netns, PathBuf)> {
        let way = self.known.get(&netns)?;
        let found = namespaces::identify(way).ok()?;
        (found == netns).then(|| (netns, way.clone()))
    }

    fn return_home(&mut self) {
        if let Some(home) = self.home.take()
            && let Err(error) = move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))
        {
            log::warn!("cannot leave a network namespace, which stays alive by that: {error}");
        }
    }

    /// Moves the thread into a namespace, for as long as the job takes.
    fn enter(&mut self, netns: Netns, way: &Path) -> Result<(), SweepError> {
        // Entering the namespace that the thread is in already needs no privilege.
        let here = namespaces::identify(HERE.as_ref()).is_ok_and(|here| here == netns);
        if !here {
            let error = |error| SweepError::Enter { netns, error };
            let (away, home) = match self.home.take() {
                Some(home) => (true, home),
                None => (false, File::open(HERE).map_err(error)?),
            };
            let entered = namespaces::enter(netns, way);
            if away || entered.is_ok() {
                self.home = Some(home);
            }
            entered.map_err(error)?;
        }
        Ok(())
    }

    fn namespace(
        &mut self,
        netns: Netns,
        way: &Path,
        figures: bool,
        mut report: impl FnMut(Vec<u8>, Fence, &mut Option<Settings>),
    ) -> Result<(), SweepError> {
        self.enter(netns, way)?;
        self.refusals.found_here();
        if figures
            && let Some(error) = self.iterators.without_figures()
            && !std::mem::replace(&mut self.told, true)
        {
            log::warn!("timers and the like cannot be read: {error}");
        }
        let mut settings = figures.then(Settings::read);
        iterate::sockets(&self.iterators, figures, |records, fence| {
            report(records, fence, &mut settings);
        })
    }
}

/// A scan of all files that ended this short ago need not be repeated for a search.
const JUST_NOW: Duration = Duration::from_millis(20);

/// The calling thread's namespace.
const HERE: &str = "/proc/thread-self/ns/net";

/// Namespaces that a sweep has come to.
#[derive(Debug, Default)]
struct Visited {
    /// Those that were walked.
    found: Vec<Netns>,
    /// Those that could not be, and why.
    failed: Vec<(Netns, SweepError)>,
}

impl Visited {
    fn includes(&self, netns: Netns) -> bool {
        self.found.contains(&netns) || self.failed.iter().any(|(failed, _)| *failed == netns)
    }
}

/// Where a walk is to go.
#[derive(Debug, Default)]
struct Plan {
    ways: Vec<(Netns, PathBuf)>,
    absent: Vec<Netns>,
    /// As [`SweepDone::unreachable`].
    unreachable: Option<Vec<Netns>>,
    gone: Vec<Netns>,
    /// It took a thorough search.
    thorough: bool,
    broken: Option<io::Error>,
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
