//! What sockets take together: local ports toward one destination, and places for TIME_WAIT.

use std::{net::IpAddr, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Kind, Look, Severity, finding::Service, rules::Symptom};
use crate::{connection::Netns, facts::Figures, tcp::TcpState::TimeWait, view::RowView};

/// From this share of the ports on it is worth a word, in percent,
const MANY: usize = 80;
/// and from this one `connect` has to search, and will fail soon.
const TOO_MANY: usize = 95;

/// Connections from one address to one port elsewhere: each takes a local port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    netns: Netns,
    from: IpAddr,
    to: (IpAddr, u16),
}

#[derive(Default)]
struct Traffic<'a> {
    ports: FxHashSet<u16>,
    time_wait: usize,
    /// Those of TIME_WAIT that `connect` takes over.
    free: FxHashSet<u16>,
    example: Option<&'a RowView>,
}

/// The destinations toward which ports run out, and the namespaces that have no place for another TIME_WAIT, each with
/// one of their sockets.
pub(super) fn judge<'a>(
    look: &'a Look,
    service: impl Fn(&RowView) -> Service,
) -> impl Iterator<Item = (&'a RowView, Symptom)> {
    let mut ways: FxHashMap<Way, Traffic<'a>> = FxHashMap::default();
    let mut waiting: FxHashMap<Netns, (usize, &'a RowView)> = FxHashMap::default();
    for row in &look.rows {
        let netns = row.connection.netns;
        if row.state == TimeWait {
            waiting.entry(netns).or_insert((0, row)).0 += 1;
        }
        let settings = look.settings.get(&netns);
        let port = row.connection.local.port();
        let port = port.filter(|port| settings.is_some_and(|settings| settings.picks(*port)));
        if let (Some(port), Service::There(addr, to)) = (port, service(row)) {
            let way = Way {
                netns,
                from: row.connection.local.addr(row.connection.family).to_canonical(),
                to: (addr, to),
            };
            let reusable = may_be_reused(row, settings.and_then(|settings| settings.tw_reuse));
            ways.entry(way).or_default().add(row, port, reusable);
        }
    }
    let full = ways
        .into_iter()
        .filter_map(|(way, traffic)| running_out(look, way, &traffic));
    let buckets = waiting
        .into_iter()
        .filter_map(|(netns, (count, row))| no_place(look, netns, count, row));
    full.chain(buckets)
}

impl<'a> Traffic<'a> {
    fn add(&mut self, row: &'a RowView, port: u16, reusable: bool) {
        self.ports.insert(port);
        if reusable {
            self.free.insert(port);
        }
        self.time_wait += usize::from(row.state == TimeWait);
        // One that a process holds says who it is that connects.
        if self.example.is_none_or(|example| !example.owners.is_held()) {
            self.example = Some(row);
        }
    }
}

fn running_out<'a>(look: &Look, way: Way, traffic: &Traffic<'a>) -> Option<(&'a RowView, Symptom)> {
    let settings = look.settings.get(&way.netns)?;
    let (all, used) = (settings.port_count()?, traffic.ports.len());
    let severity = severity(used - traffic.free.len(), all)?;
    let (first, last) = settings.ports?;
    let mut evidence = vec![
        format!("{used} of {all} ports taken (ip_local_port_range {first} to {last})"),
        format!("{} of them in TIME_WAIT", traffic.time_wait),
    ];
    if !traffic.free.is_empty() {
        evidence.push(format!(
            "{} of those may be reused (tcp_tw_reuse)",
            traffic.free.len()
        ));
    }
    let symptom = Symptom {
        sockets: used,
        ..Symptom::new(Kind::PortsRunningOut, severity, Duration::ZERO, evidence)
    };
    Some((traffic.example?, symptom))
}

fn no_place<'a>(look: &Look, netns: Netns, count: usize, row: &'a RowView) -> Option<(&'a RowView, Symptom)> {
    let most = usize::try_from(look.settings.get(&netns)?.max_tw_buckets?).ok()?;
    let evidence = vec![format!("{count} TIME_WAIT of {most} (tcp_max_tw_buckets)")];
    let severity = severity(count, most)?.min(Severity::Warning);
    let symptom = Symptom {
        sockets: count,
        ..Symptom::new(Kind::TimeWaitFull, severity, Duration::ZERO, evidence)
    };
    Some((row, symptom))
}

/// Whether `connect` may take the ports of a TIME_WAIT (`tcp_twsk_unique`): once it is older than `tcp_tw_reuse_delay`, a second
/// unless it is set, and if both ends have timestamps, which all but very few have.
fn may_be_reused(row: &RowView, reuse: Option<u8>) -> bool {
    const DELAY: Duration = Duration::from_secs(1);
    let allowed = match reuse {
        Some(1) => true,
        Some(2) => {
            let ends = [row.connection.local, row.connection.remote];
            let mut addresses = ends
                .iter()
                .map(|end| end.addr(row.connection.family).to_canonical());
            addresses.any(|address| address.is_loopback())
        }
        _ => false,
    };
    let shown = row.figures.as_deref();
    let age = shown.map_or(Duration::ZERO, Figures::minisock_for);
    allowed && row.state == TimeWait && row.in_state.max(age) >= DELAY
}

fn severity(used: usize, all: usize) -> Option<Severity> {
    match used.saturating_mul(100).checked_div(all)? {
        TOO_MANY.. => Some(Severity::Critical),
        MANY.. => Some(Severity::Warning),
        _ => None,
    }
}
