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
    /// Whether a RST was sent in answer to what ended it; `None` when nobody can tell.
    pub(crate) answered: Option<bool>,
}

/// Why `event`, which leaves nothing of the connection, came; `None` when that is not certain.
pub(crate) fn of_event(event: &StateEvent, known: Known) -> Option<Reason> {
    let from = event.from;
    let Some(standing) = &event.standing else {
        return event.error.map(|error| by_error(event, error, known));
    };
    if is_closing(event, standing) {
        let reason = by_close(from, standing);
        // `TCP_REPAIR` ends a connection in a way of its own, and shows nothing of it.
        if reason.is_some() || is_open(from) {
            return reason;
        }
    }
    match event.error {
        Some(error) => Some(by_error(event, error, known)),
        None if event.orphan => orphan(event, standing, known),
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

/// Whether `event` closes an orphan in FIN_WAIT2 as `tcp_time_wait` does when it has made a minisock, and as
/// `tcp_rcv_state_process` does when data comes with the acknowledgement of the FIN.
pub(crate) fn may_leave_fin_wait2(event: &StateEvent) -> bool {
    let ended = event.from == FinWait2 && event.error.is_none();
    ended && event.orphan && !event.peer_fin && !event.no_linger2
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
        errno::ECONNRESET if may_be_ours(event) => match known.answered {
            Some(true) => Reason::ResetByUs(Abort::DataAfterClose),
            Some(false) => Reason::ResetByPeer,
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

/// No error, and no process holds the socket any more.
fn orphan(event: &StateEvent, standing: &Standing, known: Known) -> Option<Reason> {
    let by = known.closed_by;
    match event.from {
        // `tcp_rcv_state_process`: the FIN is acknowledged.
        LastAck if standing.unacked == 0 => Some(Reason::Closed {
            by: by.or(Some(Side::Peer)),
            how: None,
        }),
        // `tcp_time_wait` has found no room, or there would be a minisock.
        ClosingState if standing.unacked == 0 => Some(no_time_wait(by)),
        FinWait2 if event.peer_fin => Some(no_time_wait(by)),
        FinWait2 if event.no_linger2 => Some(Reason::ResetByUs(Abort::Linger2)),
        // `tcp_rcv_state_process` in FIN_WAIT1: the FIN was acknowledged by a segment with data.
        FinWait2 if known.answered == Some(true) => Some(Reason::ResetByUs(Abort::DataAfterClose)),
        // `tcp_keepalive_timer`, which waits for the FIN while the sock is a full one.
        FinWait2 if known.reset_sent => Some(Reason::TimedOut {
            what: Timeout::FinWait2,
            tries: 0,
        }),
        FinWait1 | ClosingState | LastAck => Some(Reason::OutOfResources),
        // `inet_csk_prepare_forced_close` of a child that could not be set up.
        SynRecv => Some(Reason::Abandoned(Abort::NoMemory)),
        _ => None,
    }
}

const fn no_time_wait(by: Option<Side>) -> Reason {
    Reason::Closed {
        by,
        how: Some(Closing::NoTimeWait),
    }
}

/// No error, and the process still holds the socket, or none ever has.
fn held(event: &StateEvent, standing: &Standing, known: Known) -> Option<Reason> {
    match event.from {
        LastAck if standing.unacked == 0 => Some(Reason::Closed {
            by: known.closed_by.or(Some(Side::Peer)),
            how: None,
        }),
        ClosingState if standing.unacked == 0 => Some(no_time_wait(known.closed_by)),
        FinWait2 if event.peer_fin => Some(no_time_wait(known.closed_by)),
        // `inet_csk_listen_start`, `inet_shutdown`, `tcp_abort`.
        Listen => Some(Reason::ListenEnded),
        // Subflows are closed by MPTCP, which has its own ways.
        _ if event.connection.mptcp => None,
        // `inet_child_forget`: called by `inet_csk_listen_stop`, or by `inet_csk_reqsk_queue_add` of a listener that is one no more.
        Established | CloseWait | SynRecv if !standing.held => Some(Reason::ResetByUs(Abort::ListenerGone)),
        // `tcp_v4_connect` and `tcp_v6_connect` take the state back when there is no port, or no way.
        SynSent if standing.in_system_call && !standing.connecting => Some(Reason::ConnectFailed),
        SynSent if standing.in_system_call => Some(before_connected()),
        // `connect` with `AF_UNSPEC`.
        _ if standing.in_system_call && standing.held => {
            Some(aborted(event.from, standing, Abort::Disconnected))
        }
        _ => None,
    }
}
