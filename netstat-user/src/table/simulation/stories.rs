//! Histories that matter, one by one.

use super::world::{NETNS, World};
use crate::{
    connection::Cookie,
    facts::Form,
    reason::Reason,
    table::{Lost, Source},
    tcp::TcpState::{Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent, TimeWait},
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
    assert_eq!(row.history().len(), 5);
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
    let steps: Vec<_> = child.history().iter().map(|step| step.to).collect();
    assert_eq!(steps, [SynRecv, Established]);
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
        assert!(world.table.is_empty(), "{:?}", world.transitions);
        assert_eq!(
            world.transitions.last().unwrap().reason,
            Some(Reason::ResetByPeer)
        );
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
    other.connection.device = Some(7);
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
        .filter(|step| step.reason == Some(Reason::Reused));
    assert_eq!(reused.count(), 1);
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
