//! From symptoms of single sockets to findings: what is alike is told once, with a count and the oldest.

use std::{net::IpAddr, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Kind, Looks, Severity,
    advice::advice,
    context::{Context, is_private},
    rules::Symptom,
    suspects::{self, Suspect, Suspects},
};
use crate::{
    connection::{Cookie, Endpoint, Netns, Owner},
    tcp::TcpState,
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
    /// No one port: an address of this host, or the wildcard for all.
    At(IpAddr),
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
    /// The processes that it depends on.
    pub suspects: Suspects,
    /// Some of them.
    pub cookies: Vec<Cookie>,
}

impl Finding {
    /// Why they are stuck: what keeps the processes from running comes first.
    #[must_use]
    pub fn cause(&self) -> String {
        cause(self.group.kind, &self.suspects)
    }

    /// What to do. `enter` goes in front of commands that are to be run in the sockets' network namespace: nothing if they
    /// are there already, or such as `ip netns exec blue `.
    #[must_use]
    pub fn advice(&self, enter: &str) -> String {
        advice(self, enter)
    }
}

/// What a diagnosis has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The worst first.
    pub found: Vec<Finding>,
    /// Sockets that were looked at.
    pub sockets: usize,
    /// Those of them that were asked about.
    pub matched: usize,
    /// Data keeps coming to some socket, and it takes another look, later, to say whether it is read.
    pub undecided: bool,
    /// And those of them of which the kernel gave no figures.
    pub without_figures: usize,
}

/// Why something is stuck: what keeps the processes from running comes first.
pub(super) fn cause(kind: Kind, suspects: &Suspects) -> String {
    let hindrances = suspects.hindrances();
    let texts = hindrances.map(|(suspect, hindrance)| format!("{} {hindrance}", suspect.name()));
    let mut texts: Vec<_> = texts.collect();
    texts.push(kind.cause().to_owned());
    texts.join("; ")
}

/// Judges all sockets of the second look, by both.
#[must_use]
pub fn diagnose(looks: &Looks<'_>) -> Findings {
    let context = Context::new(looks);
    let mut findings: FxHashMap<Group, Gathered> = FxHashMap::default();
    for (row, symptom) in context.symptoms() {
        let group = Group {
            kind: symptom.kind,
            netns: row.connection.netns,
            state: row.state,
            pid: row.owners.first().map(|owner| owner.pid),
            service: symptom.service.unwrap_or_else(|| context.service(row)),
        };
        findings
            .entry(group)
            .or_insert_with_key(|group| Gathered::new(group, row, &symptom))
            .add(row, symptom);
    }
    let mut found: Vec<_> = findings.into_values().map(|gathered| gathered.finding).collect();
    name_peers(&looks.now.rows, &mut found);
    for finding in &mut found {
        finding.suspects = match &finding.peer {
            Some(peer) if suspects::is_about_peer(finding.group.kind) => {
                Suspects::new(vec![Suspect::new(*peer, 0)], 0, None)
            }
            _ => context.suspects(&finding.example, finding.group.kind),
        };
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
        matched: looks.now.rows.iter().filter(|row| looks.wants(row)).count(),
        undecided: context.is_undecided(),
        without_figures: looks.now.rows.iter().filter(|row| row.figures.is_none()).count(),
    }
}

/// Says who holds the other ends that are on this host: in the same namespace, or in another one if the address means
/// the same there.
fn name_peers(rows: &[RowView], found: &mut [Finding]) {
    let mut wanted: FxHashMap<(Endpoint, Endpoint), Vec<usize>> = FxHashMap::default();
    for (place, finding) in found.iter().enumerate() {
        let connection = &finding.example.connection;
        if connection.tuple().is_some() {
            let mirrored = (connection.remote, connection.local);
            wanted.entry(mirrored).or_default().push(place);
        }
    }
    for row in rows {
        let connection = &row.connection;
        let places = wanted.get(&(connection.local, connection.remote));
        let address = connection.local.addr(connection.family).to_canonical();
        for place in places.into_iter().flatten() {
            let Some(finding) = found.get_mut(*place) else {
                continue;
            };
            let same = connection.netns == finding.example.connection.netns;
            if same || finding.peer.is_none() && !is_private(address) {
                finding.peer = row.owners.first().copied();
            }
        }
    }
}

struct Gathered {
    finding: Finding,
    peers: FxHashSet<IpAddr>,
}

impl Gathered {
    fn new(group: &Group, row: &RowView, symptom: &Symptom) -> Self {
        let finding = Finding {
            group: group.clone(),
            severity: symptom.severity,
            count: 0,
            recent: 0,
            peers: 0,
            oldest: symptom.age,
            evidence: symptom.evidence.clone(),
            example: row.clone(),
            peer: None,
            suspects: Suspects::default(),
            cookies: Vec::new(),
        };
        Self {
            finding,
            peers: FxHashSet::default(),
        }
    }

    fn add(&mut self, row: &RowView, symptom: Symptom) {
        let finding = &mut self.finding;
        finding.count += symptom.sockets;
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
