//! The names of namespaces, which `ip netns` gives, and of the interfaces in them.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    path::Path,
    time::{Duration, Instant},
};

use super::{devices::Devices, mounts};
use crate::connection::{Connection, Endpoint, Netns, Printable};

/// Where `ip netns` keeps its namespaces, under either name of `/run`.
const FOLDERS: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// How long the names are taken to be right: they come and go, and the number of a namespace that is gone is
/// given to a new one.
const LAST: Duration = Duration::from_secs(1);
/// How often a namespace without a name is looked up again: it may have got one.
const AGAIN: Duration = Duration::from_millis(100);

/// The names of namespaces, read anew when they may have changed.
#[derive(Debug, Clone)]
pub struct Names {
    known: HashMap<Netns, String>,
    read: Instant,
    /// They are of another time or host, and stay.
    told: bool,
    devices: Devices,
}

impl Names {
    /// The names now.
    #[must_use]
    pub fn read() -> Self {
        Self {
            known: read(),
            read: Instant::now(),
            told: false,
            devices: Devices::default(),
        }
    }

    /// Names that were read elsewhere or before.
    #[must_use]
    pub fn told(names: impl IntoIterator<Item = (Netns, String)>) -> Self {
        Self {
            known: names.into_iter().collect(),
            read: Instant::now(),
            told: true,
            devices: Devices::default(),
        }
    }

    /// All of them, by number.
    #[must_use]
    pub fn to_list(&self) -> Vec<(Netns, String)> {
        let mut list: Vec<_> = self
            .known
            .iter()
            .map(|(netns, name)| (*netns, name.clone()))
            .collect();
        list.sort_unstable();
        list
    }

    /// The name of a namespace, if it has one.
    pub fn of(&mut self, netns: Netns) -> Option<&str> {
        let last = if self.known.contains_key(&netns) {
            LAST
        } else {
            AGAIN
        };
        if !self.told && self.read.elapsed() > last {
            let devices = std::mem::take(&mut self.devices);
            *self = Self {
                devices,
                ..Self::read()
            };
        }
        self.known.get(&netns).map(String::as_str)
    }

    /// What to call a namespace: its name, safe to print, or its number.
    pub fn label(&mut self, netns: Netns) -> String {
        match self.of(netns) {
            Some(name) => Printable(name.as_bytes()).to_string(),
            None => netns.0.to_string(),
        }
    }

    /// The name of the interface that has this number in a namespace; `None` when it is gone, when the namespace may not be
    /// entered, and for names that were read elsewhere or before.
    pub fn device(&mut self, netns: Netns, index: NonZeroU32) -> Option<&str> {
        if self.told {
            return None;
        }
        self.devices.name(netns, index.get())
    }

    /// The interfaces that are called `name`, each by its namespace and number there, as far as namespaces may be entered.
    pub fn devices_named(&mut self, name: &str) -> Vec<(Netns, u32)> {
        self.devices.named(name)
    }

    /// What tells a link-local address from the same one on another link (RFC 4007): the interface, by its name or else its
    /// number. Other addresses have none.
    pub fn zone(&mut self, connection: &Connection, end: Endpoint) -> Option<String> {
        let index = connection.device.filter(|_| end.is_link_local())?;
        Some(match self.device(connection.netns, index) {
            Some(name) => Printable(name.as_bytes()).to_string(),
            None => index.to_string(),
        })
    }

    /// The namespace of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Netns> {
        let mut found = self.known.iter().filter(|(_, own)| *own == name);
        found.next().map(|(netns, _)| *netns)
    }

    /// All names, sorted.
    #[must_use]
    pub fn all(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.known.values().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Which namespaces there are, for somebody who asked for another.
#[must_use]
pub fn told(namespaces: &[Netns]) -> String {
    /// More would hide the message that they are a part of.
    const MOST: usize = 16;
    let mut names = Names::read();
    let mut sorted = namespaces.to_vec();
    sorted.sort_unstable();
    let shown: Vec<_> = sorted
        .iter()
        .take(MOST)
        .map(|&netns| match names.of(netns) {
            Some(_) => format!("{} ({})", netns.0, names.label(netns)),
            None => netns.0.to_string(),
        })
        .collect();
    let more = match sorted.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("there are {}{more}", shown.join(", "))
}

fn read() -> HashMap<Netns, String> {
    let mounted = mounts::read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let named = mounted.into_iter().filter_map(|(netns, path)| {
        let folder = path.parent()?;
        let known = FOLDERS.iter().any(|known| folder == Path::new(known));
        known.then(|| Some((netns, path.file_name()?.to_string_lossy().into_owned())))?
    });
    named.collect()
}
