//! The figures of a socket, out of what the kernel keeps them in: jiffies, fractions, zeros that mean "none".

use std::time::Duration;

use netstat_ebpf::wire::{Count, Figure, SocketFigures};

use crate::{
    clock::Tick,
    connection::Cookie,
    facts::{Attempts, Figures, Form, Limits, Listening, Path, Received, Sent, Sighting, Timer, TimerKind},
    tcp::TcpState,
};

/// `icsk_pending`, `include/net/inet_connection_sock.h`
mod pending {
    pub(super) const RETRANS: u32 = 1;
    pub(super) const PROBE0: u32 = 3;
    pub(super) const LOSS_PROBE: u32 = 5;
    pub(super) const REO_TIMEOUT: u32 = 6;
}
/// `TCP_INFINITE_SSTHRESH`, `include/net/tcp.h`
const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;
/// `TCP_RTO_MAX`, `include/net/tcp.h`: the same for all before 6.15
const TCP_RTO_MAX: Duration = Duration::from_mins(2);
/// `RCV_SHUTDOWN` and `SEND_SHUTDOWN`, `include/net/sock.h`
const RCV_SHUTDOWN: u32 = 1;
const SEND_SHUTDOWN: u32 = 2;

/// A record, with what it takes to read it.
struct Reader<'a> {
    record: &'a SocketFigures,
    seen: &'a Sighting,
    tick: Tick,
}

/// The figures that `record` holds of the socket that was `seen`.
pub(super) fn figures(record: &SocketFigures, seen: &Sighting, tick: Tick) -> Figures {
    let reader = Reader { record, seen, tick };
    let shutdown = |bit| reader.get(Figure::Shutdown).map(|bits| bits & bit != 0);
    Figures {
        time: seen.time,
        state: seen.state,
        form: seen.form,
        inode: seen.inode,
        orphan: reader.get(Figure::Orphan).map(|orphan| orphan != 0),
        age: reader.age(),
        v6only: reader.get(Figure::V6Only).map(|v6only| v6only != 0),
        queues: seen.queues,
        timer: reader.timer(),
        attempts: reader.attempts(),
        limits: reader.limits(),
        path: reader.path(),
        sent: reader.sent(),
        received: reader.received(),
        send_shutdown: shutdown(SEND_SHUTDOWN),
        receive_shutdown: shutdown(RCV_SHUTDOWN),
        soft_error: reader.nonzero(Figure::SoftError),
        listening: (seen.state == TcpState::Listen).then(|| Listening {
            requests: reader.get(Figure::Requests),
            drops: reader.get(Figure::Drops),
        }),
        listener: reader
            .count(Count::Listener)
            .filter(|&cookie| cookie != 0)
            .map(Cookie),
    }
}

impl Reader<'_> {
    fn get(&self, which: Figure) -> Option<u32> {
        self.record.figure(which)
    }

    fn nonzero(&self, which: Figure) -> Option<u32> {
        self.get(which).filter(|&value| value != 0)
    }

    fn count(&self, which: Count) -> Option<u64> {
        self.record.count(which)
    }

    /// A number of jiffies as a duration.
    fn jiffies(&self, which: Figure) -> Option<Duration> {
        Some(self.tick.times(self.get(which)?.into()))
    }

    /// How long ago a moment is that is kept as the lower half of `jiffies`; 0 stands for no moment at all.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel cuts it too: `tcp_jiffies32`"
    )]
    fn ago(&self, which: Figure) -> Option<Duration> {
        let moment = self.nonzero(which)?;
        let ago = (self.record.jiffies as u32).wrapping_sub(moment);
        // A segment may come, and set it, between the iterator's look at the clock and at the socket.
        let ago = ago.cast_signed().max(0).unsigned_abs();
        Some(self.tick.times(ago.into()))
    }

    /// For how long it has been what it is.
    fn age(&self) -> Option<Duration> {
        match self.seen.form {
            Form::Request => {
                let sent = self.count(Count::FirstSynAck).filter(|&sent| sent != 0)?;
                Some(Duration::from_micros(
                    (self.record.monotonic / 1000).saturating_sub(sent),
                ))
            }
            Form::Minisock => self
                .nonzero(Figure::Entered)
                .map(|moment| self.stamped(moment, false)),
            Form::Full => None,
        }
    }

    /// How long ago a moment of `CLOCK_MONOTONIC` is that is kept as the lower half of so many microseconds or milliseconds.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel cuts it too")]
    fn stamped(&self, moment: u32, micros: bool) -> Duration {
        let unit = if micros { 1_000 } else { 1_000_000 };
        let ago = ((self.record.monotonic / unit) as u32).wrapping_sub(moment);
        // A paced segment has a time to come.
        let ago = ago.cast_signed().max(0).unsigned_abs();
        Duration::from_nanos(u64::from(ago) * unit)
    }

    /// In how long a moment comes; zero when it is past.
    fn until(&self, which: Count) -> Option<Duration> {
        let left = self.count(which)?.wrapping_sub(self.record.jiffies);
        let left = left.cast_signed().max(0).unsigned_abs();
        // None is longer than the kernel can count in 32 bits: anything else is no timer's.
        u32::try_from(left).ok().map(|left| self.tick.times(left.into()))
    }

    fn timer(&self) -> Option<Timer> {
        let timer = |kind, which| {
            Some(Timer {
                kind,
                due: self.until(which)?,
            })
        };
        match self.seen.form {
            Form::Minisock => timer(TimerKind::TimeWait, Count::Expires),
            Form::Request => timer(TimerKind::SynAck, Count::Expires),
            Form::Full => match self.get(Figure::Pending)? {
                0 if self.count(Count::KeepaliveExpires).is_some() => {
                    timer(self.keepalive(), Count::KeepaliveExpires)
                }
                0 => Some(Timer {
                    kind: TimerKind::Off,
                    due: Duration::ZERO,
                }),
                pending => timer(kind(pending), Count::Expires),
            },
        }
    }

    /// What the keepalive timer is for (`tcp_keepalive_timer`).
    fn keepalive(&self) -> TimerKind {
        // An orphan in FIN_WAIT2 has no other use for it.
        if self.seen.state == TcpState::FinWait2 && self.get(Figure::Orphan) == Some(1) {
            TimerKind::FinWait2
        } else {
            TimerKind::Keepalive
        }
    }

    fn attempts(&self) -> Attempts {
        Attempts {
            retransmits: self.get(Figure::Retransmits),
            backoff: self.get(Figure::Backoff),
            probes: self.get(Figure::ProbesOut),
            probing: self.ago(Figure::ProbesSince),
            since: self.sent_again(),
            first_timeout: self
                .jiffies(Figure::FirstTimeout)
                .filter(|first| !first.is_zero()),
            answered: self.get(Figure::Answered).map(|answered| answered != 0),
            total_retransmits: self.get(Figure::TotalRetrans),
        }
    }

    fn sent_again(&self) -> Option<Duration> {
        let micros = self.get(Figure::MicrosecondStamps) == Some(1);
        self.nonzero(Figure::SentAgain)
            .map(|moment| self.stamped(moment, micros))
    }

    fn limits(&self) -> Limits {
        // Kernels before 6.5 have no such timeouts.
        let besides = match self.seen.state {
            TcpState::SynSent => self.get(Figure::SynLinearTimeouts).unwrap_or(0),
            _ => 0,
        };
        let milliseconds = |ms: u32| Duration::from_millis(ms.into());
        Limits {
            syn_retries: self
                .get(Figure::SynRetries)
                .map(|retries| retries.saturating_add(besides)),
            retries: self.get(Figure::Retries),
            user_timeout: self.nonzero(Figure::UserTimeout).map(milliseconds),
            fin_timeout: self.jiffies(Figure::FinTimeout),
            keepalive: self.get(Figure::Keepalive).map(|set| set != 0),
            keepalive_time: self.jiffies(Figure::KeepaliveTime),
            keepalive_interval: self.jiffies(Figure::KeepaliveInterval),
            keepalive_probes: self.get(Figure::KeepaliveProbes),
        }
    }

    fn path(&self) -> Path {
        let measured = self.nonzero(Figure::Srtt);
        let micros = |us: u32| Duration::from_micros(us.into());
        Path {
            rtt: measured.map(|eighths| micros(eighths) / 8),
            rtt_deviation: measured
                .and(self.get(Figure::Mdev))
                .map(|quarters| micros(quarters) / 4),
            // `tcp_init_sock` begins with the largest number.
            rtt_min: self.get(Figure::MinRtt).filter(|&us| us != u32::MAX).map(micros),
            rto: self.jiffies(Figure::Rto),
            rto_max: self
                .jiffies(Figure::RtoMax)
                .or(self.get(Figure::Rto).map(|_| TCP_RTO_MAX)),
            cwnd: self.get(Figure::Cwnd),
            ssthresh: self
                .get(Figure::Ssthresh)
                .filter(|&packets| packets < INFINITE_SSTHRESH),
            mss: self.get(Figure::Mss),
        }
    }

    fn sent(&self) -> Sent {
        // Before its SYN is sent a socket has no sequence numbers, or the first alone: with `TCP_FASTOPEN_CONNECT`
        // until there is data, and forever when it does not connect.
        let begun = match self.seen.state {
            TcpState::SynSent => self.get(Figure::PacketsOut) != Some(0),
            state => state != TcpState::Close,
        };
        let connected = !matches!(self.seen.state, TcpState::SynSent | TcpState::Close);
        Sent {
            bytes: self.count(Count::BytesSent),
            bytes_acked: self.count(Count::BytesAcked),
            bytes_retransmitted: self.count(Count::BytesRetrans),
            unacked: self.get(Figure::Unacked).filter(|_| begun),
            // `tcp_get_info` has it so.
            unsent: self
                .get(Figure::Unsent)
                .filter(|_| begun)
                .map(|unsent| unsent.cast_signed().max(0).unsigned_abs()),
            packets_out: self.get(Figure::PacketsOut),
            packets_retransmitted: self.get(Figure::RetransOut),
            packets_lost: self.get(Figure::LostOut),
            packets_sacked: self.get(Figure::SackedOut),
            window: self.get(Figure::SendWindow).filter(|_| connected),
            buffer: self.get(Figure::SendBuffer),
            // The handshake sets the moments, without anything sent or received: `tcp_finish_connect`,
            // `tcp_create_openreq_child`, `tcp_connect_init`.
            last: self
                .ago(Figure::LastSent)
                .filter(|_| self.count(Count::BytesSent) != Some(0)),
            last_ack: self.ago(Figure::LastAck).filter(|_| connected),
        }
    }

    fn received(&self) -> Received {
        let connected = !matches!(self.seen.state, TcpState::SynSent | TcpState::Close);
        let some = self.count(Count::BytesReceived) != Some(0);
        Received {
            bytes: self.count(Count::BytesReceived),
            window: self.get(Figure::ReceiveWindow).filter(|_| connected),
            window_limit: self.get(Figure::ReceiveLimit),
            memory: self.get(Figure::ReceiveMemory),
            buffer: self.get(Figure::ReceiveBuffer),
            last: self.ago(Figure::LastReceived).filter(|_| some),
        }
    }
}

fn kind(pending: u32) -> TimerKind {
    match pending {
        pending::RETRANS => TimerKind::Retransmit,
        pending::PROBE0 => TimerKind::WindowProbe,
        pending::LOSS_PROBE => TimerKind::LossProbe,
        pending::REO_TIMEOUT => TimerKind::Reordering,
        other => TimerKind::Other(u8::try_from(other).unwrap_or(u8::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use netstat_ebpf::wire::{SocketSeen, form, kind};
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::decode::{SweepRecord, sweep_record, tests::socket};

    fn a_record() -> SocketFigures {
        let mut record = SocketFigures {
            seen: SocketSeen {
                kind: kind::SOCKET_FIGURES,
                state: 1,
                form: form::FULL,
                flags: 0,
                reserved: 0,
                time: 5,
                socket: socket(),
                mptcp: 0,
                inode: 9,
                recv_q: 1,
                send_q: 2,
                backlog: 0,
                due_in: 0,
                fwmark: 0,
                padding: 0,
            },
            jiffies: (1 << 32) + 100,
            monotonic: 0,
            known: 0,
            counts: [0; Count::NUMBER],
            figures: [0; Figure::NUMBER],
        };
        record.set_figure(Figure::Pending, 1);
        record.set_count(Count::Expires, record.jiffies + 50);
        record
    }

    fn figures_of(record: &SocketFigures) -> Figures {
        match sweep_record(record.as_bytes(), Tick::of(250)) {
            Ok((SweepRecord::Figures(seen, figures), [])) => {
                assert_eq!(seen.queues, figures.queues);
                *figures
            }
            other => panic!("not decoded: {other:?}"),
        }
    }

    #[test]
    fn figures_are_what_the_kernel_means() {
        let mut record = a_record();
        record.set_figure(Figure::LastAck, 70);
        // Before the lower half of the jiffies began anew.
        record.set_figure(Figure::LastSent, u32::MAX);
        record.set_figure(Figure::Srtt, 8000);
        record.set_figure(Figure::MinRtt, u32::MAX);
        record.set_figure(Figure::Ssthresh, 0x7fff_ffff);
        record.set_figure(Figure::Unsent, 7_u32.wrapping_neg());
        record.set_figure(Figure::Shutdown, 1);
        let figures = figures_of(&record);
        let due = Duration::from_millis(200);
        assert_eq!(
            figures.timer.map(|timer| (timer.kind, timer.due)),
            Some((TimerKind::Retransmit, due))
        );
        assert_eq!(figures.sent.last_ack, Some(Duration::from_millis(120)));
        assert_eq!(figures.sent.last, Some(Duration::from_millis(404)));
        assert_eq!(figures.path.rtt, Some(Duration::from_millis(1)));
        assert_eq!((figures.path.rtt_min, figures.path.ssthresh), (None, None));
        assert_eq!((figures.sent.unsent, figures.sent.unacked), (Some(0), None));
        assert_eq!(
            (figures.send_shutdown, figures.receive_shutdown),
            (Some(false), Some(true))
        );
        assert_eq!(figures.path.rto, None, "what is not in the record is not known");
    }

    #[test]
    fn the_timer_is_the_one_that_is_armed() {
        let mut record = a_record();
        record.set_count(Count::KeepaliveExpires, record.jiffies + 250);
        let kind = |record: &SocketFigures| figures_of(record).timer.map(|timer| timer.kind);
        assert_eq!(kind(&record), Some(TimerKind::Retransmit), "both are");
        record.set_figure(Figure::Pending, 0);
        assert_eq!(kind(&record), Some(TimerKind::Keepalive));
        record.seen.state = 5;
        record.set_figure(Figure::Orphan, 1);
        assert_eq!(kind(&record), Some(TimerKind::FinWait2));
        record.known = 0;
        assert_eq!(kind(&record), None);
        record.set_figure(Figure::Pending, 0);
        assert_eq!(kind(&record), Some(TimerKind::Off));
        record.set_figure(Figure::Pending, 3);
        record.set_count(Count::Expires, record.jiffies - 1);
        let overdue = figures_of(&record).timer.unwrap();
        assert_eq!(
            (overdue.kind, overdue.due),
            (TimerKind::WindowProbe, Duration::ZERO)
        );
        record.seen.form = form::MINISOCK;
        assert_eq!(kind(&record), Some(TimerKind::TimeWait));
    }

    #[test]
    fn the_kernels_own_moments_tell_how_old_something_is() {
        let mut record = a_record();
        record.monotonic = 100_000_000_000;
        record.set_figure(Figure::SentAgain, 99_000);
        assert_eq!(figures_of(&record).attempts.since, Some(Duration::from_secs(1)));
        record.set_figure(Figure::SentAgain, 99_000_000);
        record.set_figure(Figure::MicrosecondStamps, 1);
        assert_eq!(figures_of(&record).attempts.since, Some(Duration::from_secs(1)));
        record.set_figure(Figure::SentAgain, 101_000_000);
        assert_eq!(figures_of(&record).attempts.since, Some(Duration::ZERO), "paced");
        record.set_figure(Figure::SentAgain, 0);
        assert_eq!(figures_of(&record).attempts.since, None);
        record.set_figure(Figure::Entered, 98_000);
        assert_eq!(figures_of(&record).age, None, "a full sock has no such moment");
        record.seen.form = form::MINISOCK;
        assert_eq!(figures_of(&record).age, Some(Duration::from_secs(2)));
        record.seen.form = form::REQUEST;
        assert_eq!(figures_of(&record).age, None, "no SYN-ACK was sent yet");
        record.set_count(Count::FirstSynAck, 95_000_000);
        assert_eq!(figures_of(&record).age, Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn no_figures_panic(
            jiffies: u64,
            monotonic: u64,
            known: u64,
            state in 0..14_u8,
            shape in 0..4_u8,
            counts: [u64; Count::NUMBER],
            figures in prop::collection::vec(any::<u32>(), Figure::NUMBER),
            hz in 0..2000_u64,
        ) {
            let mut record = SocketFigures { jiffies, monotonic, known, counts, ..a_record() };
            record.figures.copy_from_slice(&figures);
            (record.seen.state, record.seen.form) = (state, shape);
            if let Ok((SweepRecord::Figures(seen, figures), _)) = sweep_record(record.as_bytes(), Tick::of(hz)) {
                prop_assert_eq!(seen.form, figures.form);
                prop_assert!(figures.listening.is_none() || seen.state == TcpState::Listen);
                if known == 0 {
                    prop_assert_eq!((figures.timer, figures.path, figures.sent), Default::default());
                }
            }
        }
    }
}
