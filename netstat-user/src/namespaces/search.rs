//! Looking for network namespaces.
//!
//! Nothing in the kernel lists them all. A namespace lives as long as a task is in it, something is mounted on
//! it, a descriptor is open on it, or a socket of user space is in it (`struct net`'s count). The first three can
//! be seen in `/proc`, and lead into it. Nothing leads into a namespace that only sockets keep.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{Found, OWN, Refusals, identify, is_namespace, mounts, parse_link, tables};
use crate::{
    connection::Netns,
    facts::Descriptor,
    hiding::Hiding,
    processes::{self, all_visible},
};

/// How hard to look; what comes later is harder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// At what is mounted here and at the processes that are hinted at.
    Glance,
    /// At all processes as well.
    Quick,
    /// The same; and everywhere, if one that is wanted is not among them.
    IfMissing,
    /// Everywhere: at each thread, at what is mounted in other mount namespaces, and at open descriptors too.
    Thorough,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Findings {
    /// The namespaces, and how to get into them.
    pub found: Found,
    /// Namespaces that are there, although nothing leads into them.
    pub hidden: HashSet<Netns>,
    /// The search went everywhere.
    pub thorough: bool,
    /// And every task's namespace could be told, so that what is not found is nowhere: or in a descriptor that is
    /// under way from one process to another, or of a process with more capabilities than this one.
    pub complete: bool,
    /// Processes that may not be looked into, so that namespaces of theirs may be missing.
    pub refused: Refusals,
    /// It broke off somewhere, for a reason that has nothing to do with namespaces.
    pub error: Option<io::Error>,
}

impl Findings {
    fn add(&mut self, path: PathBuf) {
        match identify(&path) {
            Ok(netns) => {
                self.found.entry(netns).or_insert(path);
            }
            // A task with more capabilities than this one.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let process = path.parent().and_then(Path::parent);
                if !process.is_some_and(|process| is_here(&process.join("net/tcp"))) {
                    self.complete = false;
                    if let Some(process) = process {
                        self.refused.add(process);
                    }
                }
            }
            Err(error) => self.failed(error),
        }
    }

    /// Something could not be read.
    fn failed(&mut self, error: io::Error) {
        // Processes end at any time (`ESRCH` is what a file of one that has just ended says), and refuse to be
        // looked at. Anything else, such as having no descriptor left, says nothing of namespaces.
        let ended = error.kind() == io::ErrorKind::NotFound
            || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
        if !ended && error.kind() != io::ErrorKind::PermissionDenied {
            self.error = Some(error);
        }
    }

    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(error) => {
                self.failed(error);
                Vec::new()
            }
        }
    }

    fn lacks(&self, wanted: &[Netns]) -> bool {
        !wanted.iter().all(|netns| self.found.contains_key(netns))
    }
}

/// What is looked for.
pub struct Aim<'a> {
    /// All namespaces, and not only those that are wanted.
    pub everything: bool,
    /// Those that are to be looked for as hard as `effort` says.
    pub wanted: &'a [Netns],
    /// Processes that were seen to use some of them, to be looked at first.
    pub hints: &'a [u32],
    /// How hard to look.
    pub effort: Effort,
    /// Finds what processes hold open; `None` when it cannot. Without it each descriptor in `/proc` is read, which takes
    /// seconds on a large host and does not show the namespaces of sockets.
    pub held: &'a mut dyn FnMut() -> Option<Held>,
}

/// What processes hold open of network namespaces, their processes being told by the numbers that they have in the first PID
/// namespace.
#[derive(Debug, Default)]
pub struct Held {
    /// Descriptors of namespaces, of whatever kind.
    pub namespaces: Vec<Descriptor>,
    /// Network namespaces with sockets whose processes are in another one.
    pub by_sockets: HashSet<Netns>,
}

/// Finds namespaces. What was `known` before is still found if its path leads there.
#[must_use]
pub fn search(aim: Aim<'_>, known: &Found) -> Findings {
    let Aim {
        wanted, effort, held, ..
    } = aim;
    let mut findings = Findings {
        complete: true,
        ..Findings::default()
    };
    findings.add(OWN.into());
    mounted(&mut findings, Path::new("/"), Path::new("/proc/self/mountinfo"));
    for hint in aim.hints {
        threads(&mut findings, &Path::new("/proc").join(hint.to_string()));
    }
    if effort == Effort::Glance || !aim.everything && !findings.lacks(wanted) {
        // On a large host looking at all processes takes a tenth of a second.
        findings.complete = false;
        for (netns, path) in known {
            findings.found.entry(*netns).or_insert_with(|| path.clone());
        }
        return findings;
    }
    findings.complete &= !findings.refused.set_hiding(Hiding::read());
    let processes = visible(&mut findings);
    for process in &processes {
        findings.add(process.join("ns/net"));
    }
    for (netns, path) in known {
        if !findings.found.contains_key(netns) {
            // By whatever number it has now.
            findings.add(path.clone());
        }
    }
    findings.thorough = match effort {
        Effort::Glance | Effort::Quick => false,
        Effort::IfMissing => findings.lacks(wanted),
        Effort::Thorough => true,
    };
    if findings.thorough {
        let held = all_visible().then(held).flatten();
        // Without it, nobody has looked at sockets.
        findings.complete &= held.is_some();
        everywhere(&mut findings, &processes, held);
    }
    findings.complete &= findings.thorough && findings.error.is_none() && all_visible();
    findings
}

fn everywhere(findings: &mut Findings, processes: &[PathBuf], held: Option<Held>) {
    for process in processes {
        // `proc_task_getattr`: a link for each thread, and the usual two.
        let alone = fs::metadata(process.join("task")).is_ok_and(|task| task.nlink() <= 3);
        if !alone {
            threads(findings, process);
        }
    }
    for process in other_mount_namespaces(processes) {
        mounted(findings, &process.join("root"), &process.join("mountinfo"));
    }
    let Some(held) = held else {
        return processes
            .iter()
            .for_each(|process| descriptors(findings, process));
    };
    for Descriptor { pid, tid, fd } in held.namespaces {
        let folder = processes::folder(pid, tid);
        descriptor(findings, PathBuf::from(format!("{folder}/fd/{fd}")));
    }
    // They were there when their sockets were seen.
    let found = &findings.found;
    let hidden = held
        .by_sockets
        .into_iter()
        .filter(|netns| !found.contains_key(netns));
    findings.hidden.extend(hidden);
}

fn threads(findings: &mut Findings, process: &Path) {
    for thread in findings.entries(&process.join("task")) {
        findings.add(thread.join("ns/net"));
    }
}

/// What is mounted under `root`.
fn mounted(findings: &mut Findings, root: &Path, mountinfo: &Path) {
    let mounts = mounts::read(mountinfo).unwrap_or_else(|error| {
        findings.failed(error);
        Vec::new()
    });
    for (netns, place) in mounts {
        if findings.found.contains_key(&netns) {
            continue;
        }
        let path = root.join(place.strip_prefix("/").unwrap_or(&place));
        if identify(&path).is_ok_and(|there| there == netns) {
            findings.found.insert(netns, path);
        } else {
            // Something else is mounted on top of it.
            findings.hidden.insert(netns);
        }
    }
}

/// One process of each other mount namespace, if possible one whose root is that namespace's: it sees all mounts.
fn other_mount_namespaces(processes: &[PathBuf]) -> Vec<PathBuf> {
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino());
    let own = inode(Path::new("/proc/self/ns/mnt")).ok();
    let mut chosen: HashMap<u64, (bool, &PathBuf)> = HashMap::new();
    for process in processes {
        let Ok(found) = inode(&process.join("ns/mnt")) else {
            continue;
        };
        if Some(found) == own {
            continue;
        }
        let (whole, chosen) = chosen.entry(found).or_insert((false, process));
        if !*whole && fs::read_link(process.join("root")).is_ok_and(|root| root == Path::new("/")) {
            (*whole, *chosen) = (true, process);
        }
    }
    chosen.into_values().map(|(_, process)| process.clone()).collect()
}

/// The namespaces that a process has open, in each descriptor table that its threads have.
fn descriptors(findings: &mut Findings, process: &Path) {
    let threads = findings.entries(&process.join("task"));
    for thread in tables::one_for_each(&threads) {
        for path in findings.entries(&thread.join("fd")) {
            descriptor(findings, path);
        }
    }
}

/// A descriptor, if it is of a network namespace.
fn descriptor(findings: &mut Findings, path: PathBuf) {
    let Ok(link) = fs::read_link(&path) else {
        return;
    };
    let link = link.as_os_str().as_bytes();
    // One that was opened where it was mounted is shown by that place, and by the root once it is no longer
    // mounted there (`d_path`).
    if parse_link(link).is_some() || link == b"/" && is_namespace(&path) {
        findings.add(path);
    }
}

/// Whether `file`, a file of `/proc/PID/net`, is of this task's namespace: `get_proc_task_net` asks for no
/// capability, and each namespace has files of its own.
fn is_here(file: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    inode(file).is_some_and(|there| Some(there) == inode(Path::new("/proc/thread-self/net/tcp")))
}

/// The folders of all processes.
fn visible(findings: &mut Findings) -> Vec<PathBuf> {
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let entries = findings.entries(Path::new("/proc")).into_iter();
    entries
        .filter(|path| path.file_name().is_some_and(is_number))
        .collect()
}
