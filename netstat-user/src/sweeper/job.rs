//! What the sweeper is asked to do.

use crate::{connection::Netns, facts::Look, namespaces::Effort};

/// What the thread is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Walk the sockets of network namespaces.
    Sockets(Scope),
    /// Walk all open files for those that hold sockets.
    Holders,
    /// Ask the kernel how many sockets it counts.
    Count {
        /// Of the question.
        number: u64,
        /// In these namespaces.
        wanted: Vec<Netns>,
        /// And in all others that are known.
        everywhere: bool,
    },
    /// Prepare to look at single sockets.
    PrepareLooks,
    /// For the question with this number, look at these sockets, and no others.
    Look(u64, Vec<Look>),
}

/// Which namespaces to walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Every one that can be found, and not only those that are wanted.
    pub everywhere: bool,
    /// Those that are looked for.
    pub wanted: Vec<Netns>,
    /// Processes that were seen to use some of them.
    pub hints: Vec<u32>,
    /// How hard to look for them.
    pub effort: Effort,
    /// Where to read the figures of the sockets.
    pub figures: Figuring,
    /// Whether to scan all open files as well.
    pub scanning: Scanning,
}

/// A scan of all open files for those that hold sockets, with a walk over sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scanning {
    /// None.
    #[default]
    Not,
    /// At the same time, on another thread. The walk goes into namespaces that only the scan finds when that is over, if they are
    /// looked for so hard.
    Beside,
    /// Before it, so that who holds MPTCP's sockets is known of every subflow: the scan asks for the cookies by which the
    /// walk joins them.
    Before,
}

/// In which of the namespaces that are walked the figures are read too, which takes longer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Figuring {
    /// In none.
    #[default]
    Nowhere,
    /// In these.
    In(Vec<Netns>),
    /// In all.
    Everywhere,
}

impl Figuring {
    pub(super) fn includes(&self, netns: Netns) -> bool {
        match self {
            Self::Nowhere => false,
            Self::In(these) => these.contains(&netns),
            Self::Everywhere => true,
        }
    }
}

impl Scope {
    /// One namespace, or all; looked for as hard as can be.
    #[must_use]
    pub fn once(netns: Option<Netns>, figures: Figuring) -> Self {
        Self {
            figures,
            scanning: Scanning::Not,
            everywhere: netns.is_none(),
            wanted: netns.into_iter().collect(),
            hints: Vec::new(),
            effort: if netns.is_none() {
                Effort::Thorough
            } else {
                Effort::IfMissing
            },
        }
    }
}
