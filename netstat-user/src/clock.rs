//! The kernel's clock, and how to show it as the time of day.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_BOOTTIME`: since boot, the time spent suspended included.
///
/// The BPF programs stamp their records with it; it never steps, so differences are true durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ktime(pub u64);

impl Ktime {
    /// The time now.
    #[must_use]
    pub fn now() -> Self {
        Self(
            nanoseconds(clock_gettime(ClockId::Boottime))
                .try_into()
                .unwrap_or(0),
        )
    }

    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This time and `later`.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Where `CLOCK_BOOTTIME` lies in the time of day, as it was when [`WallClock::read`] looked.
///
/// The time of day can be set while a program runs; read it anew for each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    boot: i128,
}

impl WallClock {
    /// Compares the two clocks now.
    #[must_use]
    pub fn read() -> Self {
        /// Whoever is interrupted between two readings of the clocks reads them again, but not for ever.
        const TRIES: usize = 5;
        /// Two readings take a fraction of this.
        const CLOSE: i128 = 20_000;
        let mut best = Self::compare();
        for _ in 1..TRIES {
            if best.1 <= CLOSE {
                break;
            }
            let again = Self::compare();
            if again.1 < best.1 {
                best = again;
            }
        }
        best.0
    }

    /// Compares the clocks, and says how many nanoseconds that took: it is off by no more than half of them.
    fn compare() -> (Self, i128) {
        let before = nanoseconds(clock_gettime(ClockId::Boottime));
        let real = nanoseconds(clock_gettime(ClockId::Realtime));
        let after = nanoseconds(clock_gettime(ClockId::Boottime));
        let boot = real - i128::midpoint(before, after);
        (Self { boot }, after - before)
    }

    /// The time of day at `time`.
    #[must_use]
    pub fn timestamp(self, time: Ktime) -> Timestamp {
        Timestamp::from_nanosecond(self.boot + i128::from(time.0)).unwrap_or(Timestamp::MAX)
    }
}

/// The wall clock as one program shows it to all: two readers of one event see the same time of day.
#[derive(Debug)]
pub struct SteadyClock {
    kept: Mutex<WallClock>,
}

impl SteadyClock {
    /// How far the time of day is off before it counts as set anew: far more than reading two clocks takes,
    /// far less than matters.
    const TOLERANCE: i128 = 1_000_000;

    /// Begins with the time of day now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            kept: Mutex::new(WallClock::read()),
        }
    }

    /// The clock: the same as last time, unless the time of day has been set since.
    #[must_use]
    pub fn read(&self) -> WallClock {
        let now = WallClock::read();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if (now.boot - kept.boot).abs() > Self::TOLERANCE {
            *kept = now;
        }
        *kept
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::new()
    }
}

fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
