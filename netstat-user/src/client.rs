//! Asking the daemon.

use std::{
    io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixStream, time::timeout};

use crate::{
    clock::{Ktime, WallClock},
    protocol::{self, Answer, BadGreeting, Frames, LONGEST_ANSWER, LONGEST_QUESTION, Question},
    view::{
        self, About, Histories, HistoryQuery, RowQuery, RowSink, Snapshot, Stats, StreamItem, WatchQuery,
    },
};

/// A daemon that lives greets within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// And answers within this: it may have to walk millions of sockets first.
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);

/// The daemon cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none.
    #[error("no netstate daemon at {0}; start one with `netstate daemon`, or name its socket with --socket")]
    Absent(PathBuf),
    /// The path cannot be that of a socket, or is that of something else.
    #[error("{path} is no daemon's socket: {why}; name the daemon's socket with --socket")]
    NoSocket {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It may not be asked.
    #[error("not permitted to use {0}; run with sudo, or have the socket's group changed to one of yours")]
    NotPermitted(PathBuf),
    /// Somebody else is there, or another release.
    #[error("cannot talk to the daemon at {path}: {error}")]
    Greeting {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        error: BadGreeting,
    },
    /// It does not answer.
    #[error(
        "the daemon at {0} does not answer; it may be stopped or overloaded; continue it (`kill -CONT`), or restart it"
    )]
    Silent(PathBuf),
    /// The connection broke.
    #[error("the connection to the daemon at {path} broke: {error}; try again, or restart the daemon")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It answered something else.
    #[error(
        "the daemon at {0} sent an answer that this command does not understand; restart it, and please report this"
    )]
    Unexpected(PathBuf),
    /// It went away.
    #[error("the daemon at {0} has stopped; start it again with `netstate daemon`")]
    Stopped(PathBuf),
    /// It hung up in the middle of an answer.
    #[error(
        "the daemon at {0} hung up in the middle of its answer: it has stopped, or this command was too slow to read it; run the command again"
    )]
    BrokenOff(PathBuf),
    /// Another one has come in its place.
    #[error("the daemon at {0} was restarted and does not know what happened before; run this command again")]
    Replaced(PathBuf),
    /// It cannot answer.
    #[error("the daemon cannot answer: {0}")]
    Failed(String),
}

impl ClientError {
    /// Whether there is no daemon at all, so that doing the work oneself is the thing to do.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent(_))
    }
}

/// Whether a socket is there, or was there a moment ago.
fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |file| file.file_type().is_socket())
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    frames: Frames,
    path: PathBuf,
    /// The daemon's process; `None` if it cannot be told from here.
    daemon: Option<i32>,
}

impl Client {
    /// Connects to the daemon at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput => ClientError::NoSocket {
                    path: path.to_owned(),
                    why: error.to_string(),
                },
                io::ErrorKind::ConnectionRefused if !is_socket(path) => ClientError::NoSocket {
                    path: path.to_owned(),
                    why: "it is something else".to_owned(),
                },
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::Absent(path.to_owned())
                }
                io::ErrorKind::WouldBlock => ClientError::Silent(path.to_owned()),
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted(path.to_owned()),
                _ => ClientError::Io {
                    path: path.to_owned(),
                    error,
                },
            })?;
        let daemon = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let mut client = Self {
            daemon,
            frames: Frames::new(stream, LONGEST_ANSWER, LONGEST_QUESTION),
            path: path.to_owned(),
        };
        client.send(protocol::greeting()).await?;
        let greeting = timeout(PATIENCE, client.frame());
        let greeting = greeting
            .await
            .map_err(|_| ClientError::Silent(path.to_owned()))??;
        protocol::check_greeting(&greeting).map_err(|error| ClientError::Greeting {
            path: path.to_owned(),
            error,
        })?;
        Ok(client)
    }

    /// Connects again to the daemon at `path`, which this process was connected to before.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn connect_again(path: &Path, before: Option<i32>) -> Result<Self, ClientError> {
        match Self::connect(path).await {
            Ok(client) if client.daemon != before => Err(ClientError::Replaced(path.to_owned())),
            Err(error) if error.is_absent() => Err(ClientError::Stopped(path.to_owned())),
            client => client,
        }
    }

    /// The daemon's process; `None` if it cannot be told from here.
    #[must_use]
    pub fn daemon(&self) -> Option<i32> {
        self.daemon
    }

    /// The rows that `query` asks for.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn rows(&mut self, query: RowQuery) -> Result<(WallClock, Snapshot), ClientError> {
        let mut rows = Vec::new();
        let (clock, about) = self.each_row(query, &mut rows).await?;
        Ok((clock, Snapshot { rows, about }))
    }

    /// The same, but for the rows, each of which `sink` takes as it comes.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn each_row(
        &mut self,
        query: RowQuery,
        sink: &mut impl RowSink,
    ) -> Result<(WallClock, About), ClientError> {
        self.ask(&Question::Rows(query)).await?;
        let mut begun = false;
        loop {
            let frame = match self.frame_in_time().await {
                Err(ClientError::Stopped(path) | ClientError::Io { path, .. }) if begun => {
                    return Err(ClientError::BrokenOff(path));
                }
                frame => frame?,
            };
            begun = true;
            match view::unpack(&frame, |row| sink.take(row)) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(_) => return Err(ClientError::Unexpected(self.path.clone())),
            }
            match self.meaning(&frame)? {
                Answer::Again => sink.begin_again(),
                Answer::End(clock, about) => return Ok((clock, about)),
                _ => return Err(ClientError::Unexpected(self.path.clone())),
            }
        }
    }

    /// The daemon's counts.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn stats(&mut self) -> Result<Stats, ClientError> {
        self.ask(&Question::Stats).await?;
        match self.answer_in_time().await? {
            Answer::Stats(stats) => Ok(*stats),
            _ => Err(ClientError::Unexpected(self.path.clone())),
        }
    }

    /// The histories that `query` asks for; the time of day that their times stand for; and the time now.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn histories(
        &mut self,
        query: HistoryQuery,
    ) -> Result<(WallClock, Ktime, Histories), ClientError> {
        self.ask(&Question::Histories(query)).await?;
        match self.answer_in_time().await? {
            Answer::Histories(clock, now, histories) => Ok((clock, now, histories)),
            _ => Err(ClientError::Unexpected(self.path.clone())),
        }
    }

    /// Begins to watch: from here on, [`Client::items`] has what happens and `query` asks for.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn watch(&mut self, query: WatchQuery) -> Result<(), ClientError> {
        self.ask(&Question::Watch(query)).await?;
        match self.answer_in_time().await? {
            Answer::Watching => Ok(()),
            _ => Err(ClientError::Unexpected(self.path.clone())),
        }
    }

    /// What has happened since the last call; waits for something to happen.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn items(&mut self) -> Result<(WallClock, Vec<StreamItem>), ClientError> {
        match self.answer().await? {
            Answer::Items(clock, items) => Ok((clock, items)),
            _ => Err(ClientError::Unexpected(self.path.clone())),
        }
    }

    async fn ask(&mut self, question: &Question) -> Result<(), ClientError> {
        let frame = protocol::encode(question).map_err(|error| self.broken(io::Error::other(error)))?;
        match self.send(frame).await {
            // A daemon that refuses to serve says why before it hangs up.
            Err(broken) => match timeout(PATIENCE, self.answer()).await {
                Ok(Err(refusal @ ClientError::Failed(_))) => Err(refusal),
                _ => Err(broken),
            },
            Ok(()) => Ok(()),
        }
    }

    async fn answer_in_time(&mut self) -> Result<Answer, ClientError> {
        let frame = self.frame_in_time().await?;
        self.meaning(&frame)
    }

    async fn frame_in_time(&mut self) -> Result<bytes::BytesMut, ClientError> {
        let frame = timeout(ANSWER_PATIENCE, self.frame()).await;
        frame.unwrap_or_else(|_| Err(ClientError::Silent(self.path.clone())))
    }

    async fn answer(&mut self) -> Result<Answer, ClientError> {
        let frame = self.frame().await?;
        self.meaning(&frame)
    }

    fn meaning(&self, frame: &[u8]) -> Result<Answer, ClientError> {
        match protocol::decode(frame) {
            Ok(Answer::Failed(why)) => Err(ClientError::Failed(why)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(ClientError::Unexpected(self.path.clone())),
        }
    }

    async fn send(&mut self, frame: bytes::Bytes) -> Result<(), ClientError> {
        self.frames.send(frame).await.map_err(|error| self.broken(error))
    }

    async fn frame(&mut self) -> Result<bytes::BytesMut, ClientError> {
        match self.frames.receive().await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(ClientError::Stopped(self.path.clone())),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, error: io::Error) -> ClientError {
        ClientError::Io {
            path: self.path.clone(),
            error,
        }
    }
}
