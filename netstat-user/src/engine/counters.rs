//! What the engine counts of itself.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::places::Places;
use crate::{
    loader::Losses,
    sources::HookState,
    table::Table,
    view::{Population, Stats},
};

/// Over how long the rate of events is taken.
const RATE_WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Counters {
    started: Instant,
    ring_bytes: u32,
    hooks: Vec<HookState>,
    pub(super) events: u64,
    pub(super) transitions: u64,
    pub(super) undecodable: u64,
    pub(super) connects_failed: u64,
    pub(super) sweeps: u64,
    pub(super) looks: u64,
    pub(super) sweep_cost: Duration,
    pub(super) sweep_cost_total: Duration,
    /// How many events had come at past moments of the window.
    marks: VecDeque<(Instant, u64)>,
}

impl Counters {
    pub(super) fn new(ring_bytes: u32, hooks: Vec<HookState>) -> Self {
        Self {
            started: Instant::now(),
            ring_bytes,
            hooks,
            events: 0,
            transitions: 0,
            undecodable: 0,
            connects_failed: 0,
            sweeps: 0,
            looks: 0,
            sweep_cost: Duration::ZERO,
            sweep_cost_total: Duration::ZERO,
            marks: VecDeque::new(),
        }
    }

    pub(super) fn swept(&mut self, cost: Duration) {
        self.sweeps += 1;
        self.sweep_cost = cost;
        self.sweep_cost_total += cost;
        self.mark(Instant::now());
    }

    fn mark(&mut self, now: Instant) {
        self.marks.push_back((now, self.events));
        while self.marks.len() > 2 && self.marks.get(1).is_some_and(|mark| now - mark.0 > RATE_WINDOW) {
            self.marks.pop_front();
        }
    }

    fn events_per_second(&mut self) -> f64 {
        let now = Instant::now();
        self.mark(now);
        let (since, events) = self.marks.front().copied().unwrap_or((self.started, 0));
        let seconds = (now - since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is read by people")]
        let came = (self.events - events) as f64;
        if seconds > 0.0 { came / seconds } else { 0.0 }
    }

    pub(super) fn stats(
        &mut self,
        table: &Table,
        losses: &Losses,
        settling: Duration,
        places: &Places,
        subscribers: usize,
    ) -> Stats {
        let unsettled = table.unsettled();
        let (ended, ended_bytes) = table.remembered();
        Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            by_state: table.by_state(),
            by_namespace: by_namespace(table),
            namespaces: table.namespaces().count(),
            unswept: places.unswept(),
            refused: places.refused(None),
            events: self.events,
            events_per_second: self.events_per_second(),
            transitions: self.transitions,
            connects_failed: self.connects_failed,
            lost_ring_full: losses.ring_full.clone(),
            lost_news_ring_full: losses.news_ring_full.clone(),
            lost_recursion: losses.recursion,
            lost_marks: losses.marks,
            unannounced: table.unannounced(),
            undecodable: self.undecodable,
            ring_bytes: self.ring_bytes,
            nice: 0,
            nice_refused: None,
            hooks: self.hooks.clone(),
            settling,
            sweeps: self.sweeps,
            looks: self.looks,
            sweep_cost: self.sweep_cost,
            sweep_cost_total: self.sweep_cost_total,
            urgent: unsettled.urgent,
            lingering: unsettled.lingering,
            ended,
            ended_bytes,
            subscribers,
        }
    }
}

fn by_namespace(table: &Table) -> Vec<Population> {
    let population = |netns| Population {
        netns,
        rows: table.rows_in(netns),
    };
    let mut namespaces: Vec<_> = table.namespaces().map(population).collect();
    namespaces.sort_unstable_by_key(|found| (std::cmp::Reverse(found.rows), found.netns));
    namespaces.truncate(Stats::MOST_NAMESPACES);
    namespaces
}
