//! The kernel's clock, and how to show it as the time of day.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_BOOTTIME`: since boot, the time spent suspended included.
///
/// The BPF programs stamp their records with it; it never steps, so differences are true durations. It is the host's
/// own: a time namespace, which shows its processes another one, is seen through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ktime(pub u64);

impl Ktime {
    /// The time now.
    #[must_use]
    pub fn now() -> Self {
        Self(boottime().try_into().unwrap_or(0))
    }

    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same as the caller's own time namespace shows it, in nanoseconds.
    #[must_use]
    pub fn in_own_time_namespace(self) -> i128 {
        i128::from(self.0) + namespace_offset()
    }

    /// So much before this time; the beginning if that is before it.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(earlier.as_nanos()).unwrap_or(u64::MAX)),
        )
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

/// The kernel's tick: what it counts in jiffies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Ticks in a second: `CONFIG_HZ`.
    hz: u64,
}

impl Tick {
    /// A tick of which a second has `hz`, at least 1.
    #[must_use]
    pub const fn of(hz: u64) -> Self {
        Self {
            hz: if hz == 0 { 1 } else { hz },
        }
    }

    /// The running kernel's: it is what its coarse clocks step by (`posix_get_coarse_res`, `LOW_RES_NSEC`), and they
    /// say so, to the nanosecond.
    #[must_use]
    pub fn read() -> Self {
        const SECOND: i128 = 1_000_000_000;
        let step = nanoseconds(clock_getres(ClockId::MonotonicCoarse)).max(1);
        Self::of(u64::try_from((SECOND + step / 2) / step).unwrap_or(1))
    }

    /// So many of them.
    #[must_use]
    pub const fn times(self, jiffies: u64) -> Duration {
        let (seconds, rest) = (jiffies / self.hz, jiffies % self.hz);
        Duration::from_nanos(rest * 1_000_000_000 / self.hz).saturating_add(Duration::from_secs(seconds))
    }
}

/// Where `CLOCK_BOOTTIME` lies in the time of day, as it was when [`WallClock::read`] looked.
///
/// The time of day can be set while a program runs; read it anew for each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
        let before = boottime();
        let real = nanoseconds(clock_gettime(ClockId::Realtime));
        let after = boottime();
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
        self.follow(WallClock::read())
    }

    fn follow(&self, now: WallClock) -> WallClock {
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

/// The host's `CLOCK_BOOTTIME`.
fn boottime() -> i128 {
    nanoseconds(clock_gettime(ClockId::Boottime)) - namespace_offset()
}

/// What the time namespace adds to it.
fn namespace_offset() -> i128 {
    /// A process's time namespace does not change while it lives: it has one when it starts, and passes a new one on.
    static OFFSET: OnceLock<i128> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets");
        // Without the file, the kernel has no time namespaces.
        offsets.map_or(0, |offsets| boottime_offset(&offsets).unwrap_or(0))
    })
}

/// What a time namespace adds, out of `/proc/PID/timens_offsets`: lines of clock, seconds and nanoseconds.
fn boottime_offset(offsets: &str) -> Option<i128> {
    let mut lines = offsets.lines().map(str::split_whitespace);
    let mut fields = lines.find_map(|mut fields| (fields.next() == Some("boottime")).then_some(fields))?;
    let seconds: i128 = fields.next()?.parse().ok()?;
    let nanoseconds: i128 = fields.next()?.parse().ok()?;
    Some(seconds * 1_000_000_000 + nanoseconds)
}

fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_follows_whoever_sets_it_and_nothing_less() {
        const SECOND: i128 = 1_000_000_000;
        let clock = SteadyClock::new();
        let begin = clock.read().boot;
        let at = |boot| clock.follow(WallClock { boot }).boot;
        assert_eq!(
            at(begin + SteadyClock::TOLERANCE),
            begin,
            "two readings differ a little"
        );
        let ahead = begin + 3600 * SECOND;
        assert_eq!(at(ahead), ahead, "set forward");
        assert_eq!(at(ahead - 7200 * SECOND), ahead - 7200 * SECOND, "set back");
        assert_eq!(
            clock.follow(WallClock { boot: SECOND }).timestamp(Ktime(5)),
            Timestamp::from_nanosecond(SECOND + 5).unwrap()
        );
    }

    #[test]
    fn ticks_make_seconds() {
        assert_eq!(Tick::of(250).times(501), Duration::from_millis(2004));
        assert_eq!(Tick::of(300).times(1), Duration::from_nanos(3_333_333));
        let second = (1..=10_000).find(|&jiffies| Tick::read().times(jiffies) == Duration::from_secs(1));
        assert!(
            second.is_some_and(|hz| [100, 250, 300, 1000].contains(&hz)),
            "CONFIG_HZ is none of those that there are: {second:?}"
        );
    }

    #[test]
    fn a_time_namespace_tells_its_offset() {
        let offsets = "monotonic           0         0\nboottime        -3600 500000000\n";
        assert_eq!(boottime_offset(offsets), Some(-3_599_500_000_000));
        assert_eq!(boottime_offset("monotonic 1 2\n"), None);
    }
}
