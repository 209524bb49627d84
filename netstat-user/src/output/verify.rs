//! What `verify` has found, as text or JSON.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use jiff::{Zoned, tz::TimeZone};
use serde::Serialize;

use super::{
    Short,
    day::Day,
    json::{self, Ends, Identity},
    line::End,
};
use crate::{
    clock::WallClock,
    connection::Family,
    diag::KernelSocket,
    namespaces::Names,
    plural::counted,
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
    pub may_settle: usize,
    /// Differences that have lasted longer.
    pub differences: usize,
    /// Namespaces compared.
    pub namespaces: usize,
    /// Namespaces that could not be entered.
    pub namespaces_not_read: usize,
    /// Rows of namespaces that the kernel cannot be asked about, since nothing leads to them.
    pub rows_not_judged: usize,
    /// How long the tracer may need, in milliseconds.
    pub staleness_bound_ms: u128,
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
            "{word}: {} in {} agree, {} differ; {} changed meanwhile, {} within the staleness bound",
            counted(self.agreed, "socket"),
            counted(self.namespaces, "network namespace"),
            self.differences,
            self.moved,
            self.may_settle
        )?;
        if self.longest_settled_ms > 0 {
            write!(
                f,
                " (the longest difference so far lasted {} ms)",
                self.longest_settled_ms
            )?;
        }
        if self.namespaces_not_read > 0 {
            write!(f, "; {} not read", counted(self.namespaces_not_read, "namespace"))?;
        }
        if self.rows_not_judged > 0 {
            write!(
                f,
                "; {} not compared: their namespaces cannot be read",
                counted(self.rows_not_judged, "row")
            )?;
        }
        Ok(())
    }
}

/// In what table and kernel differ.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The table lacks a socket of the kernel.
    Missing,
    /// The kernel lacks a socket of the table.
    LeftOver,
    /// The states differ.
    OtherState,
    /// The states are the same, and something else differs: ends, family or namespace.
    OtherEnds,
}

impl Kind {
    fn of(difference: &Difference) -> Self {
        match (difference.kernel, difference.table) {
            (Some(_), None) => Self::Missing,
            (None, _) => Self::LeftOver,
            (Some(kernel), Some(table)) if kernel.state == table.state => Self::OtherEnds,
            _ => Self::OtherState,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::LeftOver => "left over",
            Self::OtherState => "other state",
            Self::OtherEnds => "other ends",
        }
    }
}

#[derive(Serialize)]
struct DifferenceLine {
    difference: Kind,
    #[serde(flatten)]
    identity: Option<Identity>,
    kernel: Option<Version>,
    table: Option<Version>,
    lasted_ms: u128,
    history: Vec<HistoryLine>,
}

/// The socket as one of the two has it.
#[derive(Serialize)]
struct Version {
    state: &'static str,
    netns: u32,
    family: Family,
    #[serde(flatten)]
    ends: Ends,
}

impl Version {
    fn of(socket: KernelSocket) -> Self {
        Self {
            state: socket.state.name(),
            netns: socket.connection.netns.0,
            family: socket.connection.family,
            ends: Ends::of(&socket.connection),
        }
    }
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
    names: &mut Names,
    as_json: bool,
) -> io::Result<()> {
    let connection = difference.connection();
    let kind = Kind::of(difference);
    let state = |socket: Option<KernelSocket>| socket.map(|socket| socket.state.name());
    let local = connection.map(|c| End::local(c, names).to_string());
    let remote = connection.map(|c| End::remote(c, names).to_string());
    if as_json {
        let line = DifferenceLine {
            difference: kind,
            identity: connection.map(|c| Identity::of(c, names)),
            kernel: difference.kernel.map(Version::of),
            table: difference.table.map(Version::of),
            lasted_ms: lasted.as_millis(),
            history: history.iter().map(|step| history_line(step, clock)).collect(),
        };
        return json::line(out, &line);
    }
    writeln!(
        out,
        "{}: {} {}  kernel {}, table {}, for {}  (cookie {}, netns {})",
        kind.text(),
        local.unwrap_or_default(),
        remote.unwrap_or_default(),
        state(difference.kernel).unwrap_or("nothing"),
        state(difference.table).unwrap_or("nothing"),
        Short(lasted),
        connection.map_or(0, |c| c.cookie.0),
        connection.map_or(0, |c| c.netns.0),
    )?;
    let mut day = Day::of(Zoned::now().date());
    for step in history {
        let time = clock.timestamp(step.time).to_zoned(TimeZone::system());
        if let Some(date) = day.turn(time.date()) {
            writeln!(out, "    {date}")?;
        }
        writeln!(
            out,
            "    {} {:>11} → {:<11} {}",
            time.strftime("%H:%M:%S%.6f"),
            step.from.map_or("?", TcpState::name),
            step.to.name(),
            match step.source {
                Source::Event => "event",
                Source::Sweep => "scan",
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
