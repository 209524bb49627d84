//! Reading the iterators to their ends.

use std::{
    fs::File,
    io::{self, Read},
};

use super::SweepError;
use crate::{
    clock::Ktime,
    decode::{self, DecodeError, FileRecord},
    facts::{Descriptor, Fence, HolderScan},
    loader::Iterators,
    processes,
};

/// Walks the namespace that the thread is in, and reports what it comes by in parts of whole records, each with its end;
/// reads figures too if they are wanted and the kernel lets them be read.
pub(super) fn sockets(
    iterators: &mut Iterators,
    wants_figures: bool,
    mut report: impl FnMut(Vec<u8>, Fence),
) -> Result<(), SweepError> {
    /// What `bpf_seq_read` gives at once, 8 pages, and more than a part without figures has.
    const CHUNK: u64 = 32 * 1024;
    const ROOM: usize = 320 * 1024;
    let file = if wants_figures && iterators.without_figures().is_none() {
        iterators.figures()?
    } else {
        iterators.sockets()?
    };
    let (mut bytes, mut stepped, mut ended) = (Vec::with_capacity(ROOM), 0, false);
    loop {
        match (&file).take(CHUNK).read_to_end(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            // `bpf_seq_read` pauses when it has passed a million objects without one to show. What was read before that is
            // there.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        while let Some((length, end)) = decode::sweep_step(&bytes[stepped..])? {
            let Some(fence) = end else {
                stepped += length;
                continue;
            };
            let mut rest = Vec::with_capacity(ROOM);
            rest.extend_from_slice(&bytes[stepped + length..]);
            bytes.truncate(stepped);
            report(std::mem::replace(&mut bytes, rest), fence);
            (stepped, ended) = (0, !fence.more);
        }
    }
    if ended && bytes.is_empty() {
        Ok(())
    } else {
        Err(SweepError::NoEnd)
    }
}

/// Walks all open files for those that hold sockets, and for those that are namespaces.
pub(super) fn files(iterators: &mut Iterators) -> Result<(HolderScan, Vec<Descriptor>), SweepError> {
    let start = Ktime::now();
    let (mut holders, mut namespaces) = (Vec::new(), Vec::new());
    read_all(iterators.files()?, |bytes| {
        let (record, rest) = decode::file_record(bytes)?;
        match record {
            FileRecord::Holder(holder) => holders.push(holder),
            FileRecord::Namespace(descriptor) => namespaces.push(descriptor),
        }
        Ok(rest)
    })?;
    let scan = HolderScan {
        start,
        complete: processes::all_visible(),
        holders,
    };
    Ok((scan, namespaces))
}

/// Reads `file` to its end and hands its bytes to `take`, which takes one record from their front each time.
/// Returns how many bytes of an incomplete record are left.
fn read_all(
    mut file: File,
    mut take: impl FnMut(&[u8]) -> Result<&[u8], DecodeError>,
) -> Result<usize, SweepError> {
    /// Twice what `bpf_seq_read` gives at once, 8 pages; and a record that it cut.
    const CHUNK: usize = 64 * 1024;
    let mut buffer = vec![0; CHUNK];
    let mut held = 0;
    loop {
        let read = match file.read(&mut buffer[held..]) {
            Ok(0) => return Ok(held),
            Ok(read) => read,
            // `bpf_seq_read` pauses when it has passed a million objects without one to show.
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(error.into()),
        };
        held += read;
        let mut bytes = &buffer[..held];
        loop {
            match take(bytes) {
                Ok(rest) => bytes = rest,
                Err(DecodeError::Short { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let rest = bytes.len();
        buffer.copy_within(held - rest..held, 0);
        held = rest;
    }
}
