//! The project's own tooling, `cargo xtask COMMAND`: one module for each command, and what they share.

mod bench;
mod build_ebpf;
mod bytecode;
mod fuzz;
mod instructions;
mod lint;
mod manifest;
mod packages;
mod process;
mod report;
mod run;
mod soak;
mod tally;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Builds, runs and tests netstate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    BuildEbpf(build_ebpf::Args),
    Run(run::Args),
    Soak(soak::Args),
    Test(test::Args),
    Vm(vm::Args),
    Fuzz(fuzz::Args),
    Instructions(instructions::Args),
    /// Checks formatting, and runs clippy with every warning an error
    Lint,
}

fn main() -> ExitCode {
    execute(Args::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn execute(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Bench(args) => bench::main(&workspace, &args),
        Command::BuildEbpf(args) => build_ebpf::main(&workspace, &args),
        Command::Run(args) => run::main(&workspace, args),
        Command::Soak(args) => soak::main(&workspace, args),
        Command::Test(args) => Ok(test::main(&workspace, &args)),
        Command::Vm(args) => vm::main(&workspace, &args),
        Command::Fuzz(args) => fuzz::main(&workspace, &args),
        Command::Instructions(args) => instructions::main(&workspace, &args),
        Command::Lint => Ok(lint::main(&workspace)),
    }
}
