//! What to do about a finding: the next command, or the code to mend.

use super::{Finding, Kind, finding::Service};
use crate::tcp::TcpState;

/// The next step, for whoever has been woken up.
pub(super) fn advice(finding: &Finding) -> String {
    let connection = &finding.example.connection;
    let peer = connection.remote.addr(connection.family).to_canonical();
    let port = connection.remote.port().unwrap_or(0);
    let local = connection.local.port().unwrap_or(0);
    let who = finding.example.owners.first().map_or_else(
        || "the process".to_owned(),
        |owner| format!("{} ({})", owner.comm, owner.pid),
    );
    let pid = finding
        .group
        .pid
        .map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    let fd = finding.example.owners.first().and_then(|owner| owner.fd);
    let fd = fd.map_or_else(|| "the socket".to_owned(), |fd| format!("fd {fd}"));
    match finding.group.kind {
        Kind::HeldByAcceptQueue if finding.group.state == TcpState::SynSent => {
            format!("see the finding of the listener on port {port}: its process has to call accept")
        }
        Kind::SynUnanswered => format!(
            "see where it ends: `ip route get {peer}`, `tcpdump -ni any host {peer} and tcp port {port}`; if a firewall drops it, let it reject instead; give connect a timeout"
        ),
        Kind::SynAckUnanswered => format!(
            "see whether the last ACK comes: `tcpdump -ni any tcp port {local} and host {peer}`; from many false addresses it is a SYN flood: `sysctl net.ipv4.tcp_syncookies` should be 1"
        ),
        Kind::HeldByAcceptQueue | Kind::AcceptQueueFull | Kind::AcceptQueueFilling => format!(
            "find out what keeps {who} from calling accept: `strace -fp {pid}`, `cat /proc/{pid}/stack`; if it does call it and bursts are the problem, raise its backlog and `net.core.somaxconn`"
        ),
        Kind::DataUnacknowledged | Kind::FinUnacknowledged => format!(
            "see whether the peer is there: `ping {peer}`, `tcpdump -ni any host {peer} and tcp port {}`; `ss -K dst {peer} dport = {port}` ends it now; TCP_USER_TIMEOUT ends it sooner",
            if port == 0 { local } else { port }
        ),
        Kind::ZeroWindow => match finding.peer {
            Some(owner) => format!(
                "the peer is {} ({}) on this host: find out why it does not read, `strace -fp {}`",
                owner.comm, owner.pid, owner.pid
            ),
            None => format!("find out on {peer} why the process at port {port} does not read"),
        },
        Kind::DataUnread => {
            format!("find out why {who} does not read {fd}: `strace -fp {pid}`, `cat /proc/{pid}/stack`")
        }
        Kind::NotClosed => format!(
            "{who} has to close {fd} once read returns 0: mend that; until then, restarting it closes all; `ls -l /proc/{pid}/fd` shows how many it holds"
        ),
        Kind::HalfClosed => format!(
            "{who} waits for the peer to close {fd}: give that a limit, then close; {}",
            peer_text(finding)
        ),
        Kind::PeerNotClosing => format!("nothing here; {}", peer_text(finding)),
        Kind::PortsRunningOut => format!(
            "keep connections to {} open and use them again; else `sysctl -w net.ipv4.tcp_tw_reuse=1`, or widen `net.ipv4.ip_local_port_range`",
            service(finding)
        ),
        Kind::TimeWaitFull => {
            "keep connections open and use them again, or raise `net.ipv4.tcp_max_tw_buckets`".to_owned()
        }
    }
}

fn peer_text(finding: &Finding) -> String {
    let connection = &finding.example.connection;
    let peer = connection.remote.addr(connection.family).to_canonical();
    match finding.peer {
        Some(owner) => format!(
            "the peer is {} ({}) on this host, which does not close",
            owner.comm, owner.pid
        ),
        None => format!("see why the process on {peer} does not close"),
    }
}

fn service(finding: &Finding) -> String {
    match finding.group.service {
        Service::Here(port) => format!("port {port}"),
        Service::There(addr, port) => std::net::SocketAddr::new(addr, port).to_string(),
    }
}
