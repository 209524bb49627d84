//! What the table is told: events, sightings, holders. All come out of [`crate::decode`].

mod elapsed;
mod figure_set;
mod figures;
mod holders;

use std::num::NonZeroU32;

pub use elapsed::Age;
pub(crate) use elapsed::{SHORTEST, doubled};
pub use figure_set::FigureSet;
pub use figures::{Attempts, Figures, Limits, Listening, Path, Received, Sent, Timer, TimerKind};
pub use holders::{Holder, HolderIndex, HolderScan};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Owner, SkAddr},
    tcp::TcpState,
};

/// One call of `inet_sock_set_state`: a socket leaves `from` for `to`, as the kernel's full sock sees it.
///
/// That is not yet the connection's own course: see [`crate::table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `TCP_LINGER2` is negative: no FIN_WAIT2 once the socket is an orphan. Told of ends alone.
    pub no_linger2: bool,
    /// How things stood, if the socket goes to CLOSE.
    pub standing: Option<Standing>,
    /// The process that did it, where the kernel leaves no doubt.
    pub owner: Option<Owner>,
    /// The socket's user.
    pub uid: u32,
    /// Its `SO_MARK`; 0 for none.
    pub fwmark: u32,
    /// The socket's control group.
    pub cgroup: Option<u64>,
}

/// How things stood with a socket when the kernel announced that it goes to CLOSE, before anything is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the kernel's flags, which do not depend on each other"
)]
pub struct Standing {
    /// Nothing more is to be read (`RCV_SHUTDOWN`): the process has said so, or the peer's FIN has come.
    pub receive_shutdown: bool,
    /// Nothing more is to be written (`SEND_SHUTDOWN`).
    pub send_shutdown: bool,
    /// A process holds the socket; one that was never accepted is held by none, and is no orphan either.
    pub held: bool,
    /// `SO_LINGER` is on, with a time of 0.
    pub linger0: bool,
    /// A system call has the socket locked. It may be the cause, or have been in the way of a segment that is.
    pub in_system_call: bool,
    /// `connect` has begun the connection and has returned, or waits.
    pub connecting: bool,
    /// Something that was written has never been sent.
    pub unsent: bool,
    /// Sequence numbers that the peer has not acknowledged: bytes, and one for a FIN.
    pub unacked: u32,
    /// Bytes that the application has not read.
    pub unread: u32,
    /// The window that the peer has opened, in bytes.
    pub send_window: u32,
    /// Retransmissions in a row without an answer.
    pub retransmits: u8,
    /// Keepalive or window probes in a row without an answer.
    pub probes: u8,
    /// An errno that did not end the connection by itself, such as an ICMP message told.
    pub soft_error: Option<u32>,
    /// What came of the connection.
    pub totals: Totals,
}

/// What came of a connection in its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes that the peer has acknowledged, as `tcp_info` counts them: a SYN and a FIN are one each.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time in microseconds, if one was measured.
    pub srtt_us: Option<u32>,
}

/// A `connect` that failed and left its socket in CLOSE. Where the socket has been in SYN_SENT during that call, its
/// [`StateEvent`] to CLOSE comes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectFailure {
    /// When the kernel's function returned.
    pub time: Ktime,
    /// Which socket. Its remote end is the address that the process passed to `connect`.
    pub connection: Connection,
    /// What `connect` returns to the process: an errno.
    pub error: u32,
    /// `SO_MARK`; 0 for none.
    pub fwmark: u32,
    /// The process that called `connect`.
    pub owner: Option<Owner>,
    /// The socket's user.
    pub uid: u32,
    /// The socket's control group.
    pub cgroup: Option<u64>,
}

/// Something that happened to a socket and is no change of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketMark {
    /// When.
    pub time: Ktime,
    /// Which socket.
    pub cookie: Cookie,
    /// What the kernel keeps it in.
    pub form: Form,
    /// It is a full sock in CLOSE.
    pub closed: bool,
    /// What happened.
    pub what: Occurrence,
}

/// What can happen to a socket without changing its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occurrence {
    /// A segment, or a SYN-ACK, was sent again.
    Retransmit,
    /// A RST was sent, and no segment had asked for it (`tcp_send_active_reset`).
    ResetSent,
    /// A RST was sent in answer to a segment (`tcp_v4_send_reset`).
    ResetAnswered,
    /// A RST has come (`tcp_reset`), or data that the kernel takes likewise because the socket is closed.
    ResetReceived,
}

/// What a hook in the kernel tells of a socket: where no state change is announced, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketGone {
    /// When.
    pub time: Ktime,
    /// Which.
    pub cookie: Cookie,
    /// What the kernel kept it in; its connection may go on in another.
    pub form: Form,
    /// Its ports: this host's, and the peer's.
    pub ports: (u16, u16),
    /// Why, if the hook says.
    pub why: Option<Gone>,
}

/// Why a minisock or request sock ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gone {
    /// A minisock's time is over.
    Expired,
    /// Nobody has answered a request sock's SYN-ACK, which was sent again so often.
    Unanswered(u8),
    /// A request sock's listener listens no more.
    ListenerGone,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// A time shortly before the iterator looked at it, never after.
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
    /// Its `SO_MARK`, 0 for none; of a request sock, the one that its child gets. `None` where the kernel's structure has
    /// no room for it.
    pub fwmark: Option<u32>,
    /// Whether the kernel has chosen the local port, as far as that can be told: see [`Row::autobound`](crate::table::Row::autobound).
    pub autobound: Option<bool>,
    /// The inode of the file behind it, when a process holds it.
    pub inode: Option<u64>,
    /// Of a subflow, the MPTCP socket that processes hold, once anybody has asked for its cookie.
    pub mptcp: Option<Cookie>,
    /// When its timer ends a minisock in FIN_WAIT2, to a jiffy and what had passed since `time`.
    pub due: Option<Ktime>,
    /// Its queues.
    pub queues: Queues,
}

/// A sock that is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Where it was when it was last heard of.
    pub skaddr: SkAddr,
    /// Which it is.
    pub cookie: Cookie,
    /// What that was.
    pub kind: LookKind,
}

/// What is looked at, which says what there is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookKind {
    /// A full sock that does not listen.
    Connection,
    /// A listener.
    Listener,
    /// A minisock.
    Minisock,
}

/// What a look at a sock has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It is there.
    There(Sight),
    /// What is there is something else, or is a minisock that has ended.
    Gone,
    /// Nobody can tell: something could not be read, or makes no sense.
    Unclear,
}

/// A sock, as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Its state; for a minisock its substate.
    pub state: TcpState,
    /// How many connections to a listener are half open; 0 of others.
    pub requests: u32,
    /// Its queues.
    pub queues: Queues,
}

/// The end of a sweep, or of a part of it, behind every event whose outcome the sweep can have seen until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// When the sweep, or the part, ended.
    pub time: Ktime,
    /// How far the event ring must have been read before this is folded, in bytes since it was made.
    pub position: u64,
    /// The sweep goes on.
    pub more: bool,
}

/// A descriptor of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The process, in the root PID namespace.
    pub pid: u32,
    /// As [`Owner::tid`](crate::connection::Owner::tid).
    pub tid: Option<NonZeroU32>,
    /// The number.
    pub fd: u32,
}
