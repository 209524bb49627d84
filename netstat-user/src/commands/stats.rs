//! `netstate stats`: the daemon's counts.

use std::{fmt::Write as _, io::Write as _, path::Path};

use crate::{
    cli::StatsArgs,
    client::Client,
    connection::Netns,
    namespaces::Names,
    output::{self, Short, json},
    plural::counted,
    sources,
    tcp::TcpState,
    view::{Stats, Unswept},
};

/// Namespaces shown one by one.
const MOST_NAMESPACES: usize = 10;

/// Runs the command.
pub(super) async fn run(socket: &Path, args: StatsArgs) -> anyhow::Result<()> {
    let stats = Client::connect(socket).await?.stats().await?;
    let mut names = Names::read();
    if args.json {
        let mut out = output::stdout();
        return output::written(json::stats(&mut out, &stats, &mut names).and_then(|()| out.flush()));
    }
    output::print(text(&stats, &mut names))
}

fn text(stats: &Stats, names: &mut Names) -> String {
    let mut text = format!(
        "netstate {}, tracing for {}\n\n",
        stats.version,
        Short(stats.uptime)
    );
    let rows: usize = stats.by_state.iter().sum();
    let mut add = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    add(
        "Sockets",
        format!("{rows} in {}", counted(stats.namespaces, "network namespace")),
    );
    for state in TcpState::ALL {
        let count = stats.by_state[state.index()];
        if count > 0 {
            add("", format!("{count:>8} {state}"));
        }
    }
    for found in stats.by_namespace.iter().take(MOST_NAMESPACES) {
        add("", format!("{:>8} in {}", found.rows, called(found.netns, names)));
    }
    let more = stats.namespaces.saturating_sub(MOST_NAMESPACES);
    if more > 0 {
        add("", format!("         and in {more} more"));
    }
    for Unswept { netns, trouble } in stats.unswept.iter().take(MOST_NAMESPACES) {
        add("Not scanned", format!("{}: {trouble}", called(*netns, names)));
    }
    if let Some(refused) = &stats.refused {
        add("Not scanned", refused.to_string());
    }
    add(
        "Events",
        format!(
            "{}, {:.1}/s; {} transitions{}",
            stats.events,
            stats.events_per_second,
            stats.transitions,
            failed_connects(stats.connects_failed)
        ),
    );
    add("Lost", lost(stats));
    add("Scans", sweeps(stats));
    add(
        "Pending",
        format!(
            "{} waiting for a scan, {} minisocks and half-open connections",
            stats.urgent, stats.lingering
        ),
    );
    add(
        "Sources",
        "tp_btf/inet_sock_set_state, iter/tcp, iter/task_file".to_owned(),
    );
    for source in sources::describe(&stats.hooks) {
        add("", source);
    }
    add(
        "Staleness",
        format!("at most {} behind the kernel", Short(stats.settling)),
    );
    add("Ring", ring(stats));
    add(
        "Ended",
        format!("{} remembered, in {} KiB", stats.ended, stats.ended_bytes / 1024),
    );
    add("Readers", format!("{} of `watch`", stats.subscribers));
    text
}

/// Connects that failed without a transition; nothing where there are none.
fn failed_connects(count: u64) -> String {
    match count {
        0 => String::new(),
        1 => "; 1 failed connect".to_owned(),
        more => format!("; {more} failed connects"),
    }
}

/// A namespace's number, and its name if it has one.
fn called(netns: Netns, names: &mut Names) -> String {
    match names.of(netns) {
        None => netns.0.to_string(),
        Some(_) => format!("{} ({})", netns.0, names.label(netns)),
    }
}

/// The ring, and with what precedence it is read.
fn ring(stats: &Stats) -> String {
    let mut text = format!("{} KiB, read at nice {}", stats.ring_bytes / 1024, stats.nice);
    if let Some(refused) = &stats.nice_refused {
        let _ = write!(text, " ({refused})");
    }
    text
}

fn lost(stats: &Stats) -> String {
    let mut text = format!("{}", stats.lost());
    let ring_full: u64 = stats.lost_ring_full.iter().sum();
    if ring_full > 0 {
        let by_cpu: Vec<_> = (stats.lost_ring_full.iter().enumerate())
            .filter(|(_, lost)| **lost > 0)
            .map(|(cpu, lost)| format!("{lost} on CPU {cpu}"))
            .collect();
        let _ = write!(text, "; {ring_full} found the ring full: {}", by_cpu.join(", "));
    }
    let news: u64 = stats.lost_news_ring_full.iter().sum();
    if news > 0 {
        let _ = write!(text, "; so did {news} hook events");
    }
    if stats.lost_recursion > 0 {
        let _ = write!(text, "; {} interrupted the tracer itself", stats.lost_recursion);
    }
    if stats.lost_marks > 0 {
        let _ = write!(
            text,
            "; besides {} retransmissions or RSTs for histories",
            stats.lost_marks
        );
    }
    if stats.unannounced > 0 {
        let _ = write!(
            text,
            "; scans found {} changes that no event reported",
            stats.unannounced
        );
    }
    if stats.undecodable > 0 {
        let _ = write!(text, "; {} records not understood", stats.undecodable);
    }
    text
}

fn sweeps(stats: &Stats) -> String {
    let share = stats.sweep_cost_total.as_secs_f64() / stats.uptime.as_secs_f64().max(f64::MIN_POSITIVE);
    format!(
        "{}, the last took {} of processor time, all {:.2} % of one processor; {} answered without a scan",
        stats.sweeps,
        Short(stats.sweep_cost),
        share * 100.0,
        counted(stats.looks, "list")
    )
}
