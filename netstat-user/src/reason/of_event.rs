//! The reason of an end that the kernel announced: what the event says, and what the row's history adds.
//!
//! Kernel functions are those of 6.12; 6.1 does the same.

use super::{Abort, Closing, Reason, Refusal, Side, Timeout, errno};
use crate::{
    facts::{Standing, StateEvent},
    tcp::TcpState::{
        self, CloseWait, Closing as ClosingState, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv,
        SynSent,
    },
};

/// What is known of a connection besides the event that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// Who closed first, as far as was seen.
    pub(crate) closed_by: Option<Side>,
    /// A RST has come in the state that it leaves, or what the kernel takes for one.
    pub(crate) reset_received: bool,
    /// A RST was sent in the state that it leaves, and no segment had asked for it.
    pub(crate) reset_sent: bool,
    /// What the kernel sent or returned right after the event; `None` when that is unknown.
    pub(crate) follow_up: Option<FollowUp>,
}

/// What the kernel sends or returns right after an event that ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// No RST.
    Nothing,
    /// A RST in answer to the segment that caused the event (`tcp_v4_send_reset`).
    Answer,
    /// A RST that no segment asked for (`tcp_send_active_reset`).
    Reset,
    /// `connect` has returned this errno.
    ConnectFailed(u32),
}

/// Why `event`, which leaves nothing of the connection, came; `None` when that is not certain.
pub(crate) fn of_event(event: &StateEvent, known: Known) -> Option<Reason> {
    let from = event.from;
    let Some(standing) = &event.standing else {
        return fatal_error(event).map(|error| by_error(event, error, known));
    };
    if is_in_order(event) == Some(true) {
        return Some(in_order(from, known.closed_by));
    }
    if is_closing(event, standing) {
        let reason = by_close(from, standing);
        // `TCP_REPAIR` ends a connection in a way of its own, and shows nothing of it.
        if reason.is_some() || is_open(from) {
            return reason;
        }
    }
    match fatal_error(event) {
        Some(error) => Some(by_error(event, error, known)),
        None if event.orphan => orphan(event, known),
        None => held(event, standing, known),
    }
}

/// Whether the reason of `event` depends on what follows it: `tcp_rcv_state_process` ends a closed socket that gets data by
/// `tcp_reset`, as if a RST had come, and answers with one only then.
///
/// In the states after the peer's FIN that would take a segment that reaches beyond it, which no peer sends that
/// keeps to the rules; those are taken for the peer's RST.
pub(crate) fn may_be_ours(event: &StateEvent) -> bool {
    let closed = event.standing.is_some_and(|standing| standing.receive_shutdown);
    closed && event.error == Some(errno::ECONNRESET) && matches!(event.from, FinWait1 | FinWait2)
}

/// Whether `event` closes an orphan in FIN_WAIT2 as `tcp_time_wait` does, whether or not it has made a minisock. So do
/// `tcp_rcv_state_process` when data comes with the acknowledgement of the FIN, `__tcp_close` when there are too many
/// orphans, and `tcp_keepalive_timer` when time is up.
pub(crate) fn may_leave_fin_wait2(event: &StateEvent) -> bool {
    let ended = event.from == FinWait2 && fatal_error(event).is_none();
    ended && event.orphan && !event.peer_fin && !event.no_linger2
}

/// Whether `event` ends a connection of which both FINs have been acknowledged; `None` if the event does not say.
///
/// In FIN_WAIT2 only `tcp_fin` sets `SOCK_DONE`, and goes on to `tcp_time_wait`. In CLOSING and LAST_ACK the kernel acts on the
/// acknowledgement of the FIN at once (`tcp_rcv_state_process`), so every other end comes before it. An error that is pending has
/// ended nothing then.
pub(crate) fn is_in_order(event: &StateEvent) -> Option<bool> {
    match event.from {
        FinWait2 => Some(event.peer_fin),
        ClosingState | LastAck => event.standing.map(|standing| standing.unacked == 0),
        _ => Some(false),
    }
}

/// The error that has ended the connection.
///
/// A pending error need not be one: ICMP messages leave theirs (`tcp_v4_err` with `IP_RECVERR`), and so does kTLS
/// (`tls_err_abort`). An orphan in FIN_WAIT2 is ended with an error by `tcp_reset` and `tcp_abort` alone.
pub(crate) fn fatal_error(event: &StateEvent) -> Option<u32> {
    let orphaned = event.from == FinWait2 && event.orphan;
    event
        .error
        .filter(|error| !orphaned || matches!(*error, errno::ECONNRESET | errno::ECONNABORTED))
}

/// Whether `event` is how `tcp_v4_connect` and `tcp_v6_connect` take the state back when there is no port, or no route.
/// Where hooks report what those return, the errno follows.
pub(crate) fn is_failing_connect(event: &StateEvent) -> bool {
    let calling = event
        .standing
        .is_some_and(|standing| standing.in_system_call && !standing.connecting);
    calling && event.from == SynSent && event.error.is_none() && !event.orphan
}

/// `tcp_need_reset`: the states in which an abort sends a RST.
const fn needs_reset(state: TcpState) -> bool {
    matches!(state, Established | CloseWait | FinWait1 | FinWait2 | SynRecv)
}

/// Whether this is `__tcp_close` before the socket is an orphan. `shutdown` of both directions looks the same, but has
/// moved on a connection that had not begun to close; and where it had, there is an error or there is `close`.
fn is_closing(event: &StateEvent, standing: &Standing) -> bool {
    let shut = standing.receive_shutdown && standing.send_shutdown;
    shut && standing.in_system_call && !event.orphan && (is_open(event.from) || event.error.is_none())
}

/// Whether this end has not begun to close.
const fn is_open(state: TcpState) -> bool {
    matches!(state, Established | CloseWait | SynRecv | SynSent | Listen)
}

/// `__tcp_close`, in its order. What it does for a listener and in SYN_SENT is orderly (`tcp_close_state`).
fn by_close(from: TcpState, standing: &Standing) -> Option<Reason> {
    match from {
        // No peer, so nobody who could be first.
        Listen => Some(Reason::Closed { by: None, how: None }),
        _ if standing.unread > 0 => Some(Reason::ResetByUs(Abort::UnreadData)),
        _ if standing.linger0 => Some(aborted(from, standing, Abort::Linger0)),
        SynSent => Some(before_connected()),
        _ => None,
    }
}

const fn before_connected() -> Reason {
    Reason::Closed {
        by: Some(Side::Us),
        how: Some(Closing::BeforeConnected),
    }
}

/// `tcp_disconnect`: a RST if the state needs one, or if something was never sent.
fn aborted(from: TcpState, standing: &Standing, abort: Abort) -> Reason {
    let cut_off = standing.unsent && matches!(from, ClosingState | LastAck);
    if needs_reset(from) || cut_off {
        Reason::ResetByUs(abort)
    } else {
        Reason::Abandoned(abort)
    }
}

/// `sk_err` was set: `tcp_reset`, `tcp_write_err`, `tcp_abort`, `tcp_v4_err` and `tcp_v6_err`.
fn by_error(event: &StateEvent, error: u32, known: Known) -> Reason {
    match error {
        // `tcp_diag_destroy`, `bpf_sock_destroy`: `tcp_abort` sends a RST only where one is needed.
        errno::ECONNABORTED if needs_reset(event.from) => Reason::ResetByUs(Abort::Killed),
        errno::ECONNABORTED => Reason::Abandoned(Abort::Killed),
        errno::ECONNREFUSED if event.from == SynSent => {
            Reason::Refused(known.reset_received.then_some(Refusal::Reset))
        }
        errno::ECONNRESET if may_be_ours(event) => match known.follow_up {
            Some(FollowUp::Answer) => Reason::ResetByUs(Abort::DataAfterClose),
            Some(FollowUp::Nothing | FollowUp::Reset | FollowUp::ConnectFailed(_)) => Reason::ResetByPeer,
            None => Reason::Reset,
        },
        errno::ECONNRESET | errno::EPIPE => Reason::ResetByPeer,
        errno::ETIMEDOUT => timed_out(event),
        errno::ENONET
        | errno::ENOPROTOOPT
        | errno::ENETDOWN
        | errno::ENETUNREACH
        | errno::ECONNREFUSED
        | errno::EHOSTDOWN
        | errno::EHOSTUNREACH => Reason::Unreachable(error),
        other => Reason::Errno(other),
    }
}

/// `tcp_write_err`: called by `tcp_write_timeout`, `tcp_probe_timer`, `tcp_keepalive_timer`, and for a window that is shut
/// while something is under way, by `tcp_retransmit_timer`.
fn timed_out(event: &StateEvent) -> Reason {
    let standing = event.standing.unwrap_or_default();
    let (what, tries) = match event.from {
        SynSent => (Timeout::Connect, standing.retransmits),
        SynRecv => (Timeout::Handshake, standing.retransmits),
        // The keepalive timer gives up only a connection with nothing under way and nothing to send.
        _ if standing.unacked == 0 => (Timeout::Keepalive, standing.probes),
        _ if standing.send_window == 0 || standing.retransmits == 0 => {
            (Timeout::ZeroWindow, standing.probes.max(standing.retransmits))
        }
        FinWait1 | LastAck | ClosingState if standing.unacked == 1 => (Timeout::Fin, standing.retransmits),
        _ => (Timeout::Data, standing.retransmits),
    };
    Reason::TimedOut { what, tries }
}

/// Both FINs are acknowledged, and nothing is left.
fn in_order(from: TcpState, by: Option<Side>) -> Reason {
    match from {
        // `tcp_rcv_state_process`: the FIN is acknowledged.
        LastAck => Reason::Closed {
            by: by.or(Some(Side::Peer)),
            how: None,
        },
        // `tcp_time_wait` has found no room, or there would be a minisock.
        _ => Reason::Closed {
            by,
            how: Some(Closing::NoTimeWait),
        },
    }
}

/// No error, and no process holds the socket any more.
fn orphan(event: &StateEvent, known: Known) -> Option<Reason> {
    match event.from {
        FinWait2 if event.no_linger2 => Some(Reason::ResetByUs(Abort::Linger2)),
        // `tcp_rcv_state_process` in FIN_WAIT1: the FIN was acknowledged by a segment with data.
        FinWait2 if known.follow_up == Some(FollowUp::Answer) => {
            Some(Reason::ResetByUs(Abort::DataAfterClose))
        }
        // `tcp_keepalive_timer`, which waits for the FIN while the sock is a full one.
        FinWait2 if known.reset_sent => Some(Reason::TimedOut {
            what: Timeout::FinWait2,
            tries: 0,
        }),
        // `tcp_time_wait` has found no room; or it is `__tcp_close` with too many orphans, which sends a RST.
        FinWait2 if known.follow_up.is_some() => Some(Reason::OutOfResources),
        FinWait1 | ClosingState | LastAck => Some(Reason::OutOfResources),
        // `inet_csk_prepare_forced_close` of a child that could not be set up.
        SynRecv => Some(Reason::Abandoned(Abort::NoMemory)),
        _ => None,
    }
}

/// No error, and the process still holds the socket, or none ever has.
fn held(event: &StateEvent, standing: &Standing, known: Known) -> Option<Reason> {
    if let (SynSent, Some(FollowUp::ConnectFailed(errno))) = (event.from, known.follow_up) {
        return Some(Reason::ConnectFailed(Some(errno)));
    }
    match event.from {
        // `inet_csk_listen_start`, `inet_shutdown`, `tcp_abort`.
        Listen => Some(Reason::ListenEnded),
        // Subflows are closed by MPTCP, which has its own ways.
        _ if event.connection.mptcp => None,
        // `inet_child_forget`: called by `inet_csk_listen_stop`, or by `inet_csk_reqsk_queue_add` of a listener that is one no more.
        Established | CloseWait | SynRecv if !standing.held => Some(Reason::ResetByUs(Abort::ListenerGone)),
        SynSent if is_failing_connect(event) => Some(Reason::ConnectFailed(None)),
        SynSent if standing.in_system_call => Some(before_connected()),
        // `connect` with `AF_UNSPEC`.
        _ if standing.in_system_call && standing.held => {
            Some(aborted(event.from, standing, Abort::Disconnected))
        }
        _ => None,
    }
}
