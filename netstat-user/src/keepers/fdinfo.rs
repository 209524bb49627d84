//! What `/proc/PID/fdinfo` says of rings and of unix sockets.

use std::{thread, time::Duration};

use crate::processes::Process;

/// A ring that is being used does not list its files; it is asked again so many times,
const TIMES: usize = 5;
/// with this pause.
const PAUSE: Duration = Duration::from_millis(2);

/// The files that a ring has registered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ring {
    /// The inodes of those that are sockets.
    pub(super) sockets: Vec<u64>,
    /// There are files, and the kernel does not say which.
    pub(super) silent: bool,
}

/// The inode in `socket:[315899]`.
pub(super) fn socket(target: &[u8]) -> Option<u64> {
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether messages with descriptors wait at a unix socket: `scm_fds` (`unix_show_fdinfo`, 5.6).
pub(super) fn has_descriptors(fdinfo: &[u8]) -> bool {
    let text = String::from_utf8_lossy(fdinfo);
    let mut counts = text.lines().filter_map(|line| line.strip_prefix("scm_fds:"));
    counts.any(|count| count.trim() != "0")
}

/// What a ring has registered; `None` when it does not say.
pub(super) fn ring(process: &Process, fd: &str) -> Option<Ring> {
    let mut last = None;
    for _ in 0..TIMES {
        last = parse(&process.read(&format!("fdinfo/{fd}")).ok()?);
        if last.as_ref().is_some_and(|(_, listed)| *listed) {
            break;
        }
        thread::sleep(PAUSE);
    }
    last.map(|(ring, _)| ring)
}

/// `UserFiles:` with the number of places, and then a line for each file: its place and its path, or on older kernels its
/// name without the inode. Without the ring's lock there are no lines, or nothing at all (`io_uring_show_fdinfo`).
/// Returns the files, and whether they were listed.
fn parse(fdinfo: &[u8]) -> Option<(Ring, bool)> {
    let text = String::from_utf8_lossy(fdinfo);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("UserFiles:"));
    let places: usize = lines.next()?.strip_prefix("UserFiles:")?.trim().parse().ok()?;
    let lines = lines.take_while(|line| line.starts_with(' '));
    let files: Vec<_> = lines
        .filter_map(|line| Some(line.split_once(": ")?.1.trim()))
        .collect();
    let listed = places == 0 || !files.is_empty();
    let sockets = files.iter().filter_map(|file| socket(file.as_bytes()));
    // The names that sockets of TCP and MPTCP have there (`struct proto`).
    let named = |file: &&str| matches!(*file, "TCP" | "TCPv6" | "MPTCP" | "MPTCPv6");
    let ring = Ring {
        sockets: sockets.collect(),
        silent: files.iter().any(named),
    };
    Some((ring, listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_lists_its_files() {
        let ring = |sockets, silent, listed| Some((Ring { sockets, silent }, listed));
        let text = b"pos:\t0\nSQEs:\t0\nCQEs:\t0\nUserFiles:\t3\n    1: socket:[315899]\n    2: /tmp/a\nUserBufs:\t0\nPollList:\n";
        assert_eq!(parse(text), ring(vec![315_899], false, true));
        let old = b"UserFiles:\t2\n    0: TCP\n    1: <none>\nUserBufs:\t0\n";
        assert_eq!(parse(old), ring(vec![], true, true));
        let none = b"UserFiles:\t0\nUserBufs:\t0\n";
        assert_eq!(parse(none), ring(vec![], false, true));
        let locked = b"UserFiles:\t2\nUserBufs:\t0\n";
        assert_eq!(parse(locked), ring(vec![], false, false));
        assert_eq!(parse(b"pos:\t0\n"), None);
    }

    #[test]
    fn messages_are_counted_in_descriptors() {
        assert!(has_descriptors(b"pos:\t0\nscm_fds: 2\n"));
        assert!(!has_descriptors(b"pos:\t0\nscm_fds: 0\n"));
        assert!(!has_descriptors(b"pos:\t0\n"));
        assert_eq!(socket(b"socket:[7]"), Some(7));
        assert_eq!(socket(b"pipe:[7]"), None);
    }
}
