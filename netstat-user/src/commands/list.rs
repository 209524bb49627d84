//! `netstate list`: a snapshot in netstat's columns.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{
    bound, filtering, selection,
    snapshot::{Source, tell_missing, tell_unnamed, tell_whose_ids},
};
use crate::{
    cli::{ListArgs, NetnsArg},
    clock::WallClock,
    connection::{Family, Netns},
    filter::{Filter, Subject},
    keepers,
    labels::Labels,
    namespaces::Names,
    output::{self, json, netstat},
    plural::counted,
    tcp::TcpState,
    view::{RowQuery, RowSink, RowView, Snapshot},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &ListArgs) -> anyhow::Result<()> {
    let filter = filtering::filter("list", &args.filter, filtering::Known::Everything)?;
    let netns = selection::netns(netns(args, filter.as_ref()))?;
    let which = which(args, filter.as_ref());
    if let Some(filter) = &filter {
        tell_contradiction(args, filter, which, netns);
    }
    // netstat has no column for namespaces, and needs none: it shows one.
    let places = netns.is_none();
    // What can only be in one namespace is looked for there, and a namespace that is not there is an error.
    let only = filter.as_ref().and_then(Filter::only_namespace);
    let netns = netns.or(only);
    let names_holders = filter.as_ref().is_some_and(Filter::names_holders);
    let query = RowQuery {
        netns,
        holders: args.programs || args.json || names_holders,
        figures: args.timers || args.json || filter.as_ref().is_some_and(Filter::names_autobound),
        filter,
        as_is: false,
        brief: !(args.json || args.extend || args.programs || args.timers || names_holders),
    };
    if args.programs || args.json {
        tell_whose_ids();
    }
    let mut source = Source::find(socket, args.alone).await?;
    source.find_namespaces(query.filter.as_ref(), netns).await?;
    let mut names = Names::read();
    let wanted = |row: &RowView| which.includes(row.state) && wants_family(args, row.connection.family);
    let columns = columns(args);
    let mut out = output::stdout();
    let bound = args.bound || filter_names_bound(&query);
    if args.numeric && !args.json && !bound {
        // Nothing has to be known of the rows together, so each becomes a line while others are under way.
        let mut lines = Lines {
            table: netstat::Table::new(columns, netstat::Names::default()),
            wanted,
            places,
            names,
            query: &query,
            open: Vec::new(),
        };
        let (_, about) = source.each_row(&query, &mut lines).await?;
        lines.complete();
        tell_missing(&about, &mut lines.names);
        let written = lines.table.write(&mut out, which, places);
        return output::written(written.and_then(|()| out.flush()));
    }
    let (clock, snapshot) = if which == netstat::Which::Bound {
        (WallClock::read(), Snapshot::default())
    } else {
        source.rows(&query).await?
    };
    tell_missing(&snapshot.about, &mut names);
    let mut rows = snapshot.rows;
    rows.retain(&wanted);
    if query.holders {
        keepers::complete(&mut rows);
        query.retain_matching(&mut rows);
    }
    if bound {
        rows.extend(bound_rows(args, &query).await?);
    }
    let written = if args.json {
        write_json(&mut out, &rows, clock, &mut names)
    } else {
        let called = if args.numeric {
            netstat::Names::default()
        } else {
            netstat::Names::of(&rows, columns)
        };
        tell_unnamed(called.unanswered());
        let mut table = netstat::Table::new(columns, called);
        for row in &rows {
            table.add(row, places.then_some(&mut names));
        }
        table.write(&mut out, which, places)
    };
    output::written(written.and_then(|()| out.flush()))
}

fn filter_names_bound(query: &RowQuery) -> bool {
    query.filter.as_ref().is_some_and(Filter::names_bound)
}

/// The sockets that are bound and do nothing else, as far as they are wanted.
async fn bound_rows(args: &ListArgs, query: &RowQuery) -> anyhow::Result<Vec<RowView>> {
    let mut rows = bound::rows(query.netns, query.holders).await?;
    rows.retain(|row| {
        let matches = |filter: &Filter| filter.matches(&Subject::from(row));
        query.filter.as_ref().is_none_or(matches) && wants_family(args, row.connection.family)
    });
    Ok(rows)
}

/// Makes lines of rows.
struct Lines<'a, W> {
    table: netstat::Table,
    wanted: W,
    places: bool,
    names: Names,
    query: &'a RowQuery,
    /// Sockets that no process has a descriptor of: what has them is looked for at the end.
    open: Vec<RowView>,
}

impl<W: Fn(&RowView) -> bool> Lines<'_, W> {
    fn complete(&mut self) {
        keepers::complete(&mut self.open);
        self.query.retain_matching(&mut self.open);
        for row in std::mem::take(&mut self.open) {
            self.table.add(&row, self.places.then_some(&mut self.names));
        }
    }
}

impl<W: Fn(&RowView) -> bool> RowSink for Lines<'_, W> {
    fn take(&mut self, row: RowView) {
        if !(self.wanted)(&row) {
            return;
        }
        if self.query.holders && keepers::is_open(&row) {
            self.open.push(row);
        } else {
            self.table.add(&row, self.places.then_some(&mut self.names));
        }
    }

    fn begin_again(&mut self) {
        self.table.clear();
        self.open.clear();
    }
}

/// Which namespaces: the caller's, unless somebody says otherwise. A filter that names some does.
fn netns<'a>(args: &'a ListArgs, filter: Option<&Filter>) -> &'a NetnsArg {
    let named = filter.is_some_and(Filter::names_namespaces);
    let default = if named { &NetnsArg::All } else { &NetnsArg::Own };
    args.netns.as_ref().unwrap_or(default)
}

/// What the reader has to know of executables that are missing.
fn unreadable(processes: usize) -> String {
    format!(
        "cannot read the executable of {}: run with sudo, or grant the binary CAP_SYS_PTRACE",
        counted(processes, "process")
    )
}

/// Listeners or others: a filter that is about states decides, as with `ss`, unless a flag does.
fn which(args: &ListArgs, filter: Option<&Filter>) -> netstat::Which {
    match (args.all, args.listening) {
        (false, false) if args.bound => netstat::Which::Bound,
        (true, _) => netstat::Which::All,
        (false, true) => netstat::Which::Listeners,
        (false, false) if filter.is_some_and(Filter::names_states) => netstat::Which::All,
        (false, false) => netstat::Which::Others,
    }
}

/// Says so if the flags show nothing that the filter could match.
fn tell_contradiction(args: &ListArgs, filter: &Filter, which: netstat::Which, netns: Option<Netns>) {
    let states: Vec<_> = TcpState::ALL
        .into_iter()
        .filter(|state| which.includes(*state))
        .collect();
    let families: Vec<_> = [Family::Inet, Family::Inet6]
        .into_iter()
        .filter(|family| wants_family(args, *family))
        .collect();
    let mut flags = Vec::new();
    flags.extend((which == netstat::Which::Listeners).then_some("-l"));
    flags.extend((which == netstat::Which::Bound).then_some("-B"));
    flags.extend((args.ipv4 && !args.ipv6).then_some("-4"));
    flags.extend((args.ipv6 && !args.ipv4).then_some("-6"));
    flags.extend(args.netns.as_ref().map(|_| "--netns"));
    let shown = filtering::Shown {
        states: &states,
        families: &families,
        netns,
        flags: &flags.join(" "),
    };
    filtering::tell_contradiction(filter, shown);
}

fn wants_family(args: &ListArgs, family: Family) -> bool {
    match (args.ipv4, args.ipv6) {
        (true, false) => family == Family::Inet,
        (false, true) => family == Family::Inet6,
        _ => true,
    }
}

fn columns(args: &ListArgs) -> netstat::Columns {
    netstat::Columns {
        extend: args.extend,
        programs: args.programs,
        timers: args.timers,
        wide: args.wide,
        numeric: args.numeric,
    }
}

fn write_json(out: &mut impl Write, rows: &[RowView], clock: WallClock, names: &mut Names) -> io::Result<()> {
    let mut labels = Labels::new();
    netstat::sorted(rows).try_for_each(|row| json::row(out, row, names, &mut labels, clock))?;
    tell_unnamed(labels.unanswered());
    if labels.refused() > 0 {
        eprintln!("netstate: {}", unreadable(labels.refused()));
    }
    Ok(())
}
