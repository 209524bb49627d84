//! Folding sweeps.

use std::time::Duration;

use super::{
    AHEAD, End, Table,
    row::{Row, Step},
    same_ends,
    slots::Place,
    transition::{Source, Transition},
};
use crate::{
    clock::Ktime,
    connection::Netns,
    facts::{Form, Sighting},
    reason::Cause,
    tcp::TcpState::{Close, Listen, SynRecv},
};

/// A row whose last fact is this short before a sweep is not missed by it: the kernel announces a state before
/// it puts the socket where a sweep finds it.
pub const SETTLING: Duration = Duration::from_millis(50);

/// Everything that one sweep of one namespace saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceSweep {
    /// The namespace.
    pub netns: Netns,
    /// A time before the first look.
    pub start: Ktime,
    /// A time after the last.
    pub end: Ktime,
    /// The sockets.
    pub sightings: Vec<Sighting>,
}

/// A part of what one sweep of one namespace saw. Parts are folded in the order in which they were seen, and all of one
/// namespace before those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepPart {
    /// The namespace.
    pub netns: Netns,
    /// A time before the first look of the sweep.
    pub start: Ktime,
    /// This is the first part of the sweep.
    pub first: bool,
    /// If it is the last one, a time after the last look.
    pub end: Option<Ktime>,
    /// The sockets.
    pub sightings: Vec<Sighting>,
}

impl Table {
    /// Says that a sweep is about to start, so that what ends during it is not taken for new afterwards.
    pub fn begin_sweep(&mut self) {
        self.open_sweeps += 1;
        self.last_walk_before = self.last_walk;
    }

    /// Folds the sweep of one namespace, after all events up to its end. What it shows to have changed is
    /// added to `out`; a namespace's first sweep reports nothing, since what it finds was there before. What it
    /// did not show is judged by [`Table::end_sweep`].
    pub fn apply_sweep(&mut self, sweep: &NamespaceSweep, out: &mut Vec<Transition>) {
        self.begin_walk();
        self.sight_all(&sweep.sightings, sweep.netns, out, |_| ());
        self.end_walk(sweep.netns, sweep.start, sweep.end);
    }

    /// The same with a part of it, after all events up to the end of that part.
    pub fn apply_part(&mut self, part: &SweepPart, out: &mut Vec<Transition>) {
        self.show_part(part, out, |_| ());
    }

    /// The same; each row that the part shows is given to `show` with its place, once in a scan.
    pub fn show_part(
        &mut self,
        part: &SweepPart,
        out: &mut Vec<Transition>,
        show: impl FnMut((Place, &Row)),
    ) {
        if part.first {
            self.begin_walk();
        }
        self.sight_all(&part.sightings, part.netns, out, show);
        if let Some(end) = part.end {
            self.end_walk(part.netns, part.start, end);
        }
    }

    fn begin_walk(&mut self) {
        // 0 stands for none.
        self.last_walk = self.last_walk.wrapping_add(1).max(1);
    }

    fn sight_all(
        &mut self,
        sightings: &[Sighting],
        netns: Netns,
        out: &mut Vec<Transition>,
        mut show: impl FnMut((Place, &Row)),
    ) {
        for some in sightings.chunks(AHEAD) {
            self.look_ahead(some.iter().map(|seen| seen.connection.cookie));
            for seen in some {
                let shown = self.sight(seen, netns, out);
                shown
                    .and_then(|place| Some((place, self.store.at(place)?)))
                    .map(&mut show);
            }
        }
    }

    fn end_walk(&mut self, netns: Netns, start: Ktime, end: Ktime) {
        self.walks.insert(netns, Walk { start, end });
        self.ended_listeners.swept(netns, start);
        self.swept.insert(netns, start);
    }

    /// Forgets what was kept for the sweep that is over.
    pub(super) fn close_sweep(&mut self) {
        self.walks.clear();
        self.open_sweeps = self.open_sweeps.saturating_sub(1);
        if self.open_sweeps == 0 {
            self.departed.clear();
        }
    }

    /// Takes in that a socket was seen. Returns the place of its row, if this walk shows that for the first time.
    fn sight(&mut self, seen: &Sighting, netns: Netns, out: &mut Vec<Transition>) -> Option<Place> {
        if seen.state == Close || seen.connection.netns != netns {
            return None;
        }
        let cookie = seen.connection.cookie;
        let mut belongs = self.belongs(seen);
        if let Belongs::Replaces(place) = belongs {
            let last_fact = self.store.at(place).map(|row| row.last_fact);
            let end = End {
                time: seen.time,
                source: Source::Sweep,
                cause: Cause::Unknown,
                earliest: last_fact,
            };
            self.unannounced += 1;
            self.end(place, end, out);
            // What is told of from here on is not what ended just now.
            self.departed.remove(&cookie);
            belongs = Belongs::New;
        }
        if let Belongs::To(place) = belongs {
            // Between the two things that `tcp_time_wait` does, a part of a sweep may end: the event is the next thing to
            // come out of the ring, and it is exact.
            let newborn = self.newborn.get(&cookie);
            let told = seen.form == Form::Minisock
                && newborn.is_some_and(|newborn| newborn.hashed.plus(SETTLING) >= seen.time);
            let mut full = false;
            let transition = self.store.change(place, |row| {
                full = row.form == Form::Full && seen.form == Form::Full;
                if told && row.form == Form::Full {
                    row.passed();
                    return None;
                }
                update(row, seen)
            });
            let transition = transition.flatten();
            self.unannounced += u64::from(full && transition.is_some());
            out.extend(transition);
            return self.store.mark_shown(place, self.last_walk).then_some(place);
        }
        // The hook that tells of its end is passed just before the kernel takes a minisock out of its hash.
        let margin = match seen.form {
            Form::Full => Duration::ZERO,
            Form::Minisock | Form::Request => SETTLING,
        };
        let gone = self
            .departed
            .get(&cookie)
            .is_some_and(|&departed| departed.plus(margin) >= seen.time);
        if gone {
            return None;
        }
        if matches!(belongs, Belongs::Successor) {
            self.store.leave_behind(cookie);
        }
        let row = self.discover(seen, out);
        let place = if matches!(belongs, Belongs::Left) {
            self.store.insert_left(row)
        } else {
            self.store.insert(row)
        };
        self.store.mark_shown(place, self.last_walk);
        Some(place)
    }

    /// Where a sighting belongs. A socket that is used again shares its cookie with the minisocks of its
    /// connections before.
    fn belongs(&self, seen: &Sighting) -> Belongs {
        let cookie = seen.connection.cookie;
        if seen.form == Form::Minisock
            && let Some(tuple) = seen.connection.tuple()
            && let Some(left) = self.store.left_with(cookie, &tuple)
        {
            return Belongs::To(left);
        }
        let place = self.store.find(cookie);
        let Some((place, row)) = place.and_then(|place| Some((place, self.store.at(place)?))) else {
            return Belongs::New;
        };
        let other = !same_ends(&row.connection, &seen.connection);
        match (row.form, seen.form) {
            (Form::Minisock, _) if other && seen.time > row.last_fact => Belongs::Successor,
            (Form::Full, Form::Minisock) if other => Belongs::Left,
            (Form::Full, Form::Full) if other && seen.time > row.last_fact => Belongs::Replaces(place),
            _ => Belongs::To(place),
        }
    }

    /// The row of a socket that nobody told of.
    fn discover(&mut self, seen: &Sighting, out: &mut Vec<Transition>) -> Row {
        if seen.form == Form::Full
            && seen.state == SynRecv
            && let Some(birth) = self.unborn.remove(&seen.skaddr)
        {
            return self.recognise(seen, birth.time, out);
        }
        let mut row = Row::found(seen);
        if seen.form == Form::Request {
            row.inherit(self.owners_by_listener(&seen.connection));
        }
        if let Some(&last_sweep) = self.swept.get(&seen.connection.netns) {
            // A request sock comes out of its listener without a word; anything else has been missed.
            let from = (seen.form == Form::Request).then_some(Listen);
            self.unannounced += u64::from(seen.form == Form::Full);
            let transition = super::transition(&row, seen.time, from, seen.state, Source::Sweep);
            out.push(Transition {
                in_state: None,
                at_least: false,
                earliest: Some(last_sweep.min(seen.time)),
                ..transition
            });
            row.record(Step {
                time: seen.time,
                from,
                to: seen.state,
                source: Source::Sweep,
            });
        }
        row
    }

    /// The child that an older kernel announced under its listener's cookie, and that waits for its handshake: with
    /// TCP Fast Open it does.
    fn recognise(&self, seen: &Sighting, born: Ktime, out: &mut Vec<Transition>) -> Row {
        let mut row = Row::begun(seen.connection, Listen, born);
        row.inherit(self.owners_by_listener(&seen.connection));
        let transition = super::transition(&row, born, Some(Listen), SynRecv, Source::Event);
        // How long the listener has listened is not how long the child has.
        out.push(Transition {
            in_state: None,
            ..transition
        });
        let step = Step {
            time: born,
            from: Some(Listen),
            to: SynRecv,
            source: Source::Event,
        };
        row.enter(step, false);
        row.see(seen);
        row
    }
}

/// Where a sighting belongs.
#[derive(Clone, Copy)]
enum Belongs {
    /// To this row.
    To(Place),
    /// To none yet.
    New,
    /// To none yet: a minisock that the socket has left behind.
    Left,
    /// To none yet: the row that has the cookie is of a minisock that the socket has left behind.
    Successor,
    /// To none yet: this row is of a connection that the socket had before it was used again, and both its end and the
    /// new beginning were lost.
    Replaces(Place),
}

/// The sweep of a namespace whose missing rows are still to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) start: Ktime,
    pub(super) end: Ktime,
}

/// Brings a row up to date with a sighting.
fn update(row: &mut Row, seen: &Sighting) -> Option<Transition> {
    if seen.time <= row.last_fact {
        row.passed();
        return None;
    }
    let from = row.state;
    let last_fact = row.last_fact;
    let mut transition = None;
    if from != seen.state {
        let step = Step {
            time: seen.time,
            from: Some(from),
            to: seen.state,
            source: Source::Sweep,
        };
        transition = Some(super::transition(
            row,
            seen.time,
            Some(from),
            seen.state,
            Source::Sweep,
        ));
        row.enter(step, true);
    }
    row.see(seen);
    transition.map(|found: Transition| Transition {
        connection: row.connection,
        earliest: Some(last_fact),
        ..found
    })
}
