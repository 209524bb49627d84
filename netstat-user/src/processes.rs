//! Processes as `/proc` shows them.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroU32,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::OnceLock,
};

use netstat_ebpf::wire::COMM_LEN;
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};

use crate::{
    clock::Ktime,
    connection::{Comm, Printable},
};

/// `PROC_PID_INIT_INO` (`include/linux/proc_ns.h`): the inode number of the root PID namespace.
const ROOT_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether a scan by this process goes through all processes of the host: `iter/task_file` walks those of the PID
/// namespace that it is opened in (`init_seq_pidns`).
#[must_use]
pub fn all_visible() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| {
        let namespace = std::fs::metadata("/proc/self/ns/pid");
        // A kernel without PID namespaces has no such file, and one namespace.
        namespace.map_or(true, |found| found.ino() == ROOT_PID_NAMESPACE)
    })
}

/// What the processes are called that can be seen from here.
#[must_use]
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
    });
    // One may have ended since it was listed.
    let names = processes.filter_map(|entry| std::fs::read(entry.path().join("comm")).ok());
    names
        .map(|name| Printable(name.trim_ascii_end()).to_string())
        .collect()
}

/// The folder in `/proc` of a process, or of one of its threads.
#[must_use]
pub fn folder(pid: u32, tid: Option<NonZeroU32>) -> String {
    match tid {
        None => format!("/proc/{pid}"),
        Some(tid) => format!("/proc/{pid}/task/{tid}"),
    }
}

/// A process that is there, or was when it was opened: what is read of it later is never another's, even if its id
/// has been given to one.
#[derive(Debug)]
pub struct Process {
    folder: OwnedFd,
}

impl Process {
    /// Opens the process with this id in the root PID namespace, if it is the one that was started at `start`.
    ///
    /// # Errors
    ///
    /// When it is gone, or not to be seen from here.
    pub fn open(pid: u32, start: Ktime) -> io::Result<Self> {
        if !all_visible() {
            // Here the number is another process's, if any.
            return Err(io::ErrorKind::NotFound.into());
        }
        let folder = File::open(format!("/proc/{pid}"))?.into();
        let process = Self { folder };
        if process.started_at(start) {
            Ok(process)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// Opens the process that has this id now.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_any(pid: u32) -> io::Result<Self> {
        Ok(Self {
            folder: File::open(format!("/proc/{pid}"))?.into(),
        })
    }

    /// When it was started, to a hundredth of a second.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn start(&self) -> io::Result<Ktime> {
        let ticks = start_ticks(&self.read("stat")?).ok_or(io::ErrorKind::InvalidData)?;
        let own = i128::from(ticks) * NANOSECONDS_PER_TICK;
        let start = own - Ktime(0).in_own_time_namespace();
        u64::try_from(start).map(Ktime).map_err(io::Error::other)
    }

    /// What it is called.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn comm(&self) -> io::Result<Comm> {
        let text = self.read("comm")?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let mut name = Comm([0; COMM_LEN]);
        for (to, from) in name.0.iter_mut().zip(text) {
            *to = *from;
        }
        Ok(name)
    }

    /// The process that was started at `start` and has the socket with this inode number as this descriptor: it takes no id, which
    /// processes of another PID namespace know it by differently.
    ///
    /// # Errors
    ///
    /// When there is none among those that may be looked at.
    pub fn holding(start: Ktime, fd: u32, inode: u64) -> io::Result<Self> {
        let socket = format!("socket:[{inode}]").into_bytes();
        let name = format!("fd/{fd}");
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            // Others than processes have no such file.
            let Some(folder) = path
                .join("stat")
                .is_file()
                .then(|| File::open(&path).ok())
                .flatten()
            else {
                continue;
            };
            let process = Self {
                folder: folder.into(),
            };
            if process.started_at(start) && process.link(&name).is_ok_and(|link| link == socket) {
                return Ok(process);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn started_at(&self, start: Ktime) -> bool {
        let ticks = start.in_own_time_namespace() / NANOSECONDS_PER_TICK;
        let started = self.read("stat").ok().and_then(|stat| start_ticks(&stat));
        started.map(i128::from) == Some(ticks)
    }

    /// Its id in the PID namespace that it is in itself: the last of `NSpid` in `/proc/PID/status` (`task_state`, 4.1).
    #[must_use]
    pub fn own_id(&self) -> Option<u32> {
        own_id(&self.read("status").ok()?)
    }

    /// The path of the file that it executes, as it was called when it was opened.
    ///
    /// # Errors
    ///
    /// When the process has ended, may not be looked at, or executes none, as kernel threads do.
    pub fn exe(&self) -> io::Result<Vec<u8>> {
        self.link("exe")
            .or_else(|error| self.living_thread(&error).map_or(Err(error), |(_, exe)| exe))
    }

    /// `/proc/PID/cgroup`, each line safe to print.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn cgroups(&self) -> io::Result<String> {
        // Of a thread that has exited the first version shows the root of each hierarchy (`proc_cgroup_show`).
        let exited = self.link("exe").err();
        let living = exited.and_then(|error| self.living_thread(&error));
        let place = living.map_or_else(|| "cgroup".to_owned(), |(thread, _)| format!("{thread}/cgroup"));
        let text = self.read(&place)?;
        Ok(printable_lines(&text))
    }

    /// A thread that has a memory, where the first one has exited, as `error` says of what that executes; and what it executes.
    fn living_thread(&self, error: &io::Error) -> Option<(String, io::Result<Vec<u8>>)> {
        if error.kind() != io::ErrorKind::NotFound {
            return None;
        }
        let threads = self.names("task").ok()?.into_iter();
        let mut links = threads.map(|id| (format!("task/{id}"), self.link(&format!("task/{id}/exe"))));
        links.find(|(_, exe)| exe.is_ok())
    }

    /// The names in one of its folders, such as `task`, in no order.
    ///
    /// # Errors
    ///
    /// When it has ended, or may not be looked at.
    pub fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.folder, folder, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Where one of its links leads, such as `fd/3`.
    ///
    /// # Errors
    ///
    /// As [`names`](Self::names).
    pub fn link(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.folder, name, Vec::new())?.into_bytes())
    }

    /// One of its files, such as `status`.
    ///
    /// # Errors
    ///
    /// As [`names`](Self::names).
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = openat(
            &self.folder,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A text in which everything but the ends of its lines is made safe to print.
fn printable_lines(text: &[u8]) -> String {
    let lines = text.split(|&byte| byte == b'\n');
    let lines: Vec<_> = lines.map(|line| Printable(line).to_string()).collect();
    lines.join("\n")
}

fn own_id(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let ids = lines.find_map(|line| line.strip_prefix(b"NSpid:"))?;
    std::str::from_utf8(ids)
        .ok()?
        .split_ascii_whitespace()
        .last()?
        .parse()
        .ok()
}

/// `/proc/PID/stat` counts in `USER_HZ`, a hundredth of a second on everything but Alpha.
const NANOSECONDS_PER_TICK: i128 = 10_000_000;

/// The 22nd field of `/proc/PID/stat`. The second is the process's name, in brackets, and may have any bytes.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines(b"8:pids:/a\tb\n0::/\n"), "8:pids:/a\\tb\n0::/\n");
    }

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10";
        assert_eq!(start_ticks(stat), Some(4711));
        for bad in [&b""[..], b")", b"1 (x) S 1", b"1 (x) \xff"] {
            assert_eq!(start_ticks(bad), None);
        }
    }

    #[test]
    fn the_innermost_id_is_the_last() {
        assert_eq!(own_id(b"Name:\ta\nNSpid:\t4711\t12\t1\nNSsid:\t5\n"), Some(1));
        assert_eq!(own_id(b"NSpid:\t4711\n"), Some(4711));
        for bad in [&b""[..], b"NSpid:\n", b"Pid:\t1\n"] {
            assert_eq!(own_id(bad), None);
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = std::process::id();
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let started = start_ticks(&stat).unwrap();
        let nanoseconds = |ticks: u64| i128::from(ticks) * NANOSECONDS_PER_TICK;
        let offset = Ktime(0).in_own_time_namespace();
        let at = |ticks| Ktime(u64::try_from(nanoseconds(ticks) - offset).unwrap());
        if all_visible() {
            let exe = Process::open(pid, at(started)).unwrap().exe().unwrap();
            assert_eq!(exe, std::env::current_exe().unwrap().as_os_str().as_bytes());
        }
        assert!(Process::open(pid, at(started + 1)).is_err());
    }
}
