//! Which descriptor tables the threads of a process have: mostly one, which all of them share.

use std::{ffi::OsStr, path::Path};

use nix::libc;

/// `include/uapi/linux/kcmp.h`.
const KCMP_FILES: libc::c_long = 2;

/// One of `threads`, folders of `/proc/PID/task`, for each descriptor table that they have.
pub(super) fn one_for_each(threads: &[impl AsRef<Path>]) -> Vec<&Path> {
    let mut tables: Vec<(Option<libc::c_long>, &Path)> = Vec::new();
    for thread in threads.iter().map(AsRef::as_ref) {
        let id = thread.file_name().and_then(OsStr::to_str);
        let id = id.and_then(|id| id.parse().ok());
        let is_known =
            |(other, _): &(Option<_>, _)| other.zip(id).is_some_and(|(one, other)| share(one, other));
        if !tables.iter().any(is_known) {
            tables.push((id, thread));
        }
    }
    tables.into_iter().map(|(_, thread)| thread).collect()
}

/// Whether two threads are known to share a table. A kernel without `kcmp`, or one that refuses it, does not say: then it takes more
/// time to read the same table twice, and nothing is missed.
fn share(one: libc::c_long, other: libc::c_long) -> bool {
    let unused: libc::c_long = 0;
    // SAFETY: `kcmp` takes five numbers, and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, unused, unused) == 0 }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, sync::mpsc, thread};

    use super::*;

    fn threads() -> Vec<PathBuf> {
        let entries = fs::read_dir("/proc/self/task").unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn threads_that_share_a_table_count_once() {
        let (ready, is_ready) = mpsc::channel();
        let (end, is_over) = mpsc::channel::<()>();
        let apart = thread::spawn(move || {
            // SAFETY: the thread takes a copy of its own table, and no memory.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            ready.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            is_over.recv().ok();
        });
        let own = fs::read_link("/proc/thread-self").unwrap();
        let other = is_ready.recv().unwrap();
        let paths: Vec<_> = [&own, &own, &other]
            .map(|path| Path::new("/proc").join(path))
            .into();
        assert_eq!(one_for_each(&paths), [paths[0].as_path(), paths[2].as_path()]);
        assert!(one_for_each(&threads()).len() >= 2);
        drop(end);
        apart.join().unwrap();
    }
}
