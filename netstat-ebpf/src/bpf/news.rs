//! What the hooks in the kernel's code report: the records that they share.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use netstat_ebpf::wire::{Socket, SocketGone, SocketNews, kind, lost};

use crate::ring;

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

/// Reports that the `form` with this cookie ends, and of what `cause`; without a cookie nobody has ever heard of it.
#[inline(always)]
pub fn tell_gone(form: u8, cookie: u64, cause: u8) {
    if cookie == 0 {
        return;
    }
    let Some(mut entry) = ring::reserve::<SocketGone>(lost::NEWS) else {
        return;
    };
    entry.write(SocketGone {
        kind: kind::SOCKET_GONE,
        form,
        cause,
        reserved: [0; 2],
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_boot_ns() },
        cookie,
    });
    entry.submit(0);
}
