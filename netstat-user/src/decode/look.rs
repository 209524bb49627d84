//! The record of a look at a single sock, which goes both ways.

use netstat_ebpf::wire::{SocketLook, look};
use zerocopy::FromZeros;

use crate::{
    facts::{Form, Look, Looked, Queues},
    tcp::TcpState,
};

/// The record that asks for this look.
#[must_use]
pub fn look_record(asked: &Look) -> SocketLook {
    SocketLook {
        skaddr: asked.skaddr.0,
        kind: match (asked.form, asked.state) {
            (Form::Full, TcpState::Listen) => look::LISTENER,
            (Form::Full, _) if asked.mptcp => look::SUBFLOW,
            (Form::Full, _) => look::FULL,
            (Form::Minisock | Form::Request, _) => look::MINISOCK,
        },
        ..SocketLook::new_zeroed()
    }
}

/// What the record says when the kernel has answered it. `None` when what is there is not this sock any more, or is in no state
/// that there is.
#[must_use]
pub fn looked(asked: &Look, found: &SocketLook) -> Option<Looked> {
    if found.error != 0 || found.cookie != asked.cookie.0 {
        return None;
    }
    let state = TcpState::try_from(found.state).ok()?;
    let [first, second, third, fourth] = found.numbers;
    let mut looked = Looked {
        state,
        mptcp: found.mptcp != 0,
        requests: 0,
        queues: Queues::default(),
    };
    match found.kind {
        look::MINISOCK => {
            // One that is taken out of the hash is not put there again. Memory that has been freed can have the cookie still, but
            // no reference (`inet_twsk_kill`, `inet_twsk_put`).
            let (hashed, references) = (found.hashed != 0, first);
            if state != TcpState::TimeWait || !hashed || references == 0 {
                return None;
            }
            looked.state = TcpState::try_from(found.substate).ok()?;
        }
        look::LISTENER => {
            (looked.queues.recv, looked.queues.backlog) = (first, second);
            looked.requests = third;
        }
        _ => {
            // As `get_tcp4_sock`: the peer's FIN can put `copied_seq` one past `rcv_nxt`.
            let unread = first.wrapping_sub(second);
            looked.queues.recv = if unread.cast_signed() < 0 { 0 } else { unread };
            looked.queues.send = third.wrapping_sub(fourth);
        }
    }
    Some(looked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Cookie, SkAddr};

    const COOKIE: u64 = 7;

    fn asked(form: Form, state: TcpState, mptcp: bool) -> Look {
        Look {
            skaddr: SkAddr(0xffff_8000_0000_0040),
            cookie: Cookie(COOKIE),
            form,
            state,
            mptcp,
        }
    }

    /// The record of a look that has found what it was for.
    fn found(asked: &Look, numbers: [u32; 4]) -> SocketLook {
        SocketLook {
            cookie: COOKIE,
            hashed: 1,
            numbers,
            state: asked.state as u8,
            mptcp: asked.mptcp.into(),
            ..look_record(asked)
        }
    }

    #[test]
    fn connections_have_queues() {
        let asked = asked(Form::Full, TcpState::Established, true);
        let looked = looked(&asked, &found(&asked, [110, 100, 55, 50])).unwrap();
        assert_eq!((looked.state, looked.mptcp), (TcpState::Established, true));
        assert_eq!((looked.queues.recv, looked.queues.send), (10, 5));
        // The numbers begin again, and the peer's FIN counts.
        let looked = super::looked(&asked, &found(&asked, [100, 101, 3, u32::MAX - 1])).unwrap();
        assert_eq!((looked.queues.recv, looked.queues.send), (0, 5));
    }

    #[test]
    fn listeners_have_connections_that_wait() {
        let asked = asked(Form::Full, TcpState::Listen, false);
        let looked = looked(&asked, &found(&asked, [3, 128, 2, 0])).unwrap();
        let queues = Queues {
            recv: 3,
            send: 0,
            backlog: 128,
        };
        assert_eq!((looked.queues, looked.requests), (queues, 2));
    }

    #[test]
    fn what_is_not_there_any_more_is_not_found() {
        let full = asked(Form::Full, TcpState::Established, false);
        let good = found(&full, [0; 4]);
        assert!(looked(&full, &good).is_some());
        for bad in [
            look_record(&full),
            SocketLook { cookie: 8, ..good },
            SocketLook { error: 1, ..good },
            SocketLook { state: 99, ..good },
        ] {
            assert_eq!(looked(&full, &bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_minisock_is_there_as_long_as_it_is_in_the_hash() {
        let minisock = asked(Form::Minisock, TcpState::TimeWait, false);
        let good = SocketLook {
            substate: TcpState::FinWait2 as u8,
            ..found(&minisock, [1, 0, 0, 0])
        };
        assert_eq!(looked(&minisock, &good).unwrap().state, TcpState::FinWait2);
        for bad in [
            SocketLook { hashed: 0, ..good },
            SocketLook {
                numbers: [0; 4],
                ..good
            },
            SocketLook { substate: 0, ..good },
            SocketLook {
                state: TcpState::Established as u8,
                ..good
            },
        ] {
            assert_eq!(looked(&minisock, &bad), None, "{bad:?}");
        }
    }
}
