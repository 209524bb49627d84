//! The judgement: netstate's rows against `ss`, row for row.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::stream::Stream;
use crate::{
    binary, brief,
    rows::Row,
    snapshot::{self, Listed},
};

/// A namespace under judgement, and the way into it.
#[derive(Debug)]
pub(super) struct Place {
    /// Inode number.
    pub(super) inode: u32,
    /// The way in.
    pub(super) way: OwnedFd,
    /// Whether netstate has a way in too. Where it has none, it cannot sweep, and what minisocks and half-open
    /// connections do is known to nobody but the kernel.
    pub(super) open: bool,
}

/// On whose side alone a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// Only `ss` has it.
    Kernel,
    /// Only netstate has it.
    Netstate,
}

/// A row that one side has and the other has not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Difference {
    /// Namespace.
    pub(super) netns: u32,
    /// Cookie.
    pub(super) cookie: u64,
    /// Who has it.
    pub(super) side: Side,
    /// The row, as far as it was compared.
    pub(super) row: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Kernel => "only in ss",
            Side::Netstate => "only in netstate",
        };
        write!(out, "{side}, namespace {}: {}", self.netns, self.row)
    }
}

/// What comparing came to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Rows that `ss` showed and did not change meanwhile, by state, in the last look at each namespace.
    pub(super) compared: BTreeMap<String, usize>,
    /// Looks.
    pub(super) looks: usize,
    /// What differs.
    pub(super) differences: BTreeSet<Difference>,
}

impl Verdict {
    /// How many rows were compared.
    #[must_use]
    pub(super) fn rows(&self) -> usize {
        self.compared.values().sum()
    }
}

/// `ss` inside `place`.
///
/// # Errors
/// When it fails.
pub(super) fn ss(place: &Place) -> Result<Vec<Row>> {
    let printed = inside(place, || Command::new("ss").arg("-tanHe").output())?.context("cannot run ss")?;
    let complaint = String::from_utf8_lossy(&printed.stderr);
    ensure!(printed.status.success(), "ss: {}: {complaint}", printed.status);
    let mut rows = snapshot::parse_ss_output(&String::from_utf8_lossy(&printed.stdout))?;
    place.forget(&mut rows);
    Ok(rows)
}

/// Runs `work` inside `place`.
///
/// # Errors
/// When it cannot be entered.
pub(super) fn inside<T: Send>(place: &Place, work: impl FnOnce() -> T + Send) -> Result<T> {
    let enter = || {
        move_into_link_name_space(place.way.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    };
    thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All rows that netstate lists, by namespace.
///
/// # Errors
/// When it fails.
pub(super) fn list(socket: &Path, netns: Option<u32>) -> Result<Vec<Listed>> {
    let netns = netns.map_or_else(|| "all".to_owned(), |inode| inode.to_string());
    let output = binary::run(socket, &format!("list -an --json --netns {netns}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "netstate list --netns {netns}: {complaint}"
    );
    let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("not a row: {line}"));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(parse)
        .collect()
}

/// In which form netstate is asked for its rows. It answers them by different means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// With all that is known of them.
    InFull,
    /// Ends, states and queues.
    InBrief,
}

/// Compares what `netstate list` answers with `ss`, in each of `places`.
///
/// A row that `ss` shows alike before and after the answer must be in it. A row that `ss` shows neither before
/// nor after may have come and gone in between, but not twice.
///
/// # Errors
/// When one of them fails.
pub(super) fn compare_lists(socket: &Path, places: &[Place], rounds: usize) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for place in places {
        compare(socket, place, Asked::InFull, rounds, &mut verdict)?;
        // Into others it cannot look in brief either: of all namespaces, it tells them with what else it knows.
        if place.open {
            compare(socket, place, Asked::InBrief, rounds, &mut verdict)?;
        }
    }
    Ok(verdict)
}

fn compare(socket: &Path, place: &Place, asked: Asked, rounds: usize, verdict: &mut Verdict) -> Result<()> {
    let mut only_told: Option<BTreeSet<Difference>> = None;
    for round in 1..=rounds {
        let before = ss(place)?;
        let told = match asked {
            Asked::InFull => told(socket, place)?,
            Asked::InBrief => told_in_brief(socket, place)?,
        };
        let after = ss(place)?;
        verdict.looks += 1;
        // By their cookies: ends can be another connection's by then.
        let steady = asked.shows(common(&before, &after));
        verdict
            .differences
            .extend(missing(place, &steady, &told, Side::Kernel));
        let either = asked.shows([before, after].concat());
        let strangers: BTreeSet<_> = missing(place, &told, &either, Side::Netstate).collect();
        let again = only_told.replace(strangers.clone());
        verdict
            .differences
            .extend(again.into_iter().flatten().filter(|row| strangers.contains(row)));
        if round == rounds && asked == Asked::InFull {
            for row in steady.iter().filter(|row| place.can_judge(row)) {
                *verdict.compared.entry(row.state.clone()).or_default() += 1;
            }
        }
    }
    Ok(())
}

impl Asked {
    /// As much of these rows as netstate tells.
    fn shows(self, rows: Vec<Row>) -> Vec<Row> {
        match self {
            Self::InFull => rows,
            Self::InBrief => brief::without_cookies(&rows),
        }
    }
}

fn told_in_brief(socket: &Path, place: &Place) -> Result<Vec<Row>> {
    let arguments = format!("{} --netns {}", brief::ARGUMENTS, place.inode);
    let output = binary::run(socket, &arguments)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "netstate {arguments}: {complaint}");
    brief::parse(&String::from_utf8_lossy(&output.stdout))
}

fn told(socket: &Path, place: &Place) -> Result<Vec<Row>> {
    let listed = list(socket, place.open.then_some(place.inode))?;
    let mine = listed.iter().filter(|row| row.netns == place.inode);
    // Queues are not known where no sweep goes, nor of a socket that has come since the sweep for this answer: that is
    // looked at again if they are not empty.
    let queued = mine.cloned().map(|row| Listed {
        recv_q: row.recv_q.filter(|_| place.open).or(Some(0)),
        send_q: row.send_q.filter(|_| place.open).or(Some(0)),
        ..row
    });
    let mut rows: Vec<Row> = queued.map(|row| row.row()).collect::<Result<_>>()?;
    place.forget(&mut rows);
    Ok(rows)
}

impl Place {
    /// Takes from rows what only a sweep can know, where none goes: queues, and the port that the kernel picks
    /// after it has announced `connect` or `listen`.
    fn forget(&self, rows: &mut [Row]) {
        for row in rows.iter_mut().filter(|_| !self.open) {
            (row.recv_q, row.send_q) = (0, 0);
            if ["SYN_SENT", "LISTEN"].contains(&row.state.as_str()) {
                row.local.port = None;
            }
        }
    }

    /// Whether netstate can know of a row of this state here.
    fn can_judge(&self, row: &Row) -> bool {
        self.open || !["TIME_WAIT", "FIN_WAIT2", "SYN_RECV"].contains(&row.state.as_str())
    }
}

/// Rows that are in both, as often as in the one that has fewer.
fn common(some: &[Row], others: &[Row]) -> Vec<Row> {
    let mut left = counted(others);
    let shared = some.iter().filter(|row| take_one(&mut left, row));
    shared.cloned().collect()
}

/// Those of `rows` that `others` have not, or not as often.
fn missing<'a>(
    place: &'a Place,
    rows: &'a [Row],
    others: &'a [Row],
    side: Side,
) -> impl Iterator<Item = Difference> + 'a {
    let mut left = counted(others);
    let lone = rows
        .iter()
        .filter(move |row| !take_one(&mut left, row) && place.can_judge(row));
    lone.map(move |row| Difference {
        netns: place.inode,
        cookie: row.cookie,
        side,
        row: row.to_string(),
    })
}

fn counted(rows: &[Row]) -> BTreeMap<&Row, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    counts
}

fn take_one(counts: &mut BTreeMap<&Row, usize>, row: &Row) -> bool {
    match counts.get_mut(row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

/// What the table came to know by itself.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// How long it took until nothing differed for longer than a moment.
    pub(super) settled_after: Duration,
    /// What still differed then, and had done so for longer than `limit`.
    pub(super) lasting: BTreeSet<Difference>,
    /// Rows of `ss` in the last look.
    pub(super) rows: usize,
    /// The difference that lasted longest, and how long it was seen.
    pub(super) slowest: Option<(Duration, Difference)>,
}

/// Compares what the stream has told, which is what the table knows without being asked, with `ss`, until
/// every difference has been made good: none may last as long as `limit`.
///
/// # Errors
/// When one of them fails.
pub(super) fn compare_stream(stream: &Stream, places: &[Place], limit: Duration) -> Result<Unasked> {
    /// Shorter than any sweep's interval.
    const MOMENT: Duration = Duration::from_secs(2);
    let started = Instant::now();
    let mut since: BTreeMap<Difference, Instant> = BTreeMap::new();
    let mut slowest: Option<(Duration, Difference)> = None;
    loop {
        let mut present = BTreeSet::new();
        let mut rows = 0;
        for place in places.iter().filter(|place| place.open) {
            let truth: BTreeSet<(u64, String)> = ss(place)?
                .into_iter()
                .map(|row| (row.cookie, row.state))
                .collect();
            let told = told_by(stream, place.inode)?;
            rows += truth.len();
            let lone = |side, (cookie, state): &(u64, String)| Difference {
                netns: place.inode,
                cookie: *cookie,
                side,
                row: format!("{state} cookie {cookie}"),
            };
            present.extend(truth.difference(&told).map(|row| lone(Side::Kernel, row)));
            present.extend(told.difference(&truth).map(|row| lone(Side::Netstate, row)));
        }
        let now = Instant::now();
        since.retain(|difference, _| present.contains(difference));
        for difference in present {
            since.entry(difference).or_insert(now);
        }
        let ages = since.iter().map(|(difference, since)| (now - *since, difference));
        let (oldest, longest) = ages
            .max()
            .map_or((Duration::ZERO, None), |(age, one)| (age, Some(one)));
        if slowest.as_ref().is_none_or(|(age, _)| oldest > *age) {
            slowest = longest.map(|one| (oldest, one.clone()));
        }
        if oldest >= limit || oldest < MOMENT && now - started > MOMENT * 2 || now - started > limit * 3 {
            let lasting = since.into_iter().filter(|(_, since)| now - *since >= limit);
            return Ok(Unasked {
                settled_after: started.elapsed(),
                lasting: lasting.map(|(difference, _)| difference).collect(),
                rows,
                slowest,
            });
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn told_by(stream: &Stream, netns: u32) -> Result<BTreeSet<(u64, String)>> {
    stream.look(|histories| {
        let here = histories.open().filter(|(_, life)| life.ends.netns == netns);
        here.map(|(cookie, life)| (cookie, life.state().name().to_owned()))
            .collect()
    })
}
