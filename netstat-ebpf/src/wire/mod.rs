//! The records that the BPF programs write and user space decodes.
//!
//! Every record starts with its `kind` and has one fixed size. Fields are in host byte order unless they
//! say otherwise; times are nanoseconds of `CLOCK_BOOTTIME`, which goes on while the host is suspended.

mod figures;
pub mod look;

pub use figures::{Count, Figure, SocketFigures};
pub use look::SocketLook;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a record is: the first four bytes of each.
pub mod kind {
    /// A [`StateChange`](super::StateChange).
    pub const STATE_CHANGE: u32 = 1;
    /// A [`SocketSeen`](super::SocketSeen).
    pub const SOCKET_SEEN: u32 = 2;
    /// A [`SweepEnd`](super::SweepEnd).
    pub const SWEEP_END: u32 = 3;
    /// A [`SocketHeld`](super::SocketHeld).
    pub const SOCKET_HELD: u32 = 4;
    /// A [`SocketNews`](super::SocketNews).
    pub const SOCKET_NEWS: u32 = 5;
    /// A [`SocketGone`](super::SocketGone).
    pub const SOCKET_GONE: u32 = 6;
    /// A [`SocketFigures`](super::SocketFigures).
    pub const SOCKET_FIGURES: u32 = 7;
    /// A [`StateEnd`](super::StateEnd).
    pub const STATE_END: u32 = 8;
    /// A [`NamespaceHeld`](super::NamespaceHeld).
    pub const NAMESPACE_HELD: u32 = 10;
    /// A [`SocketMark`](super::SocketMark).
    pub const SOCKET_MARK: u32 = 9;
    /// A [`ConnectFailure`](super::ConnectFailure).
    pub const CONNECT_FAILURE: u32 = 11;
}

/// Bits of [`Socket::flags`].
pub mod socket {
    /// A subflow of an MPTCP connection (`tcp_sock.is_mptcp`).
    pub const MPTCP: u32 = 1 << 0;
}

/// Bits of [`SocketSeen::flags`].
pub mod seen {
    /// [`SocketSeen::fwmark`](super::SocketSeen::fwmark) is known: the kernel's structure has it.
    pub const FWMARK: u8 = 1 << 0;
    /// It is known whether the next bit is right, which only the scan with figures reads.
    pub const PORT_CHOICE: u8 = 1 << 1;
    /// The local port is one of those that the kernel chooses (`ip_local_port_range`), and no process is known to have chosen it
    /// (`SOCK_BINDPORT_LOCK`, which only a full sock has).
    pub const AUTOBOUND: u8 = 1 << 2;
}

/// Bits of [`SocketHeld::flags`].
pub mod held {
    /// An MPTCP socket, whose cookie nobody had asked for before.
    pub const FIRST_ASKED: u32 = 1 << 0;
}

/// Bits of [`StateChange::flags`].
pub mod flag {
    /// The current task is the one that acts on the socket, not one that softirq interrupted.
    pub const TASK_IS_OWNER: u32 = 1 << 0;
    /// `SOCK_DONE`: the peer's FIN has arrived (`tcp_fin`).
    pub const PEER_FIN: u32 = 1 << 1;
    /// `SOCK_DEAD`: no process holds the socket any more (`sock_orphan`).
    pub const ORPHAN: u32 = 1 << 2;
    /// `linger2` is negative: the kernel will not keep FIN_WAIT2.
    pub const NO_LINGER2: u32 = 1 << 3;
    /// `sk_shutdown` has `RCV_SHUTDOWN`. This and what follows is told only of ends.
    pub const RCV_SHUTDOWN: u32 = 1 << 4;
    /// `sk_shutdown` has `SEND_SHUTDOWN`.
    pub const SEND_SHUTDOWN: u32 = 1 << 5;
    /// `sk_socket` is there: a process holds the socket. Not so before it is accepted.
    pub const HELD: u32 = 1 << 6;
    /// `SO_LINGER` is on, with a time of 0.
    pub const LINGER_0: u32 = 1 << 7;
    /// A system call has the socket locked.
    pub const IN_SYSTEM_CALL: u32 = 1 << 8;
    /// `connect` has returned, or waits (`SS_CONNECTING`), and the connection is not there yet.
    pub const CONNECTING: u32 = 1 << 9;
    /// Not everything that was written has been sent (`snd_nxt`, `write_seq`).
    pub const UNSENT: u32 = 1 << 10;
}

/// Bits of [`SweepEnd::flags`].
pub mod sweep {
    /// The sweep goes on: this is the end of a part.
    pub const MORE: u32 = 1 << 0;
}

/// Which structure the kernel keeps a socket in: [`SocketSeen::form`].
pub mod form {
    /// A full `struct sock`.
    pub const FULL: u8 = 0;
    /// A `struct inet_timewait_sock`: TIME_WAIT, or FIN_WAIT2 that no process holds any more.
    pub const MINISOCK: u8 = 1;
    /// A `struct request_sock`: a handshake that is not complete.
    pub const REQUEST: u8 = 2;
}

/// What has happened to the socket of a [`SocketNews`]: [`SocketNews::change`].
pub mod change {
    /// The kernel has just made it.
    pub const MADE: u8 = 0;
    /// It was there before, and is in this state now.
    pub const CHANGED: u8 = 1;
}

/// Why a sock of a [`SocketGone`] ends: [`SocketGone::cause`].
pub mod cause {
    /// The hook does not say.
    pub const UNKNOWN: u8 = 0;
    /// Its time is over: of a minisock; or of a request sock whose SYN-ACK nobody has answered.
    pub const EXPIRED: u8 = 1;
    /// The listener of a request sock listens no more.
    pub const LISTENER_GONE: u8 = 2;
}

/// What a [`SocketMark`] tells: [`SocketMark::mark`].
pub mod mark {
    /// A segment was sent again, or a SYN-ACK.
    pub const RETRANSMIT: u8 = 0;
    /// A RST was sent without a segment that asked for it.
    pub const RESET_SENT: u8 = 1;
    /// A RST was sent in answer to a segment.
    pub const RESET_ANSWERED: u8 = 2;
    /// A RST has come, or the kernel does as if.
    pub const RESET_RECEIVED: u8 = 3;
}

/// Indices into the per-CPU counters of records that found no room in the ring.
pub mod lost {
    /// [`StateChange`](super::StateChange) records.
    pub const STATE_CHANGE: u32 = 0;
    /// [`SocketNews`](super::SocketNews) and [`SocketGone`](super::SocketGone) records.
    pub const NEWS: u32 = 1;
    /// [`SocketMark`](super::SocketMark) and [`ConnectFailure`](super::ConnectFailure) records.
    pub const MARK: u32 = 2;
    /// How many counters there are.
    pub const COUNT: u32 = 3;
}

/// Indices into the per-CPU values by which the tracepoint's stand-in knows when it is needed.
pub mod stand_in {
    /// Not 0 while the tracepoint's program runs on the CPU.
    pub const UNDER_WAY: u32 = 0;
    /// How many events the stand-in has taken.
    pub const TAKEN: u32 = 1;
    /// How many values there are.
    pub const COUNT: u32 = 2;
}

/// Length of a task's name, the closing NUL included (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Who a socket is: the part that all records about one have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Socket {
    /// `sock_gen_cookie`: unique while the host is up.
    pub cookie: u64,
    /// Address of the kernel's structure; reused once it is freed.
    pub skaddr: u64,
    /// Id of the control group; 0 when not known.
    pub cgroup: u64,
    /// In network order; an IPv4 address takes the first four bytes, the others are 0.
    pub local_addr: [u8; 16],
    /// As `local_addr`.
    pub remote_addr: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The owner's user id; 0 for a minisock, which has none.
    pub uid: u32,
    /// 0 while no port is bound.
    pub local_port: u16,
    /// 0 for a listener.
    pub remote_port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// `IPPROTO_TCP` (6).
    pub protocol: u16,
    /// Index of the device that the socket is bound to; 0 for none. Ends can be alike on two devices.
    pub device: u32,
    /// Bits of [`socket`]; 0 for a minisock and a request sock.
    pub flags: u32,
}

/// One call of `inet_sock_set_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StateChange {
    /// [`kind::STATE_CHANGE`].
    pub kind: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// When the tracepoint fired, just before the new state is stored.
    pub time: u64,
    /// The socket.
    pub socket: Socket,
    /// The current task's process id (`tgid`) with [`flag::TASK_IS_OWNER`], else 0; as what follows up to `start`.
    pub pid: u32,
    /// `SO_MARK` of the socket, whoever acts; 0 for none.
    pub fwmark: u32,
    /// The process's name, which is its first thread's, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// When the process was started: with its id, what no other process has.
    pub start: u64,
    /// The socket's pending error: an errno, or 0.
    pub sk_err: u32,
    /// State before.
    pub old_state: u8,
    /// State after.
    pub new_state: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// What is told of a socket that goes to CLOSE besides: how things stood, before anything is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct End {
    /// Bytes that the peer has acknowledged (`tcp_sock.bytes_acked`), its SYN and FIN counted.
    pub bytes_acked: u64,
    /// Bytes received in order (`tcp_sock.bytes_received`).
    pub bytes_received: u64,
    /// Sequence numbers that are not acknowledged: written bytes, and a FIN.
    pub unacked: u32,
    /// Bytes that the application has not read; the peer's FIN is none.
    pub unread: u32,
    /// Segments sent again in the whole life (`tcp_sock.total_retrans`).
    pub total_retrans: u32,
    /// Smoothed round-trip time in eighths of a microsecond (`tcp_sock.srtt_us`); 0 when none was measured.
    pub srtt_us: u32,
    /// The window that the peer has opened, in bytes.
    pub snd_wnd: u32,
    /// An error that did not end the connection by itself, such as an ICMP message told: an errno, or 0.
    pub sk_err_soft: u32,
    /// Retransmissions in a row without an answer (`icsk_retransmits`).
    pub retransmits: u8,
    /// Keepalive or window probes in a row without an answer (`icsk_probes_out`).
    pub probes: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// One call of `inet_sock_set_state` with the new state CLOSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StateEnd {
    /// As of any other; its kind is [`kind::STATE_END`].
    pub change: StateChange,
    /// How things stood.
    pub end: End,
}

/// Something that happened to a socket and is no change of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketMark {
    /// [`kind::SOCKET_MARK`].
    pub kind: u32,
    /// One of [`mark`].
    pub mark: u8,
    /// `skc_state`: `TCP_TIME_WAIT` for a minisock, `TCP_NEW_SYN_RECV` for a request sock.
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// When.
    pub time: u64,
    /// `sock_gen_cookie`.
    pub cookie: u64,
}

/// A `connect` that failed and left its socket in CLOSE. Where the socket has been in SYN_SENT during that call, a
/// [`StateEnd`] comes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConnectFailure {
    /// [`kind::CONNECT_FAILURE`].
    pub kind: u32,
    /// What `connect` returns to the process: an errno, positive.
    pub error: u32,
    /// When the kernel's function returned.
    pub time: u64,
    /// The socket; its remote end is the address that the process passed to `connect`.
    pub socket: Socket,
    /// The id of the process that called `connect` (`tgid`); 0 for a kernel thread.
    pub pid: u32,
    /// `SO_MARK` of the socket; 0 for none.
    pub fwmark: u32,
    /// The process's name, as in [`StateChange`].
    pub comm: [u8; COMM_LEN],
    /// As in [`StateChange`].
    pub start: u64,
}

/// One socket as `iter/tcp` found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketSeen {
    /// [`kind::SOCKET_SEEN`]; in a [`SocketFigures`], [`kind::SOCKET_FIGURES`].
    pub kind: u32,
    /// State; for a minisock its substate, for a request sock SYN_RECV.
    pub state: u8,
    /// One of [`form`].
    pub form: u8,
    /// Bits of [`seen`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// A time shortly before the iterator looked, with the socket locked; never after.
    pub time: u64,
    /// The socket.
    pub socket: Socket,
    /// Inode number of the file behind it; 0 when no process holds it.
    pub inode: u64,
    /// Of a subflow, the cookie of its MPTCP socket, which is what processes hold; 0 when that has none yet.
    pub mptcp: u64,
    /// Bytes not yet read; for a listener, connections not yet accepted.
    pub recv_q: u32,
    /// Bytes not yet acknowledged.
    pub send_q: u32,
    /// For a listener, its limit on connections not yet accepted; else 0.
    pub backlog: u32,
    /// Of a minisock in FIN_WAIT2, one more than the jiffies that are left until its timer ends it; else, or when that is
    /// not known, 0.
    pub due_in: u32,
    /// `SO_MARK`, which a minisock keeps and a request sock has for its child; 0 for none.
    pub fwmark: u32,
    /// Zero.
    pub padding: u32,
}

/// The end of one sweep of `iter/tcp`, or of a part of it, written behind the last [`SocketSeen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SweepEnd {
    /// [`kind::SWEEP_END`].
    pub kind: u32,
    /// Bits of [`sweep`].
    pub flags: u32,
    /// When the sweep, or the part, ended.
    pub time: u64,
    /// The producer position of the event ring: every event whose outcome the sweep can have seen before is in front
    /// of it, or was lost (`BPF_RB_PROD_POS`).
    pub position: u64,
}

/// What a hook in the kernel's code tells of a socket, where no tracepoint does: a minisock has been made or has
/// changed its substate, a request sock has been made, `connect` has chosen a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketNews {
    /// [`kind::SOCKET_NEWS`].
    pub kind: u32,
    /// The state that it is in now.
    pub state: u8,
    /// One of [`form`].
    pub form: u8,
    /// One of [`change`].
    pub change: u8,
    /// Zero.
    pub reserved: u8,
    /// When the hook was passed.
    pub time: u64,
    /// The socket.
    pub socket: Socket,
}

/// What a hook tells of a minisock or request sock that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketGone {
    /// [`kind::SOCKET_GONE`].
    pub kind: u32,
    /// [`form::MINISOCK`] or [`form::REQUEST`].
    pub form: u8,
    /// One of [`cause`].
    pub cause: u8,
    /// How often a request sock's SYN-ACK was sent again; else zero.
    pub tries: u8,
    /// Zero.
    pub reserved: u8,
    /// When the hook was passed.
    pub time: u64,
    /// `sock_gen_cookie`; 0 when the sock has none, and so was never reported.
    pub cookie: u64,
    /// Its ports in host order: a socket that is used again shares its cookie with the minisocks of its connections
    /// before.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Zero.
    pub padding: u32,
}

/// One file descriptor that tells of a namespace, as `iter/task_file` found it: of a file of nsfs, which leads into a namespace
/// of whatever kind; or of a socket, of whatever family, in another network namespace than its process's, which leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NamespaceHeld {
    /// [`kind::NAMESPACE_HELD`].
    pub kind: u32,
    /// The descriptor's number.
    pub fd: u32,
    /// The process.
    pub pid: u32,
    /// As [`SocketHeld::tid`].
    pub tid: u32,
    /// The socket's network namespace, by inode number; zero of a file of nsfs.
    pub netns: u32,
}

/// One file descriptor that holds a TCP or MPTCP socket, as `iter/task_file` found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketHeld {
    /// [`kind::SOCKET_HELD`].
    pub kind: u32,
    /// The descriptor's number.
    pub fd: u32,
    /// When the iterator looked.
    pub time: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// The process id in the root PID namespace.
    pub pid: u32,
    /// See [`held`].
    pub flags: u32,
    /// The thread in whose descriptor table it was found, in the root PID namespace; zero of the process's first thread, whose
    /// table most threads share.
    pub tid: u32,
    /// Zero.
    pub padding: u32,
    /// When the process was started: with its id, what no other process has.
    pub start: u64,
    /// The process's name, which is its first thread's, NUL-padded.
    pub comm: [u8; COMM_LEN],
}
