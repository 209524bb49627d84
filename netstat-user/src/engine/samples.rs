//! Sockets for the tests of this module.

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns, SkAddr},
    facts::{Form, Queues, Sighting, StateEvent},
    tcp::TcpState,
};

/// Where they are.
pub(super) const NETNS: Netns = Netns(1);

/// The connection of this number, which is its cookie and its port.
pub(super) fn connection(number: u16) -> Connection {
    let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
    Connection {
        cookie: Cookie(number.into()),
        netns: NETNS,
        family: Family::Inet,
        local: end(number),
        remote: end(1),
        device: None,
        mptcp: false,
    }
}

/// Where its socket is.
pub(super) fn skaddr(number: u16) -> SkAddr {
    SkAddr(1000 + u64::from(number))
}

/// Its socket, as a sweep sees it.
pub(super) fn seen(number: u16, time: Ktime, state: TcpState, form: Form) -> Sighting {
    Sighting {
        time,
        connection: connection(number),
        skaddr: skaddr(number),
        state,
        form,
        uid: None,
        cgroup: None,
        fwmark: None,
        autobound: None,
        inode: None,
        mptcp: None,
        due: None,
        queues: Queues::default(),
    }
}

/// An event of it.
pub(super) fn event(number: u16, time: Ktime, from: TcpState, to: TcpState) -> StateEvent {
    StateEvent {
        time,
        connection: connection(number),
        skaddr: skaddr(number),
        from,
        to,
        error: None,
        peer_fin: true,
        orphan: false,
        no_linger2: false,
        standing: None,
        owner: None,
        uid: 0,
        fwmark: 0,
        cgroup: None,
    }
}
