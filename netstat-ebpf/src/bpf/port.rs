//! Hooks on the ends of `connect` and `listen`: by then the port is chosen that the change of state was announced without,
//! or the call has failed.

use core::ffi::c_void;

use aya_ebpf::{macros::fexit, programs::FExitContext};
use netstat_ebpf::wire::{change, form};

use crate::{
    connect_failure::{is_v4_mapped, report_failure},
    kernel::{at, load, probe_bits},
    news::{self, News},
    socket::{IPPROTO_TCP, TCP_LISTEN, TCP_SYN_SENT, describe_full},
};

/// `connect` of an IPv4 socket.
#[fexit(function = "tcp_v4_connect")]
pub fn connecting_v4(ctx: FExitContext) -> i32 {
    if report_failure(&ctx) {
        return 0;
    }
    chosen(&ctx, TCP_SYN_SENT)
}

/// `connect` of an IPv6 socket. For an IPv4 destination the kernel calls [`connecting_v4`]'s function from this one, unless
/// the socket takes no IPv4.
#[fexit(function = "tcp_v6_connect")]
pub fn connecting_v6(ctx: FExitContext) -> i32 {
    if is_v4_mapped(&ctx) && probe_bits(ctx.arg(0), at!(skc_ipv6only)) == Some(0) {
        return 0;
    }
    if report_failure(&ctx) {
        return 0;
    }
    chosen(&ctx, TCP_SYN_SENT)
}

/// `listen`. DCCP used the function too, up to 6.15.
#[fexit(function = "inet_csk_listen_start")]
pub fn listening(ctx: FExitContext) -> i32 {
    chosen(&ctx, TCP_LISTEN)
}

/// Tells of the socket if it is in `state`, and not back in CLOSE because there was no port.
#[inline(always)]
fn chosen(ctx: &FExitContext, state: u8) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    // SAFETY: the argument is a `sock` that the caller has locked.
    unsafe {
        let tcp = load::<u16>(sk, at!(sk_protocol)) == IPPROTO_TCP;
        if tcp && load::<u8>(sk, at!(skc_state)) == state {
            let news = News {
                form: form::FULL,
                change: change::CHANGED,
                state,
            };
            news::tell(sk, news, describe_full);
        }
    }
    0
}
