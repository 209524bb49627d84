//! What the kernel counts and times for one socket, at the moment of a question.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Form, Queues};
use crate::{clock::Ktime, connection::Cookie, tcp::TcpState};

/// The figures of one socket. `None` is what the kernel does not have, or what means nothing for this socket: a
/// listener and a minisock have hardly any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// When they were read, with the socket locked.
    pub time: Ktime,
    /// Its state then, which an event may have changed since.
    pub state: TcpState,
    /// The structure that the kernel had it in then.
    pub form: Form,
    /// The inode of the file behind it: whether a process holds it.
    pub inode: Option<u64>,
    /// `SOCK_DEAD`: no process holds it any more. Neither orphan nor inode: it waits to be accepted.
    pub orphan: Option<bool>,
    /// For how long it has been what it is, by the kernel's own clock: a request sock since its first SYN-ACK
    /// (`snt_synack`), a minisock since it came into its state (`tw_entry_stamp`, 6.14); in the form of a full sock it may
    /// have been in FIN_WAIT2 before.
    pub age: Option<Duration>,
    /// `IPV6_V6ONLY`: an IPv6 socket takes no IPv4. A request sock has no setting of its own.
    pub v6only: Option<bool>,
    /// Its queues.
    pub queues: Queues,
    /// What the kernel waits for.
    pub timer: Option<Timer>,
    /// What has run out and been sent again.
    pub attempts: Attempts,
    /// When the kernel gives up.
    pub limits: Limits,
    /// The way to the peer.
    pub path: Path,
    /// What goes and has gone out.
    pub sent: Sent,
    /// What comes and has come in.
    pub received: Received,
    /// `sk_shutdown`: this side will send no more.
    pub send_shutdown: Option<bool>,
    /// `sk_shutdown`: this side will receive no more. A FIN of the peer's sets it too (`tcp_fin`).
    pub receive_shutdown: Option<bool>,
    /// `sk_err_soft`: an error that has not ended the connection, such as one that ICMP told; an errno.
    pub soft_error: Option<u32>,
    /// A listener's connections to come.
    pub listening: Option<Listening>,
    /// The listener of a request sock.
    pub listener: Option<Cookie>,
}

/// A socket's timer: the one that `netstat -o` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// What for.
    pub kind: TimerKind,
    /// In how long it runs out; zero when it is off, or overdue.
    pub due: Duration,
}

/// What a timer is armed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimerKind {
    /// Nothing.
    Off,
    /// To send again what is not acknowledged (`ICSK_TIME_RETRANS`): SYN and FIN too.
    Retransmit,
    /// To send again what seems reordered, and may be lost (`ICSK_TIME_REO_TIMEOUT`).
    Reordering,
    /// To send the tail again, before the retransmission timeout does (`ICSK_TIME_LOSS_PROBE`).
    LossProbe,
    /// To ask whether the peer's window is still closed (`ICSK_TIME_PROBE0`).
    WindowProbe,
    /// To ask whether a silent peer is still there (`tcp_keepalive_timer`).
    Keepalive,
    /// To end FIN_WAIT2, when the peer does not close (the same timer).
    FinWait2,
    /// To end a minisock.
    TimeWait,
    /// To send a SYN-ACK again (`reqsk_timer_handler`).
    SynAck,
    /// One that this program does not know: `icsk_pending`.
    Other(u8),
}

/// What has been tried in vain, and tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attempts {
    /// Timeouts since the last acknowledgement: of the SYN, of data, or of the FIN; of a request sock's SYN-ACK.
    /// With more than [`Limits::syn_retries`] or [`Limits::retries`], as it may be, the kernel gives up.
    pub retransmits: Option<u32>,
    /// How often the timeout has been doubled since.
    pub backoff: Option<u32>,
    /// Probes that have not been answered: of a closed window, or of a silent peer.
    pub probes: Option<u32>,
    /// For how long the peer's window has been too small for the next packet, whether probes are answered or not:
    /// since the first probe (`tcp_probe_timer`), until there is room again (`tcp_ack_probe`).
    pub probing: Option<Duration>,
    /// How long ago something that is not acknowledged was sent again first; where that failed, when it was sent first. In
    /// SYN_SENT, when the first SYN was sent (`retrans_stamp`).
    pub since: Option<Duration>,
    /// Of a request sock: the first timeout, of which the others are multiples.
    pub first_timeout: Option<Duration>,
    /// Of a request sock: whether the client has answered, and is let in once it sends data (`TCP_DEFER_ACCEPT`), or once
    /// there is room in the accept queue (`inet_request_sock.acked`).
    pub answered: Option<bool>,
    /// Retransmissions since the beginning, in packets; of a request sock, SYN-ACKs sent again.
    pub total_retransmits: Option<u32>,
}

/// The socket's settings, or its namespace's where it has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// How often a SYN is sent again (`TCP_SYNCNT`, `tcp_syn_retries`; and in SYN_SENT `tcp_syn_linear_timeouts`
    /// besides, see `tcp_write_timeout`); for a request sock, a SYN-ACK (`tcp_synack_retries`; less where its listener
    /// has many of them, see `reqsk_timer_handler`).
    pub syn_retries: Option<u32>,
    /// `tcp_retries2`: how many timeouts end a connection; fewer for an orphan (`tcp_orphan_retries`).
    pub retries: Option<u32>,
    /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged; `None` when not set.
    pub user_timeout: Option<Duration>,
    /// `tcp_fin_timeout`: how long FIN_WAIT2 lasts that no process holds; of minisocks alone.
    pub fin_timeout: Option<Duration>,
    /// Whether `SO_KEEPALIVE` is set.
    pub keepalive: Option<bool>,
    /// How long a peer may be silent before it is asked (`TCP_KEEPIDLE`).
    pub keepalive_time: Option<Duration>,
    /// How long it has to answer (`TCP_KEEPINTVL`).
    pub keepalive_interval: Option<Duration>,
    /// How often it is asked (`TCP_KEEPCNT`).
    pub keepalive_probes: Option<u32>,
}

/// What the way to the peer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Path {
    /// Smoothed round-trip time; `None` before the first measurement.
    pub rtt: Option<Duration>,
    /// Its mean deviation.
    pub rtt_deviation: Option<Duration>,
    /// The shortest one lately (`tcp_min_rtt_wlen`).
    pub rtt_min: Option<Duration>,
    /// Retransmission timeout; the first one, of which backoff makes more.
    pub rto: Option<Duration>,
    /// The most that it grows to (`TCP_RTO_MAX_MS`).
    pub rto_max: Option<Duration>,
    /// Congestion window, in packets.
    pub cwnd: Option<u32>,
    /// Slow start threshold, in packets; `None` while it is infinite.
    pub ssthresh: Option<u32>,
    /// Maximum segment size, in bytes.
    pub mss: Option<u32>,
}

/// What goes out, and has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Bytes of data, those of retransmissions included.
    pub bytes: Option<u64>,
    /// Bytes acknowledged; the kernel counts SYN and FIN as one each.
    pub bytes_acked: Option<u64>,
    /// Bytes of data retransmitted.
    pub bytes_retransmitted: Option<u64>,
    /// Sequence numbers sent and not yet acknowledged: bytes, and one each for SYN and FIN.
    pub unacked: Option<u32>,
    /// Bytes written and not yet sent.
    pub unsent: Option<u32>,
    /// Packets sent and not yet acknowledged,
    pub packets_out: Option<u32>,
    /// and of those: retransmitted,
    pub packets_retransmitted: Option<u32>,
    /// taken for lost,
    pub packets_lost: Option<u32>,
    /// known to have arrived, behind a gap.
    pub packets_sacked: Option<u32>,
    /// The peer's window, in bytes from the first one that is not acknowledged; 0 when it is closed.
    pub window: Option<u32>,
    /// Limit of the send buffer, in bytes of memory.
    pub buffer: Option<u32>,
    /// How long ago data was sent last; `None` when never.
    pub last: Option<Duration>,
    /// How long ago an acknowledgement came last; `None` when never.
    pub last_ack: Option<Duration>,
}

/// What comes in, and has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Received {
    /// Bytes in order, read or not; the kernel counts a FIN as one.
    pub bytes: Option<u64>,
    /// What is left of the window that the peer was told last, in bytes; 0 when it may not send.
    pub window: Option<u32>,
    /// The most that it is going to be told (`rcv_ssthresh`), in bytes.
    pub window_limit: Option<u32>,
    /// Memory that packets not yet read take, in bytes; not far from [`buffer`](Self::buffer) the window is closed.
    pub memory: Option<u32>,
    /// Limit of the receive buffer, in bytes of memory.
    pub buffer: Option<u32>,
    /// How long ago data was received last; `None` when never.
    pub last: Option<Duration>,
}

/// What comes to a listener. Its accept queue's length and limit are [`Queues::recv`] and [`Queues::backlog`]; the
/// kernel lets one more in than the limit says (`sk_acceptq_is_full`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listening {
    /// Half-open connections.
    pub requests: Option<u32>,
    /// What it has dropped since it was made (`sk_drops`): SYNs and last handshake packets for which there was no
    /// room in the accept queue, among others. Wraps.
    pub drops: Option<u32>,
}
