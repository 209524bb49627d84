//! How long something has lasted, and when the kernel gives up: by the kernel's stamps, and by the schedules of its timers.

use std::time::Duration;

use super::{Case, short};
use crate::{
    facts::Figures,
    tcp::TcpState::{self, FinWait2, SynRecv, SynSent, TimeWait},
};

/// The longest timeout, where a kernel knows no other (`TCP_RTO_MAX`).
const LONGEST: Duration = Duration::from_mins(2);
/// The shortest (`TCP_RTO_MIN`),
const SHORTEST: Duration = Duration::from_millis(200);
/// and the first one of a handshake (`TCP_TIMEOUT_INIT`).
const HANDSHAKE: Duration = Duration::from_secs(1);
/// How long TIME_WAIT lasts (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: Duration = Duration::from_mins(1);

impl Case<'_> {
    /// How long something has been sent and not acknowledged, at least. The kernel's stamp of the first retransmission is exact
    /// (`tcp_retransmit_skb`), and knows of timeouts that did not double, as after errors of this host
    /// (`tcp_ld_RTO_revert`); the timeouts say what was before it. Whatever was acknowledged since is none of it.
    pub(super) fn unanswered_for(&self) -> Duration {
        let since = self.now.attempts.since.unwrap_or_default();
        let longest = since.max(self.timeouts());
        // A SYN has no acknowledgement before.
        self.now
            .sent
            .last_ack
            .map_or(longest, |last_ack| longest.min(last_ack))
    }

    /// The timeouts so far, and what has passed of the present one.
    fn timeouts(&self) -> Duration {
        let now = self.now;
        let rto = now.path.rto.unwrap_or_default();
        let timeouts = now.attempts.retransmits.unwrap_or(0).min(255);
        let backoff = now.attempts.backoff.unwrap_or(0).min(31);
        let first = self.first_timeout(rto, backoff);
        // Some of the first timeouts are as long as the first one: `tcp_syn_linear_timeouts`, `TCP_THIN_LINEAR_TIMEOUTS`.
        let alike = first.saturating_mul(timeouts.saturating_sub(backoff));
        let growing: Duration = (0..backoff.min(timeouts))
            .map(|n| doubled(first, n).min(self.longest()))
            .sum();
        let present = now
            .timer
            .map_or(Duration::ZERO, |timer| rto.saturating_sub(timer.due));
        alike + growing + present
    }

    /// How long a SYN-ACK has not been answered: since the first one, where the kernel says when that was; else by its
    /// timeouts, which double (`tcp_reqsk_timeout`). Those are a bound: a SYN that comes again begins a timeout anew
    /// (`tcp_check_req`).
    pub(super) fn half_open_for(&self) -> Duration {
        let now = self.now;
        let timeouts = now.attempts.retransmits.unwrap_or(0).min(127);
        let over: Duration = (0..timeouts).map(|n| self.syn_ack_timeout(n)).sum();
        let present = now.timer.map_or(Duration::ZERO, |timer| {
            self.syn_ack_timeout(timeouts).saturating_sub(timer.due)
        });
        now.age.unwrap_or_default().max(over + present)
    }

    /// When the kernel gives up a SYN-ACK: when its timer runs out after so many timeouts (`reqsk_timer_handler`). A SYN that
    /// comes again puts it off, and a listener with many of them brings it forward.
    pub(super) fn gives_up_syn_ack(&self) -> Option<String> {
        let most = self.now.limits.syn_retries?.min(255);
        let timeouts = self.now.attempts.retransmits?;
        let timer = self.now.timer?;
        let more: Duration = (timeouts.saturating_add(1)..=most)
            .map(|n| self.syn_ack_timeout(n))
            .sum();
        Some(format!(
            "the kernel gives up in some {}",
            short(timer.due.saturating_add(more))
        ))
    }

    /// How long the kernel waits after so many timeouts (`tcp_reqsk_timeout`).
    fn syn_ack_timeout(&self, timeouts: u32) -> Duration {
        let first = self.now.attempts.first_timeout.unwrap_or(HANDSHAKE);
        doubled(first, timeouts).min(LONGEST)
    }

    /// How long a minisock has been what it is: by the kernel's stamp, or by what is gone of its time. A segment that comes
    /// can give it all of its time again (`tcp_timewait_state_process`), so that is a bound.
    pub(super) fn minisock_for(&self) -> Duration {
        minisock_for(self.row.state, self.now)
    }

    /// The timeout that `rto` has grown from. One that has reached the limit does not say; then it is made of the
    /// round-trip time again, as the kernel does (`tcp_set_rto`).
    fn first_timeout(&self, rto: Duration, backoff: u32) -> Duration {
        if backoff == 0 || rto < self.longest() {
            return rto / (1_u32 << backoff);
        }
        let path = &self.now.path;
        let shortest = if matches!(self.row.state, SynSent | SynRecv) {
            HANDSHAKE
        } else {
            SHORTEST
        };
        let measured = path.rtt.unwrap_or_default() + path.rtt_deviation.unwrap_or_default() * 4;
        measured.max(shortest).min(rto)
    }

    fn longest(&self) -> Duration {
        self.now.path.rto_max.unwrap_or(LONGEST)
    }

    /// When the kernel gives up data that nobody acknowledges (`tcp_write_timeout`).
    pub(super) fn gives_up(&self) -> Option<String> {
        if self.now.limits.user_timeout.is_some() {
            return self.user_timeout();
        }
        if self.now.orphan != Some(true) {
            let retries = self.now.limits.retries?;
            return Some(format!(
                "the kernel gives up after some {}",
                short(given_up_after(retries, self.longest()))
            ));
        }
        let retries = self.settings?.orphan_retries?;
        let retries = if retries == 0 { 8 } else { retries };
        Some(format!("the kernel gives up after {retries} retransmissions"))
    }

    /// When it gives up a SYN.
    pub(super) fn gives_up_syn(&self) -> Option<String> {
        let most = self.now.limits.syn_retries.map(|retries| retries + 1);
        self.user_timeout()
            .or_else(|| most.map(|most| format!("the kernel gives up after {most} SYNs")))
    }

    fn user_timeout(&self) -> Option<String> {
        let timeout = self.now.limits.user_timeout?;
        Some(format!(
            "the kernel gives up after {} (TCP_USER_TIMEOUT)",
            short(timeout)
        ))
    }
}

/// As [`Case::minisock_for`].
pub(in crate::diagnosis) fn minisock_for(state: TcpState, figures: &Figures) -> Duration {
    let whole = match state {
        TimeWait => Some(TIME_WAIT),
        // What is longer than a minisock's time is spent as a full sock (`tcp_rcv_state_process`, `tcp_keepalive_timer`).
        FinWait2 => figures.limits.fin_timeout.map(|whole| {
            whole
                .checked_sub(TIME_WAIT)
                .filter(|rest| !rest.is_zero())
                .unwrap_or(whole)
        }),
        _ => None,
    };
    let left = figures.timer.map(|timer| timer.due);
    let gone = whole.zip(left).map(|(whole, left)| whole.saturating_sub(left));
    figures.age.or(gone).unwrap_or_default()
}

/// How long the kernel goes on for `retries` (`tcp_model_timeout`): the time between two doubles, up to `longest`.
fn given_up_after(retries: u32, longest: Duration) -> Duration {
    let waits = (0..=retries.min(255)).map(|n| doubled(SHORTEST, n).min(longest));
    waits.sum()
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}
