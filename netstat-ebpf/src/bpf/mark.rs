//! What happens to a socket without changing its state, as the kernel's own tracepoints tell: segments that are sent
//! again, and RSTs that come and go. Each program is optional.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use netstat_ebpf::wire::{SocketMark, kind, lost, mark};

use crate::{
    kernel::{at, load},
    ring,
};

const TCP_LISTEN: u8 = 10;
const TCP_NEW_SYN_RECV: u8 = 12;

/// A segment of a full sock is sent again (`__tcp_retransmit_skb`).
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn retransmit(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    // SAFETY: the first argument is a trusted `struct sock`, never NULL.
    unsafe { tell(sk, load(sk, at!(skc_state)), mark::RETRANSMIT) }
}

/// A SYN-ACK is sent again (`tcp_rtx_synack`).
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    let request: *const c_void = ctx.arg(1);
    // SAFETY: the second argument is a trusted `struct request_sock`, never NULL.
    unsafe { tell(request, TCP_NEW_SYN_RECV, mark::RETRANSMIT) }
}

/// A RST has come (`tcp_reset`); the same function ends a socket that gets data after it was closed.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn receive_reset(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    // SAFETY: the argument is a trusted `struct sock`, never NULL.
    unsafe { tell(sk, load(sk, at!(skc_state)), mark::RESET_RECEIVED) }
}

/// A RST is sent: by `tcp_send_active_reset`, or in answer to a segment (`tcp_v4_send_reset`, `tcp_v6_send_reset`).
///
/// 6.1 tells of full socks alone; 6.12 of minisocks too, and even when there is no socket, which not every kernel has told
/// the verifier: then it takes a test for NULL for superfluous. So nothing is read through the pointer here but by helpers, which look for
/// themselves.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn send_reset(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let answered: *const c_void = ctx.arg(1);
    if sk.is_null() {
        return 0;
    }
    let state = sk.cast::<u8>().wrapping_add(at!(skc_state) as usize);
    // SAFETY: the helper checks the address.
    let Ok(state) = (unsafe { bpf_probe_read_kernel(state) }) else {
        return 0;
    };
    let what = if answered.is_null() {
        mark::RESET_SENT
    } else {
        mark::RESET_ANSWERED
    };
    // SAFETY: `sk` is a BTF pointer to a sock of any form, and is not read through.
    unsafe { tell(sk, state, what) }
}

/// Reports `what` has happened to `sk`, unless that is a listener, which answers for nobody in particular.
///
/// # Safety
///
/// `sk` is a trusted BTF pointer to a sock of any form, or NULL if the verifier does not know better.
#[inline(always)]
unsafe fn tell(sk: *const c_void, state: u8, what: u8) -> i32 {
    if state == TCP_LISTEN {
        return 0;
    }
    // SAFETY: the record is written as a whole; the helper takes NULL.
    unsafe {
        let record = SocketMark {
            kind: kind::SOCKET_MARK,
            mark: what,
            state,
            reserved: [0; 2],
            time: bpf_ktime_get_boot_ns(),
            cookie: bpf_get_socket_cookie(sk.cast_mut()),
        };
        ring::report::<SocketMark>(lost::MARK, |out| out.write(record));
    }
    0
}
