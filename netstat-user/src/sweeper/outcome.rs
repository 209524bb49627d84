//! What comes of a walk, and why it can fail.

use std::{io, time::Duration};

use super::Walked;
use crate::{
    census::Census,
    clock::Ktime,
    connection::Netns,
    decode::DecodeError,
    facts::{Fence, HolderIndex, Looked},
    loader::LoadError,
    namespaces::{self, Refused},
};

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// A part of a namespace has been walked, up to this end.
    Part(Walked, Fence),
    /// The walk over the namespaces is over.
    SocketsDone(SweepDone),
    /// All files have been walked.
    HoldersDone(ScanDone),
    /// For the question with this number, what the kernel counts in each namespace; `None` if one that is wanted cannot be entered, or
    /// shows no counts.
    Counted(u64, Option<Vec<(Netns, Census)>>),
    /// Whether single sockets can be looked at.
    LooksPrepared(Result<(), LoadError>),
    /// For the question with this number, sockets have been looked at, each of those that were asked for, as [`Iterators::look`](crate::loader::Iterators::look).
    Looked(u64, Result<Vec<Looked>, LoadError>),
}

/// How a walk over the namespaces went.
#[derive(Debug)]
pub struct SweepDone {
    /// Every namespace that could be found was to be walked.
    pub everywhere: bool,
    /// The namespaces that are there and can be entered, of those that were to be walked.
    pub found: Vec<Netns>,
    /// Those that were wanted and not found.
    pub absent: Vec<Netns>,
    /// Those of them that are certainly nowhere: the search went everywhere and was let in.
    pub gone: Vec<Netns>,
    /// After a search that went everywhere, the namespaces that are there although nothing leads into them.
    pub unreachable: Option<Vec<Netns>>,
    /// Processes that the search for namespaces could not look into, if it came by all processes.
    pub refused: Option<Refused>,
    /// All that are known, if something that was wanted is not among them.
    pub others: Vec<Netns>,
    /// When it began.
    pub start: Ktime,
    /// When it ended.
    pub end: Ktime,
    /// Processor time that it took, without a thorough search.
    pub cost: Duration,
    /// Processor time of a thorough search, if there was one.
    pub search: Option<Duration>,
    /// Namespaces that could not be walked, and why.
    pub failed: Vec<(Netns, SweepError)>,
    /// The search for namespaces broke off, so that some may be missing.
    pub broken: Option<SweepError>,
}

/// How a walk over all open files went.
#[derive(Debug)]
pub struct ScanDone {
    /// What it has found.
    pub found: Result<HolderIndex, SweepError>,
    /// Among what it has found is a socket of MPTCP whose cookie nobody had asked for before, so that a walk at the same time
    /// can have seen its subflows without one.
    pub first_asked: bool,
    /// Processor time that it took.
    pub cost: Duration,
}

/// A walk failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The namespace could not be entered.
    #[error("cannot enter network namespace {}: {error}{}", netns.0, if self.is_forbidden() { "; run with sudo" } else { "" })]
    Enter {
        /// The namespace.
        netns: Netns,
        /// Why.
        error: io::Error,
    },
    /// The namespace is there, and nothing leads into it.
    #[error("cannot read network namespace {}: {}", netns.0, namespaces::UNREACHABLE)]
    Unreachable {
        /// The namespace.
        netns: Netns,
    },
    /// Nothing leads into the namespace: it is gone, or nothing keeps it but sockets that nobody holds.
    #[error(
        "there is no network namespace {}, or none that can be found; {}{}",
        netns.0,
        namespaces::told(others),
        refused.map_or_else(String::new, |refused| format!("; {refused}"))
    )]
    Absent {
        /// The namespace.
        netns: Netns,
        /// Those that there are.
        others: Vec<Netns>,
        /// Where it may be.
        refused: Option<Refused>,
    },
    /// The search for namespaces broke off.
    #[error("cannot look for network namespaces: {0}; is /proc mounted, and are descriptors left?")]
    Search(io::Error),
    /// The kernel refused the iterator.
    #[error(transparent)]
    Open(#[from] LoadError),
    /// Reading it failed.
    #[error("cannot read the kernel's sockets: {0}; try again")]
    Read(#[from] io::Error),
    /// What was read makes no sense.
    #[error(
        "cannot understand what the kernel's iterator wrote: {0}; please report this with the output of `uname -a`"
    )]
    Decode(#[from] DecodeError),
    /// The end was missing.
    #[error("the kernel's iterator ended early; try again")]
    NoEnd,
}

impl SweepDone {
    /// Why this namespace, which was wanted, has not been walked.
    #[must_use]
    pub fn failure(&self, netns: Netns) -> Option<SweepError> {
        let unreachable = self.unreachable.as_ref();
        if unreachable.is_some_and(|unreachable| unreachable.contains(&netns)) {
            return Some(SweepError::Unreachable { netns });
        }
        self.absent.contains(&netns).then(|| SweepError::Absent {
            netns,
            others: self.others.clone(),
            refused: self.refused,
        })
    }

    /// Why the walk has to be repeated, for a reason that will pass.
    #[must_use]
    pub fn disturbance(&self) -> Option<&SweepError> {
        let mut failed = self.failed.iter().map(|(_, error)| error);
        self.broken
            .as_ref()
            .or_else(|| failed.find(|error| !error.is_forbidden()))
    }
}

impl SweepError {
    /// Whether the namespace may not be entered.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Enter { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether it is only that the way leads elsewhere by now, or never led into a network namespace.
    pub(super) fn is_elsewhere(&self) -> bool {
        use io::ErrorKind::{InvalidInput, NotFound};
        matches!(self, Self::Enter { error, .. } if matches!(error.kind(), NotFound | InvalidInput))
    }
}
