//! Connections that do not come about.

use std::time::Duration;

use super::{Case, Symptom, accept_queue, by_retransmissions, fits, is_full, short};
use crate::{
    diagnosis::{Kind, Severity},
    facts::Figures,
};

impl Case<'_> {
    pub(super) fn connecting(&self) -> Option<Symptom> {
        let sent_again = self.now.attempts.retransmits?;
        let age = self.age();
        if sent_again == 0 || !self.counts(age, fits::UNANSWERED) {
            return None;
        }
        let mut evidence = vec![format!("SYN sent {} times in {}", sent_again + 1, short(age))];
        if let Some(listener) = self.full {
            evidence.push(accept_queue(&listener.queues));
            return Some(Symptom {
                kind: Kind::HeldByAcceptQueue,
                severity: Severity::Critical,
                age,
                evidence,
            });
        }
        evidence.extend(self.next_timer("again"));
        let most = self.now.limits.syn_retries.map(|retries| retries + 1);
        evidence.extend(most.map(|most| format!("the kernel gives up after {most} SYNs")));
        Some(Symptom {
            kind: Kind::SynUnanswered,
            severity: by_retransmissions(sent_again),
            age,
            evidence,
        })
    }

    pub(super) fn shaking_hands(&self) -> Option<Symptom> {
        let age = self.age();
        let timeouts = self.now.attempts.retransmits.unwrap_or(0);
        if timeouts == 0 || !self.counts(age, fits::UNANSWERED) {
            return None;
        }
        let queue = self.listener.map(|listener| listener.queues);
        if let Some(queue) = queue.filter(is_full) {
            return Some(Symptom {
                kind: Kind::HeldByAcceptQueue,
                severity: Severity::Critical,
                age,
                evidence: vec![format!("half open for {}", short(age)), accept_queue(&queue)],
            });
        }
        let mut evidence = vec![format!("SYN-ACK sent {} times in {}", timeouts + 1, short(age))];
        evidence.extend(self.next_timer("again"));
        let most = self.now.limits.syn_retries.map(|retries| retries + 1);
        evidence.extend(most.map(|most| format!("the kernel gives up after {most}")));
        Some(Symptom {
            kind: Kind::SynAckUnanswered,
            severity: Severity::Warning,
            age,
            evidence,
        })
    }

    pub(super) fn listening(&self) -> Option<Symptom> {
        let queue = self.now.queues;
        let drops = |figures: &Figures| figures.listening?.drops;
        let so_far = drops(self.now);
        let dropped = so_far.zip(self.before.and_then(drops));
        let dropped = dropped.map_or(0, |(now, before)| now.wrapping_sub(before));
        let mut evidence = vec![accept_queue(&queue)];
        if dropped > 0 {
            evidence.push(format!("{dropped} packets dropped in {}", short(self.between)));
        } else if let Some(drops) = so_far.filter(|drops| *drops > 0) {
            evidence.push(format!("{drops} packets dropped so far"));
        }
        evidence.extend(
            self.waiting
                .map(|waiting| format!("the oldest has waited {}", short(waiting))),
        );
        let waiting = self.waiting.unwrap_or_default();
        // Full is bad at once, unless it is asked what has lasted.
        let (kind, severity) = if is_full(&queue) && self.counts(waiting, Duration::ZERO) {
            (Kind::AcceptQueueFull, Severity::Critical)
        } else if queue.recv > 0 && self.counts(waiting, fits::NOT_ACCEPTED) {
            (Kind::AcceptQueueFilling, Severity::Warning)
        } else {
            return None;
        };
        Some(Symptom {
            kind,
            severity,
            age: waiting,
            evidence,
        })
    }
}
