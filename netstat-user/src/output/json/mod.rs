//! JSON, one object a line. The keys are a contract: they stay, and more may come.

mod history;
mod tcp;

use std::{
    io::{self, Write},
    num::NonZeroU32,
    time::Duration,
};

pub use history::history;
use serde::Serialize;
use serde_json::json;
use tcp::Tcp;

use crate::{
    clock::WallClock,
    connection::{Connection, Family, Owner, OwnerSource},
    labels::{Container, Labels},
    namespaces::Names,
    reason::{Reason, Side},
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
    line(out, &Row::of(row, names, labels, clock))
}

/// Writes one item of the stream.
///
/// # Errors
///
/// What `out` returns.
pub fn item(out: &mut impl Write, item: &StreamItem, names: &mut Names, clock: WallClock) -> io::Result<()> {
    match item {
        StreamItem::Transition(transition) => line(out, &Step::of(transition, names, clock)),
        StreamItem::Lost(loss) => {
            let told = Lost {
                lost: loss.count(),
                ring_full: loss.ring_full,
                interrupted: loss.interrupted,
                since: clock.timestamp(loss.since).to_string(),
                until: clock.timestamp(loss.until).to_string(),
            };
            line(out, &told)
        }
        StreamItem::Missed { items } => line(out, &Missed { missed: *items }),
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
    let unswept: Vec<_> = stats
        .unswept
        .iter()
        .map(|unswept| {
            let (netns, why) = (unswept.netns, unswept.trouble.to_string());
            json!({"netns": netns.0, "netns_name": names.of(netns), "reason": why})
        })
        .collect();
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
            "unswept": unswept,
            "events": stats.events,
            "events_per_second": stats.events_per_second,
            "transitions": stats.transitions,
            "lost": stats.lost(),
            "lost_ring_full_by_cpu": stats.lost_ring_full,
            "lost_recursion": stats.lost_recursion,
            "lost_marks": stats.lost_marks,
            "unannounced": stats.unannounced,
            "undecodable": stats.undecodable,
            "lost_news_ring_full_by_cpu": stats.lost_news_ring_full,
            "ring_bytes": stats.ring_bytes,
            "hooks": stats.hooks,
            "settling_ms": micros(stats.settling) / 1000,
            "sweeps": stats.sweeps,
            "sweeps_void": stats.sweeps_void,
            "looks": stats.looks,
            "sweep_cost_us": micros(stats.sweep_cost),
            "sweep_cost_total_us": micros(stats.sweep_cost_total),
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
pub(super) struct Identity {
    cookie: u64,
    netns: u32,
    netns_name: Option<String>,
    family: Family,
    local_addr: std::net::IpAddr,
    local_port: Option<u16>,
    remote_addr: std::net::IpAddr,
    remote_port: Option<u16>,
    device: Option<u32>,
    mptcp: bool,
}

impl Identity {
    pub(super) fn of(connection: &Connection, names: &mut Names) -> Self {
        Self {
            cookie: connection.cookie.0,
            netns: connection.netns.0,
            netns_name: names.of(connection.netns).map(str::to_owned),
            family: connection.family,
            local_addr: connection.local.addr(connection.family),
            local_port: connection.local.port(),
            remote_addr: connection.remote.addr(connection.family),
            remote_port: connection.remote.port(),
            device: connection.device.map(NonZeroU32::get),
            mptcp: connection.mptcp,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Holder {
    uid: Option<u32>,
    pid: Option<u32>,
    comm: Option<String>,
    fd: Option<u32>,
    owner_source: Option<OwnerSource>,
    cgroup: Option<u64>,
}

impl Holder {
    pub(super) fn of(uid: Option<u32>, owner: Option<&Owner>, cgroup: Option<u64>) -> Self {
        Self {
            uid,
            pid: owner.map(|owner| owner.pid),
            comm: owner.map(|owner| owner.comm.to_string()),
            fd: owner.and_then(|owner| owner.fd),
            owner_source: owner.map(|owner| owner.source),
            cgroup,
        }
    }
}

/// One of a row's owners.
#[derive(Serialize)]
pub(super) struct ListedOwner {
    pid: u32,
    fd: Option<u32>,
    /// How many descriptors it has for the socket.
    fds: Option<u32>,
    comm: String,
    exe: Option<String>,
    source: OwnerSource,
}

impl ListedOwner {
    pub(super) fn of(owner: &Owner, labels: &mut Labels) -> Self {
        Self {
            pid: owner.pid,
            fd: owner.fd,
            fds: owner.fd.map(|_| owner.more_fds.saturating_add(1)),
            comm: owner.comm.to_string(),
            exe: labels.exe(owner).map(str::to_owned),
            source: owner.source,
        }
    }
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    identity: Identity,
    state: &'static str,
    since: String,
    in_state_ms: u128,
    at_least: bool,
    recv_q: Option<u32>,
    send_q: Option<u32>,
    backlog: Option<u32>,
    #[serde(flatten)]
    holder: Holder,
    owners: Vec<ListedOwner>,
    more_owners: u32,
    exe: Option<String>,
    user: Option<String>,
    unit: Option<String>,
    user_unit: Option<String>,
    container: Option<Container>,
    pod: Option<String>,
    inode: Option<u64>,
    tcp: Option<Tcp>,
}

impl Row {
    fn of(row: &RowView, names: &mut Names, labels: &mut Labels, clock: WallClock) -> Self {
        let first = row.owners.first();
        let placement = labels.placement(row.cgroup, first);
        Self {
            identity: Identity::of(&row.connection, names),
            state: row.state.name(),
            since: clock.timestamp(row.since).to_string(),
            in_state_ms: row.in_state.as_millis(),
            at_least: row.at_least,
            recv_q: row.queues.map(|queues| queues.recv),
            send_q: row.queues.map(|queues| queues.send),
            backlog: row
                .queues
                .filter(|_| row.state == TcpState::Listen)
                .map(|queues| queues.backlog),
            holder: Holder::of(row.uid, first, row.cgroup),
            owners: row
                .owners
                .iter()
                .map(|owner| ListedOwner::of(owner, labels))
                .collect(),
            more_owners: row.owners.unlisted(),
            exe: first.and_then(|owner| labels.exe(owner).map(str::to_owned)),
            user: row.uid.and_then(|uid| labels.user(uid).map(str::to_owned)),
            unit: placement.unit,
            user_unit: placement.user_unit,
            container: placement.container,
            pod: placement.pod,
            inode: row.inode,
            tcp: row.figures.as_deref().map(Tcp::of),
        }
    }
}

#[derive(Serialize)]
struct Step {
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
            holder: Holder::of(transition.uid, transition.owner.as_ref(), transition.cgroup),
        }
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are keys")]
struct Lost {
    lost: u64,
    ring_full: u64,
    interrupted: u64,
    since: String,
    until: String,
}

#[derive(Serialize)]
struct Missed {
    missed: u64,
}
