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
        evidence.extend(self.soft_error());
        evidence.extend(self.next_timer("again"));
        evidence.extend(self.gives_up_syn());
        evidence.extend(self.possible.map(|listener| {
            format!(
                "a listener with a full accept queue has this address and port in netns {}, but whether the SYNs get there is not known",
                listener.connection.netns.0
            )
        }));
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
        // A SYN that comes again is answered at once, and the timer begins anew (`tcp_check_req`).
        let sent_again = attempts.total_retransmits.unwrap_or(timeouts);
        if timeouts.max(sent_again) == 0 || !self.counts(age, fits::UNANSWERED) {
            return None;
        }
        // The timer runs on once the client has answered, but the kernel asks no more (`reqsk_timer_handler`).
        let answered = attempts.answered;
        let queue = self.listener.map(|listener| listener.queues);
        if let Some(queue) = queue.filter(is_full).filter(|_| answered != Some(false)) {
            return Some(Symptom::new(
                Kind::HeldByAcceptQueue,
                Severity::Critical,
                age,
                vec![format!("half open for {}", short(age)), accept_queue(&queue)],
            ));
        }
        if answered.unwrap_or(sent_again < timeouts) {
            // It is let in once it sends data (`TCP_DEFER_ACCEPT`).
            return None;
        }
        let mut evidence = vec![format!(
            "SYN-ACK sent {} times in {}",
            sent_again + 1,
            self.at_least(age)
        )];
        evidence.extend(self.next_timer("again"));
        evidence.extend(self.gives_up_syn_ack());
        evidence.extend(self.flood(sent_again.saturating_sub(timeouts)));
        Some(Symptom::new(
            Kind::SynAckUnanswered,
            Severity::Warning,
            age,
            evidence,
        ))
    }

    /// What else comes to the listener of a half-open connection: the others, and what it has dropped. A SYN that comes
    /// again is counted as dropped, too (`tcp_check_req` makes nothing of it); `repeated` have for this connection.
    fn flood(&self, repeated: u32) -> Vec<String> {
        let Some(listener) = self.listener else {
            return Vec::new();
        };
        let mut evidence = Vec::new();
        let requests = listener.listening.and_then(|listening| listening.requests);
        let requests = requests.unwrap_or(1);
        if requests > 1 {
            let most = listener.queues.backlog;
            evidence.push(format!(
                "{requests} half-open connections of its listener (backlog {most})"
            ));
        }
        let Some(drops) = drops(listener).filter(|drops| *drops > repeated.saturating_mul(requests)) else {
            return evidence;
        };
        let dropped = self.listener_before.and_then(dropped_until(drops)).unwrap_or(0);
        let lately = match dropped {
            0 => String::new(),
            dropped => format!(", {dropped} of them in {}", short(self.between)),
        };
        evidence.push(format!("the listener has dropped {drops} packets so far{lately}"));
        if self.settings.and_then(|settings| settings.syncookies) == Some(0) {
            evidence.push("tcp_syncookies is 0".to_owned());
        }
        evidence
    }

    pub(super) fn listening(&self) -> Option<Symptom> {
        let queue = self.now.queues;
        let so_far = drops(self.now);
        let dropped = so_far.and_then(|drops| self.before.and_then(dropped_until(drops)));
        let dropped = dropped.unwrap_or(0);
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

/// What a listener has dropped since it was made, wrapping.
fn drops(listener: &Figures) -> Option<u32> {
    listener.listening?.drops
}

/// What a listener has dropped until it had dropped `drops`, since it was as it was before.
fn dropped_until(drops: u32) -> impl Fn(&Figures) -> Option<u32> {
    move |before| Some(drops.wrapping_sub(self::drops(before)?))
}
