//! What tracing costs the host: the time that a connection takes at full churn, beside what it takes untraced.

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
/// Figures that are taken at a time; their median stands for them.
const SLICES: usize = 5;
/// Before each time: minisocks come to their number, caches to their contents.
const WARM_UP: Duration = Duration::from_millis(300);
/// The core that connections are made on.
const CORE: usize = 0;
/// How often each tracer is measured in a round. What a program costs is a fiftieth of what a connection takes, and
/// a machine is faster and slower by that much from one minute to the next: it takes many pairs to tell.
const PAIRS: u32 = 5;

/// Measures all tracers, one after the other and each beside the untraced host, before it and behind it in turn, many times in
/// each of so many rounds. That of nothing at all tells how far to believe the others.
pub(super) fn measure(rounds: u32, tracers: &[Tracer]) -> Result<()> {
    let namespace = Namespace::new()?;
    let of = |tracer: Tracer| {
        let running = tracer.start()?;
        let taken = take(&namespace);
        drop(running);
        taken
    };
    for pair in 0..rounds * PAIRS {
        for tracer in tracers {
            let (without, with) = if pair % 2 == 0 {
                let without = of(Tracer::Nothing)?;
                (without, of(*tracer)?)
            } else {
                let with = of(*tracer)?;
                (of(Tracer::Nothing)?, with)
            };
            let figure = |measure, subject, value| {
                let figure = Figure {
                    measure,
                    subject,
                    unit: "us",
                    value,
                };
                figure.print()
            };
            for (subject, each) in [(Tracer::Nothing.name(), without), (tracer.name(), with)] {
                figure("cost", subject, each.wall)?;
                figure("cost, processor time", subject, each.processor)?;
            }
            figure(
                "cost over untraced, processor time",
                tracer.name(),
                with.processor - without.processor,
            )?;
        }
    }
    Ok(())
}

/// What a connection takes, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Each {
    wall: f64,
    processor: f64,
}

fn take(namespace: &Namespace) -> Result<Each> {
    churn::run(namespace, CORE, WARM_UP)?;
    let taken: Result<Vec<_>> = (0..SLICES).map(|_| churn::run(namespace, CORE, SLICE)).collect();
    let taken = taken?;
    Ok(Each {
        wall: median(taken.iter().map(Taken::wall_each)),
        processor: median(taken.iter().map(Taken::processor_each)),
    })
}

/// The one in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
