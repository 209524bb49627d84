//! Findings of what is stuck, as JSON.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use serde::Serialize;

use super::Printer;
use crate::{
    clock::WallClock,
    diagnosis::{Finding, Findings, Kind, Service, Severity},
    output::{
        json::{self, Socket},
        suspected::Suspected,
    },
};

/// A finding, with the keys of the socket that stands for it: the oldest.
#[derive(Serialize)]
struct Line<'a> {
    finding: Kind,
    severity: Severity,
    count: usize,
    recent: usize,
    peers: usize,
    oldest_ms: u128,
    /// `null` for a port of this host.
    service_addr: Option<IpAddr>,
    service_port: Option<u16>,
    #[serde(flatten)]
    socket: Socket,
    peer_pid: Option<u32>,
    peer_comm: Option<String>,
    suspects: Vec<Suspected>,
    more_suspects: u32,
    cause: String,
    evidence: &'a [String],
    next: String,
    cookies: Vec<u64>,
}

impl Printer {
    /// Writes findings as JSON, one a line, and a summary in the end.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn json(&mut self, out: &mut impl Write, findings: &Findings, clock: WallClock) -> io::Result<()> {
        for finding in &findings.found {
            json::line(out, &self.finding_line(finding, clock))?;
        }
        let summary = serde_json::json!({
            "findings": findings.found.len(),
            "sockets": findings.sockets,
            "matched": findings.matched,
            "without_figures": findings.without_figures,
        });
        json::line(out, &serde_json::json!({ "summary": summary }))
    }

    fn finding_line<'a>(&mut self, finding: &'a Finding, clock: WallClock) -> Line<'a> {
        let (service_addr, service_port) = match finding.group.service {
            Service::Here(port) => (None, port),
            Service::There(addr, port) => (Some(addr), port),
            Service::At(addr) => (Some(addr), 0),
        };
        Line {
            finding: finding.group.kind,
            severity: finding.severity,
            count: finding.count,
            recent: finding.recent,
            peers: finding.peers,
            oldest_ms: finding.oldest.as_millis(),
            service_addr,
            service_port: Some(service_port).filter(|port| *port != 0),
            next: self.next(finding),
            socket: Socket::of(&finding.example, &mut self.names, &mut self.labels, clock),
            peer_pid: finding.peer.map(|owner| owner.pid),
            peer_comm: finding.peer.map(|owner| owner.comm.to_string()),
            suspects: finding.suspects.iter().map(Suspected::of).collect(),
            more_suspects: finding.suspects.unlisted(),
            cause: finding.cause(),
            evidence: &finding.evidence,
            cookies: finding.cookies.iter().map(|cookie| cookie.0).collect(),
        }
    }
}
