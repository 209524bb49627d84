//! Ends whose reason takes more than their event.

use std::time::Duration;

use super::world::{Socket, World, sighting};
use crate::{
    clock::Ktime,
    connection::Cookie,
    facts::{ConnectFailure, Form, Occurrence, Sighting, Standing},
    reason::{Abort, Reason, Timeout},
    table::{ANSWER, NamespaceSweep, Row},
    tcp::TcpState::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, SynRecv, SynSent},
};

/// A client in the state after so many steps, all of them read.
fn client(choices: &[u8]) -> (World, Socket) {
    client_in(World::default(), choices)
}

fn client_in(mut world: World, choices: &[u8]) -> (World, Socket) {
    world.connect();
    for &choice in choices {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.read(usize::MAX);
    let socket = world.pick(0).unwrap();
    (world, socket)
}

fn last_reason(world: &World) -> Option<Reason> {
    let last = world.transitions.last().unwrap();
    assert_eq!(last.to, Close, "{last:?}");
    last.reason
}

#[test]
fn an_end_waits_for_what_says_whose_it_was() {
    for ours in [false, true] {
        let (mut world, socket) = client(&[1, 1]);
        assert_eq!(socket.state, FinWait1);
        let told = world.transitions.len();
        while world.now.is_multiple_of(2) != ours {
            world.tick(1);
        }
        world.reset(socket);
        let announced = Ktime(world.now);
        // What came, and that it ended the connection.
        world.read(2);
        assert_eq!(world.transitions.len(), told, "nobody can know yet");
        assert!(world.table.is_waiting());
        assert!(world.table.rows().all(Row::doubtful));
        world
            .table
            .release(announced.plus(ANSWER / 2), &mut world.transitions);
        assert_eq!(world.transitions.len(), told, "released too early");
        if ours {
            world.read(usize::MAX);
            assert_eq!(
                last_reason(&world),
                Some(Reason::ResetByUs(Abort::DataAfterClose))
            );
        } else {
            world
                .table
                .release(announced.plus(ANSWER), &mut world.transitions);
            assert_eq!(last_reason(&world), Some(Reason::ResetByPeer));
        }
        assert!(world.table.is_empty() && !world.table.is_waiting());
    }
}

#[test]
fn a_socket_that_is_used_again_does_not_wait() {
    let (mut world, socket) = client(&[1, 1]);
    while world.now.is_multiple_of(2) {
        world.tick(1);
    }
    world.reset(socket);
    let mut again = socket;
    again.state = Close;
    world.go(again, SynSent);
    world.read(usize::MAX);
    let reasons: Vec<_> = world
        .transitions
        .iter()
        .filter(|step| step.to == Close)
        .map(|step| step.reason)
        .collect();
    assert_eq!(reasons, [Some(Reason::ResetByPeer)]);
    assert_eq!(world.table.get(Cookie(1)).unwrap().state, SynSent);
}

#[test]
fn without_the_marks_it_is_a_reset_and_no_more() {
    let (mut world, socket) = client(&[1, 1]);
    world.reset(socket);
    // As where the kernel lacks the tracepoints.
    world
        .ring
        .retain(|record| !matches!(record, super::world::Record::Mark(_)));
    world.read(usize::MAX);
    assert_eq!(last_reason(&world), Some(Reason::Reset));
}

#[test]
fn a_minisock_that_answers_with_a_reset_has_ended() {
    let (mut world, socket) = client(&[1, 1, 1, 0]);
    assert_eq!((socket.state, socket.form), (FinWait2, Form::Minisock));
    world.mark(socket, Occurrence::ResetAnswered);
    world.read(usize::MAX);
    assert_eq!(
        last_reason(&world),
        Some(Reason::ResetByUs(Abort::DataAfterClose))
    );
    assert!(world.table.is_empty());
}

/// The data came with the acknowledgement of the FIN (`tcp_rcv_state_process`), or there were too many orphans
/// (`tcp_check_oom`): what looked like the beginning of a minisock was the end.
#[test]
fn a_minisock_that_was_only_assumed_was_not_there() {
    for (sent, reason) in RESETS {
        let (mut world, socket) = client(&[1, 1, 1]);
        assert_eq!((socket.state, socket.form), (FinWait2, Form::Full));
        world.end(socket, None, |event| event.orphan = true);
        world.read(usize::MAX);
        assert_eq!(world.table.get(Cookie(1)).unwrap().state, FinWait2);
        let state = Close;
        world.mark(Socket { state, ..socket }, sent);
        world.read(usize::MAX);
        assert_eq!(last_reason(&world), Some(reason));
        assert!(world.table.is_empty());
    }
}

/// RSTs that follow the end of an orphan in FIN_WAIT2, and what they say.
const RESETS: [(Occurrence, Reason); 2] = [
    (
        Occurrence::ResetAnswered,
        Reason::ResetByUs(Abort::DataAfterClose),
    ),
    (Occurrence::ResetSent, Reason::OutOfResources),
];

/// Where hooks tell of minisocks, there is no word of one; so the end waits for the RST. Without that there was no room.
#[test]
fn a_minisock_that_no_hook_tells_of_was_not_there() {
    let resets = RESETS.map(|(sent, reason)| (Some(sent), reason));
    for (sent, reason) in resets.into_iter().chain([(None, Reason::OutOfResources)]) {
        let (mut world, socket) = client_in(World::hooked(), &[1, 1, 1]);
        assert_eq!((socket.state, socket.form), (FinWait2, Form::Full));
        world.end(socket, None, |event| {
            event.orphan = true;
            event.standing = Some(Standing::default());
        });
        let announced = Ktime(world.now);
        world.read(usize::MAX);
        assert!(world.table.is_waiting());
        if let Some(sent) = sent {
            let state = Close;
            world.mark(Socket { state, ..socket }, sent);
            world.read(usize::MAX);
        } else {
            world
                .table
                .release(announced.plus(ANSWER), &mut world.transitions);
        }
        assert_eq!(last_reason(&world), Some(reason));
        assert!(world.table.is_empty() && !world.table.is_waiting());
    }
}

/// `tcp_keepalive_timer` sends a RST, and then ends an orphan that has waited in FIN_WAIT2 as a full sock.
#[test]
fn an_orphan_that_is_given_up_leaves_no_minisock() {
    let (mut world, socket) = client(&[1, 1, 1]);
    assert_eq!((socket.state, socket.form), (FinWait2, Form::Full));
    world.mark(socket, Occurrence::ResetSent);
    world.end(socket, None, |event| {
        event.orphan = true;
        event.standing = Some(Standing::default());
    });
    world.read(usize::MAX);
    let given_up = Reason::TimedOut {
        what: Timeout::FinWait2,
        tries: 0,
    };
    assert_eq!(last_reason(&world), Some(given_up));
    assert!(world.table.is_empty());
}

/// Whoever aborts a connection in CLOSING, by `SO_LINGER` or for want of memory, leaves no TIME_WAIT: the FIN is under way.
#[test]
fn an_abort_in_closing_leaves_no_minisock() {
    for unacked in [0, 1] {
        let (mut world, mut socket) = client(&[1, 1]);
        assert_eq!(socket.state, FinWait1);
        world.go(socket, Closing);
        socket.state = Closing;
        world.end(socket, None, |event| {
            event.orphan = true;
            event.standing = Some(Standing {
                unacked,
                ..Standing::default()
            });
        });
        world.read(usize::MAX);
        assert_eq!(world.table.is_empty(), unacked > 0);
        if unacked > 0 {
            assert_eq!(last_reason(&world), Some(Reason::OutOfResources));
        }
    }
}

/// The peer's RST ends a minisock in FIN_WAIT2 without a word. Where the peer is on this host, too, the table has seen it sent.
#[test]
fn a_minisock_whose_peer_has_sent_a_reset() {
    for survives in [false, true] {
        let (mut world, socket) = client(&[1, 1, 1, 0]);
        assert_eq!((socket.state, socket.form), (FinWait2, Form::Minisock));
        let (client, server) = (socket.connection.local, socket.connection.remote);
        let ports = (server.port().unwrap(), client.port().unwrap());
        let mut peer = world.new_socket(SynRecv, Form::Full, ports.0, ports.1);
        for state in [Established, CloseWait] {
            world.go(peer, state);
            peer.state = state;
        }
        world.end(peer, None, |event| {
            event.standing = Some(Standing {
                held: true,
                linger0: true,
                in_system_call: true,
                receive_shutdown: true,
                send_shutdown: true,
                ..Standing::default()
            });
        });
        world.read(usize::MAX);
        assert_eq!(world.table.len(), 1, "whether it is gone, nobody has said");
        let seen: &[Socket] = if survives { &[socket] } else { &[] };
        for sockets in [seen, &[]] {
            world.tick(1_000_000_000);
            world.sweep_that_sees(sockets);
        }
        assert!(world.table.is_empty());
        // If a scan has seen it since, the RST did not get there.
        let reason = (!survives).then_some(Reason::ResetByPeer);
        assert_eq!(last_reason(&world), reason);
    }
}

fn failure_of(socket: Socket, time: Ktime) -> ConnectFailure {
    ConnectFailure {
        time,
        connection: socket.connection,
        error: 99,
        fwmark: 0,
        owner: None,
        uid: 0,
        cgroup: None,
    }
}

/// Where hooks report what `connect` returns, its end waits for the errno, and is the only report of that call.
#[test]
fn a_connect_that_fails_after_syn_sent_is_reported_once() {
    for hooked in [true, false] {
        let world = if hooked { World::hooked() } else { World::default() };
        let (mut world, socket) = client_in(world, &[]);
        assert_eq!(socket.state, SynSent);
        world.end(socket, None, |event| {
            event.standing = Some(Standing {
                held: true,
                in_system_call: true,
                ..Standing::default()
            });
        });
        world.read(usize::MAX);
        assert_eq!(world.table.is_waiting(), hooked);
        if hooked {
            let failure = failure_of(socket, Ktime(world.now));
            let alone = world
                .table
                .apply_connect_failure(&failure, &mut world.transitions);
            assert!(!alone);
        }
        let errno = hooked.then_some(99);
        assert_eq!(last_reason(&world), Some(Reason::ConnectFailed(errno)));
        assert!(world.table.is_empty() && !world.table.is_waiting());
    }
}

#[test]
fn a_connect_that_fails_before_syn_sent_leaves_no_row() {
    let mut world = World::hooked();
    let socket = world.new_socket(Close, Form::Full, 0, 80);
    let alone = world
        .table
        .apply_connect_failure(&failure_of(socket, Ktime(1)), &mut world.transitions);
    assert!(alone && world.transitions.is_empty() && world.table.is_empty());
}

/// A sweep has seen when the timer of a minisock in FIN_WAIT2 is due.
#[test]
fn a_minisock_that_is_gone_when_it_is_due_has_expired() {
    for late in [true, false] {
        let (mut world, socket) = client(&[1, 1, 1, 0]);
        let netns = sighting(&socket, Ktime(0)).connection.netns;
        let seen = world.now + 1_000_000_000;
        let due = Ktime(seen + 1_000_000_000);
        for (now, sightings) in [
            (
                seen,
                vec![Sighting {
                    due: Some(due),
                    ..sighting(&socket, Ktime(seen))
                }],
            ),
            (if late { due.0 + 1 } else { due.0 - 1 }, vec![]),
        ] {
            world.table.begin_sweep();
            let sweep = NamespaceSweep {
                netns,
                start: Ktime(now),
                end: Ktime(now),
                sightings,
            };
            world.table.apply_sweep(&sweep, &mut world.transitions);
            world
                .table
                .end_sweep(&[], Ktime(now), Ktime(now), &mut world.transitions);
        }
        let expired = Reason::TimedOut {
            what: Timeout::FinWait2,
            tries: 0,
        };
        assert_eq!(last_reason(&world), late.then_some(expired));
    }
}

#[test]
fn retransmissions_are_counted_by_state() {
    let (mut world, socket) = client(&[]);
    assert_eq!(socket.state, SynSent);
    for _ in 0..1000 {
        world.mark(socket, Occurrence::Retransmit);
    }
    world.go(socket, Established);
    let socket = world.pick(0).unwrap();
    world.mark(socket, Occurrence::Retransmit);
    world.read(usize::MAX);
    let row = world.table.get(Cookie(1)).unwrap();
    let counts: Vec<_> = row.marks().iter().map(|mark| mark.count).collect();
    assert_eq!(counts, [1000, 1]);
    let first = row.marks()[0];
    assert_eq!(first.last.since(first.first), Duration::from_nanos(999));
}
