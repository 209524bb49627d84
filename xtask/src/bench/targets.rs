//! What must be reached, and whether it was.

use super::figures::Figures;

/// A target, and what was measured of it.
pub(super) struct Verdict {
    /// What must be reached.
    pub(super) target: &'static str,
    /// What was.
    pub(super) reached: String,
    pub(super) met: bool,
}

const EMPTY: &str = "an empty program";
const DAEMON: &str = "netstate daemon --quiet";
const PRINTING: &str = "netstate daemon --json";
const ASKED: &str = "netstate, daemon";
const MILLION: &str = "1000000 connections";
const ONE_OFF: &str = "netstate, one-off";

/// The verdicts on everything that was measured.
pub(super) fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let all = of_tracing(figures)
        .into_iter()
        .chain(of_asking(figures))
        .chain(of_table(figures));
    all.flatten().collect()
}

fn of_tracing(figures: &Figures) -> [Option<Verdict>; 6] {
    [
        over_empty(figures),
        under_tcpstates(figures),
        at_most(
            figures,
            "events lost at the highest churn: none",
            "churn, lost",
            DAEMON,
            0.0,
        ),
        at_most(
            figures,
            "transition to line, idle host: p99 below 2 ms",
            "latency, idle host, p99",
            PRINTING,
            2.0,
        ),
        at_most(
            figures,
            "transition to line, full churn: p99 below 20 ms",
            "latency, full churn, p99",
            PRINTING,
            20.0,
        ),
        at_most(
            figures,
            "daemon on an idle host: below 0.1 % of a core",
            "idle",
            DAEMON,
            0.1,
        ),
    ]
}

fn of_asking(figures: &Figures) -> [Option<Verdict>; 7] {
    [
        faster(
            figures,
            "`list -atn` from the daemon: at least 2.5 times faster than `ss -tan`",
            "list -atn",
            (ASKED, "ss"),
            2.5,
        ),
        faster(
            figures,
            "`list -atnp` from the daemon: at least 40 times faster than `ss -tanp`",
            "list -atnp",
            (ASKED, "ss"),
            40.0,
        ),
        faster(
            figures,
            "one-off `list -atnp`: at least 20 times faster than `ss -tanp`",
            "list -atnp",
            (ONE_OFF, "ss"),
            20.0,
        ),
        at_most(
            figures,
            "one-off `list`, few sockets: below 60 ms",
            "one-off list -atnp, few sockets",
            "netstate",
            60.0,
        ),
        at_most(
            figures,
            "`stats` with very many rows: below 20 ms",
            "stats",
            ASKED,
            20.0,
        ),
        at_most(
            figures,
            "a filter that few rows match: below 20 ms",
            "list, few rows match",
            ASKED,
            20.0,
        ),
        at_most(
            figures,
            "start of the daemon, to ready: below 500 ms",
            "start, to ready",
            DAEMON,
            500.0,
        ),
    ]
}

fn of_table(figures: &Figures) -> [Option<Verdict>; 3] {
    [
        at_most(
            figures,
            "memory of a connection, history included: at most 300 bytes",
            "memory of a connection, bytes",
            MILLION,
            300.0,
        ),
        at_most(
            figures,
            "1 million connections: below 350 MiB resident",
            "memory of the table, resident, MiB",
            MILLION,
            350.0,
        ),
        at_most(
            figures,
            "fold: at least 2 million facts a second, 500 ns each, among a million connections",
            "fold, ns",
            MILLION,
            500.0,
        ),
    ]
}

/// Whether all targets are met of which anything was measured.
pub(super) fn all_met(figures: &Figures) -> bool {
    verdicts(figures).iter().all(|verdict| verdict.met)
}

/// What a tracer adds to a connection, in microseconds.
fn added(figures: &Figures, tracer: &str) -> Option<f64> {
    figures.median("cost over untraced, processor time", tracer)
}

fn over_empty(figures: &Figures) -> Option<Verdict> {
    let (ours, empty) = (added(figures, DAEMON)?, added(figures, EMPTY)?);
    Some(Verdict {
        target: "cost of a connection, over untraced: at most 3 times an empty program's",
        reached: format!("{ours:.2} us, {:.1} times {empty:.2} us", ours / empty),
        met: empty > 0.0 && ours <= 3.0 * empty,
    })
}

fn under_tcpstates(figures: &Figures) -> Option<Verdict> {
    let (ours, theirs) = (added(figures, DAEMON)?, added(figures, "tcpstates")?);
    Some(Verdict {
        target: "cost of a connection, over untraced: at most a tenth of tcpstates'",
        reached: format!("{ours:.2} us, 1/{:.0} of {theirs:.2} us", theirs / ours),
        met: ours * 10.0 <= theirs,
    })
}

fn at_most(figures: &Figures, target: &'static str, measure: &str, who: &str, most: f64) -> Option<Verdict> {
    let value = figures.median(measure, who)?;
    Some(Verdict {
        target,
        reached: format!("{value:.3}"),
        met: value <= most,
    })
}

fn faster(
    figures: &Figures,
    target: &'static str,
    measure: &str,
    (ours, peer): (&str, &str),
    times: f64,
) -> Option<Verdict> {
    let (ours, peer) = (figures.median(measure, ours)?, figures.median(measure, peer)?);
    Some(Verdict {
        target,
        reached: format!("{:.1} times: {ours:.0} ms, {peer:.0} ms", peer / ours),
        met: peer >= ours * times,
    })
}
