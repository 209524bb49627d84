//! A recording replayed at a rate, in pauses as the daemon reads its ring.

use std::{
    thread,
    time::{Duration, Instant},
};

use netstate::recording::{Part, Player, Reader};
use rustix::time::{ClockId, clock_gettime};

use super::{ALL_HOOKS, Traffic, recorded::recording};

/// Connections at once.
const CONNECTIONS: usize = 100_000;
/// Facts for each until every one is somewhere in its life, and some have ended.
const WARM: usize = 6;
/// Facts of a piece until then.
const PIECE: usize = 4000;
/// As the daemon pauses.
const PAUSE: Duration = Duration::from_millis(4);
/// Pauses in a second.
const PAUSES: usize = 250;
/// How long the replay at a rate is, in seconds.
const SECONDS: usize = 4;

/// What a rate takes.
pub(crate) struct Taken {
    /// Of one core, in percent.
    pub(crate) cpu: f64,
    /// The facts that were told in a second.
    pub(crate) reached: f64,
}

/// Replays so many facts a second, reading them included.
pub(crate) fn replay(rate: usize) -> Taken {
    let (_, mut traffic) = Traffic::new(CONNECTIONS);
    let paced = (0..PAUSES * SECONDS).map(|pause| rate * (pause + 1) / PAUSES - rate * pause / PAUSES);
    let warm = std::iter::repeat_n(PIECE, CONNECTIONS * WARM / PIECE);
    let bytes = recording(&mut traffic, warm.chain(paced));
    let mut reader = Reader::new(&bytes[..]).expect("a recording");
    let mut player = Player::new(ALL_HOOKS);
    let (mut facts, mut items) = (Vec::new(), Vec::new());
    let mut piece = |told: &mut usize| {
        let part = reader.next(&mut facts).expect("a whole recording");
        if let Some(Part::Facts) = part {
            player.tell_all(&facts, &mut items);
            *told += facts.len();
            items.clear();
        }
        part.is_some()
    };
    let mut told = 0;
    while told < CONNECTIONS * WARM {
        assert!(piece(&mut told), "the recording ends before it is warm");
    }
    told = 0;
    let (begun, busy) = (Instant::now(), processor_time());
    let mut due = begun;
    while told < rate * SECONDS && piece(&mut told) {
        due += PAUSE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed().as_secs_f64();
    let busy = processor_time() - busy;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Taken {
        cpu: busy / took * 100.0,
        reached: told as f64 / took,
    }
}

/// What this thread has had of a processor so far, in seconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}
