//! Whose descriptor table `iter/task_file` is at: each table of a process is to be scanned once, however many threads share it.
//!
//! The kernel passes over threads that share the table of their process's first thread, and over no others
//! (`task_seq_get_next` in `kernel/bpf/task_iter.c`, 6.18). Threads that share another one are each walked: where one of them has
//! left the first thread's table (`unshare(CLONE_FILES)`), and where the first thread has exited, which has no table then.

use core::ffi::c_void;

use aya_ebpf::{macros::map, maps::LruHashMap};

use crate::{
    kernel::{at, load},
    seq::IterContext,
};

/// Tables that are remembered. One that is forgotten is scanned again with the next thread that has it.
const MOST: u32 = 4096;

/// A table of descriptors that is not the first thread's, in one scan.
#[repr(C)]
#[derive(Clone, Copy)]
struct Table {
    session: u64,
    /// Its address. Another table can only get it while the scan goes on, which need not see that.
    files: u64,
    tgid: u64,
}

/// The thread with which a table is scanned.
#[map]
static TABLES: LruHashMap<Table, u32> = LruHashMap::with_max_entries(MOST, 0);

/// The thread to name for the files that the scan finds with `task`: 0 if its process's id does, because it is the first thread.
/// `None` if another thread has the same table and stands for it.
///
/// # Safety
///
/// `task` is trusted and not NULL.
#[inline(always)]
pub unsafe fn thread(ctx: IterContext, task: *const c_void) -> Option<u32> {
    // SAFETY: the caller's promise.
    let (leader, files, thread, process) = unsafe {
        (
            load::<*const c_void>(task, at!(task_group_leader)),
            load::<u64>(task, at!(task_files)),
            load::<u32>(task, at!(task_pid)),
            load::<u32>(task, at!(task_tgid)),
        )
    };
    if core::ptr::eq(task, leader) {
        return Some(0);
    }
    let table = Table {
        session: ctx.session(),
        files,
        tgid: u64::from(process),
    };
    // SAFETY: the value is a number, which is never changed once it is there.
    if let Some(standing) = unsafe { TABLES.get(table) } {
        return (*standing == thread).then_some(thread);
    }
    // Without room it is scanned with each thread that has it.
    let _ = TABLES.insert(table, thread, 0);
    Some(thread)
}
