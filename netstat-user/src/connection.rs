//! What identifies a socket: cookie, namespace, addresses; and who holds it.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use netstat_ebpf::wire::COMM_LEN;
use serde::{Deserialize, Serialize};

use crate::clock::Ktime;

/// The kernel's number for a socket (`sock_gen_cookie`): unique while the host is up, and kept by the
/// connection when a minisock or an accepted child takes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cookie(pub u64);

/// Inode number of a network namespace, as `stat -L /proc/PID/ns/net` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Netns(pub u32);

/// Address of the kernel's structure for a socket: names it only while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SkAddr(pub u64);

/// The address family of a socket. A dual-stack socket is `Inet6`, whatever it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `AF_INET`
    Inet,
    /// `AF_INET6`
    Inet6,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Sixteen bytes in network order: an IPv4 address as its v4-mapped form.
    #[serde(with = "octets")]
    addr: [u8; 16],
    port: u16,
}

/// An address in one piece: serde takes an array for sixteen numbers, and an answer has hundreds of thousands of them.
mod octets {
    use std::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{self, Visitor},
    };

    pub(super) fn serialize<S: Serializer>(octets: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(octets)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        from.deserialize_bytes(Octets)
    }

    struct Octets;

    impl Visitor<'_> for Octets {
        type Value = [u8; 16];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the sixteen bytes of an address")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; 16], E> {
            bytes
                .try_into()
                .map_err(|_| E::invalid_length(bytes.len(), &self))
        }
    }
}

impl Endpoint {
    /// An end at `addr`; port 0 stands for none.
    #[must_use]
    pub fn new(addr: IpAddr, port: u16) -> Self {
        let addr = match addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self {
            addr: addr.octets(),
            port,
        }
    }

    /// As [`Endpoint::octets`] has the address.
    pub(crate) const fn of_octets(addr: [u8; 16], port: u16) -> Self {
        Self { addr, port }
    }

    /// The port, unless none is bound or known.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        if self.port == 0 { None } else { Some(self.port) }
    }

    /// The address in network order, an IPv4 one in its v4-mapped form.
    #[must_use]
    pub const fn octets(&self) -> [u8; 16] {
        self.addr
    }

    /// Whether the address means something on one link alone (`fe80::/10`).
    #[must_use]
    pub const fn is_link_local(&self) -> bool {
        Ipv6Addr::from_octets(self.addr).is_unicast_link_local()
    }

    /// The address as a socket of `family` has it.
    #[must_use]
    pub fn addr(&self, family: Family) -> IpAddr {
        let v6 = Ipv6Addr::from(self.addr);
        match family {
            Family::Inet => IpAddr::V4(v6.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED)),
            Family::Inet6 => IpAddr::V6(v6),
        }
    }
}

/// Which connection a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The key of the table.
    pub cookie: Cookie,
    /// Where the socket lives.
    pub netns: Netns,
    /// The socket's family.
    pub family: Family,
    /// This host's end.
    pub local: Endpoint,
    /// The other end; without a port for a listener.
    pub remote: Endpoint,
    /// Index of the device that the socket is bound to. Link-local connections always are, and with VRF all.
    pub device: Option<NonZeroU32>,
    /// It is a subflow of an MPTCP connection, as far as anybody has seen: a minisock does not say.
    pub mptcp: bool,
}

impl Connection {
    /// The pair of ends, when both have ports: on one device of one namespace one socket at a time has it,
    /// except for the short while in which a minisock is being replaced.
    #[must_use]
    pub fn tuple(&self) -> Option<Tuple> {
        self.local.port()?;
        self.remote.port()?;
        Some(Tuple {
            netns: self.netns,
            local: self.local,
            remote: self.remote,
            device: self.device,
        })
    }

    /// Both ports, this host's first; 0 stands for none.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        (self.local.port, self.remote.port)
    }

    /// Takes from `newer` the ends that are still missing here. Returns whether anything changed.
    pub fn complete(&mut self, newer: &Self) -> bool {
        let before = *self;
        if self.local.port == 0 {
            self.local = newer.local;
        }
        if self.remote.port == 0 && newer.remote.port != 0 {
            self.remote = newer.remote;
        }
        self.device = self.device.or(newer.device);
        self.mptcp |= newer.mptcp;
        *self != before
    }
}

/// A connection's namespace and both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    netns: Netns,
    local: Endpoint,
    remote: Endpoint,
    device: Option<NonZeroU32>,
}

impl Hash for Tuple {
    /// Few words rather than many bytes: it is done for every event.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u32::from(self.local.port) << 16 | u32::from(self.remote.port);
        state.write_u128(u128::from_ne_bytes(self.local.addr));
        state.write_u128(u128::from_ne_bytes(self.remote.addr));
        state.write_u64(u64::from(ports) << 32 | u64::from(self.netns.0));
        state.write_u32(self.device.map_or(0, NonZeroU32::get));
    }
}

impl Tuple {
    /// The same connection as its other end has it.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        Self {
            netns: self.netns,
            local: self.remote,
            remote: self.local,
            device: self.device,
        }
    }
}

/// A task's name (`task_struct.comm`): at most 15 bytes, which the process chooses freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comm(pub [u8; COMM_LEN]);

impl fmt::Display for Comm {
    /// Text that is safe to print: what is not UTF-8 or controls a terminal comes out escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(COMM_LEN);
        write!(f, "{}", Printable(&self.0[..end]))
    }
}

/// Text that somebody else chose, made safe to print: what is not UTF-8 or controls a terminal comes out
/// escaped.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let mut rest = chunk.valid();
            while let Some((at, char)) = rest.char_indices().find(|(_, char)| must_be_escaped(*char)) {
                f.write_str(&rest[..at])?;
                write!(f, "{}", char.escape_default())?;
                rest = &rest[at + char.len_utf8()..];
            }
            f.write_str(rest)?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that control a terminal, or change how their neighbours are shown: line separators and bidirectional
/// controls.
fn must_be_escaped(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A process that holds a socket, or has held it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id in the root PID namespace.
    pub pid: u32,
    /// When the process was started: the id alone may be given to another once it is gone.
    pub start: Ktime,
    /// The thread, in the root PID namespace, in whose descriptor table [`fd`](Self::fd) is, if that is not the table of the
    /// process's first thread: `/proc/PID/task/TID/fd` shows it then, and `/proc/PID/fd` does not.
    pub tid: Option<NonZeroU32>,
    /// The lowest of its descriptors for the socket, when a scan has found it.
    pub fd: Option<u32>,
    /// How many more descriptors for the socket a scan has found that it has.
    pub more_fds: u32,
    /// The process's name.
    pub comm: Comm,
    /// When it was last known to hold the socket; its listener, if that is all that it is known by.
    pub seen: Ktime,
    /// How it is known.
    pub source: OwnerSource,
}

impl Owner {
    /// Whether both are the same process.
    #[must_use]
    pub fn is_same_process(&self, other: &Self) -> bool {
        (self.pid, self.start) == (other.pid, other.start)
    }

    /// Whether it is known to hold the socket: it acted on it, or a scan has found it.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        matches!(
            self.source,
            OwnerSource::Event | OwnerSource::Scan | OwnerSource::IoUring
        )
    }
}

/// How an owner is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerSource {
    /// It acted on the socket: connected, listened, shut down or closed.
    Event,
    /// A scan of all open files found it.
    Scan,
    /// It holds the listener, and nobody is known to have accepted the connection yet.
    Inherited,
    /// It has held the socket, and does so no longer.
    Last,
    /// An `io_uring` of the process has registered the socket, and no process has a descriptor of it.
    #[serde(rename = "io_uring")]
    IoUring,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(text: &[u8]) -> String {
        let mut bytes = [0; COMM_LEN];
        bytes[..text.len()].copy_from_slice(text);
        Comm(bytes).to_string()
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        assert_eq!(comm(b"nginx"), "nginx");
        assert_eq!(comm(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(comm(b"x\xffy\n"), "x\\xffy\\n");
        assert_eq!(comm("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn an_address_keeps_its_family() {
        let mapped = Endpoint::new("::ffff:127.0.0.1".parse().unwrap(), 80);
        let plain = Endpoint::new("127.0.0.1".parse().unwrap(), 80);
        assert_eq!(mapped, plain);
        assert_eq!(mapped.addr(Family::Inet6).to_string(), "::ffff:127.0.0.1");
        assert_eq!(plain.addr(Family::Inet).to_string(), "127.0.0.1");
    }
}
