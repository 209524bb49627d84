//! Connections that do not end.

use super::{Case, Symptom, fits, short};
use crate::{
    diagnosis::{Kind, Severity},
    tcp::TcpState::CloseWait,
};

impl Case<'_> {
    pub(super) fn not_closed(&self) -> Option<Symptom> {
        let age = self.age();
        let relevant = self.row.state == CloseWait && self.is_held();
        if !relevant || !self.counts(age, fits::NOT_CLOSED) {
            return None;
        }
        let mut evidence = vec![format!("the peer closed {} ago", self.at_least(age))];
        if self.unread_bytes() > 0 {
            evidence.push(format!("{} bytes unread", self.unread_bytes()));
        }
        Some(Symptom {
            kind: Kind::NotClosed,
            severity: Severity::Warning,
            age,
            evidence,
        })
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
            format!("closing for {}", short(age)),
            format!("FIN or data sent again {times} times"),
        ];
        evidence.extend(self.next_timer("again"));
        evidence.extend(self.gives_up());
        Some(Symptom {
            kind: Kind::FinUnacknowledged,
            severity: Severity::Note,
            age,
            evidence,
        })
    }

    pub(super) fn half_closed(&self) -> Option<Symptom> {
        let age = self.age();
        let quiet = self.now.received.last.unwrap_or(age).min(age);
        if !self.is_held() || !self.counts(quiet, fits::HALF_CLOSED) {
            return None;
        }
        Some(Symptom {
            kind: Kind::HalfClosed,
            severity: Severity::Warning,
            age,
            evidence: vec![
                format!("half closed for {}", self.at_least(age)),
                format!("nothing received for {}", short(quiet)),
            ],
        })
    }

    pub(super) fn peer_not_closing(&self) -> Option<Symptom> {
        let age = self.age();
        if !self.counts(age, fits::PEER_NOT_CLOSING) {
            return None;
        }
        let mut evidence = vec![format!("closed here {} ago", self.at_least(age))];
        evidence.extend(self.next_timer("forgotten"));
        Some(Symptom {
            kind: Kind::PeerNotClosing,
            severity: Severity::Note,
            age,
            evidence,
        })
    }
}
