//! When the kernel gives up, by the schedules of its timers.

use std::time::Duration;

use super::{Case, short};
use crate::facts::{SHORTEST, doubled};

impl Case<'_> {
    /// When the kernel gives up a SYN-ACK: when its timer runs out after so many timeouts (`reqsk_timer_handler`). A SYN that
    /// comes again puts it off, and a listener with many of them brings it forward.
    pub(super) fn gives_up_syn_ack(&self) -> Option<String> {
        let most = self.now.limits.syn_retries?.min(255);
        let timeouts = self.now.attempts.retransmits?;
        let timer = self.now.timer?;
        let more: Duration = (timeouts.saturating_add(1)..=most)
            .map(|n| self.now.syn_ack_timeout(n))
            .sum();
        Some(format!(
            "the kernel gives up in some {}",
            short(timer.due.saturating_add(more))
        ))
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
                short(given_up_after(retries, self.now.longest()))
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

/// How long the kernel goes on for `retries` (`tcp_model_timeout`): the time between two doubles, up to `longest`.
fn given_up_after(retries: u32, longest: Duration) -> Duration {
    let waits = (0..=retries.min(255)).map(|n| doubled(SHORTEST, n).min(longest));
    waits.sum()
}
