//! What is lost at the highest churn that the machine makes.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow};

use super::{churn, figure::Figure};
use crate::{Daemon, Namespace};

const DAEMON: &str = "netstate daemon --quiet";

/// Lets connections come and go for as long as `time` on every core, each of which has threads enough to be busy, with a daemon
/// as it is started by default.
pub(super) fn measure(time: Duration) -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let before = Counts::read(&daemon)?;
    let cores = thread::available_parallelism()?.get();
    let connections: u64 = thread::scope(|scope| {
        let namespace = &namespace;
        let pair = |core| scope.spawn(move || churn::run(namespace, core, time));
        let pairs: Vec<_> = (0..cores).map(pair).collect();
        let taken = pairs.into_iter().map(|pair| {
            let taken = pair.join().map_err(|_| anyhow!("a pair panicked"))??;
            Ok(taken.connections)
        });
        taken.sum::<Result<u64>>()
    })?;
    let after = Counts::read(&daemon)?;
    let figure = |measure, unit, value| Figure {
        measure,
        subject: DAEMON,
        unit,
        value,
    };
    let seconds = time.as_secs_f64();
    figure("churn, connections", "1/s", number(connections) / seconds).print()?;
    figure(
        "churn, events",
        "1/s",
        number(after.events - before.events) / seconds,
    )
    .print()?;
    figure("churn, lost", "events", number(after.lost - before.lost)).print()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn number(count: u64) -> f64 {
    count as f64
}

/// What the daemon has counted.
struct Counts {
    events: u64,
    lost: u64,
}

impl Counts {
    fn read(daemon: &Daemon) -> Result<Self> {
        let stats = daemon.stats()?;
        let count = |name: &str| {
            stats[name]
                .as_u64()
                .with_context(|| format!("no {name} in stats"))
        };
        Ok(Self {
            events: count("events")?,
            lost: count("lost")?,
        })
    }
}
