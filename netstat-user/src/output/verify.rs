//! What `verify` has found, as text or JSON.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{Short, json, line::End};
use crate::{
    clock::WallClock,
    diag::KernelSocket,
    table::{Source, Step},
    tcp::TcpState,
    verify::Difference,
};

/// The outcome of one comparison.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Verdict {
    /// Sockets that both have, and have alike.
    pub agreed: usize,
    /// Sockets that moved meanwhile.
    pub moved: usize,
    /// Differences that are young enough to settle.
    pub settling: usize,
    /// Differences that have lasted longer.
    pub differences: usize,
    /// Namespaces compared.
    pub namespaces: usize,
    /// Namespaces that could not be entered.
    pub not_looked_at: usize,
    /// Rows of namespaces that the kernel cannot be asked about, since nothing leads to them.
    pub not_judged: usize,
    /// How long the tracer may need, in milliseconds.
    pub settling_ms: u128,
    /// The longest that a difference took to settle, in milliseconds.
    pub longest_settled_ms: u128,
}

impl Verdict {
    /// Writes it as one line.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn write(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        if as_json {
            json::line(out, &serde_json::json!({ "verdict": self }))
        } else {
            writeln!(out, "{self}")
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.differences == 0 {
            "same"
        } else {
            "DIFFERENT"
        };
        write!(
            f,
            "{word}: {} socket(s) in {} network namespace(s) agree, {} differ; {} moved meanwhile, {} may still settle",
            self.agreed, self.namespaces, self.differences, self.moved, self.settling
        )?;
        if self.longest_settled_ms > 0 {
            write!(f, " (the slowest so far took {} ms)", self.longest_settled_ms)?;
        }
        if self.not_looked_at > 0 {
            write!(f, "; {} namespace(s) not looked at", self.not_looked_at)?;
        }
        if self.not_judged > 0 {
            write!(
                f,
                "; {} row(s) not judged: their namespaces cannot be looked into",
                self.not_judged
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct DifferenceLine<'a> {
    difference: &'a str,
    cookie: Option<u64>,
    netns: Option<u32>,
    local: Option<String>,
    remote: Option<String>,
    kernel: Option<&'static str>,
    table: Option<&'static str>,
    lasted_ms: u128,
    history: Vec<HistoryLine>,
}

#[derive(Serialize)]
struct HistoryLine {
    time: String,
    from: Option<&'static str>,
    to: &'static str,
    source: Source,
}

/// Writes one difference, and the history that the table has of its socket.
///
/// # Errors
///
/// What `out` returns.
pub fn difference(
    out: &mut impl Write,
    difference: &Difference,
    lasted: Duration,
    history: &[Step],
    clock: WallClock,
    as_json: bool,
) -> io::Result<()> {
    let connection = difference.connection();
    let kind = match (difference.kernel, difference.table) {
        (Some(_), None) => "missing",
        (None, _) => "left over",
        (Some(kernel), Some(table)) if kernel.state == table.state => "other ends",
        _ => "other state",
    };
    let state = |socket: Option<KernelSocket>| socket.map(|socket| socket.state.name());
    let local = connection.map(|c| End(c, c.local, "-").to_string());
    let remote = connection.map(|c| End(c, c.remote, "*").to_string());
    if as_json {
        let line = DifferenceLine {
            difference: kind,
            cookie: connection.map(|c| c.cookie.0),
            netns: connection.map(|c| c.netns.0),
            local,
            remote,
            kernel: state(difference.kernel),
            table: state(difference.table),
            lasted_ms: lasted.as_millis(),
            history: history.iter().map(|step| history_line(step, clock)).collect(),
        };
        return json::line(out, &line);
    }
    writeln!(
        out,
        "{kind}: {} {}  kernel {}, table {}, for {}  (cookie {}, netns {})",
        local.unwrap_or_default(),
        remote.unwrap_or_default(),
        state(difference.kernel).unwrap_or("nothing"),
        state(difference.table).unwrap_or("nothing"),
        Short(lasted),
        connection.map_or(0, |c| c.cookie.0),
        connection.map_or(0, |c| c.netns.0),
    )?;
    for step in history {
        let time = clock.timestamp(step.time).to_zoned(TimeZone::system());
        writeln!(
            out,
            "    {} {:>11} → {:<11} {}",
            time.strftime("%H:%M:%S%.6f"),
            step.from.map_or("?", TcpState::name),
            step.to.name(),
            match step.source {
                Source::Event => "event",
                Source::Sweep => "sweep",
                Source::Inferred => "inferred",
            }
        )?;
    }
    if history.is_empty() {
        writeln!(out, "    the table remembers no step of it")?;
    }
    Ok(())
}

fn history_line(step: &Step, clock: WallClock) -> HistoryLine {
    HistoryLine {
        time: clock.timestamp(step.time).to_string(),
        from: step.from.map(TcpState::name),
        to: step.to.name(),
        source: step.source,
    }
}
