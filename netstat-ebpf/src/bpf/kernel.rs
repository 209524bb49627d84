//! Reading fields of kernel structures at the offsets that user space found in BTF.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::bpf_probe_read_kernel;
use netstat_ebpf::fields::{ABSENT, Offsets};

/// Set by the loader before the programs are loaded, and frozen.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::ABSENT;

/// The offset stored at byte `member` of [`Offsets`], as a constant to the verifier.
#[inline(always)]
pub fn offset(member: usize) -> u32 {
    // SAFETY: `at!` passes the place of a member of `OFFSETS`. The read is volatile because the loader
    // changes the value behind the compiler's back.
    unsafe { ptr::read_volatile((&raw const OFFSETS).byte_add(member).cast::<u32>()) }
}

/// The kernel offset that a member of [`Offsets`] holds.
macro_rules! at {
    ($name:ident) => {
        $crate::kernel::offset(::core::mem::offset_of!(::netstat_ebpf::fields::Offsets, $name))
    };
}
pub(crate) use at;

/// Loads a `T` at `base + offset`.
///
/// # Safety
///
/// `base` is a BTF pointer that the verifier knows, and the structure has a field of `T`'s size there.
/// The verifier checks both; a pointer that has gone stale reads as zero.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
    // SAFETY: the caller's promise, checked by the verifier. Volatile, so that LLVM neither merges nor
    // splits the load: the verifier accepts loads of whole fields.
    unsafe { ptr::read_volatile(base.cast::<u8>().add(offset as usize).cast::<T>()) }
}

/// As [`load`], but `None` where the running kernel has no such field.
///
/// # Safety
///
/// As [`load`].
#[inline(always)]
pub unsafe fn load_optional<T: Copy>(base: *const c_void, offset: u32) -> Option<T> {
    if offset == ABSENT {
        None
    } else {
        // SAFETY: the caller's promise.
        Some(unsafe { load(base, offset) })
    }
}

/// As [`load_optional`], for a bit field: `offset` says where it is as [`netstat_ebpf::fields::bits`] packs that.
/// Goes through a helper, which reads whatever the verifier does not know.
#[inline(always)]
pub fn probe_bits(base: *const c_void, offset: u32) -> Option<u8> {
    if offset == ABSENT {
        return None;
    }
    let (first, width) = (offset >> 8, offset & 0xff);
    let byte: u8 = probe(base, first / 8)?;
    Some((u32::from(byte) >> (first % 8) & ((1 << width) - 1)) as u8)
}

/// As [`probe_bits`], where the verifier knows what is there.
///
/// # Safety
///
/// As [`load`], of the byte that has the bits.
#[inline(always)]
pub unsafe fn load_bits(base: *const c_void, offset: u32) -> Option<u8> {
    if offset == ABSENT {
        return None;
    }
    let (first, width) = (offset >> 8, offset & 0xff);
    // SAFETY: the caller's promise.
    let byte: u8 = unsafe { load(base, first / 8) };
    Some((u32::from(byte) >> (first % 8) & ((1 << width) - 1)) as u8)
}

/// Reads a `T` at `base + offset` by a helper, where the verifier does not know what is there. `None` where the
/// running kernel has no such field, or the address is none.
#[inline(always)]
pub fn probe<T: Copy>(base: *const c_void, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    let place = base.cast::<u8>().wrapping_add(offset as usize).cast::<T>();
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(place) }.ok()
}
