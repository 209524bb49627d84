//! The event ring, and the counters of what found no room in it.

use aya_ebpf::{
    bindings::BPF_RB_PROD_POS,
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use netstat_ebpf::wire::lost;

/// Records for user space. The loader sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Records that found no room, by [`lost`] index.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(lost::COUNT, 0);

/// Reserves a record, or counts it as lost under `index`.
#[inline(always)]
pub fn reserve<T: 'static>(index: u32) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count_lost(index);
    }
    entry
}

/// Reserves a record, has it filled in, and hands it over; counts it under `index` if there is no room.
///
/// # Safety
///
/// `fill` writes every byte of what it is given.
#[inline(always)]
pub unsafe fn report<T: 'static>(index: u32, fill: impl FnOnce(*mut T)) {
    if let Some(mut entry) = reserve::<T>(index) {
        fill(entry.as_mut_ptr());
        entry.submit(0);
    }
}

/// How many bytes have been reserved since the ring was made.
#[inline(always)]
pub fn position() -> u64 {
    EVENTS.query(BPF_RB_PROD_POS.into())
}

#[inline(always)]
fn count_lost(index: u32) {
    if let Some(counter) = LOST.get_ptr_mut(index) {
        // SAFETY: the map's value, valid while the program runs. A run of the same program cannot come between
        // the read and the write, since the kernel does not start one that already runs on this CPU. Another
        // program can, by interrupt, and if it finds no room either, one of the two counts is overwritten:
        // Rust has no atomic addition for this target.
        unsafe { *counter += 1 };
    }
}
