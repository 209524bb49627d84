//! One client.

use std::{io, pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout, timeout_at},
};

use super::{Handle, MOST_WATCHERS, Places, Silence};
use crate::{
    clock::Ktime,
    engine::EngineGone,
    protocol::{
        self, Answer, BadGreeting, Frames, ITEMS_PER_FRAME, LONGEST_ANSWER, LONGEST_QUESTION, Question,
    },
    view::{HistoryQuery, RowPart, RowQuery, WatchQuery},
};

/// A client that has not asked anything for this long is gone, or never was one.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client that takes longer for a frame is slow. Its answer goes on, but others need not wait until it is over.
const PROMPT: Duration = Duration::from_millis(50);
/// A slow client has this long for each frame,
const FRAME: Duration = Duration::from_secs(30);
/// and this long for the whole answer: what the engine keeps for it takes memory.
const WHOLE_ANSWER: Duration = Duration::from_mins(1);

/// Why a client was dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Greeting(#[from] BadGreeting),
    #[error("cannot decode its frame: {0}")]
    Frame(#[from] postcard::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it was silent for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("it has not read its answer for {} s, or not the whole of it in {} s", FRAME.as_secs(), WHOLE_ANSWER.as_secs())]
    Slow,
    #[error(transparent)]
    Engine(#[from] EngineGone),
}

/// Serves one client until it leaves. `silent` says whether it is the client's turn to say something.
pub(super) async fn serve(
    stream: UnixStream,
    handle: Handle,
    places: Places,
    silent: &Silence,
) -> Result<(), SessionError> {
    let mut frames = Frames::new(stream, LONGEST_QUESTION, LONGEST_ANSWER);
    in_time(greet(&mut frames)).await?;
    let Some(greeting) = next(&mut frames, silent).await? else {
        return Ok(());
    };
    protocol::check_greeting(&greeting)?;
    while let Some(frame) = next(&mut frames, silent).await? {
        match protocol::decode(&frame)? {
            Question::Rows(query) => {
                let pace = Pace::of_the_next(&places.snapshots).await;
                rows(&mut frames, pace, &handle, query).await?;
            }
            Question::Stats => {
                let stats = handle.stats().await?;
                in_time(answer(&mut frames, &Answer::Stats(Box::new(stats)))).await?;
            }
            Question::Histories(query) => {
                let pace = Pace::of_the_next(&places.snapshots).await;
                histories(&mut frames, pace, &handle, query).await?;
            }
            Question::Watch(query) => {
                let Ok(_place) = places.watchers.try_acquire() else {
                    let full = format!("{MOST_WATCHERS} clients watch already; end one of them");
                    return in_time(answer(&mut frames, &Answer::Failed(full))).await;
                };
                if let Some(netns) = query.netns
                    && let Err(why) = handle.exists(netns).await?
                {
                    return in_time(answer(&mut frames, &Answer::Failed(why))).await;
                }
                return watch(&mut frames, &handle, query).await;
            }
        }
    }
    Ok(())
}

/// Tells a client why it is not served, and hangs up.
pub(super) async fn refuse(stream: UnixStream, why: String) {
    /// A client that asks at once takes no longer.
    const LINGER: Duration = Duration::from_secs(1);
    let mut frames = Frames::new(stream, LONGEST_QUESTION, LONGEST_ANSWER);
    let refusal = async {
        greet(&mut frames).await?;
        answer(&mut frames, &Answer::Failed(why)).await?;
        while frames.receive().await?.is_some() {}
        Ok::<(), SessionError>(())
    };
    // It is gone, or goes on waiting: either way it has been told.
    let _ = timeout(LINGER, refusal).await;
}

async fn greet(frames: &mut Frames) -> Result<(), SessionError> {
    Ok(frames.send(protocol::greeting()).await?)
}

/// The client's next frame; `None` when it has left.
async fn next(frames: &mut Frames, silent: &Silence) -> Result<Option<BytesMut>, SessionError> {
    silent.begins();
    let frame = timeout(PATIENCE, frames.receive()).await;
    silent.ends();
    match frame {
        Ok(frame) => Ok(frame?),
        Err(_) => Err(SessionError::Silent),
    }
}

async fn rows(
    frames: &mut Frames,
    mut pace: Pace<'_>,
    handle: &Handle,
    query: RowQuery,
) -> Result<(), SessionError> {
    let mut parts = handle.parts(query).await?;
    loop {
        let answer = match parts.next().await? {
            Ok(RowPart::Rows(rows)) => {
                pace.send(frames, rows.into_frame()).await?;
                continue;
            }
            Ok(RowPart::Again) => {
                pace.send(frames, protocol::encode(&Answer::Again)?).await?;
                continue;
            }
            Ok(RowPart::End(about)) => Answer::End(handle.clock(), about),
            Err(why) => Answer::Failed(why),
        };
        return pace.send(frames, protocol::encode(&answer)?).await;
    }
}

async fn histories(
    frames: &mut Frames,
    mut pace: Pace<'_>,
    handle: &Handle,
    query: HistoryQuery,
) -> Result<(), SessionError> {
    let most = query.most.min(HistoryQuery::MOST);
    let found = match handle.histories(HistoryQuery { most, ..query }).await? {
        Ok(histories) => Answer::Histories(handle.clock(), Ktime::now(), histories),
        Err(why) => Answer::Failed(why),
    };
    pace.send(frames, protocol::encode(&found)?).await
}

/// The pace at which a client takes its answer.
struct Pace<'a> {
    /// Its place among the few whose answers are made at once; `None` once it has turned out to be slow.
    place: Option<SemaphorePermit<'a>>,
    /// When it must have taken all of it.
    end: Option<Instant>,
}

impl<'a> Pace<'a> {
    /// Waits for a place among `places`.
    async fn of_the_next(places: &'a Semaphore) -> Self {
        Self {
            // Nobody ever closes it.
            place: places.acquire().await.ok(),
            end: None,
        }
    }

    /// Sends a frame of the answer. A client that does not take it at once gives up its place, and is dropped if it does not
    /// take it in time.
    async fn send(&mut self, frames: &mut Frames, frame: Bytes) -> Result<(), SessionError> {
        let end = *self.end.get_or_insert_with(|| Instant::now() + WHOLE_ANSWER);
        let mut sending = pin!(frames.send(frame));
        let sent = if let Ok(sent) = timeout(PROMPT, &mut sending).await {
            sent
        } else {
            self.place = None;
            let end = end.min(Instant::now() + FRAME);
            timeout_at(end, sending).await.map_err(|_| SessionError::Slow)?
        };
        Ok(sent?)
    }
}

/// A client that has asked for something takes it, or is dropped: what waits for it takes memory.
async fn in_time(sending: impl Future<Output = Result<(), SessionError>>) -> Result<(), SessionError> {
    timeout(PATIENCE, sending)
        .await
        .unwrap_or(Err(SessionError::Silent))
}

/// Sends the stream, as many items at once as have come meanwhile.
async fn watch(frames: &mut Frames, handle: &Handle, query: WatchQuery) -> Result<(), SessionError> {
    let mut stream = handle.subscribe(query);
    answer(frames, &Answer::Watching).await?;
    loop {
        let items = tokio::select! {
            items = stream.next_batch(ITEMS_PER_FRAME) => items,
            // A watching client says nothing more: whatever comes is its end.
            _ = frames.receive() => return Ok(()),
        };
        let Some(items) = items else { return Ok(()) };
        answer(frames, &Answer::Items(handle.clock(), items)).await?;
    }
}

async fn answer(frames: &mut Frames, answer: &Answer) -> Result<(), SessionError> {
    Ok(frames.send(protocol::encode(answer)?).await?)
}

impl SessionError {
    /// Whether the client has only left, at whatever moment.
    pub(super) fn is_farewell(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        matches!(self, Self::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionReset))
    }
}
