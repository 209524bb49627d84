//! Processes that a search for namespaces may not look into.

use std::{collections::HashMap, fmt, os::unix::fs::MetadataExt, path::Path};

use serde::{Deserialize, Serialize};

/// A file that each network namespace has one of, with an inode number of its own. Whoever sees a process sees that of
/// its namespace: `get_proc_task_net` asks for no capability.
const FILE: &str = "net/tcp";

/// How many processes a search could not look into, and how many network namespaces may be missing for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Processes in namespaces that were not found in another way.
    pub processes: usize,
    /// Those namespaces.
    pub namespaces: usize,
    /// The process with the lowest id among them, in this PID namespace.
    pub example: u32,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            namespaces,
            example,
        } = self;
        write!(
            f,
            "{namespaces} network namespace(s) missing, of {processes} process(es) such as {example}: CAP_SYS_PTRACE is \
             missing, which leads there; run with sudo"
        )
    }
}

/// The same while it is searched, by what tells namespaces apart that cannot be identified.
#[derive(Debug, Clone, Default)]
pub struct Refusals(HashMap<u64, Vec<u32>>);

impl Refusals {
    /// A process, with its folder in `/proc`, may not be looked into.
    pub(super) fn add(&mut self, process: &Path) {
        let id = process.file_name().and_then(|name| name.to_str()?.parse().ok());
        let (Some(file), Some(id)) = (inode(&process.join(FILE)), id) else {
            // It has ended.
            return;
        };
        self.0.entry(file).or_default().push(id);
    }

    /// The namespace that the calling thread is in was found all the same.
    pub fn found_here(&mut self) {
        // Most often there is nothing, which takes no look.
        if !self.0.is_empty()
            && let Some(file) = inode(&Path::new("/proc/thread-self").join(FILE))
        {
            self.0.remove(&file);
        }
    }

    /// What is left, if anything.
    #[must_use]
    pub fn summary(&self) -> Option<Refused> {
        let processes = || self.0.values().flatten();
        Some(Refused {
            example: *processes().min()?,
            processes: processes().count(),
            namespaces: self.0.len(),
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
        let all = refusals.summary().unwrap();
        assert_eq!(
            (all.processes, all.namespaces, all.example),
            (1, 1, std::process::id())
        );
        refusals.found_here();
        assert_eq!(refusals.summary(), None);
    }
}
