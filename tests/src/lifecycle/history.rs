//! What the stream has told of each connection, and what must hold of it.

use std::{collections::HashMap, fmt, net::IpAddr};

use super::{states::State, withheld::Announced};

/// How a step is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    /// The kernel announced it.
    Event,
    /// A sweep found it.
    Sweep,
    /// It follows from what the kernel announced.
    Inferred,
}

/// One transition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Nanoseconds since 1970.
    pub(super) time: i64,
    /// State before.
    pub(super) from: Option<State>,
    /// State after.
    pub(super) to: State,
    /// How it is known.
    pub(super) source: Source,
    /// Microseconds in the state before.
    pub(super) in_state: Option<u64>,
    /// The state before was there when the socket was first seen.
    pub(super) at_least: bool,
    /// Why, where the kernel said.
    pub(super) reason: Option<Box<str>>,
    /// It is a subflow of MPTCP, which ends those in ways of its own.
    pub(super) mptcp: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.map_or("?", State::name);
        write!(
            out,
            "{}.{:09} ",
            self.time / 1_000_000_000,
            self.time % 1_000_000_000
        )?;
        write!(out, "{from} → {} by {:?}", self.to, self.source)?;
        if let Some(in_state) = self.in_state {
            write!(out, ", after {in_state} µs")?;
        }
        if let Some(reason) = &self.reason {
            write!(out, ", {reason}")?;
        }
        Ok(())
    }
}

/// Which connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// Inode number of the namespace.
    pub(super) netns: u32,
    /// Local address.
    pub(super) local: (IpAddr, Option<u16>),
    /// Remote address.
    pub(super) remote: (IpAddr, Option<u16>),
}

impl Ends {
    /// Whether `later` tells the same, or more.
    fn admits(&self, later: &Self) -> bool {
        let admits = |known: (IpAddr, Option<u16>), told: (IpAddr, Option<u16>)| {
            (known.0 == told.0 || known.0.is_unspecified()) && (known.1 == told.1 || known.1.is_none())
        };
        self.netns == later.netns && admits(self.local, later.local) && admits(self.remote, later.remote)
    }

    /// Whether `one` can be about this connection.
    fn are_of(&self, one: &Announced) -> bool {
        let alike = |known: (IpAddr, Option<u16>), told: (IpAddr, Option<u16>)| {
            known.0.to_canonical() == told.0 && known.1.zip(told.1).is_none_or(|(known, told)| known == told)
        };
        alike(self.local, one.local) && alike(self.remote, one.remote)
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |port: Option<u16>| port.map_or_else(|| "*".to_owned(), |port| port.to_string());
        let (local, remote) = (self.local, self.remote);
        write!(out, "{}:{} → ", local.0, port(local.1))?;
        write!(out, "{}:{} in {}", remote.0, port(remote.1), self.netns)
    }
}

/// All that was told of one cookie.
#[derive(Debug, Clone)]
pub(super) struct Life {
    /// Its ends, as told last.
    pub(super) ends: Ends,
    /// The steps in the order in which they were told.
    pub(super) steps: Vec<Step>,
}

impl Life {
    fn new(ends: Ends) -> Self {
        Self {
            ends,
            steps: Vec::new(),
        }
    }

    /// Whether the stream has told `one`.
    fn was_told(&self, one: &Announced) -> bool {
        let alike = |step: &Step| {
            step.source == Source::Event
                && (step.from, step.to) == (Some(one.from), one.to)
                && (step.time - one.time).abs() <= CLOCK
        };
        self.steps.iter().any(alike)
    }

    /// Whether only a minisock can be left of it.
    fn is_minisock(&self) -> bool {
        [State::TIME_WAIT, State::FIN_WAIT2].contains(&self.state())
    }

    /// Whether `step` begins another connection of the same socket.
    fn is_left_by(&self, step: &Step) -> bool {
        self.is_minisock() && step.from == Some(State::CLOSE)
    }

    /// The state that it was last said to be in.
    #[must_use]
    pub(super) fn state(&self) -> State {
        self.steps.last().map_or(State::CLOSE, |step| step.to)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.ends)?;
        for step in &self.steps {
            write!(out, "\n        {step}")?;
        }
        Ok(())
    }
}

/// Something that must not be.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    ends: Ends,
    /// The connection.
    pub(super) cookie: u64,
    /// Its namespace.
    pub(super) netns: u32,
    /// What is wrong.
    pub(super) what: String,
    /// When the step before was.
    since: i64,
    /// When the step was that is wrong.
    until: i64,
}

impl Violation {
    /// Whether it is only that nothing was said of why a connection ended.
    pub(super) fn is_silence(&self) -> bool {
        self.what.ends_with(NO_REASON)
    }

    /// The same of one that may have been half open.
    pub(super) fn is_silence_of_half_open(&self) -> bool {
        self.is_silence() && self.what.contains(State::SYN_RECV.name())
    }
}

/// What is wrong with an end that says nothing of why it came.
const NO_REASON: &str = "has no reason";

/// A time of which not everything was told, and the stream said so; or one change that the kernel told nobody.
#[derive(Debug, Clone, Copy)]
struct Gap {
    since: i64,
    until: i64,
    /// The connection, if it is known which.
    of: Option<Announced>,
}

/// Everything that the stream has told.
#[derive(Debug, Default)]
pub(super) struct Histories {
    /// By cookie.
    pub(super) lives: HashMap<u64, Life>,
    /// Connections before, of sockets that were used again while those had left a minisock: it keeps the cookie.
    left: HashMap<u64, Vec<Life>>,
    violations: Vec<Violation>,
    gaps: Vec<Gap>,
    /// Missed by a reader that was too slow.
    pub(super) missed: u64,
    /// Lost in the kernel.
    pub(super) lost: u64,
    /// Told transitions, by source and states.
    pub(super) counts: HashMap<(Source, Option<State>, State), u64>,
    latest: i64,
    /// The place of a gap that reaches up to what comes next.
    open_gap: Option<usize>,
}

/// More are not kept: the first ones tell enough.
const MOST_VIOLATIONS: usize = 1000;

/// The wall clock of one answer may differ so much from that of another: `SteadyClock` in netstate.
const CLOCK: i64 = 2_000_000;

impl Histories {
    /// Takes in one transition.
    pub(super) fn tell(&mut self, cookie: u64, ends: Ends, step: Step) {
        *self.counts.entry((step.source, step.from, step.to)).or_default() += 1;
        if let Some(gap) = self.open_gap.take().and_then(|gap| self.gaps.get_mut(gap)) {
            gap.until = gap.until.max(step.time);
        }
        self.latest = self.latest.max(step.time);
        if self.lives.get(&cookie).is_some_and(|life| life.is_left_by(&step)) {
            let before = self.lives.remove(&cookie);
            self.left.entry(cookie).or_default().extend(before);
        }
        let life = self.life_of(cookie, &ends, &step);
        if let Some(what) = objection(life, &ends, &step)
            && self.violations.len() < MOST_VIOLATIONS
        {
            self.violations.push(Violation {
                ends,
                cookie,
                netns: ends.netns,
                what,
                since: life
                    .and_then(|life| life.steps.last())
                    .map_or(i64::MIN, |last| last.time),
                until: step.time,
            });
        }
        let life = match self.left_with(cookie, &ends, &step) {
            Some(place) => self.left.get_mut(&cookie).and_then(|left| left.get_mut(place)),
            None => None,
        };
        let life = match life {
            Some(life) => life,
            None => self.lives.entry(cookie).or_insert_with(|| Life::new(ends)),
        };
        life.ends = ends;
        life.steps.push(step);
    }

    /// The life that `step` goes on with.
    fn life_of(&self, cookie: u64, ends: &Ends, step: &Step) -> Option<&Life> {
        match self.left_with(cookie, ends, step) {
            Some(place) => self.left.get(&cookie)?.get(place),
            None => self.lives.get(&cookie),
        }
    }

    /// The place of the minisock among those left behind that `step` is about.
    fn left_with(&self, cookie: u64, ends: &Ends, step: &Step) -> Option<usize> {
        let left = self.left.get(&cookie)?;
        let same = |life: &Life| life.ends == *ends && Some(life.state()) == step.from;
        left.iter().position(|life| life.is_minisock() && same(life))
    }

    /// Every connection that has not ended, with its cookie.
    pub(super) fn open(&self) -> impl Iterator<Item = (u64, &Life)> {
        let left = self
            .left
            .iter()
            .flat_map(|(cookie, left)| left.iter().map(|life| (*cookie, life)));
        let all = self
            .lives
            .iter()
            .map(|(cookie, life)| (*cookie, life))
            .chain(left);
        all.filter(|(_, life)| life.state() != State::CLOSE)
    }

    /// Takes in that the reader missed some.
    pub(super) fn miss(&mut self, count: u64) {
        self.missed += count;
        self.gaps.push(Gap {
            since: self.latest,
            until: self.latest,
            of: None,
        });
        self.open_gap = Some(self.gaps.len() - 1);
    }

    /// Takes in that the kernel lost some between these times.
    pub(super) fn lose(&mut self, count: u64, since: i64, until: i64) {
        self.lost += count;
        self.gaps.push(Gap {
            since: since - CLOCK,
            until: until + CLOCK,
            of: None,
        });
    }

    /// Takes in what the kernel has announced where it may run no program. Returns how many of them it kept: those that
    /// were not told, if that is nearly all. Connections in several namespaces can have the same ends at the same time,
    /// so a few may look as if they were told.
    pub(super) fn withhold(&mut self, announced: &[Announced]) -> usize {
        let mut kept = announced.to_vec();
        kept.retain(|one| {
            let mut lives = self.lives.values().chain(self.left.values().flatten());
            !lives.any(|life| life.ends.are_of(one) && life.was_told(one))
        });
        if kept.len() * 10 < announced.len() * 9 {
            return 0;
        }
        self.gaps.extend(kept.iter().map(|one| Gap {
            since: one.time - CLOCK,
            until: one.time + CLOCK,
            of: Some(*one),
        }));
        kept.len()
    }

    /// What is wrong in these namespaces, and no gap explains.
    /// Sockets with cookies below `first` may be older than the run: orphans of others, whose namespace's number is given
    /// again.
    pub(super) fn violations(&self, namespaces: &[u32], first: u64) -> Vec<&Violation> {
        let told = |violation: &&Violation| {
            namespaces.contains(&violation.netns)
                && violation.cookie >= first
                && !self.gaps.iter().any(|gap| gap.explains(violation))
        };
        self.violations.iter().filter(told).collect()
    }

    /// Whether something that was lost, and told to be, can be of this cookie and later than what was told of it.
    pub(super) fn may_lack_events(&self, cookie: u64) -> bool {
        let life = self.lives.get(&cookie);
        let last = life.and_then(|life| life.steps.last());
        let concerned = |gap: &&Gap| {
            gap.of
                .is_none_or(|one| life.is_some_and(|life| life.ends.are_of(&one)))
        };
        let mut gaps = self.gaps.iter().filter(concerned);
        gaps.any(|gap| last.is_none_or(|last| last.time <= gap.until))
    }

    /// What is told of a cookie, for a person to read.
    #[must_use]
    pub(super) fn story(&self, cookie: u64) -> String {
        let left = self.left.get(&cookie).into_iter().flatten();
        let stories: Vec<String> = left.chain(self.lives.get(&cookie)).map(Life::to_string).collect();
        if stories.is_empty() {
            return "nothing was told of it".to_owned();
        }
        stories.join("\n    ")
    }
}

impl Gap {
    /// Whether what is missing in the gap can be what a violation lacks.
    fn explains(&self, violation: &Violation) -> bool {
        self.of.is_none_or(|one| violation.ends.are_of(&one))
            && violation.since <= self.until
            && self.since <= violation.until
    }
}

/// What is wrong with `step` after what was told before.
fn objection(life: Option<&Life>, ends: &Ends, step: &Step) -> Option<String> {
    let last = life.and_then(|life| Some((life, life.steps.last()?)));
    let Some((life, last)) = last else {
        return first(step);
    };
    if step.time < last.time {
        return Some("time goes back".to_owned());
    }
    if last.to == State::CLOSE {
        let begins_again = step.from == Some(State::CLOSE) && step.source == Source::Event;
        return (!begins_again).then(|| "a step after the end".to_owned());
    }
    if step.from != Some(last.to) {
        return Some(format!("not from {}, where the step before ended", last.to));
    }
    if !life.ends.admits(ends) {
        return Some(format!("another connection than {}", life.ends));
    }
    illegal(step)
        .or_else(|| wrong_duration(last, step))
        .or_else(|| wrong_reason(step))
}

/// What is wrong with the first step that is told of a socket which was not there before.
fn first(step: &Step) -> Option<String> {
    let half_open = step.to == State::SYN_RECV;
    match (step.source, step.from) {
        (Source::Event, Some(State::CLOSE)) => illegal(step),
        (Source::Event | Source::Sweep, Some(State::LISTEN)) if half_open => None,
        // What the first look at a namespace has found was there before.
        _ if step.at_least => None,
        _ => Some("its beginning was not told".to_owned()),
    }
}

fn illegal(step: &Step) -> Option<String> {
    let from = step.from?;
    let possible = match step.source {
        // It may have come there by several steps.
        Source::Sweep => from != step.to,
        Source::Event | Source::Inferred => from.can_become(step.to),
    };
    (!possible).then(|| format!("TCP knows no step from {from} to {}", step.to))
}

/// A connection that both ends have not closed did not end in order; the kernel's own announcement of such an end says
/// why; and nothing but an end has a reason.
fn wrong_reason(step: &Step) -> Option<String> {
    let from = step.from?;
    let open = ["ESTABLISHED", "CLOSE_WAIT", "SYN_RECV", "FIN_WAIT1"].contains(&from.name());
    match step.reason.as_deref() {
        Some(reason) if step.to != State::CLOSE => Some(format!("{reason:?} is no reason for {}", step.to)),
        Some("closed") if open => Some(format!("{from} does not end in order")),
        None if step.to == State::CLOSE && open && step.source == Source::Event && !step.mptcp => {
            Some(format!("the end of {from} {NO_REASON}"))
        }
        _ => None,
    }
}

fn wrong_duration(last: &Step, step: &Step) -> Option<String> {
    let lasted = step.time - last.time;
    let told = step.in_state.and_then(|micros| i64::try_from(micros).ok());
    match told.map(|micros| micros * 1000) {
        Some(told) if (told - lasted).abs() <= CLOCK => None,
        Some(told) => Some(format!("{lasted} ns passed, and {told} are told")),
        None => Some("how long the state before lasted is not told".to_owned()),
    }
}
