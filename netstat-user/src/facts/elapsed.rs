//! How long something has lasted, by the kernel's stamps and by the schedules of its timers.

use std::time::Duration;

use super::{Figures, Form};
use crate::tcp::TcpState::{CloseWait, FinWait2, SynRecv, SynSent, TimeWait};

/// The longest timeout, where a kernel knows no other (`TCP_RTO_MAX`).
const LONGEST: Duration = Duration::from_mins(2);
/// The shortest (`TCP_RTO_MIN`),
pub(crate) const SHORTEST: Duration = Duration::from_millis(200);
/// and the first one of a handshake (`TCP_TIMEOUT_INIT`).
const HANDSHAKE: Duration = Duration::from_secs(1);
/// How long TIME_WAIT lasts (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: Duration = Duration::from_mins(1);

/// For how long a socket has been in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Age {
    /// So long, at least.
    pub lasted: Duration,
    /// And no longer.
    pub exact: bool,
}

impl Figures {
    /// For how long the socket had been in its state when these were read, as far back as they show: zero if they do not.
    #[must_use]
    pub fn age_of_state(&self) -> Age {
        let bound = |lasted| Age { lasted, exact: false };
        match (self.state, self.form) {
            (SynRecv, Form::Request) => match self.age {
                Some(lasted) => Age { lasted, exact: true },
                None => bound(self.half_open_for()),
            },
            // The stamp is of the minisock, which can have been in FIN_WAIT2 first. Only a segment with a timestamp sets it anew
            // (`tcp_timewait_state_process`).
            (TimeWait, Form::Minisock) => bound(self.time_gone().unwrap_or_default()),
            (_, Form::Minisock) => bound(self.minisock_for()),
            (SynSent, _) => bound(self.unanswered_for()),
            // A FIN, and the acknowledgement of one, are acknowledgements too, so these are as old as the last of those
            // (`tcp_ack`).
            (CloseWait | FinWait2, _) => bound(self.sent.last_ack.unwrap_or_default()),
            _ => Age::default(),
        }
    }

    /// How long something has been sent and not acknowledged, at least. The kernel's stamp of the first retransmission is exact
    /// (`tcp_retransmit_skb`), and knows of timeouts that did not double, as after errors of this host
    /// (`tcp_ld_RTO_revert`); the timeouts say what was before it. Whatever was acknowledged since is none of it.
    #[must_use]
    pub fn unanswered_for(&self) -> Duration {
        let since = self.attempts.since.unwrap_or_default();
        let longest = since.max(self.timeouts());
        // A SYN has no acknowledgement before.
        self.sent
            .last_ack
            .map_or(longest, |last_ack| longest.min(last_ack))
    }

    /// The timeouts so far, and what has passed of the present one.
    fn timeouts(&self) -> Duration {
        let rto = self.path.rto.unwrap_or_default();
        let timeouts = self.attempts.retransmits.unwrap_or(0).min(255);
        let backoff = self.attempts.backoff.unwrap_or(0).min(31);
        let first = self.first_timeout(rto, backoff);
        // Some of the first timeouts are as long as the first one: `tcp_syn_linear_timeouts`, `TCP_THIN_LINEAR_TIMEOUTS`.
        let alike = first.saturating_mul(timeouts.saturating_sub(backoff));
        let growing: Duration = (0..backoff.min(timeouts))
            .map(|n| doubled(first, n).min(self.longest()))
            .sum();
        let present = self
            .timer
            .map_or(Duration::ZERO, |timer| rto.saturating_sub(timer.due));
        alike + growing + present
    }

    /// How long a SYN-ACK has not been answered: since the first one, where the kernel says when that was; else by its
    /// timeouts, which double (`tcp_reqsk_timeout`). Those are a bound: a SYN that comes again begins a timeout anew
    /// (`tcp_check_req`).
    #[must_use]
    pub fn half_open_for(&self) -> Duration {
        let timeouts = self.attempts.retransmits.unwrap_or(0).min(127);
        let over: Duration = (0..timeouts).map(|n| self.syn_ack_timeout(n)).sum();
        let present = self.timer.map_or(Duration::ZERO, |timer| {
            self.syn_ack_timeout(timeouts).saturating_sub(timer.due)
        });
        self.age.unwrap_or_default().max(over + present)
    }

    /// How long the kernel waits after so many timeouts (`tcp_reqsk_timeout`).
    pub(crate) fn syn_ack_timeout(&self, timeouts: u32) -> Duration {
        let first = self.attempts.first_timeout.unwrap_or(HANDSHAKE);
        doubled(first, timeouts).min(LONGEST)
    }

    /// How long a minisock has been what it is: by the kernel's stamp, or by what is gone of its time. A segment that comes
    /// can give it all of its time again (`tcp_timewait_state_process`), so that is a bound.
    #[must_use]
    pub fn minisock_for(&self) -> Duration {
        self.age.or_else(|| self.time_gone()).unwrap_or_default()
    }

    /// What is gone of a minisock's time.
    fn time_gone(&self) -> Option<Duration> {
        let whole = match self.state {
            TimeWait => Some(TIME_WAIT),
            // What is longer than a minisock's time is spent as a full sock (`tcp_rcv_state_process`, `tcp_keepalive_timer`).
            FinWait2 => self.limits.fin_timeout.map(|whole| {
                whole
                    .checked_sub(TIME_WAIT)
                    .filter(|rest| !rest.is_zero())
                    .unwrap_or(whole)
            }),
            _ => None,
        };
        let left = self.timer.map(|timer| timer.due);
        whole.zip(left).map(|(whole, left)| whole.saturating_sub(left))
    }

    /// The timeout that `rto` has grown from. One that has reached the limit does not say; then it is made of the
    /// round-trip time again, as the kernel does (`tcp_set_rto`).
    fn first_timeout(&self, rto: Duration, backoff: u32) -> Duration {
        if backoff == 0 || rto < self.longest() {
            return rto / (1_u32 << backoff);
        }
        let path = &self.path;
        let shortest = if matches!(self.state, SynSent | SynRecv) {
            HANDSHAKE
        } else {
            SHORTEST
        };
        let measured = path.rtt.unwrap_or_default() + path.rtt_deviation.unwrap_or_default() * 4;
        measured.max(shortest).min(rto)
    }

    /// The longest timeout.
    pub(crate) fn longest(&self) -> Duration {
        self.path.rto_max.unwrap_or(LONGEST)
    }
}

/// `first`, doubled so many times.
pub(crate) fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Ktime,
        facts::{Attempts, Limits, Path, Queues, Received, Sent, Timer, TimerKind},
        tcp::TcpState,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn figures(state: TcpState, form: Form) -> Figures {
        Figures {
            time: Ktime(1),
            state,
            form,
            inode: None,
            orphan: None,
            age: None,
            v6only: None,
            queues: Queues::default(),
            timer: None,
            attempts: Attempts::default(),
            limits: Limits::default(),
            path: Path::default(),
            sent: Sent::default(),
            received: Received::default(),
            send_shutdown: None,
            receive_shutdown: None,
            soft_error: None,
            listening: None,
            listener: None,
        }
    }

    fn with_timer(state: TcpState, form: Form, kind: TimerKind, due: Duration) -> Figures {
        Figures {
            timer: Some(Timer { kind, due }),
            ..figures(state, form)
        }
    }

    /// Seconds, and whether they are exact.
    fn age(figures: &Figures) -> (u64, bool) {
        let Age { lasted, exact } = figures.age_of_state();
        (lasted.as_secs(), exact)
    }

    #[test]
    fn a_half_open_connection_has_a_stamp_or_timeouts() {
        let mut request = with_timer(SynRecv, Form::Request, TimerKind::SynAck, SECOND);
        request.attempts.retransmits = Some(2);
        // 1 and 2 seconds, and 3 of the 4.
        assert_eq!(age(&request), (6, false));
        request.age = Some(SECOND * 8);
        assert_eq!(age(&request), (8, true));
    }

    #[test]
    fn a_minisock_has_a_stamp_that_is_not_always_of_time_wait() {
        let mut closed = with_timer(FinWait2, Form::Minisock, TimerKind::TimeWait, SECOND * 47);
        assert_eq!(age(&closed), (0, false), "of how much, nothing says");
        closed.limits.fin_timeout = Some(SECOND * 60);
        assert_eq!(age(&closed), (13, false));
        closed.age = Some(SECOND * 20);
        assert_eq!(age(&closed), (20, false));
        let mut waiting = with_timer(TimeWait, Form::Minisock, TimerKind::TimeWait, SECOND * 50);
        waiting.age = Some(SECOND * 20);
        assert_eq!(age(&waiting), (10, false));
    }

    #[test]
    fn a_fin_is_an_acknowledgement_too() {
        for (state, expected) in [(CloseWait, 5), (FinWait2, 5), (TcpState::Established, 0)] {
            let mut full = figures(state, Form::Full);
            full.sent.last_ack = Some(SECOND * 5);
            assert_eq!(age(&full), (expected, false), "{state}");
        }
    }

    /// Data before it can have been unacknowledged for longer.
    #[test]
    fn what_is_unacknowledged_is_as_old_as_a_syn_and_not_as_a_fin() {
        for (state, expected) in [(SynSent, 7), (TcpState::FinWait1, 0)] {
            let mut full = figures(state, Form::Full);
            full.attempts.since = Some(SECOND * 7);
            assert_eq!(age(&full), (expected, false), "{state}");
        }
    }
}
