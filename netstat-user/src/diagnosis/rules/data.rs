//! Data that does not get through.

use std::time::Duration;

use super::{Case, Symptom, accept_queue, by_retransmissions, fits, short};
use crate::{
    diagnosis::{Kind, Severity},
    facts::TimerKind,
};

/// A probe may be lost, and its answer.
const PROBES_UNANSWERED: u32 = 2;

impl Case<'_> {
    /// What hinders sending: no acknowledgement, or no room at the peer.
    pub(super) fn sending(&self) -> Option<Symptom> {
        let now = self.now;
        let unacked = now.sent.unacked.filter(|unacked| *unacked > 0);
        let sent_again = now.attempts.retransmits.filter(|times| *times > 0);
        if let (Some(unacked), Some(times)) = (unacked, sent_again) {
            let age = self.now.unanswered_for();
            if times < 2 || !self.counts(age, fits::UNACKNOWLEDGED) {
                return None;
            }
            if let Some(listener) = self.kept_out {
                // The handshake is complete for this end alone.
                return Some(Symptom::new(
                    Kind::HeldByAcceptQueue,
                    Severity::Critical,
                    age,
                    vec![
                        format!("{unacked} bytes unacknowledged for {}", short(age)),
                        accept_queue(&listener.queues),
                    ],
                ));
            }
            let mut evidence = vec![
                format!("{unacked} bytes unacknowledged"),
                format!("sent again {times} times"),
                format!("nothing acknowledged for {}", short(age)),
            ];
            evidence.extend(self.soft_error());
            evidence.extend(self.next_timer("again"));
            evidence.extend(self.gives_up());
            return Some(Symptom::new(
                Kind::DataUnacknowledged,
                by_retransmissions(times),
                age,
                evidence,
            ));
        }
        self.zero_window()
    }

    pub(super) fn zero_window(&self) -> Option<Symptom> {
        let now = self.now;
        let unsent = now.sent.unsent.filter(|unsent| *unsent > 0)?;
        let window = now.sent.window?;
        let probing = now
            .timer
            .is_some_and(|timer| timer.kind == TimerKind::WindowProbe);
        // The first probe comes a timeout after the window was found closed (`tcp_check_probe_timer`).
        let age = now
            .attempts
            .probing?
            .saturating_add(now.path.rto.unwrap_or_default());
        if !probing {
            return None;
        }
        let waiting = format!("{unsent} bytes wait to be sent");
        let probes = now.attempts.probes.unwrap_or(0);
        // One segment would do (`tcp_snd_wnd_test`).
        let enough = now.sent.unacked == Some(0) && window >= now.path.mss.unwrap_or(u32::MAX).min(unsent);
        if enough {
            return self.not_sent(waiting, age, probes);
        }
        if !self.counts(age, fits::WINDOW) {
            return None;
        }
        let window = format!("the peer's window has been {window} bytes for {}", short(age));
        if probes >= PROBES_UNANSWERED {
            // Whoever keeps his window closed says so again when he is asked.
            let mut evidence = vec![waiting, window, format!("{probes} probes of it unanswered")];
            evidence.extend(self.soft_error());
            evidence.extend(self.next_timer("the next"));
            return Some(Symptom::new(
                Kind::DataUnacknowledged,
                by_retransmissions(probes),
                age,
                evidence,
            ));
        }
        let evidence = [waiting, window].into_iter();
        Some(Symptom::new(
            Kind::ZeroWindow,
            Severity::Warning,
            age,
            evidence.chain(self.next_timer("the next probe")).collect(),
        ))
    }

    /// The peer has room, and nothing is on the way: it is this host that could not send. The kernel tries again as it
    /// probes a window (`tcp_write_xmit`, `tcp_check_probe_timer`).
    fn not_sent(&self, waiting: String, age: Duration, tries: u32) -> Option<Symptom> {
        if tries == 0 || !self.counts(age, fits::UNACKNOWLEDGED) {
            return None;
        }
        let mut evidence = vec![
            waiting,
            format!("nothing could be sent for {}", short(age)),
            format!("tried again {tries} times"),
        ];
        evidence.extend(self.soft_error());
        evidence.extend(self.next_timer("again"));
        Some(Symptom::new(
            Kind::DataNotSent,
            by_retransmissions(tries),
            age,
            evidence,
        ))
    }

    pub(super) fn unread(&self) -> Option<Symptom> {
        let unread = self.unread_bytes();
        let age = self.not_read_for().filter(|_| unread > 0 && self.is_held())?;
        let closed = self.now.received.window == Some(0);
        let lasts = self.counts(age, fits::UNREAD) || closed && self.older.is_none();
        if !lasts {
            return None;
        }
        let mut evidence = vec![
            format!("{unread} bytes unread"),
            format!("nothing read for {}", short(age)),
        ];
        let before = self.before.map_or(0, |before| before.queues.recv);
        let grown = unread.saturating_sub(before);
        if grown > 0 {
            evidence.push(format!("{grown} more in {}", short(self.between)));
        }
        if closed {
            evidence.push("the receive window is closed: the peer cannot send".to_owned());
        }
        let severity = if closed {
            Severity::Critical
        } else {
            Severity::Warning
        };
        Some(Symptom::new(Kind::DataUnread, severity, age, evidence))
    }

    /// For how long nothing has been read, at least, of what was there to read: since that was seen first, or since the
    /// last that came.
    fn not_read_for(&self) -> Option<Duration> {
        let seen = self.unread_since.map(|since| self.now.time.since(since))?;
        (seen > Duration::ZERO).then(|| seen.max(self.now.received.last.unwrap_or_default()))
    }

    /// Whether data that keeps coming has not been read, and it takes longer to say whether it is not going to be.
    pub(in crate::diagnosis) fn is_undecided(&self) -> bool {
        let grows = self
            .before
            .is_some_and(|before| before.queues.recv < self.now.queues.recv);
        grows && self.is_held() && self.not_read_for().is_some() && self.judge().is_none()
    }
}
