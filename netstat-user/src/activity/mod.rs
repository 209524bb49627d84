//! What processes are doing: whether they can run at all, and what their threads wait for.
//!
//! Everything comes from `/proc` and the control group hierarchies, when it is asked for.

mod freezer;
mod polled;
mod tasks;

use std::{fmt, path::PathBuf};

use crate::{connection::Owner, plural::counted, processes::Process};

pub use freezer::Freezers;
use tasks::Tasks;

/// What one process was doing when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Activity {
    /// What keeps it from running.
    pub hindrances: Vec<Hindrance>,
    /// A thread sleeps in `accept` on the listener that was asked about.
    pub accepts: bool,
    /// How an epoll instance of the process watches that listener, if one does.
    pub epoll: Option<Epoll>,
    /// The kernel function that its only living thread, or its main thread, sleeps in; `None` while it runs, and
    /// where the kernel does not say.
    pub function: Option<String>,
}

/// How an epoll instance watches a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoll {
    /// `EPOLLET`: it reports a connection once, so the process has to accept until there is none.
    pub edge_triggered: bool,
}

/// Something that keeps a process from running, or from being looked at as usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// A control group freezes it.
    Frozen(Thaw),
    /// A signal has stopped it: `SIGSTOP`, `SIGTSTP`, `SIGTTIN` or `SIGTTOU`.
    Stopped,
    /// Another process traces it, such as a debugger, and has stopped it.
    Traced {
        /// The tracer's process id,
        tracer: u32,
        /// and its name, if it can be read.
        comm: Option<String>,
    },
    /// The kernel writes its memory to a core dump.
    DumpingCore,
    /// A thread waits for the kernel and takes no signal, except `SIGKILL` at some places.
    Uninterruptible {
        /// Which thread.
        thread: u32,
        /// How many threads wait so, and how many live.
        threads: (usize, usize),
        /// The kernel function that it waits in.
        function: Option<String>,
    },
    /// Its main thread has exited, so `/proc/PID` shows neither descriptors nor executable.
    LeaderExited {
        /// A thread that lives on,
        thread: u32,
        /// and how many there are.
        threads: usize,
    },
}

/// How to thaw a control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thaw {
    /// The file to write to,
    pub file: PathBuf,
    /// and what.
    pub text: &'static str,
}

impl Hindrance {
    /// The word for it in JSON.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Frozen(_) => "frozen",
            Self::Stopped => "stopped",
            Self::Traced { .. } => "traced",
            Self::DumpingCore => "dumping_core",
            Self::Uninterruptible { .. } => "uninterruptible",
            Self::LeaderExited { .. } => "leader_exited",
        }
    }

    /// Whether nothing else can be expected of the process until this is over.
    #[must_use]
    pub const fn stops_all(&self) -> bool {
        match self {
            Self::Frozen(_) | Self::Stopped | Self::Traced { .. } | Self::DumpingCore => true,
            Self::Uninterruptible { threads, .. } => threads.0 == threads.1,
            Self::LeaderExited { .. } => false,
        }
    }

    /// What to do about it, for the process `pid` that is called `who`.
    #[must_use]
    pub fn way_out(&self, who: &str, pid: u32) -> String {
        match self {
            Self::Frozen(thaw) => format!(
                "thaw {who}: `echo {} > {}`, or by the container runtime that froze it",
                thaw.text,
                thaw.file.display()
            ),
            Self::Stopped => format!("continue {who}: `kill -CONT {pid}`"),
            Self::Traced { tracer, comm } => {
                let comm = comm.as_deref().unwrap_or("its tracer");
                format!("let {comm} ({tracer}) continue {who} or detach from it")
            }
            Self::DumpingCore => {
                format!(
                    "wait until the core dump of {who} is written: `cat /proc/sys/kernel/core_pattern` says where to"
                )
            }
            Self::Uninterruptible { thread, .. } => format!(
                "find out what {who} waits for in the kernel, often a disk or a network file system: `cat /proc/{pid}/task/{thread}/stack`, `dmesg`"
            ),
            Self::LeaderExited { thread, .. } => format!(
                "look at a thread of {who} that lives on: `strace -p {thread}`, `ls -l /proc/{pid}/task/{thread}/fd`"
            ),
        }
    }
}

impl fmt::Display for Hindrance {
    /// What is the matter, to follow the name of the process.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen(_) => f.write_str("is frozen by its control group"),
            Self::Stopped => f.write_str("is stopped by a signal"),
            Self::Traced { tracer, comm } => {
                let comm = comm.as_deref().unwrap_or("a debugger");
                write!(f, "is stopped by its tracer, {comm} ({tracer})")
            }
            Self::DumpingCore => f.write_str("is dumping core"),
            Self::Uninterruptible {
                threads: (waiting, living),
                function,
                ..
            } => {
                if living > &1 {
                    write!(f, "has {waiting} of {living} threads")?;
                } else {
                    f.write_str("is")?;
                }
                f.write_str(" in uninterruptible sleep")?;
                match function {
                    Some(function) => write!(f, " ({function})"),
                    None => Ok(()),
                }
            }
            Self::LeaderExited { threads, .. } => {
                write!(
                    f,
                    "has no main thread any more, and {} left",
                    counted(*threads, "thread")
                )
            }
        }
    }
}

/// A process to read, and the socket that it is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Which process.
    pub owner: Owner,
    /// The inode of the listener, if it is one that matters.
    pub listener: Option<u64>,
}

/// What each of these processes is doing; `None` for those that are gone, or cannot be seen from here. Takes a tenth of
/// a second if one of them seems to be in uninterruptible sleep, which is so only if it lasts.
#[must_use]
pub fn read(questions: &[Question]) -> Vec<Option<Activity>> {
    let freezers = Freezers::find();
    let opened: Vec<_> = questions
        .iter()
        .map(|question| {
            let process = Process::open(question.owner.pid, question.owner.start).ok()?;
            let tasks = Tasks::read(&process)?;
            Some((question, process, tasks))
        })
        .collect();
    let sleeps = |known: &Option<(_, Process, Tasks)>| {
        known
            .as_ref()
            .is_some_and(|(_, _, tasks)| tasks.any_uninterruptible())
    };
    if opened.iter().any(sleeps) {
        std::thread::sleep(tasks::LASTS);
    }
    let all = opened.into_iter();
    all.map(|known| {
        let (question, process, tasks) = known?;
        Some(one(question, &process, &tasks, &freezers))
    })
    .collect()
}

fn one(question: &Question, process: &Process, tasks: &Tasks, freezers: &Freezers) -> Activity {
    // As they are: they become paths.
    let groups = process.read("cgroup").unwrap_or_default();
    let frozen = freezers
        .frozen(&String::from_utf8_lossy(&groups))
        .map(Hindrance::Frozen);
    // The first version's freezer shows its tasks as in uninterruptible sleep.
    let sleeping = if frozen.is_none() {
        tasks.uninterruptible(process)
    } else {
        None
    };
    let hindrances = [frozen, tasks.stopped(), sleeping, tasks.leader_exited()];
    let fd = question.owner.fd.filter(|_| question.owner.more_fds == 0);
    let listener = question.listener;
    Activity {
        hindrances: hindrances.into_iter().flatten().collect(),
        accepts: listener.is_some() && tasks.accepts(process, fd),
        epoll: listener.and_then(|inode| polled::watches(process, question.owner.tid, inode)),
        function: tasks.function().map(str::to_owned),
    }
}
