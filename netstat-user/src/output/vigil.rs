//! What becomes stuck and what becomes of it, a line each, as text or JSON.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{
    Short,
    color::Palette,
    day::Day,
    json::{self, Socket},
    line::{End, Who},
    suspected::Suspected,
};
use crate::{
    cli::OutputArgs,
    clock::{Ktime, WallClock},
    connection::Netns,
    diagnosis::{Kind, Outcome, Service, Severity, Stuck},
    labels::Labels,
    namespaces::Names,
    reason::{Reason, Side},
    tcp::TcpState,
    view::RowView,
};

/// So many that are alike and come at once have lines of their own; more are counted.
const ALIKE: usize = 3;

/// Prints what has changed.
#[derive(Debug)]
pub struct Printer {
    json: bool,
    palette: Palette,
    zone: TimeZone,
    day: Day,
    names: Names,
    labels: Labels,
    /// The namespace that goes without saying.
    own: Netns,
}

/// What makes several alike, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Alike {
    kind: Kind,
    netns: Netns,
    state: TcpState,
    pid: Option<u32>,
    service: Service,
    news: News,
}

/// What has happened, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
enum News {
    Stuck,
    Recovered,
    Ended,
}

/// One line: what was or is stuck, and what has become of it.
struct Item<'a> {
    stuck: &'a Stuck,
    outcome: Option<Outcome>,
}

impl Item<'_> {
    const fn news(&self) -> News {
        match self.outcome {
            None => News::Stuck,
            Some(Outcome::Progress(_) | Outcome::Moved(..)) => News::Recovered,
            Some(Outcome::Ended(..) | Outcome::Gone) => News::Ended,
        }
    }

    /// When it happened; of what is gone, when it was last seen.
    const fn time(&self) -> Ktime {
        match self.outcome {
            Some(Outcome::Progress(time) | Outcome::Moved(time, _) | Outcome::Ended(time, _)) => time,
            None | Some(Outcome::Gone) => self.stuck.seen,
        }
    }

    fn alike(&self) -> Alike {
        let row = &self.stuck.row;
        Alike {
            kind: self.stuck.symptom.kind,
            netns: row.connection.netns,
            state: row.state,
            pid: row.owners.first().map(|owner| owner.pid),
            service: self.stuck.service,
            news: self.news(),
        }
    }

    /// Why it is stuck, or what has become of it.
    fn text(&self) -> String {
        match self.outcome {
            None => format!(
                "{} ({})",
                self.stuck.cause(),
                self.stuck.symptom.evidence.join("; ")
            ),
            Some(Outcome::Progress(_)) => "makes progress again".to_owned(),
            Some(Outcome::Moved(_, to)) => format!("went on to {to}"),
            Some(Outcome::Ended(_, Some(reason))) => reason.to_string(),
            Some(Outcome::Ended(_, None) | Outcome::Gone) => "closed, reason unknown".to_owned(),
        }
    }
}

impl Printer {
    /// In the host's time zone; `own` is the namespace that is not named.
    #[must_use]
    pub fn new(args: &OutputArgs, own: Netns) -> Self {
        Self {
            json: args.json,
            palette: Palette::new(args.color),
            zone: TimeZone::system(),
            day: Day::default(),
            names: Names::read(),
            labels: Labels::new(),
            own,
        }
    }

    /// Writes what stands above all lines.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.json {
            let (faint, reset) = (self.palette.faint(), self.palette.reset());
            writeln!(
                out,
                "{faint}{:<15} {:<9} {:>8}  {:<11} {:<23} {:<23} Owner  Why{reset}",
                "Time", "What", "For", "State", "Local Address", "Foreign Address"
            )?;
        }
        out.flush()
    }

    /// Says which users have no name because nobody told it in time, if any.
    #[must_use]
    pub fn unanswered(&self) -> Option<String> {
        self.labels.unanswered()
    }

    /// Writes what has become stuck, and what has become of what was; and hands it on.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn print(
        &mut self,
        out: &mut impl Write,
        stuck: &[Stuck],
        over: &[(Stuck, Outcome)],
        clock: WallClock,
    ) -> io::Result<()> {
        let news = stuck.iter().map(|stuck| Item { stuck, outcome: None });
        let ends = over.iter().map(|(stuck, outcome)| Item {
            stuck,
            outcome: Some(*outcome),
        });
        let items = ends.chain(news);
        if self.json {
            for item in items {
                json::line(out, &Line::of(&item, &mut self.names, &mut self.labels, clock))?;
            }
            return out.flush();
        }
        let mut alike: FxHashMap<Alike, usize> = FxHashMap::default();
        let mut groups: Vec<Vec<Item<'_>>> = Vec::new();
        for item in items {
            let place = *alike.entry(item.alike()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[place].push(item);
        }
        for mut group in groups {
            group.sort_by_key(Item::time);
            let (shown, others) = group.split_at(group.len().min(ALIKE));
            for item in shown {
                self.line(out, item, clock)?;
            }
            if let Some(first) = others.first() {
                self.more(out, first, others.len())?;
            }
        }
        out.flush()
    }

    fn line(&mut self, out: &mut impl Write, item: &Item<'_>, clock: WallClock) -> io::Result<()> {
        let row = &item.stuck.row;
        let connection = &row.connection;
        let time = clock.timestamp(item.time()).to_zoned(self.zone.clone());
        let (color, word) = self.word(item);
        let (state, reset) = (self.palette.state(row.state), self.palette.reset());
        let shared = item.stuck.symptom.kind.is_shared();
        let lasted = if shared {
            "-".to_owned()
        } else {
            Short(item.stuck.lasted(item.time())).to_string()
        };
        let place = if self.own == connection.netns {
            String::new()
        } else {
            format!("  netns={}", self.names.label(connection.netns))
        };
        if let Some(date) = self.day.turn(time.date()) {
            writeln!(out, "{}-- {date} --{reset}", self.palette.faint())?;
        }
        writeln!(
            out,
            "{} {color}{word:<9}{reset} {lasted:>8}  {state}{:<11}{reset} {:<23} {:<23} {}  {}{place}",
            time.strftime("%H:%M:%S%.6f"),
            row.state,
            End::local(connection, &mut self.names).to_string(),
            End::remote(connection, &mut self.names).to_string(),
            owner(row),
            item.text(),
        )
    }

    /// One line for others that are as `item` is.
    fn more(&self, out: &mut impl Write, item: &Item<'_>, count: usize) -> io::Result<()> {
        let (color, word) = self.word(item);
        let reset = self.palette.reset();
        let to = match item.stuck.service {
            Service::Here(port) => format!("on port {port}"),
            Service::There(addr, port) => format!("to {}", std::net::SocketAddr::new(addr, port)),
            Service::At(addr) => format!("on {addr}"),
        };
        let owner = item.stuck.row.owners.first();
        let state = item.stuck.row.state;
        writeln!(
            out,
            "{:<15} {color}{word:<9}{reset} {:>8}  and {count} more in {state} {to}, {}",
            "",
            "",
            Who(owner),
        )
    }

    fn word(&self, item: &Item<'_>) -> (&'static str, String) {
        let severity = item.stuck.symptom.severity;
        match item.news() {
            News::Stuck => (self.palette.severity(severity), severity.name().to_uppercase()),
            News::Recovered => (self.palette.state(TcpState::Established), "RECOVERED".to_owned()),
            News::Ended => (self.palette.faint(), "ENDED".to_owned()),
        }
    }
}

fn owner(row: &RowView) -> String {
    let owner = row.owners.first();
    let fd = owner.and_then(|owner| owner.fd);
    let fd = fd.map(|fd| format!(" fd {fd}")).unwrap_or_default();
    format!("{}{fd}", Who(owner))
}

/// One line in JSON: what has happened, and the socket as it was when it was last seen stuck.
#[derive(Serialize)]
struct Line<'a> {
    event: News,
    time: String,
    finding: Kind,
    severity: Severity,
    stuck_ms: u128,
    suspects: Vec<Suspected>,
    more_suspects: u32,
    cause: String,
    evidence: &'a [String],
    /// The state that it has gone on to.
    to: Option<&'static str>,
    reason: Option<&'static str>,
    reason_detail: Option<String>,
    closed_by: Option<Side>,
    #[serde(flatten)]
    socket: Socket,
}

impl<'a> Line<'a> {
    fn of(item: &Item<'a>, names: &mut Names, labels: &mut Labels, clock: WallClock) -> Self {
        let stuck = item.stuck;
        let (to, reason) = match item.outcome {
            Some(Outcome::Moved(_, to)) => (Some(to), None),
            Some(Outcome::Ended(_, reason)) => (Some(TcpState::Close), reason),
            Some(Outcome::Gone) => (Some(TcpState::Close), None),
            Some(Outcome::Progress(_)) | None => (None, None),
        };
        Self {
            event: item.news(),
            time: clock.timestamp(item.time()).to_string(),
            finding: stuck.symptom.kind,
            severity: stuck.symptom.severity,
            stuck_ms: stuck.lasted(item.time()).as_millis(),
            suspects: stuck.suspects.iter().map(Suspected::of).collect(),
            more_suspects: stuck.suspects.unlisted(),
            cause: stuck.cause(),
            evidence: &stuck.symptom.evidence,
            to: to.map(TcpState::name),
            reason: reason.map(Reason::word),
            reason_detail: reason.and_then(Reason::detail),
            closed_by: reason.and_then(Reason::closed_by),
            socket: Socket::of(&stuck.row, names, labels, clock),
        }
    }
}
