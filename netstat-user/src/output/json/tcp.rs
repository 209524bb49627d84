//! A socket's figures as JSON: the object `tcp` of a row. Units are in the keys; what is not known, or means nothing
//! for this socket, is `null`.

use std::time::Duration;

use serde::Serialize;

use super::micros;
use crate::facts::{Figures, Queues, TimerKind};

#[derive(Serialize)]
pub(super) struct Tcp {
    timer: Option<Timer>,
    retransmits: Option<u32>,
    backoff: Option<u32>,
    probes: Option<u32>,
    probing_ms: Option<u64>,
    total_retrans: Option<u32>,
    rto_ms: Option<u64>,
    rto_max_ms: Option<u64>,
    rtt_us: Option<u64>,
    rttvar_us: Option<u64>,
    rtt_min_us: Option<u64>,
    cwnd: Option<u32>,
    ssthresh: Option<u32>,
    mss: Option<u32>,
    unacked: Option<u32>,
    unsent: Option<u32>,
    packets_out: Option<u32>,
    packets_retrans: Option<u32>,
    packets_lost: Option<u32>,
    packets_sacked: Option<u32>,
    bytes_sent: Option<u64>,
    bytes_acked: Option<u64>,
    bytes_retrans: Option<u64>,
    bytes_received: Option<u64>,
    snd_wnd: Option<u32>,
    rcv_wnd: Option<u32>,
    rcv_ssthresh: Option<u32>,
    sndbuf: Option<u32>,
    rcvbuf: Option<u32>,
    rcv_memory: Option<u32>,
    last_sent_ms: Option<u64>,
    last_received_ms: Option<u64>,
    last_ack_ms: Option<u64>,
    orphan: Option<bool>,
    send_shutdown: Option<bool>,
    receive_shutdown: Option<bool>,
    soft_error: Option<u32>,
    syn_retries: Option<u32>,
    retries: Option<u32>,
    user_timeout_ms: Option<u64>,
    keepalive: Option<Keepalive>,
    accept_queue: Option<AcceptQueue>,
    listener: Option<u64>,
}

#[derive(Serialize)]
struct Timer {
    kind: &'static str,
    due_ms: Option<u64>,
}

#[derive(Serialize)]
struct Keepalive {
    on: bool,
    time_ms: Option<u64>,
    interval_ms: Option<u64>,
    probes: Option<u32>,
}

#[derive(Serialize)]
struct AcceptQueue {
    len: u32,
    max: u32,
    requests: Option<u32>,
    drops: Option<u32>,
}

impl Tcp {
    pub(super) fn of(figures: &Figures) -> Self {
        let Figures {
            attempts,
            limits,
            path,
            sent,
            received,
            ..
        } = figures;
        Self {
            timer: figures.timer.map(Timer::of),
            retransmits: attempts.retransmits,
            backoff: attempts.backoff,
            probes: attempts.probes,
            probing_ms: attempts.probing.map(millis),
            total_retrans: attempts.total_retransmits,
            rto_ms: path.rto.map(millis),
            rto_max_ms: path.rto_max.map(millis),
            rtt_us: path.rtt.map(micros),
            rttvar_us: path.rtt_deviation.map(micros),
            rtt_min_us: path.rtt_min.map(micros),
            cwnd: path.cwnd,
            ssthresh: path.ssthresh,
            mss: path.mss,
            unacked: sent.unacked,
            unsent: sent.unsent,
            packets_out: sent.packets_out,
            packets_retrans: sent.packets_retransmitted,
            packets_lost: sent.packets_lost,
            packets_sacked: sent.packets_sacked,
            bytes_sent: sent.bytes,
            bytes_acked: sent.bytes_acked,
            bytes_retrans: sent.bytes_retransmitted,
            bytes_received: received.bytes,
            snd_wnd: sent.window,
            rcv_wnd: received.window,
            rcv_ssthresh: received.window_limit,
            sndbuf: sent.buffer,
            rcvbuf: received.buffer,
            rcv_memory: received.memory,
            last_sent_ms: sent.last.map(millis),
            last_received_ms: received.last.map(millis),
            last_ack_ms: sent.last_ack.map(millis),
            orphan: figures.orphan,
            send_shutdown: figures.send_shutdown,
            receive_shutdown: figures.receive_shutdown,
            soft_error: figures.soft_error,
            syn_retries: limits.syn_retries,
            retries: limits.retries,
            user_timeout_ms: limits.user_timeout.map(millis),
            keepalive: limits.keepalive.map(|on| Keepalive {
                on,
                time_ms: limits.keepalive_time.map(millis),
                interval_ms: limits.keepalive_interval.map(millis),
                probes: limits.keepalive_probes,
            }),
            accept_queue: figures.listening.map(|listening| {
                let Queues { recv, backlog, .. } = figures.queues;
                AcceptQueue {
                    len: recv,
                    max: backlog,
                    requests: listening.requests,
                    drops: listening.drops,
                }
            }),
            listener: figures.listener.map(|cookie| cookie.0),
        }
    }
}

impl Timer {
    fn of(timer: crate::facts::Timer) -> Self {
        Self {
            kind: name(timer.kind),
            due_ms: (timer.kind != TimerKind::Off).then(|| millis(timer.due)),
        }
    }
}

/// The value of the key `kind`.
const fn name(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::Off => "off",
        TimerKind::Retransmit => "retransmit",
        TimerKind::Reordering => "reordering",
        TimerKind::LossProbe => "loss_probe",
        TimerKind::WindowProbe => "window_probe",
        TimerKind::Keepalive => "keepalive",
        TimerKind::FinWait2 => "fin_wait2",
        TimerKind::TimeWait => "time_wait",
        TimerKind::SynAck => "syn_ack",
        TimerKind::Other(_) => "other",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
