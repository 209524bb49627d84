//! The BPF objects that the kernel holds.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

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
    let command = match kind {
        Kind::Program => 11,
        Kind::Map => 12,
        Kind::Link => 31,
    };
    let mut attributes = NextId {
        start: id,
        next: 0,
        flags: 0,
    };
    // SAFETY: the attributes are those of the command, and hold no address.
    match unsafe { bpf(command, &mut attributes) } {
        Ok(_) => Ok(Some(attributes.next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A program that does nothing, attached to a tracepoint until this is dropped: what any program costs there.
///
/// It is a raw tracepoint program. The kernel attaches and calls typed ones (`tp_btf`) by the same functions
/// (`bpf_raw_tp_link_attach`, `__bpf_trace_run`).
#[derive(Debug)]
pub struct Empty {
    _link: OwnedFd,
}

impl Empty {
    /// Attaches one to `tracepoint`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(tracepoint: &str) -> Result<Self> {
        /// The part that `BPF_RAW_TRACEPOINT_OPEN` uses.
        #[repr(C)]
        struct Open {
            name: u64,
            program: u32,
        }
        const RAW_TRACEPOINT: u32 = 17;
        let program = load_zero(RAW_TRACEPOINT, 0)?;
        let name = CString::new(tracepoint)?;
        let mut open = Open {
            name: name.as_ptr() as u64,
            program: u32::try_from(program.as_raw_fd())?,
        };
        // SAFETY: the attributes are those of the command, and the name outlives the call.
        let link = unsafe { bpf(17, &mut open) };
        let link = link.with_context(|| format!("cannot attach an empty program to {tracepoint}"))?;
        Ok(Self {
            // SAFETY: the kernel has just given it to us.
            _link: unsafe { OwnedFd::from_raw_fd(link) },
        })
    }
}

/// Has a control group refuse every `connect` of its sockets with EPERM, until the group is removed. `folder` is the
/// group's, of version 2.
///
/// # Errors
/// When the kernel refuses.
pub fn refuse_connects(folder: &Path) -> Result<()> {
    /// What `BPF_PROG_ATTACH` uses.
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    const CGROUP_SOCK_ADDR: u32 = 18;
    const INET4_CONNECT: u32 = 10;
    const INET6_CONNECT: u32 = 11;
    let group = File::open(folder)?;
    for kind in [INET4_CONNECT, INET6_CONNECT] {
        let program = load_zero(CGROUP_SOCK_ADDR, kind)?;
        let mut attach = Attach {
            target: u32::try_from(group.as_raw_fd())?,
            program: u32::try_from(program.as_raw_fd())?,
            kind,
            flags: 0,
        };
        // SAFETY: the attributes are those of the command, and hold no address.
        unsafe { bpf(8, &mut attach) }.context("cannot attach a program to a control group")?;
    }
    Ok(())
}

/// Loads a program that returns 0.
fn load_zero(program_type: u32, attach_type: u32) -> Result<OwnedFd> {
    /// The part of `union bpf_attr` that `BPF_PROG_LOAD` needs.
    #[repr(C)]
    struct Load {
        program_type: u32,
        instructions: u32,
        code: u64,
        licence: u64,
        log: [u64; 2],
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    // `r0 = 0; exit`, as `struct bpf_insn` has it.
    let code: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let mut load = Load {
        program_type,
        instructions: 2,
        code: code.as_ptr() as u64,
        licence: c"GPL".as_ptr() as u64,
        log: [0; 2],
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type,
    };
    // SAFETY: the attributes are those of the command; the addresses are of as much as is said, and outlive the call.
    let program = unsafe { bpf(5, &mut load) }.context("cannot load an empty program")?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// `bpf(2)`. `command` is one of `enum bpf_cmd`, include/uapi/linux/bpf.h.
///
/// # Safety
/// `attributes` is what the command takes, and every address in it is of memory as the command wants it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` is as large as is said; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
