//! The threads of a process: their states, and what they wait for.

use std::{fs, time::Duration};

use super::Hindrance;
use crate::{connection::Printable, processes::Process};

/// A thread is in uninterruptible sleep for moments all the time; it counts from here on.
pub(super) const LASTS: Duration = Duration::from_millis(100);

/// Threads that are read, at most.
const MOST: usize = 1024;

/// The threads of one process.
#[derive(Debug)]
pub(super) struct Tasks {
    all: Vec<Task>,
    /// `TracerPid`, when there is one.
    tracer: Option<u32>,
    dumping_core: bool,
}

#[derive(Debug)]
struct Task {
    id: u32,
    /// As `/proc/PID/stat` has it (`task_state_array`).
    state: u8,
    /// The kernel function that it sleeps in (`get_wchan`).
    function: Option<String>,
    /// How often it has been switched out.
    switches: Option<u64>,
}

impl Task {
    fn read(process: &Process, id: u32) -> Option<Self> {
        let folder = format!("task/{id}");
        let state = state(&process.read(&format!("{folder}/stat")).ok()?)?;
        let function = process.read(&format!("{folder}/wchan")).unwrap_or_default();
        let function = Printable(&function).to_string();
        Some(Self {
            id,
            state,
            // It says 0 for one that runs, and for whoever may not know (`proc_pid_wchan`).
            function: (!function.is_empty() && function != "0").then_some(function),
            switches: switches(process, id),
        })
    }

    const fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// It has slept since `before`, without a moment in between.
    fn has_slept_since(&self, before: &Self) -> bool {
        self.state == b'D'
            && before.state == b'D'
            && self.switches.is_some()
            && self.switches == before.switches
    }
}

impl Tasks {
    /// All of a process; `None` when it is gone.
    pub(super) fn read(process: &Process) -> Option<Self> {
        let ids = process.names("task").ok()?;
        let ids = ids.iter().filter_map(|name| name.parse().ok()).take(MOST);
        let status = process.read("status").unwrap_or_default();
        Some(Self {
            all: ids.filter_map(|id| Task::read(process, id)).collect(),
            tracer: number(&status, "TracerPid:").filter(|pid| *pid != 0),
            dumping_core: number(&status, "CoreDumping:") == Some(1),
        })
    }

    fn living(&self) -> impl Iterator<Item = &Task> + Clone {
        self.all.iter().filter(|task| task.lives())
    }

    pub(super) fn any_uninterruptible(&self) -> bool {
        self.living().any(|task| task.state == b'D')
    }

    /// Whether a signal or a tracer has stopped all threads, or the kernel for a core dump.
    pub(super) fn stopped(&self) -> Option<Hindrance> {
        if self.dumping_core {
            return Some(Hindrance::DumpingCore);
        }
        let mut living = self.living().peekable();
        living.peek()?;
        if !living.clone().all(|task| matches!(task.state, b'T' | b't')) {
            return None;
        }
        // A thread that a tracer has stopped is `t`, unless a signal had stopped it before.
        let by = self.tracer.filter(|_| living.any(|task| task.state == b't'));
        Some(match by {
            Some(tracer) => Hindrance::Traced {
                tracer,
                comm: name(tracer),
            },
            None => Hindrance::Stopped,
        })
    }

    /// A thread that has been in uninterruptible sleep since this was read.
    pub(super) fn uninterruptible(&self, process: &Process) -> Option<Hindrance> {
        if self.dumping_core {
            return None;
        }
        let sleeping = self.living().filter(|task| task.state == b'D');
        let sleeping: Vec<_> = sleeping
            .filter(|before| Task::read(process, before.id).is_some_and(|now| now.has_slept_since(before)))
            .collect();
        let first = sleeping.first()?;
        Some(Hindrance::Uninterruptible {
            thread: first.id,
            threads: (sleeping.len(), self.living().count()),
            function: first.function.clone(),
        })
    }

    /// The first of the threads is the main thread, which stays as a zombie until all others have exited.
    pub(super) fn leader_exited(&self) -> Option<Hindrance> {
        let leader = self.all.iter().min_by_key(|task| !task.lives())?;
        let exited = self.all.iter().any(|task| task.state == b'Z');
        (exited && leader.lives()).then(|| Hindrance::LeaderExited {
            thread: leader.id,
            threads: self.living().count(),
        })
    }

    /// Whether a thread sleeps in `accept`: on `fd`, if that is the only descriptor in question.
    pub(super) fn accepts(&self, process: &Process, fd: Option<u32>) -> bool {
        let mut accepting = self.living().filter(|task| {
            let function = task.function.as_deref().unwrap_or_default();
            function.starts_with("inet_csk_accept") || function.starts_with("inet_csk_wait_for_connect")
        });
        accepting.any(|task| {
            let call = process.read(&format!("task/{}/syscall", task.id));
            let asked = call.ok().and_then(|call| first_argument(&call));
            fd.is_none_or(|fd| asked.is_none_or(|asked| asked == u64::from(fd)))
        })
    }

    /// The function that the main thread sleeps in, or the thread that stands for it.
    pub(super) fn function(&self) -> Option<&str> {
        self.living().next()?.function.as_deref()
    }
}

/// The third field of `stat`. The second is the name, in brackets, and may have any bytes.
fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(end + 2).copied()
}

fn switches(process: &Process, id: u32) -> Option<u64> {
    let status = process.read(&format!("task/{id}/status")).ok()?;
    let voluntary: u64 = number(&status, "voluntary_ctxt_switches:")?;
    let others: u64 = number(&status, "nonvoluntary_ctxt_switches:")?;
    Some(voluntary + others)
}

/// A number in `/proc/PID/status`, or anything of that form.
fn number<T: std::str::FromStr>(status: &[u8], key: &str) -> Option<T> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// The first argument of the system call that a task is in (`proc_pid_syscall`): `NUMBER 0x… …`.
fn first_argument(call: &[u8]) -> Option<u64> {
    let call = std::str::from_utf8(call).ok()?;
    let argument = call.split_ascii_whitespace().nth(1)?;
    u64::from_str_radix(argument.strip_prefix("0x")?, 16).ok()
}

/// What a process is called now.
fn name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    Some(Printable(name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u32, state: u8) -> Task {
        Task {
            id,
            state,
            function: None,
            switches: Some(7),
        }
    }

    fn tasks(states: &[u8]) -> Tasks {
        let tasks = (1..).zip(states).map(|(id, state)| task(id, *state));
        Tasks {
            all: tasks.collect(),
            tracer: None,
            dumping_core: false,
        }
    }

    #[test]
    fn the_state_is_found_behind_any_name() {
        assert_eq!(state(b"7 (a) b) T 1 7"), Some(b'T'));
        assert_eq!(state(b"7 (a)"), None);
    }

    #[test]
    fn a_process_is_stopped_when_all_its_threads_are() {
        let stopped = |tasks: &Tasks| tasks.stopped().map(|hindrance| hindrance.word());
        assert_eq!(stopped(&tasks(b"TT")), Some("stopped"));
        assert_eq!(stopped(&tasks(b"ZT")), Some("stopped"));
        assert_eq!(stopped(&tasks(b"TS")), None);
        assert_eq!(stopped(&tasks(b"Z")), None, "nobody is there to be stopped");
        let traced = Tasks {
            tracer: Some(u32::MAX),
            ..tasks(b"tT")
        };
        assert_eq!(stopped(&traced), Some("traced"));
        let dumping = Tasks {
            dumping_core: true,
            ..tasks(b"DD")
        };
        assert_eq!(stopped(&dumping), Some("dumping_core"));
    }

    #[test]
    fn a_leader_that_has_exited_leaves_threads() {
        assert_eq!(
            tasks(b"ZSS").leader_exited(),
            Some(Hindrance::LeaderExited {
                thread: 2,
                threads: 2
            })
        );
        assert_eq!(tasks(b"SS").leader_exited(), None);
        assert_eq!(tasks(b"Z").leader_exited(), None);
    }

    #[test]
    fn sleep_that_lasts_is_not_interrupted() {
        let (before, now) = (task(1, b'D'), task(1, b'D'));
        assert!(now.has_slept_since(&before));
        let woken = Task {
            switches: Some(8),
            ..task(1, b'D')
        };
        assert!(!woken.has_slept_since(&before));
        let unknown = Task {
            switches: None,
            ..task(1, b'D')
        };
        assert!(!unknown.has_slept_since(&unknown));
    }

    #[test]
    fn fields_are_found_by_name() {
        let status = b"Name:\tTracerPid: 9\nTracerPid:\t12\nCoreDumping:\t1\n";
        assert_eq!(number(status, "TracerPid:"), Some(12));
        assert_eq!(number::<u32>(status, "Threads:"), None);
        assert_eq!(first_argument(b"288 0x3 0x7ff 0x0"), Some(3));
        assert_eq!(first_argument(b"running"), None);
    }
}
