//! The engine: reads events and scans, folds them into the table, and hands out what comes of it.
//!
//! One thread owns the table and has [precedence]; everybody else talks to it over channels. It never waits for a
//! consumer: the stream is a bounded broadcast that slow readers fall behind in. Whatever goes over many rows is cut into
//! parts, and the ring is read between any two, so that neither starves the other.

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
mod precedence;
mod questions;
mod recorder;
mod room;
#[cfg(test)]
mod samples;
mod scans;
mod searches;
mod stream;
mod sweeps;
mod thread;
mod told;

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{Arc, mpsc as jobs},
    time::Instant,
};

use tokio::{sync::mpsc, time::sleep_until};

pub use handle::{EngineGone, Handle, RowParts};
pub use precedence::{DEFAULT as DEFAULT_NICE, try_nice};
pub use recorder::Recording;
pub use stream::Subscription;
pub use thread::Thread;

use crate::{
    clock::Ktime,
    decode::{DecodeError, RingRecord},
    facts::ConnectFailure,
    loader::{EventRing, KernelLog, LoadError, Tracer},
    sources,
    sweeper::{self, Job, Outcome},
    table::{AHEAD, ANSWER, Table, Transition},
    view::{About, Loss, Stats, StreamItem},
};
use copies::{Copies, Copying, Rest};
use counters::Counters;
use counting::Countings;
use handle::Request;
use looks::Looks;
use losses::LossWatch;
use pace::Pace;
use places::Places;
use precedence::Precedence;
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
    #[error("the tracer stopped: its scanning thread has ended; start it again, and please report this")]
    SweeperGone,
}

/// Where events come from, in the order in which they happened.
trait Events {
    /// As [`EventRing::take`].
    fn take(&mut self) -> Option<Result<RingRecord, DecodeError>>;
    /// As [`EventRing::consumed`].
    fn consumed(&self) -> u64;
}

impl Events for EventRing {
    fn take(&mut self) -> Option<Result<RingRecord, DecodeError>> {
        self.take()
    }

    fn consumed(&self) -> u64 {
        self.consumed()
    }
}

/// Waits for whatever comes next, and has it done.
pub struct Engine {
    ring: EventRing,
    log: KernelLog,
    outcomes: mpsc::Receiver<Outcome>,
    requests: mpsc::Receiver<Request>,
    core: Core,
}

/// How the engine is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The size of the event ring in bytes.
    pub ring_bytes: u32,
    /// So many bytes for the histories of connections that have ended.
    pub history_bytes: usize,
    /// The nice value of the engine's thread, -20 to 19.
    pub nice: i32,
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
    precedence: Arc<Precedence>,
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
    /// Puts an attached tracer to work. What the table is told goes to `recording`, too, if there is one. The engine runs
    /// in [`Engine::spawn`]; the handle asks it things.
    ///
    /// # Errors
    ///
    /// When a thread cannot be had, or the recording cannot be begun.
    pub fn new(
        tracer: Tracer,
        setup: Setup,
        recording: Option<Recording>,
    ) -> Result<(Self, Handle), EngineError> {
        let (jobs, outcomes) = sweeper::start(tracer.iterators)?;
        let (asking, requests) = mpsc::channel(REQUESTS);
        let stream = Publisher::new()?;
        let precedence = Arc::new(Precedence::new(setup.nice));
        let handle = Handle::new(asking, stream.readers(), Arc::clone(&precedence));
        let coverage = sources::coverage(&tracer.hooks);
        let recorder = recording.map(|recording| Recorder::start(recording, coverage, handle.steady_clock()));
        let recorder = recorder.transpose().map_err(EngineError::Recording)?;
        let losses = LossWatch::new(move || tracer.losses.read(), Ktime::now());
        let core = Core {
            counters: Counters::new(setup.ring_bytes, tracer.hooks),
            pace: Pace::new(Instant::now(), setup.ring_bytes),
            precedence,
            ..Core::new(
                Told::new(Table::remembering(coverage, setup.history_bytes), recorder),
                jobs,
                stream,
                losses,
            )
        };
        Ok((
            Self {
                ring: tracer.events,
                log: tracer.log,
                outcomes,
                requests,
                core,
            },
            handle,
        ))
    }

    /// Runs until `stop` completes, then detaches everything.
    async fn run(self, stop: impl Future<Output = ()>) -> Result<(), EngineError> {
        let mut stop = pin!(stop);
        let (mut ring, mut log) = (self.ring.readable()?, self.log.readable()?);
        let (mut core, mut outcomes, mut requests) = (self.core, self.outcomes, self.requests);
        core.precedence.take();
        loop {
            let more = core.read(ring.get_mut());
            core.work();
            let (going, pause) = (more || core.has_work(), core.pace.due());
            tokio::select! {
                () = &mut stop => {
                    // What has happened so far is still told.
                    core.read_up_to(Ktime::now(), ring.get_mut());
                    return Ok(());
                }
                // Lets the runtime see what is due and what has come.
                () = tokio::task::yield_now(), if going => {}
                // Cleared before the ring is read: what comes after that sets it again.
                ready = ring.readable_mut(), if !going && pause.is_none() => ready?.clear_ready(),
                () = until(pause.unwrap_or_else(Instant::now)), if !going && pause.is_some() => {}
                outcome = outcomes.recv(), if !core.sweeps.has_enough() => {
                    core.outcome(outcome.ok_or(EngineError::SweeperGone)?, ring.get_mut());
                }
                request = requests.recv() => match request {
                    Some(request) => core.request(request),
                    // Every handle is gone: nobody listens and nobody can ask.
                    None => return Ok(()),
                },
                () = until(core.losses.due()), if core.losses.is_due() => core.check_losses(),
                () = until(core.sweeps.due()), if core.sweeps.idle() => core.start_sweep()?,
                () = until(core.scans.due()), if core.scans.idle() => core.start_scan()?,
                ready = log.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                () = tokio::time::sleep(ANSWER), if core.table.is_waiting() => core.release(),
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
    fn new(table: Told, jobs: jobs::Sender<Job>, stream: Publisher, losses: LossWatch) -> Self {
        let now = Instant::now();
        Self {
            table,
            jobs,
            stream,
            sweeps: Sweeps::new(now),
            scans: Scans::new(now),
            places: Places::default(),
            copies: Copies::default(),
            countings: Countings::default(),
            looks: Looks::default(),
            searches: Searches::default(),
            losses,
            pace: Pace::new(now, 0),
            precedence: Arc::new(Precedence::new(0)),
            blind: false,
            untold: None,
            latest: Ktime(0),
            consumed: 0,
            counters: Counters::new(0, Vec::new()),
            taken: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// Reads the ring, unless this is a pause. Returns whether more may wait there.
    fn read(&mut self, ring: &mut impl Events) -> bool {
        let pausing = self.pace.due().is_some_and(|due| due > Instant::now());
        if pausing && !self.sweeps.needs_events_behind(self.consumed) {
            return false;
        }
        self.drain(ring)
    }

    /// Whether [`work`](Self::work) has something to do.
    fn has_work(&self) -> bool {
        self.sweeps.can_go_on(self.consumed)
            || self.scans.can_go_on()
            || self.looks.pending()
            || self.copies.pending()
            || self.searches.pending()
    }

    /// Does one part of each thing that is under way.
    fn work(&mut self) {
        self.go_on_with_sweep();
        self.go_on_joining();
        self.search_for_looks();
        let now = Ktime::now();
        self.copies.advance(&self.table, now);
        self.searches.advance(&self.table, now);
    }

    /// Folds what waits in the ring, at most [`BATCH`] records. Returns whether more may wait.
    fn drain(&mut self, ring: &mut impl Events) -> bool {
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
        if read < BATCH && (read > 0 || self.pace.due().is_some()) {
            self.pace.emptied(now, read);
        }
        if read > 0 {
            self.losses.events_came(now);
        }
        self.sweeps.noticed(now, self.table.unsettled());
        self.scans.noticed(now, self.table.ever_ownerless());
        if self.places.take_news() {
            self.sweeps.strangers_came(now);
        }
        read == BATCH
    }

    /// Folds everything that had happened by `now`.
    fn read_up_to(&mut self, now: Ktime, ring: &mut impl Events) {
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
            Ok(RingRecord::ConnectFailure(failure)) => self.connect_failed(&failure),
            Err(error) => {
                // Whatever it was to tell, a sweep must find. Said once: where one makes no sense, others will not.
                if self.counters.undecodable == 0 {
                    log::warn!(
                        "cannot decode a record of the event ring: {error}; scans repair the table; \
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
                    refused: self.places.refused(query.netns),
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
            // The answer that there is room for is looked at in the next turn.
            Request::GoOn => {}
            Request::Ready(reply) => self.sweeps.when_seeded(reply),
            Request::Stats(reply) => {
                self.check_losses();
                let readers = self.stream.count();
                let settling = self.sweeps.settling();
                // Whoever asked may have gone since.
                let stats =
                    self.counters
                        .stats(&self.table, self.losses.total(), settling, &self.places, readers);
                let stats = Stats {
                    nice: self.precedence.nice(),
                    nice_refused: self.precedence.refusal().map(str::to_owned),
                    ..stats
                };
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

    fn connect_failed(&mut self, failure: &ConnectFailure) {
        self.counters.events += 1;
        self.places.heard(failure.connection.netns, failure.owner);
        if self.table.apply_connect_failure(failure, &mut self.fresh) {
            self.counters.connects_failed += 1;
            self.publish();
            self.stream.send([StreamItem::ConnectFailed(*failure)]);
        }
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

#[cfg(test)]
mod tests;
