//! The command line of the benchmark's helper, `bench`, which `cargo xtask bench` builds and calls as root.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use super::{cost, tracer::Tracer};
use crate::binary;

/// Measures netstate and its peers; prints each figure as a line of JSON.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// The netstate to measure
    #[arg(long)]
    netstate: PathBuf,
    /// How often each is measured, in turn with the others
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these tracers
    #[arg(long)]
    only: Vec<String>,
    /// What to measure
    measure: String,
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
    let wanted = |tracer: &Tracer| args.only.is_empty() || args.only.iter().any(|name| name == tracer.name());
    let tracers: Vec<_> = Tracer::ALL.into_iter().filter(wanted).collect();
    cost::measure(args.rounds, &tracers)
}
