//! Processes that a search for namespaces may not look into.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt, mem,
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{hiding::Hiding, plural::counted};

/// A file that each network namespace has one of, with an inode number of its own. Whoever sees a process sees that of
/// its namespace: `get_proc_task_net` asks for no capability.
const FILE: &str = "net/tcp";

/// Processes that a search could not look into, so that network namespaces are missing, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// They are there to be seen.
    Closed {
        /// Processes in namespaces that were not found in another way.
        processes: usize,
        /// Those namespaces.
        namespaces: usize,
        /// The process with the lowest id among them, in this PID namespace.
        example: u32,
    },
    /// How many there are cannot be seen from here.
    Hidden(Hiding),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed {
                processes,
                namespaces,
                example,
            } => write!(
                f,
                "cannot enter {} of {}, such as {example}: not permitted without CAP_SYS_PTRACE; run with sudo",
                counted(*namespaces, "network namespace"),
                counted(*processes, "process")
            ),
            Self::Hidden(hiding) => write!(
                f,
                "network namespaces may be missing that only hidden processes are in: {hiding}; run with sudo"
            ),
        }
    }
}

/// The same while it is searched, by what tells namespaces apart that cannot be identified.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    closed: HashMap<u64, BTreeSet<u32>>,
    /// Namespaces that were entered all the same.
    entered: HashSet<u64>,
    hiding: Option<Hiding>,
}

impl Refusals {
    /// A process or one of its threads, with its folder in `/proc`, may not be looked into.
    pub(super) fn add(&mut self, task: &Path) {
        // `/proc/PID` or `/proc/PID/task/TID`.
        let id = task.iter().nth(2).and_then(|name| name.to_str()?.parse().ok());
        let (Some(file), Some(id)) = (inode(&task.join(FILE)), id) else {
            // It has ended.
            return;
        };
        self.closed.entry(file).or_default().insert(id);
    }

    /// Processes are looked for where they are hidden in this way, if they are. Returns whether they are.
    pub(super) const fn set_hiding(&mut self, hiding: Option<Hiding>) -> bool {
        self.hiding = hiding;
        self.hiding.is_some()
    }

    /// The namespace that the calling thread is in was found all the same.
    pub fn found_here(&mut self) {
        if let Some(file) = inode(&Path::new("/proc/thread-self").join(FILE)) {
            self.closed.remove(&file);
            self.entered.insert(file);
        }
    }

    /// A scan begins: it enters namespaces anew.
    pub fn begin(&mut self) {
        self.entered.clear();
    }

    /// Takes over what another search of the same scan has found: namespaces that were entered before it are not missing.
    pub fn take_over(&mut self, later: Self) {
        let entered = mem::take(&mut self.entered);
        *self = later;
        self.closed.retain(|file, _| !entered.contains(file));
        self.entered = entered;
    }

    /// What is left, if anything.
    #[must_use]
    pub fn summary(&self) -> Option<Refused> {
        if let Some(hiding) = self.hiding {
            return Some(Refused::Hidden(hiding));
        }
        let processes = || self.closed.values().flatten();
        Some(Refused::Closed {
            example: *processes().min()?,
            processes: processes().count(),
            namespaces: self.closed.len(),
        })
    }
}

fn inode(file: &Path) -> Option<u64> {
    Some(std::fs::metadata(file).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_in_another_way_is_not_missing() {
        let own = Path::new("/proc").join(std::process::id().to_string());
        let mut refusals = Refusals::default();
        assert_eq!(refusals.summary(), None);
        refusals.add(&own);
        refusals.add(Path::new("/proc/no-such-process"));
        let closed = Refused::Closed {
            processes: 1,
            namespaces: 1,
            example: std::process::id(),
        };
        assert_eq!(refusals.summary(), Some(closed));
        // A thread counts for its process.
        refusals.add(&own.join("task").join(std::process::id().to_string()));
        assert_eq!(refusals.summary(), Some(closed));
        refusals.found_here();
        assert_eq!(refusals.summary(), None);
        // A second search of the same scan enters only what the first one has not.
        let mut later = Refusals::default();
        later.add(&own);
        refusals.take_over(later.clone());
        assert_eq!(refusals.summary(), None);
        refusals.begin();
        refusals.take_over(later);
        assert_eq!(refusals.summary(), Some(closed));
        refusals.found_here();
        let hiding = Hiding::Invisible;
        refusals.set_hiding(Some(hiding));
        refusals.found_here();
        assert_eq!(refusals.summary(), Some(Refused::Hidden(hiding)));
    }
}
