//! Whether the tracepoint's program has been interrupted on this CPU, and how often its stand-in has come in.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use netstat_ebpf::wire::stand_in;

/// By [`stand_in`] index.
#[map]
static STAND_IN: PerCpuArray<u64> = PerCpuArray::with_max_entries(stand_in::COUNT, 0);

/// Does the program's work, so that its stand-in notices.
#[inline(always)]
pub fn noticeably(work: impl FnOnce() -> i32) -> i32 {
    let Some(under_way) = STAND_IN.get_ptr_mut(stand_in::UNDER_WAY) else {
        return work();
    };
    // SAFETY: the map's value, valid while the program runs, and of this CPU alone; volatile, because what
    // interrupts the program reads it.
    unsafe { under_way.write_volatile(1) };
    let result = work();
    // SAFETY: as above.
    unsafe { under_way.write_volatile(0) };
    result
}

/// Whether the program has started and is not done: then the kernel skips it for what happens now.
#[inline(always)]
pub fn is_under_way() -> bool {
    // SAFETY: the map's value, valid while the program runs, and of this CPU alone.
    STAND_IN
        .get_ptr(stand_in::UNDER_WAY)
        .is_some_and(|under_way| unsafe { under_way.read_volatile() } != 0)
}

/// Counts one event that the stand-in takes.
#[inline(always)]
pub fn count() {
    if let Some(counter) = STAND_IN.get_ptr_mut(stand_in::TAKEN) {
        // SAFETY: as above. Nothing comes between the read and the write: the stand-in does not interrupt itself.
        unsafe { *counter += 1 };
    }
}
