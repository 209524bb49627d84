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
        let mut evidence = vec![format!(
            "SYN sent {} times in {}",
            sent_again + 1,
            self.at_least(age)
        )];
        if let Some(listener) = self.full {
            evidence.push(accept_queue(&listener.queues));
            return Some(Symptom::new(
                Kind::HeldByAcceptQueue,
                Severity::Critical,
                age,
                evidence,
            ));
        }
        evidence.extend(self.next_timer("again"));
        evidence.extend(self.gives_up_syn());
        Some(Symptom::new(
            Kind::SynUnanswered,
            by_retransmissions(sent_again),
            age,
            evidence,
        ))
    }

    pub(super) fn shaking_hands(&self) -> Option<Symptom> {
        let age = self.age();
        let attempts = self.now.attempts;
        let timeouts = attempts.retransmits.unwrap_or(0);
        if timeouts == 0 || !self.counts(age, fits::UNANSWERED) {
            return None;
        }
        let queue = self.listener.map(|listener| listener.queues);
        if let Some(queue) = queue.filter(is_full) {
            return Some(Symptom::new(
                Kind::HeldByAcceptQueue,
                Severity::Critical,
                age,
                vec![format!("half open for {}", short(age)), accept_queue(&queue)],
            ));
        }
        let sent_again = attempts.total_retransmits.unwrap_or(timeouts);
        if sent_again < timeouts {
            // The client has answered, and is let in once it sends data (`TCP_DEFER_ACCEPT`): the timer runs on, but the
            // kernel does not ask again (`reqsk_timer_handler`, `inet_request_sock.acked`).
            return None;
        }
        let mut evidence = vec![format!(
            "SYN-ACK sent {} times in {}",
            sent_again + 1,
            self.at_least(age)
        )];
        evidence.extend(self.next_timer("again"));
        let most = self.now.limits.syn_retries.map(|retries| retries + 1);
        evidence.extend(most.map(|most| format!("the kernel gives up after {most}")));
        Some(Symptom::new(
            Kind::SynAckUnanswered,
            Severity::Warning,
            age,
            evidence,
        ))
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
        let nobody_accepts = queue.recv > 0 && self.counts(waiting, fits::NOT_ACCEPTED);
        // A queue may be full for a moment; it hurts if that lasts, or if somebody was sent away just now.
        let hurts = nobody_accepts || dropped > 0 && self.counts(waiting, Duration::ZERO);
        let (kind, severity) = if is_full(&queue) && hurts {
            (Kind::AcceptQueueFull, Severity::Critical)
        } else if nobody_accepts {
            (Kind::AcceptQueueFilling, Severity::Warning)
        } else {
            return None;
        };
        Some(Symptom::new(kind, severity, waiting, evidence))
    }
}
