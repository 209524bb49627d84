//! `cargo xtask run`: builds netstate as its users do, and becomes it.

use std::{env, ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Error, Result, bail};

use crate::{process, workspace::Workspace};

/// Builds netstate and runs it as root, through sudo if need be.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What netstate is to do.
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "watch"
    )]
    args: Vec<OsString>,
}

/// How cargo builds the binary `netstate`.
pub(crate) const BUILD: &[&str] = &[
    "build",
    "--release",
    "--locked",
    "--package=netstat-user",
    "--bin",
    NETSTATE,
];
pub(crate) const NETSTATE: &str = "netstate";

/// What netstate hears of in the environment, and sudo would keep from it.
const VARIABLES: [&str; 3] = ["NETSTATE_SOCKET", "NO_COLOR", "RUST_LOG"];

pub(crate) fn main(workspace: &Workspace, args: Args) -> Result<ExitCode> {
    let netstate = workspace.build(NETSTATE, BUILD, None)?;
    let values = VARIABLES.map(|name| (name, env::var_os(name)));
    let set: Vec<_> = values
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
        .collect();
    let Some(mut command) = process::as_root(&netstate, &set) else {
        bail!(
            "netstate loads BPF programs, which takes root, and there is no sudo here: run {} as root",
            netstate.display()
        );
    };
    command.args(args.args);
    // Replaced by netstate, xtask stands between it and neither the terminal nor its exit status.
    let error = command.exec();
    Err(Error::new(error).context(process::cannot_start(&command)))
}
