//! `iter/task_file`: every open file of every process, of which the TCP sockets are reported. One pass over
//! all processes finds the holders of all sockets, whatever their network namespace.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock, bpf_sock_from_file};
use netstat_ebpf::wire::{COMM_LEN, SocketHeld, kind};

use crate::{
    kernel::{at, load},
    seq::IterContext,
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_task_file(ctx: *const u64) -> i32 {
    // SAFETY: called by the kernel as an iterator program.
    let ctx = unsafe { IterContext::new(ctx) };
    let task = ctx.arg(0) as *const c_void;
    let fd = ctx.arg(1) as u32;
    let file = ctx.arg(2) as *mut c_void;
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: `file` and `task` are trusted and not NULL; helpers' results are checked.
    unsafe {
        let socket = bpf_sock_from_file(file.cast()).cast::<c_void>().cast_const();
        if socket.is_null() {
            return 0;
        }
        let sk: *mut c_void = load(socket, at!(socket_sk));
        if sk.is_null() {
            return 0;
        }
        let tcp = bpf_skc_to_tcp_sock(sk);
        if tcp.is_null() {
            return 0;
        }
        let mut record = MaybeUninit::<SocketHeld>::uninit();
        let out = record.as_mut_ptr();
        (*out).kind = kind::SOCKET_HELD;
        (*out).fd = fd;
        (*out).cookie = bpf_get_socket_cookie(tcp.cast());
        (*out).pid = load::<u32>(task, at!(task_tgid));
        (*out).reserved = 0;
        (*out).comm = load::<[u8; COMM_LEN]>(task, at!(task_comm));
        ctx.write(record.assume_init_ref());
    }
    0
}
