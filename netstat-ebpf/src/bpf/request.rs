//! Hooks on the life of request socks, of which no tracepoint tells before a child comes of them.

use core::ffi::c_void;

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use netstat_ebpf::wire::{cause, change, form};

use crate::{
    kernel::{at, load, load_optional},
    news::{self, News},
    socket::{IPPROTO_TCP, TCP_SYN_RECV, describe_common},
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
            news::tell_gone(form::REQUEST, load(request, at!(skc_cookie)), cause::UNKNOWN);
        }
    }
    0
}
