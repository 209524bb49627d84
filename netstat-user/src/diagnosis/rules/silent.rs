//! Peers that keepalive asks and that do not answer.

use std::time::Duration;

use super::{Case, Symptom, by_retransmissions, fits, short};
use crate::{
    diagnosis::{Kind, Severity},
    facts::TimerKind,
};

impl Case<'_> {
    /// A peer that does not answer whether it is there (`tcp_keepalive_timer`): any segment of it would have set the
    /// count of probes to zero (`tcp_ack`).
    pub(super) fn silent(&self) -> Option<Symptom> {
        let limits = &self.now.limits;
        let probes = self.now.attempts.probes.filter(|probes| *probes > 0)?;
        let timer = self
            .now
            .timer
            .filter(|timer| timer.kind == TimerKind::Keepalive)?;
        let interval = limits.keepalive_interval?;
        let last = interval.saturating_sub(timer.due);
        let age = interval.saturating_mul(probes - 1) + last;
        // The last probe, or its answer, may be on its way.
        let counts = match self.older {
            Some(older) => age >= older,
            None => probes > 1 || last >= fits::PROBE,
        };
        if !counts {
            return None;
        }
        let mut evidence = Vec::new();
        let heard = self.heard();
        evidence.extend(heard.map(|heard| format!("nothing received from the peer for {}", short(heard))));
        let most = limits.keepalive_probes.filter(|_| limits.user_timeout.is_none());
        evidence.push(match most {
            Some(most) => format!("{probes} of {most} keepalive probes unanswered"),
            None => format!("{probes} keepalive probes unanswered"),
        });
        evidence.extend(self.soft_error());
        evidence.extend(self.gives_up_peer(probes, timer.due, interval, heard));
        Some(Symptom::new(
            Kind::KeepaliveUnanswered,
            by_retransmissions(probes).max(Severity::Warning),
            heard.map_or(age, |heard| age.min(heard)),
            evidence,
        ))
    }

    /// How long ago anything came, as `keepalive_time_elapsed` has it.
    fn heard(&self) -> Option<Duration> {
        let moments = [self.now.sent.last_ack, self.now.received.last];
        moments.into_iter().flatten().min()
    }

    /// When the kernel ends the connection: when the timer runs out with all probes sent, or with `TCP_USER_TIMEOUT` over.
    fn gives_up_peer(
        &self,
        probes: u32,
        due: Duration,
        interval: Duration,
        heard: Option<Duration>,
    ) -> Option<String> {
        let limits = &self.now.limits;
        let (more, why) = if let Some(timeout) = limits.user_timeout {
            let left = timeout.saturating_sub(heard?.saturating_add(due));
            let more = left.as_nanos().div_ceil(interval.as_nanos().max(1));
            (u32::try_from(more).ok()?, " (TCP_USER_TIMEOUT)")
        } else {
            (limits.keepalive_probes?.saturating_sub(probes), "")
        };
        let left = due.saturating_add(interval.saturating_mul(more));
        Some(format!("the kernel gives up in {}{why}", short(left)))
    }
}
