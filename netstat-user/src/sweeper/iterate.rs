//! Reading the iterators to their ends.

use std::{
    fs::File,
    io::{self, Read},
};

use super::SweepError;
use crate::{
    clock::Ktime,
    decode::{self, DecodeError, FileRecord},
    facts::{Fence, HolderIndex, HolderScan},
    loader::Iterators,
    namespaces::Held,
    processes,
};

/// Walks the namespace that the thread is in, and reports what it comes by in parts of whole records, each with its end;
/// reads figures too if they are wanted and the kernel lets them be read.
pub(super) fn sockets(
    iterators: &Iterators,
    wants_figures: bool,
    mut report: impl FnMut(Vec<u8>, Fence),
) -> Result<(), SweepError> {
    let mut file = if wants_figures && iterators.without_figures().is_none() {
        iterators.figures()?
    } else {
        iterators.sockets()?
    };
    let (mut bytes, mut stepped, mut ended) = (Vec::new(), 0, false);
    while read(&mut file, &mut bytes)? {
        while let Some((length, end)) = decode::sweep_step(&bytes[stepped..])? {
            let Some(fence) = end else {
                stepped += length;
                continue;
            };
            // The next part is as long, if there is one.
            let mut rest = Vec::with_capacity(if fence.more { bytes.len() + CHUNK } else { 0 });
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

/// What open files lead to.
pub(super) struct Files {
    pub(super) holders: HolderIndex,
    pub(super) held: Held,
    /// Among them is a socket of MPTCP whose cookie nobody had asked for before.
    pub(super) first_asked: bool,
}

/// Walks all open files for those that hold sockets, and for those that lead into network namespaces.
pub(super) fn files(iterators: &Iterators) -> Result<Files, SweepError> {
    let start = Ktime::now();
    let (mut holders, mut held, mut first_asked) = (Vec::new(), Held::default(), false);
    read_all(iterators.files()?, |bytes| {
        let (record, rest) = decode::file_record(bytes)?;
        match record {
            FileRecord::Holder(holder, first) => {
                first_asked |= first;
                holders.push(holder);
            }
            FileRecord::Namespace(descriptor) => held.namespaces.push(descriptor),
            FileRecord::Elsewhere(netns) => {
                held.by_sockets.insert(netns);
            }
        }
        Ok(rest)
    })?;
    let holders = HolderScan {
        start,
        complete: processes::all_visible(),
        holders,
    };
    Ok(Files {
        holders: holders.into(),
        held,
        first_asked,
    })
}

/// What `bpf_seq_read` gives at once: 8 pages.
const CHUNK: usize = 32 * 1024;

/// Adds what `file` has next to `bytes`. `false` at its end.
fn read(file: &mut File, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let held = bytes.len();
    bytes.resize(held + CHUNK, 0);
    let read = loop {
        match file.read(&mut bytes[held..]) {
            // `bpf_seq_read` pauses when it has passed a million objects without one to show.
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            read => break read,
        }
    };
    bytes.truncate(held + *read.as_ref().unwrap_or(&0));
    Ok(read? > 0)
}

/// Reads `file` to its end and hands its bytes to `take`, which takes one record from their front each time.
fn read_all(
    mut file: File,
    mut take: impl FnMut(&[u8]) -> Result<&[u8], DecodeError>,
) -> Result<(), SweepError> {
    let mut bytes = Vec::new();
    while read(&mut file, &mut bytes)? {
        let mut rest = &bytes[..];
        loop {
            match take(rest) {
                Ok(behind) => rest = behind,
                Err(DecodeError::Short { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let taken = bytes.len() - rest.len();
        bytes.drain(..taken);
    }
    Ok(())
}
