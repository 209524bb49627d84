//! The engine: reads events and sweeps, folds them into the table, and hands out what comes of it.
//!
//! One task owns the table; everybody else talks to it over channels. It never waits for a consumer: the
//! stream is a bounded broadcast that slow readers fall behind in, and a large snapshot is copied in parts
//! between which events are read.

mod copies;
mod counters;
mod handle;
mod losses;
mod sweeps;

use std::{future::Future, io, pin::pin, sync::mpsc as jobs, time::Instant};

use tokio::{
    io::unix::AsyncFd,
    sync::{broadcast, mpsc},
    time::sleep_until,
};

pub use handle::{EngineGone, Handle, Subscription};

use crate::{
    clock::Ktime,
    decode::RingRecord,
    loader::{EventRing, KernelLog, LoadError, Tracer},
    sweeper::{self, Job, Outcome},
    table::{Table, Transition},
    view::StreamItem,
};
use copies::Copies;
use counters::Counters;
use handle::Request;
use losses::LossWatch;
use sweeps::Sweeps;

/// Records folded before the engine looks at anything else.
const BATCH: usize = 4096;
/// Items that a reader of the stream may fall behind.
const STREAM: usize = 16_384;

/// The engine could not go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Loading failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The runtime or the system refused something.
    #[error("the tracer stopped: {0}")]
    Io(#[from] io::Error),
    /// The sweeper is gone.
    #[error("the tracer stopped: its sweeper has ended")]
    SweeperGone,
}

/// The tracer, its table and what drives them.
pub struct Engine {
    ring: AsyncFd<EventRing>,
    log: AsyncFd<KernelLog>,
    table: Table,
    jobs: jobs::Sender<Job>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    requests: mpsc::Receiver<Request>,
    stream: broadcast::Sender<StreamItem>,
    sweeps: Sweeps,
    copies: Copies,
    losses: LossWatch,
    counters: Counters,
    /// Transitions of the record at hand, kept for its memory.
    fresh: Vec<Transition>,
}

impl Engine {
    /// Puts an attached tracer to work. The engine runs in [`Engine::run`]; the handle asks it things.
    ///
    /// # Errors
    ///
    /// When a thread or a descriptor cannot be had.
    pub fn new(tracer: Tracer, ring_bytes: u32) -> Result<(Self, Handle), EngineError> {
        let (jobs, outcomes) = sweeper::start(tracer.iterators)?;
        let (asking, requests) = mpsc::channel(64);
        let (stream, _) = broadcast::channel(STREAM);
        let handle = Handle::new(asking, stream.clone());
        let engine = Self {
            ring: tracer.events.readable()?,
            log: tracer.log.readable()?,
            table: Table::new(),
            jobs,
            outcomes,
            requests,
            stream,
            sweeps: Sweeps::new(Instant::now()),
            copies: Copies::default(),
            losses: LossWatch::new(tracer.losses, Ktime::now()),
            counters: Counters::new(ring_bytes),
            fresh: Vec::new(),
        };
        Ok((engine, handle))
    }

    /// Runs until `stop` completes, then detaches everything.
    ///
    /// # Errors
    ///
    /// When the tracer breaks down.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), EngineError> {
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                ready = self.ring.readable_mut() => {
                    let mut ready = ready?;
                    if !drain(ready.get_inner_mut(), &mut self.table, &mut self.counters, &mut self.sweeps, &mut self.fresh) {
                        ready.clear_ready();
                    }
                    self.after_events();
                }
                outcome = self.outcomes.recv() => self.outcome(outcome.ok_or(EngineError::SweeperGone)?),
                request = self.requests.recv() => {
                    // Without anybody to ask, there is still the stream.
                    match request {
                        Some(request) => self.request(request),
                        None => return Ok(()),
                    }
                }
                () = sleep_until(self.losses.due().into()), if self.losses.is_due() => self.check_losses()?,
                () = sleep_until(self.sweeps.due().into()), if self.sweeps.idle() => self.start_sweep()?,
                ready = self.log.readable_mut() => {
                    let mut ready = ready?;
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                () = std::future::ready(()), if self.copies.pending() => {
                    self.copies.advance(&self.table, Ktime::now());
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Rows(query, reply) => {
                if query.holders {
                    self.sweeps.want_holders();
                }
                self.sweeps.want(query, reply);
            }
            Request::Ready(reply) => self.sweeps.when_seeded(reply),
            Request::Stats(reply) => {
                let stats =
                    self.counters
                        .stats(&self.table, self.losses.total(), self.stream.receiver_count());
                // Whoever asked may have gone since.
                let _ = reply.send(stats);
            }
        }
    }

    /// Events have been folded: what they leave open decides when to look again.
    fn after_events(&mut self) {
        let now = Instant::now();
        self.losses.events_came(now);
        self.sweeps.noticed(now, self.table.unsettled());
        self.fold_fenced();
    }

    fn check_losses(&mut self) -> Result<(), EngineError> {
        let Some(lost) = self.losses.check(Ktime::now())? else {
            return Ok(());
        };
        if lost.events > 0 {
            self.sweeps.damaged(Instant::now());
            log::warn!(
                "{} state changes were lost; sweeping to repair the table",
                lost.events
            );
            self.send(StreamItem::Lost {
                events: lost.events,
                since: lost.since,
            });
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.counters.transitions += self.fresh.len() as u64;
        for transition in std::mem::take(&mut self.fresh) {
            self.send(StreamItem::Transition(transition));
        }
    }

    fn send(&self, item: StreamItem) {
        // An error says that nobody reads.
        let _ = self.stream.send(item);
    }
}

/// Folds what waits in the ring, at most [`BATCH`] records. Returns whether more may wait.
fn drain(
    ring: &mut EventRing,
    table: &mut Table,
    counters: &mut Counters,
    sweeps: &mut Sweeps,
    fresh: &mut Vec<Transition>,
) -> bool {
    for _ in 0..BATCH {
        match ring.next() {
            None => return false,
            Some(Ok(RingRecord::State(event))) => {
                counters.events += 1;
                table.apply_event(&event, fresh);
            }
            Some(Ok(RingRecord::Fence(fence))) => sweeps.fence_passed(fence),
            Some(Err(error)) => {
                counters.undecodable += 1;
                log::warn!("a record of the event ring: {error}");
            }
        }
    }
    true
}
