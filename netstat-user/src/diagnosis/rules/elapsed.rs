//! How long something has been sent in vain, and when the kernel gives up: by the schedule of the retransmission timer.

use std::time::Duration;

use super::{Case, short};
use crate::tcp::TcpState::{SynRecv, SynSent};

/// The longest timeout, where a kernel knows no other (`TCP_RTO_MAX`).
const LONGEST: Duration = Duration::from_mins(2);
/// The shortest (`TCP_RTO_MIN`),
const SHORTEST: Duration = Duration::from_millis(200);
/// and the first one of a handshake (`TCP_TIMEOUT_INIT`).
const HANDSHAKE: Duration = Duration::from_secs(1);

impl Case<'_> {
    /// How long something has been sent in vain: the timeouts so far, and what has passed of the present one.
    pub(super) fn unanswered_for(&self) -> Duration {
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
        let passed = alike + growing + present;
        now.sent.last_ack.map_or(passed, |last_ack| passed.min(last_ack))
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
        let retries = self.settings.orphan_retries?;
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

/// How long the kernel goes on for `retries` (`tcp_model_timeout`): the time between two doubles, up to `longest`.
fn given_up_after(retries: u32, longest: Duration) -> Duration {
    let waits = (0..=retries.min(255)).map(|n| doubled(SHORTEST, n).min(longest));
    waits.sum()
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}
