//! A part of a walk as the kernel wrote it.

use super::SweepError;
use crate::{
    clock::{Ktime, Tick},
    connection::Netns,
    decode::{self, SweepRecord},
    facts::{FigureSet, Sighting},
    settings::Settings,
    table::SweepPart,
};

/// What a walk over a namespace has come by since the last part. It is decoded by who folds it, because the walk is what
/// everybody waits for.
#[derive(Debug)]
pub struct Walked {
    pub(super) netns: Netns,
    /// When the walk began.
    pub(super) start: Ktime,
    /// Whether it is the first part of its walk.
    pub(super) first: bool,
    /// If it is the last one, when the walk ended.
    pub(super) end: Option<Ktime>,
    /// Whole records.
    pub(super) records: Vec<u8>,
    pub(super) tick: Tick,
    /// What the namespace is set to, in the first part of a walk that reads figures.
    pub(super) settings: Option<Settings>,
}

impl Walked {
    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> Netns {
        self.netns
    }

    /// The part, with its sightings in `room`, which is emptied before; and its figures, which are added to `figures`.
    ///
    /// # Errors
    ///
    /// [`SweepError::Decode`].
    pub fn decode(self, mut room: Vec<Sighting>, figures: &mut FigureSet) -> Result<SweepPart, SweepError> {
        if let Some(settings) = self.settings {
            figures.set(self.netns, settings);
        }
        room.clear();
        let mut bytes = &self.records[..];
        while !bytes.is_empty() {
            let (record, rest) = decode::sweep_record(bytes, self.tick)?;
            match record {
                SweepRecord::Seen(seen) => room.push(seen),
                SweepRecord::Figures(seen, found) => {
                    figures.insert(&seen, found);
                    room.push(seen);
                }
                // The walk ends a part there.
                SweepRecord::End(_) => {}
            }
            bytes = rest;
        }
        Ok(SweepPart {
            netns: self.netns,
            start: self.start,
            first: self.first,
            end: self.end,
            sightings: room,
        })
    }
}
