//! What the table is told: events, sightings, holders. All come out of [`crate::decode`].

mod figure_set;
mod figures;

pub use figure_set::FigureSet;
pub use figures::{Attempts, Figures, Limits, Listening, Path, Received, Sent, Timer, TimerKind};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Owner, SkAddr},
    tcp::TcpState,
};

/// One call of `inet_sock_set_state`: a socket leaves `from` for `to`, as the kernel's full sock sees it.
///
/// That is not yet the connection's own course: see [`crate::table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateEvent {
    /// When.
    pub time: Ktime,
    /// Which socket.
    pub connection: Connection,
    /// The kernel's structure for it.
    pub skaddr: SkAddr,
    /// The state before.
    pub from: TcpState,
    /// The state after.
    pub to: TcpState,
    /// The socket's pending error, an errno.
    pub error: Option<u32>,
    /// The peer's FIN has arrived (`SOCK_DONE`).
    pub peer_fin: bool,
    /// No process holds the socket (`SOCK_DEAD`).
    pub orphan: bool,
    /// `TCP_LINGER2` is negative: no FIN_WAIT2 once the socket is an orphan.
    pub no_linger2: bool,
    /// The process that did it, where the kernel leaves no doubt.
    pub owner: Option<Owner>,
    /// The socket's user.
    pub uid: u32,
    /// The socket's control group.
    pub cgroup: Option<u64>,
}

/// What a hook in the kernel tells of a socket: where no state change is announced, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketNews {
    /// When.
    pub time: Ktime,
    /// Which socket.
    pub connection: Connection,
    /// A new request sock in SYN_RECV; a minisock, new or with another substate; or a full sock in SYN_SENT
    /// that has its port by now.
    pub form: Form,
    /// The kernel has just made it.
    pub made: bool,
    /// The state that it is in now.
    pub state: TcpState,
}

/// A minisock or request sock that ends, as a hook tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketGone {
    /// When.
    pub time: Ktime,
    /// Which.
    pub cookie: Cookie,
    /// What the kernel kept it in; its connection may go on in another.
    pub form: Form,
}

/// The structure that the kernel keeps a socket in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// A full sock.
    Full,
    /// A minisock (`inet_timewait_sock`): TIME_WAIT, or FIN_WAIT2 of an orphan.
    Minisock,
    /// A request sock: a handshake under way.
    Request,
}

/// Queue lengths, as `/proc/net/tcp` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queues {
    /// Bytes not yet read; for a listener, connections not yet accepted.
    pub recv: u32,
    /// Bytes not yet acknowledged.
    pub send: u32,
    /// A listener's limit on connections not yet accepted; 0 for others.
    pub backlog: u32,
}

/// One socket, as a sweep found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// When the iterator looked at it.
    pub time: Ktime,
    /// Which socket.
    pub connection: Connection,
    /// The kernel's structure for it.
    pub skaddr: SkAddr,
    /// Its state.
    pub state: TcpState,
    /// What kind of structure that is.
    pub form: Form,
    /// The socket's user; a minisock and a request sock have none.
    pub uid: Option<u32>,
    /// The socket's control group; likewise.
    pub cgroup: Option<u64>,
    /// The inode of the file behind it, when a process holds it.
    pub inode: Option<u64>,
    /// Of a subflow, the MPTCP socket that processes hold, once anybody has asked for its cookie.
    pub mptcp: Option<Cookie>,
    /// Its queues.
    pub queues: Queues,
}

/// The end of a sweep, behind every event whose outcome the sweep can have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The iterator session.
    pub session: u64,
    /// When the sweep ended.
    pub time: Ktime,
    /// Whether the ring carries the same mark.
    pub in_ring: bool,
}

/// A descriptor that holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The socket; of MPTCP the one above its subflows.
    pub cookie: Cookie,
    /// Who holds it.
    pub owner: Owner,
}

/// What one scan of all open files has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderScan {
    /// A time before the first look.
    pub start: Ktime,
    /// It went through all processes, and not only those of another PID namespace than the root's.
    pub complete: bool,
    /// The descriptors that hold sockets.
    pub holders: Vec<Holder>,
}
