//! Hooks on the life of minisocks, of which no tracepoint tells: they are hashed, the peer's FIN turns FIN_WAIT2
//! into TIME_WAIT, and their timer or somebody who needs their place ends them.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use netstat_ebpf::wire::{cause, change, form};

use crate::{
    kernel::{at, load},
    news::{self, End, News},
    socket::{TCP_TIME_WAIT, describe_common},
};

/// `enum tcp_tw_status`, `include/net/tcp.h`: the segment is acknowledged, and the minisock stays.
const TCP_TW_ACK: i32 = 2;

/// Before `tcp_time_wait` closes the full sock. The function has the name `inet_twsk_hashdance` up to 6.10.
#[fentry(function = "inet_twsk_hashdance_schedule")]
pub fn minisock_hashed(ctx: FEntryContext) -> i32 {
    let tw: *const c_void = ctx.arg(0);
    // SAFETY: the first argument is the new `inet_timewait_sock`, filled in already.
    unsafe {
        let state = load::<u8>(tw, at!(tw_substate));
        let news = News {
            form: form::MINISOCK,
            change: change::MADE,
            state,
        };
        news::tell(tw, news, describe_common);
    }
    0
}

/// A segment has come for a minisock. If it was the FIN, TIME_WAIT begins with it.
#[fexit(function = "tcp_timewait_state_process")]
pub fn minisock_segment(ctx: FExitContext) -> i32 {
    let tw: *const c_void = ctx.arg(0);
    // The caller holds the minisock only where it is to be acknowledged.
    if !matches!(ctx.ret::<i32>(), Ok(TCP_TW_ACK)) {
        return 0;
    }
    // SAFETY: the first argument is an `inet_timewait_sock` that the caller holds.
    unsafe {
        if load::<u8>(tw, at!(tw_substate)) == TCP_TIME_WAIT {
            let news = News {
                form: form::MINISOCK,
                change: change::CHANGED,
                state: TCP_TIME_WAIT,
            };
            news::tell(tw, news, describe_common);
        }
    }
    0
}

/// The time is over.
#[fentry(function = "tw_timer_handler")]
pub fn minisock_expired(ctx: FEntryContext) -> i32 {
    let timer: *const u8 = ctx.arg(0);
    // The timer is a member of the minisock.
    let tw = timer.wrapping_sub(at!(tw_timer) as usize);
    ended(tw.cast(), cause::EXPIRED)
}

/// Somebody ends it early: a SYN or a `connect` that takes its ends over, a RST, the end of its namespace.
#[fentry(function = "inet_twsk_deschedule_put")]
pub fn minisock_descheduled(ctx: FEntryContext) -> i32 {
    ended(ctx.arg(0), cause::UNKNOWN)
}

#[inline(always)]
fn ended(tw: *const c_void, cause: u8) -> i32 {
    let end = End {
        form: form::MINISOCK,
        cause,
        tries: 0,
    };
    news::tell_gone(tw, end);
    0
}
