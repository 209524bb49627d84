//! Ends whose reason takes more than their event.

use std::time::Duration;

use super::world::{Socket, World};
use crate::{
    clock::Ktime,
    connection::Cookie,
    facts::{Form, Occurrence},
    reason::{Abort, Reason},
    table::{ANSWER, Row},
    tcp::TcpState::{Close, Established, FinWait1, FinWait2, SynSent},
};

/// A client in the state after so many steps, all of them read.
fn client(choices: &[u8]) -> (World, Socket) {
    let mut world = World::default();
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

/// The data came with the acknowledgement of the FIN (`tcp_rcv_state_process`): what looked like the beginning of a minisock
/// was the end.
#[test]
fn a_minisock_that_was_only_assumed_was_not_there() {
    let (mut world, socket) = client(&[1, 1, 1]);
    assert_eq!((socket.state, socket.form), (FinWait2, Form::Full));
    world.end(socket, None, |event| event.orphan = true);
    world.read(usize::MAX);
    assert_eq!(world.table.get(Cookie(1)).unwrap().state, FinWait2);
    let state = Close;
    world.mark(Socket { state, ..socket }, Occurrence::ResetAnswered);
    world.read(usize::MAX);
    assert_eq!(
        last_reason(&world),
        Some(Reason::ResetByUs(Abort::DataAfterClose))
    );
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
