//! Whose connections are, by scans and by listeners.

use super::world::{NETNS, Socket, World};
use crate::{
    clock::Ktime,
    connection::{Comm, Cookie, Endpoint, Owner, OwnerSource},
    facts::{Form, Holder, HolderScan},
    tcp::TcpState::{Close, Established, Listen, SynRecv},
};

const CLIENT: u16 = 4000;

fn holder(cookie: Cookie, pid: u32, time: Ktime) -> Holder {
    Holder {
        cookie,
        owner: Owner {
            pid,
            start: Ktime(u64::from(pid)),
            tid: None,
            fd: Some(3),
            more_fds: 0,
            comm: Comm([0; 16]),
            seen: time,
            source: OwnerSource::Scan,
        },
    }
}

impl World {
    pub(super) fn scan(&mut self, holders: &[(Cookie, u32)]) {
        let (start, time) = (self.tick(1), self.tick(1));
        let holders = holders.iter().map(|(cookie, pid)| holder(*cookie, *pid, time));
        self.table.apply_scan(HolderScan {
            start,
            complete: true,
            holders: holders.collect(),
        });
    }

    fn listener(&mut self, address: &str, port: u16) -> Cookie {
        let mut socket = self.new_socket(Close, Form::Full, port, 0);
        socket.connection.local = Endpoint::new(address.parse().unwrap(), port);
        self.go(socket, Listen);
        self.read(usize::MAX);
        socket.connection.cookie
    }

    fn child(&mut self, port: u16) -> Cookie {
        let socket = self.new_socket(Listen, Form::Full, port, CLIENT);
        self.go(socket, SynRecv);
        self.read(usize::MAX);
        socket.connection.cookie
    }

    fn owners(&self, cookie: Cookie) -> Vec<(u32, OwnerSource)> {
        let row = self.table.get(cookie).unwrap();
        row.owners()
            .iter()
            .map(|owner| (owner.pid, owner.source))
            .collect()
    }
}

#[test]
fn a_child_is_its_listeners_until_somebody_accepts_it() {
    let mut world = World::default();
    let any = world.listener("0.0.0.0", 80);
    let exact = world.listener("127.0.0.1", 80);
    let elsewhere = world.listener("0.0.0.0", 81);
    world.scan(&[(any, 1), (exact, 2), (elsewhere, 3)]);
    let child = world.child(80);
    assert_eq!(
        world.owners(child),
        [(2, OwnerSource::Inherited)],
        "the address is looked for first"
    );
    world.scan(&[(any, 1), (exact, 2), (elsewhere, 3)]);
    assert_eq!(world.owners(child), [(2, OwnerSource::Inherited)]);
    world.scan(&[(any, 1), (exact, 2), (elsewhere, 3), (child, 4)]);
    assert_eq!(world.owners(child), [(4, OwnerSource::Scan)]);
    world.scan(&[(any, 1)]);
    assert_eq!(world.owners(child), [(4, OwnerSource::Last)]);
    let nobodys = world.child(82);
    assert_eq!(world.owners(nobodys), []);
}

#[test]
fn nobody_knows_which_of_several_listeners_the_kernel_has_chosen() {
    let mut world = World::default();
    let (one, other) = (world.listener("0.0.0.0", 80), world.listener("0.0.0.0", 80));
    world.scan(&[(one, 1), (other, 2)]);
    let child = world.child(80);
    assert_eq!(world.owners(child), []);
    world.scan(&[(one, 1), (other, 1)]);
    let child = world.child(80);
    assert_eq!(
        world.owners(child),
        [(1, OwnerSource::Inherited)],
        "both are one process's"
    );
}

#[test]
fn a_connection_that_was_there_before_is_its_listeners_too() {
    let mut world = World::default();
    let listener = world.new_socket(Listen, Form::Full, 80, 0);
    let waiting = world.new_socket(Established, Form::Full, 80, CLIENT);
    world.sweep_that_sees(&[waiting, listener]);
    assert_eq!(world.table.ownerless(), 2);
    world.scan(&[(listener.connection.cookie, 1)]);
    assert_eq!(
        world.owners(waiting.connection.cookie),
        [(1, OwnerSource::Inherited)]
    );
    assert_eq!(world.table.ownerless(), 1, "who accepts it is still to be found");
}

#[test]
fn a_half_open_connection_is_its_listeners() {
    let mut world = World::default();
    let listener = world.new_socket(Listen, Form::Full, 80, 0);
    let early = world.new_socket(SynRecv, Form::Request, 80, CLIENT);
    world.sweep_that_sees(&[listener, early]);
    world.scan(&[(listener.connection.cookie, 1)]);
    let inherited = [(1, OwnerSource::Inherited)];
    assert_eq!(world.owners(early.connection.cookie), inherited);
    let late = world.new_socket(SynRecv, Form::Request, 80, CLIENT + 1);
    world.sweep_that_sees(&[listener, early, late]);
    assert_eq!(world.owners(late.connection.cookie), inherited);
    assert_eq!(world.owners(early.connection.cookie), inherited);
    assert_eq!(world.table.ownerless(), 0, "nobody has to be looked for");
}

#[test]
fn a_subflow_is_whoevers_that_holds_the_mptcp_socket() {
    const ABOVE: Cookie = Cookie(1000);
    let mut world = World::default();
    let mut subflow: Socket = world.new_socket(Established, Form::Full, 80, CLIENT);
    subflow.connection.mptcp = true;
    let start = world.tick(1);
    let mut seen = super::world::sighting(&subflow, world.tick(1));
    seen.mptcp = Some(ABOVE);
    let end = world.tick(1);
    let sweep = crate::table::NamespaceSweep {
        netns: NETNS,
        start,
        end,
        sightings: vec![seen],
    };
    world.table.apply_sweep(&sweep, &mut world.transitions);
    world.scan(&[(ABOVE, 7)]);
    assert_eq!(world.owners(subflow.connection.cookie), [(7, OwnerSource::Scan)]);
    // It has no file of its own, which says nothing.
    world.sweep_that_sees(&[subflow]);
    assert_eq!(world.owners(subflow.connection.cookie), [(7, OwnerSource::Scan)]);
}

#[test]
fn a_minisock_is_nobodys() {
    let mut world = World::default();
    let mut socket = world.new_socket(Established, Form::Full, 80, CLIENT);
    world.sweep_that_sees(&[socket]);
    let cookie = socket.connection.cookie;
    world.scan(&[(cookie, 7)]);
    socket.form = Form::Minisock;
    world.sweep_that_sees(&[socket]);
    world.scan(&[(cookie, 8)]);
    assert_eq!(world.owners(cookie), [(7, OwnerSource::Last)]);
}
