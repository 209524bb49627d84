//! `netstate list`: a snapshot in netstat's columns.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, anyhow};

use super::selection;
use crate::{
    cli::ListArgs,
    client::{Client, ClientError},
    clock::{Ktime, WallClock},
    connection::{Family, Netns},
    loader,
    output::{self, json, netstat},
    sources::Coverage,
    sweeper::{Job, Outcome, Scope, SweepError, Walker},
    table::Table,
    view::{RowQuery, RowView},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let query = RowQuery {
        netns: selection::netns(&args.netns)?,
        holders: args.programs || args.json,
        as_is: false,
    };
    let (clock, mut rows) = match ask_daemon(socket, args, query).await? {
        Some(answer) => answer,
        None => (WallClock::read(), snapshot(query).await?),
    };
    let which = which(args);
    rows.retain(|row| which.includes(row.state) && wants_family(args, row.connection.family));
    netstat::sort(&mut rows);
    let mut out = output::stdout();
    output::written(write(&mut out, &rows, clock, which, args).and_then(|()| out.flush()))
}

async fn ask_daemon(
    socket: &Path,
    args: &ListArgs,
    query: RowQuery,
) -> Result<Option<(WallClock, Vec<RowView>)>, ClientError> {
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
async fn snapshot(query: RowQuery) -> anyhow::Result<Vec<RowView>> {
    let walk = tokio::task::spawn_blocking(move || walk(query));
    walk.await
        .context("the walk over the kernel's sockets broke off")?
}

fn walk(query: RowQuery) -> anyhow::Result<Vec<RowView>> {
    let mut walker = Walker::new(loader::iterators()?);
    let mut table = Table::new(Coverage::default());
    let mut failures = Vec::new();
    let mut fold = |outcome| match outcome {
        Outcome::Namespace(sweep, _) => table.apply_sweep(&sweep, &mut Vec::new()),
        Outcome::SocketsDone(done) => failures = done.failed,
        Outcome::Holders(Ok(holders)) => table.apply_holders(holders),
        Outcome::Holders(Err(error)) => log::warn!("cannot tell who holds the sockets: {error}"),
    };
    let scope = query
        .netns
        .map_or(Scope::All(Vec::new()), |netns| Scope::Only(vec![netns]));
    walker.run(Job::Sockets(scope), &mut fold);
    if query.holders {
        walker.run(Job::Holders, &mut fold);
    }
    for (netns, error) in failures {
        report(query.netns, netns, error)?;
    }
    let now = Ktime::now();
    Ok(table.rows().map(|row| RowView::new(row, now)).collect())
}

/// A namespace that could not be walked is an error when it was the one asked for.
fn report(wanted: Option<Netns>, netns: Netns, error: SweepError) -> anyhow::Result<()> {
    if wanted == Some(netns) {
        return Err(anyhow!(error));
    }
    log::warn!("{error}");
    Ok(())
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
) -> io::Result<()> {
    if args.json {
        return rows.iter().try_for_each(|row| json::row(out, row, clock));
    }
    let columns = netstat::Columns {
        extend: args.extend,
        programs: args.programs,
        wide: args.wide,
        numeric: args.numeric,
    };
    netstat::table(out, rows, which, columns)
}
