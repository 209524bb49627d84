//! What interfaces are called: each namespace has its own, and its own numbers for them.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::{Aim, Effort, Found, search};
use crate::connection::Netns;

/// How long an answer is taken to be right: interfaces come, go and get other names.
const LAST: Duration = Duration::from_secs(1);
/// How long a namespace is left alone that nothing leads into, or that must not be entered: a search takes a while.
const CLOSED: Duration = Duration::from_secs(10);
/// Answers that are remembered; when there are more, all are forgotten.
const MOST: usize = 65_536;

/// Names of interfaces, asked for when they are needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Devices {
    known: HashMap<(Netns, u32), Known>,
    ways: Found,
    closed: HashMap<Netns, Instant>,
}

#[derive(Debug, Clone)]
struct Known {
    name: Option<String>,
    read: Instant,
}

impl Devices {
    /// The name of the interface `index` in `netns`; `None` when there is none, or the namespace cannot be entered.
    pub(super) fn name(&mut self, netns: Netns, index: u32) -> Option<&str> {
        let key = (netns, index);
        if self
            .known
            .get(&key)
            .is_none_or(|known| known.read.elapsed() > LAST)
        {
            if self.known.len() >= MOST {
                self.known.clear();
            }
            let name = self.ask(netns, move || name_here(index));
            let read = Instant::now();
            self.known.insert(key, Known { name, read });
        }
        self.known.get(&key)?.name.as_deref()
    }

    /// The interfaces called `name`, in all namespaces that can be entered.
    pub(super) fn named(&mut self, name: &str) -> Vec<(Netns, u32)> {
        self.ways = find(&[], true, &Found::new());
        self.closed.clear();
        let mut all: Vec<_> = self.ways.keys().copied().collect();
        all.sort_unstable();
        let index = |netns: Netns| {
            let name = name.to_owned();
            Some((netns, self.ask(netns, move || index_here(&name))?))
        };
        all.into_iter().filter_map(index).collect()
    }

    /// What `question` comes to in `netns`; `None` if nothing, or if it cannot be asked there.
    fn ask<T: Send + 'static>(
        &mut self,
        netns: Netns,
        question: impl FnOnce() -> Option<T> + Clone + Send + 'static,
    ) -> Option<T> {
        if super::own().is_ok_and(|own| own == netns) {
            return question();
        }
        if self
            .closed
            .get(&netns)
            .is_some_and(|since| since.elapsed() < CLOSED)
        {
            return None;
        }
        // The way that was known may lead there no more.
        for fresh in [false, true] {
            if fresh || !self.ways.contains_key(&netns) {
                self.ways = find(&[netns], false, &self.ways);
            }
            let Some(way) = self.ways.get(&netns) else { break };
            match inside(netns, way.clone(), question.clone()) {
                Ok(answer) => return answer,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.ways.remove(&netns);
                }
                Err(_) => break,
            }
        }
        self.closed.insert(netns, Instant::now());
        None
    }
}

/// What leads into namespaces: those that are wanted, or all.
fn find(wanted: &[Netns], everything: bool, known: &Found) -> Found {
    let aim = Aim {
        everything,
        wanted,
        hints: &[],
        effort: Effort::Quick,
        held: &mut || None,
    };
    search(aim, known).found
}

/// Asks in a namespace, on a thread that ends with it: it enters and does not come back.
fn inside<T: Send + 'static>(
    netns: Netns,
    way: PathBuf,
    question: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let asked = thread::Builder::new().spawn(move || {
        super::enter(netns, &way)?;
        Ok(question())
    })?;
    asked
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a query to the kernel failed")))
}

/// `SIOCGIFNAME` in the calling thread's namespace; a name that is not UTF-8 counts as none.
fn name_here(index: u32) -> Option<String> {
    netdevice::index_to_name(any_socket()?, index).ok()
}

/// `SIOCGIFINDEX` in the calling thread's namespace.
fn index_here(name: &str) -> Option<u32> {
    netdevice::name_to_index(any_socket()?, name).ok()
}

/// A socket to ask with: any will do (`sock_do_ioctl`).
fn any_socket() -> Option<rustix::fd::OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_the_first_of_each_namespace() {
        let own = super::super::own().unwrap();
        let mut devices = Devices::default();
        assert_eq!(devices.name(own, 1), Some("lo"));
        assert_eq!(devices.name(own, u32::MAX), None);
        assert!(devices.named("lo").contains(&(own, 1)));
        assert_eq!(devices.named("no such interface"), []);
    }

    #[test]
    fn a_namespace_that_is_not_there_has_none() {
        let mut devices = Devices::default();
        assert_eq!(devices.name(Netns(1), 1), None);
        assert!(devices.closed.contains_key(&Netns(1)));
    }
}
