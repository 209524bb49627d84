//! Writing down what the table is told. Neither a disk that is slow nor one that is full disturbs the tracer: then the
//! recording ends, which is said once.

use std::{
    fs::File,
    io, mem,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    clock::SteadyClock,
    namespaces::{self, Names},
    recording::{self, Fact, Header, Writer},
    sources::Coverage,
};

/// Pieces that may wait for the disk: 64 MiB.
const WAITING: usize = 256;
/// What has been recorded is written after this at the latest, if anything else happens.
const DELAY: Duration = Duration::from_secs(1);

/// A file that a recording goes to, and what it is called.
#[derive(Debug)]
pub struct Recording {
    /// The file, which is empty.
    pub file: File,
    /// Its name.
    pub path: PathBuf,
}

/// Takes facts, and has them written by a thread of its own.
#[derive(Debug)]
pub(super) struct Recorder {
    path: PathBuf,
    encoded: Vec<u8>,
    written: Instant,
    /// `None` when the recording has ended.
    pieces: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins a recording.
    pub(super) fn start(
        recording: Recording,
        coverage: Coverage,
        clock: Arc<SteadyClock>,
    ) -> io::Result<Self> {
        let Recording { file, path } = recording;
        let header = Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            coverage,
            own: namespaces::own()?,
            clock: clock.read(),
            names: Names::read().to_list(),
        };
        let writer = Writer::new(file, &header)?;
        let (pieces, waiting) = sync_channel(WAITING);
        let name = path.clone();
        let thread = thread::Builder::new().name("recording".to_owned()).spawn(move || {
            if let Err(error) = write(writer, &waiting, &clock) {
                log::warn!(
                    "the recording in {} ends here: {error}; tracing goes on, and what has been recorded can be \
                     replayed. Make room and start again to record more",
                    name.display()
                );
            }
        })?;
        Ok(Self {
            path,
            encoded: Vec::with_capacity(recording::PIECE + 1024),
            written: Instant::now(),
            pieces: Some(pieces),
            thread: Some(thread),
        })
    }

    pub(super) fn record(&mut self, fact: &Fact) {
        if self.pieces.is_none() {
            return;
        }
        recording::encode(fact, &mut self.encoded);
        if self.encoded.len() >= recording::PIECE {
            self.hand_over();
        }
    }

    /// Has written what has waited long enough.
    pub(super) fn keep_up(&mut self) {
        if !self.encoded.is_empty() && self.written.elapsed() >= DELAY {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Some(pieces) = &self.pieces else { return };
        self.written = Instant::now();
        let room = Vec::with_capacity(recording::PIECE + 1024);
        match pieces.try_send(mem::replace(&mut self.encoded, room)) {
            Ok(()) => return,
            // It has said why.
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => log::warn!(
                "the recording in {} ends here: the disk is too slow for it; tracing goes on, and what has been \
                 recorded can be replayed",
                self.path.display()
            ),
        }
        self.pieces = None;
        self.encoded = Vec::new();
    }
}

impl Drop for Recorder {
    /// Writes what is left.
    fn drop(&mut self) {
        if self.pieces.is_some() && !self.encoded.is_empty() {
            self.hand_over();
        }
        if self.pieces.take().is_some()
            && let Some(thread) = self.thread.take()
        {
            // It has said what there was to say.
            let _ = thread.join();
        }
    }
}

/// Writes pieces until there are no more.
fn write(mut writer: Writer<File>, pieces: &Receiver<Vec<u8>>, clock: &SteadyClock) -> io::Result<()> {
    let mut looked = Instant::now();
    for piece in pieces {
        if looked.elapsed() >= DELAY {
            looked = Instant::now();
            writer.circumstances(clock.read(), Names::read().to_list())?;
        }
        writer.facts(&piece)?;
    }
    writer.end()
}
