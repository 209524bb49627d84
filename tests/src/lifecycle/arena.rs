//! Where the sockets live: two namespaces with a cable between them, each with settings of its own.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;

use super::{dice::Dice, shared::Shared};
use crate::{Link, Namespace};

/// One of the two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one.
    Left,
    /// The other.
    Right,
}

impl Side {
    /// The other one.
    #[must_use]
    pub(super) fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// Two namespaces, and the listeners that all threads in them share.
#[derive(Debug)]
pub(super) struct Arena {
    /// The namespaces.
    pub(super) link: Link,
    shared: Mutex<Vec<Option<Arc<Shared>>>>,
}

/// Places for shared listeners in each arena.
const SHARED: usize = 12;

/// A network where a route leads nowhere.
pub(super) const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// An address on the cable that nobody has.
pub(super) const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

/// Settings, and what they may be set to. A kernel that lacks one goes without.
const PARAMETERS: &[(&str, &[&str])] = &[
    ("ipv4/tcp_fin_timeout", &["1", "2", "4"]),
    ("ipv4/tcp_syn_retries", &["1", "2"]),
    ("ipv4/tcp_synack_retries", &["1", "2", "5"]),
    ("ipv4/tcp_orphan_retries", &["1", "2", "3"]),
    ("ipv4/tcp_retries2", &["3", "4", "6"]),
    ("ipv4/tcp_max_tw_buckets", &["100", "2000", "6000"]),
    ("ipv4/tcp_tw_reuse", &["0", "1", "1", "2"]),
    ("ipv4/tcp_tw_reuse_delay", &["1", "100", "1000"]),
    ("ipv4/tcp_timestamps", &["0", "1", "1", "1"]),
    ("ipv4/tcp_rfc1337", &["0", "1"]),
    ("ipv4/tcp_syncookies", &["0", "1", "1", "2"]),
    ("ipv4/tcp_abort_on_overflow", &["0", "0", "1"]),
    ("ipv4/tcp_migrate_req", &["0", "1"]),
    ("ipv4/tcp_max_syn_backlog", &["8", "128", "1024"]),
    ("ipv4/tcp_fastopen", &["3", "0x603", "0x607"]),
    ("ipv4/tcp_fastopen_blackhole_timeout_sec", &["0"]),
    ("ipv4/tcp_keepalive_probes", &["1", "2"]),
    (
        "ipv4/ip_local_port_range",
        &["20000 20801", "20000 24001", "20000 60001"],
    ),
    ("core/somaxconn", &["64", "4096"]),
];

impl Arena {
    /// Makes the namespaces, with settings that `dice` choose.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub(super) fn new(dice: &mut Dice) -> Result<Self> {
        let link = Link::new()?;
        for (namespace, address) in [
            (&link.left, cable6(Side::Left)),
            (&link.right, cable6(Side::Right)),
        ] {
            namespace.ip(&format!("address add {address}/64 dev cable nodad"))?;
            namespace.ip("route add blackhole 192.0.2.0/24")?;
            configure(namespace, dice);
        }
        let shared = Mutex::new(vec![None; SHARED]);
        Ok(Self { link, shared })
    }

    /// One of the namespaces.
    #[must_use]
    pub(super) fn namespace(&self, side: Side) -> &Namespace {
        match side {
            Side::Left => &self.link.left,
            Side::Right => &self.link.right,
        }
    }

    /// Both of them.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.link.left, &self.link.right].into_iter()
    }

    /// The listener in a place that `dice` choose, if there is one.
    pub(super) fn shared(&self, dice: &mut Dice) -> Option<Arc<Shared>> {
        let place = dice.below(SHARED);
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(place)?
            .clone()
    }

    /// Puts a listener in such a place, or leaves it empty. The one that was there is closed when the last
    /// thread that works with it is done.
    pub(super) fn share(&self, dice: &mut Dice, listener: Option<Shared>) {
        let place = dice.below(SHARED);
        let listener = listener.map(Arc::new);
        let mut places = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = places.get_mut(place) {
            *kept = listener;
        }
    }

    /// Closes them all.
    pub(super) fn close_shared(&self) {
        let mut places = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        places.fill(None);
    }
}

/// Sets what `dice` choose inside `namespace`.
pub(super) fn configure(namespace: &Namespace, dice: &mut Dice) {
    for (name, values) in PARAMETERS {
        // Older kernels lack some, and the run goes on without.
        let _ = namespace.set_parameter(name, dice.one_of(values));
    }
}

/// The same in the calling thread's namespace.
pub(super) fn configure_here(dice: &mut Dice) {
    for (name, values) in PARAMETERS {
        let _ = std::fs::write(format!("/proc/sys/net/{name}"), dice.one_of(values));
    }
}

/// The IPv4 address of this end of the cable.
#[must_use]
pub(super) fn cable4(side: Side) -> IpAddr {
    let last = match side {
        Side::Left => 1,
        Side::Right => 2,
    };
    Ipv4Addr::new(10, 77, 0, last).into()
}

/// The IPv6 address of this end of the cable.
#[must_use]
pub(super) fn cable6(side: Side) -> IpAddr {
    let last = match side {
        Side::Left => 1,
        Side::Right => 2,
    };
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last).into()
}

/// A way into the calling thread's namespace.
///
/// # Errors
/// When `/proc` is not there.
pub(super) fn here() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}
