//! `cargo xtask soak`: builds netstate and the generator of TCP lives, and becomes the generator.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Error, Result, bail};

use crate::{process, run, workspace::Workspace};

/// Has sockets live every kind of life, and compares netstate with `ss`; as root, through sudo if need be.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long sockets come and go
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Threads that only compute meanwhile, so that no processor time is left to spare
    #[arg(long, default_value_t = 0)]
    neighbours: usize,
    /// The seed of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// More for the generator: `cargo xtask soak -- --help` tells what it takes
    #[arg(value_name = "ARGS", last = true)]
    more: Vec<OsString>,
}

const GENERATOR: &str = "lifecycle";

const BUILD: &[&str] = &[
    "build",
    "--release",
    "--locked",
    "--package=netstat-tests",
    "--bin",
    GENERATOR,
];

pub(crate) fn main(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    let netstate = workspace.build(run::NETSTATE, run::BUILD, None)?;
    let generator = workspace.build(GENERATOR, BUILD, None)?;
    let Some(mut command) = process::as_root(&generator, &[]) else {
        bail!("this makes network namespaces, which takes root, and there is no sudo here");
    };
    command.arg("--netstate").arg(netstate);
    command.arg("--seconds").arg(args.seconds.to_string());
    command.arg("--neighbours").arg(args.neighbours.to_string());
    if let Some(seed) = args.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    command.args(args.more);
    let error = command.exec();
    Err(Error::new(error).context(process::cannot_start(&command)))
}
