//! What to do about a finding: the next command, or the code to mend.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{Finding, Kind, finding::Service};
use crate::{connection::Owner, tcp::TcpState};

/// The next step, for whoever has been woken up. `enter` goes in front of commands that look at the network.
pub(super) fn advice(finding: &Finding, enter: &str) -> String {
    let connection = &finding.example.connection;
    let peer = connection.remote.addr(connection.family).to_canonical();
    let port = connection.remote.port().unwrap_or(0);
    let local = connection.local.port().unwrap_or(0);
    let owner = finding.example.owners.first();
    let who = Who(owner);
    let pid = owner.map_or_else(|| "PID".to_owned(), |owner| owner.pid.to_string());
    let fd = owner.and_then(|owner| owner.fd);
    let fd = fd.map_or_else(|| "the socket".to_owned(), |fd| format!("fd {fd}"));
    match finding.group.kind {
        Kind::HeldByAcceptQueue if finding.group.state != TcpState::SynRecv => {
            format!("see the finding of the listener on port {port}: its process has to call accept")
        }
        Kind::SynUnanswered => format!(
            "see where it ends: `{enter}ip route get {peer}`, `{enter}tcpdump -ni any host {peer} and tcp port {port}`; if a firewall drops it, let it reject instead; give connect a timeout"
        ),
        Kind::SynAckUnanswered => format!(
            "see whether the last ACK comes: `{enter}tcpdump -ni any tcp port {local} and host {peer}`; from many false addresses it is a SYN flood: `{enter}sysctl net.ipv4.tcp_syncookies` should be 1"
        ),
        Kind::HeldByAcceptQueue | Kind::AcceptQueueFull | Kind::AcceptQueueFilling => format!(
            "find out what keeps {who} from calling accept: `strace -fp {pid}`, `cat /proc/{pid}/stack`; if it does call it and bursts are the problem, raise its backlog and `net.core.somaxconn`"
        ),
        Kind::DataUnacknowledged | Kind::FinUnacknowledged => format!(
            "see whether the peer is there: `{enter}ping {peer}`, `{enter}tcpdump -ni any host {peer} and tcp port {}`; `{enter}ss -K dst {} dport = {port}` ends it now; TCP_USER_TIMEOUT ends it sooner",
            if port == 0 { local } else { port },
            InFilter(peer),
        ),
        Kind::ZeroWindow => match finding.peer {
            Some(owner) => format!(
                "the peer is {} on this host: find out why it does not read, `strace -fp {}`",
                Who(Some(&owner)),
                owner.pid
            ),
            None => format!("find out on {peer} why the process at port {port} does not read"),
        },
        Kind::DataUnread => {
            format!("find out why {who} does not read {fd}: `strace -fp {pid}`, `cat /proc/{pid}/stack`")
        }
        Kind::NotClosed => not_closed(finding, &fd, &pid),
        Kind::HalfClosed => format!(
            "{who} waits for the peer to close {fd}: give that a limit, then close; {}",
            peer_text(finding)
        ),
        Kind::PeerNotClosing => format!("nothing here; {}", peer_text(finding)),
        Kind::PortsRunningOut => format!(
            "keep connections to {} open and use them again; else `{enter}sysctl -w net.ipv4.tcp_tw_reuse=1`, or widen `net.ipv4.ip_local_port_range`",
            service(finding)
        ),
        Kind::TimeWaitFull => {
            format!(
                "keep connections open and use them again, or raise it: `{enter}sysctl -w net.ipv4.tcp_max_tw_buckets=…`"
            )
        }
    }
}

fn not_closed(finding: &Finding, fd: &str, pid: &str) -> String {
    let owners = &finding.example.owners;
    let who = Who(owners.first());
    let mut others = owners.iter().skip(1).peekable();
    if others.peek().is_none() {
        return format!(
            "{who} has to close {fd} once read returns 0: mend that; until then, restarting it closes all; `ls -l /proc/{pid}/fd` shows how many it holds"
        );
    }
    let others: Vec<_> = others.map(|other| Who(Some(other)).to_string()).collect();
    let more = match owners.unlisted() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{who} has to close {fd} once read returns 0, and so have {}{more}, which hold it too: it is closed when the last of them has; a process that does not need it should not inherit it (SOCK_CLOEXEC)",
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
    }
}
