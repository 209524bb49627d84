//! A transition as a line for people.

use std::{
    fmt,
    io::{self, Write},
    net::IpAddr,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{Short, color::Palette, day::Day, text::Text};
use crate::{
    clock::WallClock,
    connection::{Connection, Endpoint, Family, Netns, Owner, OwnerSource},
    facts::ConnectFailure,
    namespaces::Names,
    reason::Reason,
    table::{Source, Transition},
    tcp::TcpState,
    view::StreamItem,
};

/// Prints items of the stream as aligned lines.
#[derive(Debug)]
pub struct Lines {
    palette: Palette,
    time: Time,
    /// The line under way; empty between two of them.
    text: Text,
    /// The namespace that goes without saying.
    own: Option<Netns>,
    /// What the others are called.
    names: Names,
}

impl Lines {
    /// Lines in the host's time zone; `own` is the namespace that is not named in them.
    #[must_use]
    pub fn new(palette: Palette, own: Option<Netns>) -> Self {
        Self {
            palette,
            time: Time {
                zone: TimeZone::system(),
                last: None,
                day: Day::default(),
            },
            text: Text::default(),
            own,
            names: Names::read(),
        }
    }

    /// The same with these names for namespaces.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// The line above all others.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn header(&self, out: &mut impl Write) -> io::Result<()> {
        let (faint, reset) = (self.palette.faint(), self.palette.reset());
        writeln!(
            out,
            "{faint}{:<15} {:>11}   {:<11} {:<23} {:<23} {:>10}  Owner{reset}",
            "Time", "From", "To", "Local Address", "Foreign Address", "In state"
        )
    }

    /// One item.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn item(&mut self, out: &mut impl Write, item: &StreamItem, clock: WallClock) -> io::Result<()> {
        // Kept for its room.
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        self.write(&mut text, item, clock);
        text.push("\n");
        let written = out.write_all(text.bytes());
        self.text = text;
        written
    }

    fn write(&mut self, text: &mut Text, item: &StreamItem, clock: WallClock) {
        let (alarm, reset) = (self.palette.alarm(), self.palette.reset());
        match item {
            StreamItem::Transition(transition) => {
                self.day(text, clock.timestamp(transition.time));
                self.transition(text, transition, clock);
            }
            StreamItem::ConnectFailed(failure) => {
                self.day(text, clock.timestamp(failure.time));
                self.connect_failed(text, failure, clock);
            }
            StreamItem::Lost(loss) => {
                self.day(text, clock.timestamp(loss.since));
                text.display(format_args!(
                    "{alarm}-- {} state changes lost since ",
                    loss.count()
                ));
                self.time.write(text, clock.timestamp(loss.since));
                text.display(format_args!(
                    ", and the table is being repaired: {}{reset}",
                    cause(loss.ring_full, loss.interrupted),
                ));
            }
            StreamItem::Missed { items, at_most } => {
                let bound = if *at_most { "at most " } else { "" };
                text.display(format_args!(
                    "{alarm}-- {bound}{items} lines missed: the output is slower than the events --{reset}"
                ));
            }
        }
    }

    /// A line with the date, where it is another than that of the line before.
    fn day(&mut self, text: &mut Text, time: Timestamp) {
        if let Some(date) = self.time.turn(time) {
            let (faint, reset) = (self.palette.faint(), self.palette.reset());
            text.display(format_args!("{faint}-- {date} --{reset}\n"));
        }
    }

    fn transition(&mut self, text: &mut Text, transition: &Transition, clock: WallClock) {
        let Palettes { from, to, reset } = self.palettes(transition);
        let connection = &transition.connection;
        self.time.write(text, clock.timestamp(transition.time));
        text.push(" ");
        text.push(from);
        let start = text.len();
        text.push(transition.from.map_or("?", TcpState::name));
        text.fill_before(start, 11);
        text.push(reset);
        text.push(" → ");
        text.push(to);
        let start = text.len();
        text.push(transition.to.name());
        text.fill(start, 11);
        text.push(reset);
        self.ends(text, connection);
        text.push(" ");
        let start = text.len();
        lasted(text, transition);
        text.fill_before(start, 10);
        text.push("  ");
        owner(text, transition.owner.as_ref());
        self.remarks(text, transition);
        self.place(text, connection.netns);
    }

    /// A `connect` that failed: the socket is in CLOSE, as it was before.
    fn connect_failed(&mut self, text: &mut Text, failure: &ConnectFailure, clock: WallClock) {
        let (closed, alarm) = (self.palette.state(TcpState::Close), self.palette.alarm());
        let reset = self.palette.reset();
        self.time.write(text, clock.timestamp(failure.time));
        text.push(" ");
        text.push(closed);
        let start = text.len();
        text.push(TcpState::Close.name());
        text.fill_before(start, 11);
        text.push(reset);
        let start = text.len();
        text.fill(start, "   ".len() + 11);
        self.ends(text, &failure.connection);
        text.push(" ");
        let start = text.len();
        text.push("-");
        text.fill_before(start, 10);
        text.push("  ");
        owner(text, failure.owner.as_ref());
        let reason = Reason::ConnectFailed(Some(failure.error));
        text.display(format_args!("  {alarm}{reason}{reset}"));
        self.place(text, failure.connection.netns);
    }

    fn ends(&mut self, text: &mut Text, connection: &Connection) {
        let names = &mut self.names;
        let ends = [End::local(connection, names), End::remote(connection, names)];
        for end in ends {
            text.push(" ");
            let start = text.len();
            end.write(text);
            text.fill(start, 23);
        }
    }

    fn palettes(&self, transition: &Transition) -> Palettes {
        let reset = self.palette.reset();
        let from = transition.from.map_or(reset, |state| self.palette.state(state));
        Palettes {
            from,
            to: self.palette.state(transition.to),
            reset,
        }
    }

    fn remarks(&self, text: &mut Text, transition: &Transition) {
        if let Some(reason) = transition.reason {
            let color = if reason.is_orderly() {
                self.palette.faint()
            } else {
                self.palette.alarm()
            };
            text.display(format_args!("  {color}{reason}{}", self.palette.reset()));
        }
        if transition.source == Source::Sweep {
            text.push("  (seen by scan");
            if let Some(earliest) = transition.earliest {
                let late = transition.time.since(earliest);
                text.display(format_args!(", at most {} late", Short(late)));
            }
            text.push(")");
        }
    }

    /// Where a connection is, when that does not go without saying: its namespace by name, if it has one.
    fn place(&mut self, text: &mut Text, netns: Netns) {
        if self.own != Some(netns) {
            text.push("  netns=");
            text.push(&self.names.label(netns));
        }
    }
}

/// The time of day in a time zone. Most lines have that of the line before but for the fraction of the second.
#[derive(Debug)]
struct Time {
    zone: TimeZone,
    /// The last one, without its fraction, and the second that it stands for.
    last: Option<Second>,
    day: Day,
}

/// A second on the clock on the wall.
#[derive(Debug, Clone, Copy)]
struct Second {
    since_epoch: i64,
    date: Date,
    clock: [u8; 3],
}

impl Time {
    fn second(&mut self, time: Timestamp) -> Second {
        let since_epoch = time.as_second();
        match self.last {
            Some(last) if last.since_epoch == since_epoch => last,
            _ => {
                let zoned = time.to_zoned(self.zone.clone());
                let second = Second {
                    since_epoch,
                    date: zoned.date(),
                    clock: [zoned.hour(), zoned.minute(), zoned.second()].map(i8::unsigned_abs),
                };
                self.last = Some(second);
                second
            }
        }
    }

    /// The date of the next line, if it has to be said.
    fn turn(&mut self, time: Timestamp) -> Option<Date> {
        let date = self.second(time).date;
        self.day.turn(date)
    }

    fn write(&mut self, text: &mut Text, time: Timestamp) {
        let clock = self.second(time).clock;
        for (part, sign) in clock.into_iter().zip([":", ":", "."]) {
            text.padded(u64::from(part), 2);
            text.push(sign);
        }
        let micros = time.subsec_microsecond();
        text.padded(u64::from(micros.unsigned_abs()), 6);
    }
}

fn cause(ring_full: u64, interrupted: u64) -> String {
    let ring = format!("{ring_full} found the ring full, which --ring-size enlarges");
    let interrupt = format!("{interrupted} interrupted the tracer itself");
    match (ring_full, interrupted) {
        (_, 0) => ring,
        (0, _) => interrupt,
        _ => format!("{ring}; {interrupt}"),
    }
}

struct Palettes {
    from: &'static str,
    to: &'static str,
    reset: &'static str,
}

fn owner(text: &mut Text, owner: Option<&Owner>) {
    match owner {
        Some(owner) => {
            text.number(u64::from(owner.pid));
            text.push("/");
            text.display(owner.comm);
            if owner.source == OwnerSource::Inherited {
                text.push("?");
            }
        }
        None => text.push("-"),
    }
}

fn lasted(text: &mut Text, transition: &Transition) {
    match transition.in_state {
        Some(duration) => {
            if transition.at_least {
                text.push("≥");
            }
            text.display(Short(duration));
        }
        None => text.push("-"),
    }
}

/// One end as `address:port`, IPv6 in brackets; of a link-local address, the interface behind `%`.
pub(super) struct End<'a> {
    connection: &'a Connection,
    endpoint: Endpoint,
    /// What stands for a port that there is not.
    no_port: &'static str,
    zone: Option<String>,
}

impl<'a> End<'a> {
    /// This host's end.
    pub(super) fn local(connection: &'a Connection, names: &mut Names) -> Self {
        Self::of(connection, connection.local, "-", names)
    }

    /// The other end.
    pub(super) fn remote(connection: &'a Connection, names: &mut Names) -> Self {
        Self::of(connection, connection.remote, "*", names)
    }

    fn of(connection: &'a Connection, end: Endpoint, no_port: &'static str, names: &mut Names) -> Self {
        Self {
            connection,
            endpoint: end,
            no_port,
            zone: names.zone(connection, end),
        }
    }

    fn write(&self, text: &mut Text) {
        match self.endpoint.addr(self.connection.family).to_canonical() {
            IpAddr::V6(_) if self.connection.family == Family::Inet6 => text.display(format_args!("{self}")),
            addr => {
                text.address(addr);
                text.push(":");
                match self.endpoint.port() {
                    Some(port) => text.number(u64::from(port)),
                    None => text.push(self.no_port),
                }
            }
        }
    }
}

impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (
            self.endpoint.addr(self.connection.family).to_canonical(),
            &self.zone,
        ) {
            (IpAddr::V6(v6), Some(zone)) => write!(f, "[{v6}%{zone}]:")?,
            (IpAddr::V6(v6), None) if self.connection.family == Family::Inet6 => write!(f, "[{v6}]:")?,
            (addr, _) => write!(f, "{addr}:")?,
        }
        match self.endpoint.port() {
            Some(port) => write!(f, "{port}"),
            None => f.write_str(self.no_port),
        }
    }
}

/// A process that holds a socket, with a question mark if it may not have accepted it yet.
pub(super) struct Who<'a>(pub(super) Option<&'a Owner>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(owner) if owner.source == OwnerSource::Inherited => {
                write!(f, "{}/{}?", owner.pid, owner.comm)
            }
            Some(owner) => write!(f, "{}/{}", owner.pid, owner.comm),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cli::ColorArg,
        clock::Ktime,
        connection::{Comm, Cookie},
        reason::{Reason, Refusal},
        view::Loss,
    };

    fn refused() -> Transition {
        let end = |addr: &str, port| Endpoint::new(addr.parse().unwrap(), port);
        Transition {
            connection: Connection {
                cookie: Cookie(1),
                netns: Netns(1),
                family: Family::Inet,
                local: end("127.0.0.1", 0),
                remote: end("127.0.0.1", 81),
                device: None,
                mptcp: false,
            },
            time: Ktime(40_000_000),
            from: Some(TcpState::SynSent),
            to: TcpState::Close,
            in_state: Some(Duration::from_micros(129)),
            at_least: true,
            source: Source::Sweep,
            earliest: Some(Ktime(0)),
            reason: Some(Reason::Refused(Some(Refusal::Reset))),
            owner: Some(Owner {
                pid: 7,
                start: Ktime(0),
                tid: None,
                fd: None,
                more_fds: 0,
                comm: Comm(*b"a\x1b[2J\0\0\0\0\0\0\0\0\0\0\0"),
                seen: Ktime(0),
                source: OwnerSource::Event,
            }),
            uid: Some(0),
            cgroup: None,
            fwmark: None,
        }
    }

    fn printed(color: ColorArg, item: &StreamItem) -> String {
        let mut out = Vec::new();
        let mut lines = Lines::new(Palette::new(color), Some(Netns(1)));
        // The date comes before the first line alone.
        lines.item(&mut Vec::new(), item, WallClock::read()).unwrap();
        lines.item(&mut out, item, WallClock::read()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_date_comes_before_the_first_line_of_a_day() {
        const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;
        let (mut out, clock) = (Vec::new(), WallClock::read());
        let mut lines = Lines::new(Palette::new(ColorArg::Never), None);
        for time in [DAY, DAY, 2 * DAY] {
            let transition = Transition {
                time: Ktime(time),
                ..refused()
            };
            lines
                .item(&mut out, &StreamItem::Transition(transition), clock)
                .unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        let dated: Vec<_> = text.lines().map(|line| line.starts_with("-- ")).collect();
        assert_eq!(dated, [true, false, false, true, false], "{text}");
    }

    #[test]
    fn a_line_tells_all_and_controls_no_terminal() {
        let line = printed(ColorArg::Never, &StreamItem::Transition(refused()));
        let (_time, rest) = line.split_at("00:00:00.000000".len());
        assert_eq!(
            rest,
            "    SYN_SENT → CLOSE       127.0.0.1:-             127.0.0.1:81               ≥129 µs  \
             7/a\\u{1b}[2J  refused: a RST answered the SYN  (seen by scan, at most 40.0 ms late)\n"
        );
    }

    #[test]
    fn a_failed_connect_has_its_error_and_no_second_state() {
        let transition = refused();
        let failure = ConnectFailure {
            time: transition.time,
            connection: transition.connection,
            error: 101,
            fwmark: 0,
            owner: transition.owner,
            uid: 0,
            cgroup: None,
        };
        let line = printed(ColorArg::Never, &StreamItem::ConnectFailed(failure));
        let (_time, rest) = line.split_at("00:00:00.000000".len());
        assert_eq!(
            rest,
            "       CLOSE               127.0.0.1:-             127.0.0.1:81                     -  \
             7/a\\u{1b}[2J  connect failed: ENETUNREACH (Network is unreachable)\n"
        );
    }

    #[test]
    fn colour_changes_nothing_else() {
        let plain = printed(ColorArg::Never, &StreamItem::Transition(refused()));
        let mut coloured = printed(ColorArg::Always, &StreamItem::Transition(refused()));
        assert!(coloured.contains("\x1b[33m") && coloured.contains("\x1b[0m"));
        for code in ["\x1b[33m", "\x1b[2m", "\x1b[31m", "\x1b[0m"] {
            coloured = coloured.replace(code, "");
        }
        let untimed = |line: &str| line.split_once(' ').map(|(_time, rest)| rest.to_owned());
        assert_eq!(untimed(&coloured), untimed(&plain));
    }

    #[test]
    fn a_loss_says_why() {
        let lost = |ring_full, interrupted| {
            StreamItem::Lost(Loss {
                ring_full,
                interrupted,
                since: Ktime(0),
                until: Ktime(1),
            })
        };
        assert!(printed(ColorArg::Never, &lost(3, 0)).contains("3 found the ring full, which --ring-size"));
        assert!(!printed(ColorArg::Never, &lost(0, 2)).contains("--ring-size"));
        assert!(printed(ColorArg::Never, &lost(3, 2)).starts_with("-- 5 state changes lost since"));
    }
}
