//! The ways in which a connection makes no progress, and what to say of each.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It ends by itself, or is meant to be so.
    Note,
    /// It will hurt if it goes on.
    Warning,
    /// It hurts now.
    Critical,
}

impl Severity {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SYN_SENT: nobody answers.
    SynUnanswered,
    /// SYN_RECV: the client does not answer the SYN-ACK.
    SynAckUnanswered,
    /// SYN_SENT, SYN_RECV: somebody listens, but the accept queue has no room.
    HeldByAcceptQueue,
    /// LISTEN: the accept queue is full.
    AcceptQueueFull,
    /// LISTEN: connections wait, and nobody takes them.
    AcceptQueueFilling,
    /// Data is sent again and again.
    DataUnacknowledged,
    /// Data waits to be sent, and this host cannot send it.
    DataNotSent,
    /// The peer's receive window is closed.
    ZeroWindow,
    /// The peer does not answer keepalive's probes.
    KeepaliveUnanswered,
    /// Data waits to be read.
    DataUnread,
    /// CLOSE_WAIT: the peer has closed, and the process has not.
    NotClosed,
    /// FIN_WAIT1, CLOSING, LAST_ACK: the FIN is not acknowledged.
    FinUnacknowledged,
    /// FIN_WAIT2, held by a process that has closed one direction.
    HalfClosed,
    /// FIN_WAIT2 that no process holds: the peer does not close.
    PeerNotClosing,
    /// Few local ports are left for connections to one destination.
    PortsRunningOut,
    /// Few local ports are left on one address, whatever the others are connections to.
    BindPortsRunningOut,
    /// So many TIME_WAIT that the kernel makes no more.
    TimeWaitFull,
}

impl Kind {
    /// Whether it is about what several sockets take together, so that any of them may stand for it.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(
            self,
            Self::PortsRunningOut | Self::BindPortsRunningOut | Self::TimeWaitFull
        )
    }

    /// What is the matter, in plain words.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::SynUnanswered => {
                "the SYN is not answered: the host is down, or something on the way there or back drops packets"
            }
            Self::SynAckUnanswered => {
                "the client does not answer the SYN-ACK: it is gone, its address is false, or packets are lost on the way back"
            }
            Self::HeldByAcceptQueue => {
                "the port has a listener, but its accept queue is full, so new connections are dropped: the process does not call accept"
            }
            Self::AcceptQueueFull => {
                "the process does not call accept fast enough: its queue is full, and new connections are dropped"
            }
            Self::AcceptQueueFilling => {
                "connections wait to be accepted, and the process does not call accept"
            }
            Self::DataUnacknowledged => {
                "the peer does not acknowledge data that is sent again and again: it is gone, or the path is broken"
            }
            Self::DataNotSent => {
                "this host cannot send: there is no route to the peer, the device is down, or packets are dropped here"
            }
            Self::KeepaliveUnanswered => {
                "the peer does not answer keepalive probes: it is gone, or the path is broken"
            }
            Self::ZeroWindow => {
                "the peer's application does not read: its receive buffer is full, and it accepts no more data"
            }
            Self::DataUnread => "the process here does not read what it has received",
            Self::NotClosed => "the peer has closed the connection, and the process here does not call close",
            Self::FinUnacknowledged => {
                "the peer does not acknowledge that the connection is closed: it is gone, or the path is broken"
            }
            Self::HalfClosed => {
                "the process here has shut down its direction, and the peer neither closes nor sends"
            }
            Self::PeerNotClosing => {
                "the connection is closed here, and the peer does not close it; the kernel drops it by itself"
            }
            Self::PortsRunningOut => {
                "almost all local ports are taken by connections to this destination: connect will fail"
            }
            Self::BindPortsRunningOut => {
                "almost all local ports are taken on this address: bind to port 0, and listen without bind, will fail"
            }
            Self::TimeWaitFull => {
                "there are as many TIME_WAIT as the kernel keeps: it closes further connections without TIME_WAIT"
            }
        }
    }
}
