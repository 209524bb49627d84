//! A scan of all open files: on the thread that walks sockets, or beside that.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    SweepError,
    iterate::{Files, files},
    processor_time,
};
use crate::loader::Iterators;

/// What came of a scan of all open files.
pub(super) struct Scan {
    pub(super) found: Result<Files, SweepError>,
    pub(super) ended: Instant,
    /// Processor time.
    pub(super) cost: Duration,
}

impl Scan {
    /// Scans on the calling thread.
    pub(super) fn of(iterators: &Iterators) -> Self {
        let cpu = processor_time();
        let found = files(iterators);
        Self {
            found,
            ended: Instant::now(),
            cost: processor_time().saturating_sub(cpu),
        }
    }

    /// Scans on a thread of its own.
    pub(super) fn beside(iterators: &Arc<Iterators>) -> io::Result<JoinHandle<Self>> {
        let iterators = Arc::clone(iterators);
        thread::Builder::new()
            .name("scanner".to_owned())
            .spawn(move || Self::of(&iterators))
    }
}
