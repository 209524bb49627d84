//! What iterator programs share: their context and the file that they write to.

use core::{ffi::c_void, mem};

use aya_ebpf::helpers::generated::bpf_seq_write;

/// `struct bpf_iter_meta`, which the kernel keeps as it is (`include/linux/bpf.h`).
#[repr(C)]
struct IterMeta {
    seq: *mut c_void,
    session_id: u64,
    seq_num: u64,
}

/// The context of an iterator program: its `meta`, then arguments of its own.
#[derive(Clone, Copy)]
pub struct IterContext(*const u64);

impl IterContext {
    /// # Safety
    ///
    /// `ctx` is what the kernel called an iterator program with.
    #[inline(always)]
    pub unsafe fn new(ctx: *const u64) -> Self {
        Self(ctx)
    }

    /// The `n`th argument after `meta`, counted from 0.
    #[inline(always)]
    pub fn arg(self, n: usize) -> u64 {
        // SAFETY: inside the context; the verifier checks it.
        unsafe { *self.0.add(n + 1) }
    }

    /// The number of this session: each that opens the iterator has another one.
    #[inline(always)]
    pub fn session(self) -> u64 {
        // SAFETY: `meta` is a trusted pointer.
        unsafe { (*self.meta()).session_id }
    }

    /// How many objects this session has come to before this one.
    #[inline(always)]
    pub fn number(self) -> u64 {
        // SAFETY: `meta` is a trusted pointer.
        unsafe { (*self.meta()).seq_num }
    }

    /// Appends `record` to what the reader of the iterator gets. When the buffer is full the kernel calls
    /// the program again for the same object, so the result needs no look.
    #[inline(always)]
    pub fn write<T>(self, record: &T) {
        // SAFETY: `meta` is a trusted pointer; `record` is as long as said.
        unsafe {
            bpf_seq_write(
                (*self.meta()).seq.cast(),
                (&raw const *record).cast(),
                mem::size_of::<T>() as u32,
            );
        }
    }

    #[inline(always)]
    fn meta(self) -> *const IterMeta {
        // SAFETY: the first word of the context.
        unsafe { *self.0 as *const IterMeta }
    }
}
