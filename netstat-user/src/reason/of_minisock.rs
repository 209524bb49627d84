//! The reason of an end that is no event of a full sock: of minisocks, request socks, and rows that sweeps do not find.

use super::{Abort, Closing, Reason, Side, Timeout};
use crate::{
    facts::Form,
    tcp::TcpState::{self, FinWait2, TimeWait},
};

/// What is known of such an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing but that it is gone.
    Unknown,
    /// Its timer ended it (`tw_timer_handler`).
    Expired,
    /// Nobody has answered its SYN-ACK, which was sent again so often (`reqsk_timer_handler`).
    Unanswered(u8),
    /// Its listener listens no more.
    ListenerGone,
    /// A new connection has its ends.
    Taken,
    /// Its namespace is gone (`inet_twsk_purge`).
    Namespace,
    /// It got what it could only answer with a RST (`TCP_TW_RST`).
    Answered,
    /// The peer sent a RST.
    ResetByPeer,
    /// There was no room for it, or too many sockets had no process.
    OutOfResources,
}

/// Why a row ended that was in `state`, kept as `form`; `None` when that is not certain.
pub(crate) fn of_minisock(
    state: TcpState,
    form: Form,
    cause: Cause,
    closed_by: Option<Side>,
) -> Option<Reason> {
    match (form, state, cause) {
        // Both FINs have come through: whatever ended the minisock, the connection was over.
        (Form::Minisock, TimeWait, cause) => Some(Reason::Closed {
            by: closed_by,
            how: closing(cause),
        }),
        (Form::Minisock, FinWait2, Cause::Expired) => Some(Reason::TimedOut {
            what: Timeout::FinWait2,
            tries: 0,
        }),
        (Form::Minisock, FinWait2, Cause::Answered) => Some(Reason::ResetByUs(Abort::DataAfterClose)),
        (Form::Minisock, FinWait2, Cause::ResetByPeer) => Some(Reason::ResetByPeer),
        (Form::Minisock, FinWait2, Cause::OutOfResources) => Some(Reason::OutOfResources),
        (Form::Request, _, Cause::Unanswered(tries)) => Some(Reason::TimedOut {
            what: Timeout::Handshake,
            tries,
        }),
        (Form::Request, _, Cause::ListenerGone) => Some(Reason::Abandoned(Abort::ListenerGone)),
        (_, _, Cause::Namespace) => Some(Reason::NamespaceGone),
        _ => None,
    }
}

const fn closing(cause: Cause) -> Option<Closing> {
    match cause {
        Cause::Expired => Some(Closing::TimeWaitOver),
        Cause::Taken => Some(Closing::PortsTaken),
        Cause::Namespace => Some(Closing::NamespaceGone),
        Cause::Unknown
        | Cause::Unanswered(_)
        | Cause::ListenerGone
        | Cause::Answered
        | Cause::ResetByPeer
        | Cause::OutOfResources => None,
    }
}
