//! What filters mean, and that nothing can break them.

mod bounds;
mod meaning;
mod problems;
mod properties;

use super::*;
use crate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Family, Owner, OwnerSource},
    tcp::TcpState,
};

/// A machine with one service, one user and one namespace.
struct Known;

impl Names for Known {
    fn port(&self, service: &str) -> Result<Option<u16>, String> {
        Ok(matches!(service, "https" | "http-alt").then_some(443))
    }

    fn uid(&self, user: &str) -> Result<Option<u32>, String> {
        match user {
            "slow" => Err("nobody answers".to_owned()),
            user => Ok((user == "www").then_some(33)),
        }
    }

    fn netns(&self, name: &str) -> Result<Netns, String> {
        match name {
            "blue" => Ok(Netns(7)),
            name => name
                .parse()
                .map(Netns)
                .map_err(|_| format!("there is no network namespace `{name}`")),
        }
    }

    fn devices(&self, name: &str) -> Result<Vec<(Netns, u32)>, String> {
        match name {
            "eth0" => Ok(vec![(Netns(7), 2), (Netns(8), 3)]),
            _ => Err(format!("no interface is called `{name}`")),
        }
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        match path.trim_matches('/') {
            "web.slice" => Ok(77),
            _ => Err(format!("there is no control group `{path}`")),
        }
    }

    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "localhost" => vec![
                IpAddr::from([127, 0, 0, 1]),
                IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            ],
            _ => Vec::new(),
        }
    }

    fn all(&self, kind: Kind) -> Vec<String> {
        let names: &[&str] = match kind {
            Kind::Process => &["nginx", "a b"],
            Kind::Service => &["https", "http-alt"],
            Kind::User => &["www"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}

#[derive(Debug, Clone)]
struct Socket {
    connection: Connection,
    from: Option<TcpState>,
    state: TcpState,
    owner: Option<Owner>,
    uid: Option<u32>,
    fwmark: Option<u32>,
    autobound: Option<bool>,
}

impl Socket {
    fn subject(&self) -> Subject<'_> {
        let from = self.from.map(StateSet::from).unwrap_or_default();
        Subject {
            connection: &self.connection,
            states: from.union(self.state.into()),
            owner: self.owner,
            owners: None,
            uid: self.uid,
            cgroup: Some(77),
            fwmark: self.fwmark,
            autobound: self.autobound,
            bound: false,
        }
    }
}

fn owner(pid: u32, name: &str) -> Owner {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Owner {
        pid,
        fd: None,
        comm: Comm(comm),
        tid: None,
        start: Ktime(1),
        more_fds: 0,
        seen: Ktime(1),
        source: OwnerSource::Event,
    }
}

/// An established IPv4 connection of nginx's.
fn socket(local: &str, remote: &str) -> Socket {
    let end = |text: &str| -> std::net::SocketAddr { text.parse().unwrap() };
    let (local, remote) = (end(local), end(remote));
    let family = if local.is_ipv4() {
        Family::Inet
    } else {
        Family::Inet6
    };
    Socket {
        connection: Connection {
            cookie: Cookie(31),
            netns: Netns(7),
            family,
            local: Endpoint::new(local.ip(), local.port()),
            remote: Endpoint::new(remote.ip(), remote.port()),
            device: None,
            mptcp: false,
        },
        from: None,
        state: TcpState::Established,
        owner: Some(owner(5, "a b")),
        uid: Some(33),
        fwmark: Some(0x1a),
        autobound: Some(true),
    }
}

fn parsed(text: &str) -> Filter {
    parse(text, &Known).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}
