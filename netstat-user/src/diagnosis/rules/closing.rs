//! Connections that do not end.

use super::{Case, Symptom, fits, short};
use crate::{
    diagnosis::{Kind, Severity},
    facts::Form,
    tcp::TcpState::CloseWait,
};

impl Case<'_> {
    pub(super) fn not_closed(&self) -> Option<Symptom> {
        let age = self.age();
        // It may still have something to send, to a peer that has only shut down its direction.
        let quiet = self.now.sent.last.map_or(age, |last| last.min(age));
        let relevant = self.row.state == CloseWait && self.is_held();
        if !relevant || !self.counts(quiet, fits::NOT_CLOSED) {
            return None;
        }
        let mut evidence = vec![format!("the peer closed {} ago", self.at_least(age))];
        if quiet < age {
            evidence.push(format!("nothing sent for {}", short(quiet)));
        }
        if self.unread_bytes() > 0 {
            evidence.push(format!("{} bytes unread", self.unread_bytes()));
        }
        Some(Symptom::new(Kind::NotClosed, Severity::Warning, age, evidence))
    }

    pub(super) fn closing(&self) -> Option<Symptom> {
        let age = self.age();
        let times = self.now.attempts.retransmits.unwrap_or(0);
        if times == 0 {
            return self.zero_window();
        }
        if times < 2 || !self.counts(age, fits::UNACKNOWLEDGED) {
            return None;
        }
        let mut evidence = vec![
            format!("closing for {}", self.at_least(self.row.in_state)),
            format!("FIN or data sent again {times} times"),
            format!("nothing acknowledged for {}", short(self.now.unanswered_for())),
        ];
        evidence.extend(self.soft_error());
        evidence.extend(self.next_timer("again"));
        evidence.extend(self.gives_up());
        Some(Symptom::new(
            Kind::FinUnacknowledged,
            Severity::Note,
            age,
            evidence,
        ))
    }

    pub(super) fn half_closed(&self) -> Option<Symptom> {
        let age = self.age();
        let quiet = self.now.received.last.unwrap_or(age).min(age);
        if !self.is_held() || !self.counts(quiet, fits::HALF_CLOSED) {
            return None;
        }
        Some(Symptom::new(
            Kind::HalfClosed,
            Severity::Warning,
            age,
            vec![
                format!("half closed for {}", self.at_least(age)),
                format!("nothing received for {}", short(quiet)),
            ],
        ))
    }

    pub(super) fn peer_not_closing(&self) -> Option<Symptom> {
        let age = self.age();
        if !self.counts(age, fits::PEER_NOT_CLOSING) {
            return None;
        }
        let mut evidence = vec![format!("closed here {} ago", self.at_least(age))];
        if self.row.form == Form::Minisock {
            evidence.extend(self.next_timer("forgotten"));
        }
        Some(Symptom::new(Kind::PeerNotClosing, Severity::Note, age, evidence))
    }
}
