//! The parts of a sweep as the kernel wrote them, and what they say.

use std::mem;

use super::{SweepDone, SweepError};
use crate::{
    clock::{Ktime, Tick},
    connection::Netns,
    decode::{self, DecodeError, SweepRecord},
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

/// Decodes the parts of one sweep, in their order.
///
/// What makes no sense costs the walk over its namespace and no other: the rest of that walk is passed over, so that it has
/// no end, by which rows would be missed.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Room for the sightings of a part, kept for its memory.
    room: Vec<Sighting>,
    /// Namespaces of which a part made no sense, and why.
    senseless: Vec<(Netns, SweepError)>,
    /// MPTCP's subflows have been seen before anybody has asked for the cookie of their MPTCP socket.
    nameless: bool,
}

impl Decoder {
    /// The part, whose figures are added to `figures`. `None` if it makes no sense, or one before it of the same walk did not.
    pub fn decode(&mut self, walked: &Walked, figures: &mut FigureSet) -> Option<SweepPart> {
        let netns = walked.netns;
        if self.senseless.iter().any(|(senseless, _)| *senseless == netns) {
            return None;
        }
        let mut sightings = mem::take(&mut self.room);
        if let Err(error) = walked.read(&mut sightings, figures) {
            self.senseless.push((netns, error.into()));
            return None;
        }
        let nameless = |seen: &Sighting| seen.connection.mptcp && seen.mptcp.is_none();
        self.nameless |= sightings.iter().any(nameless);
        Some(SweepPart {
            netns,
            start: walked.start,
            first: walked.first,
            end: walked.end,
            sightings,
        })
    }

    /// Takes back the memory of a part.
    pub fn take_back(&mut self, part: SweepPart) {
        self.room = part.sightings;
        self.room.clear();
    }

    /// Whether it takes another walk to tell who holds MPTCP's subflows, after a scan for holders that has gone on beside
    /// this one: that asks for the cookies by which they are joined.
    #[must_use]
    pub fn saw_nameless(&self) -> bool {
        self.nameless
    }

    /// Says in what the sweep has come to which of its walks came to nothing.
    pub fn judge(self, done: &mut SweepDone) {
        let makes_sense = |netns: &Netns| self.senseless.iter().all(|(senseless, _)| senseless != netns);
        done.found.retain(makes_sense);
        done.failed.extend(self.senseless);
    }
}

impl Walked {
    fn read(&self, sightings: &mut Vec<Sighting>, figures: &mut FigureSet) -> Result<(), DecodeError> {
        if let Some(settings) = &self.settings {
            figures.set(self.netns, settings.clone());
        }
        let mut bytes = &self.records[..];
        while !bytes.is_empty() {
            let (record, rest) = decode::sweep_record(bytes, self.tick)?;
            match record {
                SweepRecord::Seen(seen) => sightings.push(seen),
                SweepRecord::Figures(seen, found) => {
                    figures.insert(&seen, &found);
                    sightings.push(seen);
                }
                // The walk ends a part there.
                SweepRecord::End(_) => {}
            }
            bytes = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netstat_ebpf::wire::{self, kind};
    use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

    use super::*;

    fn walked(netns: u32, first: bool, state: u8) -> Walked {
        let mut seen = wire::SocketSeen::new_zeroed();
        (seen.kind, seen.form, seen.state) = (kind::SOCKET_SEEN, wire::form::FULL, state);
        (seen.socket.netns, seen.socket.family) = (netns, 2);
        Walked {
            netns: Netns(netns),
            start: Ktime(1),
            first,
            end: (!first).then_some(Ktime(2)),
            records: [seen.as_bytes(), seen.as_bytes()].concat(),
            tick: Tick::of(250),
            settings: None,
        }
    }

    #[test]
    fn what_makes_no_sense_costs_one_walk() {
        const GOOD: u8 = 1;
        const NONE: u8 = 99;
        let mut decoder = Decoder::default();
        let parts = [
            walked(1, true, GOOD),
            walked(1, false, GOOD),
            walked(2, true, NONE),
            walked(2, false, GOOD),
            walked(3, true, GOOD),
            walked(3, false, NONE),
        ];
        let counts = parts.map(|part| {
            let part = decoder.decode(&part, &mut FigureSet::default())?;
            let sightings = part.sightings.len();
            decoder.take_back(part);
            Some(sightings)
        });
        assert_eq!(counts, [Some(2), Some(2), None, None, Some(2), None]);
        let mut done = SweepDone {
            everywhere: true,
            found: [1, 2, 3].map(Netns).into(),
            absent: Vec::new(),
            unreachable: None,
            refused: None,
            gone: Vec::new(),
            others: Vec::new(),
            start: Ktime(1),
            end: Ktime(2),
            cost: Duration::ZERO,
            search: None,
            failed: Vec::new(),
            broken: None,
        };
        decoder.judge(&mut done);
        assert_eq!(done.found, [Netns(1)]);
        let failed: Vec<_> = done.failed.iter().map(|(netns, _)| *netns).collect();
        assert_eq!(failed, [Netns(2), Netns(3)]);
        assert!(done.failed[0].1.to_string().contains("uname -a"));
    }

    #[test]
    fn a_subflow_whose_mptcp_socket_has_no_number_is_noticed() {
        for (flags, mptcp, nameless) in [
            (0, 0, false),
            (wire::socket::MPTCP, 7, false),
            (wire::socket::MPTCP, 0, true),
        ] {
            let mut part = walked(1, true, 1);
            let mut seen = wire::SocketSeen::read_from_prefix(&part.records).unwrap().0;
            (seen.socket.flags, seen.mptcp) = (flags, mptcp);
            part.records.extend(seen.as_bytes());
            let mut decoder = Decoder::default();
            decoder.decode(&part, &mut FigureSet::default()).unwrap();
            assert_eq!(decoder.saw_nameless(), nameless, "{flags} {mptcp}");
        }
    }
}
