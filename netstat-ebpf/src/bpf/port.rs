//! Hooks on the ends of `connect` and `listen`: by then the port is chosen that the change of state was announced without.

use core::ffi::c_void;

use aya_ebpf::{macros::fexit, programs::FExitContext};
use netstat_ebpf::wire::{change, form};

use crate::{
    kernel::{at, load},
    news::{self, News},
    socket::{IPPROTO_TCP, TCP_LISTEN, TCP_SYN_SENT, describe_full},
};

/// `connect` of an IPv4 socket.
#[fexit(function = "tcp_v4_connect")]
pub fn connecting_v4(ctx: FExitContext) -> i32 {
    chosen(&ctx, TCP_SYN_SENT)
}

/// `connect` of an IPv6 socket.
#[fexit(function = "tcp_v6_connect")]
pub fn connecting_v6(ctx: FExitContext) -> i32 {
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
