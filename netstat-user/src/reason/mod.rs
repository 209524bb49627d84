//! Why a connection ended: the vocabulary. docs/reasons.md lists it for users.
//!
//! A reason says what is certain. A RST is never called a normal close, and where it cannot be told whose it was, the
//! reason does not say.

mod of_event;
mod of_minisock;

#[cfg(test)]
mod cases;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use of_event::{
    FollowUp, Known, fatal_error, is_failing_connect, is_in_order, may_be_ours, may_leave_fin_wait2, of_event,
};
pub(crate) use of_minisock::{Cause, of_minisock};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// In order: both ends have closed, or the process did before there was a connection.
    Closed {
        /// Who closed first, if that was seen.
        by: Option<Side>,
        /// What more there is to say.
        how: Option<Closing>,
    },
    /// The other host does not take the connection.
    Refused(Option<Refusal>),
    /// Nobody has answered for too long.
    TimedOut {
        /// What nobody has answered.
        what: Timeout,
        /// How often it was sent again, or probed for; 0 when not known.
        tries: u8,
    },
    /// The peer has sent a RST.
    ResetByPeer,
    /// This host has sent a RST.
    ResetByUs(Abort),
    /// A RST: the peer's, or this host's in answer to data that came after the process had closed.
    Reset,
    /// The network has said that the peer cannot be reached: an errno.
    Unreachable(u32),
    /// This host has dropped the connection and sent no RST.
    Abandoned(Abort),
    /// `connect` has failed before a SYN could be sent: an errno, where hooks report it.
    ConnectFailed(Option<u32>),
    /// A listener that was not closed listens no more: `listen` has failed, or it was shut down, disconnected or
    /// killed.
    ListenEnded,
    /// The kernel has dropped a connection that no process held, for want of memory or because there are too many
    /// of them (`tcp_out_of_resources`, `tcp_check_oom`, `inet_twsk_alloc` in FIN_WAIT2). It may have sent a RST.
    OutOfResources,
    /// The network namespace has ended.
    NamespaceGone,
    /// Any other errno.
    Errno(u32),
}

/// One of the two ends, as seen from the row's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// This end.
    Us,
    /// The other end.
    Peer,
    /// Both, each before it had heard of the other.
    Both,
}

/// How an orderly end came about in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Closing {
    /// TIME_WAIT has lasted as long as it should.
    TimeWaitOver,
    /// A new connection has taken over the ports in TIME_WAIT.
    PortsTaken,
    /// The network namespace has ended in TIME_WAIT.
    NamespaceGone,
    /// The kernel has not kept TIME_WAIT: out of memory, or `tcp_max_tw_buckets`.
    NoTimeWait,
    /// There was no connection yet: nothing had answered the SYN.
    BeforeConnected,
}

/// How a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// A RST answered the SYN.
    Reset,
}

/// What nobody has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Timeout {
    /// The SYN.
    Connect,
    /// The SYN-ACK.
    Handshake,
    /// Data.
    Data,
    /// The FIN, when all data had been acknowledged.
    Fin,
    /// Keepalive probes.
    Keepalive,
    /// Probes of a window that the peer keeps shut.
    ZeroWindow,
    /// Nothing was to be answered: the peer has not closed within `tcp_fin_timeout`.
    FinWait2,
}

/// Why this host has given up a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Abort {
    /// The process closed with data unread.
    UnreadData,
    /// The process closed with `SO_LINGER` on and a time of 0.
    Linger0,
    /// Data came after the process had closed.
    DataAfterClose,
    /// The process closed with a negative `TCP_LINGER2`.
    Linger2,
    /// The process disconnected the socket (`connect` with `AF_UNSPEC`).
    Disconnected,
    /// It was never accepted, and the listener is gone, or had no room.
    ListenerGone,
    /// Killed from outside: `ss -K`, `bpf_sock_destroy`.
    Killed,
    /// The kernel had no memory for the new connection.
    NoMemory,
}

impl Reason {
    /// The word that stands for it in JSON: it stays. Text for people has spaces in it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Refused(_) => "refused",
            Self::TimedOut { .. } => "timed_out",
            Self::ResetByPeer => "reset_by_peer",
            Self::ResetByUs(_) => "reset_by_us",
            Self::Reset => "reset",
            Self::Unreachable(_) => "unreachable",
            Self::Abandoned(_) => "abandoned",
            Self::ConnectFailed(_) => "connect_failed",
            Self::ListenEnded => "listening_ended",
            Self::OutOfResources => "out_of_resources",
            Self::NamespaceGone => "namespace_gone",
            Self::Errno(_) => "error",
        }
    }

    /// What more is known, for people.
    #[must_use]
    pub fn detail(self) -> Option<String> {
        let text = match self {
            Self::Closed { how, .. } => how?.text(),
            Self::Refused(refusal) => match refusal? {
                Refusal::Reset => "a RST answered the SYN",
            },
            Self::TimedOut { what, tries } => return Some(what.text(tries)),
            Self::ResetByUs(abort) | Self::Abandoned(abort) => abort.text(),
            Self::Reset => "the peer's RST, or ours to data that came after the close",
            Self::Unreachable(errno) => return Some(unreachable(errno)),
            Self::OutOfResources => "too many sockets without a process, or out of memory",
            Self::Errno(errno) => return Some(format!("errno {errno}")),
            Self::ConnectFailed(errno) => return errno.map(errno::describe),
            Self::ResetByPeer | Self::ListenEnded | Self::NamespaceGone => return None,
        };
        Some(text.to_owned())
    }

    /// Who closed first, when it was an orderly end and that was seen.
    #[must_use]
    pub const fn closed_by(self) -> Option<Side> {
        match self {
            Self::Closed { by, .. } => by,
            _ => None,
        }
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub const fn is_orderly(self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

impl fmt::Display for Reason {
    /// The word, who closed first, and the detail: `closed, us first: TIME_WAIT over`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word().replace('_', " "))?;
        match self.closed_by() {
            // There was nobody else.
            Some(_)
                if matches!(
                    self,
                    Self::Closed {
                        how: Some(Closing::BeforeConnected),
                        ..
                    }
                ) => {}
            Some(Side::Us) => f.write_str(", us first")?,
            Some(Side::Peer) => f.write_str(", peer first")?,
            Some(Side::Both) => f.write_str(", both at once")?,
            None => {}
        }
        self.detail().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl Closing {
    const fn text(self) -> &'static str {
        match self {
            Self::TimeWaitOver => "TIME_WAIT over",
            Self::PortsTaken => "its ports were taken by a new connection",
            Self::NamespaceGone => "its namespace is gone",
            Self::NoTimeWait => "no room for TIME_WAIT",
            Self::BeforeConnected => "before it was connected",
        }
    }
}

impl Timeout {
    fn text(self, tries: u8) -> String {
        let (what, again) = match self {
            Self::Connect => ("no answer to the SYN", "retransmission"),
            Self::Handshake => ("no answer to the SYN-ACK", "retransmission"),
            Self::Data => ("data not acknowledged", "retransmission"),
            Self::Fin => ("FIN not acknowledged", "retransmission"),
            Self::Keepalive => ("no answer to keepalive", "probe"),
            Self::ZeroWindow => ("the peer opened no window", "probe"),
            Self::FinWait2 => return "the peer did not close within tcp_fin_timeout".to_owned(),
        };
        match tries {
            0 => what.to_owned(),
            1 => format!("{what}, 1 {again}"),
            more => format!("{what}, {more} {again}s"),
        }
    }
}

impl Abort {
    const fn text(self) -> &'static str {
        match self {
            Self::UnreadData => "closed with data unread",
            Self::Linger0 => "closed with SO_LINGER 0",
            Self::DataAfterClose => "data came after it was closed",
            Self::Linger2 => "closed with a negative TCP_LINGER2",
            Self::Disconnected => "disconnected by its process",
            Self::ListenerGone => "never accepted, listener gone or full",
            Self::Killed => "killed from outside",
            Self::NoMemory => "no memory for it",
        }
    }
}

/// Errnos by which the kernel tells what an ICMP message or a failing route said (`icmp_err_convert`, `tcp_v4_err`);
/// `include/uapi/asm-generic/errno*.h`: MIPS and SPARC number theirs differently.
pub(crate) mod errno {
    use nix::errno::Errno;

    pub(crate) const EPIPE: u32 = 32;
    pub(crate) const ENONET: u32 = 64;
    pub(crate) const ENOPROTOOPT: u32 = 92;
    pub(crate) const ENETDOWN: u32 = 100;
    pub(crate) const ENETUNREACH: u32 = 101;
    pub(crate) const ECONNABORTED: u32 = 103;
    pub(crate) const ECONNRESET: u32 = 104;
    pub(crate) const ETIMEDOUT: u32 = 110;
    pub(crate) const ECONNREFUSED: u32 = 111;
    pub(crate) const EHOSTDOWN: u32 = 112;
    pub(crate) const EHOSTUNREACH: u32 = 113;

    /// The name that C gives an errno: `EHOSTUNREACH`; `None` for a number without a name.
    pub(crate) fn name(errno: u32) -> Option<String> {
        let known = Errno::from_raw(i32::try_from(errno).ok()?);
        (known != Errno::UnknownErrno).then(|| format!("{known:?}"))
    }

    /// An errno for people: `EHOSTUNREACH (No route to host)`.
    pub(crate) fn describe(errno: u32) -> String {
        match (name(errno), i32::try_from(errno)) {
            (Some(name), Ok(raw)) => format!("{name} ({})", Errno::from_raw(raw).desc()),
            _ => format!("errno {errno}"),
        }
    }
}

fn unreachable(errno: u32) -> String {
    let what = match errno {
        errno::ENONET => "host isolated",
        errno::ENOPROTOOPT => "protocol unreachable",
        errno::ENETDOWN => "network down",
        errno::ENETUNREACH => "network unreachable",
        errno::ECONNREFUSED => "port unreachable",
        errno::EHOSTDOWN => "host down",
        errno::EHOSTUNREACH => "host unreachable",
        other => return format!("errno {other}"),
    };
    what.to_owned()
}
