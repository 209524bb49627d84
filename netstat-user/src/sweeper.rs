//! The thread that walks the kernel's sockets and open files.
//!
//! It is a thread of its own because it enters network namespaces, which a thread can, and because the walk
//! waits for sockets that are locked.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc as channel;

use crate::{
    clock::Ktime,
    connection::Netns,
    decode::{self, DecodeError, SweepRecord},
    facts::{Fence, Holder, Sighting},
    loader::{Iterators, LoadError},
    namespaces,
    table::NamespaceSweep,
};

/// What the thread is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Walk the sockets of network namespaces.
    Sockets(Scope),
    /// Walk all open files for those that hold sockets.
    Holders,
}

/// Which namespaces to walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All that can be found. Those named here are looked for harder than others.
    All(Vec<Netns>),
    /// These, as far as they are still there.
    Only(Vec<Netns>),
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// One namespace has been walked.
    Namespace(NamespaceSweep, Fence),
    /// The walk over the namespaces is over.
    SocketsDone(SweepDone),
    /// All files have been walked.
    Holders(Result<Vec<Holder>, SweepError>),
}

/// How a walk over the namespaces went.
#[derive(Debug)]
pub struct SweepDone {
    /// The namespaces that are there and can be entered; `None` when only some were asked for.
    pub found: Option<Vec<Netns>>,
    /// When it began.
    pub start: Ktime,
    /// When it ended.
    pub end: Ktime,
    /// Processor time that it took.
    pub cost: Duration,
    /// Namespaces that could not be walked, and why.
    pub failed: Vec<(Netns, SweepError)>,
}

/// A walk failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The namespace could not be entered.
    #[error("cannot enter network namespace {}: {error}; run with sudo", netns.0)]
    Enter {
        /// The namespace.
        netns: Netns,
        /// Why.
        error: io::Error,
    },
    /// No way leads into the namespace: it is gone, or nothing but open files keeps it.
    #[error("there is no network namespace {}, or no process is in it; `lsns -t net` lists them", .0.0)]
    Absent(Netns),
    /// The kernel refused the iterator.
    #[error(transparent)]
    Open(#[from] LoadError),
    /// Reading it failed.
    #[error("cannot read the kernel's sockets: {0}")]
    Read(#[from] io::Error),
    /// What was read makes no sense.
    #[error("cannot understand what the kernel's iterator wrote: {0}")]
    Decode(#[from] DecodeError),
    /// The end was missing.
    #[error("the kernel's iterator ended early")]
    NoEnd,
}

/// Starts the thread. It ends when the sender of jobs is dropped.
///
/// # Errors
///
/// When no thread can be started.
pub fn start(iterators: Iterators) -> io::Result<(mpsc::Sender<Job>, channel::UnboundedReceiver<Outcome>)> {
    let (jobs, inbox) = mpsc::channel();
    let (outbox, outcomes) = channel::unbounded_channel();
    thread::Builder::new().name("sweeper".to_owned()).spawn(move || {
        let mut walker = Walker::new(iterators);
        while let Ok(job) = inbox.recv() {
            walker.run(job, |outcome| {
                // Nobody listens any more: the program is about to end.
                let _ = outbox.send(outcome);
            });
        }
    })?;
    Ok((jobs, outcomes))
}

/// Walks on the calling thread, which is in another namespace afterwards.
#[derive(Debug)]
pub struct Walker {
    iterators: Iterators,
    /// Where namespaces were at the last search.
    known: namespaces::Found,
}

impl Walker {
    /// A walker that has not looked anywhere yet.
    #[must_use]
    pub fn new(iterators: Iterators) -> Self {
        Self {
            iterators,
            known: namespaces::Found::new(),
        }
    }

    /// Does one job.
    pub fn run(&mut self, job: Job, mut report: impl FnMut(Outcome)) {
        match job {
            Job::Sockets(scope) => self.sockets(&scope, &mut report),
            Job::Holders => report(Outcome::Holders(holders(&mut self.iterators))),
        }
    }

    fn sockets(&mut self, scope: &Scope, report: &mut impl FnMut(Outcome)) {
        let start = Ktime::now();
        let cpu = processor_time();
        let mut failed = Vec::new();
        let found = self.find(scope);
        for (netns, path) in &found {
            let start = Ktime::now();
            match namespace(&mut self.iterators, *netns, path) {
                Ok((sightings, fence)) => {
                    let sweep = NamespaceSweep {
                        netns: *netns,
                        start,
                        end: fence.time,
                        sightings,
                    };
                    report(Outcome::Namespace(sweep, fence));
                }
                Err(error) => failed.push((*netns, error)),
            }
        }
        if let Scope::Only(wanted) = scope {
            let absent = wanted
                .iter()
                .filter(|netns| !found.iter().any(|(found, _)| found == *netns));
            failed.extend(absent.map(|netns| (*netns, SweepError::Absent(*netns))));
        }
        let all = matches!(scope, Scope::All(_));
        report(Outcome::SocketsDone(SweepDone {
            found: all.then(|| entered(found, &failed)),
            start,
            end: Ktime::now(),
            cost: processor_time().saturating_sub(cpu),
            failed,
        }));
    }

    /// The ways into the namespaces of `scope`.
    fn find(&mut self, scope: &Scope) -> Vec<(Netns, PathBuf)> {
        let wanted = match scope {
            Scope::All(wanted) => {
                self.known = namespaces::discover(wanted);
                return self.known.clone().into_iter().collect();
            }
            Scope::Only(wanted) => wanted,
        };
        let known = |netns: &Netns| {
            let path = self.known.get(netns)?;
            namespaces::identify(path)
                .is_ok_and(|found| found == *netns)
                .then(|| (*netns, path.clone()))
        };
        if let Some(found) = wanted.iter().map(known).collect() {
            return found;
        }
        self.known = namespaces::discover(wanted);
        wanted
            .iter()
            .filter_map(|netns| Some((*netns, self.known.get(netns)?.clone())))
            .collect()
    }
}

/// Those of `found` that can be entered: what is in the others is as unknown as if they were not there.
fn entered(found: Vec<(Netns, PathBuf)>, failed: &[(Netns, SweepError)]) -> Vec<Netns> {
    let closed = |netns: &Netns| {
        failed
            .iter()
            .any(|(failed, error)| failed == netns && matches!(error, SweepError::Enter { .. }))
    };
    found
        .into_iter()
        .map(|(netns, _)| netns)
        .filter(|netns| !closed(netns))
        .collect()
}

fn namespace(
    iterators: &mut Iterators,
    netns: Netns,
    path: &Path,
) -> Result<(Vec<Sighting>, Fence), SweepError> {
    // Entering the namespace that the thread is in already needs no privilege.
    let here = namespaces::identify("/proc/thread-self/ns/net".as_ref()).is_ok_and(|here| here == netns);
    if !here {
        namespaces::enter(netns, path).map_err(|error| SweepError::Enter { netns, error })?;
    }
    let mut sightings = Vec::new();
    let mut end = None;
    let rest = read_all(iterators.sockets()?, |bytes| {
        let (record, rest) = decode::sweep_record(bytes)?;
        match record {
            SweepRecord::Seen(seen) => sightings.push(seen),
            SweepRecord::End(fence) => end = Some(fence),
        }
        Ok(rest)
    })?;
    match end {
        Some(fence) if rest == 0 => Ok((sightings, fence)),
        _ => Err(SweepError::NoEnd),
    }
}

fn holders(iterators: &mut Iterators) -> Result<Vec<Holder>, SweepError> {
    let mut holders = Vec::new();
    read_all(iterators.files()?, |bytes| {
        let (holder, rest) = decode::holder_record(bytes)?;
        holders.push(holder);
        Ok(rest)
    })?;
    Ok(holders)
}

/// Reads `file` to its end and hands its bytes to `take`, which takes one record from their front each time.
/// Returns how many bytes of an incomplete record are left.
fn read_all(
    mut file: File,
    mut take: impl FnMut(&[u8]) -> Result<&[u8], DecodeError>,
) -> Result<usize, SweepError> {
    /// Twice what `bpf_seq_read` gives at once, 8 pages; and a record that it cut.
    const CHUNK: usize = 64 * 1024;
    let mut buffer = vec![0; CHUNK];
    let mut held = 0;
    loop {
        let read = match file.read(&mut buffer[held..]) {
            Ok(0) => return Ok(held),
            Ok(read) => read,
            // `bpf_seq_read` pauses when it has passed a million objects without one to show.
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(error.into()),
        };
        held += read;
        let mut bytes = &buffer[..held];
        loop {
            match take(bytes) {
                Ok(rest) => bytes = rest,
                Err(DecodeError::Short { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let rest = bytes.len();
        buffer.copy_within(held - rest..held, 0);
        held = rest;
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
