//! The keys of a socket, the same in every object that is about one.

use std::{net::IpAddr, num::NonZeroU32};

use serde::Serialize;

use super::tcp::Tcp;
use crate::{
    clock::WallClock,
    connection::{Connection, Endpoint, Family, Owner, OwnerSource},
    facts::Form,
    labels::{Container, Labels},
    namespaces::Names,
    owners::Kept,
    tcp::TcpState,
    view::RowView,
};

/// Which socket.
#[derive(Serialize)]
pub(in crate::output) struct Identity {
    proto: &'static str,
    cookie: u64,
    netns: u32,
    netns_name: Option<String>,
    family: Family,
    #[serde(flatten)]
    ends: Ends,
    device: Option<u32>,
    device_name: Option<String>,
    mptcp: bool,
}

impl Identity {
    pub(in crate::output) fn of(connection: &Connection, names: &mut Names) -> Self {
        let device = connection.device;
        let device_name = device.and_then(|device| Some(names.device(connection.netns, device)?.to_owned()));
        Self {
            proto: "tcp",
            cookie: connection.cookie.0,
            netns: connection.netns.0,
            netns_name: names.of(connection.netns).map(str::to_owned),
            family: connection.family,
            ends: Ends::of(connection),
            device: connection.device.map(NonZeroU32::get),
            device_name,
            mptcp: connection.mptcp,
        }
    }
}

/// Both ends of a socket; of a listener the remote one is the unspecified address without a port.
#[derive(Serialize)]
pub(in crate::output) struct Ends {
    local_addr: IpAddr,
    local_port: Option<u16>,
    remote_addr: IpAddr,
    remote_port: Option<u16>,
}

impl Ends {
    pub(in crate::output) fn of(connection: &Connection) -> Self {
        let end = |end: Endpoint| (end.addr(connection.family), end.port());
        let (local_addr, local_port) = end(connection.local);
        let (remote_addr, remote_port) = end(connection.remote);
        Self {
            local_addr,
            local_port,
            remote_addr,
            remote_port,
        }
    }
}

/// The socket's user and the first of its owners, its control group and its mark.
#[derive(Serialize)]
pub(super) struct Holder {
    uid: Option<u32>,
    pid: Option<u32>,
    comm: Option<String>,
    fd: Option<u32>,
    owner_source: Option<OwnerSource>,
    cgroup: Option<u64>,
    fwmark: Option<u32>,
}

impl Holder {
    pub(super) fn of(
        uid: Option<u32>,
        owner: Option<&Owner>,
        cgroup: Option<u64>,
        fwmark: Option<u32>,
    ) -> Self {
        Self {
            uid,
            pid: owner.map(|owner| owner.pid),
            comm: owner.map(|owner| owner.comm.to_string()),
            fd: owner.and_then(|owner| owner.fd),
            owner_source: owner.map(|owner| owner.source),
            cgroup,
            fwmark,
        }
    }
}

/// One of a row's owners.
#[derive(Serialize)]
struct ListedOwner {
    pid: u32,
    /// The thread whose descriptor table `fd` is in, unless that is the process's first one.
    tid: Option<NonZeroU32>,
    ns_pid: Option<u32>,
    fd: Option<u32>,
    /// How many descriptors it has for the socket.
    fds: Option<u32>,
    comm: String,
    exe: Option<String>,
    source: OwnerSource,
}

impl ListedOwner {
    fn of(owner: &Owner, inode: Option<u64>, labels: &mut Labels) -> Self {
        Self {
            pid: owner.pid,
            tid: owner.tid,
            ns_pid: labels.ns_pid(owner, inode),
            fd: owner.fd,
            fds: owner.fd.map(|_| owner.more_fds.saturating_add(1)),
            comm: owner.comm.to_string(),
            exe: labels.exe(owner).map(str::to_owned),
            source: owner.source,
        }
    }
}

/// All that is known of a socket: a row of the table.
#[derive(Serialize)]
pub(in crate::output) struct Socket {
    #[serde(flatten)]
    identity: Identity,
    state: &'static str,
    since: String,
    in_state_ms: u128,
    at_least: bool,
    recv_q: Option<u32>,
    send_q: Option<u32>,
    backlog: Option<u32>,
    v6only: Option<bool>,
    #[serde(flatten)]
    holder: Holder,
    autobound: Option<bool>,
    bound: bool,
    ns_pid: Option<u32>,
    owners: Vec<ListedOwner>,
    more_owners: u32,
    /// What has the socket, where no process has a descriptor of it.
    held_in: Option<&'static str>,
    exe: Option<String>,
    user: Option<String>,
    unit: Option<String>,
    user_unit: Option<String>,
    container: Option<Container>,
    pod: Option<String>,
    inode: Option<u64>,
    tcp: Option<Tcp>,
}

impl Socket {
    pub(in crate::output) fn of(
        row: &RowView,
        names: &mut Names,
        labels: &mut Labels,
        clock: WallClock,
    ) -> Self {
        let first = row.owners.first();
        let figures = row.figures.as_deref();
        let ns_pid = first.and_then(|owner| labels.ns_pid(owner, row.inode));
        let placement = labels.placement(row.cgroup, first);
        Self {
            identity: Identity::of(&row.connection, names),
            state: row.state.name(),
            since: clock.timestamp(row.since).to_string(),
            in_state_ms: row.in_state.as_millis(),
            at_least: row.at_least,
            recv_q: row.queues.map(|queues| queues.recv),
            send_q: row.queues.map(|queues| queues.send),
            backlog: row
                .queues
                .filter(|_| row.state == TcpState::Listen)
                .map(|queues| queues.backlog),
            v6only: figures
                .filter(|_| row.connection.family == Family::Inet6)
                .and_then(|figures| figures.v6only),
            holder: Holder::of(row.uid, first, row.cgroup, row.fwmark),
            // Nobody knows of the others, though filters take them for either.
            autobound: row.autobound.filter(|_| row.form == Form::Full),
            bound: row.bound,
            ns_pid,
            owners: row
                .owners
                .iter()
                .map(|owner| ListedOwner::of(owner, row.inode, labels))
                .collect(),
            more_owners: row.owners.unlisted(),
            held_in: row.owners.kept().map(Kept::word),
            exe: first.and_then(|owner| labels.exe(owner).map(str::to_owned)),
            user: row.uid.and_then(|uid| labels.user(uid).map(str::to_owned)),
            unit: placement.unit,
            user_unit: placement.user_unit,
            container: placement.container,
            pod: placement.pod,
            inode: row.inode,
            tcp: figures.map(Tcp::of),
        }
    }
}
