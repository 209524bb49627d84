//! Whether one socket is stuck, judged by its state, its age and the kernel's figures.
//!
//! What can be normal for a moment counts only once it has lasted: a healthy host has sockets in every state.

use std::time::Duration;

use super::{Kind, Severity};
use crate::{
    facts::{Figures, Form, Queues, TimerKind},
    output::Short,
    settings::Settings,
    tcp::TcpState::{
        self, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
    },
    view::RowView,
};

/// A socket under judgement.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Its row.
    pub row: &'a RowView,
    /// The kernel's figures now.
    pub now: &'a Figures,
    /// And a moment before, if it was there.
    pub before: Option<&'a Figures>,
    /// How long before.
    pub between: Duration,
    /// The listener that a half-open connection belongs to.
    pub listener: Option<&'a Figures>,
    /// For a connection that begins: the listener on this host that it is to, if its accept queue is full.
    pub full: Option<&'a Figures>,
    /// How long the oldest connection has waited in a listener's accept queue.
    pub waiting: Option<Duration>,
    /// The settings of its namespace.
    pub settings: &'a Settings,
    /// As [`Looks::older`](super::Looks::older).
    pub older: Option<Duration>,
}

/// What is wrong with one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symptom {
    /// What.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// For how long, at least.
    pub age: Duration,
    /// What shows it: numbers from this kernel, now.
    pub evidence: Vec<String>,
}

/// Ages from which a state that can be normal counts as stuck.
mod fits {
    use std::time::Duration;

    /// A slow network answers a SYN within this; the first retransmission comes after a second.
    pub(super) const UNANSWERED: Duration = Duration::from_secs(1);
    /// A process that accepts at all does so at once.
    pub(super) const NOT_ACCEPTED: Duration = Duration::from_secs(2);
    /// Data that is acknowledged late now and then is sent again once; this takes several times.
    pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(1);
    /// A peer that is busy for a moment closes its window too.
    pub(super) const WINDOW: Duration = Duration::from_secs(2);
    /// A process reads what has come within this, unless it is busy with something else.
    pub(super) const UNREAD: Duration = Duration::from_secs(5);
    /// A process closes soon after its peer, unless it has still something to send.
    pub(super) const NOT_CLOSED: Duration = Duration::from_secs(60);
    /// A half-closed connection waits for the peer's last answer.
    pub(super) const HALF_CLOSED: Duration = Duration::from_secs(60);
    /// As long as the kernel keeps it unless it is told otherwise, but for a little.
    pub(super) const PEER_NOT_CLOSING: Duration = Duration::from_secs(30);
}

/// So many retransmissions are no hiccup any more.
const MANY_RETRANSMISSIONS: u32 = 4;

impl Case<'_> {
    /// What is wrong with the socket; `None` if nothing is.
    #[must_use]
    pub fn judge(&self) -> Option<Symptom> {
        match self.row.state {
            SynSent => self.connecting(),
            SynRecv => self.shaking_hands(),
            Listen => self.listening(),
            Established | CloseWait => self
                .sending()
                .or_else(|| self.not_closed())
                .or_else(|| self.unread()),
            FinWait1 | Closing | LastAck => self.closing(),
            FinWait2 if self.row.form == Form::Full => self.half_closed(),
            FinWait2 => self.peer_not_closing(),
            TcpState::TimeWait | TcpState::Close => None,
        }
    }

    /// Whether something that is `age` old counts, if it counts from `fitting` on.
    fn counts(&self, age: Duration, fitting: Duration) -> bool {
        age >= self.older.unwrap_or(fitting)
    }

    fn connecting(&self) -> Option<Symptom> {
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
            severity: self.by_retransmissions(sent_again),
            age,
            evidence,
        })
    }

    fn shaking_hands(&self) -> Option<Symptom> {
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

    fn listening(&self) -> Option<Symptom> {
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
        let (kind, severity) = if is_full(&queue) {
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

    /// What hinders sending: no acknowledgement, or no room at the peer.
    fn sending(&self) -> Option<Symptom> {
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
                severity: self.by_retransmissions(times),
                age,
                evidence,
            });
        }
        self.zero_window()
    }

    fn zero_window(&self) -> Option<Symptom> {
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

    fn not_closed(&self) -> Option<Symptom> {
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

    fn unread(&self) -> Option<Symptom> {
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
        if !idle || !(closed || self.counts(age, fits::UNREAD)) {
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

    fn closing(&self) -> Option<Symptom> {
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

    fn half_closed(&self) -> Option<Symptom> {
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

    fn peer_not_closing(&self) -> Option<Symptom> {
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

    /// For how long it has been in its state, at least: since the table knows of it, or as far back as the kernel's
    /// figures show. A FIN, and the acknowledgement of one, are acknowledgements too, so CLOSE_WAIT and FIN_WAIT2 are
    /// as old as the last of those (`tcp_ack`).
    fn age(&self) -> Duration {
        let shown = match self.row.state {
            CloseWait => self.now.sent.last_ack,
            FinWait2 if self.row.form == Form::Full => self.now.sent.last_ack,
            SynSent | FinWait1 | Closing | LastAck => Some(self.unanswered_for()),
            _ => None,
        };
        self.row.in_state.max(shown.unwrap_or_default())
    }

    /// How long something has been sent in vain: the timeouts so far, each twice the one before, and what has passed
    /// of the present one.
    fn unanswered_for(&self) -> Duration {
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

    /// A process holds it; a connection that waits to be accepted is its listener's business.
    fn is_held(&self) -> bool {
        self.now.inode.is_some()
    }

    /// Bytes of data: a FIN behind them counts as one more (`tcp_fin`).
    fn unread_bytes(&self) -> u32 {
        let fin = self.now.receive_shutdown == Some(true);
        self.now.queues.recv.saturating_sub(fin.into())
    }

    fn by_retransmissions(&self, times: u32) -> Severity {
        if times >= MANY_RETRANSMISSIONS {
            Severity::Critical
        } else {
            Severity::Warning
        }
    }

    fn at_least(&self, age: Duration) -> String {
        let sign = if self.row.at_least { "≥" } else { "" };
        format!("{sign}{}", short(age))
    }

    fn next_timer(&self, what: &str) -> Option<String> {
        let timer = self.now.timer.filter(|timer| timer.kind != TimerKind::Off)?;
        Some(format!("{what} in {}", short(timer.due)))
    }

    /// When the kernel gives up data that nobody acknowledges (`tcp_write_timeout`).
    fn gives_up(&self) -> Option<String> {
        if let Some(timeout) = self.now.limits.user_timeout {
            return Some(format!(
                "the kernel gives up after {} (TCP_USER_TIMEOUT)",
                short(timeout)
            ));
        }
        if self.is_held() {
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

/// Full is one more than the limit (`sk_acceptq_is_full`).
pub(super) fn is_full(queue: &Queues) -> bool {
    queue.recv > queue.backlog
}

fn accept_queue(queue: &Queues) -> String {
    format!("accept queue {} of {}", queue.recv, queue.backlog)
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

fn short(duration: Duration) -> Short {
    Short(duration)
}
