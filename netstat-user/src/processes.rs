//! Processes as `/proc` shows them.

use std::{os::unix::fs::MetadataExt, sync::OnceLock};

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
