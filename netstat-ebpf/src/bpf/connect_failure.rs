//! A `connect` that fails: no tracepoint reports it where the socket's state does not change.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, macros::fexit, programs::FExitContext};
use netstat_ebpf::wire::{ConnectFailure, Socket, kind, lost};

use crate::{
    kernel::{at, load, probe},
    process::{self, Process},
    ring,
    socket::{AF_INET6, IPPROTO_TCP, TCP_CLOSE, describe_full},
};

const AF_INET: u16 = 2;

/// `struct sockaddr_in` and `struct sockaddr_in6` (`include/uapi/linux/in.h`, `in6.h`), which never change.
const SIN_PORT: u32 = 2;
const SIN_ADDR: u32 = 4;
const SIN6_ADDR: u32 = 8;

/// What programs of a control group say before an IPv4 socket connects (`BPF_CGROUP_INET4_CONNECT`).
#[fexit(function = "tcp_v4_pre_connect")]
pub fn permitted_v4(ctx: FExitContext) -> i32 {
    report_failure(&ctx);
    0
}

/// What programs of a control group say before an IPv6 socket connects (`BPF_CGROUP_INET6_CONNECT`).
#[fexit(function = "tcp_v6_pre_connect")]
pub fn permitted_v6(ctx: FExitContext) -> i32 {
    report_failure(&ctx);
    0
}

/// Whether the address that was passed to `connect` is an IPv4 address in IPv6's form (`::ffff:0:0/96`).
#[inline(always)]
pub fn is_v4_mapped(ctx: &FExitContext) -> bool {
    let address: *const c_void = ctx.arg(1);
    let first: Option<u64> = probe(address, SIN6_ADDR);
    let next: Option<u32> = probe(address, SIN6_ADDR + 8);
    first == Some(0) && next.map(u32::from_be) == Some(0xffff)
}

/// Reports the failure of a function with `connect`'s arguments. Returns whether it has failed.
#[inline(always)]
pub fn report_failure(ctx: &FExitContext) -> bool {
    let result = ctx.ret::<i32>().unwrap_or(0);
    if result >= 0 {
        return false;
    }
    let sk: *const c_void = ctx.arg(0);
    let address: *const c_void = ctx.arg(1);
    // SAFETY: the first argument is a `sock` that the caller has locked; every byte of the record is written.
    unsafe {
        let tcp = load::<u16>(sk, at!(sk_protocol)) == IPPROTO_TCP;
        if tcp && load::<u8>(sk, at!(skc_state)) == TCP_CLOSE {
            ring::report::<ConnectFailure>(lost::MARK, |out| {
                (*out).kind = kind::CONNECT_FAILURE;
                (*out).error = result.unsigned_abs();
                (*out).time = bpf_ktime_get_boot_ns();
                describe_full(sk, &raw mut (*out).socket);
                describe_destination(address, &raw mut (*out).socket);
                (*out).fwmark = load(sk, at!(sk_mark));
                let Process { pid, comm, start } = process::current().unwrap_or(Process::NONE);
                (*out).pid = pid;
                (*out).start = start;
                (&raw mut (*out).comm).cast::<[u64; 2]>().write(comm);
            });
        }
    }
    true
}

/// Fills in the remote end of `out` from a `sockaddr`. One of another family leaves it without an address.
///
/// # Safety
///
/// `out` may be written.
#[inline(always)]
unsafe fn describe_destination(address: *const c_void, out: *mut Socket) {
    let family: u16 = probe(address, 0).unwrap_or(0);
    let mut remote = [0; 4];
    match family {
        AF_INET => {
            let v4: u32 = probe(address, SIN_ADDR).unwrap_or(0);
            // SAFETY: as the caller promises.
            remote = if unsafe { (*out).family } == AF_INET6 {
                [0, 0, 0xffff_u32.to_be(), v4]
            } else {
                [v4, 0, 0, 0]
            };
        }
        AF_INET6 => remote = probe(address, SIN6_ADDR).unwrap_or(remote),
        _ => {}
    }
    let port = if matches!(family, AF_INET | AF_INET6) {
        probe(address, SIN_PORT).unwrap_or(0)
    } else {
        0
    };
    // SAFETY: as the caller promises.
    unsafe {
        (*out).remote_port = u16::from_be(port);
        (&raw mut (*out).remote_addr).cast::<[u32; 4]>().write(remote);
    }
}
