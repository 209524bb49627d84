//! Filling the part of a record that says which socket it is about.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use netstat_ebpf::{
    fields::ABSENT,
    wire::{Socket, socket},
};

use crate::kernel::{at, load, load_optional};

pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_MPTCP: u16 = 262;
pub const TCP_SYN_SENT: u8 = 2;
pub const TCP_SYN_RECV: u8 = 3;
pub const TCP_TIME_WAIT: u8 = 6;
pub const TCP_CLOSE: u8 = 7;
pub const TCP_LISTEN: u8 = 10;

/// Writes what `struct sock_common` tells, which a full sock, a minisock and a request sock all begin with.
///
/// `uid`, `cgroup` and `flags` are set to 0: see [`describe_full`].
///
/// # Safety
///
/// `sk` is a trusted BTF pointer to one of the three; `out` may be written.
#[inline(always)]
pub unsafe fn describe_common(sk: *const c_void, out: *mut Socket) {
    // SAFETY: loads are of `sock_common`'s fields and checked by the verifier; `out` may be written.
    unsafe {
        let family: u16 = load(sk, at!(skc_family));
        (*out).family = family;
        (*out).protocol = IPPROTO_TCP;
        (*out).cookie = cookie(sk);
        (*out).skaddr = sk as u64;
        (*out).cgroup = 0;
        (*out).uid = 0;
        (*out).device = load(sk, at!(skc_bound_dev_if));
        (*out).flags = 0;
        (*out).netns = load(load(sk, at!(skc_net)), at!(net_inum));
        (*out).local_port = load(sk, at!(skc_num));
        (*out).remote_port = u16::from_be(load(sk, at!(skc_dport)));
        let (local, remote) = if family == AF_INET6 {
            (ipv6(sk, at!(skc_v6_rcv_saddr)), ipv6(sk, at!(skc_v6_daddr)))
        } else {
            (ipv4(sk, at!(skc_rcv_saddr)), ipv4(sk, at!(skc_daddr)))
        };
        (&raw mut (*out).local_addr).cast::<[u64; 2]>().write(local);
        (&raw mut (*out).remote_addr).cast::<[u64; 2]>().write(remote);
    }
}

/// As [`describe_common`], and what only a full `struct sock` tells.
///
/// # Safety
///
/// `sk` is a trusted BTF pointer to a full sock; `out` may be written.
#[inline(always)]
pub unsafe fn describe_full(sk: *const c_void, out: *mut Socket) {
    // SAFETY: as the caller promises; a NULL on the way to the group's id reads as zero.
    unsafe {
        describe_common(sk, out);
        (*out).uid = load(sk, at!(sk_uid));
        (*out).cgroup = cgroup_id(sk);
    }
}

/// Adds what only TCP's own part of a full sock tells.
///
/// # Safety
///
/// `tcp` is a trusted BTF pointer to a `tcp_sock`; `out` may be written.
#[inline(always)]
pub unsafe fn describe_tcp(tcp: *const c_void, out: *mut Socket) {
    // SAFETY: as the caller promises.
    unsafe {
        if load_optional::<u8>(tcp, at!(is_mptcp)).unwrap_or(0) != 0 {
            (*out).flags |= socket::MPTCP;
        }
    }
}

/// The cookie, which the first who asks for it draws.
#[inline(always)]
unsafe fn cookie(sk: *const c_void) -> u64 {
    // SAFETY: as for `describe_common`.
    unsafe {
        match load(sk, at!(skc_cookie)) {
            0 => bpf_get_socket_cookie(sk.cast_mut()),
            drawn => drawn,
        }
    }
}

#[inline(always)]
unsafe fn cgroup_id(sk: *const c_void) -> u64 {
    // SAFETY: as for `describe_full`.
    unsafe {
        let Some(group) = load_optional::<*const c_void>(sk, at!(sk_cgroup)) else {
            return 0;
        };
        let Some(node) = load_optional::<*const c_void>(group, at!(cgroup_kn)) else {
            return 0;
        };
        load_optional(node, at!(kn_id)).unwrap_or(0)
    }
}

#[inline(always)]
unsafe fn ipv4(sk: *const c_void, offset: u32) -> [u64; 2] {
    // SAFETY: as for `describe_common`.
    let address: u32 = unsafe { load(sk, offset) };
    // The four bytes come first in memory whatever the byte order.
    [u64::from_ne_bytes(first_half(address)), 0]
}

#[inline(always)]
fn first_half(address: u32) -> [u8; 8] {
    let [a, b, c, d] = address.to_ne_bytes();
    [a, b, c, d, 0, 0, 0, 0]
}

#[inline(always)]
unsafe fn ipv6(sk: *const c_void, offset: u32) -> [u64; 2] {
    if offset == ABSENT {
        return [0; 2];
    }
    // SAFETY: as for `describe_common`; the field is 16 bytes long.
    unsafe { [load(sk, offset), load(sk, offset + 8)] }
}
