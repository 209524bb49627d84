//! The record of a socket's figures: a sighting, and what the kernel counts and times for the socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::SocketSeen;

/// One socket as `iter/tcp` found it, with its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketFigures {
    /// The socket; its `kind`, with which the record begins, is [`kind::SOCKET_FIGURES`](super::kind::SOCKET_FIGURES).
    pub seen: SocketSeen,
    /// `jiffies_64` at that time.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC` at that time, in nanoseconds.
    pub monotonic: u64,
    /// Which figures are there: bit `n` for [`Count`] `n`, bit [`Count::NUMBER`]` + n` for [`Figure`] `n`.
    /// Those that are not are 0.
    pub known: u64,
    /// The figures of 64 bits, by [`Count`].
    pub counts: [u64; Count::NUMBER],
    /// The figures of 32 bits, by [`Figure`].
    pub figures: [u32; Figure::NUMBER],
}

/// A figure of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// `tcp_sock.bytes_acked`.
    BytesAcked,
    /// `tcp_sock.bytes_received`.
    BytesReceived,
    /// `tcp_sock.bytes_sent`.
    BytesSent,
    /// `tcp_sock.bytes_retrans`.
    BytesRetrans,
    /// When the retransmission timer of a full sock is due, or the one timer of the others; in jiffies.
    Expires,
    /// When the keepalive timer is due, in jiffies; only while it is armed.
    KeepaliveExpires,
    /// The cookie of a request sock's listener.
    Listener,
    /// `snt_synack` of a request sock: when its first SYN-ACK was sent, by `CLOCK_MONOTONIC` in microseconds.
    FirstSynAck,
}

impl Count {
    /// How many there are.
    pub const NUMBER: usize = Self::FirstSynAck as usize + 1;
}

/// A figure of 32 bits, or of fewer. Where a socket's own setting is 0, which stands for its namespace's, the
/// record has the namespace's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// `icsk_pending`: what the retransmission timer is armed for.
    Pending,
    /// `icsk_retransmits`; for a request sock `num_timeout`.
    Retransmits,
    /// `icsk_backoff`.
    Backoff,
    /// `icsk_probes_out`.
    ProbesOut,
    /// `icsk_probes_tstamp`, in jiffies.
    ProbesSince,
    /// Times that a SYN is sent again, for a request sock a SYN-ACK.
    SynRetries,
    /// `tcp_syn_linear_timeouts`: SYNs that are sent besides, before the timeout begins to double.
    SynLinearTimeouts,
    /// `tcp_retries2`.
    Retries,
    /// `SOCK_DEAD`: no process holds the socket any more; 0 or 1.
    Orphan,
    /// Whether `SO_KEEPALIVE` is set: 0 or 1.
    Keepalive,
    /// Keepalive's first wait, in jiffies.
    KeepaliveTime,
    /// The wait between its probes, in jiffies.
    KeepaliveInterval,
    /// How many probes it sends.
    KeepaliveProbes,
    /// `icsk_user_timeout`, in milliseconds.
    UserTimeout,
    /// `sk_shutdown`.
    Shutdown,
    /// `sk_err_soft`, an errno.
    SoftError,
    /// `icsk_rto`, in jiffies.
    Rto,
    /// The most that it grows to, in jiffies.
    RtoMax,
    /// `tcp_sock.srtt_us`, in eighths of a microsecond.
    Srtt,
    /// `tcp_sock.mdev_us`, in quarters of a microsecond.
    Mdev,
    /// `tcp_sock.rtt_min`, in microseconds.
    MinRtt,
    /// `tcp_sock.snd_cwnd`, in packets.
    Cwnd,
    /// `tcp_sock.snd_ssthresh`, in packets.
    Ssthresh,
    /// `tcp_sock.mss_cache`, in bytes.
    Mss,
    /// `tcp_sock.packets_out`.
    PacketsOut,
    /// `tcp_sock.retrans_out`.
    RetransOut,
    /// `tcp_sock.lost_out`.
    LostOut,
    /// `tcp_sock.sacked_out`.
    SackedOut,
    /// `tcp_sock.total_retrans`; for a request sock `num_retrans`.
    TotalRetrans,
    /// `snd_nxt - snd_una`, in bytes.
    Unacked,
    /// `write_seq - snd_nxt`, in bytes.
    Unsent,
    /// `tcp_sock.snd_wnd`, in bytes.
    SendWindow,
    /// `tcp_receive_window`: what is left of the window that was advertised last, in bytes.
    ReceiveWindow,
    /// `tcp_sock.rcv_ssthresh`, in bytes.
    ReceiveLimit,
    /// `tcp_sock.lsndtime`, in jiffies.
    LastSent,
    /// `icsk_ack.lrcvtime`, in jiffies.
    LastReceived,
    /// `tcp_sock.rcv_tstamp`, in jiffies.
    LastAck,
    /// `sk_sndbuf`, in bytes.
    SendBuffer,
    /// `sk_rcvbuf`, in bytes.
    ReceiveBuffer,
    /// `sk_rmem_alloc`, in bytes.
    ReceiveMemory,
    /// A listener's `icsk_accept_queue.qlen`: half-open connections.
    Requests,
    /// `sk_drops`.
    Drops,
    /// The first timeout of a request sock, in jiffies.
    FirstTimeout,
    /// `acked` of a request sock: whether its client has answered; 0 or 1.
    Answered,
    /// `tw_entry_stamp` of a minisock, by `CLOCK_MONOTONIC` in milliseconds.
    Entered,
    /// `tcp_fin_timeout` of a minisock's namespace, in jiffies.
    FinTimeout,
    /// `retrans_stamp`, by `CLOCK_MONOTONIC`.
    SentAgain,
    /// Whether that is in microseconds, and not in milliseconds: 0 or 1.
    MicrosecondStamps,
    /// `skc_ipv6only`: 0 or 1; not of a request sock, which has no setting of its own.
    V6Only,
}

impl Figure {
    /// How many there are; even, so that [`SocketFigures`] has no padding.
    pub const NUMBER: usize = (Self::V6Only as usize + 1).next_multiple_of(2);
}

impl SocketFigures {
    /// A figure of 64 bits, unless it is not known.
    #[must_use]
    pub const fn count(&self, which: Count) -> Option<u64> {
        if self.known & 1 << which as usize == 0 {
            return None;
        }
        Some(self.counts[which as usize])
    }

    /// A figure of 32 bits, unless it is not known.
    #[must_use]
    pub const fn figure(&self, which: Figure) -> Option<u32> {
        if self.known & 1 << (Count::NUMBER + which as usize) == 0 {
            return None;
        }
        Some(self.figures[which as usize])
    }

    /// Sets a figure of 64 bits.
    #[inline]
    pub const fn set_count(&mut self, which: Count, value: u64) {
        self.known |= 1 << which as usize;
        self.counts[which as usize] = value;
    }

    /// Sets a figure of 32 bits.
    #[inline]
    pub const fn set_figure(&mut self, which: Figure, value: u32) {
        self.known |= 1 << (Count::NUMBER + which as usize);
        self.figures[which as usize] = value;
    }
}
