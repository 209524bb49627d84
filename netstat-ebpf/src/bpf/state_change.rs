//! `tp_btf/inet_sock_set_state`: called by `inet_sk_set_state` and `inet_sk_state_store`, just before the
//! new state is stored.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_skc_to_tcp_sock},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use netstat_ebpf::wire::{StateChange, StateEnd, flag, kind, lost};

use crate::{
    end, interrupted,
    kernel::{at, load},
    process::{self, Process},
    ring,
    socket::{IPPROTO_TCP, TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT, describe_full, describe_tcp},
};

const TCP_ESTABLISHED: u8 = 1;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;

/// `enum sock_flags`, unchanged since 2.6.
const SOCK_DEAD: u64 = 1 << 0;
pub const SOCK_DONE: u64 = 1 << 1;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    interrupted::noticeably(|| trace(&ctx))
}

/// The same for what happens on a CPU while the program above is running there, which the kernel does not start
/// a second time: mostly a packet that comes in by interrupt.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state_interrupting(ctx: BtfTracePointContext) -> i32 {
    if interrupted::is_under_way() {
        interrupted::count();
        trace(&ctx)
    } else {
        0
    }
}

#[inline(always)]
fn trace(ctx: &BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let old = ctx.arg::<i32>(1) as u8;
    let new = ctx.arg::<i32>(2) as u8;
    // SAFETY: the tracepoint's first argument is a trusted `struct sock`.
    if unsafe { load::<u16>(sk, at!(sk_protocol)) } != IPPROTO_TCP {
        return 0;
    }
    // SAFETY: `sk` is as above; each is given a reserved record.
    unsafe {
        if new == TCP_CLOSE {
            ring::report::<StateEnd>(lost::STATE_CHANGE, |out| {
                let tcp = describe(ctx, sk, (old, new), &raw mut (*out).change);
                (*out).change.kind = kind::STATE_END;
                end::describe(sk, tcp, out);
            });
        } else {
            ring::report::<StateChange>(lost::STATE_CHANGE, |out| {
                describe(ctx, sk, (old, new), out);
            });
        }
    }
    0
}

/// Fills in what is told of every change. Returns the `tcp_sock`, or NULL if it is none.
///
/// # Safety
///
/// `sk` is a trusted `struct sock`; every byte of `out` is written.
#[inline(always)]
unsafe fn describe(
    ctx: &BtfTracePointContext,
    sk: *const c_void,
    (old, new): (u8, u8),
    out: *mut StateChange,
) -> *const c_void {
    // SAFETY: as the caller promises.
    unsafe {
        (*out).kind = kind::STATE_CHANGE;
        (*out).time = bpf_ktime_get_boot_ns();
        (*out).old_state = old;
        (*out).new_state = new;
        (*out).reserved = [0; 2];
        (*out).sk_err = load(sk, at!(sk_err));
        (*out).fwmark = load(sk, at!(sk_mark));
        describe_full(sk, &raw mut (*out).socket);
        let tcp = bpf_skc_to_tcp_sock(sk.cast_mut()).cast::<c_void>().cast_const();
        let mut flags = 0;
        let sock_flags: u64 = load(sk, at!(skc_flags));
        if sock_flags & SOCK_DONE != 0 {
            flags |= flag::PEER_FIN;
        }
        if sock_flags & SOCK_DEAD != 0 {
            flags |= flag::ORPHAN;
        }
        if tcp.is_null() {
            warn!(
                ctx,
                "inet_sock_set_state: a socket of IPPROTO_TCP that is no tcp_sock, state {}", old
            );
        } else {
            describe_tcp(tcp, &raw mut (*out).socket);
        }
        let acting = acts_for_itself(old, new) && is_in_system_call(sk);
        let process = if acting { process::current() } else { None };
        if process.is_some() {
            flags |= flag::TASK_IS_OWNER;
        }
        let Process { pid, comm, start } = process.unwrap_or(Process::NONE);
        (*out).pid = pid;
        (*out).start = start;
        (&raw mut (*out).comm).cast::<[u64; 2]>().write(comm);
        (*out).flags = flags;
        tcp
    }
}

/// Whether the kernel makes this transition for a process that holds the socket: `connect`
/// (`tcp_v4_connect`), `listen` (`inet_csk_listen_start`), `close` and `shutdown` (`tcp_close_state`). All others
/// can come out of softirq, on whatever task it interrupted, or of `ss -K` (`tcp_abort`).
#[inline(always)]
fn acts_for_itself(old: u8, new: u8) -> bool {
    matches!(
        (old, new),
        (TCP_CLOSE, TCP_SYN_SENT | TCP_LISTEN)
            | (TCP_ESTABLISHED | TCP_SYN_RECV, TCP_FIN_WAIT1)
            | (TCP_CLOSE_WAIT, TCP_LAST_ACK)
    )
}

/// Whether a system call has the socket locked (`lock_sock`), and not softirq: that makes the same transitions
/// for a `shutdown` that had to wait for the handshake (`tcp_rcv_state_process`).
#[inline(always)]
pub unsafe fn is_in_system_call(sk: *const c_void) -> bool {
    // SAFETY: `sk` is trusted.
    unsafe { load::<i32>(sk, at!(sk_lock_owned)) != 0 }
}
