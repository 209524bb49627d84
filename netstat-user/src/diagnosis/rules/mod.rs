//! Whether one socket is stuck, judged by its state, its age and the kernel's figures.
//!
//! What can be normal for a moment counts only once it has lasted: a healthy host has sockets in every state.

mod closing;
mod data;
mod giving_up;
mod opening;
mod silent;

use std::time::Duration;

use super::{Kind, Service, Severity};
use crate::{
    clock::Ktime,
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
    /// And a moment before.
    pub listener_before: Option<&'a Figures>,
    /// For a connection that begins: the listener on this host that it is to, if its accept queue is full.
    pub full: Option<&'a Figures>,
    /// For a connection that begins: a listener of another namespace with a full accept queue, to which it may be.
    pub possible: Option<&'a RowView>,
    /// For a connection that this end takes for established: the listener on this host whose full accept queue has no
    /// room for it.
    pub kept_out: Option<&'a Figures>,
    /// Since when it is seen that nothing is read of what there is.
    pub unread_since: Option<Ktime>,
    /// How long the oldest connection has waited in a listener's accept queue.
    pub waiting: Option<Duration>,
    /// The settings of its namespace.
    pub settings: Option<&'a Settings>,
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
    /// How many sockets it is about, if the one stands for several.
    pub sockets: usize,
    /// What those have in common, unless it is what the one is a connection to.
    pub service: Option<Service>,
}

impl Symptom {
    /// One of a single socket.
    #[must_use]
    pub const fn new(kind: Kind, severity: Severity, age: Duration, evidence: Vec<String>) -> Self {
        Self {
            kind,
            severity,
            age,
            evidence,
            sockets: 1,
            service: None,
        }
    }
}

/// Ages from which a state that can be normal counts as stuck.
mod fits {
    use std::time::Duration;

    /// A slow network answers a SYN within this; the first retransmission comes after a second.
    pub(super) const UNANSWERED: Duration = Duration::from_secs(1);
    /// No path takes so long to carry a probe there and its answer back.
    pub(super) const PROBE: Duration = Duration::from_secs(5);
    /// A process that accepts at all does so at once.
    pub(super) const NOT_ACCEPTED: Duration = Duration::from_secs(2);
    /// Data that is acknowledged late now and then is sent again once; this takes several times.
    pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(1);
    /// A peer that is busy for a moment closes its window too.
    pub(super) const WINDOW: Duration = Duration::from_secs(2);
    /// A process reads what has come within this, unless it is busy with something else.
    pub(super) const UNREAD: Duration = Duration::from_secs(5);
    /// A process closes soon after its peer, unless it has still something to send.
    pub(super) const NOT_CLOSED: Duration = Duration::from_mins(1);
    /// A half-closed connection waits for the peer's last answer.
    pub(super) const HALF_CLOSED: Duration = Duration::from_mins(1);
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
                .or_else(|| self.silent())
                .or_else(|| self.unread()),
            FinWait1 | Closing | LastAck => self.closing(),
            FinWait2 if self.is_held() => self.silent().or_else(|| self.half_closed()),
            FinWait2 => self.peer_not_closing(),
            TcpState::TimeWait | TcpState::Close => None,
        }
    }

    /// Whether something that is `age` old counts, if it counts from `fitting` on.
    fn counts(&self, age: Duration, fitting: Duration) -> bool {
        age >= self.older.unwrap_or(fitting)
    }

    /// For how long it has been in its state, at least: since the table knows of it, or as far back as the kernel's
    /// figures show. A FIN, and the acknowledgement of one, are acknowledgements too, so CLOSE_WAIT and FIN_WAIT2 are
    /// as old as the last of those (`tcp_ack`).
    fn age(&self) -> Duration {
        let shown = match (self.row.state, self.row.form) {
            (SynRecv, Form::Request) => self.now.half_open_for(),
            (SynSent | SynRecv | FinWait1 | Closing | LastAck, _) => self.now.unanswered_for(),
            (_, Form::Minisock) => self.now.minisock_for(),
            (CloseWait | FinWait2, _) => self.now.sent.last_ack.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.row.in_state.max(shown)
    }

    /// A process holds it, by a descriptor of its own. A connection that waits to be accepted is its listener's
    /// business, and an MPTCP subflow that of the socket above it.
    fn is_held(&self) -> bool {
        self.now.inode.is_some()
    }

    /// Bytes of data: a FIN behind them counts as one more (`tcp_fin`).
    fn unread_bytes(&self) -> u32 {
        let fin = self.now.receive_shutdown == Some(true);
        self.now.queues.recv.saturating_sub(fin.into())
    }

    fn at_least(&self, age: Duration) -> String {
        let sign = if self.row.at_least { "≥" } else { "" };
        format!("{sign}{}", short(age))
    }

    /// What has failed on the way without ending the connection: an ICMP message, or the lack of a route here
    /// (`tcp_v4_err`, `inet_sk_rebuild_header`).
    fn soft_error(&self) -> Option<String> {
        let errno = self.now.soft_error?;
        Some(format!(
            "last error on the way: {} (errno {errno})",
            error_text(errno)
        ))
    }

    fn next_timer(&self, what: &str) -> Option<String> {
        let timer = self.now.timer.filter(|timer| timer.kind != TimerKind::Off)?;
        Some(format!("{what} in {}", short(timer.due)))
    }
}

/// Full is one more than the limit (`sk_acceptq_is_full`).
pub(super) fn is_full(queue: &Queues) -> bool {
    queue.recv > queue.backlog
}

fn accept_queue(queue: &Queues) -> String {
    format!("accept queue {} of {}", queue.recv, queue.backlog)
}

fn short(duration: Duration) -> Short {
    Short(duration)
}

/// An errno in words, such as "no route to host".
fn error_text(errno: u32) -> String {
    let error = i32::try_from(errno).map(std::io::Error::from_raw_os_error);
    let text = error.map(|error| error.to_string()).unwrap_or_default();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

fn by_retransmissions(times: u32) -> Severity {
    if times >= MANY_RETRANSMISSIONS {
        Severity::Critical
    } else {
        Severity::Warning
    }
}
