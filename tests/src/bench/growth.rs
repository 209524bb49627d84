//! How questions, start and memory grow with the sockets that a host has.

use std::{path::Path, process::Command, thread, time::Instant};

use anyhow::Result;

use super::{
    asking::{REST, print, resident, time},
    crowd::Crowd,
    figure::Figure,
};
use crate::Daemon;

/// How many sockets there are.
const SIZES: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];
/// Each process holds fewer than there are ports for its clients, so that the kernel finds one soon.
const EACH: usize = 15_000;

/// Measures each size, with so many rounds; `crowd` is the program that holds the sockets.
pub(super) fn measure(crowd: &Path, rounds: u32) -> Result<()> {
    for size in SIZES {
        let crowd = Crowd::start(crowd, size, Some(EACH))?;
        let subject = format!("{size} sockets");
        thread::sleep(REST);
        for _ in 0..rounds {
            let begun = Instant::now();
            let daemon = Daemon::start()?;
            print("growth, start", &subject, begun.elapsed())?;
            thread::sleep(REST);
            for _ in 0..3 {
                time(
                    "growth, list",
                    &subject,
                    crowd.netstate(daemon.socket(), "list -atn"),
                )?;
            }
            time(
                "growth, stats",
                &subject,
                crowd.netstate(daemon.socket(), "stats"),
            )?;
            let mut ss: Command = crowd.command("ss".into());
            ss.arg("-tan");
            time("growth, ss -tan", &subject, ss)?;
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let value = resident(daemon.pid())? as f64 / 1024.0;
            Figure {
                measure: "growth, memory",
                subject: &subject,
                unit: "MiB",
                value,
            }
            .print()?;
        }
    }
    Ok(())
}
