//! How often the event ring is looked at: at once when something comes, but when much comes every few milliseconds.
//!
//! The kernel wakes the reader of a ring that was empty (`bpf_ringbuf_commit`), by an interrupt that costs the host some
//! microseconds, many times what a record costs. Who reads as fast as events come pays that for nearly each of them; who
//! lets them gather, once for all that came meanwhile. Nothing depends on a wake-up here that may not come: the reader
//! waits for time to pass, or for the kernel's ordinary wake-up.

use std::time::{Duration, Instant};

/// The pause between two looks while much comes.
const PAUSE: Duration = Duration::from_millis(4);
/// No pause is shorter: the runtime's timers do not go by less.
const SHORTEST: Duration = Duration::from_millis(1);
/// A pause is so short that a ring has room for what comes in it at this rate, in bytes a second: a million events a
/// second.
const FASTEST: u64 = 200_000_000;
/// Looks in a row before the first pause, so that what a few connections bring is told at once.
const MOST: u32 = 32;
/// How long it takes until one more is allowed.
const EARNED: Duration = Duration::from_millis(2);
/// A look that finds so many records was worth the pause before it.
const MANY: usize = 8;

/// Decides whether to wait for the kernel's wake-up or for time to pass.
#[derive(Debug)]
pub(super) struct Pace {
    /// The pause that fits the ring; `None` where it is too small for any.
    pause: Option<Duration>,
    /// Looks that may follow without a pause.
    credit: u32,
    /// Up to when what has been earned is counted.
    counted: Instant,
    due: Option<Instant>,
}

impl Pace {
    /// For a ring of so many bytes.
    pub(super) fn new(now: Instant, ring_bytes: u32) -> Self {
        let room = Duration::from_nanos(u64::from(ring_bytes) * 1_000_000_000 / FASTEST);
        Self {
            pause: (room >= SHORTEST).then_some(room.min(PAUSE)),
            credit: MOST,
            counted: now,
            due: None,
        }
    }

    /// When to look next; `None`: when the kernel says so.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The ring has been emptied, of so many records.
    pub(super) fn emptied(&mut self, now: Instant, records: usize) {
        if self.due.is_some() && records >= MANY {
            self.counted = now;
        } else {
            self.earn(now);
        }
        self.credit = self.credit.saturating_sub(1);
        let pause = self.pause.filter(|_| self.credit == 0 && records > 0);
        self.due = pause.map(|pause| now + pause);
    }

    fn earn(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.counted).as_nanos() / EARNED.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(MOST);
            self.credit = self.credit.saturating_add(earned).min(MOST);
            self.counted = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: u32 = 8 << 20;

    /// A reader that has just paused because much came, and the time.
    fn busy() -> (Pace, Instant) {
        let now = Instant::now();
        let mut pace = Pace::new(now, RING);
        while pace.due().is_none() {
            pace.emptied(now, 1);
        }
        (pace, now)
    }

    #[test]
    fn a_burst_is_told_at_once_and_then_gathered() {
        let now = Instant::now();
        let mut pace = Pace::new(now, RING);
        for _ in 1..MOST {
            pace.emptied(now, 1);
            assert_eq!(pace.due(), None);
        }
        pace.emptied(now, 1);
        assert_eq!(pace.due(), Some(now + PAUSE));
    }

    #[test]
    fn what_goes_on_is_gathered_and_what_stops_is_waited_for() {
        let (mut pace, mut now) = busy();
        for _ in 0..1000 {
            now += PAUSE;
            pace.emptied(now, MANY);
            assert_eq!(pace.due(), Some(now + PAUSE));
        }
        pace.emptied(now + PAUSE, 0);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn a_connection_now_and_then_never_waits() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now, RING);
        for _ in 0..1000 {
            for _ in 0..10 {
                pace.emptied(now, 1);
                assert_eq!(pace.due(), None);
            }
            now += Duration::from_millis(20);
        }
    }

    #[test]
    fn a_small_ring_is_never_left_alone() {
        let now = Instant::now();
        let mut pace = Pace::new(now, 64 << 10);
        for _ in 0..1000 {
            pace.emptied(now, 1);
            assert_eq!(pace.due(), None);
        }
        let mut pace = Pace::new(now, 512 << 10);
        for _ in 0..MOST {
            pace.emptied(now, 1);
        }
        assert!(pace.due().is_some_and(|due| due < now + PAUSE));
    }
}
