//! The command line of the benchmark's helper, `bench`, which `cargo xtask bench` builds and calls as root.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use super::{asking, cost, growth, idle, latency, lost, tracer::Tracer};
use crate::binary;

/// Measures netstate and its peers; prints each figure as a line of JSON.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// The netstate to measure
    #[arg(long)]
    netstate: PathBuf,
    /// The program that holds very many sockets
    #[arg(long)]
    crowd: PathBuf,
    /// How many sockets
    #[arg(long, default_value_t = 190_000)]
    sockets: usize,
    /// How often each is measured, in turn with the others
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long the measures take that go by time: what is lost, and the idle host's
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Of the tracers, only this one; can be given several times
    #[arg(long, value_name = "TRACER")]
    only: Vec<String>,
    /// What to measure
    measure: Measure,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Measure {
    /// What tracing costs at full churn
    Cost,
    /// What is lost then
    Lost,
    /// From a transition to its line
    Latency,
    /// What the daemon takes on an idle host
    Idle,
    /// Questions on a host with very many sockets
    Asking,
    /// How that grows with the sockets
    Growth,
}

/// Runs it.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(Args::parse_from(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    binary::choose(args.netstate);
    let time = Duration::from_secs(args.seconds);
    match args.measure {
        Measure::Cost => {
            let wanted =
                |tracer: &Tracer| args.only.is_empty() || args.only.iter().any(|name| name == tracer.name());
            let tracers: Vec<_> = Tracer::ALL.into_iter().filter(wanted).collect();
            cost::measure(args.rounds, &tracers)
        }
        Measure::Lost => lost::measure(time),
        Measure::Latency => latency::measure(),
        Measure::Idle => idle::measure(time),
        Measure::Growth => growth::measure(&args.crowd, args.rounds),
        Measure::Asking => asking::measure(&args.crowd, args.sockets, args.rounds),
    }
}
