//! `netstate list`: a snapshot in netstat's columns.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context;

use super::selection;
use crate::{
    cli::{ListArgs, NetnsArg},
    client::{Client, ClientError},
    clock::{Ktime, WallClock},
    connection::{Family, Netns},
    labels::Labels,
    loader,
    namespaces::Names,
    output::{self, json, netstat},
    processes,
    sources::Coverage,
    sweeper::{Job, Outcome, Scope, SweepDone, Walker},
    table::Table,
    view::{RowQuery, RowView, Snapshot, Trouble, Unseen, Unswept},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let query = RowQuery {
        netns: selection::netns(&args.netns)?,
        holders: args.programs || args.json,
        as_is: false,
    };
    let (clock, snapshot) = match ask_daemon(socket, args, query).await? {
        Some(answer) => answer,
        None => (WallClock::read(), snapshot(query).await?),
    };
    let mut names = Names::read();
    if let Some(note) = note(&snapshot.unswept, &mut names) {
        eprintln!("netstate: {note}");
    }
    if let Some(unseen) = &snapshot.unseen {
        eprintln!("netstate: {unseen}");
    }
    let mut rows = snapshot.rows;
    let which = which(args);
    rows.retain(|row| which.includes(row.state) && wants_family(args, row.connection.family));
    netstat::sort(&mut rows);
    let mut out = output::stdout();
    output::written(write(&mut out, &rows, clock, which, args, &mut names).and_then(|()| out.flush()))
}

async fn ask_daemon(
    socket: &Path,
    args: &ListArgs,
    query: RowQuery,
) -> Result<Option<(WallClock, Snapshot)>, ClientError> {
    if args.alone {
        return Ok(None);
    }
    match Client::connect(socket).await {
        Ok(mut client) => client.rows(query).await.map(Some),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks the kernel itself, once: nothing is attached, and nothing is known but the present.
async fn snapshot(query: RowQuery) -> anyhow::Result<Snapshot> {
    let walk = tokio::task::spawn_blocking(move || walk(query));
    walk.await
        .context("the walk over the kernel's sockets broke off")?
}

fn walk(query: RowQuery) -> anyhow::Result<Snapshot> {
    let mut walker = Walker::new(loader::iterators()?);
    let mut table = Table::new(Coverage::default());
    let (mut finished, mut scan) = (None, None);
    let mut fold = |outcome| match outcome {
        Outcome::Namespace(sweep, _) => table.apply_sweep(&sweep, &mut Vec::new()),
        Outcome::SocketsDone(done) => finished = Some(done),
        Outcome::HoldersDone(done) => scan = Some(done.found),
    };
    // In this order: the scan draws the cookies by which the sweep joins MPTCP to its holders.
    if query.holders {
        walker.run(Job::Holders, &mut fold);
    }
    walker.run(Job::Sockets(Scope::once(query.netns)), &mut fold);
    let mut unseen = (query.holders && !processes::all_visible()).then_some(Unseen::Processes);
    match scan {
        Some(Ok(scan)) => table.apply_scan(scan),
        Some(Err(error)) => unseen = Some(Unseen::Files(error.to_string())),
        None => {}
    }
    let now = Ktime::now();
    Ok(Snapshot {
        rows: table.rows().map(|row| RowView::new(row, now)).collect(),
        unswept: finished.map_or(Ok(Vec::new()), |done| unswept(query.netns, done))?,
        unseen,
    })
}

/// The namespaces that could not be walked; an error when the one that was asked for is among them.
fn unswept(wanted: Option<Netns>, done: SweepDone) -> anyhow::Result<Vec<Unswept>> {
    if let Some(absent) = wanted.and_then(|netns| done.failure(netns)) {
        return Err(absent.into());
    }
    if let Some(broken) = done.broken {
        return Err(broken.into());
    }
    let failed = done.failed.into_iter().map(|(netns, error)| {
        if wanted == Some(netns) {
            return Err(error.into());
        }
        Ok(Unswept {
            netns,
            trouble: Trouble::Closed(error.to_string()),
        })
    });
    failed.collect()
}

/// What the reader has to know of namespaces that could not be looked into.
fn note(unswept: &[Unswept], names: &mut Names) -> Option<String> {
    /// More would push the rows out of sight.
    const MOST: usize = 5;
    let first = unswept.first()?;
    let shown: Vec<_> = unswept
        .iter()
        .take(MOST)
        .map(|unswept| names.label(unswept.netns))
        .collect();
    let more = match unswept.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "the rows of {} network namespace(s) may be wrong or missing, of {}{more}: {}",
        unswept.len(),
        shown.join(", "),
        first.trouble
    ))
}

/// What the reader has to know of executables that are missing.
fn unreadable(processes: usize) -> String {
    format!(
        "what {processes} process(es) execute may not be seen: run with sudo, or grant the binary CAP_SYS_PTRACE"
    )
}

fn which(args: &ListArgs) -> netstat::Which {
    match (args.all, args.listening) {
        (true, _) => netstat::Which::All,
        (false, true) => netstat::Which::Listeners,
        (false, false) => netstat::Which::Others,
    }
}

fn wants_family(args: &ListArgs, family: Family) -> bool {
    match (args.ipv4, args.ipv6) {
        (true, false) => family == Family::Inet,
        (false, true) => family == Family::Inet6,
        _ => true,
    }
}

fn write(
    out: &mut impl Write,
    rows: &[RowView],
    clock: WallClock,
    which: netstat::Which,
    args: &ListArgs,
    names: &mut Names,
) -> io::Result<()> {
    if args.json {
        let mut labels = Labels::new();
        rows.iter()
            .try_for_each(|row| json::row(out, row, names, &mut labels, clock))?;
        if labels.refused() > 0 {
            eprintln!("netstate: {}", unreadable(labels.refused()));
        }
        return Ok(());
    }
    let columns = netstat::Columns {
        extend: args.extend,
        programs: args.programs,
        wide: args.wide,
        numeric: args.numeric,
    };
    // netstat has no column for it, and needs none: it shows one namespace.
    let names = (args.netns == NetnsArg::All).then_some(names);
    netstat::table(out, rows, which, columns, names)
}
