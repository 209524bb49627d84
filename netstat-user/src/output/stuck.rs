//! Findings of what is stuck, as text or JSON.

use std::{
    fmt,
    io::{self, Write},
};

use serde::Serialize;

use super::{Short, color::Palette, json, line::End};
use crate::{
    connection::OwnerSource,
    diagnosis::{Finding, Findings, Service, Severity},
    namespaces::Names,
};

/// Writes findings for people: the worst first, and a summary in the end.
///
/// # Errors
///
/// What `out` returns.
pub fn text(
    out: &mut impl Write,
    findings: &Findings,
    names: &mut Names,
    palette: Palette,
) -> io::Result<()> {
    for finding in &findings.found {
        one(out, finding, names, palette)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", Summary(findings))
}

fn one(out: &mut impl Write, finding: &Finding, names: &mut Names, palette: Palette) -> io::Result<()> {
    let row = &finding.example;
    let connection = &row.connection;
    let (color, faint, reset) = (
        palette.severity(finding.severity),
        palette.faint(),
        palette.reset(),
    );
    writeln!(
        out,
        "{color}{:<8}{reset}  {} × {} {}, {}, {}",
        finding.severity.name().to_uppercase(),
        finding.count,
        finding.group.state,
        Place(finding),
        Holder(finding),
        Age(finding),
    )?;
    let mut line = |title: &str, text: &dyn fmt::Display| writeln!(out, "{faint}{title:>8}{reset}  {text}");
    line("why", &finding.group.kind.cause())?;
    line("evidence", &finding.evidence.join("; "))?;
    let mut example = format!(
        "{} → {}, cookie {}",
        End(connection, connection.local, "-"),
        End(connection, connection.remote, "*"),
        connection.cookie.0
    );
    if let Some(name) = names.of(connection.netns) {
        example.push_str(", netns ");
        example.push_str(name);
    } else {
        example.push_str(", netns ");
        example.push_str(&connection.netns.0.to_string());
    }
    line("example", &example)?;
    line("next", &finding.advice)
}

/// What the connections are to.
struct Place<'a>(&'a Finding);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.group.service {
            Service::Here(port) => write!(f, "on port {port}")?,
            Service::There(addr, port) => write!(f, "to {}", std::net::SocketAddr::new(addr, port))?,
        }
        if self.0.peers > 1 {
            write!(f, " from {} addresses", self.0.peers)?;
        }
        Ok(())
    }
}

/// Who holds them, or has.
struct Holder<'a>(&'a Finding);

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(owner) = self.0.example.owners.first() else {
            return f.write_str("held by -");
        };
        let held = match owner.source {
            OwnerSource::Event | OwnerSource::Scan => "held by",
            OwnerSource::Inherited => "on a listener of",
            OwnerSource::Last => "last held by",
        };
        write!(f, "{held} {}/{}", owner.pid, owner.comm)?;
        match owner.fd {
            Some(fd) if self.0.count == 1 => write!(f, " fd {fd}"),
            Some(fd) => write!(f, " (fd {fd} and others)"),
            None => Ok(()),
        }
    }
}

/// For how long, and how fast they come.
struct Age<'a>(&'a Finding);

impl fmt::Display for Age<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            oldest,
            recent,
            count,
            example,
            ..
        } = self.0;
        let sign = if example.at_least { "≥" } else { "" };
        let which = if *count > 1 { "the oldest " } else { "" };
        write!(f, "{which}for {sign}{}", Short(*oldest))?;
        if *count > 1 && *recent > 0 {
            write!(f, ", {recent} of them came within the last minute")?;
        }
        Ok(())
    }
}

/// What was looked at, and what came of it.
struct Summary<'a>(&'a Findings);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings {
            found,
            sockets,
            without_figures,
        } = self.0;
        if found.is_empty() {
            write!(
                f,
                "Nothing is stuck: {sockets} sockets were looked at twice, for handshakes and data without an answer, closed \
                 windows, data that is not read, accept queues, connections that are not closed, and ports that run out."
            )?;
        } else {
            let stuck: usize = found.iter().map(|finding| finding.count).sum();
            write!(
                f,
                "{} finding(s), about {stuck} of {sockets} sockets.",
                found.len()
            )?;
        }
        if *without_figures > 0 {
            write!(
                f,
                " {without_figures} came or went meanwhile, or are in namespaces that cannot be looked into: of those the \
                 kernel gave no figures."
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct FindingLine<'a> {
    finding: crate::diagnosis::Kind,
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
    peer_pid: Option<u32>,
    peer_comm: Option<String>,
    cause: &'static str,
    evidence: &'a [String],
    next: &'a str,
    local: String,
    remote: String,
    cookies: Vec<u64>,
}

#[derive(Serialize)]
struct SummaryLine {
    findings: usize,
    sockets: usize,
    without_figures: usize,
}

/// Writes findings as JSON, one a line, and a summary in the end.
///
/// # Errors
///
/// What `out` returns.
pub fn json(out: &mut impl Write, findings: &Findings, names: &mut Names) -> io::Result<()> {
    for finding in &findings.found {
        json::line(out, &finding_line(finding, names))?;
    }
    let summary = SummaryLine {
        findings: findings.found.len(),
        sockets: findings.sockets,
        without_figures: findings.without_figures,
    };
    json::line(out, &serde_json::json!({ "summary": summary }))
}

fn finding_line<'a>(finding: &'a Finding, names: &mut Names) -> FindingLine<'a> {
    let row = &finding.example;
    let connection = &row.connection;
    let owner = row.owners.first();
    let (service, port) = match finding.group.service {
        Service::Here(port) => (None, Some(port)),
        Service::There(addr, port) => (Some(std::net::SocketAddr::new(addr, port).to_string()), None),
    };
    FindingLine {
        finding: finding.group.kind,
        severity: finding.severity,
        state: finding.group.state.name(),
        count: finding.count,
        recent: finding.recent,
        peers: finding.peers,
        oldest_ms: finding.oldest.as_millis(),
        netns: connection.netns.0,
        netns_name: names.of(connection.netns).map(str::to_owned),
        service,
        port,
        pid: owner.map(|owner| owner.pid),
        comm: owner.map(|owner| owner.comm.to_string()),
        fd: owner.and_then(|owner| owner.fd),
        owner_source: owner.map(|owner| owner.source),
        peer_pid: finding.peer.map(|owner| owner.pid),
        peer_comm: finding.peer.map(|owner| owner.comm.to_string()),
        cause: finding.group.kind.cause(),
        evidence: &finding.evidence,
        next: &finding.advice,
        local: End(connection, connection.local, "-").to_string(),
        remote: End(connection, connection.remote, "*").to_string(),
        cookies: finding.cookies.iter().map(|cookie| cookie.0).collect(),
    }
}
