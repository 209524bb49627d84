//! A relay between a client and the daemon that changes what the daemon says: the way to a table that is wrong on
//! purpose.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use netstate::protocol::{self, Answer};
use tempfile::TempDir;

use crate::{Daemon, daemon::directory};

/// Changes an answer on its way.
type Lie = Arc<dyn Fn(&mut Answer) + Send + Sync>;

/// The relay's socket. What it serves ends with its clients.
#[derive(Debug)]
pub struct Liar {
    socket: PathBuf,
    _directory: TempDir,
}

impl Liar {
    /// Relays to `daemon`, and has `lie` change each answer.
    ///
    /// The answers also claim that the table settles at once, so that nobody waits to find out.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new(daemon: &Daemon, lie: impl Fn(&mut Answer) + Send + Sync + 'static) -> Result<Self> {
        let directory = directory()?;
        let socket = directory.path().join("liar.sock");
        let listener = UnixListener::bind(&socket).context("cannot make the relay's socket")?;
        let lie: Lie = Arc::new(move |answer| {
            if let Answer::Stats(stats) = answer {
                stats.settling = Duration::ZERO;
            }
            lie(answer);
        });
        let upstream = daemon.socket().to_owned();
        // Ends with the test, which waits for its clients and not for this.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let (upstream, lie) = (upstream.clone(), Arc::clone(&lie));
                // A client that leaves is the end of its own relay alone.
                thread::spawn(move || relay(&client, &upstream, &lie));
            }
        });
        Ok(Self {
            socket,
            _directory: directory,
        })
    }

    /// Path of the relay's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn relay(client: &UnixStream, upstream: &Path, lie: &Lie) -> io::Result<()> {
    let upstream = UnixStream::connect(upstream)?;
    let questions = {
        let (mut client, mut upstream) = (client.try_clone()?, upstream.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut client, &mut upstream);
            let _ = upstream.shutdown(Shutdown::Write);
        })
    };
    let answered = answers(&upstream, client, lie);
    let _ = client.shutdown(Shutdown::Both);
    let _ = questions.join();
    answered
}

fn answers(mut upstream: &UnixStream, mut client: &UnixStream, lie: &Lie) -> io::Result<()> {
    let mut greeted = false;
    loop {
        let mut length = [0; 4];
        upstream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?];
        upstream.read_exact(&mut frame)?;
        if std::mem::replace(&mut greeted, true) {
            let mut answer = protocol::decode::<Answer>(&frame).map_err(io::Error::other)?;
            lie(&mut answer);
            frame = protocol::encode(&answer).map_err(io::Error::other)?.to_vec();
        }
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        client.write_all(&length.to_be_bytes())?;
        client.write_all(&frame)?;
    }
}
