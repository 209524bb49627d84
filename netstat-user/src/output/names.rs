//! Names for numbers: services, users and hosts, as the system's library knows them (NSS, `nsswitch.conf(5)`).
//!
//! A name service may be a network away and hang. So every lookup has a thread of its own and a limit.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use dns_lookup::AddrInfoHints;
use nix::{libc, unistd::User};

use crate::{connection::Printable, plural::counted};

/// The longest that names may hold up an answer. What is not known by then is shown as a number.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Lookups of one kind at once.
const WORKERS: usize = 16;

/// Lookups of one kind, under way.
#[derive(Debug)]
pub struct Lookups<K> {
    found: mpsc::Receiver<(K, Option<String>)>,
    asked: usize,
    deadline: Instant,
}

/// Names that were found in time.
#[derive(Debug)]
pub struct Found<K> {
    /// Safe to print.
    pub names: HashMap<K, String>,
    /// Lookups that nobody has answered in time.
    pub unanswered: usize,
}

impl<K> Default for Found<K> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            unanswered: 0,
        }
    }
}

impl<K: Hash + Ord + Copy + Send + 'static> Lookups<K> {
    /// Looks `keys` up, the smallest first, several at once. A lookup that takes too long is left behind.
    fn start(keys: impl IntoIterator<Item = K>, lookup: fn(K) -> Option<String>) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let keys: HashSet<_> = keys.into_iter().collect();
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable_by(|one, other| other.cmp(one));
        let asked = keys.len();
        let queue = Arc::new(Mutex::new(keys));
        let (sender, found) = mpsc::channel();
        for _ in 0..asked.min(WORKERS) {
            let (queue, sender) = (Arc::clone(&queue), sender.clone());
            thread::spawn(move || {
                while let Some(key) = next(&queue, deadline) {
                    if sender.send((key, lookup(key))).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            found,
            asked,
            deadline,
        }
    }

    /// Waits until all are answered, but not longer than [`PATIENCE`] from their start.
    #[must_use]
    pub fn finish(self) -> Found<K> {
        let mut found = Found {
            names: HashMap::new(),
            unanswered: self.asked,
        };
        let left = || self.deadline.saturating_duration_since(Instant::now());
        while let Ok((key, name)) = self.found.recv_timeout(left()) {
            found.unanswered -= 1;
            if let Some(name) = name {
                found.names.insert(key, name);
            }
        }
        found
    }
}

fn next<K>(queue: &Mutex<Vec<K>>, deadline: Instant) -> Option<K> {
    if Instant::now() >= deadline {
        return None;
    }
    queue.lock().ok()?.pop()
}

/// Looks up the TCP services of `ports`.
#[must_use]
pub fn services(ports: impl IntoIterator<Item = u16>) -> Lookups<u16> {
    Lookups::start(ports, service)
}

/// Looks up the users with these ids.
#[must_use]
pub fn users(ids: impl IntoIterator<Item = u32>) -> Lookups<u32> {
    Lookups::start(ids, user)
}

/// Looks up the hosts with these addresses.
#[must_use]
pub fn hosts(addresses: impl IntoIterator<Item = IpAddr>) -> Lookups<IpAddr> {
    Lookups::start(addresses, host)
}

/// The name service has not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name service did not answer within {} s", PATIENCE.as_secs())]
pub struct Unanswered;

/// The port of a TCP service, by its name or another that it goes by, in any case.
///
/// # Errors
///
/// When nobody answers within [`PATIENCE`].
pub fn port(service: &str) -> Result<Option<u16>, Unanswered> {
    let service = service.to_owned();
    within(PATIENCE, move || {
        port_of(&service).or_else(|| port_of(&service.to_ascii_lowercase()))
    })
}

/// The id of the user of this name.
///
/// # Errors
///
/// When nobody answers within [`PATIENCE`].
pub fn uid(name: &str) -> Result<Option<u32>, Unanswered> {
    let name = name.to_owned();
    within(PATIENCE, move || {
        let user = User::from_name(&name).ok()??;
        Some(user.uid.as_raw())
    })
}

/// What comes of `lookup`, on a thread that is left behind if it takes longer than `limit`.
fn within<T: Send + 'static>(
    limit: Duration,
    lookup: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(lookup()));
    receiver.recv_timeout(limit).map_err(|_| Unanswered)
}

/// Names of users, each looked up when it is first asked for.
///
/// All lookups together take [`PATIENCE`] at the most. When that is used up, ids have to do for a minute.
#[derive(Debug)]
pub struct Users {
    known: HashMap<u32, Option<String>>,
    left: Duration,
    last: Option<Instant>,
    unanswered: HashSet<u32>,
}

impl Users {
    /// After this time a name service that did not answer is asked again.
    const AGAIN: Duration = Duration::from_mins(1);

    /// Knows nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            known: HashMap::new(),
            left: PATIENCE,
            last: None,
            unanswered: HashSet::new(),
        }
    }

    /// The name of a user, safe to print.
    pub fn name(&mut self, uid: u32) -> Option<&str> {
        if !self.known.contains_key(&uid) {
            let Ok(name) = self.ask(uid) else {
                self.unanswered.insert(uid);
                return None;
            };
            self.unanswered.remove(&uid);
            self.known.insert(uid, name);
        }
        self.known.get(&uid)?.as_deref()
    }

    /// Users whose names nobody has told in time.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    fn ask(&mut self, uid: u32) -> Result<Option<String>, Unanswered> {
        let begun = Instant::now();
        if self.last.is_none_or(|last| begun - last > Self::AGAIN) {
            self.left = PATIENCE;
        }
        if self.left.is_zero() {
            return Err(Unanswered);
        }
        self.last = Some(begun);
        let answer = within(self.left, move || user(uid));
        self.left = self.left.saturating_sub(begun.elapsed());
        answer
    }
}

impl Default for Users {
    fn default() -> Self {
        Self::new()
    }
}

/// Says what has no name because a name service did not answer in time; `None` if everything has one. Each number comes with what it
/// counts.
#[must_use]
pub fn unanswered(counts: &[(usize, &str)]) -> Option<String> {
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<_> = counts.map(|(count, what)| counted(*count, what)).collect();
    (!parts.is_empty()).then(|| format!("no names for {}: {Unanswered}", parts.join(", ")))
}

/// By `getservbyport_r`, which `getnameinfo` calls. It gives the number back where there is no name.
fn service(port: u16) -> Option<String> {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let (_, name) = dns_lookup::getnameinfo(&anywhere, libc::NI_NUMERICHOST).ok()?;
    (name != port.to_string()).then(|| printable(&name))
}

/// By `getservbyname_r`, which `getaddrinfo` calls.
fn port_of(service: &str) -> Option<u16> {
    let hints = AddrInfoHints {
        socktype: libc::SOCK_STREAM,
        ..AddrInfoHints::default()
    };
    let mut found = dns_lookup::getaddrinfo(None, Some(service), Some(hints)).ok()?;
    Some(found.next()?.ok()?.sockaddr.port())
}

/// By `getpwuid_r`.
fn user(uid: u32) -> Option<String> {
    let user = User::from_uid(uid.into()).ok()??;
    Some(printable(&user.name))
}

fn host(address: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    // The resolver gives the address back where it has no name.
    (name != address.to_string()).then(|| printable(&name))
}

/// Whoever runs the name service chooses the names, as a process chooses its own.
fn printable(name: &str) -> String {
    Printable(name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_linux_knows_is_found() {
        assert_eq!(
            users([0, u32::MAX - 7]).finish().names,
            HashMap::from([(0, "root".to_owned())])
        );
        assert_eq!(uid("root"), Ok(Some(0)));
        assert_eq!(uid("no such user"), Ok(None));
        let mut users = Users::new();
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(u32::MAX - 7), None);
        assert_eq!(users.unanswered(), 0);
    }

    #[test]
    fn no_lookup_holds_up_the_others() {
        let lookups = Lookups::start(0..3, |key| {
            if key == 1 {
                thread::sleep(10 * PATIENCE);
            }
            (key == 0).then(|| "zero".to_owned())
        });
        let found = lookups.finish();
        assert_eq!(found.names, HashMap::from([(0, "zero".to_owned())]));
        assert_eq!(found.unanswered, 1);
    }
}
