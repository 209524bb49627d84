//! Hooks on the end of `connect`: by then the port is chosen that CLOSE → SYN_SENT was announced without.

use core::ffi::c_void;

use aya_ebpf::{macros::fexit, programs::FExitContext};
use netstat_ebpf::wire::{change, form};

use crate::{
    kernel::{at, load},
    news::{self, News},
    socket::{TCP_SYN_SENT, describe_full},
};

/// `connect` of an IPv4 socket.
#[fexit(function = "tcp_v4_connect")]
pub fn connecting_v4(ctx: FExitContext) -> i32 {
    connecting(&ctx)
}

/// `connect` of an IPv6 socket.
#[fexit(function = "tcp_v6_connect")]
pub fn connecting_v6(ctx: FExitContext) -> i32 {
    connecting(&ctx)
}

#[inline(always)]
fn connecting(ctx: &FExitContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    // SAFETY: the argument is a `sock` that the caller has locked.
    unsafe {
        if load::<u8>(sk, at!(skc_state)) == TCP_SYN_SENT {
            let news = News {
                form: form::FULL,
                change: change::CHANGED,
                state: TCP_SYN_SENT,
            };
            news::tell(sk, news, describe_full);
        }
    }
    0
}
