//! From symptoms of single sockets to findings: what is alike is told once, with a count and the oldest.

use std::{net::IpAddr, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Kind, Looks, Severity,
    advice::advice,
    context::{Context, is_private},
    elsewhere,
    rules::Symptom,
    suspects::{self, Suspect, Suspects},
};
use crate::{
    connection::{Cookie, Endpoint, Netns, Owner},
    facts::Figures,
    reach::{Reach, Reaches},
    tcp::TcpState,
    view::RowView,
};

/// A connection that came to be stuck within this is a recent one.
const RECENT: Duration = Duration::from_mins(1);
/// Bytes that an end may seem to have received too few, since both ends are not read at the same moment.
const SLACK: u64 = 64 * 1024;
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
    /// The other namespace that the peer was found in, if it is in another one.
    pub peer_netns: Option<Netns>,
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

    fn crossing(&self) -> Option<(Netns, IpAddr)> {
        self.peer_netns?;
        let connection = &self.example.connection;
        let remote = connection.remote.addr(connection.family);
        Some((connection.netns, remote.to_canonical()))
    }

    /// What to do. `enter` goes in front of commands that are to be run in the sockets' network namespace: nothing if they
    /// are there already, or such as `ip netns exec blue `.
    #[must_use]
    pub fn advice(&self, enter: &str) -> String {
        advice(self, enter)
    }
}

impl Findings {
    /// The addresses of peers in other namespaces that packets are sent to, and from where.
    #[must_use]
    pub fn crossings(&self) -> Vec<(Netns, IpAddr)> {
        let found: FxHashSet<_> = self.found.iter().filter_map(Finding::crossing).collect();
        found.into_iter().collect()
    }

    /// Takes back peers in other namespaces that packets do not go to.
    pub fn confirm_peers(&mut self, reaches: &Reaches) {
        for finding in &mut self.found {
            let reach = finding.crossing().and_then(|crossing| reaches.get(&crossing));
            let there = finding.peer_netns.map(Reach::Namespace);
            if reach.is_some_and(|reach| Some(*reach) != there) {
                (finding.peer, finding.peer_netns) = (None, None);
                if suspects::is_about_peer(finding.group.kind) {
                    finding.suspects = Suspects::default();
                }
            }
        }
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
    texts.extend(suspects.kept().map(ToString::to_string));
    texts.join("; ")
}

/// The addresses that packets are sent to from other namespaces, where the judgement depends on whether they get there.
#[must_use]
pub fn crossings(looks: &Looks<'_>) -> Vec<(Netns, IpAddr)> {
    let may_matter = |row: &RowView| elsewhere::is_unanswered(row) || row.state == TcpState::SynRecv;
    if !looks.now.rows.iter().any(may_matter) {
        return Vec::new();
    }
    let found: FxHashSet<_> = Context::new(looks).crossings().collect();
    found.into_iter().collect()
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
    let (mut here, mut elsewhere) = (FxHashSet::default(), FxHashSet::default());
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
            if connection.netns == finding.example.connection.netns {
                (finding.peer, finding.peer_netns) = (row.owners.first().copied(), None);
                here.insert(*place);
            } else if !here.contains(place) && !is_private(address) && may_be_ends(&finding.example, row) {
                // Connections with the same ends in several other namespaces: it may be any of them.
                let first = elsewhere.insert(*place);
                finding.peer = row.owners.first().copied().filter(|_| first);
                finding.peer_netns = finding.peer.map(|_| connection.netns);
            }
        }
    }
}

/// Whether both can be the ends of one connection: neither has had more acknowledged than the other has received.
fn may_be_ends(one: &RowView, other: &RowView) -> bool {
    let (Some(one), Some(other)) = (one.figures.as_deref(), other.figures.as_deref()) else {
        return true;
    };
    let fits = |sent: &Figures, received: &Figures| {
        // SYN and FIN count as one each at one end only, and the figures are not of the same moment.
        let slack = SLACK + u64::from(sent.sent.unacked.unwrap_or(0)) + u64::from(received.queues.recv);
        let acked = sent.sent.bytes_acked.unwrap_or(0);
        received
            .received
            .bytes
            .is_none_or(|bytes| acked <= bytes.saturating_add(slack))
    };
    fits(one, other) && fits(other, one)
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
            peer_netns: None,
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
