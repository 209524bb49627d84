//! What holds sockets that no process has a descriptor of: an `io_uring`, or a message that nobody has received.
//!
//! It takes a walk over all descriptors in `/proc`, so it is done only when there is such a socket.

mod fdinfo;

use std::fs;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    clock::Ktime,
    connection::{Owner, OwnerSource},
    hiding::Hiding,
    owners::Kept,
    processes::{Process, all_visible},
    view::RowView,
};
use fdinfo::Ring;

/// Completes the owners of sockets that nobody is known to hold although they are held.
pub fn complete(rows: &mut [RowView]) {
    let mut open: Vec<_> = rows.iter_mut().filter(|row| is_open(row)).collect();
    if open.is_empty() {
        return;
    }
    let wanted: FxHashSet<u64> = open.iter().filter_map(|row| row.inode).collect();
    let walk = Walk::go(&wanted);
    for row in &mut open {
        let Some(inode) = row.inode else {
            continue;
        };
        if let Some(rings) = walk.rings.get(&inode) {
            row.owners.kept_by_rings(rings);
        } else if walk.complete && !walk.held.contains(&inode) {
            row.owners.kept_by_nobody(walk.nobodys());
        }
    }
}

/// Whether there is such a socket among these.
#[must_use]
pub fn are_wanted(rows: &[RowView]) -> bool {
    rows.iter().any(is_open)
}

/// Whether there is a file of the socket, and no process is known that has a descriptor of it.
pub(crate) fn is_open(row: &RowView) -> bool {
    let orphan = row.figures.as_deref().and_then(|figures| figures.orphan);
    row.inode.is_some() && orphan != Some(true) && !row.owners.is_held() && !row.connection.mptcp
}

/// What all descriptors of the host show.
#[derive(Default)]
struct Walk {
    /// Everything could be read.
    complete: bool,
    /// Sockets that somebody has a descriptor of after all.
    held: FxHashSet<u64>,
    /// Those that rings have registered.
    rings: FxHashMap<u64, Vec<Owner>>,
    /// A ring has registered files without saying which: older kernels do not (`io_uring_show_fdinfo`).
    silent_ring: Option<Owner>,
    /// Unix sockets with messages that carry descriptors.
    receivers: Vec<Owner>,
}

impl Walk {
    fn go(wanted: &FxHashSet<u64>) -> Self {
        let mut walk = Self {
            complete: all_visible() && Hiding::at_first().is_none(),
            ..Self::default()
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in ids {
            let Ok(process) = Process::open_any(pid) else {
                continue;
            };
            walk.complete &= walk.process(pid, &process, wanted).is_some();
        }
        walk
    }

    /// `None` when the process may not be looked at.
    fn process(&mut self, pid: u32, process: &Process, wanted: &FxHashSet<u64>) -> Option<()> {
        let descriptors = match process.names("fd") {
            Ok(descriptors) => descriptors,
            // It has ended, or its main thread has.
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => return Some(()),
            Err(_) => return None,
        };
        for fd in descriptors {
            let Ok(target) = process.link(&format!("fd/{fd}")) else {
                continue;
            };
            if let Some(inode) = fdinfo::socket(&target) {
                if wanted.contains(&inode) {
                    self.held.insert(inode);
                }
                let count = process.read(&format!("fdinfo/{fd}"));
                if count.is_ok_and(|text| fdinfo::has_descriptors(&text)) {
                    self.receivers.extend(owner(pid, process, fd.parse().ok()));
                }
            } else if target == b"anon_inode:[io_uring]" {
                self.ring(pid, process, &fd);
            }
        }
        Some(())
    }

    fn ring(&mut self, pid: u32, process: &Process, fd: &str) {
        let Some(Ring { sockets, silent }) = fdinfo::ring(process, fd) else {
            self.complete = false;
            return;
        };
        let Some(owner) = owner(pid, process, None) else {
            return;
        };
        if silent {
            self.silent_ring.get_or_insert(owner);
        }
        for inode in sockets {
            let owners = self.rings.entry(inode).or_default();
            if !owners.iter().any(|known| known.is_same_process(&owner)) {
                owners.push(owner);
            }
        }
    }

    /// What to say of a socket that nobody has a descriptor of.
    fn nobodys(&self) -> Kept {
        match (&self.silent_ring, self.receivers.as_slice()) {
            (Some(ring), _) => Kept::MaybeRing(*ring),
            (None, []) => Kept::Unknown,
            (None, [receiver, others @ ..]) => Kept::InFlight {
                receiver: others.is_empty().then_some(*receiver),
            },
        }
    }
}

fn owner(pid: u32, process: &Process, fd: Option<u32>) -> Option<Owner> {
    Some(Owner {
        pid,
        start: process.start().ok()?,
        tid: None,
        fd,
        more_fds: 0,
        comm: process.comm().ok()?,
        seen: Ktime::now(),
        source: OwnerSource::IoUring,
    })
}
