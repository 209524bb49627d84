//! What tracing costs the host: the time that a connection takes at full churn.

use std::time::Duration;

use anyhow::Result;

use super::{churn, figure::Figure, tracer::Tracer};
use crate::Namespace;

/// How long each tracer is measured in each round.
const TIME: Duration = Duration::from_millis(1500);
/// Before each: minisocks come to their number, caches to their contents.
const WARM_UP: Duration = Duration::from_millis(400);
/// The core that connections are made on.
const CORE: usize = 0;

/// Measures all tracers, one after the other, in each of so many rounds.
pub(super) fn measure(rounds: u32, tracers: &[Tracer]) -> Result<()> {
    let namespace = Namespace::new()?;
    for _ in 0..rounds {
        for tracer in tracers {
            let running = tracer.start()?;
            churn::run(&namespace, CORE, WARM_UP)?;
            let taken = churn::run(&namespace, CORE, TIME)?;
            drop(running);
            let figure = |measure, value| Figure {
                measure,
                subject: tracer.name(),
                unit: "us",
                value,
            };
            figure("cost", taken.wall_each()).print()?;
            figure("cost, processor time", taken.processor_each()).print()?;
        }
    }
    Ok(())
}
