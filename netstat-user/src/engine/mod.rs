//! The engine: reads events and sweeps, folds them into the table, and hands out what comes of it.
//!
//! One task owns the table; everybody else talks to it over channels. It never waits for a consumer: the
//! stream is a bounded broadcast that slow readers fall behind in, and a large snapshot is copied in parts
//! between which events are read.

mod answer;
mod copies;
mod counters;
mod counting;
mod handle;
mod looks;
mod losses;
mod outcomes;
mod pace;
mod places;
mod questions;
mod recorder;
#[cfg(test)]
mod samples;
mod scans;
mod searches;
mod stream;
mod sweeps;
mod told;

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{Arc, mpsc as jobs},
    time::Instant,
};

use tokio::{io::unix::AsyncFd, sync::mpsc, time::sleep_until};

pub use handle::{EngineGone, Handle, RowParts};
pub use recorder::Recording;
pub use stream::Subscription;

use crate::{
    clock::Ktime,
    decode::{DecodeError, RingRecord},
    loader::{EventRing, KernelLog, LoadError, Tracer},
    sources,
    sweeper::{self, Job, Outcome},
    table::{AHEAD, ANSWER, Table, Transition},
    view::{About, Loss, StreamItem},
};
use copies::{Copies, Copying, Rest};
use counters::Counters;
use counting::Countings;
use handle::Request;
use looks::Looks;
use losses::LossWatch;
use pace::Pace;
use places::Places;
use questions::Question;
use recorder::Recorder;
use scans::Scans;
use searches::Searches;
use stream::Publisher;
use sweeps::Sweeps;
use told::Told;

/// Records folded before the engine looks at anything else.
const BATCH: usize = 4096;
/// Places of the table that are gone through at once: a fraction of a millisecond.
const PART: usize = 4096;

/// Questions that wait for the engine.
const REQUESTS: usize = 64;

/// The engine could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Loading failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The runtime or the system refused something.
    #[error("the tracer stopped: {0}; start it again")]
    Io(#[from] io::Error),
    /// The recording could not be begun.
    #[error("cannot begin the recording: {0}; is there room for it?")]
    Recording(io::Error),
    /// The sweeper is gone.
    #[error("the tracer stopped: its sweeper has ended; start it again, and please report this")]
    SweeperGone,
}

/// Waits for whatever comes next, and has it done.
pub struct Engine {
    ring: AsyncFd<EventRing>,
    log: AsyncFd<KernelLog>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    requests: mpsc::Receiver<Request>,
    core: Core,
}

/// The table and what drives it.
struct Core {
    table: Told,
    jobs: jobs::Sender<Job>,
    stream: Publisher,
    sweeps: Sweeps,
    scans: Scans,
    places: Places,
    copies: Copies,
    countings: Countings,
    looks: Looks,
    searches: Searches,
    losses: LossWatch,
    pace: Pace,
    /// The counters of losses could not be read, and that has been said.
    blind: bool,
    /// A loss that goes into the stream once everything before it has.
    untold: Option<Loss>,
    /// The time of the latest event that has been folded.
    latest: Ktime,
    /// How far the ring has been read, as [`EventRing::consumed`].
    consumed: u64,
    counters: Counters,
    /// Records out of the ring that are yet to be folded; empty between two batches, and kept for its memory.
    taken: Vec<Result<RingRecord, DecodeError>>,
    /// Transitions that are not yet in the stream; empty between two batches, and kept for its memory.
    fresh: Vec<Transition>,
}

impl Engine {
    /// Puts an attached tracer to work, with a ring of so many bytes, and so many for the histories of connections
    /// that have ended. What the table is told goes to `recording`, too, if there is one. The engine runs in
    /// [`Engine::run`]; the handle asks it things.
    ///
    /// # Errors
    ///
    /// When a thread or a descriptor cannot be had, or the recording cannot be begun.
    pub fn new(
        tracer: Tracer,
        ring_bytes: u32,
        history_bytes: usize,
        recording: Option<Recording>,
    ) -> Result<(Self, Handle), EngineError> {
        let (jobs, outcomes) = sweeper::start(tracer.iterators)?;
        let (asking, requests) = mpsc::channel(REQUESTS);
        let stream = Publisher::new()?;
        let handle = Handle::new(asking, stream.readers());
        let coverage = sources::coverage(&tracer.hooks);
        let recorder = recording.map(|recording| Recorder::start(recording, coverage, handle.steady_clock()));
        let recorder = recorder.transpose().map_err(EngineError::Recording)?;
        let core = Core {
            table: Told::new(Table::remembering(coverage, history_bytes), recorder),
            jobs,
            stream,
            sweeps: Sweeps::new(Instant::now()),
            scans: Scans::new(Instant::now()),
            places: Places::default(),
            copies: Copies::default(),
            countings: Countings::default(),
            looks: Looks::default(),
            searches: Searches::default(),
            losses: LossWatch::new(tracer.losses, Ktime::now()),
            pace: Pace::new(Instant::now(), ring_bytes),
            blind: false,
            untold: None,
            latest: Ktime(0),
            consumed: 0,
            counters: Counters::new(ring_bytes, tracer.hooks),
            taken: Vec::new(),
            fresh: Vec::new(),
        };
        let ring = tracer.events.readable()?;
        let log = tracer.log.readable()?;
        Ok((
            Self {
                ring,
                log,
                outcomes,
                requests,
                core,
            },
            handle,
        ))
    }

    /// Runs until `stop` completes, then detaches everything.
    ///
    /// # Errors
    ///
    /// When the tracer breaks down.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), EngineError> {
        let mut stop = pin!(stop);
        let core = &mut self.core;
        loop {
            tokio::select! {
                () = &mut stop => {
                    // What has happened so far is still told.
                    core.read_up_to(Ktime::now(), self.ring.get_mut());
                    return Ok(());
                }
                ready = self.ring.readable_mut(), if core.pace.due().is_none() => {
                    let mut ready = ready?;
                    if !core.drain(ready.get_inner_mut()) {
                        ready.clear_ready();
                    }
                }
                () = sleep_until(core.pace.due().unwrap_or_else(Instant::now).into()), if core.pace.due().is_some() => {
                    core.drain(self.ring.get_mut());
                }
                outcome = self.outcomes.recv() => {
                    let outcome = outcome.ok_or(EngineError::SweeperGone)?;
                    core.outcome(outcome, self.ring.get_mut());
                    // Its fence is in the ring, whose next turn may be some milliseconds off.
                    if core.sweeps.awaits_fence() {
                        core.drain(self.ring.get_mut());
                    }
                }
                request = self.requests.recv() => match request {
                    Some(request) => core.request(request),
                    // Every handle is gone: nobody listens and nobody can ask.
                    None => return Ok(()),
                },
                () = std::future::ready(()), if core.untold.is_some() => {
                    core.drain(self.ring.get_mut());
                    tokio::task::yield_now().await;
                }
                () = sleep_until(core.losses.due().into()), if core.losses.is_due() => core.check_losses(),
                () = until(core.sweeps.due()), if core.sweeps.idle() => core.start_sweep()?,
                () = until(core.scans.due()), if core.scans.idle() => core.start_scan()?,
                ready = self.log.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                () = tokio::time::sleep(ANSWER), if core.table.is_waiting() => core.release(),
                () = std::future::ready(()), if core.looks.pending() => {
                    core.search_for_looks();
                    tokio::task::yield_now().await;
                }
                () = std::future::ready(()), if core.copies.pending() => {
                    core.copies.advance(&core.table, Ktime::now());
                    tokio::task::yield_now().await;
                }
                () = std::future::ready(()), if core.searches.pending() => {
                    core.searches.advance(&core.table, Ktime::now());
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Waits until then, and not at all if that is now: a timer of the runtime takes a millisecond at least.
async fn until(due: Instant) {
    if due > Instant::now() {
        sleep_until(due.into()).await;
    }
}

impl Core {
    /// Folds what waits in the ring, at most [`BATCH`] records. Returns whether more may wait.
    fn drain(&mut self, ring: &mut EventRing) -> bool {
        let mut read = 0;
        while read < BATCH {
            let mut some = std::mem::take(&mut self.taken);
            some.extend(std::iter::from_fn(|| ring.take()).take(AHEAD));
            let over = some.len() < AHEAD;
            read += some.len();
            self.table
                .look_ahead(some.iter().flatten().map(RingRecord::cookie));
            for record in some.drain(..) {
                self.fold(record);
            }
            self.taken = some;
            if over {
                break;
            }
        }
        self.consumed = ring.consumed();
        self.release();
        self.tell_losses(read < BATCH);
        let now = Instant::now();
        if read < BATCH {
            self.pace.emptied(now, read);
        }
        self.losses.events_came(now);
        self.sweeps.noticed(now, self.table.unsettled());
        self.scans.noticed(now, self.table.ever_ownerless());
        if self.places.take_news() {
            self.sweeps.strangers_came(now);
        }
        self.fold_fenced();
        read == BATCH
    }

    /// Folds everything that had happened by `now`.
    fn read_up_to(&mut self, now: Ktime, ring: &mut EventRing) {
        while self.drain(ring) && self.latest <= now {}
    }

    fn fold(&mut self, record: Result<RingRecord, DecodeError>) {
        if let Ok(record) = &record {
            self.latest = self.latest.max(record.time());
        }
        match record {
            Ok(RingRecord::State(event)) => {
                self.counters.events += 1;
                self.places.heard(event.connection.netns, event.owner);
                self.table.apply_event(&event, &mut self.fresh);
            }
            Ok(RingRecord::News(news)) => {
                self.counters.events += 1;
                self.table.apply_news(&news, &mut self.fresh);
            }
            Ok(RingRecord::Gone(gone)) => {
                self.counters.events += 1;
                self.table.apply_gone(&gone, &mut self.fresh);
            }
            Ok(RingRecord::Mark(mark)) => self.table.apply_mark(&mark, &mut self.fresh),
            Err(error) => {
                // Whatever it was to tell, a sweep must find. Said once: where one makes no sense, others will not.
                if self.counters.undecodable == 0 {
                    log::warn!(
                        "a record of the event ring makes no sense: {error}; the table is repaired by sweeps; \
                         please report this with the output of `uname -a`"
                    );
                }
                self.counters.undecodable += 1;
                self.sweeps.damaged(Instant::now());
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Look(Question::Rows(query, answer)) if query.as_is => {
                let about = About {
                    unswept: self.places.unswept_in(query.netns),
                    ..About::default()
                };
                self.copies.add(Copying {
                    query,
                    figures: Arc::default(),
                    about,
                    answer,
                    rest: Rest::All,
                });
            }
            Request::Look(Question::Rows(query, answer)) if self.looks.can_answer(&query) => {
                self.begin_looks(query, answer);
            }
            Request::Look(Question::Histories(query, reply)) if query.rows.as_is => {
                self.searches.add(query, Arc::default(), reply);
            }
            Request::Look(question) => self.sweeps.want(question),
            Request::Ready(reply) => self.sweeps.when_seeded(reply),
            Request::Stats(reply) => {
                self.check_losses();
                let readers = self.stream.count();
                let settling = self.sweeps.settling();
                // Whoever asked may have gone since.
                let stats =
                    self.counters
                        .stats(&self.table, self.losses.total(), settling, &self.places, readers);
                let _ = reply.send(stats);
            }
        }
    }

    fn check_losses(&mut self) {
        let checked = self.losses.check(Ktime::now());
        let blind = checked.is_err();
        match checked {
            Ok(Some(loss)) => {
                self.sweeps.damaged(Instant::now());
                self.untold = Some(self.untold.map_or(loss, |untold| untold.and(loss)));
            }
            // Out of descriptors, most likely: the counters keep what they have until the next look.
            Err(error) if !self.blind => log::warn!("cannot read the counters of lost events: {error}"),
            _ => {}
        }
        self.blind = blind;
        if self.table.is_expecting(Ktime::now()) {
            self.sweeps.missing(Instant::now());
        }
    }

    /// Tells of the ends that have waited long enough for what says whose they were.
    fn release(&mut self) {
        if self.table.is_waiting() {
            self.table.release(Ktime::now(), &mut self.fresh);
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.counters.transitions += self.fresh.len() as u64;
        self.stream.send(self.fresh.drain(..).map(StreamItem::Transition));
        self.table.keep_up();
    }

    /// Tells of a loss once everything that happened before its end has been told; `drained` says that nothing waits.
    fn tell_losses(&mut self, drained: bool) {
        if let Some(loss) = self.untold.take_if(|loss| drained || loss.until < self.latest) {
            self.table.lost(loss);
            self.stream.send([StreamItem::Lost(loss)]);
        }
    }
}
