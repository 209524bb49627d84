//! What a run came to, for a person to read.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    history::{Histories, Source},
    judge::{Unasked, Verdict},
    options::Options,
    states::State,
    trial::Ghost,
    verifier::Rounds,
    worker::Yield,
};
use crate::stats::{Counts, Sweeping};

/// Everything that a run found.
#[derive(Debug)]
pub struct Report {
    pub(super) options: Options,
    /// Kinds that this kernel cannot do.
    pub(super) left_out: Vec<&'static str>,
    pub(super) ran_for: Duration,
    pub(super) done: Yield,
    /// Namespaces that came and went, and sockets that were left in some.
    pub(super) vanished: (usize, usize),
    /// Changes that the kernel has announced and not run the tracer for.
    pub(super) withheld: usize,
    pub(super) stream: StreamFacts,
    pub(super) unasked: Unasked,
    pub(super) verified: Rounds,
    /// Comparisons of lists: what they were about, and what they came to.
    pub(super) lists: Vec<(&'static str, Verdict)>,
    /// Rows of namespaces that are gone.
    pub(super) ghosts: Vec<Ghost>,
    pub(super) counts: Counts,
    pub(super) sweeping: Sweeping,
    /// What losses explain.
    pub(super) explained: Vec<String>,
    /// Each finding, with the history of its connection.
    pub(super) findings: Vec<String>,
}

/// What the stream came to.
#[derive(Debug, Default)]
pub(super) struct StreamFacts {
    pub(super) missed: u64,
    pub(super) lost: u64,
    pub(super) connections: usize,
    /// By source, and by states.
    pub(super) steps: BTreeMap<(Source, String), u64>,
}

impl StreamFacts {
    pub(super) fn of(histories: &Histories) -> Self {
        let mut steps = BTreeMap::new();
        for ((source, from, to), count) in &histories.counts {
            let from = from.map_or("?", State::name);
            steps.insert((*source, format!("{from} → {to}")), *count);
        }
        Self {
            missed: histories.missed,
            lost: histories.lost,
            connections: histories.lives.len(),
            steps,
        }
    }
}

/// What is lost must be told, and what the kernel hands over understood.
pub(super) fn objections(counts: &Counts, histories: &Histories) -> Vec<String> {
    let mut objections = Vec::new();
    let Counts {
        lost, undecodable, ..
    } = *counts;
    if lost != histories.lost && histories.missed == 0 {
        objections.push(format!("{lost} events were lost, and {} told of", histories.lost));
    }
    if undecodable > 0 {
        objections.push(format!("{undecodable} records were not understood"));
    }
    objections
}

impl Report {
    /// Whether nothing was found that must not be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, .. } = self.options;
        writeln!(out, "seed {seed}, {:.1} s", self.ran_for.as_secs_f64())?;
        self.write_lives(out)?;
        self.write_stream(out)?;
        self.write_judgement(out)?;
        for explained in &self.explained {
            writeln!(out, "\nexplained by a loss: {explained}")?;
        }
        for finding in &self.findings {
            writeln!(out, "\nFOUND {finding}")?;
        }
        let verdict = if self.is_good() { "good" } else { "BAD" };
        writeln!(
            out,
            "\n{verdict}: {} finding(s); {}",
            self.findings.len(),
            self.replay()
        )
    }
}

impl Report {
    fn write_lives(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made: u64 = self.done.tallies.values().map(|tally| tally.made).sum();
        let rate = u128::from(made) * 1000 / self.ran_for.as_millis().max(1);
        let touches = self.done.touches;
        writeln!(
            out,
            "\nlives made      {made} ({rate}/s), and {touches} times something done to one"
        )?;
        for (name, tally) in &self.done.tallies {
            write!(out, "    {name:<24} {:>8}", tally.made)?;
            let refused: Vec<_> = tally
                .refused
                .iter()
                .map(|(word, count)| format!("{count} × {word}"))
                .collect();
            writeln!(out, "  {}", refused.join(", "))?;
        }
        for name in &self.left_out {
            writeln!(out, "    {name:<24} left out: not in this kernel")?;
        }
        let (namespaces, kept) = self.vanished;
        writeln!(
            out,
            "vanished        {namespaces} namespaces, with {kept} sockets left in some"
        )
    }

    fn write_stream(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &self.stream;
        let total: u64 = stream.steps.values().sum();
        writeln!(
            out,
            "\ntransitions     {total}, of {} connections",
            stream.connections
        )?;
        for ((source, states), count) in &stream.steps {
            writeln!(out, "    {:<9} {states:<26} {count:>9}", format!("{source:?}"))?;
        }
        let Counts {
            ring_full,
            interrupted,
            undecodable,
            events,
            ..
        } = self.counts;
        writeln!(
            out,
            "losses          {ring_full} ring full, {interrupted} interrupted, {undecodable} not understood, of {events} events; \
             told {}, missed by the reader {}, kept by the kernel {}",
            stream.lost, stream.missed, self.withheld
        )
    }

    fn write_judgement(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sweeps, cost) = (self.sweeping.sweeps, self.sweeping.cost);
        writeln!(out, "sweeps          {sweeps}, the last took {cost:?}")?;
        let Unasked {
            settled_after,
            lasting,
            rows,
            slowest,
        } = &self.unasked;
        if self.stream.missed > 0 {
            writeln!(
                out,
                "\nunasked         left out: the reader of the stream was too slow"
            )?;
        } else {
            let seconds = settled_after.as_secs_f64();
            let differences = lasting.len();
            writeln!(
                out,
                "\nunasked         {rows} rows, settled within {seconds:.1} s, {differences} lasting difference(s)"
            )?;
            if let Some((age, one)) = slowest {
                writeln!(
                    out,
                    "                the slowest took {:.1} s: {one}",
                    age.as_secs_f64()
                )?;
            }
        }
        let Rounds {
            count,
            most_agreed,
            slowest,
            settling,
            lasting,
        } = &self.verified;
        writeln!(
            out,
            "verify --watch  {count} rounds, up to {most_agreed} sockets alike, {} difference(s) for longer than the {settling:.1?} \
             that netstate claims; the slowest to settle took {slowest:.1?}",
            lasting.len()
        )?;
        for (name, verdict) in &self.lists {
            let (rows, looks, different) = (verdict.rows(), verdict.looks, verdict.differences.len());
            writeln!(
                out,
                "{name:<15} {rows} rows in {looks} looks, {different} difference(s)"
            )?;
            let by_state: Vec<_> = verdict
                .compared
                .iter()
                .map(|(state, count)| format!("{count} {state}"))
                .collect();
            if !by_state.is_empty() {
                writeln!(out, "                {}", by_state.join(", "))?;
            }
        }
        writeln!(
            out,
            "gone            {} row(s) of namespaces that are gone",
            self.ghosts.len()
        )
    }

    /// How to do the same again.
    fn replay(&self) -> String {
        let Options {
            seed,
            seconds,
            namespaces,
            threads,
            sockets,
            without_hooks,
            ..
        } = self.options;
        let hooks = if without_hooks { " --without-hooks" } else { "" };
        format!(
            "again: lifecycle --seed {seed} --seconds {seconds} --namespaces {namespaces} --threads {threads} --sockets {sockets}{hooks}"
        )
    }
}
