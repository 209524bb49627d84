//! Folding what happens to sockets without changing their state: retransmissions, and RSTs.
//!
//! One kind of end cannot be told by its event: a socket that its process has closed goes to CLOSE with `ECONNRESET` when
//! the peer's RST comes, and likewise when data comes, which it answers with a RST of its own
//! (`tcp_rcv_state_process`). That RST is announced right after the event, by the same CPU in the same run. So such an end
//! waits for it, [`ANSWER`] long. So does an end in FIN_WAIT2 that has left no minisock, where hooks would tell of one: data
//! came with the acknowledgement of the FIN, or there was no room for the minisock. Without hooks a minisock is assumed, and
//! the RST shows that there is none. And so does a `connect` that fails after SYN_SENT, where hooks report its errno.

use std::time::Duration;

use super::{
    End, SETTLING, Table,
    transition::{Source, Transition},
};
use crate::{
    clock::Ktime,
    connection::Cookie,
    facts::{ConnectFailure, Form, Occurrence, SocketMark, StateEvent},
    reason::{Cause, FollowUp, is_failing_connect, may_be_ours, may_leave_fin_wait2},
    tcp::TcpState::{Close, FinWait2},
};

/// How long an end waits for what says whose it was. The kernel takes microseconds; nothing takes the processor from it
/// in between but interrupts, unless a process works off what came in while it had the socket locked.
pub const ANSWER: Duration = SETTLING;

impl Table {
    /// Folds what has happened to a socket.
    pub fn apply_mark(&mut self, mark: &SocketMark, out: &mut Vec<Transition>) {
        let follow_up = match mark.what {
            Occurrence::ResetAnswered => Some(FollowUp::Answer),
            Occurrence::ResetSent => Some(FollowUp::Reset),
            Occurrence::Retransmit | Occurrence::ResetReceived => None,
        };
        if mark.closed
            && follow_up.is_some()
            && let Some(event) = self.waiting.remove(&mark.cookie)
        {
            self.fold(&event, follow_up, out);
        } else if let Some(cause) = self.ended_by(mark) {
            let end = End {
                time: mark.time,
                source: Source::Event,
                cause,
                earliest: None,
            };
            if let Some(place) = self.store.find(mark.cookie) {
                self.end(place, end, out);
            }
        } else {
            self.store.change_of(mark.cookie, |row| {
                if row.form == mark.form {
                    row.mark(mark.what, mark.time);
                }
            });
        }
    }

    /// What has ended a row in FIN_WAIT2, if a RST shows that it has ended: a minisock got data (`TCP_TW_RST`, told by 6.12 and
    /// not by 6.1); or it was only assumed, and its full sock got data right when its own FIN was acknowledged
    /// (`tcp_rcv_state_process`), or was dropped when its process closed it (`tcp_check_oom`).
    fn ended_by(&self, mark: &SocketMark) -> Option<Cause> {
        let row = self.store.get(mark.cookie)?;
        let minisock = row.form == Form::Minisock && row.state == FinWait2 && row.last_fact <= mark.time;
        let assumed = mark.closed && !row.confirmed();
        match mark.what {
            Occurrence::ResetAnswered if minisock && (mark.form == Form::Minisock || assumed) => {
                Some(Cause::Answered)
            }
            Occurrence::ResetSent if minisock && assumed => Some(Cause::OutOfResources),
            _ => None,
        }
    }

    /// Folds a failed `connect`. Returns `true` if it is reported by itself: the socket's state has not changed. Where the
    /// socket has been in SYN_SENT during the call, its end waits for the errno.
    pub fn apply_connect_failure(&mut self, failure: &ConnectFailure, out: &mut Vec<Transition>) -> bool {
        let waiting = self.waiting.remove(&failure.connection.cookie);
        if let Some(event) = &waiting {
            self.fold(event, Some(FollowUp::ConnectFailed(failure.error)), out);
        }
        !waiting.is_some_and(|event| is_failing_connect(&event))
    }

    /// Whether some end waits for its reason.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells of the ends that have waited for [`ANSWER`]: no RST was sent, so one had come.
    pub fn release(&mut self, now: Ktime, out: &mut Vec<Transition>) {
        let due: Vec<StateEvent> = self
            .waiting
            .extract_if(|_, event| event.time.plus(ANSWER) <= now)
            .map(|(_, event)| event)
            .collect();
        for event in due {
            self.fold(&event, Some(FollowUp::Nothing), out);
        }
    }

    /// Whether `event` is an end that has to wait. An end of the same socket that waits already is told first: its
    /// answer would have come.
    pub(super) fn is_to_wait(&mut self, event: &StateEvent, out: &mut Vec<Transition>) -> bool {
        let cookie = event.connection.cookie;
        self.tell_waiting(cookie, out);
        let cut_off = self.is_without_minisock(event);
        let connecting = self.coverage().ports && is_failing_connect(event);
        if event.to != Close || !(cut_off || connecting || may_be_ours(event)) {
            return false;
        }
        // Without the mark of what came, that of the answer may not come either: they are attached in this order.
        let waits = self.store.change_of(cookie, |row| {
            let waits = row.last_fact <= event.time
                && (cut_off || connecting || row.has_seen(Occurrence::ResetReceived));
            if waits {
                row.announce();
                row.last_fact = event.time;
            }
            waits
        });
        if waits != Some(true) {
            return false;
        }
        self.waiting.insert(cookie, *event);
        true
    }

    /// Whether hooks, which tell of each minisock before its full sock is closed, have told of none.
    fn is_without_minisock(&self, event: &StateEvent) -> bool {
        may_leave_fin_wait2(event)
            && self.coverage().minisocks
            && !self.newborn.contains_key(&event.connection.cookie)
    }

    fn tell_waiting(&mut self, cookie: Cookie, out: &mut Vec<Transition>) {
        if !self.waiting.is_empty()
            && let Some(event) = self.waiting.remove(&cookie)
        {
            self.fold(&event, Some(FollowUp::Nothing), out);
        }
    }
}
