//! One client.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{net::UnixStream, sync::Semaphore, time::timeout};

use super::{Handle, MOST_WATCHERS};
use crate::{
    connection::Netns,
    engine::EngineGone,
    protocol::{
        self, Answer, BadGreeting, Frames, ITEMS_PER_FRAME, LONGEST_ANSWER, LONGEST_QUESTION, Question,
        ROWS_PER_FRAME,
    },
    view::{RowQuery, Snapshot},
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

/// Serves one client until it leaves.
pub(super) async fn serve(
    stream: UnixStream,
    handle: Handle,
    watchers: Arc<Semaphore>,
) -> Result<(), SessionError> {
    let mut frames = Frames::new(stream, LONGEST_QUESTION, LONGEST_ANSWER);
    frames.send(protocol::greeting()).await?;
    let Some(greeting) = next(&mut frames).await? else {
        return Ok(());
    };
    protocol::check_greeting(&greeting)?;
    while let Some(frame) = next(&mut frames).await? {
        match protocol::decode(&frame)? {
            Question::Rows(query) => rows(&mut frames, &handle, query).await?,
            Question::Stats => {
                let stats = handle.stats().await?;
                in_time(answer(&mut frames, &Answer::Stats(Box::new(stats)))).await?;
            }
            Question::Watch(netns) => {
                let Ok(_place) = watchers.try_acquire() else {
                    let full = format!("{MOST_WATCHERS} clients watch already; end one of them");
                    return in_time(answer(&mut frames, &Answer::Failed(full))).await;
                };
                if let Some(netns) = netns
                    && let Err(why) = handle.exists(netns).await?
                {
                    return in_time(answer(&mut frames, &Answer::Failed(why))).await;
                }
                return watch(&mut frames, &handle, netns).await;
            }
        }
    }
    Ok(())
}

/// The client's next frame; `None` when it has left.
async fn next(frames: &mut Frames) -> Result<Option<BytesMut>, SessionError> {
    match timeout(PATIENCE, frames.receive()).await {
        Ok(frame) => Ok(frame?),
        Err(_) => Err(SessionError::Silent),
    }
}

async fn rows(frames: &mut Frames, handle: &Handle, query: RowQuery) -> Result<(), SessionError> {
    match handle.rows(query).await? {
        Ok(Snapshot { rows, unswept }) => {
            for part in rows.chunks(ROWS_PER_FRAME) {
                in_time(answer(frames, &Answer::Rows(part.to_vec()))).await?;
            }
            in_time(answer(frames, &Answer::End(handle.clock(), unswept))).await
        }
        Err(why) => in_time(answer(frames, &Answer::Failed(why))).await,
    }
}

/// A client that has asked for something takes it, or is dropped: what waits for it takes memory.
async fn in_time(sending: impl Future<Output = Result<(), SessionError>>) -> Result<(), SessionError> {
    timeout(PATIENCE, sending)
        .await
        .unwrap_or(Err(SessionError::Silent))
}

/// Sends the stream, as many items at once as have come meanwhile.
async fn watch(frames: &mut Frames, handle: &Handle, netns: Option<Netns>) -> Result<(), SessionError> {
    let mut stream = handle.subscribe();
    answer(frames, &Answer::Watching).await?;
    loop {
        let items = tokio::select! {
            items = stream.next_batch(ITEMS_PER_FRAME) => items,
            // A watching client says nothing more: whatever comes is its end.
            _ = frames.receive() => return Ok(()),
        };
        let Some(mut items) = items else { return Ok(()) };
        items.retain(|item| item.concerns(netns));
        if items.is_empty() {
            continue;
        }
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
