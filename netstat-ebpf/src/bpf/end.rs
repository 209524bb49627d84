//! What is told of a socket that ends: how things stood when the kernel closed it, which says why.

use core::ffi::c_void;

use netstat_ebpf::wire::{End, StateEnd, flag};

use crate::{
    kernel::{at, load},
    state_change::is_in_system_call,
};

/// `enum sock_flags`, unchanged since 2.6.
const SOCK_LINGER: u64 = 1 << 4;

/// `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// `include/uapi/linux/net.h`.
const SS_CONNECTING: u32 = 2;

/// Fills in the rest of `out`, whose change is described already: the flags of ends, the port that unhashing has
/// taken from `skc_num`, and the figures.
///
/// # Safety
///
/// `sk` is a trusted `struct sock`, and `tcp` NULL or its `tcp_sock`; every byte of `end` is written.
#[inline(always)]
pub unsafe fn describe(sk: *const c_void, tcp: *const c_void, out: *mut StateEnd) {
    // SAFETY: as the caller promises.
    unsafe {
        (*out).change.flags |= flags_of_sock(sk);
        if tcp.is_null() {
            (&raw mut (*out).end)
                .cast::<[u64; size_of::<End>() / 8]>()
                .write([0; size_of::<End>() / 8]);
            return;
        }
        if (*out).change.socket.local_port == 0 {
            (*out).change.socket.local_port = u16::from_be(load(tcp, at!(inet_sport)));
        }
        if load::<i32>(tcp, at!(linger2)) < 0 {
            (*out).change.flags |= flag::NO_LINGER2;
        }
        let write_seq: u32 = load(tcp, at!(write_seq));
        if write_seq != load(tcp, at!(snd_nxt)) {
            (*out).change.flags |= flag::UNSENT;
        }
        let end = &raw mut (*out).end;
        (*end).bytes_acked = load(tcp, at!(bytes_acked));
        (*end).bytes_received = load(tcp, at!(bytes_received));
        (*end).unacked = write_seq.wrapping_sub(load(tcp, at!(snd_una)));
        (*end).unread = unread(tcp, (*out).change.flags & flag::PEER_FIN != 0);
        (*end).total_retrans = load(tcp, at!(total_retrans));
        (*end).srtt_us = load(tcp, at!(srtt_us));
        (*end).snd_wnd = load(tcp, at!(snd_wnd));
        (*end).sk_err_soft = load(sk, at!(sk_err_soft));
        (*end).retransmits = load(tcp, at!(icsk_retransmits));
        (*end).probes = load(tcp, at!(icsk_probes_out));
        (*end).reserved = [0; 6];
    }
}

#[inline(always)]
unsafe fn flags_of_sock(sk: *const c_void) -> u32 {
    // SAFETY: `sk` is a trusted `struct sock`; a NULL on the way reads as zero.
    unsafe {
        let mut flags = 0;
        let shutdown: u8 = load(sk, at!(sk_shutdown));
        if shutdown & RCV_SHUTDOWN != 0 {
            flags |= flag::RCV_SHUTDOWN;
        }
        if shutdown & SEND_SHUTDOWN != 0 {
            flags |= flag::SEND_SHUTDOWN;
        }
        let socket: *const c_void = load(sk, at!(sk_socket));
        if !socket.is_null() {
            flags |= flag::HELD;
            if load::<u32>(socket, at!(socket_state)) == SS_CONNECTING {
                flags |= flag::CONNECTING;
            }
        }
        if load::<u64>(sk, at!(skc_flags)) & SOCK_LINGER != 0 && load::<u64>(sk, at!(sk_lingertime)) == 0 {
            flags |= flag::LINGER_0;
        }
        if is_in_system_call(sk) {
            flags |= flag::IN_SYSTEM_CALL;
        }
        flags
    }
}

/// The bytes in the receive queue. A FIN that has come stands behind them, until the application has read that too
/// and is one ahead.
#[inline(always)]
unsafe fn unread(tcp: *const c_void, peer_fin: bool) -> u32 {
    // SAFETY: `tcp` is a trusted `tcp_sock`.
    let waiting = unsafe { load::<u32>(tcp, at!(rcv_nxt)).wrapping_sub(load(tcp, at!(copied_seq))) };
    let bytes = waiting.wrapping_sub(u32::from(peer_fin));
    if (bytes as i32) < 0 { 0 } else { bytes }
}
