//! How memory that is free goes back to the system.

/// Blocks of this size and larger have mappings of their own, which end with them. Smaller than what an answer takes at once, such as
/// the holders of all sockets or a part of a scan with figures; larger than a frame, of which an answer takes one after the
/// other.
const MAPPED: i32 = 512 * 1024;
/// A heap whose end is free for so long is cut off there.
const CUT_OFF: i32 = 1024 * 1024;

/// Has the allocator give back what large answers took. Call this before other threads start.
///
/// By itself, glibc raises both sizes when a mapped block is freed, up to 32 and 64 MiB (`M_MMAP_THRESHOLD` in `mallopt(3)`): from
/// then on the parts of a scan are in the heaps of the threads, where whatever is allocated behind them keeps them from going back.
/// Other allocators, such as musl's, do not do that.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};
        // SAFETY: `mallopt` changes variables of the allocator that other threads would read at the same time, and there are none
        // yet. What it refuses stays as it was.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, MAPPED);
            mallopt(M_TRIM_THRESHOLD, CUT_OFF);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (MAPPED, CUT_OFF);
}
