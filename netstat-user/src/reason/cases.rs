//! Every end that the kernel makes, with what it says of it, and the reason that must come out.

use super::{
    Abort, Cause, Closing, FollowUp, Known, Reason, Refusal, Side, Timeout, errno::*, may_be_ours,
    may_leave_fin_wait2, of_event, of_minisock,
};
use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns, SkAddr},
    facts::{Form, Standing, StateEvent},
    tcp::TcpState::{
        self, Close, CloseWait, Closing as ClosingState, Established, FinWait1, FinWait2, LastAck, Listen,
        SynRecv, SynSent, TimeWait,
    },
};

/// A socket that a process holds and that has not been shut in any direction.
const HELD: Standing = Standing {
    receive_shutdown: false,
    send_shutdown: false,
    held: true,
    linger0: false,
    in_system_call: false,
    connecting: false,
    unsent: false,
    unacked: 0,
    unread: 0,
    send_window: 65_535,
    retransmits: 0,
    probes: 0,
    soft_error: None,
    totals: crate::facts::Totals {
        bytes_acked: 0,
        bytes_received: 0,
        retransmits: 0,
        srtt_us: None,
    },
};

/// In a system call other than `close`.
const CALLED: Standing = Standing {
    in_system_call: true,
    ..HELD
};

/// `__tcp_close` before `sock_orphan`.
const CLOSING: Standing = Standing {
    receive_shutdown: true,
    send_shutdown: true,
    in_system_call: true,
    ..HELD
};

/// After `sock_orphan`.
const ORPHAN: Standing = Standing {
    receive_shutdown: true,
    send_shutdown: true,
    held: false,
    ..HELD
};

fn event(from: TcpState, error: u32, standing: Standing) -> StateEvent {
    let end = |port| Endpoint::new([127, 0, 0, 1].into(), port);
    StateEvent {
        time: Ktime(1),
        connection: Connection {
            cookie: Cookie(1),
            netns: Netns(1),
            family: Family::Inet,
            local: end(1),
            remote: end(2),
            device: None,
            mptcp: false,
        },
        skaddr: SkAddr(1),
        from,
        to: Close,
        error: (error != 0).then_some(error),
        peer_fin: false,
        orphan: standing == ORPHAN || (!standing.held && standing.send_shutdown),
        no_linger2: false,
        standing: Some(standing),
        owner: None,
        uid: 0,
        cgroup: None,
        fwmark: 0,
    }
}

fn why(from: TcpState, error: u32, standing: Standing) -> Option<Reason> {
    of_event(&event(from, error, standing), Known::default())
}

const fn timed_out(what: Timeout, tries: u8) -> Reason {
    Reason::TimedOut { what, tries }
}

const fn closed(by: Side, how: Option<Closing>) -> Reason {
    Reason::Closed { by: Some(by), how }
}

#[test]
fn errors() {
    use Reason::*;
    let cases = [
        // `tcp_reset`
        (SynSent, ECONNREFUSED, Refused(None)),
        (Established, ECONNRESET, ResetByPeer),
        (SynRecv, ECONNRESET, ResetByPeer),
        (FinWait1, ECONNRESET, ResetByPeer),
        (FinWait2, ECONNRESET, ResetByPeer),
        (LastAck, ECONNRESET, ResetByPeer),
        (ClosingState, ECONNRESET, ResetByPeer),
        (CloseWait, EPIPE, ResetByPeer),
        // `tcp_v4_err`: SYN_SENT ends at once
        (SynSent, EHOSTUNREACH, Unreachable(EHOSTUNREACH)),
        (SynSent, ENETUNREACH, Unreachable(ENETUNREACH)),
        (SynRecv, ECONNREFUSED, Unreachable(ECONNREFUSED)),
        // `tcp_write_err`: the soft error, once time is up
        (Established, EHOSTUNREACH, Unreachable(EHOSTUNREACH)),
        (LastAck, ECONNREFUSED, Unreachable(ECONNREFUSED)),
        // `tcp_abort`: a RST only where `tcp_need_reset`
        (Established, ECONNABORTED, ResetByUs(Abort::Killed)),
        (CloseWait, ECONNABORTED, ResetByUs(Abort::Killed)),
        (FinWait2, ECONNABORTED, ResetByUs(Abort::Killed)),
        (SynSent, ECONNABORTED, Abandoned(Abort::Killed)),
        (LastAck, ECONNABORTED, Abandoned(Abort::Killed)),
        (ClosingState, ECONNABORTED, Abandoned(Abort::Killed)),
        (Established, 5, Errno(5)),
    ];
    for (from, error, reason) in cases {
        for standing in [HELD, CALLED] {
            // The FIN is under way, or the socket would be gone.
            let unacked = u32::from(matches!(from, LastAck | ClosingState));
            let standing = Standing { unacked, ..standing };
            assert_eq!(
                why(from, error, standing),
                Some(reason),
                "{from} {error} {standing:?}"
            );
        }
    }
}

#[test]
fn timeouts() {
    let tried = |retransmits, probes, unacked| Standing {
        unacked,
        retransmits,
        probes,
        ..HELD
    };
    let shut = |standing| Standing {
        send_window: 0,
        ..standing
    };
    let cases = [
        // `tcp_write_timeout`
        (SynSent, tried(6, 0, 1), Timeout::Connect, 6),
        (SynRecv, tried(5, 0, 1), Timeout::Handshake, 5),
        (Established, tried(15, 0, 1000), Timeout::Data, 15),
        (CloseWait, tried(15, 0, 1), Timeout::Data, 15),
        (FinWait1, tried(8, 0, 1), Timeout::Fin, 8),
        (LastAck, tried(8, 0, 1), Timeout::Fin, 8),
        (FinWait1, tried(8, 0, 1001), Timeout::Data, 8),
        // Keepalive had begun when the application wrote something.
        (Established, tried(15, 3, 1000), Timeout::Data, 15),
        // `tcp_keepalive_timer`
        (Established, tried(0, 9, 0), Timeout::Keepalive, 9),
        (CloseWait, tried(0, 9, 0), Timeout::Keepalive, 9),
        // `tcp_probe_timer`; the first segment may not fit into a window that is open by a little
        (Established, shut(tried(0, 15, 1000)), Timeout::ZeroWindow, 15),
        (Established, tried(0, 15, 1000), Timeout::ZeroWindow, 15),
        // `tcp_rtx_probe0_timed_out`
        (Established, shut(tried(15, 0, 1000)), Timeout::ZeroWindow, 15),
    ];
    for (from, standing, what, tries) in cases {
        assert_eq!(
            why(from, ETIMEDOUT, standing),
            Some(timed_out(what, tries)),
            "{from} {standing:?}"
        );
    }
}

#[test]
fn aborts_by_close() {
    let unread = Standing { unread: 1, ..CLOSING };
    let linger = Standing {
        linger0: true,
        ..CLOSING
    };
    for from in [Established, CloseWait, FinWait1, FinWait2] {
        // `__tcp_close` asks for unread data first.
        let both = Standing {
            linger0: true,
            ..unread
        };
        for standing in [unread, both] {
            assert_eq!(why(from, 0, standing), Some(Reason::ResetByUs(Abort::UnreadData)));
        }
        assert_eq!(why(from, 0, linger), Some(Reason::ResetByUs(Abort::Linger0)));
    }
    for from in [ClosingState, LastAck] {
        // `tcp_disconnect` sends a RST only if something was never sent.
        let under_way = Standing { unacked: 1, ..linger };
        let unsent = Standing {
            unsent: true,
            ..under_way
        };
        assert_eq!(why(from, 0, under_way), Some(Reason::Abandoned(Abort::Linger0)));
        assert_eq!(why(from, 0, unsent), Some(Reason::ResetByUs(Abort::Linger0)));
    }
    // An ICMP message that the process has not asked for yet (`IP_RECVERR`) is not why.
    assert_eq!(
        why(Established, EHOSTUNREACH, linger),
        Some(Reason::ResetByUs(Abort::Linger0))
    );
    // A segment that came in while the process shut both directions down.
    assert_eq!(
        why(FinWait2, ETIMEDOUT, CLOSING),
        Some(timed_out(Timeout::Keepalive, 0))
    );
    // `TCP_REPAIR`: nothing of this can be seen.
    assert_eq!(why(Established, 0, CLOSING), None);
}

#[test]
fn before_there_is_a_connection() {
    let connecting = Standing {
        connecting: true,
        ..CALLED
    };
    // `tcp_close_state`
    assert_eq!(
        why(
            SynSent,
            0,
            Standing {
                connecting: true,
                ..CLOSING
            }
        ),
        Some(closed(Side::Us, Some(Closing::BeforeConnected)))
    );
    // `tcp_disconnect`
    assert_eq!(
        why(SynSent, 0, connecting),
        Some(closed(Side::Us, Some(Closing::BeforeConnected)))
    );
    // `tcp_v4_connect`
    assert_eq!(why(SynSent, 0, CALLED), Some(Reason::ConnectFailed(None)));
    assert_eq!(
        why(Listen, 0, CLOSING),
        Some(Reason::Closed { by: None, how: None })
    );
    assert_eq!(why(Listen, 0, CALLED), Some(Reason::ListenEnded));
    let reset = Known {
        reset_received: true,
        ..Known::default()
    };
    assert_eq!(
        of_event(&event(SynSent, ECONNREFUSED, HELD), reset),
        Some(Reason::Refused(Some(Refusal::Reset)))
    );
}

#[test]
fn disconnected_or_never_held() {
    let never = Standing { held: false, ..HELD };
    for from in [Established, CloseWait] {
        assert_eq!(why(from, 0, CALLED), Some(Reason::ResetByUs(Abort::Disconnected)));
        // `inet_child_forget`
        assert_eq!(why(from, 0, never), Some(Reason::ResetByUs(Abort::ListenerGone)));
    }
    let mut subflow = event(Established, 0, CALLED);
    subflow.connection.mptcp = true;
    assert_eq!(of_event(&subflow, Known::default()), None);
    let under_way = Standing { unacked: 1, ..CALLED };
    assert_eq!(
        why(LastAck, 0, under_way),
        Some(Reason::Abandoned(Abort::Disconnected))
    );
}

#[test]
fn orphans() {
    let under_way = Standing { unacked: 1, ..ORPHAN };
    // `tcp_rcv_state_process`
    assert_eq!(why(LastAck, 0, ORPHAN), Some(closed(Side::Peer, None)));
    assert_eq!(why(LastAck, 0, HELD), Some(closed(Side::Peer, None)));
    // `tcp_out_of_resources`
    for from in [FinWait1, LastAck, ClosingState] {
        assert_eq!(why(from, 0, under_way), Some(Reason::OutOfResources));
    }
    // `inet_csk_prepare_forced_close`
    let unborn = StateEvent {
        orphan: true,
        ..event(SynRecv, 0, Standing { held: false, ..HELD })
    };
    assert_eq!(
        of_event(&unborn, Known::default()),
        Some(Reason::Abandoned(Abort::NoMemory))
    );
    let us = Known {
        closed_by: Some(Side::Us),
        ..Known::default()
    };
    let leaves = event(FinWait2, 0, ORPHAN);
    // `tcp_time_wait` without room
    let peer_fin = StateEvent {
        peer_fin: true,
        ..leaves
    };
    assert_eq!(
        of_event(&peer_fin, us),
        Some(closed(Side::Us, Some(Closing::NoTimeWait)))
    );
    let no_linger2 = StateEvent {
        no_linger2: true,
        ..leaves
    };
    assert_eq!(of_event(&no_linger2, us), Some(Reason::ResetByUs(Abort::Linger2)));
    // `tcp_keepalive_timer`, which sends its RST first
    let reset_sent = Known {
        reset_sent: true,
        ..us
    };
    assert_eq!(
        of_event(&leaves, reset_sent),
        Some(timed_out(Timeout::FinWait2, 0))
    );
    assert_eq!(of_event(&leaves, us), None);
    for (follow_up, reason) in [
        // `tcp_rcv_state_process`: data with the acknowledgement of the FIN
        (FollowUp::Answer, Reason::ResetByUs(Abort::DataAfterClose)),
        // `tcp_time_wait` without room
        (FollowUp::Nothing, Reason::OutOfResources),
        // `__tcp_close`: `tcp_check_oom`
        (FollowUp::Reset, Reason::OutOfResources),
    ] {
        let follow_up = Some(follow_up);
        assert_eq!(of_event(&leaves, Known { follow_up, ..us }), Some(reason));
    }
}

/// What an ICMP message has left (`IP_RECVERR`) ends no connection by itself.
#[test]
fn pending_errors() {
    let us = Known {
        closed_by: Some(Side::Us),
        ..Known::default()
    };
    for standing in [HELD, ORPHAN] {
        let told = |from, peer_fin| {
            let pending = event(from, EHOSTUNREACH, standing);
            of_event(&StateEvent { peer_fin, ..pending }, us)
        };
        let no_time_wait = Some(closed(Side::Us, Some(Closing::NoTimeWait)));
        assert_eq!(told(FinWait2, true), no_time_wait);
        assert_eq!(told(ClosingState, true), no_time_wait);
        assert_eq!(told(LastAck, true), Some(closed(Side::Us, None)));
    }
    let orphaned = |error| event(FinWait2, error, ORPHAN);
    assert!(may_leave_fin_wait2(&orphaned(EHOSTUNREACH)));
    assert_eq!(of_event(&orphaned(EHOSTUNREACH), us), None);
    for error in [ECONNRESET, ECONNABORTED] {
        assert!(!may_leave_fin_wait2(&orphaned(error)));
    }
}

#[test]
fn whose_reset_it_was() {
    for from in [FinWait1, FinWait2] {
        let end = event(from, ECONNRESET, ORPHAN);
        assert!(may_be_ours(&end));
        for (follow_up, reason) in [
            (Some(FollowUp::Answer), Reason::ResetByUs(Abort::DataAfterClose)),
            (Some(FollowUp::Nothing), Reason::ResetByPeer),
            (None, Reason::Reset),
        ] {
            let known = Known {
                follow_up,
                ..Known::default()
            };
            assert_eq!(of_event(&end, known), Some(reason));
        }
        // Data may still come to a socket that is only shut for writing.
        assert!(!may_be_ours(&event(from, ECONNRESET, HELD)));
    }
    assert!(!may_be_ours(&event(Established, ECONNRESET, HELD)));
    assert!(!may_be_ours(&event(FinWait1, ETIMEDOUT, ORPHAN)));
}

#[test]
fn minisocks() {
    let gone = |state, cause| of_minisock(state, Form::Minisock, cause, Some(Side::Us));
    for (cause, how) in [
        (Cause::Unknown, None),
        (Cause::Expired, Some(Closing::TimeWaitOver)),
        (Cause::Taken, Some(Closing::PortsTaken)),
        (Cause::Namespace, Some(Closing::NamespaceGone)),
    ] {
        assert_eq!(gone(TimeWait, cause), Some(closed(Side::Us, how)));
    }
    assert_eq!(
        gone(FinWait2, Cause::Expired),
        Some(timed_out(Timeout::FinWait2, 0))
    );
    assert_eq!(
        gone(FinWait2, Cause::Answered),
        Some(Reason::ResetByUs(Abort::DataAfterClose))
    );
    assert_eq!(gone(FinWait2, Cause::ResetByPeer), Some(Reason::ResetByPeer));
    assert_eq!(
        gone(FinWait2, Cause::OutOfResources),
        Some(Reason::OutOfResources)
    );
    assert_eq!(gone(FinWait2, Cause::Namespace), Some(Reason::NamespaceGone));
    assert_eq!(gone(FinWait2, Cause::Unknown), None);
    let sweep = |form, state| of_minisock(state, form, Cause::Unknown, None);
    assert_eq!(sweep(Form::Full, Established), None);
    assert_eq!(sweep(Form::Request, SynRecv), None);
    let half_open = |cause| of_minisock(SynRecv, Form::Request, cause, None);
    assert_eq!(
        half_open(Cause::Unanswered(5)),
        Some(timed_out(Timeout::Handshake, 5))
    );
    assert_eq!(
        half_open(Cause::ListenerGone),
        Some(Reason::Abandoned(Abort::ListenerGone))
    );
}

#[test]
fn texts() {
    let us = Reason::Closed {
        by: Some(Side::Us),
        how: Some(Closing::TimeWaitOver),
    };
    assert_eq!(us.to_string(), "closed, us first: TIME_WAIT over");
    let tried = |what, tries| Reason::TimedOut { what, tries }.to_string();
    assert_eq!(
        tried(Timeout::Connect, 1),
        "timed out: no answer to the SYN, 1 retransmission"
    );
    assert_eq!(
        tried(Timeout::Keepalive, 9),
        "timed out: no answer to keepalive, 9 probes"
    );
    assert_eq!(Reason::ResetByPeer.to_string(), "reset by peer");
    // A RST is never called a normal close.
    for abort in [
        Reason::ResetByPeer,
        Reason::Reset,
        Reason::ResetByUs(Abort::Linger0),
    ] {
        assert!(!abort.is_orderly() && abort.word().contains("reset"));
    }
}
