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
}

macro_rules! kernel_fields {
    ($($(#[$doc:meta])* $name:ident = $owner:literal, $path:literal, $need:ident;)*) => {
        /// Byte offsets of the kernel fields, each from the start of its structure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, IntoBytes, Immutable)]
        #[repr(C)]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Offsets {
            /// The fields in the order of the structure's members.
            pub const FIELDS: &'static [KernelField] = &[
                $(KernelField { owner: $owner, path: $path, required: kernel_fields!(@$need) },)*
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
    (@required) => { true };
    (@optional) => { false };
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
    /// Connections that wait for accept; u32.
    sk_ack_backlog = "sock", "sk_ack_backlog", required;
    /// The listener's limit on those; u32.
    sk_max_ack_backlog = "sock", "sk_max_ack_backlog", required;
    /// The `socket` that user space holds, NULL for an orphan; pointer.
    sk_socket = "sock", "sk_socket", required;
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
    /// `TCP_FIN_WAIT2` or `TCP_TIME_WAIT`; u8.
    tw_substate = "inet_timewait_sock", "tw_substate", required;
    /// The timer that ends a minisock; `timer_list`. Without it that is left to sweeps.
    tw_timer = "inet_timewait_sock", "tw_timer", optional;
    /// The cookie as it is stored, 0 while nobody has asked for it; u64.
    skc_cookie = "sock_common", "skc_cookie", required;
    /// The child that has come of a request sock, NULL before that; pointer to `sock`.
    request_child = "request_sock", "sk", optional;
    /// `PF_KTHREAD` and the other process flags; u32.
    task_flags = "task_struct", "flags", required;
    /// The process's first thread; pointer to `task_struct`.
    task_group_leader = "task_struct", "group_leader", required;
    /// Process id in the root PID namespace; int.
    task_tgid = "task_struct", "tgid", required;
    /// The thread's name; 16 bytes.
    task_comm = "task_struct", "comm", required;
}
