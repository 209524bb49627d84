//! The BPF objects that the kernel holds.

use std::{fs, io};

use anyhow::{Context, Result};

/// What can be asked for by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link: what attaches a program.
    Link,
}

/// An object of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its number, which no other of its kind gets.
    pub id: u32,
}

/// The objects that a process holds open.
///
/// # Errors
/// When the process is not there.
pub fn held_by(pid: u32) -> Result<Vec<Object>> {
    let mut held = Vec::new();
    let folder = format!("/proc/{pid}/fdinfo");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // The process goes on meanwhile.
        let Ok(info) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        // A link's descriptor tells its program too, which another descriptor holds as well.
        for (kind, key) in [
            (Kind::Program, "prog_id:"),
            (Kind::Map, "map_id:"),
            (Kind::Link, "link_id:"),
        ] {
            let line = info.lines().find_map(|line| line.strip_prefix(key));
            if let Some(id) = line.and_then(|id| id.trim().parse().ok()) {
                held.push(Object { kind, id });
            }
        }
    }
    held.sort_unstable();
    held.dedup();
    Ok(held)
}

impl Object {
    /// Whether the kernel still has it.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn exists(self) -> io::Result<bool> {
        // The next one after the id before.
        Ok(next(self.kind, self.id - 1)? == Some(self.id))
    }
}

/// The object with the lowest id above `id`.
fn next(kind: Kind, id: u32) -> io::Result<Option<u32>> {
    /// The part of `union bpf_attr` that `BPF_*_GET_NEXT_ID` uses.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        flags: u32,
    }
    // `enum bpf_cmd`, include/uapi/linux/bpf.h.
    let command: libc::c_int = match kind {
        Kind::Program => 11,
        Kind::Map => 12,
        Kind::Link => 31,
    };
    let mut attributes = NextId {
        start: id,
        next: 0,
        flags: 0,
    };
    // SAFETY: `attributes` is as large as is said, and the kernel writes only into it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size_of::<NextId>()) };
    if result == 0 {
        return Ok(Some(attributes.next));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(None),
        _ => Err(error),
    }
}
