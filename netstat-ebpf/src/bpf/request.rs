//! Hooks on the life of request socks, of which no tracepoint tells before a child comes of them.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_jiffies64, macros::fentry, programs::FEntryContext};
use netstat_ebpf::{
    fields::ABSENT,
    wire::{cause, change, form},
};

use crate::{
    kernel::{at, load, load_optional, probe, probe_bits},
    news::{self, End, News},
    socket::{IPPROTO_TCP, TCP_LISTEN, TCP_SYN_RECV, describe_common},
};

/// A SYN has come, and the handshake is to be remembered: before anybody can find it and complete it.
#[fentry(function = "inet_csk_reqsk_queue_hash_add")]
pub fn request_hashed(ctx: FEntryContext) -> i32 {
    let listener: *const c_void = ctx.arg(0);
    let request: *const c_void = ctx.arg(1);
    // SAFETY: the arguments are the listener, a `sock`, and the new `request_sock`, filled in already.
    unsafe {
        // DCCP used the function too, up to 6.15.
        if load::<u16>(listener, at!(sk_protocol)) == IPPROTO_TCP {
            let news = News {
                form: form::REQUEST,
                change: change::MADE,
                state: TCP_SYN_RECV,
            };
            news::tell(request, news, describe_common);
        }
    }
    0
}

/// A request sock of an IPv4 listener is freed.
#[fentry(function = "tcp_v4_reqsk_destructor")]
pub fn request_freed_v4(ctx: FEntryContext) -> i32 {
    freed(&ctx)
}

/// A request sock of an IPv6 listener is freed.
#[fentry(function = "tcp_v6_reqsk_destructor")]
pub fn request_freed_v6(ctx: FEntryContext) -> i32 {
    freed(&ctx)
}

#[inline(always)]
fn freed(ctx: &FEntryContext) -> i32 {
    let request: *const c_void = ctx.arg(0);
    // SAFETY: the argument is a `request_sock` that nobody else has any more.
    unsafe {
        // Its child goes on under its cookie, and the tracepoint tells of that.
        let child = load_optional::<*const c_void>(request, at!(request_child));
        if child.is_none_or(<*const c_void>::is_null) {
            let end = End {
                form: form::REQUEST,
                cause: why(request),
                tries: probe_bits(request, at!(request_timeouts)).unwrap_or(0),
            };
            news::tell_gone(request, end);
        }
    }
    0
}

/// Why a request sock is freed, if that is certain. What `reqsk_timer_handler` ends is past its timer's time; everybody
/// else stops the timer before that. A client that has answered, and is kept out until it sends data or is let in, has not
/// left the SYN-ACK without an answer.
#[inline(always)]
fn why(request: *const c_void) -> u8 {
    // The listener is let go after this (`__reqsk_free`).
    let listener = probe::<*const c_void>(request, at!(request_listener));
    let listener_state = listener.and_then(|listener| probe::<u8>(listener, at!(skc_state)));
    if listener_state.is_some_and(|state| state != TCP_LISTEN) {
        return cause::LISTENER_GONE;
    }
    if at!(request_timer) == ABSENT || at!(timer_expires) == ABSENT {
        return cause::UNKNOWN;
    }
    let due = probe::<u64>(request, at!(request_timer) + at!(timer_expires)).unwrap_or(0);
    let waits = probe_bits(request, at!(request_acked)) == Some(0);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() };
    if waits && due != 0 && due <= now {
        cause::EXPIRED
    } else {
        cause::UNKNOWN
    }
}
