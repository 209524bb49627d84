//! Findings of what is stuck, as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::Printer;
use crate::{
    connection::OwnerSource,
    diagnosis::{Finding, Findings, Kind, Service, Severity},
    labels::Container,
    output::{
        json::{self, ListedOwner},
        line::End,
    },
};

#[derive(Serialize)]
struct Line<'a> {
    finding: Kind,
    severity: Severity,
    state: &'static str,
    count: usize,
    recent: usize,
    peers: usize,
    oldest_ms: u128,
    netns: u32,
    netns_name: Option<String>,
    service: Option<String>,
    port: Option<u16>,
    pid: Option<u32>,
    comm: Option<String>,
    fd: Option<u32>,
    owner_source: Option<OwnerSource>,
    owners: Vec<ListedOwner>,
    more_owners: u32,
    exe: Option<String>,
    uid: Option<u32>,
    user: Option<String>,
    unit: Option<String>,
    user_unit: Option<String>,
    container: Option<Container>,
    pod: Option<String>,
    peer_pid: Option<u32>,
    peer_comm: Option<String>,
    cause: &'static str,
    evidence: &'a [String],
    next: String,
    local: String,
    remote: String,
    cookies: Vec<u64>,
}

impl Printer {
    /// Writes findings as JSON, one a line, and a summary in the end.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn json(&mut self, out: &mut impl Write, findings: &Findings) -> io::Result<()> {
        for finding in &findings.found {
            json::line(out, &self.finding_line(finding))?;
        }
        let summary = serde_json::json!({
            "findings": findings.found.len(),
            "sockets": findings.sockets,
            "matched": findings.matched,
            "without_figures": findings.without_figures,
        });
        json::line(out, &serde_json::json!({ "summary": summary }))
    }

    fn finding_line<'a>(&mut self, finding: &'a Finding) -> Line<'a> {
        let row = &finding.example;
        let connection = &row.connection;
        let owner = row.owners.first();
        let (service, port) = match finding.group.service {
            Service::Here(port) => (None, Some(port)),
            Service::There(addr, port) => (Some(std::net::SocketAddr::new(addr, port).to_string()), None),
        };
        let next = self.next(finding);
        let labels = &mut self.labels;
        let placement = labels.placement(row.cgroup, owner);
        Line {
            finding: finding.group.kind,
            severity: finding.severity,
            state: finding.group.state.name(),
            count: finding.count,
            recent: finding.recent,
            peers: finding.peers,
            oldest_ms: finding.oldest.as_millis(),
            netns: connection.netns.0,
            netns_name: self.names.of(connection.netns).map(str::to_owned),
            service,
            port,
            pid: owner.map(|owner| owner.pid),
            comm: owner.map(|owner| owner.comm.to_string()),
            fd: owner.and_then(|owner| owner.fd),
            owner_source: owner.map(|owner| owner.source),
            owners: row
                .owners
                .iter()
                .map(|owner| ListedOwner::of(owner, labels))
                .collect(),
            more_owners: row.owners.unlisted(),
            exe: owner.and_then(|owner| labels.exe(owner).map(str::to_owned)),
            uid: row.uid,
            user: row.uid.and_then(|uid| labels.user(uid).map(str::to_owned)),
            unit: placement.unit,
            user_unit: placement.user_unit,
            container: placement.container,
            pod: placement.pod,
            peer_pid: finding.peer.map(|owner| owner.pid),
            peer_comm: finding.peer.map(|owner| owner.comm.to_string()),
            cause: finding.group.kind.cause(),
            evidence: &finding.evidence,
            next,
            local: End(connection, connection.local, "-").to_string(),
            remote: End(connection, connection.remote, "*").to_string(),
            cookies: finding.cookies.iter().map(|cookie| cookie.0).collect(),
        }
    }
}
