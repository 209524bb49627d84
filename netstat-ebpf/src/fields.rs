//! The kernel structure fields that the BPF programs read.
//!
//! rustc emits no CO-RE relocations, so the offsets are read from the running kernel's BTF when the
//! programs are loaded and handed to them as one read-only global, [`Offsets`]. The verifier takes a
//! frozen read-only global for a constant, so `sk + offset` remains a pointer that it can type.

use zerocopy::{Immutable, IntoBytes};

/// Stands in [`Offsets`] for a field that the running kernel does not have.
///
/// Only fields with [`KernelField::required`] `false` can be absent; the programs test for it.
pub const ABSENT: u32 = u32::MAX;

/// One kernel field: where it is named in BTF, and whether netstate can do without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelField {
    /// The structure's name in BTF, without `struct`.
    pub owner: &'static str,
    /// The path of members from that structure to the field, with dots between them.
    pub path: &'static str,
    /// Whether the programs cannot load without the field.
    pub required: bool,
    /// Structure and path where other kernels have it, tried when the first is not there.
    pub elsewhere: Option<(&'static str, &'static str)>,
    /// Only older kernels have it, and newer ones need it not.
    pub former: bool,
    /// It is a bit field: [`Offsets`] holds its place as [`bits`] packs it.
    pub bits: bool,
}

/// The place of a bit field, which must lie within one byte: its first bit, counted from the start of the structure,
/// and its width, as one number; `None` when it does not fit.
#[must_use]
pub const fn bits(first: u32, width: u32) -> Option<u32> {
    if first % 8 + width <= 8 && first < 1 << 24 {
        Some(first << 8 | width)
    } else {
        None
    }
}

macro_rules! kernel_fields {
    ($($(#[$doc:meta])* $name:ident = $owner:literal, $path:literal, $need:ident
        $(, or $other:literal, $other_path:literal)?;)*) => {
        /// Byte offsets of the kernel fields, each from the start of its structure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, IntoBytes, Immutable)]
        #[repr(C)]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Offsets {
            /// The fields in the order of the structure's members.
            pub const FIELDS: &'static [KernelField] = &[
                $(KernelField {
                    owner: $owner,
                    path: $path,
                    required: matches!(kernel_fields!(@$need), Need::Required),
                    elsewhere: kernel_fields!(@or $($other, $other_path)?),
                    former: matches!(kernel_fields!(@$need), Need::Former),
                    bits: matches!(kernel_fields!(@$need), Need::Bits),
                },)*
            ];

            /// Every field absent: the value that the object file carries until it is loaded.
            pub const ABSENT: Self = Self { $($name: ABSENT,)* };

            /// Asks `offset_of` for each field in turn and stops at its first error.
            ///
            /// # Errors
            ///
            /// The first error that `offset_of` returns.
            pub fn resolve<E>(
                mut offset_of: impl FnMut(&'static KernelField) -> Result<u32, E>,
            ) -> Result<Self, E> {
                let mut fields = Self::FIELDS.iter();
                Ok(Self { $($name: match fields.next() {
                    Some(field) => offset_of(field)?,
                    None => ABSENT,
                },)* })
            }
        }
    };
    (@required) => { Need::Required };
    (@optional) => { Need::Optional };
    (@former) => { Need::Former };
    (@bits) => { Need::Bits };
    (@or) => { None };
    (@or $owner:literal, $path:literal) => { Some(($owner, $path)) };
}

/// What the list below says of a field: bit fields and former fields are optional too.
enum Need {
    Required,
    Optional,
    Former,
    Bits,
}

kernel_fields! {
    /// `AF_INET` or `AF_INET6`; u16.
    skc_family = "sock_common", "skc_family", required;
    /// The TCP state; u8. `TCP_NEW_SYN_RECV` for a request sock, `TCP_TIME_WAIT` for a minisock.
    skc_state = "sock_common", "skc_state", required;
    /// Local port in host order; u16.
    skc_num = "sock_common", "skc_num", required;
    /// Remote port in network order; u16.
    skc_dport = "sock_common", "skc_dport", required;
    /// Local IPv4 address; u32 in network order.
    skc_rcv_saddr = "sock_common", "skc_rcv_saddr", required;
    /// Remote IPv4 address; u32 in network order.
    skc_daddr = "sock_common", "skc_daddr", required;
    /// Local IPv6 address; 16 bytes. Absent without `CONFIG_IPV6`.
    skc_v6_rcv_saddr = "sock_common", "skc_v6_rcv_saddr", optional;
    /// Remote IPv6 address; 16 bytes. Absent without `CONFIG_IPV6`.
    skc_v6_daddr = "sock_common", "skc_v6_daddr", optional;
    /// The network namespace; pointer to `net`.
    skc_net = "sock_common", "skc_net.net", required;
    /// Index of the device that the socket is bound to, 0 for none; int.
    skc_bound_dev_if = "sock_common", "skc_bound_dev_if", required;
    /// Whether an IPv6 socket takes no IPv4 (`IPV6_V6ONLY`); one bit.
    skc_ipv6only = "sock_common", "skc_ipv6only", bits;
    /// `SOCK_DEAD`, `SOCK_DONE` and the other bits of `enum sock_flags`; unsigned long.
    skc_flags = "sock_common", "skc_flags", required;
    /// The namespace's inode number; u32.
    net_inum = "net", "ns.inum", required;
    /// `IPPROTO_TCP`, `IPPROTO_MPTCP` (262), …; u16.
    sk_protocol = "sock", "sk_protocol", required;
    /// The pending error; int.
    sk_err = "sock", "sk_err", required;
    /// Whether a system call has the socket locked; int.
    sk_lock_owned = "sock", "sk_lock.owned", required;
    /// Owner of the socket's inode; u32.
    sk_uid = "sock", "sk_uid", required;
    /// `SO_MARK`; u32.
    sk_mark = "sock", "sk_mark", required;
    /// `SOCK_BINDPORT_LOCK` and the other locks; four bits, on some kernels (6.18) a byte.
    sk_userlocks = "sock", "sk_userlocks", bits;
    /// Connections that wait for accept; u32.
    sk_ack_backlog = "sock", "sk_ack_backlog", required;
    /// The listener's limit on those; u32.
    sk_max_ack_backlog = "sock", "sk_max_ack_backlog", required;
    /// The `socket` that user space holds, NULL for an orphan; pointer.
    sk_socket = "sock", "sk_socket", required;
    /// The number of the inode behind it; unsigned long. Since 6.18.
    sk_ino = "sock", "sk_ino", optional;
    /// The kernel uses the socket itself, so no file leads to it; a bit.
    sk_kern_sock = "sock", "sk_kern_sock", bits;
    /// The socket's control group; pointer to `cgroup`. Absent without `CONFIG_SOCK_CGROUP_DATA`.
    sk_cgroup = "sock", "sk_cgrp_data.cgroup", optional;
    /// The group's kernfs node; pointer.
    cgroup_kn = "cgroup", "kn", optional;
    /// The node's id, which `stat` shows as the inode of the group's folder; u64.
    kn_id = "kernfs_node", "id", optional;
    /// An error that has not ended the connection; int.
    sk_err_soft = "sock", "sk_err_soft", required;
    /// `RCV_SHUTDOWN` and `SEND_SHUTDOWN`; u8.
    sk_shutdown = "sock", "sk_shutdown", required;
    /// The time of `SO_LINGER` in ticks; unsigned long.
    sk_lingertime = "sock", "sk_lingertime", required;
    /// `SS_CONNECTING` and the other states of a `socket`; enum.
    socket_state = "socket", "state", required;
    /// The file behind a socket; pointer.
    socket_file = "socket", "file", required;
    /// The sock behind a `socket`; pointer.
    socket_sk = "socket", "sk", required;
    /// The file's inode; pointer.
    file_inode = "file", "f_inode", required;
    /// The inode's number, as in `/proc/net/tcp`; unsigned long.
    inode_number = "inode", "i_ino", required;
    /// The inode's file system; pointer to `super_block`.
    inode_sb = "inode", "i_sb", optional;
    /// Which file system that is; unsigned long.
    sb_magic = "super_block", "s_magic", optional;
    /// Local port in network order, kept after unhashing has cleared `skc_num`; u16.
    inet_sport = "inet_sock", "inet_sport", required;
    /// Next byte expected; u32.
    rcv_nxt = "tcp_sock", "rcv_nxt", required;
    /// First byte not yet read by the application; u32.
    copied_seq = "tcp_sock", "copied_seq", required;
    /// Byte after the last one written by the application; u32.
    write_seq = "tcp_sock", "write_seq", required;
    /// First byte not yet acknowledged; u32.
    snd_una = "tcp_sock", "snd_una", required;
    /// Next byte to send; u32.
    snd_nxt = "tcp_sock", "snd_nxt", required;
    /// The window that the peer has opened; u32.
    snd_wnd = "tcp_sock", "snd_wnd", required;
    /// Smoothed round-trip time in eighths of a microsecond; u32.
    srtt_us = "tcp_sock", "srtt_us", required;
    /// Bytes acknowledged by the peer; u64.
    bytes_acked = "tcp_sock", "bytes_acked", required;
    /// Bytes received in order; u64.
    bytes_received = "tcp_sock", "bytes_received", required;
    /// Segments sent again; u32.
    total_retrans = "tcp_sock", "total_retrans", required;
    /// Retransmissions in a row; u8.
    icsk_retransmits = "inet_connection_sock", "icsk_retransmits", required;
    /// Probes in a row; u8.
    icsk_probes_out = "inet_connection_sock", "icsk_probes_out", required;
    /// `TCP_LINGER2`; int, negative when FIN_WAIT2 is to be skipped.
    linger2 = "tcp_sock", "linger2", required;
    /// Whether this is a subflow of an MPTCP connection; bool. Absent without `CONFIG_MPTCP`.
    is_mptcp = "tcp_sock", "is_mptcp", optional;
    /// What a subflow's protocol above TCP keeps with it, for MPTCP an `mptcp_subflow_context`; pointer to void.
    icsk_ulp_data = "inet_connection_sock", "icsk_ulp_data", optional;
    /// The MPTCP socket of a subflow; pointer to `sock`. Absent without `CONFIG_MPTCP`.
    subflow_conn = "mptcp_subflow_context", "conn", optional;
    /// `TCP_FIN_WAIT2` or `TCP_TIME_WAIT`; u8.
    tw_substate = "inet_timewait_sock", "tw_substate", required;
    /// The mark of the socket that a minisock is left of; u32.
    tw_mark = "inet_timewait_sock", "tw_mark", optional;
    /// The timer that ends a minisock; `timer_list`. Without it that is left to sweeps.
    tw_timer = "inet_timewait_sock", "tw_timer", optional;
    /// When it came into its state, by `CLOCK_MONOTONIC` in milliseconds; u32. Since 6.14.
    tw_entry_stamp = "inet_timewait_sock", "tw_entry_stamp", optional;
    /// The cookie as it is stored, 0 while nobody has asked for it; u64.
    skc_cookie = "sock_common", "skc_cookie", required;
    /// References to a sock, none once it is freed; int.
    skc_refcnt = "sock_common", "skc_refcnt.refs.counter", optional;
    /// Not NULL while a minisock is in the hash (`sk_unhashed`); pointer.
    skc_hashed = "sock_common", "skc_nulls_node.pprev", optional;
    /// The child that has come of a request sock, NULL before that; pointer to `sock`.
    request_child = "request_sock", "sk", optional;
    /// Window that was advertised last, from `rcv_wup` on; u32.
    rcv_wnd = "tcp_sock", "rcv_wnd", optional;
    /// `rcv_nxt` when the window was advertised last; u32.
    rcv_wup = "tcp_sock", "rcv_wup", optional;
    /// Limit of the window that will be advertised; u32.
    rcv_ssthresh = "tcp_sock", "rcv_ssthresh", optional;
    /// Its mean deviation in quarters of a microsecond; u32.
    mdev_us = "tcp_sock", "mdev_us", optional;
    /// Shortest round-trip time lately, in microseconds; u32.
    rtt_min = "tcp_sock", "rtt_min.s[0].v", optional;
    /// Congestion window in packets; u32.
    snd_cwnd = "tcp_sock", "snd_cwnd", optional;
    /// Slow start threshold in packets; u32.
    snd_ssthresh = "tcp_sock", "snd_ssthresh", optional;
    /// Maximum segment size in bytes; u32.
    mss_cache = "tcp_sock", "mss_cache", optional;
    /// Packets sent and not yet acknowledged; u32.
    packets_out = "tcp_sock", "packets_out", optional;
    /// Of those, retransmitted ones; u32.
    retrans_out = "tcp_sock", "retrans_out", optional;
    /// Of those, ones that are taken for lost; u32.
    lost_out = "tcp_sock", "lost_out", optional;
    /// Of those, ones that the peer has told to have; u32.
    sacked_out = "tcp_sock", "sacked_out", optional;
    /// Bytes of data sent, those of retransmissions included; u64.
    bytes_sent = "tcp_sock", "bytes_sent", optional;
    /// Bytes of data retransmitted; u64.
    bytes_retrans = "tcp_sock", "bytes_retrans", optional;
    /// When data was sent last, in jiffies; u32.
    lsndtime = "tcp_sock", "lsndtime", optional;
    /// When an acknowledgement came last, in jiffies; u32.
    rcv_tstamp = "tcp_sock", "rcv_tstamp", optional;
    /// `TCP_KEEPIDLE` in jiffies, 0 for the namespace's; unsigned int.
    keepalive_time = "tcp_sock", "keepalive_time", optional;
    /// `TCP_KEEPINTVL` in jiffies, 0 for the namespace's; unsigned int.
    keepalive_intvl = "tcp_sock", "keepalive_intvl", optional;
    /// `TCP_KEEPCNT`, 0 for the namespace's; u8.
    keepalive_probes = "tcp_sock", "keepalive_probes", optional;
    /// When data was received last, in jiffies; u32.
    lrcvtime = "inet_connection_sock", "icsk_ack.lrcvtime", optional;
    /// Which use the retransmission timer is armed for, 0 for none; u8.
    icsk_pending = "inet_connection_sock", "icsk_pending", optional;
    /// How often the timeout has been doubled; u8.
    icsk_backoff = "inet_connection_sock", "icsk_backoff", optional;
    /// When the window was found closed, in jiffies, 0 while it is open; u32. Since 5.11.
    icsk_probes_tstamp = "inet_connection_sock", "icsk_probes_tstamp", optional;
    /// When something was sent again first of what is not acknowledged, in SYN_SENT when the first SYN was sent, by
    /// `CLOCK_MONOTONIC`; 0 for never; u32.
    retrans_stamp = "tcp_sock", "retrans_stamp", optional;
    /// Whether that is in microseconds, and not in milliseconds. Since 6.7.
    tcp_usec_ts = "tcp_sock", "tcp_usec_ts", bits;
    /// `TCP_SYNCNT`, 0 for the namespace's; u8.
    icsk_syn_retries = "inet_connection_sock", "icsk_syn_retries", optional;
    /// `TCP_USER_TIMEOUT` in milliseconds, 0 for none; u32.
    icsk_user_timeout = "inet_connection_sock", "icsk_user_timeout", optional;
    /// Retransmission timeout in jiffies; u32.
    icsk_rto = "inet_connection_sock", "icsk_rto", optional;
    /// `TCP_RTO_MAX_MS` in jiffies, or the namespace's; u32. Since 6.15.
    icsk_rto_max = "inet_connection_sock", "icsk_rto_max", optional;
    /// The timer that retransmits and probes; `timer_list`. Newer kernels have it in `sock`.
    retransmit_timer = "inet_connection_sock", "icsk_retransmit_timer", optional, or "sock", "tcp_retransmit_timer";
    /// The timer of keepalive, and of FIN_WAIT2; `timer_list`. Some stable kernels have it in a place of its own.
    keepalive_timer = "inet_connection_sock", "icsk_keepalive_timer", optional, or "sock", "sk_timer";
    /// A listener's half-open connections; int.
    icsk_requests = "inet_connection_sock", "icsk_accept_queue.qlen.counter", optional;
    /// Packets that a listener has dropped; int.
    sk_drops = "sock", "sk_drops.counter", optional;
    /// Limit of the send buffer in bytes; int.
    sk_sndbuf = "sock", "sk_sndbuf", optional;
    /// Limit of the receive buffer in bytes; int.
    sk_rcvbuf = "sock", "sk_rcvbuf", optional;
    /// Memory that received packets take, in bytes; int.
    sk_rmem_alloc = "sock", "sk_backlog.rmem_alloc.counter", optional;
    /// The namespace's `ip_local_port_range`: u32 with the last port in its upper half (6.8), or the first of two ints.
    net_local_ports = "net", "ipv4.ip_local_ports.range", optional;
    /// The second of the two.
    net_last_local_port = "net", "ipv4.ip_local_ports.range[1]", former;
    /// The namespace's `tcp_syn_retries`; u8.
    net_syn_retries = "net", "ipv4.sysctl_tcp_syn_retries", optional;
    /// The namespace's `tcp_syn_linear_timeouts`; u8. Since 6.5.
    net_syn_linear_timeouts = "net", "ipv4.sysctl_tcp_syn_linear_timeouts", optional;
    /// The namespace's `tcp_synack_retries`; u8.
    net_synack_retries = "net", "ipv4.sysctl_tcp_synack_retries", optional;
    /// The namespace's `tcp_retries2`; u8.
    net_retries2 = "net", "ipv4.sysctl_tcp_retries2", optional;
    /// The namespace's `tcp_keepalive_time` in jiffies; int.
    net_keepalive_time = "net", "ipv4.sysctl_tcp_keepalive_time", optional;
    /// The namespace's `tcp_keepalive_intvl` in jiffies; int.
    net_keepalive_intvl = "net", "ipv4.sysctl_tcp_keepalive_intvl", optional;
    /// The namespace's `tcp_keepalive_probes`; u8.
    net_keepalive_probes = "net", "ipv4.sysctl_tcp_keepalive_probes", optional;
    /// The namespace's `tcp_fin_timeout` in jiffies; int.
    net_fin_timeout = "net", "ipv4.sysctl_tcp_fin_timeout", optional;
    /// When a timer is due, in jiffies; unsigned long.
    timer_expires = "timer_list", "expires", optional;
    /// Not NULL while a timer is armed (`timer_pending`); pointer.
    timer_armed = "timer_list", "entry.pprev", optional;
    /// The timer of a request sock; `timer_list`.
    request_timer = "request_sock", "rsk_timer", optional;
    /// How often its SYN-ACK has been sent again; u8.
    request_retrans = "request_sock", "num_retrans", optional;
    /// The first wait for an answer to its SYN-ACK, in jiffies; u32. Since 5.17.
    request_timeout = "request_sock", "timeout", optional;
    /// When its first SYN-ACK was sent, by `CLOCK_MONOTONIC` in microseconds, 0 before; u64.
    request_synack = "tcp_request_sock", "snt_synack", optional;
    /// How often its timer has run out.
    request_timeouts = "request_sock", "num_timeout", bits;
    /// Whether its client has answered, which then waits for data or for room in the accept queue.
    request_acked = "inet_request_sock", "acked", bits;
    /// The mark that the child of a request sock gets; u32.
    request_mark = "inet_request_sock", "ir_mark", optional;
    /// The listener of a request sock; pointer to `sock`.
    request_listener = "sock_common", "skc_listener", optional;
    /// `PF_KTHREAD` and the other process flags; u32.
    task_flags = "task_struct", "flags", required;
    /// The process's first thread; pointer to `task_struct`.
    task_group_leader = "task_struct", "group_leader", required;
    /// The thread's table of descriptors; pointer to `files_struct`, NULL once it exits.
    task_files = "task_struct", "files", required;
    /// The thread's id in the root PID namespace; int.
    task_pid = "task_struct", "pid", required;
    /// The task's namespaces; pointer to `nsproxy`, NULL once it exits.
    task_nsproxy = "task_struct", "nsproxy", required;
    /// The network namespace among them; pointer to `net`.
    nsproxy_net = "nsproxy", "net_ns", required;
    /// Process id in the root PID namespace; int.
    task_tgid = "task_struct", "tgid", required;
    /// When the task was started, by `CLOCK_BOOTTIME`; u64 in nanoseconds.
    task_start = "task_struct", "start_boottime", required;
    /// The thread's name; 16 bytes.
    task_comm = "task_struct", "comm", required;
}
