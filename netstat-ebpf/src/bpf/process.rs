//! Which process acts.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;

use crate::kernel::{at, load};

/// `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// A process, as records have it.
#[derive(Clone, Copy)]
pub struct Process {
    pub pid: u32,
    /// The name of its first thread.
    pub comm: [u64; 2],
    pub start: u64,
}

impl Process {
    /// Stands for no process.
    pub const NONE: Self = Self {
        pid: 0,
        comm: [0; 2],
        start: 0,
    };
}

/// The process of the current task; `None` if that is a kernel thread, such as a worker that closes files for others.
#[inline(always)]
pub fn current() -> Option<Process> {
    // SAFETY: the current task is trusted.
    unsafe {
        let task = bpf_get_current_task_btf().cast::<c_void>().cast_const();
        if load::<u32>(task, at!(task_flags)) & PF_KTHREAD != 0 {
            return None;
        }
        let leader: *const c_void = load(task, at!(task_group_leader));
        Some(Process {
            pid: load(task, at!(task_tgid)),
            comm: load(leader, at!(task_comm)),
            start: load(leader, at!(task_start)),
        })
    }
}
