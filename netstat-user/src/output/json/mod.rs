//! JSON, one object a line. The keys are a contract: they stay, and more may come.

mod history;
mod socket;
mod tcp;

use std::{
    io::{self, Write},
    time::Duration,
};

pub use history::history;
use serde::Serialize;
use serde_json::json;
use socket::Holder;
pub(super) use socket::{Ends, Identity, Socket};

use crate::{
    clock::WallClock,
    facts::ConnectFailure,
    labels::Labels,
    namespaces::{Names, Refused},
    reason::{Reason, Side, errno},
    table::{Source, Transition},
    tcp::TcpState,
    view::{RowView, Stats, StreamItem},
};

/// Writes one row.
///
/// # Errors
///
/// What `out` returns.
pub fn row(
    out: &mut impl Write,
    row: &RowView,
    names: &mut Names,
    labels: &mut Labels,
    clock: WallClock,
) -> io::Result<()> {
    line(out, &Socket::of(row, names, labels, clock))
}

/// Writes one item of the stream.
///
/// # Errors
///
/// What `out` returns.
pub fn item(out: &mut impl Write, item: &StreamItem, names: &mut Names, clock: WallClock) -> io::Result<()> {
    match item {
        StreamItem::Transition(transition) => line(out, &Step::of(transition, names, clock)),
        StreamItem::ConnectFailed(failure) => line(out, &FailedConnect::of(failure, names, clock)),
        StreamItem::Lost(loss) => {
            let told = Lost {
                event: "lost",
                lost: loss.count(),
                ring_full: loss.ring_full,
                interrupted: loss.interrupted,
                since: clock.timestamp(loss.since).to_string(),
                until: clock.timestamp(loss.until).to_string(),
            };
            line(out, &told)
        }
        StreamItem::Missed { items, at_most } => {
            let missed = Missed {
                event: "missed",
                items: *items,
                at_most: *at_most,
            };
            line(out, &missed)
        }
    }
}

/// Writes the counts.
///
/// # Errors
///
/// What `out` returns.
pub fn stats(out: &mut impl Write, stats: &Stats, names: &mut Names) -> io::Result<()> {
    let by_namespace: Vec<_> = stats
        .by_namespace
        .iter()
        .map(|found| json!({"netns": found.netns.0, "netns_name": names.of(found.netns), "rows": found.rows}))
        .collect();
    let unscanned: Vec<_> = stats
        .unswept
        .iter()
        .map(|unswept| {
            let (netns, why) = (unswept.netns, unswept.trouble.to_string());
            json!({"netns": netns.0, "netns_name": names.of(netns), "why": why})
        })
        .collect();
    let (refused, hidden_by) = match stats.refused {
        None => (Some((0, 0)), None),
        Some(Refused::Closed {
            processes,
            namespaces,
            ..
        }) => (Some((processes, namespaces)), None),
        Some(Refused::Hidden(hiding)) => (None, Some(hiding.option())),
    };
    let by_state: serde_json::Map<_, _> = TcpState::ALL
        .iter()
        .map(|state| (state.name().to_owned(), stats.by_state[state.index()].into()))
        .collect();
    line(
        out,
        &json!({
            "version": stats.version,
            "uptime_s": stats.uptime.as_secs(),
            "rows": stats.by_state.iter().sum::<usize>(),
            "by_state": by_state,
            "namespaces": stats.namespaces,
            "by_namespace": by_namespace,
            "unscanned": unscanned,
            "refused_processes": refused.map(|(processes, _)| processes),
            "refused_namespaces": refused.map(|(_, namespaces)| namespaces),
            "processes_hidden_by": hidden_by,
            "events": stats.events,
            "events_per_second": stats.events_per_second,
            "transitions": stats.transitions,
            "connects_failed": stats.connects_failed,
            "lost": stats.lost(),
            "lost_ring_full_by_cpu": stats.lost_ring_full,
            "lost_recursion": stats.lost_recursion,
            "lost_annotations": stats.lost_marks,
            "unannounced": stats.unannounced,
            "undecodable": stats.undecodable,
            "lost_hook_events_by_cpu": stats.lost_news_ring_full,
            "ring_bytes": stats.ring_bytes,
            "nice": stats.nice,
            "nice_refused": stats.nice_refused,
            "hooks": stats.hooks,
            "staleness_bound_ms": micros(stats.settling) / 1000,
            "scans": stats.sweeps,
            "probes": stats.looks,
            "scan_cost_us": micros(stats.sweep_cost),
            "scan_cost_total_us": micros(stats.sweep_cost_total),
            "urgent": stats.urgent,
            "lingering": stats.lingering,
            "ended": stats.ended,
            "ended_bytes": stats.ended_bytes,
            "subscribers": stats.subscribers,
        }),
    )
}

/// Writes any value as one line.
///
/// # Errors
///
/// What `out` returns.
pub fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct Step {
    event: &'static str,
    #[serde(flatten)]
    identity: Identity,
    time: String,
    from: Option<&'static str>,
    to: &'static str,
    in_state_us: Option<u64>,
    at_least: bool,
    source: Source,
    earliest: Option<String>,
    reason: Option<&'static str>,
    reason_detail: Option<String>,
    closed_by: Option<Side>,
    #[serde(flatten)]
    holder: Holder,
}

impl Step {
    fn of(transition: &Transition, names: &mut Names, clock: WallClock) -> Self {
        Self {
            event: "transition",
            identity: Identity::of(&transition.connection, names),
            time: clock.timestamp(transition.time).to_string(),
            from: transition.from.map(TcpState::name),
            to: transition.to.name(),
            in_state_us: transition.in_state.map(micros),
            at_least: transition.at_least,
            source: transition.source,
            earliest: transition
                .earliest
                .map(|earliest| clock.timestamp(earliest).to_string()),
            reason: transition.reason.map(Reason::word),
            reason_detail: transition.reason.and_then(Reason::detail),
            closed_by: transition.reason.and_then(Reason::closed_by),
            holder: Holder::of(
                transition.uid,
                transition.owner.as_ref(),
                transition.cgroup,
                transition.fwmark,
            ),
        }
    }
}

/// A `connect` that failed and changed no state.
#[derive(Serialize)]
struct FailedConnect {
    event: &'static str,
    #[serde(flatten)]
    identity: Identity,
    time: String,
    /// The name of the errno.
    error: Option<String>,
    errno: u32,
    #[serde(flatten)]
    holder: Holder,
}

impl FailedConnect {
    fn of(failure: &ConnectFailure, names: &mut Names, clock: WallClock) -> Self {
        Self {
            event: "connect_failed",
            identity: Identity::of(&failure.connection, names),
            time: clock.timestamp(failure.time).to_string(),
            error: errno::name(failure.error),
            errno: failure.error,
            holder: Holder::of(
                Some(failure.uid),
                failure.owner.as_ref(),
                failure.cgroup,
                Some(failure.fwmark),
            ),
        }
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are keys")]
struct Lost {
    event: &'static str,
    lost: u64,
    ring_full: u64,
    interrupted: u64,
    since: String,
    until: String,
}

#[derive(Serialize)]
struct Missed {
    event: &'static str,
    #[serde(rename = "missed")]
    items: u64,
    at_most: bool,
}
