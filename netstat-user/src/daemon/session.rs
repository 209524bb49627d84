//! One client.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{net::UnixStream, time::timeout};

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

/// Why a client was dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Greeting(#[from] BadGreeting),
    #[error("its frame makes no sense: {0}")]
    Frame(#[from] postcard::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it was silent for {} s", PATIENCE.as_secs())]
    Silent,
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
                // Nobody ever closes it.
                let _place = places.snapshots.acquire().await;
                rows(&mut frames, &handle, query).await?;
            }
            Question::Stats => {
                let stats = handle.stats().await?;
                in_time(answer(&mut frames, &Answer::Stats(Box::new(stats)))).await?;
            }
            Question::Histories(query) => {
                // Nobody ever closes it.
                let _place = places.snapshots.acquire().await;
                histories(&mut frames, &handle, query).await?;
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

async fn rows(frames: &mut Frames, handle: &Handle, query: RowQuery) -> Result<(), SessionError> {
    let mut parts = handle.parts(query).await?;
    loop {
        match parts.next().await? {
            Ok(RowPart::Rows(rows)) => {
                in_time(async { Ok(frames.send(rows.into_frame()).await?) }).await?;
            }
            Ok(RowPart::Again) => in_time(answer(frames, &Answer::Again)).await?,
            Ok(RowPart::End(about)) => {
                return in_time(answer(frames, &Answer::End(handle.clock(), about))).await;
            }
            Err(why) => return in_time(answer(frames, &Answer::Failed(why))).await,
        }
    }
}

async fn histories(frames: &mut Frames, handle: &Handle, query: HistoryQuery) -> Result<(), SessionError> {
    let most = query.most.min(HistoryQuery::MOST);
    let found = match handle.histories(HistoryQuery { most, ..query }).await? {
        Ok(histories) => Answer::Histories(handle.clock(), Ktime::now(), histories),
        Err(why) => Answer::Failed(why),
    };
    in_time(answer(frames, &found)).await
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
