//! The file systems that every Linux system has.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};

/// Type, place, and options.
const MOUNTS: [(&str, &str, &str); 8] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", ""),
    ("tmpfs", "/run", "mode=755"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("bpf", "/sys/fs/bpf", "mode=700"),
];

/// Mounts them.
pub(crate) fn mount_all() -> Result<()> {
    for (kind, place, options) in MOUNTS {
        let mounted = fs::create_dir_all(place).and_then(|()| {
            let options = std::ffi::CString::new(options)?;
            Ok(mount(kind, place, kind, MountFlags::empty(), options.as_c_str())?)
        });
        mounted.with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    Ok(())
}
