//! The kernel's figures of a connection in words: how it stands now, and what has gone over it.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use super::Short;
use crate::{
    facts::{Figures, TimerKind},
    plural::counted,
    tcp::TcpState,
    view::HistoryView,
};

/// How a live connection stands.
pub(super) struct Present<'a>(&'a Figures);

impl<'a> Present<'a> {
    /// `None` when it has ended, or the kernel has not said.
    pub(super) fn of(history: &'a HistoryView) -> Option<Self> {
        let live = history.ending.is_none();
        let figures = history.row.figures.as_deref().filter(|_| live)?;
        Some(Self(figures))
    }

    /// What waits on either side.
    fn queues(&self) -> String {
        let queues = &self.0.queues;
        if self.0.state != TcpState::Listen {
            return format!("{} bytes not read, {} not acknowledged", queues.recv, queues.send);
        }
        let mut text = format!("accept queue {} of {}", queues.recv, queues.backlog);
        let listening = self.0.listening.unwrap_or_default();
        for (count, what) in [(listening.requests, "half open"), (listening.drops, "dropped")] {
            if let Some(count) = count.filter(|count| *count > 0) {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text
    }

    /// What the kernel does next, and how often it has in vain.
    fn timer(&self) -> Option<String> {
        let timer = self.0.timer?;
        let what = match timer.kind {
            TimerKind::Off | TimerKind::Other(_) => return None,
            TimerKind::Retransmit => "sends again",
            TimerKind::SynAck => "sends the SYN-ACK again",
            TimerKind::Reordering | TimerKind::LossProbe => "probes for a loss",
            TimerKind::WindowProbe => "probes the window",
            TimerKind::Keepalive => "probes whether the peer is there",
            TimerKind::FinWait2 | TimerKind::TimeWait => "expires",
        };
        let attempts = self.0.attempts;
        let tries = attempts.retransmits.max(attempts.probes).unwrap_or(0);
        let again = match timer.kind {
            TimerKind::WindowProbe | TimerKind::Keepalive => "unanswered probe",
            _ => "unanswered retransmission",
        };
        let so_far = if tries > 0 {
            format!(", {} so far", counted(tries, again))
        } else {
            String::new()
        };
        Some(format!("{what} in {}{so_far}", Short(timer.due)))
    }

    /// What limits sending.
    fn path(&self) -> Option<String> {
        let path = &self.0.path;
        let parts = [
            path.cwnd.map(|packets| format!("congestion window {packets}")),
            path.mss.map(|bytes| format!("segments of {bytes}")),
            self.0.sent.window.map(|bytes| format!("peer's window {bytes}")),
            self.0.received.window.map(|bytes| format!("own window {bytes}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl fmt::Display for Present<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [Some(self.queues()), self.timer(), self.path()];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join("; "))
    }
}

/// What went over a connection, and how well: at its end, or until now.
pub(super) struct Traffic {
    acked: Option<u64>,
    received: Option<u64>,
    sent_again: Option<u32>,
    rtt: Option<Duration>,
}

impl Traffic {
    /// `None` when nothing is known.
    pub(super) fn of(history: &HistoryView) -> Option<Self> {
        if let Some(totals) = &history.totals {
            return Some(Self {
                acked: Some(totals.bytes_acked),
                received: Some(totals.bytes_received),
                sent_again: Some(totals.retransmits),
                rtt: totals.srtt_us.map(|micros| Duration::from_micros(micros.into())),
            });
        }
        let figures = history.row.figures.as_deref()?;
        figures.sent.bytes_acked?;
        Some(Self {
            acked: figures.sent.bytes_acked,
            received: figures.received.bytes,
            sent_again: figures.attempts.total_retransmits,
            rtt: figures.path.rtt,
        })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.acked.map(|bytes| format!("{bytes} bytes acknowledged")),
            self.received.map(|bytes| format!("{bytes} received")),
            self.sent_again
                .filter(|times| *times > 0)
                .map(|times| format!("{times} segments sent again")),
            self.rtt.map(|rtt| format!("round trip {}", Short(rtt))),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        // As the kernel counts them (`tcp_ack`, `tcp_fin`).
        write!(f, "{} (SYN and FIN count as bytes)", parts.join(", "))
    }
}
