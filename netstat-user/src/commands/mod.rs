//! What the user calls: one file for each command.

mod bound;
mod daemon;
mod doctor;
mod filtering;
mod list;
mod observing;
mod printing;
mod replay;
mod selection;
mod show;
mod snapshot;
mod stats;
mod stuck;
mod tracing;
mod verify;
mod vigil;
mod watch;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use tokio::runtime::Builder;

use crate::{
    cli::{Cli, Command},
    memory, output,
};

/// Runs the command line that the process was started with.
///
/// Returns 0 when it is done, 1 when it failed, with a message on standard error, and 2 for wrong usage: most of
/// that is found by clap, which ends the process itself.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format(|out, record| writeln!(out, "netstate: {}", record.args()))
        .init();
    match run(cli) {
        Ok(code) => code,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong. What is wrong with a filter is wrong usage, which clap could not find by itself.
fn failed(error: &anyhow::Error) -> ExitCode {
    /// As clap has it.
    const WRONG_USAGE: u8 = 2;
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Without standard error, the status alone says it.
        let _ = usage.print();
        return ExitCode::from(WRONG_USAGE);
    }
    eprintln!("netstate: {error:#}");
    ExitCode::FAILURE
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut runtime = match cli.command {
        // The tracer goes on, whatever else is being done.
        Command::Watch(_) | Command::Daemon(_) => {
            memory::give_back();
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        // Who only asks has nothing to do meanwhile, and another thread to wake would take as long as the answer's frames.
        _ => Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let done = |()| ExitCode::SUCCESS;
        match cli.command {
            Command::Watch(args) => watch::run(&cli.socket, &args).await.map(done),
            Command::Replay(args) => replay::run(&args).await.map(done),
            Command::Daemon(args) => daemon::run(&cli.socket, &args).await.map(done),
            Command::List(args) => list::run(&cli.socket, &args).await.map(done),
            Command::Show(args) => show::run(&cli.socket, &args).await.map(done),
            Command::Stuck(args) => stuck::run(&cli.socket, &args).await,
            Command::Stats(args) => stats::run(&cli.socket, args).await.map(done),
            Command::Verify(args) => verify::run(&cli.socket, &args).await,
            Command::Doctor(args) => doctor::run(&cli.socket, args).await,
        }
    });
    // Whatever still runs has nothing to say any more; a walk over a large host is not waited for.
    runtime.shutdown_background();
    result
}
