//! The network namespaces of the host, and how to get into them.

use std::{
    collections::HashMap,
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::connection::Netns;

/// The calling process's own namespace.
pub const OWN: &str = "/proc/self/ns/net";

/// Where `ip netns` keeps its namespaces, and where Docker does.
const MOUNTED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Namespaces, each with a path that leads into it.
pub type Found = HashMap<Netns, PathBuf>;

/// The namespace that `path` stands for.
///
/// # Errors
///
/// When the path cannot be read.
pub fn identify(path: &Path) -> io::Result<Netns> {
    let inode = fs::metadata(path)?.ino();
    u32::try_from(inode).map(Netns).map_err(io::Error::other)
}

/// The calling process's own namespace.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn own() -> io::Result<Netns> {
    identify(Path::new(OWN))
}

/// Finds the namespaces of all processes and all mounted ones; and, where one of `wanted` is not among
/// them, those that single threads have entered.
#[must_use]
pub fn discover(wanted: &[Netns]) -> Found {
    let mut found = Found::new();
    add(&mut found, PathBuf::from(OWN));
    for path in MOUNTED.iter().flat_map(|folder| entries(Path::new(folder))) {
        if is_namespace(&path) {
            add(&mut found, path);
        }
    }
    let processes: Vec<_> = entries(Path::new("/proc"))
        .into_iter()
        .filter(|path| is_number(path))
        .collect();
    for process in &processes {
        add(&mut found, process.join("ns/net"));
    }
    if !wanted.iter().all(|netns| found.contains_key(netns)) {
        for task in processes
            .iter()
            .flat_map(|process| entries(&process.join("task")))
        {
            add(&mut found, task.join("ns/net"));
        }
    }
    found
}

/// The names that `ip netns` knows namespaces by.
#[must_use]
pub fn names() -> HashMap<Netns, String> {
    let mounted = entries(Path::new(MOUNTED[0]))
        .into_iter()
        .filter(|path| is_namespace(path));
    let named = mounted.filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((identify(&path).ok()?, name))
    });
    named.collect()
}

/// Moves the calling thread into the namespace at `path`, if that still is `netns`.
///
/// # Errors
///
/// When the path is gone or leads elsewhere by now, or for want of `CAP_SYS_ADMIN`.
pub fn enter(netns: Netns, path: &Path) -> io::Result<()> {
    let file = fs::File::open(path)?;
    if file.metadata()?.ino() != u64::from(netns.0) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

fn add(found: &mut Found, path: PathBuf) {
    // Processes end at any time, and some belong to others.
    if let Ok(netns) = identify(&path) {
        found.entry(netns).or_insert(path);
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Whether `path` is a namespace, and not a file that one was to be mounted on.
fn is_namespace(path: &Path) -> bool {
    /// `NSFS_MAGIC`, `include/uapi/linux/magic.h`.
    const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|system| system.f_type == NSFS_MAGIC)
}

fn is_number(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}
