//! What the walks over sockets have in common: the sighting of one socket, and the mark at the end.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_skc_to_tcp_sock},
    },
    macros::map,
    maps::Array,
};
use netstat_ebpf::{
    fields::ABSENT,
    wire::{SocketSeen, SweepEnd, form, kind, seen, sweep},
};

use crate::{
    kernel::{at, load, load_bits, load_optional, probe},
    ring,
    seq::IterContext,
    socket::{TCP_SYN_RECV, TCP_TIME_WAIT, describe_common, describe_full, describe_tcp},
};

pub const TCP_LISTEN: u8 = 10;
const TCP_NEW_SYN_RECV: u8 = 12;
const TCP_FIN_WAIT2: u8 = 5;

/// Which structure the socket turned out to be.
#[derive(Clone, Copy)]
pub enum Sock {
    /// A full sock: the same pointer, known to the verifier as a `tcp_sock`.
    Full(*const c_void),
    /// A minisock.
    Mini,
    /// A request sock.
    Request,
}

/// The time of the last look at the clock. One thread walks at a time, and each walk looks at its beginning.
#[map]
static LOOKED: Array<u64> = Array::with_max_entries(1, 0);

/// Sockets for which the clock is looked at once: each look takes some 30 ns, of 240 that a socket takes.
const GLANCE: u64 = 16;

/// A time shortly before the look at the present socket, never after: what is told to have happened since is newer.
#[inline(always)]
pub fn time(ctx: IterContext) -> u64 {
    // SAFETY: the map's value, which nobody else uses; the helper has no arguments.
    unsafe {
        let Some(looked) = LOOKED.get_ptr_mut(0) else {
            return bpf_ktime_get_boot_ns();
        };
        if ctx.number().is_multiple_of(GLANCE) {
            *looked = bpf_ktime_get_boot_ns();
        }
        *looked
    }
}

/// Writes what is seen of a socket at `time`. `None` when it is none of TCP's.
///
/// # Safety
///
/// `sk` is a trusted BTF pointer to what `iter/tcp` walks; every byte of `out` may be written, and is.
#[inline(always)]
pub unsafe fn see(sk: *const c_void, kind: u32, time: u64, out: *mut SocketSeen) -> Option<Sock> {
    // SAFETY: as the caller promises.
    unsafe {
        (*out).kind = kind;
        (*out).flags = 0;
        (*out).reserved = 0;
        (*out).time = time;
        (*out).inode = 0;
        (*out).mptcp = 0;
        (*out).recv_q = 0;
        (*out).send_q = 0;
        (*out).backlog = 0;
        (*out).due_in = 0;
        (*out).fwmark = 0;
        (*out).padding = 0;
        match load::<u8>(sk, at!(skc_state)) {
            TCP_TIME_WAIT => see_minisock(sk, out),
            TCP_NEW_SYN_RECV => Some(see_request(sk, out)),
            state => see_full(sk, state, out),
        }
    }
}

/// Neither this nor [`see_request`] goes by `bpf_skc_to_tcp_timewait_sock` and its like: those know a sock by
/// `sk_prot`, and pass over the ones of MPTCP listeners, whose `sk_prot` is `tcp_prot_override` even when the
/// client speaks plain TCP. What the iterator walks is TCP's own hash, so the state says which sock it is.
#[inline(always)]
unsafe fn see_minisock(sk: *const c_void, out: *mut SocketSeen) -> Option<Sock> {
    // SAFETY: as for `see`. The substate lies behind `sock_common`, which is as far as the verifier knows
    // the pointer, so a helper reads it.
    unsafe {
        let substate = sk.cast::<u8>().add(at!(tw_substate) as usize);
        let Ok(substate) = bpf_probe_read_kernel(substate) else {
            return None;
        };
        describe_common(sk, &raw mut (*out).socket);
        (*out).form = form::MINISOCK;
        (*out).state = substate;
        set_fwmark(out, probe(sk, at!(tw_mark)));
        if substate == TCP_FIN_WAIT2 {
            (*out).due_in = due_in(sk);
        }
    }
    Some(Sock::Mini)
}

/// One more than the jiffies until a minisock's timer is due (`inet_twsk_schedule`); 0 when that is not known.
#[inline(always)]
fn due_in(sk: *const c_void) -> u32 {
    if at!(tw_timer) == ABSENT || at!(timer_expires) == ABSENT {
        return 0;
    }
    let Some(due) = probe::<u64>(sk, at!(tw_timer) + at!(timer_expires)) else {
        return 0;
    };
    // SAFETY: a helper without arguments.
    let left = due.wrapping_sub(unsafe { bpf_jiffies64() }) as i32;
    if left < 0 { 1 } else { left as u32 + 1 }
}

#[inline(always)]
unsafe fn see_request(sk: *const c_void, out: *mut SocketSeen) -> Sock {
    // SAFETY: as for `see`.
    unsafe {
        describe_common(sk, &raw mut (*out).socket);
        (*out).form = form::REQUEST;
        (*out).state = TCP_SYN_RECV;
        set_fwmark(out, probe(sk, at!(request_mark)));
    }
    Sock::Request
}

#[inline(always)]
unsafe fn see_full(sk: *const c_void, state: u8, out: *mut SocketSeen) -> Option<Sock> {
    // SAFETY: as for `see`; a NULL on the way to the inode reads as zero.
    unsafe {
        let tcp = bpf_skc_to_tcp_sock(sk.cast_mut()).cast::<c_void>().cast_const();
        if tcp.is_null() {
            return None;
        }
        describe_full(tcp, &raw mut (*out).socket);
        describe_tcp(tcp, &raw mut (*out).socket);
        (*out).form = form::FULL;
        (*out).state = state;
        (*out).inode = inode(tcp);
        (*out).mptcp = mptcp_cookie(tcp);
        set_fwmark(out, Some(load(tcp, at!(sk_mark))));
        if state == TCP_LISTEN {
            (*out).recv_q = load(tcp, at!(sk_ack_backlog));
            (*out).backlog = load(tcp, at!(sk_max_ack_backlog));
        } else {
            // As `get_tcp4_sock`: the peer's FIN can put `copied_seq` one past `rcv_nxt`.
            let unread = load::<u32>(tcp, at!(rcv_nxt)).wrapping_sub(load(tcp, at!(copied_seq)));
            (*out).recv_q = if (unread as i32) < 0 { 0 } else { unread };
            (*out).send_q = load::<u32>(tcp, at!(write_seq)).wrapping_sub(load(tcp, at!(snd_una)));
        }
        Some(Sock::Full(tcp))
    }
}

/// Writes down the mark, if the kernel has one.
///
/// # Safety
///
/// `out` may be written.
#[inline(always)]
unsafe fn set_fwmark(out: *mut SocketSeen, fwmark: Option<u32>) {
    if let Some(fwmark) = fwmark {
        // SAFETY: as the caller promises.
        unsafe {
            (*out).flags |= seen::FWMARK;
            (*out).fwmark = fwmark;
        }
    }
}

/// The number of the inode of the file behind a full sock; 0 when there is none.
///
/// # Safety
///
/// `tcp` is a trusted `tcp_sock`; a NULL on the way reads as zero.
#[inline(always)]
unsafe fn inode(tcp: *const c_void) -> u64 {
    // SAFETY: as the caller promises.
    unsafe {
        // The sock has it by itself (`sk_set_socket`), which saves waiting for three other structures to come from memory.
        if let Some(number) = load_optional(tcp, at!(sk_ino)) {
            return match load_bits(tcp, at!(sk_kern_sock)) {
                Some(1) => 0,
                _ => number,
            };
        }
        let socket: *const c_void = load(tcp, at!(sk_socket));
        let file: *const c_void = load(socket, at!(socket_file));
        if file.is_null() {
            return 0;
        }
        let inode: *const c_void = load(file, at!(file_inode));
        load(inode, at!(inode_number))
    }
}

/// The cookie of the MPTCP socket that `tcp` is a subflow of; 0 when it is none, or when nobody has asked for that
/// cookie yet, which the next scan for holders does if anybody holds the socket.
///
/// `is_mptcp` is set and cleared together with the protocol above TCP (`subflow_ulp_init`, `subflow_ulp_fallback`).
/// The context that this keeps holds a reference to the MPTCP socket until the subflow is destroyed
/// (`subflow_ulp_release`); before that it is unhashed, and the iterator passes over it.
#[inline(always)]
unsafe fn mptcp_cookie(tcp: *const c_void) -> u64 {
    let (context, owner) = (at!(icsk_ulp_data), at!(subflow_conn));
    if context == ABSENT || owner == ABSENT {
        return 0;
    }
    // SAFETY: `tcp` is a trusted `tcp_sock`. The context is a pointer to void, behind which the verifier knows nothing,
    // so a helper reads it; that fails where the address does not.
    unsafe {
        if load_optional::<u8>(tcp, at!(is_mptcp)).unwrap_or(0) == 0 {
            return 0;
        }
        let context: *const u8 = load(tcp, context);
        let Ok(sk) = bpf_probe_read_kernel(context.add(owner as usize).cast::<*const u8>()) else {
            return 0;
        };
        if sk.is_null() {
            return 0;
        }
        bpf_probe_read_kernel(sk.add(at!(skc_cookie) as usize).cast::<u64>()).unwrap_or(0)
    }
}

/// Sockets between two ends of parts.
const PART: u64 = 2048;

/// Marks the end of a part now and then.
#[inline(always)]
pub fn pause(ctx: IterContext) {
    let number = ctx.number();
    if number > 0 && number.is_multiple_of(PART) {
        mark(ctx, sweep::MORE);
    }
}

/// Marks the end.
#[inline(always)]
pub fn end(ctx: IterContext) {
    mark(ctx, 0);
}

/// Marks an end with the ring's position: a reader that has come so far has read every event whose outcome the sweep
/// can have seen before. A record in the ring would say the same, but not when the ring is full.
#[inline(always)]
fn mark(ctx: IterContext, flags: u32) {
    ctx.write(&SweepEnd {
        kind: kind::SWEEP_END,
        flags,
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_boot_ns() },
        position: ring::position(),
    });
}
