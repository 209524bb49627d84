//! Data that does not get through.

use std::time::Duration;

use super::{Case, Symptom, by_retransmissions, fits, short};
use crate::{
    diagnosis::{Kind, Severity},
    facts::{Figures, TimerKind},
};

impl Case<'_> {
    /// What hinders sending: no acknowledgement, or no room at the peer.
    pub(super) fn sending(&self) -> Option<Symptom> {
        let now = self.now;
        let unacked = now.sent.unacked.filter(|unacked| *unacked > 0);
        let sent_again = now.attempts.retransmits.filter(|times| *times > 0);
        if let (Some(unacked), Some(times)) = (unacked, sent_again) {
            let age = self.unanswered_for();
            if times < 2 || !self.counts(age, fits::UNACKNOWLEDGED) {
                return None;
            }
            let mut evidence = vec![
                format!("{unacked} bytes unacknowledged"),
                format!("sent again {times} times"),
                format!("nothing acknowledged for {}", short(age)),
            ];
            evidence.extend(self.next_timer("again"));
            evidence.extend(self.gives_up());
            return Some(Symptom {
                kind: Kind::DataUnacknowledged,
                severity: by_retransmissions(times),
                age,
                evidence,
            });
        }
        self.zero_window()
    }

    pub(super) fn zero_window(&self) -> Option<Symptom> {
        let now = self.now;
        let unsent = now.sent.unsent.filter(|unsent| *unsent > 0)?;
        let window = now.sent.window?;
        let age = now.attempts.probing?;
        let probing = now
            .timer
            .is_some_and(|timer| timer.kind == TimerKind::WindowProbe);
        if !probing || !self.counts(age, fits::WINDOW) {
            return None;
        }
        let mut evidence = vec![
            format!("{unsent} bytes wait to be sent"),
            format!("the peer's window has been {window} bytes for {}", short(age)),
        ];
        let probes = now.attempts.probes.filter(|probes| *probes > 0);
        evidence.extend(probes.map(|probes| format!("{probes} probes unanswered")));
        evidence.extend(self.next_timer("the next probe"));
        Some(Symptom {
            kind: Kind::ZeroWindow,
            severity: Severity::Warning,
            age,
            evidence,
        })
    }

    pub(super) fn unread(&self) -> Option<Symptom> {
        let unread = self.unread_bytes();
        if unread == 0 || !self.is_held() {
            return None;
        }
        // What the process has taken: with a FIN behind the data it may count one more.
        let read = |figures: &Figures| figures.received.bytes?.checked_sub(figures.queues.recv.into());
        let before = self.before?;
        let idle = read(self.now)? == read(before)? && before.queues.recv > 0;
        let closed = self.now.received.window == Some(0);
        let age = self.now.received.last?;
        // What still comes is recent; then only a closed window tells that it is not read for long.
        let long = self.counts(age, fits::UNREAD) || closed && self.older.is_none();
        if !idle || !long {
            return None;
        }
        let mut evidence = vec![format!("{unread} bytes unread")];
        let grown = unread.saturating_sub(before.queues.recv);
        if grown > 0 {
            evidence.push(format!("{grown} more in {}", short(self.between)));
        } else {
            evidence.push(format!("the last came {} ago", short(age)));
        }
        if closed {
            evidence.push("the receive window is closed: the peer cannot send".to_owned());
        }
        Some(Symptom {
            kind: Kind::DataUnread,
            severity: if closed {
                Severity::Critical
            } else {
                Severity::Warning
            },
            age,
            evidence,
        })
    }

    /// How long something has been sent in vain: the timeouts so far, each twice the one before, and what has passed
    /// of the present one.
    pub(super) fn unanswered_for(&self) -> Duration {
        let now = self.now;
        let rto = now.path.rto.unwrap_or_default();
        let backoff = now.attempts.backoff.unwrap_or(0).min(31);
        let past = rto.saturating_sub(rto / (1_u32 << backoff));
        let present = now
            .timer
            .map_or(Duration::ZERO, |timer| rto.saturating_sub(timer.due));
        let passed = past + present;
        now.sent.last_ack.map_or(passed, |last_ack| passed.min(last_ack))
    }

    /// When the kernel gives up data that nobody acknowledges (`tcp_write_timeout`).
    pub(super) fn gives_up(&self) -> Option<String> {
        if let Some(timeout) = self.now.limits.user_timeout {
            return Some(format!(
                "the kernel gives up after {} (TCP_USER_TIMEOUT)",
                short(timeout)
            ));
        }
        if self.now.orphan != Some(true) {
            let retries = self.now.limits.retries?;
            return Some(format!(
                "the kernel gives up after some {}",
                short(given_up_after(retries))
            ));
        }
        let retries = self.settings.orphan_retries?;
        let retries = if retries == 0 { 8 } else { retries };
        Some(format!("the kernel gives up after {retries} retransmissions"))
    }
}

/// How long the kernel goes on for `retries` (`tcp_model_timeout`): the time between two doubles, from 200 ms up to
/// two minutes.
fn given_up_after(retries: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_mins(2);
    let waits = (0..=retries.min(255)).map(|n| {
        FIRST
            .saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX))
            .min(LONGEST)
    });
    waits.sum()
}
