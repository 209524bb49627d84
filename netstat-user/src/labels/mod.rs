//! What owners are called: their executables, users, and the units, containers and pods that they run in.
//!
//! All of it is looked up when it is shown, and remembered for as long as that takes.

mod cgroup_path;
mod cgroups;

use std::io;

use rustc_hash::FxHashMap;

pub use cgroup_path::{Container, Placement, Runtime, parse};
use cgroups::Cgroups;
pub use cgroups::cgroup_id;

use crate::{
    clock::Ktime,
    connection::{Owner, Printable},
    hiding::Hiding,
    output::names::{self, Users},
    processes::{Process, all_visible},
};

/// Processes that are remembered; when there are more, all are forgotten.
const MOST: usize = 65_536;

/// Looks names up, each once.
#[derive(Debug)]
pub struct Labels {
    users: Users,
    cgroups: Cgroups,
    processes: FxHashMap<(u32, Ktime), Known>,
    refused: usize,
}

/// What `/proc` shows of a process.
#[derive(Debug, Clone, Default)]
struct Known {
    ns_pid: Option<u32>,
    exe: Option<String>,
    placement: Placement,
}

impl Labels {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            users: Users::new(),
            cgroups: Cgroups::default(),
            processes: FxHashMap::default(),
            refused: 0,
        }
    }

    /// The name of a user.
    pub fn user(&mut self, uid: u32) -> Option<&str> {
        self.users.name(uid)
    }

    /// Says which users have no name because nobody told it in time, if any.
    #[must_use]
    pub fn unanswered(&self) -> Option<String> {
        names::unanswered(&[(self.users.unanswered(), "user")])
    }

    /// The file that a process executes, if that process is still there and may be looked at.
    pub fn exe(&mut self, owner: &Owner) -> Option<&str> {
        self.process(owner).exe.as_deref()
    }

    /// Where a socket belongs that is in the control group with this id; by its owner where the group does not tell,
    /// as with the first version of control groups.
    pub fn placement(&mut self, cgroup: Option<u64>, owner: Option<&Owner>) -> Placement {
        let path = cgroup.and_then(|id| self.cgroups.path(id));
        let own = path.map(parse).unwrap_or_default();
        match owner.filter(|owner| owner.is_current()) {
            Some(owner) if own.is_empty() => self.process(owner).placement.clone(),
            _ => own,
        }
    }

    /// How many processes were there and were not allowed to be looked at.
    #[must_use]
    pub const fn refused(&self) -> usize {
        self.refused
    }

    /// A process's id in the PID namespace that it is in itself, if it is still there and may be looked at. Where processes are known
    /// by other ids than the owner's, in another PID namespace than the root's, it is found by its descriptor for the socket
    /// with this inode number.
    pub fn ns_pid(&mut self, owner: &Owner, inode: Option<u64>) -> Option<u32> {
        let known = self.process(owner);
        if known.ns_pid.is_none()
            && !all_visible()
            && let Some((fd, inode)) = owner.fd.zip(inode)
            && let Ok(process) = Process::holding(owner.start, fd, inode)
        {
            *known = about(&process).0;
        }
        known.ns_pid
    }

    fn process(&mut self, owner: &Owner) -> &mut Known {
        let key = (owner.pid, owner.start);
        if self.processes.len() >= MOST && !self.processes.contains_key(&key) {
            self.processes.clear();
        }
        let refused = &mut self.refused;
        self.processes.entry(key).or_insert_with(|| {
            let looked = look(owner);
            *refused += usize::from(looked.1);
            looked.0
        })
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::new()
    }
}

/// What can be seen of a process, and whether something must not be.
fn look(owner: &Owner) -> (Known, bool) {
    let process = Process::open(owner.pid, owner.start);
    // One that is hidden seems to be gone.
    let hidden = || owner.is_current() && all_visible() && Hiding::at_first().is_some();
    process.map_or_else(|_| (Known::default(), hidden()), |process| about(&process))
}

fn about(process: &Process) -> (Known, bool) {
    let exe = process.exe();
    let refused = matches!(&exe, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
    let known = Known {
        ns_pid: process.own_id(),
        exe: exe.ok().map(|path| Printable(&path).to_string()),
        placement: process
            .cgroups()
            .map(|list| by_process(&list))
            .unwrap_or_default(),
    };
    (known, refused)
}

/// Where a process belongs, out of `/proc/PID/cgroup`: lines of hierarchy, controllers and path. The second version's
/// group is told by the one without controllers, and the units of systemd by the one that it keeps for itself.
fn by_process(list: &str) -> Placement {
    let groups: Vec<(&str, &str)> = list
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .collect();
    let with = |wanted: &'static str| {
        groups
            .iter()
            .filter(move |(controllers, _)| *controllers == wanted)
    };
    let in_turn = with("").chain(with("name=systemd")).chain(&groups);
    let mut placements = in_turn.map(|(_, path)| parse(path));
    placements
        .find(|placement| !placement.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_that_says_most_is_asked_first() {
        let id = "0123456789abcdef".repeat(4);
        let list = format!("9:name=systemd:/docker/{id}\n8:pids:/docker/{id}\n0::/\n");
        let placement = by_process(&list);
        assert_eq!(placement.container.map(|container| container.id), Some(id));
        let list = "9:name=systemd:/system.slice/old.service\n0::/system.slice/new.service\n";
        assert_eq!(by_process(list).unit.as_deref(), Some("new.service"));
        assert!(by_process("0::/\nnonsense\n").is_empty());
    }
}
