//! Reading the iterators to their ends.

use std::{
    fs::File,
    io::{self, Read},
};

use super::SweepError;
use crate::{
    clock::{Ktime, Tick},
    decode::{self, DecodeError, FileRecord, SweepRecord},
    facts::{Descriptor, Fence, FigureSet, HolderScan, Sighting},
    loader::Iterators,
    processes,
};

/// What a walk over a namespace has found since the last part, or its beginning.
pub(super) struct Part {
    pub(super) sightings: Vec<Sighting>,
    pub(super) figures: FigureSet,
    pub(super) fence: Fence,
}

/// Walks the namespace that the thread is in, and reports what it finds in parts, saying which is the first; reads figures
/// too if they are wanted and the kernel lets them be read, and adds them to those that it is given.
pub(super) fn sockets(
    iterators: &mut Iterators,
    tick: Tick,
    wants_figures: bool,
    mut figures: FigureSet,
    mut report: impl FnMut(Part, bool),
) -> Result<(), SweepError> {
    let file = if wants_figures && iterators.without_figures().is_none() {
        iterators.figures()?
    } else {
        iterators.sockets()?
    };
    let (mut sightings, mut first, mut ended) = (Vec::new(), true, false);
    let rest = read_all(file, |bytes| {
        let (record, rest) = decode::sweep_record(bytes, tick)?;
        match record {
            SweepRecord::Seen(seen) => sightings.push(seen),
            SweepRecord::Figures(seen, found) => {
                figures.insert(&seen, found);
                sightings.push(seen);
            }
            SweepRecord::End(fence) => {
                let room = Vec::with_capacity(sightings.len());
                let part = Part {
                    sightings: std::mem::replace(&mut sightings, room),
                    figures: std::mem::take(&mut figures),
                    fence,
                };
                report(part, std::mem::replace(&mut first, false));
                ended = !fence.more;
            }
        }
        Ok(rest)
    })?;
    if ended && rest == 0 {
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
