//! `iter/task_file`: every open file of every process, of which the TCP and MPTCP sockets are reported, and what tells of
//! namespaces. One pass over all processes finds the holders of all sockets, whatever their network namespace.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_skc_to_tcp_sock, bpf_sock_from_file,
};
use netstat_ebpf::wire::{COMM_LEN, NamespaceHeld, SocketHeld, held, kind};

use crate::{
    file_table,
    kernel::{at, load, load_optional},
    seq::IterContext,
    socket::IPPROTO_MPTCP,
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
        let Some(tid) = file_table::thread(ctx, task) else {
            return 0;
        };
        let socket = bpf_sock_from_file(file.cast()).cast::<c_void>().cast_const();
        if socket.is_null() {
            if is_namespace(file) {
                tell_namespace(ctx, task, tid, fd, 0);
            }
            return 0;
        }
        let sk: *mut c_void = load(socket, at!(socket_sk));
        if sk.is_null() {
            return 0;
        }
        let netns = load::<u32>(load(sk, at!(skc_net)), at!(net_inum));
        if netns != namespace_of(task) {
            tell_namespace(ctx, task, tid, fd, netns);
        }
        if !is_tcp_or_mptcp(sk) {
            return 0;
        }
        let process: *const c_void = load(task, at!(task_group_leader));
        let mut record = MaybeUninit::<SocketHeld>::uninit();
        let out = record.as_mut_ptr();
        (*out).kind = kind::SOCKET_HELD;
        (*out).fd = fd;
        (*out).time = bpf_ktime_get_boot_ns();
        (*out).flags = if is_mptcp(sk) && load::<u64>(sk, at!(skc_cookie)) == 0 {
            held::FIRST_ASKED
        } else {
            0
        };
        (*out).cookie = bpf_get_socket_cookie(sk);
        (*out).pid = load::<u32>(task, at!(task_tgid));
        (*out).tid = tid;
        (*out).padding = 0;
        (*out).start = load(process, at!(task_start));
        (*out).comm = load::<[u8; COMM_LEN]>(process, at!(task_comm));
        ctx.write(record.assume_init_ref());
    }
    0
}

/// The network namespace that a task is in, by inode number; zero if it has left all.
#[inline(always)]
unsafe fn namespace_of(task: *const c_void) -> u32 {
    // SAFETY: `task` is trusted; a NULL on the way reads as zero.
    unsafe {
        load(
            load(load(task, at!(task_nsproxy)), at!(nsproxy_net)),
            at!(net_inum),
        )
    }
}

#[inline(always)]
unsafe fn tell_namespace(ctx: IterContext, task: *const c_void, tid: u32, fd: u32, netns: u32) {
    ctx.write(&NamespaceHeld {
        kind: kind::NAMESPACE_HELD,
        fd,
        // SAFETY: `task` is trusted.
        pid: unsafe { load(task, at!(task_tgid)) },
        tid,
        netns,
    });
}

/// Whether the file is a namespace, of whatever kind.
#[inline(always)]
unsafe fn is_namespace(file: *const c_void) -> bool {
    /// `NSFS_MAGIC`, `include/uapi/linux/magic.h`.
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    // SAFETY: `file` is trusted; a NULL on the way reads as zero.
    unsafe {
        let inode: *const c_void = load(file, at!(file_inode));
        let Some(system) = load_optional::<*const c_void>(inode, at!(inode_sb)) else {
            return false;
        };
        load_optional::<u64>(system, at!(sb_magic)) == Some(NSFS_MAGIC)
    }
}

/// Processes hold a plain TCP socket itself, and of MPTCP the socket above its subflows, whose cookie joins them:
/// see `socket_iter`.
#[inline(always)]
unsafe fn is_tcp_or_mptcp(sk: *mut c_void) -> bool {
    // SAFETY: `sk` is the sock of an open socket. `bpf_skc_to_tcp_sock` looks at family and type as well.
    unsafe { !bpf_skc_to_tcp_sock(sk).is_null() || is_mptcp(sk) }
}

#[inline(always)]
unsafe fn is_mptcp(sk: *const c_void) -> bool {
    // SAFETY: as for `is_tcp_or_mptcp`.
    unsafe { load::<u16>(sk, at!(sk_protocol)) == IPPROTO_MPTCP }
}
