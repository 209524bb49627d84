//! `iter/tcp`: every TCP socket of one network namespace, walked by `bpf_iter_tcp_seq_show`: listeners, full
//! socks, minisocks and request socks.

use core::{ffi::c_void, mem::MaybeUninit};

use netstat_ebpf::wire::{SocketSeen, kind};

use crate::{seq::IterContext, sighting};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp(ctx: *const u64) -> i32 {
    // SAFETY: called by the kernel as an iterator program.
    let ctx = unsafe { IterContext::new(ctx) };
    let sk = ctx.arg(0) as *const c_void;
    if sk.is_null() {
        sighting::end(ctx);
        return 0;
    }
    sighting::pause(ctx);
    let mut record = MaybeUninit::<SocketSeen>::uninit();
    // SAFETY: `sk` is a trusted `sock_common`; every byte of the record is written.
    unsafe {
        if sighting::see(sk, kind::SOCKET_SEEN, sighting::time(ctx), record.as_mut_ptr()).is_some() {
            ctx.write(record.assume_init_ref());
        }
    }
    0
}
