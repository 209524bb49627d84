//! `netstate list`: a snapshot in netstat's columns.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context;

use super::{filtering, selection};
use crate::{
    cli::{ListArgs, NetnsArg},
    client::{Client, ClientError},
    clock::{Ktime, WallClock},
    connection::{Family, Netns},
    filter::Filter,
    loader,
    namespaces::Names,
    output::{self, json, netstat},
    sources::Coverage,
    sweeper::{Job, Outcome, Scope, SweepDone, Walker},
    table::Table,
    view::{RowQuery, RowView, Snapshot, Trouble, Unswept},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let filter = filtering::filter("list", &args.filter)?;
    let netns = selection::netns(netns(args, filter.as_ref()))?;
    let which = which(args, filter.as_ref());
    let query = RowQuery {
        netns,
        holders: args.programs || args.json || filter.as_ref().is_some_and(Filter::names_holders),
        filter,
        as_is: false,
    };
    let (clock, snapshot) = match ask_daemon(socket, args, &query).await? {
        Some(answer) => answer,
        None => (WallClock::read(), snapshot(query).await?),
    };
    let mut names = Names::read();
    if let Some(note) = note(&snapshot.unswept, &mut names) {
        eprintln!("netstate: {note}");
    }
    let mut rows = snapshot.rows;
    rows.retain(|row| which.includes(row.state) && wants_family(args, row.connection.family));
    netstat::sort(&mut rows);
    let mut out = output::stdout();
    // netstat has no column for namespaces, and needs none: it shows one.
    let places = netns.is_none();
    let written = write(&mut out, &rows, clock, which, args, places, &mut names);
    output::written(written.and_then(|()| out.flush()))
}

async fn ask_daemon(
    socket: &Path,
    args: &ListArgs,
    query: &RowQuery,
) -> Result<Option<(WallClock, Snapshot)>, ClientError> {
    if args.alone {
        return Ok(None);
    }
    match Client::connect(socket).await {
        Ok(mut client) => client.rows(query.clone()).await.map(Some),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks the kernel itself, once: nothing is attached, and nothing is known but the present.
async fn snapshot(query: RowQuery) -> anyhow::Result<Snapshot> {
    let walk = tokio::task::spawn_blocking(move || walk(&query));
    walk.await
        .context("the walk over the kernel's sockets broke off")?
}

fn walk(query: &RowQuery) -> anyhow::Result<Snapshot> {
    let mut walker = Walker::new(loader::iterators()?);
    let mut table = Table::new(Coverage::default());
    let mut finished = None;
    let mut fold = |outcome| match outcome {
        Outcome::Namespace(sweep, _) => table.apply_sweep(&sweep, &mut Vec::new()),
        Outcome::SocketsDone(done) => finished = Some(done),
        Outcome::Holders(Ok(holders)) => table.apply_holders(holders),
        Outcome::Holders(Err(error)) => log::warn!("cannot tell who holds the sockets: {error}"),
    };
    walker.run(Job::Sockets(Scope::once(query.netns)), &mut fold);
    if query.holders {
        walker.run(Job::Holders, &mut fold);
    }
    let now = Ktime::now();
    let wanted = table.rows().filter(|row| query.wants(row));
    Ok(Snapshot {
        rows: wanted.map(|row| RowView::new(row, now)).collect(),
        unswept: finished.map_or(Ok(Vec::new()), |done| unswept(query.netns, done))?,
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

/// Which namespaces: the caller's, unless somebody says otherwise. A filter that names some does.
fn netns<'a>(args: &'a ListArgs, filter: Option<&Filter>) -> &'a NetnsArg {
    let named = filter.is_some_and(Filter::names_namespaces);
    let default = if named { &NetnsArg::All } else { &NetnsArg::Own };
    args.netns.as_ref().unwrap_or(default)
}

/// Listeners or others: a filter that is about states decides, as with `ss`, unless a flag does.
fn which(args: &ListArgs, filter: Option<&Filter>) -> netstat::Which {
    match (args.all, args.listening) {
        (true, _) => netstat::Which::All,
        (false, true) => netstat::Which::Listeners,
        (false, false) if filter.is_some_and(Filter::names_states) => netstat::Which::All,
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
    places: bool,
    names: &mut Names,
) -> io::Result<()> {
    if args.json {
        return rows.iter().try_for_each(|row| json::row(out, row, names, clock));
    }
    let columns = netstat::Columns {
        extend: args.extend,
        programs: args.programs,
        wide: args.wide,
        numeric: args.numeric,
    };
    let names = places.then_some(names);
    netstat::table(out, rows, which, columns, names)
}
