//! The tracer's counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Unswept;
use crate::{connection::Netns, namespaces::Refused, sources::HookState, tcp::TcpState};

/// How many rows a namespace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// Which namespace.
    pub netns: Netns,
    /// Its rows.
    pub rows: usize,
}

/// Counts of the tracer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The version of the program that answers.
    pub version: String,
    /// How long the tracer has been attached.
    pub uptime: Duration,
    /// Rows by [`TcpState::index`].
    pub by_state: [usize; TcpState::ALL.len()],
    /// Namespaces that have rows: those with most rows first, at most [`Stats::MOST_NAMESPACES`].
    pub by_namespace: Vec<Population>,
    /// How many namespaces have rows.
    pub namespaces: usize,
    /// Namespaces that cannot be looked into, at most [`Stats::MOST_NAMESPACES`].
    pub unswept: Vec<Unswept>,
    /// Processes that could not be looked into, so that their namespaces are missing.
    pub refused: Option<Refused>,
    /// Events read.
    pub events: u64,
    /// Events a second over the last ten seconds.
    pub events_per_second: f64,
    /// Transitions reported.
    pub transitions: u64,
    /// Connects that failed without a change of state, as far as hooks report them.
    pub connects_failed: u64,
    /// Events for which the ring had no room, by CPU.
    pub lost_ring_full: Vec<u64>,
    /// What hooks told of minisocks, request socks and ports, and found no room, by CPU.
    pub lost_news_ring_full: Vec<u64>,
    /// Events that came while the program was running on the same CPU.
    pub lost_recursion: u64,
    /// Retransmissions and RSTs that are not in any history, for whatever reason. No row is wrong for want of them.
    pub lost_marks: u64,
    /// Changes that only sweeps found, of sockets whose changes the kernel announces: lost, or not announced.
    pub unannounced: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
    /// The nice value of the thread that reads the ring.
    pub nice: i32,
    /// Why that is not the one that was asked for.
    pub nice_refused: Option<String>,
    /// The hooks in the kernel, and why it has not taken some.
    pub hooks: Vec<HookState>,
    /// The longest that the table can differ from the kernel.
    pub settling: Duration,
    /// Sweeps finished.
    pub sweeps: u64,
    /// Questions about rows that were answered by a look at each socket, and took no sweep.
    pub looks: u64,
    /// Processor time of the last sweep.
    pub sweep_cost: Duration,
    /// Processor time of all sweeps.
    pub sweep_cost_total: Duration,
    /// Rows of which something is missing until the next sweep.
    pub urgent: usize,
    /// Minisocks and request socks, whose changes sweeps find.
    pub lingering: usize,
    /// Connections that have ended and are remembered.
    pub ended: usize,
    /// Bytes that those take.
    pub ended_bytes: usize,
    /// Readers of the stream.
    pub subscribers: usize,
}

impl Stats {
    /// How many namespaces are told one by one.
    pub const MOST_NAMESPACES: usize = 1000;

    /// State changes lost, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let ring_full = self.lost_ring_full.iter().chain(&self.lost_news_ring_full);
        ring_full.sum::<u64>() + self.lost_recursion
    }
}
