//! Findings of what is stuck, as text.

mod json;

use std::{
    fmt,
    io::{self, Write},
};

use super::{Short, color::Palette, line::End};
use crate::{
    cli::StuckArgs,
    connection::{Netns, OwnerSource},
    diagnosis::{AsHolder, Finding, Findings, Service, Severity},
    labels::Labels,
    namespaces::Names,
    owners::Kept,
    plural::counted,
};

/// Prints findings.
#[derive(Debug)]
pub struct Printer {
    palette: Palette,
    names: Names,
    labels: Labels,
    /// The namespace that commands run in without further ado.
    own: Netns,
    /// What was asked about, in the user's words; empty for everything.
    asked: String,
}

impl Printer {
    /// As `args` have it, for a user in the namespace `own`.
    #[must_use]
    pub fn new(own: Netns, args: &StuckArgs) -> Self {
        let mut asked = Vec::new();
        if !args.filter.is_empty() {
            asked.push(format!("`{}`", args.filter.join(" ")));
        }
        if let Some(older) = args.older {
            asked.push(format!("--older {}", Short(older)));
        }
        if args.severity > Severity::Note {
            asked.push(format!("--severity {}", args.severity.name()));
        }
        Self {
            palette: Palette::new(args.output.color),
            names: Names::read(),
            labels: Labels::new(),
            own,
            asked: asked.join(", "),
        }
    }

    /// Says which users have no name because nobody told it in time, if any.
    #[must_use]
    pub fn unanswered(&self) -> Option<String> {
        self.labels.unanswered()
    }

    /// Writes findings for people: the worst first, and a summary in the end.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn text(&mut self, out: &mut impl Write, findings: &Findings) -> io::Result<()> {
        for finding in &findings.found {
            self.one(out, finding)?;
            writeln!(out)?;
        }
        let summary = Summary {
            findings,
            asked: &self.asked,
        };
        writeln!(out, "{summary}")
    }

    fn one(&mut self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let row = &finding.example;
        let connection = &row.connection;
        let (color, faint, reset) = (
            self.palette.severity(finding.severity),
            self.palette.faint(),
            self.palette.reset(),
        );
        let (state, age) = if finding.group.kind.is_shared() {
            ("sockets", String::new())
        } else {
            (finding.group.state.name(), Age(finding).to_string())
        };
        writeln!(
            out,
            "{color}{:<8}{reset}  {} × {state} {}, {}{age}",
            finding.severity.name().to_uppercase(),
            finding.count,
            Place(finding),
            Holder(finding),
        )?;
        let example = format!(
            "{} → {}, cookie {}, netns {}",
            End::local(connection, &mut self.names),
            End::remote(connection, &mut self.names),
            connection.cookie.0,
            self.names.label(connection.netns),
        );
        let who = self.who(finding);
        let next = self.next(finding);
        let mut line =
            |title: &str, text: &dyn fmt::Display| writeln!(out, "{faint}{title:>8}{reset}  {text}");
        line("why", &finding.cause())?;
        line("evidence", &finding.evidence.join("; "))?;
        line("example", &example)?;
        if let Some(who) = who {
            line("who", &who)?;
        }
        if let Some(holders) = holders(finding) {
            line("holders", &holders)?;
        }
        line("next", &next)
    }

    /// What is known of the process besides its name.
    fn who(&mut self, finding: &Finding) -> Option<String> {
        let row = &finding.example;
        let owner = row.owners.first();
        let placement = self.labels.placement(row.cgroup, owner);
        let exe = owner.and_then(|owner| self.labels.exe(owner).map(str::to_owned));
        let user = row
            .uid
            .and_then(|uid| self.labels.user(uid).map(str::to_owned))
            .filter(|_| owner.is_some());
        let parts = [
            exe,
            user.map(|user| format!("user {user}")),
            placement.unit.or(placement.user_unit),
            placement.container.map(|container| container.to_string()),
            placement.pod.map(|pod| format!("pod {pod}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// What to do, in commands that can be pasted.
    fn next(&mut self, finding: &Finding) -> String {
        let netns = finding.group.netns;
        if netns == self.own {
            return finding.advice("");
        }
        let enter = match (self.names.of(netns), finding.example.owners.first()) {
            (Some(_), _) => format!("ip netns exec {} ", self.names.label(netns)),
            // Whoever holds the socket is mostly where the socket is.
            (None, Some(owner)) => format!("nsenter -t {} -n ", owner.pid),
            (None, None) => String::new(),
        };
        finding.advice(&enter)
    }
}

/// All processes that a finding depends on, if they are several.
fn holders(finding: &Finding) -> Option<String> {
    let suspects = &finding.suspects;
    let mut texts: Vec<_> = suspects.iter().map(|one| AsHolder(one).to_string()).collect();
    match suspects.unlisted() {
        0 => {}
        more => texts.push(format!("{more} more")),
    }
    (texts.len() > 1).then(|| texts.join("; "))
}

/// What the connections are to.
struct Place<'a>(&'a Finding);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.group.service {
            Service::Here(port) => write!(f, "on port {port}")?,
            Service::There(addr, port) => write!(f, "to {}", std::net::SocketAddr::new(addr, port))?,
            Service::At(addr) => write!(f, "on {addr}")?,
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
        let owners = &self.0.example.owners;
        if owners.kept().is_some_and(|kept| *kept != Kept::Ring) {
            return f.write_str("held by no process");
        }
        let Some(owner) = owners.first() else {
            return f.write_str("held by -");
        };
        let held = match owner.source {
            OwnerSource::Event | OwnerSource::Scan => "held by",
            OwnerSource::Inherited => "on a listener of",
            OwnerSource::Last => "last held by",
            OwnerSource::IoUring => "in an io_uring of",
        };
        write!(f, "{held} {}/{}", owner.pid, owner.comm)?;
        match owner.fd {
            Some(fd) if self.0.count == 1 => write!(f, " fd {fd}")?,
            Some(fd) => write!(f, " (fd {fd} and others)")?,
            None => {}
        }
        match owners.others() {
            0 => Ok(()),
            1 => f.write_str(" and another process"),
            others => write!(f, " and {others} other processes"),
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
        write!(f, ", {which}for {sign}{}", Short(*oldest))?;
        if *count > 1 && *recent > 0 {
            write!(f, ", {recent} of them came within the last minute")?;
        }
        Ok(())
    }
}

/// What was looked at, and what came of it.
struct Summary<'a> {
    findings: &'a Findings,
    asked: &'a str,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings {
            found,
            sockets,
            matched,
            without_figures,
            ..
        } = self.findings;
        if *matched == 0 && *sockets > 0 {
            return write!(f, "No socket matches {}: there are {sockets}.", self.asked);
        }
        if found.is_empty() {
            write!(
                f,
                "Nothing is stuck: {matched} sockets were checked twice, for handshakes, data and keepalive probes without an answer, closed \
                 windows, data that is not read, accept queues, connections that are not closed, and ports that run out."
            )?;
        } else {
            let stuck: usize = found.iter().map(|finding| finding.count).sum();
            write!(
                f,
                "{}, about {stuck} of {}.",
                counted(found.len(), "finding"),
                counted(*matched, "socket")
            )?;
        }
        if !self.asked.is_empty() {
            write!(f, " Asked for {}, of {sockets} sockets.", self.asked)?;
        }
        if *without_figures > 0 {
            write!(
                f,
                " Of {without_figures} the kernel gave no details: they came or went meanwhile, or are in namespaces that \
                 cannot be read."
            )?;
        }
        Ok(())
    }
}
