//! What tracing costs the host: the time that a connection takes at full churn.

use std::time::Duration;

use anyhow::Result;

use super::{
    churn::{self, Taken},
    figure::Figure,
    tracer::Tracer,
};
use crate::Namespace;

/// How long connections are made for one figure. Short, so that what else the machine does spoils few of them.
const SLICE: Duration = Duration::from_millis(100);
/// Figures that are taken of each tracer in each round; the round's figure is the median.
const SLICES: usize = 15;
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
            let taken: Result<Vec<_>> = (0..SLICES).map(|_| churn::run(&namespace, CORE, SLICE)).collect();
            drop(running);
            let taken = taken?;
            let print = |measure, of: fn(&Taken) -> f64| {
                let figure = Figure {
                    measure,
                    subject: tracer.name(),
                    unit: "us",
                    value: median(taken.iter().map(of)),
                };
                figure.print()
            };
            print("cost", Taken::wall_each)?;
            print("cost, processor time", Taken::processor_each)?;
        }
    }
    Ok(())
}

/// The one in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
