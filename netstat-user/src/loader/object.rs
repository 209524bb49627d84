//! The BPF object: parsed, with its maps created and the kernel's field offsets filled in. Its programs are not loaded yet.

use std::thread;

use aya::{Btf, Ebpf, EbpfLoader};
use zerocopy::IntoBytes;

use super::{LoadError, btf, threads};

/// The compiled BPF programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETSTATE_BPF_OBJECT"));

/// Loads it, with an event ring of so many bytes. The BTF that comes with it has what the programs may be attached to, of
/// these names.
///
/// A kernel's BTF is megabytes, so two threads share the work: aya reads all of it whether that is wanted or not,
/// and one thread lets it, and loads the object, while the other one reads what is needed.
///
/// # Errors
///
/// [`LoadError`].
pub(super) fn load(ring_bytes: u32, names: &[String]) -> Result<(Ebpf, Btf), LoadError> {
    thread::scope(|scope| {
        let loader = threads::spawn(scope, EbpfLoader::new)?;
        let bytes = btf::bytes()?;
        let kernel = btf::Kernel::read(&bytes)?;
        let offsets = kernel.offsets()?;
        let object = threads::spawn(scope, move || {
            create(threads::join(loader), ring_bytes, offsets.as_bytes())
        })?;
        let functions = kernel.functions(names)?;
        Ok((threads::join(object)?, functions))
    })
}

fn create<'a>(mut loader: EbpfLoader<'a>, ring_bytes: u32, offsets: &'a [u8]) -> Result<Ebpf, LoadError> {
    loader
        // The object has no relocations that would take it.
        .btf(None)
        .override_global("OFFSETS", offsets, true)
        .map_max_entries("EVENTS", ring_bytes)
        .load(OBJECT)
        .map_err(|error| LoadError::object(&error))
}
