//! How others talk to the engine.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    answer::RowAnswer,
    precedence::{Precedence, Waiting},
    questions::Question,
    room::{Room, Rooms},
    stream::{Readers, Subscription},
};
use crate::{
    clock::{SteadyClock, WallClock},
    connection::Netns,
    view::{Histories, HistoryQuery, RowPart, RowQuery, RowSink as _, Snapshot, Stats, WatchQuery, unpack},
};

/// What can be asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Tell when the table holds every socket that was there at the start.
    Ready(oneshot::Sender<()>),
    /// Something that takes a sweep, unless the table as it is will do.
    Look(Question),
    /// The counts.
    Stats(oneshot::Sender<Stats>),
    /// An answer has room again, or nobody waits for it any more.
    GoOn,
}

/// The engine has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tracer has stopped")]
pub struct EngineGone;

/// The parts of an answer. The engine makes more of them as they are taken.
#[derive(Debug)]
pub struct RowParts {
    parts: mpsc::UnboundedReceiver<Result<RowPart, String>>,
    _waiting: Waiting,
    room: Arc<Room>,
}

impl RowParts {
    /// The next part, until one says that it is the last. The inner error says why the kernel could not be asked, and is
    /// the last as well.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn next(&mut self) -> Result<Result<RowPart, String>, EngineGone> {
        let part = self.parts.recv().await.ok_or(EngineGone)?;
        if let Ok(RowPart::Rows(rows)) = &part {
            self.room.empty(rows.bytes());
        }
        Ok(part)
    }
}

impl Drop for RowParts {
    fn drop(&mut self) {
        self.parts.close();
        self.room.leave();
    }
}

/// Asks the engine, and listens to it.
#[derive(Debug, Clone)]
pub struct Handle {
    asking: mpsc::Sender<Request>,
    stream: Readers,
    clock: Arc<SteadyClock>,
    precedence: Arc<Precedence>,
    rooms: Rooms,
}

impl Handle {
    pub(super) fn new(asking: mpsc::Sender<Request>, stream: Readers, precedence: Arc<Precedence>) -> Self {
        Self {
            asking,
            stream,
            clock: Arc::new(SteadyClock::new()),
            precedence,
            rooms: Rooms::default(),
        }
    }

    /// Waits until the table holds every socket that was there when the tracer was attached.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn ready(&self) -> Result<(), EngineGone> {
        self.ask(Request::Ready).await
    }

    /// The rows, as they are now, or as the table has them if the query says so. The inner error says why the
    /// kernel could not be asked.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn rows(&self, query: RowQuery) -> Result<Result<Snapshot, String>, EngineGone> {
        let mut parts = self.parts(query).await?;
        let mut snapshot = Snapshot::default();
        loop {
            match parts.next().await? {
                Ok(RowPart::Rows(rows)) => {
                    let read = unpack(&rows.into_frame(), |row| snapshot.rows.push(row));
                    if let Err(error) = read {
                        return Ok(Err(error.to_string()));
                    }
                }
                Ok(RowPart::Again) => snapshot.rows.begin_again(),
                Ok(RowPart::End(about)) => return Ok(Ok(Snapshot { about, ..snapshot })),
                Err(why) => return Ok(Err(why)),
            }
        }
    }

    /// The same in parts, as they come out of the table.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn parts(&self, query: RowQuery) -> Result<RowParts, EngineGone> {
        let (reply, parts) = mpsc::unbounded_channel();
        let room = self.rooms.one(self.asking.downgrade());
        let answer = RowAnswer::new(query.brief, reply, Arc::clone(&room));
        let request = Request::Look(Question::Rows(query, answer));
        let waiting = self.precedence.wait();
        self.asking.send(request).await.map_err(|_| EngineGone)?;
        Ok(RowParts {
            parts,
            room,
            _waiting: waiting,
        })
    }

    /// Whether there is such a namespace. The inner error says that there is none, and which there are.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn exists(&self, netns: Netns) -> Result<Result<(), String>, EngineGone> {
        self.ask(|reply| Request::Look(Question::Exists(netns, reply)))
            .await
    }

    /// What the table remembers of connections, live and ended. The inner error says why the kernel could not be
    /// asked.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn histories(&self, query: HistoryQuery) -> Result<Result<Histories, String>, EngineGone> {
        self.ask(|reply| Request::Look(Question::Histories(query, reply)))
            .await
    }

    /// The counts.
    ///
    /// # Errors
    ///
    /// [`EngineGone`].
    pub async fn stats(&self) -> Result<Stats, EngineGone> {
        self.ask(Request::Stats).await
    }

    /// The time of day that the tracer's times stand for.
    #[must_use]
    pub fn clock(&self) -> WallClock {
        self.clock.read()
    }

    /// What [`Handle::clock`] reads.
    pub(super) fn steady_clock(&self) -> Arc<SteadyClock> {
        Arc::clone(&self.clock)
    }

    /// Everything that happens from now on and that `query` asks for.
    #[must_use]
    pub fn subscribe(&self, query: WatchQuery) -> Subscription {
        self.stream.subscribe(query)
    }

    /// Waits until the engine has stopped.
    pub async fn gone(&self) {
        self.asking.closed().await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, EngineGone> {
        let (reply, answer) = oneshot::channel();
        let _waiting = self.precedence.wait();
        self.asking.send(request(reply)).await.map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }
}
