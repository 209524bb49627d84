//! From symptoms of single sockets to findings: what is alike is told once, with a count and the oldest.

use std::{collections::hash_map::Entry, net::IpAddr, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Kind, Looks, Severity,
    advice::advice,
    ports,
    rules::{Case, Symptom, is_full},
};
use crate::{
    connection::{Cookie, Netns, Owner, Tuple},
    facts::{Figures, Form},
    tcp::TcpState::{self, CloseWait, Established, Listen},
    view::RowView,
};

/// A connection that came to be stuck within this is a recent one.
const RECENT: Duration = Duration::from_mins(1);
/// Sockets of a finding that are named one by one.
const NAMED: usize = 5;

/// What sockets of one finding have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// What is the matter with them.
    pub kind: Kind,
    /// Where they live.
    pub netns: Netns,
    /// Their state.
    pub state: TcpState,
    /// The process that holds them, if any does and it is known.
    pub pid: Option<u32>,
    /// What they are connections to.
    pub service: Service,
}

/// What a connection is a connection to: the end that does not change with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// A port of this host.
    Here(u16),
    /// A port elsewhere.
    There(IpAddr, u16),
}

/// Sockets that are stuck in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What they have in common.
    pub group: Group,
    /// The worst of them.
    pub severity: Severity,
    /// How many there are.
    pub count: usize,
    /// How many of them came within the last minute.
    pub recent: usize,
    /// Different addresses at their other ends.
    pub peers: usize,
    /// For how long the oldest has been stuck.
    pub oldest: Duration,
    /// What shows it of the oldest.
    pub evidence: Vec<String>,
    /// The oldest.
    pub example: RowView,
    /// Who holds the example's other end, if that is on this host.
    pub peer: Option<Owner>,
    /// Some of them.
    pub cookies: Vec<Cookie>,
    /// What to do.
    pub advice: String,
}

/// What a diagnosis has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The worst first.
    pub found: Vec<Finding>,
    /// Sockets that were looked at.
    pub sockets: usize,
    /// And those of them of which the kernel gave no figures.
    pub without_figures: usize,
}

/// Judges all sockets of the second look, by both.
#[must_use]
pub fn diagnose(looks: &Looks<'_>) -> Findings {
    let context = Context::new(looks);
    let mut findings: FxHashMap<Group, Gathered> = FxHashMap::default();
    for (row, symptom) in context.symptoms() {
        context.gather(&mut findings, row, symptom);
    }
    for (row, symptom) in ports::judge(looks.now, |row| context.service(row)) {
        if looks.wants(row) {
            context.gather(&mut findings, row, symptom);
        }
    }
    let mut found: Vec<_> = findings.into_values().map(|gathered| gathered.finding).collect();
    context.name_peers(&mut found);
    for finding in &mut found {
        finding.advice = advice(finding);
    }
    found.sort_by(|a, b| {
        let order = |finding: &Finding| (finding.severity, finding.count, finding.oldest);
        order(b)
            .cmp(&order(a))
            .then_with(|| a.group.kind.cmp(&b.group.kind))
    });
    Findings {
        found,
        sockets: looks.now.rows.len(),
        without_figures: looks.now.rows.iter().filter(|row| row.figures.is_none()).count(),
    }
}

struct Gathered {
    finding: Finding,
    peers: FxHashSet<IpAddr>,
}

/// What judging one socket takes of all others.
struct Context<'a> {
    looks: &'a Looks<'a>,
    before: FxHashMap<Cookie, &'a Figures>,
    /// Listeners, by cookie.
    listeners: FxHashMap<Cookie, &'a Figures>,
    /// Ports that are listened on, and by which of those with a full accept queue.
    ports: FxHashMap<(Netns, u16), Option<&'a Figures>>,
    /// How long the oldest connection has waited to be accepted, by port.
    waiting: FxHashMap<(Netns, u16), Duration>,
}

impl<'a> Context<'a> {
    fn new(looks: &'a Looks<'a>) -> Self {
        let mut context = Self {
            looks,
            before: FxHashMap::default(),
            listeners: FxHashMap::default(),
            ports: FxHashMap::default(),
            waiting: FxHashMap::default(),
        };
        for row in &looks.before.rows {
            // A socket that is used again shares its cookie with its minisocks.
            if let Some(figures) = row
                .figures
                .as_deref()
                .filter(|figures| figures.form == Form::Full)
            {
                context.before.insert(row.connection.cookie, figures);
            }
        }
        for row in &looks.now.rows {
            context.learn(row);
        }
        context
    }

    fn learn(&mut self, row: &'a RowView) {
        let (Some(figures), Some(port)) = (&row.figures, row.connection.local.port()) else {
            return;
        };
        let place = (row.connection.netns, port);
        if row.state == Listen {
            self.listeners.insert(row.connection.cookie, figures);
            let full = self.ports.entry(place).or_default();
            *full = full.or_else(|| is_full(&figures.queues).then_some(figures));
        } else if matches!(row.state, Established | CloseWait)
            && figures.inode.is_none()
            && !row.connection.mptcp
        {
            let waiting = self.waiting.entry(place).or_default();
            // The handshake's last packet is an acknowledgement.
            let since = figures.sent.last_ack.unwrap_or_default().max(row.in_state);
            *waiting = since.max(*waiting);
        }
    }

    fn symptoms(&self) -> impl Iterator<Item = (&'a RowView, Symptom)> {
        let wanted = self.looks.now.rows.iter().filter(|row| self.looks.wants(row));
        wanted.filter_map(|row| Some((row, self.judge(row)?)))
    }

    fn judge(&self, row: &RowView) -> Option<Symptom> {
        let figures = row.figures.as_deref()?;
        let netns = row.connection.netns;
        let port = row.connection.local.port();
        let waiting = port.and_then(|port| self.waiting.get(&(netns, port)));
        let case = Case {
            row,
            now: figures,
            before: self.before.get(&row.connection.cookie).copied(),
            between: self.looks.between,
            listener: figures
                .listener
                .and_then(|cookie| self.listeners.get(&cookie))
                .copied(),
            full: self.full_listener(row),
            waiting: waiting.copied(),
            settings: self.looks.now.settings.get(&netns).copied().unwrap_or_default(),
            older: self.looks.older,
        };
        case.judge()
    }

    /// The listener of this host that `row` begins to connect to, if its accept queue is full.
    fn full_listener(&self, row: &RowView) -> Option<&'a Figures> {
        let connection = &row.connection;
        let remote = connection.remote.addr(connection.family).to_canonical();
        let local = connection.local.addr(connection.family).to_canonical();
        if remote != local && !remote.is_loopback() {
            return None;
        }
        *self.ports.get(&(connection.netns, connection.remote.port()?))?
    }

    /// Adds a socket's symptom to those that are alike.
    fn gather(&self, findings: &mut FxHashMap<Group, Gathered>, row: &RowView, symptom: Symptom) {
        let group = Group {
            kind: symptom.kind,
            netns: row.connection.netns,
            state: row.state,
            pid: row.owners.first().map(|owner| owner.pid),
            service: self.service(row),
        };
        let gathered = match findings.entry(group) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let finding = Finding {
                    group: entry.key().clone(),
                    severity: symptom.severity,
                    count: 0,
                    recent: 0,
                    peers: 0,
                    oldest: symptom.age,
                    evidence: symptom.evidence.clone(),
                    example: row.clone(),
                    peer: None,
                    cookies: Vec::new(),
                    advice: String::new(),
                };
                entry.insert(Gathered {
                    finding,
                    peers: FxHashSet::default(),
                })
            }
        };
        gathered.add(row, symptom);
    }

    /// What `row` is a connection to: its own port, if somebody listens there.
    fn service(&self, row: &RowView) -> Service {
        let connection = &row.connection;
        let local = connection.local.port().unwrap_or(0);
        match connection.remote.port() {
            Some(remote) if !self.ports.contains_key(&(connection.netns, local)) => {
                Service::There(connection.remote.addr(connection.family).to_canonical(), remote)
            }
            _ => Service::Here(local),
        }
    }

    /// Says who holds the other ends that are on this host.
    fn name_peers(&self, found: &mut [Finding]) {
        let mirrored = |finding: &Finding| finding.example.connection.tuple().map(Tuple::mirrored);
        let wanted: FxHashMap<Tuple, usize> = (found.iter().enumerate())
            .filter_map(|(place, finding)| Some((mirrored(finding)?, place)))
            .collect();
        for row in &self.looks.now.rows {
            let place = row.connection.tuple().and_then(|tuple| wanted.get(&tuple));
            if let Some(finding) = place.and_then(|place| found.get_mut(*place)) {
                finding.peer = row.owners.first().copied();
            }
        }
    }
}

impl Gathered {
    fn add(&mut self, row: &RowView, symptom: Symptom) {
        let finding = &mut self.finding;
        finding.count += 1;
        finding.recent += usize::from(row.in_state < RECENT && !row.at_least);
        finding.severity = finding.severity.max(symptom.severity);
        if finding.cookies.len() < NAMED {
            finding.cookies.push(row.connection.cookie);
        }
        if symptom.age > finding.oldest {
            finding.oldest = symptom.age;
            finding.evidence = symptom.evidence;
            finding.example = row.clone();
        }
        if row.connection.remote.port().is_some() {
            let peer = row.connection.remote.addr(row.connection.family);
            self.peers.insert(peer.to_canonical());
            finding.peers = self.peers.len();
        }
    }
}
