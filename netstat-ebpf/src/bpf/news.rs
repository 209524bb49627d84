//! What the hooks in the kernel's code report: the records that they share.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use netstat_ebpf::wire::{Socket, SocketGone, SocketNews, kind, lost};

use crate::{
    kernel::{at, probe},
    ring,
};

/// What is to be told of a sock.
#[derive(Clone, Copy)]
pub struct News {
    pub form: u8,
    pub change: u8,
    pub state: u8,
}

/// Reports `news` of the sock `sk`; `describe` fills in which it is.
///
/// # Safety
///
/// `describe` takes `sk`, and writes every byte of what it is given.
#[inline(always)]
pub unsafe fn tell(sk: *const c_void, news: News, describe: unsafe fn(*const c_void, *mut Socket)) {
    let Some(mut entry) = ring::reserve::<SocketNews>(lost::NEWS) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: `out` is the reserved record, and every byte of it is written.
    unsafe {
        (*out).kind = kind::SOCKET_NEWS;
        (*out).state = news.state;
        (*out).form = news.form;
        (*out).change = news.change;
        (*out).reserved = 0;
        (*out).time = bpf_ktime_get_boot_ns();
        describe(sk, &raw mut (*out).socket);
    }
    entry.submit(0);
}

/// What ends, and of what.
#[derive(Clone, Copy)]
pub struct End {
    pub form: u8,
    pub cause: u8,
    pub tries: u8,
}

/// Reports the `end` of the sock `sk`; without a cookie nobody has ever heard of it. Goes through helpers, since the
/// verifier does not know every such pointer.
#[inline(always)]
pub fn tell_gone(sk: *const c_void, end: End) {
    let Some(cookie) = probe::<u64>(sk, at!(skc_cookie)).filter(|cookie| *cookie != 0) else {
        return;
    };
    let Some(mut entry) = ring::reserve::<SocketGone>(lost::NEWS) else {
        return;
    };
    entry.write(SocketGone {
        kind: kind::SOCKET_GONE,
        form: end.form,
        cause: end.cause,
        tries: end.tries,
        reserved: 0,
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_boot_ns() },
        cookie,
        local_port: probe(sk, at!(skc_num)).unwrap_or(0),
        remote_port: u16::from_be(probe(sk, at!(skc_dport)).unwrap_or(0)),
        padding: 0,
    });
    entry.submit(0);
}
