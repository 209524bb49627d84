//! Charts of how things grow, in the words of Mermaid, which draws them where the page is shown. Each shows what one more
//! takes: where that line is level, the whole grows as the number does.

use std::fmt::Write as _;

use super::figures::Figures;

/// A chart: its title, what the upright axis shows, and its lines.
struct Chart {
    title: &'static str,
    axis: &'static str,
    /// The points along the level axis, and the subjects that have their figures.
    points: &'static [(&'static str, &'static str, f64)],
    lines: &'static [Line],
}

/// A line: what it is, the measure, what to multiply its figures with, and what to divide them by.
struct Line {
    name: &'static str,
    measure: &'static str,
    factor: f64,
    by: By,
}

/// How many there are that a figure is of.
enum By {
    /// As many as the point says.
    Point,
    /// As many as another measure says.
    Measure(&'static str),
}

const SOCKETS: &[(&str, &str, f64)] = &[
    ("1k", "1000 sockets", 1e3),
    ("10k", "10000 sockets", 1e4),
    ("100k", "100000 sockets", 1e5),
    ("1M", "1000000 sockets", 1e6),
];
/// What the benchmark of the table says is of one already.
const CONNECTIONS: &[(&str, &str, f64)] = &[
    ("1k", "1000 connections", 1.0),
    ("10k", "10000 connections", 1.0),
    ("100k", "100000 connections", 1.0),
    ("1M", "1000000 connections", 1.0),
];
const RATES: &[(&str, &str, f64)] = &[
    ("1k/s", "1000 facts/s", 1e3),
    ("10k/s", "10000 facts/s", 1e4),
    ("50k/s", "50000 facts/s", 5e4),
    ("100k/s", "100000 facts/s", 1e5),
    ("500k/s", "500000 facts/s", 5e5),
];

const CHARTS: &[Chart] = &[
    Chart {
        title: "A question, by the sockets of the host",
        axis: "us a socket",
        points: SOCKETS,
        lines: &[
            Line {
                name: "`list -atn`",
                measure: "growth, list",
                factor: 1e3,
                by: By::Point,
            },
            Line {
                name: "`ss -tan`",
                measure: "growth, ss -tan",
                factor: 1e3,
                by: By::Point,
            },
        ],
    },
    Chart {
        title: "Memory, by the connections in the table",
        axis: "bytes a connection",
        points: CONNECTIONS,
        lines: &[Line {
            name: "the table",
            measure: "memory of a connection, bytes",
            factor: 1.0,
            by: By::Point,
        }],
    },
    Chart {
        title: "Folding, by the connections in the table",
        axis: "ns a fact",
        points: CONNECTIONS,
        lines: &[Line {
            name: "one core, as fast as it goes",
            measure: "fold, ns",
            factor: 1.0,
            by: By::Point,
        }],
    },
    Chart {
        title: "A recording replayed, by the facts in a second",
        axis: "us of processor time a fact",
        points: RATES,
        lines: &[Line {
            name: "reading and folding, every 4 ms, among 100,000 connections",
            measure: "replay, % of a core",
            factor: 1e4,
            by: By::Measure("replay, reached, facts/s"),
        }],
    },
];

/// The charts of everything that was measured, under a heading of their own.
pub(super) fn of(figures: &Figures) -> String {
    let mut text = String::new();
    for chart in CHARTS {
        let lines: Vec<_> = chart
            .lines
            .iter()
            .filter_map(|line| Some((line, chart.values(line, figures)?)))
            .collect();
        if lines.is_empty() {
            continue;
        }
        if text.is_empty() {
            text.push_str("\n## Growth\n\n");
        }
        let names: Vec<_> = chart
            .points
            .iter()
            .map(|(name, ..)| format!("\"{name}\""))
            .collect();
        let most = lines
            .iter()
            .flat_map(|(_, values)| values)
            .fold(0.0, |most: f64, value| most.max(*value));
        let _ = write!(
            text,
            "```mermaid\nxychart-beta\n    title \"{}\"\n    x-axis [{}]\n    y-axis \"{}\" 0 --> {:.3}\n",
            chart.title,
            names.join(", "),
            chart.axis,
            most * 1.2,
        );
        for (_, values) in &lines {
            let values: Vec<_> = values.iter().map(|value| format!("{value:.3}")).collect();
            let _ = writeln!(text, "    line [{}]", values.join(", "));
        }
        let names: Vec<_> = lines.iter().map(|(line, _)| line.name).collect();
        let _ = write!(text, "```\n\n{}: {}.\n\n", chart.axis, names.join("; then "));
    }
    text
}

impl Chart {
    /// The values of a line; `None` unless all were measured.
    fn values(&self, line: &Line, figures: &Figures) -> Option<Vec<f64>> {
        let value = |(_, subject, number): &(&str, &str, f64)| {
            let number = match line.by {
                By::Point => *number,
                By::Measure(measure) => figures.median(measure, subject)?,
            };
            Some(figures.median(line.measure, subject)? * line.factor / number)
        };
        self.points.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_what_one_takes() {
        let mut figures = Figures::default();
        for (sockets, ms) in [
            ("1000", "2"),
            ("10000", "10"),
            ("100000", "80"),
            ("1000000", "900"),
        ] {
            let line = format!(
                "{{\"measure\":\"growth, list\",\"subject\":\"{sockets} sockets\",\"unit\":\"ms\",\"value\":{ms}}}"
            );
            figures.add(&line).unwrap();
        }
        let text = of(&figures);
        assert!(text.contains("line [2.000, 1.000, 0.800, 0.900]"), "{text}");
        assert!(text.contains("\"us a socket\" 0 --> 2.400"), "{text}");
        assert!(!text.contains("ss -tan"), "was not measured: {text}");
    }
}
