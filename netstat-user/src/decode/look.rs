//! The record of a look at a single sock, which goes both ways.

use netstat_ebpf::wire::{SocketLook, look};
use zerocopy::FromZeros;

use crate::{
    facts::{Look, LookKind, Looked, Queues, Sight},
    tcp::TcpState,
};

/// The record that asks for this look.
#[must_use]
pub fn look_record(asked: &Look) -> SocketLook {
    SocketLook {
        skaddr: asked.skaddr.0,
        kind: match asked.kind {
            LookKind::Connection => look::FULL,
            LookKind::Listener => look::LISTENER,
            LookKind::Minisock => look::MINISOCK,
        },
        ..SocketLook::new_zeroed()
    }
}

/// What the record says when the kernel has answered it.
#[must_use]
pub fn looked(asked: &Look, found: &SocketLook) -> Looked {
    if found.error != 0 {
        return Looked::Unclear;
    }
    if found.cookie != asked.cookie.0 {
        return Looked::Gone;
    }
    let [first, second, third, fourth] = found.numbers;
    let mut state = found.state;
    let mut requests = 0;
    let mut queues = Queues::default();
    match asked.kind {
        LookKind::Minisock => {
            // One that is taken out of the hash is not put there again. Memory that has been freed can have the cookie still, but
            // no reference (`inet_twsk_kill`, `inet_twsk_put`).
            let (hashed, references) = (found.hashed != 0, first);
            if !hashed || references == 0 {
                return Looked::Gone;
            }
            if state != TcpState::TimeWait as u8 {
                return Looked::Unclear;
            }
            state = found.substate;
        }
        LookKind::Listener => {
            (queues.recv, queues.backlog, requests) = (first, second, third);
        }
        LookKind::Connection => {
            // As `get_tcp4_sock`: the peer's FIN can put `copied_seq` one past `rcv_nxt`. Nothing holds the socket, so data may come
            // and be read, or be written and acknowledged, between two of the reads, too.
            queues.recv = at_least_0(first.wrapping_sub(second));
            let unacknowledged = third.wrapping_sub(fourth);
            // After `TCP_FASTOPEN_CONNECT` a SYN_SENT has its first sequence number there.
            queues.send = if state == TcpState::SynSent as u8 {
                unacknowledged
            } else {
                at_least_0(unacknowledged)
            };
        }
    }
    match TcpState::try_from(state) {
        Ok(state) => Looked::There(Sight {
            state,
            requests,
            queues,
        }),
        Err(_) => Looked::Unclear,
    }
}

/// A difference of sequence numbers, which is 0 if it is negative.
const fn at_least_0(difference: u32) -> u32 {
    if difference.cast_signed() < 0 {
        0
    } else {
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Cookie, SkAddr};

    const COOKIE: u64 = 7;

    fn asked(kind: LookKind) -> Look {
        Look {
            skaddr: SkAddr(0xffff_8000_0000_0040),
            cookie: Cookie(COOKIE),
            kind,
        }
    }

    /// The record of a look that has found what it was for.
    fn found(kind: LookKind, state: TcpState, numbers: [u32; 4]) -> SocketLook {
        SocketLook {
            cookie: COOKIE,
            hashed: 1,
            numbers,
            state: state as u8,
            ..look_record(&asked(kind))
        }
    }

    fn sight(kind: LookKind, found: &SocketLook) -> Sight {
        match looked(&asked(kind), found) {
            Looked::There(sight) => sight,
            other => panic!("{other:?}: {found:?}"),
        }
    }

    #[test]
    fn connections_have_queues() {
        let of = |state, numbers| {
            let found = found(LookKind::Connection, state, numbers);
            let sight = sight(LookKind::Connection, &found);
            assert_eq!((sight.state, sight.queues.backlog), (state, 0));
            (sight.queues.recv, sight.queues.send)
        };
        assert_eq!(of(TcpState::Established, [110, 100, 55, 50]), (10, 5));
        // The numbers begin again, and the peer's FIN counts.
        assert_eq!(of(TcpState::CloseWait, [100, 101, 3, u32::MAX - 1]), (0, 5));
        // Acknowledged between two reads.
        assert_eq!(of(TcpState::Established, [0, 0, 50, 55]), (0, 0));
        assert_eq!(of(TcpState::SynSent, [0, 0, u32::MAX, 0]), (0, u32::MAX));
    }

    #[test]
    fn listeners_have_connections_that_wait() {
        let found = found(LookKind::Listener, TcpState::Listen, [3, 128, 2, 0]);
        let sight = sight(LookKind::Listener, &found);
        let queues = Queues {
            recv: 3,
            send: 0,
            backlog: 128,
        };
        assert_eq!((sight.queues, sight.requests), (queues, 2));
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        for kind in [LookKind::Connection, LookKind::Listener, LookKind::Minisock] {
            let good = found(kind, TcpState::TimeWait, [1; 4]);
            let looked = |found| looked(&asked(kind), &found);
            assert_eq!(looked(SocketLook { error: 1, ..good }), Looked::Unclear);
            let another = SocketLook { cookie: 8, ..good };
            assert_eq!(looked(another), Looked::Gone);
            let senseless = SocketLook { state: 99, ..good };
            assert_eq!(looked(senseless), Looked::Unclear);
        }
    }

    #[test]
    fn a_minisock_is_there_as_long_as_it_is_in_the_hash() {
        let good = SocketLook {
            substate: TcpState::FinWait2 as u8,
            ..found(LookKind::Minisock, TcpState::TimeWait, [1, 0, 0, 0])
        };
        assert_eq!(sight(LookKind::Minisock, &good).state, TcpState::FinWait2);
        let looked = |found| looked(&asked(LookKind::Minisock), &found);
        assert_eq!(looked(SocketLook { hashed: 0, ..good }), Looked::Gone);
        assert_eq!(
            looked(SocketLook {
                numbers: [0; 4],
                ..good
            }),
            Looked::Gone
        );
        assert_eq!(looked(SocketLook { substate: 0, ..good }), Looked::Unclear);
    }
}
