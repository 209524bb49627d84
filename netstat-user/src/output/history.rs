//! The life of a connection, for people: who and where, then each state with its time, length and bar.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use jiff::{Zoned, tz::TimeZone};

use super::{
    Short,
    color::Palette,
    day::Day,
    line::{End, Who},
    present::{Present, Traffic},
};
use crate::{
    clock::{Ktime, WallClock},
    facts::Occurrence,
    namespaces::Names,
    table::{Ending, Mark, Source},
    timeline::{self, Stay},
    view::HistoryView,
};

/// Cells of the longest bar.
const BAR: u32 = 40;
/// The bar of a stay, in eighths of a cell.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Prints histories.
#[derive(Debug)]
pub struct Histories {
    palette: Palette,
    zone: TimeZone,
    day: Day,
    names: Names,
    clock: WallClock,
    now: Ktime,
}

impl Histories {
    /// In the host's time zone, as things are at `now`.
    #[must_use]
    pub fn new(palette: Palette, clock: WallClock, now: Ktime) -> Self {
        Self {
            palette,
            zone: TimeZone::system(),
            day: Day::default(),
            names: Names::read(),
            clock,
            now,
        }
    }

    /// Writes histories, with blank lines in between.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn write_all(&mut self, out: &mut impl Write, histories: &[HistoryView]) -> io::Result<()> {
        for (place, history) in histories.iter().enumerate() {
            if place > 0 {
                writeln!(out)?;
            }
            self.write(out, history)?;
        }
        Ok(())
    }

    /// Writes one history.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn write(&mut self, out: &mut impl Write, history: &HistoryView) -> io::Result<()> {
        self.head(out, history)?;
        self.day = Day::of(self.zoned(self.now).date());
        let stays = timeline::stays(history, self.now);
        let whole = timeline::length(&stays);
        if history.forgotten > 0 {
            writeln!(
                out,
                "  {:>15}  … {} earlier steps are forgotten",
                "", history.forgotten
            )?;
        }
        let mut marks = history.marks().iter().peekable();
        for (place, stay) in stays.iter().enumerate() {
            self.stay(out, stay, whole)?;
            let until = stays.get(place + 1).and_then(|next| next.since);
            while let Some(mark) = marks.next_if(|mark| until.is_none_or(|until| mark.first < until)) {
                self.mark(out, mark)?;
            }
        }
        if let Some(ending) = &history.ending {
            self.end(out, ending)?;
        }
        if let Some(now) = Present::of(history) {
            writeln!(out, "  {:>15}  {now}", "now")?;
        }
        match Traffic::of(history) {
            Some(traffic) => writeln!(out, "  {:>15}  {traffic}", ""),
            None => Ok(()),
        }
    }

    /// The date before a line with a time of day, where it is another than that of the line before; at first, than today's.
    fn date(&mut self, out: &mut impl Write, time: Ktime) -> io::Result<()> {
        match self.day.turn(self.zoned(time).date()) {
            Some(date) => {
                let (faint, reset) = (self.palette.faint(), self.palette.reset());
                writeln!(out, "  {faint}{:>15}{reset}", date.to_string())
            }
            None => Ok(()),
        }
    }

    /// What happened in a state, and how often.
    fn mark(&mut self, out: &mut impl Write, mark: &Mark) -> io::Result<()> {
        self.date(out, mark.first)?;
        let (alarm, reset) = (self.palette.alarm(), self.palette.reset());
        let what = match mark.what {
            Occurrence::Retransmit => "sent again",
            Occurrence::ResetSent => "RST sent",
            Occurrence::ResetAnswered => "answered with a RST",
            Occurrence::ResetReceived => "RST received",
        };
        let mut line = format!("  {:>15}  {alarm}{what}{reset}", self.time(mark.first));
        if mark.count > 1 {
            let _ = write!(line, ", {} times until {}", mark.count, self.time(mark.last));
        }
        writeln!(out, "{line}")
    }

    fn head(&mut self, out: &mut impl Write, history: &HistoryView) -> io::Result<()> {
        let row = &history.row;
        let connection = &row.connection;
        let (faint, reset) = (self.palette.faint(), self.palette.reset());
        writeln!(
            out,
            "{} → {}  {}",
            End::local(connection, &mut self.names),
            End::remote(connection, &mut self.names),
            self.standing(history),
        )?;
        let mut about = format!("cookie {}", connection.cookie.0);
        if let Some(owner) = row.owners.first() {
            let _ = write!(about, ", {}", Who(Some(owner)));
            if let Some(fd) = owner.fd {
                let _ = write!(about, " fd {fd}");
            }
        }
        if let Some(uid) = row.uid {
            let _ = write!(about, ", uid {uid}");
        }
        if let Some(kept) = row.owners.kept() {
            let _ = write!(about, ", {kept}");
        }
        let _ = write!(about, ", netns {}", self.names.label(connection.netns));
        writeln!(out, "  {faint}{about}{reset}")
    }

    /// What has become of it, in a word or two.
    fn standing(&self, history: &HistoryView) -> String {
        let row = &history.row;
        let Some(ending) = &history.ending else {
            let (color, reset) = (self.palette.state(row.state), self.palette.reset());
            let at_least = if row.at_least { "≥" } else { "" };
            return format!(
                "{color}{}{reset} for {at_least}{}",
                row.state,
                Short(row.in_state)
            );
        };
        let ago = Short(self.now.since(ending.time));
        match ending.reason {
            Some(reason) => format!("ended {ago} ago: {reason}"),
            None => format!("ended {ago} ago"),
        }
    }

    fn stay(&mut self, out: &mut impl Write, stay: &Stay, whole: Duration) -> io::Result<()> {
        let (color, reset) = (self.palette.state(stay.state), self.palette.reset());
        if stay.after_gap {
            writeln!(out, "  {:>15}  … something in between was not seen", "")?;
        }
        if let Some(since) = stay.since {
            self.date(out, since)?;
        }
        let since = stay
            .since
            .map_or_else(|| "before".to_owned(), |time| self.time(time));
        let lasted = match stay.lasted {
            Some(lasted) if stay.at_least => format!("≥{}", Short(lasted)),
            Some(lasted) => Short(lasted).to_string(),
            None => "-".to_owned(),
        };
        let more = if stay.open { "…" } else { "" };
        let bar = stay.lasted.map(|lasted| bar(lasted, whole)).unwrap_or_default();
        let line = format!(
            "  {since:>15}  {color}{:<11}{reset} {lasted:>10}  {color}{bar}{more}{reset}{}",
            stay.state,
            remark(stay.source),
        );
        writeln!(out, "{}", line.trim_end())
    }

    fn end(&mut self, out: &mut impl Write, ending: &Ending) -> io::Result<()> {
        self.date(out, ending.time)?;
        let (color, reset) = (
            self.palette.state(crate::tcp::TcpState::Close),
            self.palette.reset(),
        );
        let mut line = format!(
            "  {:>15}  {color}CLOSE{reset}{}",
            self.time(ending.time),
            remark(Some(ending.source))
        );
        if let Some(earliest) = ending.earliest {
            let late = ending.time.since(earliest);
            let _ = write!(line, ", at most {} late", Short(late));
        }
        writeln!(out, "{line}")
    }

    fn zoned(&self, time: Ktime) -> Zoned {
        self.clock.timestamp(time).to_zoned(self.zone.clone())
    }

    fn time(&self, time: Ktime) -> String {
        self.zoned(time).strftime("%H:%M:%S%.6f").to_string()
    }
}

/// How a step is known, if it is not the kernel's own word.
fn remark(source: Option<Source>) -> &'static str {
    match source {
        Some(Source::Event) | None => "",
        Some(Source::Sweep) => "  (seen by scan)",
        Some(Source::Inferred) => "  (inferred)",
    }
}

/// A bar for `part` of `whole`; whatever lasted at all has one.
fn bar(part: Duration, whole: Duration) -> String {
    let whole = whole.as_nanos().max(1);
    let eighths = (part.as_nanos() * u128::from(BAR) * 8).div_ceil(whole);
    let eighths = usize::try_from(eighths).unwrap_or(0).min(BAR as usize * 8);
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        let seconds = Duration::from_secs;
        assert_eq!(bar(seconds(10), seconds(10)), "█".repeat(40));
        assert_eq!(bar(seconds(5), seconds(10)), "█".repeat(20));
        assert_eq!(bar(seconds(1), seconds(10)), "█".repeat(4));
        assert_eq!(bar(Duration::from_micros(1), seconds(10)), "▏");
        assert_eq!(bar(Duration::ZERO, Duration::ZERO), "");
        assert_eq!(bar(seconds(20), seconds(10)), "█".repeat(40));
    }
}
