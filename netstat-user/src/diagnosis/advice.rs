//! What to do about a finding: the next command, or the code to mend.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{Finding, Kind, Suspect, finding::Service};
use crate::{
    activity::Hindrance,
    connection::{Owner, OwnerSource},
    owners::Kept,
    tcp::TcpState,
};

/// Suspects that are named one by one in an advice.
const NAMED: usize = 4;

/// The next step, for whoever has been woken up. `enter` goes in front of commands that look at the network.
pub(super) fn advice(finding: &Finding, enter: &str) -> String {
    if let Some(step) = finding.suspects.kept().and_then(Kept::way_out) {
        return step;
    }
    let mut steps: Vec<String> = Vec::new();
    for (suspect, hindrance) in finding.suspects.hindrances() {
        steps.push(hindrance.way_out(&suspect.name(), suspect.owner.pid));
    }
    let nobody_can = !steps.is_empty() && finding.suspects.able().is_none();
    if !nobody_can {
        steps.push(usual(finding, enter));
    }
    steps.join("; ")
}

/// What to do when the processes that it takes are able to act.
fn usual(finding: &Finding, enter: &str) -> String {
    let connection = &finding.example.connection;
    let peer = connection.remote.addr(connection.family).to_canonical();
    let port = connection.remote.port().unwrap_or(0);
    let local = connection.local.port().unwrap_or(0);
    let owner = finding.example.owners.first();
    let who = Who(owner);
    let fd = owner.and_then(|owner| owner.fd);
    let in_ring = owner.is_some_and(|owner| owner.source == OwnerSource::IoUring);
    let other = if in_ring {
        "the socket in its io_uring"
    } else {
        "the socket"
    };
    let fd = fd.map_or_else(|| other.to_owned(), |fd| format!("fd {fd}"));
    match finding.group.kind {
        Kind::HeldByAcceptQueue if finding.group.state != TcpState::SynRecv => {
            let who = match able(finding).as_slice() {
                [] => "its process".to_owned(),
                suspects => names(suspects),
            };
            format!("see the finding of the listener on port {port}: {who} has to call accept")
        }
        Kind::SynUnanswered => format!(
            "see where it ends: `{enter}ip route get {peer}`, `{enter}tcpdump -ni any host {peer} and tcp port {port}`; if a firewall drops it, let it reject instead; give connect a timeout"
        ),
        Kind::SynAckUnanswered => format!(
            "see whether the last ACK comes: `{enter}tcpdump -ni any tcp port {local} and host {peer}`; from many false addresses it is a SYN flood: `{enter}sysctl net.ipv4.tcp_syncookies` should be 1"
        ),
        Kind::HeldByAcceptQueue | Kind::AcceptQueueFull | Kind::AcceptQueueFilling => not_accepted(finding),
        Kind::DataNotSent => format!(
            "see why it cannot be sent: `{enter}ip route get {peer}`, `{enter}ip -s link`, `{enter}nft list ruleset`"
        ),
        Kind::DataUnacknowledged | Kind::FinUnacknowledged | Kind::KeepaliveUnanswered => format!(
            "see whether the peer is there: `{enter}ping {peer}`, `{enter}tcpdump -ni any host {peer} and tcp port {}`; `{enter}ss -K dst {} dport = {port}` ends it now; TCP_USER_TIMEOUT ends it sooner",
            if port == 0 { local } else { port },
            InFilter(peer),
        ),
        Kind::ZeroWindow => match finding.suspects.able() {
            Some(suspect) => format!(
                "the peer is {} on this host: find out why it does not read, {}",
                suspect.name(),
                suspect.trace()
            ),
            None => format!("find out on {peer} why the process at port {port} does not read"),
        },
        Kind::DataUnread => not_read(finding, &fd),
        Kind::NotClosed => not_closed(finding, &fd),
        Kind::HalfClosed => format!(
            "{who} waits for the peer to close {fd}: give that a limit, then close; {}",
            peer_text(finding)
        ),
        Kind::PeerNotClosing => format!("nothing here; {}", peer_text(finding)),
        Kind::PortsRunningOut => format!(
            "keep connections to {} open and use them again; else `{enter}sysctl -w net.ipv4.tcp_tw_reuse=1`, or widen `net.ipv4.ip_local_port_range`",
            service(finding)
        ),
        Kind::BindPortsRunningOut => format!(
            "before connect, set IP_BIND_ADDRESS_NO_PORT and bind no port; give listeners ports of their own; else widen `net.ipv4.ip_local_port_range`, or use another address{}",
            if matches!(finding.group.service, Service::At(address) if address.is_unspecified()) {
                " explicitly"
            } else {
                ""
            }
        ),
        Kind::TimeWaitFull => {
            format!(
                "keep connections open and use them again, or raise it: `{enter}sysctl -w net.ipv4.tcp_max_tw_buckets=…`"
            )
        }
    }
}

/// Those of the suspects that can be expected to act and are able to, as many as are named.
fn able(finding: &Finding) -> Vec<&Suspect> {
    let expected = finding.suspects.expected();
    let able = expected.filter(|suspect| !suspect.hindrances().any(Hindrance::stops_all));
    able.take(NAMED).collect()
}

fn names(suspects: &[&Suspect]) -> String {
    let names: Vec<_> = suspects.iter().map(|suspect| suspect.name()).collect();
    names.join(" or ")
}

/// The commands that show what they do.
fn traces(suspects: &[&Suspect]) -> String {
    let traces = suspects.iter().map(|suspect| suspect.trace());
    let stacks = suspects
        .iter()
        .map(|suspect| format!("`cat {}/stack`", suspect.folder()));
    traces.chain(stacks).collect::<Vec<_>>().join(", ")
}

fn not_accepted(finding: &Finding) -> String {
    let suspects = able(finding);
    if suspects.is_empty() {
        return "find out which process holds the listener: `netstate list -lp` as root; it has to call accept".to_owned();
    }
    let drain = suspects.iter().any(|suspect| suspect.misses_events());
    let drain = if drain {
        "; one that epoll reports to once for several connections (EPOLLET) has to accept until there is none left"
    } else {
        ""
    };
    format!(
        "find out what keeps {} from calling accept: {}{drain}; if it does call it and bursts are the problem, raise its backlog and `net.core.somaxconn`",
        names(&suspects),
        traces(&suspects),
    )
}

fn not_read(finding: &Finding, fd: &str) -> String {
    let suspects = able(finding);
    if suspects.is_empty() {
        return format!("find out why the process does not read {fd}");
    }
    format!(
        "find out why {} does not read {fd}: {}",
        names(&suspects),
        traces(&suspects)
    )
}

fn not_closed(finding: &Finding, fd: &str) -> String {
    let owners = &finding.example.owners;
    let suspects: Vec<_> = finding.suspects.iter().collect();
    let [first, others @ ..] = suspects.as_slice() else {
        return format!("the process has to close {fd} when read() returns 0");
    };
    let (who, folder) = (first.name(), first.folder());
    if others.is_empty() && first.owner.source == OwnerSource::IoUring {
        return format!(
            "{who} has to close {fd} (IORING_OP_CLOSE with the index, or IORING_REGISTER_FILES_UPDATE) when read() returns 0; until that is fixed, a restart closes all; `grep -A 99 UserFiles /proc/{}/fdinfo/*` lists them",
            first.owner.pid
        );
    }
    if others.is_empty() {
        return format!(
            "{who} has to close {fd} when read() returns 0; until that is fixed, a restart closes all; `ls -l {folder}/fd` lists them"
        );
    }
    let others: Vec<_> = others.iter().map(|other| other.name()).collect();
    let more = match owners.unlisted() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{who} has to close {fd} when read() returns 0, and so have {}{more}, which hold it too: the connection is closed when the last of them has closed it; a process that does not need it should not inherit it (SOCK_CLOEXEC)",
        others.join(", ")
    )
}

/// A process by name and id.
struct Who<'a>(Option<&'a Owner>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(owner) => write!(f, "{} ({})", owner.comm, owner.pid),
            None => f.write_str("the process"),
        }
    }
}

/// An address as `ss` takes it in a filter.
struct InFilter(IpAddr);

impl fmt::Display for InFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "[{v6}]"),
        }
    }
}

fn peer_text(finding: &Finding) -> String {
    let connection = &finding.example.connection;
    let peer = connection.remote.addr(connection.family).to_canonical();
    match &finding.peer {
        Some(owner) => format!(
            "the peer is {} on this host, which does not close",
            Who(Some(owner))
        ),
        None => format!("see why the process on {peer} does not close"),
    }
}

fn service(finding: &Finding) -> String {
    match finding.group.service {
        Service::Here(port) => format!("port {port}"),
        Service::There(addr, port) => SocketAddr::new(addr, port).to_string(),
        Service::At(addr) => addr.to_string(),
    }
}
