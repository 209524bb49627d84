//! The network namespaces of the host: which there are, what they are called, and how to get into them.

mod devices;
mod mounts;
mod names;
mod refused;
mod search;
mod tables;

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::connection::Netns;
pub(crate) use mounts::unescaped;
pub use names::{Names, told};
pub use refused::{Refusals, Refused};
pub use search::{Aim, Effort, Findings, Held, search};

/// Why a namespace that is there cannot be entered, although whoever asks may.
pub const UNREACHABLE: &str =
    "only sockets keep it, or a mount that another one covers, so nothing leads into it";

/// The calling process's own namespace.
const OWN: &str = "/proc/self/ns/net";

/// Namespaces, each with a file of it, which leads into it.
pub type Found = HashMap<Netns, PathBuf>;

/// The namespace that `path` stands for.
///
/// # Errors
///
/// When the path cannot be read, or cannot be a namespace's.
pub fn identify(path: &Path) -> io::Result<Netns> {
    u32::try_from(fs::metadata(path)?.ino())
        .map(Netns)
        .map_err(io::Error::other)
}

/// The namespace that the user means by `path`, such as `/proc/PID/ns/net` or `/run/docker/netns/default`.
///
/// # Errors
///
/// When nothing is there, or something else.
pub fn identify_file(path: &Path) -> io::Result<Netns> {
    if !is_namespace(path) {
        // Says what is wrong, if it is that the path cannot be read.
        fs::metadata(path)?;
        return Err(io::Error::other("it is no network namespace"));
    }
    identify(path)
}

/// The calling process's own namespace.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn own() -> io::Result<Netns> {
    identify(Path::new(OWN))
}

/// Moves the calling thread into the namespace that `path` stands for, if that still is `netns`.
///
/// # Errors
///
/// `NotFound` when the file is gone or is another namespace's by now; or for want of `CAP_SYS_ADMIN`.
pub fn enter(netns: Netns, path: &Path) -> io::Result<()> {
    // The process may end between the two: then its files are as gone as itself.
    let gone = |_| io::Error::from(io::ErrorKind::NotFound);
    let file = File::open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::SRCH.raw_os_error() => gone(error),
        _ => error,
    })?;
    if file.metadata()?.ino() != u64::from(netns.0) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Whether `path` is a namespace, and not a file that one was to be mounted on.
fn is_namespace(path: &Path) -> bool {
    /// `NSFS_MAGIC`, `include/uapi/linux/magic.h`.
    const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|system| system.f_type == NSFS_MAGIC)
}

/// `net:[4026531840]`, as links and mounts of namespaces show it (`ns_dname`).
fn parse_link(text: &[u8]) -> Option<Netns> {
    let digits = text.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_tells_its_namespace() {
        assert_eq!(parse_link(b"net:[4026531840]"), Some(Netns(4_026_531_840)));
        for other in [
            &b"mnt:[4026531841]"[..],
            b"net:[]",
            b"net:[1",
            b"/",
            b"net:[99999999999]",
        ] {
            assert_eq!(parse_link(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_path_that_is_no_namespace_is_refused() {
        assert!(identify_file(Path::new("/dev/null")).is_err());
        assert!(identify_file(Path::new("/no/such/file")).is_err());
        assert_eq!(identify_file(Path::new(OWN)).unwrap(), own().unwrap());
    }
}
