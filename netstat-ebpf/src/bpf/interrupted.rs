//! Whether the tracepoint's program has been interrupted on this CPU, and how often its stand-in has come in.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use netstat_ebpf::wire::stand_in;

/// By [`stand_in`] index.
#[map]
static STAND_IN: PerCpuArray<u64> = PerCpuArray::with_max_entries(stand_in::COUNT, 0);

/// The program starts on this CPU.
#[inline(always)]
pub fn begin() {
    set(1);
}

/// The program is done.
#[inline(always)]
pub fn end() {
    set(0);
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

#[inline(always)]
fn set(value: u64) {
    if let Some(under_way) = STAND_IN.get_ptr_mut(stand_in::UNDER_WAY) {
        // SAFETY: as above; volatile, because what interrupts reads it.
        unsafe { under_way.write_volatile(value) };
    }
}
