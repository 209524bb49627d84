//! Histories that matter, one by one.

use std::num::NonZeroU32;

use super::world::{NETNS, Socket, World};
use crate::{
    connection::{Cookie, Endpoint},
    facts::Form,
    reason::{Closing, Reason, Side},
    table::{Lost, Source, Table},
    tcp::TcpState::{Close, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent, TimeWait},
};

const GONE: Lost = Lost {
    netns: NETNS,
    nowhere: true,
};

#[test]
fn a_client_that_closes_first_ends_in_time_wait() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 2] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.read(usize::MAX);
    let steps: Vec<_> = world
        .transitions
        .iter()
        .map(|step| (step.to, step.source))
        .collect();
    assert_eq!(
        steps,
        [
            (SynSent, Source::Event),
            (Established, Source::Event),
            (FinWait1, Source::Event),
            (FinWait2, Source::Event),
            (TimeWait, Source::Inferred),
        ]
    );
    let row = world.table.get(Cookie(1)).unwrap();
    assert_eq!((row.state, row.form), (TimeWait, Form::Minisock));
    assert_eq!(row.history().count(), 5);
}

#[test]
fn an_orphan_that_the_kernel_calls_closed_is_still_in_fin_wait2() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 0] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.read(usize::MAX);
    let row = world.table.get(Cookie(1)).unwrap();
    assert_eq!((row.state, row.form), (FinWait2, Form::Minisock));
    assert_eq!(
        world.transitions.last().unwrap().to,
        FinWait2,
        "the kernel's CLOSE is not the connection's"
    );
}

#[test]
fn a_child_of_an_older_kernel_does_not_move_its_listener() {
    let mut world = World {
        old_kernel: true,
        ..World::default()
    };
    world.listen();
    let listener = world.pick(0).unwrap();
    world.request();
    let request = world.pick(1).unwrap();
    world.accept(request);
    world.read(usize::MAX);
    assert_eq!(world.table.get(listener.connection.cookie).unwrap().state, Listen);
    let child = world.table.get(request.connection.cookie).unwrap();
    assert_eq!(child.state, Established);
    let steps: Vec<_> = child.history().map(|step| step.to).collect();
    assert_eq!(steps, [SynRecv, Established]);
}

#[test]
fn a_sweep_recognises_a_child_of_an_older_kernel() {
    let mut world = World {
        old_kernel: true,
        ..World::default()
    };
    world.listen();
    // Not the first sweep of the namespace, which reports nothing.
    world.settle();
    // TCP Fast Open: a child without a handshake, and so without a request sock.
    let child = world.new_socket(SynRecv, Form::Full, 80, 1000);
    let mut announced = child;
    announced.state = Listen;
    announced.connection.cookie = Cookie(1);
    announced.connection.remote = Endpoint::new("0.0.0.0".parse().unwrap(), 0);
    world.announce(announced, SynRecv, |_| {});
    world.put(child);
    world.settle();
    let told: Vec<_> = world
        .transitions
        .iter()
        .filter(|step| step.connection.cookie == child.connection.cookie)
        .map(|step| (step.from, step.to, step.source))
        .collect();
    assert_eq!(told, [(Some(Listen), SynRecv, Source::Event)]);
    assert_eq!(world.table.get(Cookie(1)).unwrap().state, Listen);
}

#[test]
fn a_reset_leaves_no_minisock() {
    for choices in [&[1, 1, 1, 3][..], &[1, 1, 0, 3]] {
        let mut world = World::default();
        world.connect();
        for &choice in choices {
            let socket = world.pick(0).unwrap();
            world.advance(socket, choice);
        }
        world.read(usize::MAX);
        let later = world.tick(1_000_000_000);
        world.table.release(later, &mut world.transitions);
        assert!(world.table.is_empty(), "{:?}", world.transitions);
        let last = world.transitions.last().unwrap();
        assert_eq!(last.reason.as_ref(), world.resets.get(&last.time));
        assert!(last.reason.is_some_and(|reason| !reason.is_orderly()));
    }
}

#[test]
fn a_sweep_right_after_an_event_does_not_miss_the_socket() {
    let mut world = World::default();
    world.connect();
    world.read(usize::MAX);
    // The kernel has announced the state and not yet put the socket into the hash that sweeps walk.
    let socket = world.sockets.pop_first().unwrap().1;
    for (pause, rows, doubtful) in [(1_000_000, 1, 0), (1_000_000_000, 1, 1), (1_000_000_000, 0, 0)] {
        world.tick(pause);
        world.start_sweep();
        world.walk(1);
        world.read(usize::MAX);
        let doubted = world.table.rows().filter(|row| row.doubtful()).count();
        assert_eq!((world.table.len(), doubted), (rows, doubtful), "{pause}");
    }
    assert_eq!(
        world.transitions.last().unwrap().connection.cookie,
        socket.connection.cookie
    );
}

#[test]
fn the_end_of_one_end_tells_of_the_other() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 0] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    let client = world.pick(0).unwrap();
    let mut server = world.new_socket(LastAck, Form::Full, 0, 0);
    server.connection.local = client.connection.remote;
    server.connection.remote = client.connection.local;
    world.put(server);
    world.end(server, None, |_| {});
    // The port of the client came after its first event: what the later ones told must be enough.
    world.read(usize::MAX);
    let last = world.transitions.last().unwrap();
    assert_eq!(
        (last.connection.cookie, last.from, last.to),
        (client.connection.cookie, Some(FinWait2), TimeWait)
    );
    assert_eq!(last.source, Source::Inferred);
}

#[test]
fn a_namespace_that_cannot_be_found_lives_by_its_full_socks() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 0] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.listen();
    world.read(usize::MAX);
    for (minutes, rows) in [(0, 2), (0, 2), (2, 1), (2, 1)] {
        let start = world.tick(1_000_000_000 + minutes * 60_000_000_000);
        let end = world.tick(1);
        world.table.begin_sweep();
        world.table.end_sweep(&[GONE], start, end, &mut world.transitions);
        assert_eq!(world.table.len(), rows, "{:?}", world.transitions);
    }
    assert_eq!(world.table.rows().next().unwrap().state, Listen);
}

#[test]
fn an_orphan_that_nobody_can_look_at_does_not_last_for_ever() {
    for (holders, left) in [(&[(Cookie(1), 7)][..], 1), (&[], 0)] {
        let mut world = World::default();
        world.connect();
        for choice in [1, 1] {
            let socket = world.pick(0).unwrap();
            world.advance(socket, choice);
        }
        world.read(usize::MAX);
        assert_eq!(world.table.rows().next().unwrap().state, FinWait1);
        world.scan(holders);
        for (minutes, rows) in [(5, 1), (5, 1), (11, 1), (1, left)] {
            let start = world.tick(minutes * 60_000_000_000);
            let end = world.tick(1);
            world.table.begin_sweep();
            world.table.end_sweep(&[GONE], start, end, &mut world.transitions);
            assert_eq!(world.table.len(), rows, "{minutes}: {:?}", world.transitions);
        }
    }
}

#[test]
fn the_same_ends_on_another_device_are_another_connection() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 2] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    let mut other = world.new_socket(SynSent, Form::Full, 0, 0);
    let first = world.pick(0).unwrap();
    other.connection.local = first.connection.local;
    other.connection.remote = first.connection.remote;
    other.connection.device = NonZeroU32::new(7);
    world.go(other, Established);
    world.read(usize::MAX);
    assert_eq!(world.table.get(Cookie(1)).unwrap().state, TimeWait);
    other.connection.cookie = Cookie(9);
    other.connection.device = None;
    world.go(other, Established);
    world.read(usize::MAX);
    assert!(world.table.get(Cookie(1)).is_none(), "its ends are another's now");
    let reused = world
        .transitions
        .iter()
        .filter(|step| step.to == Close)
        .map(|step| step.reason);
    let taken = Reason::Closed {
        by: Some(Side::Us),
        how: Some(Closing::PortsTaken),
    };
    assert_eq!(reused.collect::<Vec<_>>(), [Some(taken)]);
}

#[test]
fn a_namespace_that_comes_back_is_a_new_one() {
    let mut world = World::default();
    world.settle();
    let (start, end) = (world.tick(1), world.tick(1));
    world.table.begin_sweep();
    world.table.end_sweep(&[GONE], start, end, &mut world.transitions);
    let socket = world.new_socket(Established, Form::Full, 1, 2);
    world.put(socket);
    world.settle();
    assert_eq!(world.table.len(), 1);
    assert_eq!(
        world.transitions,
        [],
        "what its first sweep finds was there before"
    );
}

/// A client whose connection has left a TIME_WAIT minisock.
fn in_time_wait(world: &mut World) -> super::world::Socket {
    world.connect();
    for choice in [1, 1, 1, 2] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.read(usize::MAX);
    world.pick(0).unwrap()
}

#[test]
fn a_socket_that_is_used_again_leaves_its_minisock_behind() {
    let mut world = World::default();
    let minisock = in_time_wait(&mut world);
    // `connect(AF_UNSPEC)`, then another connection: the same socket, so the same cookie.
    let mut again = minisock;
    again.form = Form::Full;
    again.state = Close;
    again.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), 9);
    world.go(again, SynSent);
    again.state = SynSent;
    world.go(again, Established);
    again.state = Established;
    world.read(usize::MAX);
    assert_eq!(world.table.len(), 2);
    assert_eq!(world.table.get(Cookie(1)).unwrap().state, Established);
    let told = world.transitions.len();
    for (seen, rows) in [
        (&[minisock, again][..], 2),
        (&[again, minisock], 2),
        (&[again], 2),
        (&[again], 1),
    ] {
        world.tick(1_000_000_000);
        world.sweep_that_sees(seen);
        assert_eq!(world.table.len(), rows, "{:?}", world.transitions);
        assert_eq!(world.table.get(Cookie(1)).unwrap().state, Established);
    }
    let [end] = &world.transitions[told..] else {
        panic!("{:?}", world.transitions)
    };
    assert_eq!((end.from, end.to), (Some(TimeWait), Close));
    assert_eq!(end.connection.local, minisock.connection.local);
}

#[test]
fn a_sweep_sees_that_a_socket_is_used_again_when_all_events_of_that_were_lost() {
    let mut world = World::default();
    world.connect();
    let before = world.pick(0).unwrap();
    world.advance(before, 1);
    let before = world.pick(0).unwrap();
    world.read(usize::MAX);
    world.sweep_that_sees(&[before]);
    assert_eq!(world.table.unannounced(), 0);
    let told = world.transitions.len();
    let mut again = before;
    again.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), 9);
    world.tick(1_000_000_000);
    world.sweep_that_sees(&[again]);
    let row = world.table.get(Cookie(1)).unwrap();
    assert_eq!((row.state, row.connection), (Established, again.connection));
    let steps: Vec<_> = world.transitions[told..]
        .iter()
        .map(|step| (step.connection.local, step.from, step.to, step.source))
        .collect();
    assert_eq!(
        steps,
        [
            (before.connection.local, Some(Established), Close, Source::Sweep),
            (again.connection.local, None, Established, Source::Sweep),
        ]
    );
    assert_eq!(world.table.unannounced(), 2);
    assert_eq!(world.table.len(), 1);
}

#[test]
fn both_connections_of_a_socket_are_found_by_a_first_sweep() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::default();
        let minisock = in_time_wait(&mut world);
        let mut again = minisock;
        again.form = Form::Full;
        again.state = Established;
        again.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), 9);
        world.table = Table::default();
        let both = [minisock, again];
        world.sweep_that_sees(&order.map(|number| both[number]));
        assert_eq!(world.table.len(), 2);
        assert_eq!(world.table.get(Cookie(1)).unwrap().state, Established);
    }
}

#[test]
fn a_minisock_stays_when_the_kernel_refuses_its_ports_to_another() {
    let mut world = World::default();
    let minisock = in_time_wait(&mut world);
    let mut other = world.new_socket(Close, Form::Full, 0, 0);
    other.connection.local = minisock.connection.local;
    other.connection.remote = minisock.connection.remote;
    world.go(other, SynSent);
    other.state = SynSent;
    world.end(other, None, |_| {});
    world.read(usize::MAX);
    assert_eq!(world.table.get(Cookie(1)).unwrap().state, TimeWait);
    assert!(
        world.table.unsettled().urgent > 0,
        "a sweep must say whether it is still there"
    );
    world.settle();
    assert_eq!(world.table.len(), 1);
}

/// With `tcp_max_tw_buckets` reached there is no minisock. The row is too young to be judged, but no answer has it.
#[test]
fn a_minisock_that_a_later_sweep_does_not_see_is_not_answered() {
    let mut world = World::default();
    let socket = world.new_socket(FinWait2, Form::Full, 80, 4000);
    world.announce(socket, Close, |event| event.peer_fin = true);
    world.read(usize::MAX);
    let cookie = socket.connection.cookie;
    assert!(
        !world.table.get(cookie).unwrap().doubtful(),
        "it may well be there"
    );
    world.sweep_that_sees(&[]);
    let row = world.table.get(cookie).unwrap();
    assert!(row.doubtful() && row.state == TimeWait);
    // One that is there after all is shown again.
    let mut minisock = world.new_socket(TimeWait, Form::Minisock, 80, 4000);
    minisock.connection = socket.connection;
    world.sweep_that_sees(&[minisock]);
    assert!(!world.table.get(cookie).unwrap().doubtful());
}

/// Two CPUs complete one handshake, and the child that comes too late has the cookie of the other one.
#[test]
fn a_rival_child_ends_nobodys_connection() {
    let mut world = World::default();
    let child = world.new_socket(Listen, Form::Full, 80, 4000);
    let mut rival = child;
    rival.skaddr.0 += 1;
    for (socket, from, to) in [
        (child, Listen, SynRecv),
        (rival, Listen, SynRecv),
        (child, SynRecv, Established),
        (rival, SynRecv, Close),
    ] {
        world.announce(
            Socket {
                state: from,
                ..socket
            },
            to,
            |_| (),
        );
    }
    world.read(usize::MAX);
    let row = world.table.get(child.connection.cookie).unwrap();
    assert_eq!(row.state, Established);
    // The other way round, after the connection is there.
    for (from, to) in [(Listen, SynRecv), (SynRecv, Close)] {
        world.announce(Socket { state: from, ..rival }, to, |_| ());
    }
    world.read(usize::MAX);
    assert_eq!(
        world.table.get(child.connection.cookie).unwrap().state,
        Established
    );
    assert_eq!(world.transitions.len(), 2, "{:?}", world.transitions);
}
