//! Looks at socks where they are, for an answer about sockets that the table knows: no hash is walked for it, no
//! socket locked, no namespace entered. Run by user space (`BPF_PROG_TEST_RUN`); attached to nothing.
//!
//! It only reads, and leaves it to user space to make sense of that: with each branch, the verifier would have more ways to go
//! through all of the socks.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use netstat_ebpf::{
    fields::ABSENT,
    wire::{SocketLook, look},
};

use crate::kernel::at;

/// The socks of one run.
#[map]
static LOOKS: Array<[SocketLook; SocketLook::BATCH]> = Array::with_max_entries(1, 0);

/// Looks at as many of them as the first argument says.
#[raw_tracepoint]
fn look(ctx: RawTracePointContext) -> u32 {
    let count: u64 = ctx.arg(0);
    let Some(looks) = LOOKS.get_ptr_mut(0) else {
        return 1;
    };
    let mut number = 0;
    while number < SocketLook::BATCH {
        if number as u64 >= count {
            break;
        }
        // SAFETY: within the map's value, which one run at a time uses.
        look_at(unsafe { &mut *looks.cast::<SocketLook>().add(number) });
        number += 1;
    }
    0
}

#[inline(always)]
fn look_at(found: &mut SocketLook) {
    let sk = found.skaddr as *const c_void;
    let [first, second, third, fourth] = &mut found.numbers;
    let mut error = match found.kind {
        look::MINISOCK => {
            read(sk, at!(tw_substate), &mut found.substate)
                | read(sk, at!(skc_hashed), &mut found.hashed)
                | read(sk, at!(skc_refcnt), first)
        }
        look::LISTENER => {
            read(sk, at!(sk_ack_backlog), first)
                | read(sk, at!(sk_max_ack_backlog), second)
                | read(sk, at!(icsk_requests), third)
        }
        _ => read_sequence(sk, [first, second, third, fourth]),
    };
    error |= read(sk, at!(skc_cookie), &mut found.cookie) | read(sk, at!(skc_state), &mut found.state);
    found.error = error as u32;
}

/// Reads a field; not 0 when it cannot be.
#[inline(always)]
fn read<T>(sk: *const c_void, offset: u32, to: &mut T) -> i64 {
    if offset == ABSENT {
        return -1;
    }
    // SAFETY: the helper writes as many bytes as there is room for, and checks the address.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut *to).cast(),
            size_of::<T>() as u32,
            sk.byte_add(offset as usize),
        )
    }
}

/// Bytes of a sock that are read at once.
const SPAN: usize = 256;

/// Reads where a connection is in what it sends and receives: at once if the fields are close to each other, so that the processor
/// has them brought from memory side by side, which is what a look waits for.
#[inline(always)]
fn read_sequence(sk: *const c_void, to: [&mut u32; 4]) -> i64 {
    let offsets = [at!(rcv_nxt), at!(copied_seq), at!(write_seq), at!(snd_una)];
    let first = offsets[0].min(offsets[1]).min(offsets[2]).min(offsets[3]);
    let last = offsets[0].max(offsets[1]).max(offsets[2]).max(offsets[3]);
    let mut error = 0;
    if (last - first) as usize > SPAN - size_of::<u32>() {
        for (offset, to) in offsets.into_iter().zip(to) {
            error |= read(sk, offset, to);
        }
        return error;
    }
    let mut span = MaybeUninit::<[u8; SPAN]>::uninit();
    let room = span.as_mut_ptr().cast::<c_void>();
    let length = last - first + size_of::<u32>() as u32;
    // SAFETY: the helper writes so many bytes, zeroes if it fails, which there is room for, and checks the address.
    unsafe {
        error |= bpf_probe_read_kernel(room, length, sk.byte_add(first as usize));
        for (offset, to) in offsets.into_iter().zip(to) {
            *to = room
                .byte_add((offset - first) as usize)
                .cast::<u32>()
                .read_volatile();
        }
    }
    error
}
