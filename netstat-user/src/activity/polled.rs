//! Which sockets the epoll instances of a process watch.

use std::num::NonZeroU32;

use super::Epoll;
use crate::processes::Process;

/// Descriptors that are looked at, at most.
const MOST: usize = 65_536;

/// `EPOLLET`, `include/uapi/linux/eventpoll.h`.
const EDGE_TRIGGERED: u32 = 1 << 31;

/// How an epoll instance of `process` watches the socket with this inode, if one does and may be read: one in the descriptor
/// table of thread `tid`, where that is not the main thread's.
pub(super) fn watches(process: &Process, tid: Option<NonZeroU32>, inode: u64) -> Option<Epoll> {
    let place = tid.map_or_else(String::new, |tid| format!("task/{tid}/"));
    let descriptors = process.names(&format!("{place}fd")).ok()?;
    let mut instances = descriptors.iter().take(MOST).filter(|fd| {
        let target = process.link(&format!("{place}fd/{fd}"));
        target.is_ok_and(|target| target == b"anon_inode:[eventpoll]")
    });
    instances.find_map(|fd| {
        let text = process.read(&format!("{place}fdinfo/{fd}")).ok()?;
        watched(&text, inode)
    })
}

/// Lines such as `tfd: 3 events: 19 data: 3 pos:0 ino:4ebc1 sdev:9`, numbers in hex (`ep_show_fdinfo`, 4.11).
fn watched(fdinfo: &[u8], inode: u64) -> Option<Epoll> {
    let text = std::str::from_utf8(fdinfo).ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("tfd:"));
    lines.find_map(|line| {
        let found = line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("ino:"))?;
        if u64::from_str_radix(found, 16).ok()? != inode {
            return None;
        }
        let mut words = line
            .split_ascii_whitespace()
            .skip_while(|word| *word != "events:");
        let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        Some(Epoll {
            edge_triggered: events & EDGE_TRIGGERED != 0,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_inode() {
        let text = b"pos:\t0\nino:\t1038\n\
            tfd:        3 events:       19 data:                3  pos:0 ino:4ebc1 sdev:9\n\
            tfd:        4 events: 80000019 data:                4  pos:0 ino:4ebc2 sdev:9\n";
        assert_eq!(
            watched(text, 0x4ebc1),
            Some(Epoll {
                edge_triggered: false
            })
        );
        assert_eq!(watched(text, 0x4ebc2), Some(Epoll { edge_triggered: true }));
        assert_eq!(watched(text, 0x1038), None, "that is the inode of the instance");
    }
}
