//! One client.

use std::{io, time::Duration};

use futures_util::SinkExt;
use tokio::{net::UnixStream, time::timeout};
use tokio_util::bytes::Bytes;

use super::Handle;
use crate::{
    engine::{EngineGone, Subscription},
    protocol::{
        self, Answer, BadGreeting, Frames, ITEMS_PER_FRAME, LONGEST_QUESTION, Question, ROWS_PER_FRAME,
    },
    view::RowQuery,
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
pub(super) async fn serve(stream: UnixStream, handle: Handle) -> Result<(), SessionError> {
    let mut frames = protocol::frames(stream, LONGEST_QUESTION);
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
                answer(&mut frames, &Answer::Stats(Box::new(stats))).await?;
            }
            Question::Watch => return gone_is_fine(watch(&mut frames, handle.subscribe()).await),
        }
    }
    Ok(())
}

async fn next(frames: &mut Frames) -> Result<Option<Bytes>, SessionError> {
    let frame = timeout(
        PATIENCE,
        std::future::poll_fn(|context| poll_frame(frames, context)),
    );
    match frame.await {
        Ok(Some(frame)) => Ok(Some(frame?)),
        Ok(None) => Ok(None),
        Err(_) => Err(SessionError::Silent),
    }
}

fn poll_frame(
    frames: &mut Frames,
    context: &mut std::task::Context<'_>,
) -> std::task::Poll<Option<io::Result<Bytes>>> {
    use futures_util::Stream;
    std::pin::Pin::new(frames)
        .poll_next(context)
        .map_ok(tokio_util::bytes::BytesMut::freeze)
}

async fn rows(frames: &mut Frames, handle: &Handle, query: RowQuery) -> Result<(), SessionError> {
    match handle.rows(query).await? {
        Ok(rows) => {
            for part in rows.chunks(ROWS_PER_FRAME) {
                answer(frames, &Answer::Rows(part.to_vec())).await?;
            }
            answer(frames, &Answer::End).await
        }
        Err(why) => answer(frames, &Answer::Failed(why)).await,
    }
}

/// Sends the stream, as many items at once as have come meanwhile.
async fn watch(frames: &mut Frames, mut stream: Subscription) -> Result<(), SessionError> {
    answer(frames, &Answer::Watching).await?;
    loop {
        let first = tokio::select! {
            item = stream.next() => item,
            // A watching client says nothing more: whatever comes is its end.
            _ = std::future::poll_fn(|context| poll_frame(frames, context)) => return Ok(()),
        };
        let Some(first) = first else { return Ok(()) };
        let mut items = vec![first];
        while items.len() < ITEMS_PER_FRAME
            && let Some(item) = stream.try_next()
        {
            items.push(item);
        }
        answer(frames, &Answer::Items(items)).await?;
    }
}

async fn answer(frames: &mut Frames, answer: &Answer) -> Result<(), SessionError> {
    Ok(frames.send(protocol::encode(answer)?).await?)
}

/// A client that watches leaves by closing its end, at whatever moment.
fn gone_is_fine(result: Result<(), SessionError>) -> Result<(), SessionError> {
    match result {
        Err(SessionError::Io(error))
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
