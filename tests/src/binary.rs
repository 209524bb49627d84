//! The `netstate` binary under test.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};

use crate::Namespace;

/// Names the binary to test.
pub const BINARY: &str = "NETSTATE_BIN";

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Tests this binary, whatever the environment says. Only the first choice counts.
pub fn choose(path: PathBuf) {
    CHOSEN.get_or_init(|| path);
}

/// Where the binary is.
///
/// # Errors
/// When the environment does not say, or says something that is not there.
pub fn path() -> Result<PathBuf> {
    let path = CHOSEN
        .get()
        .cloned()
        .or_else(|| std::env::var_os(BINARY).map(PathBuf::from));
    let path = path.with_context(|| format!("{BINARY} is not set; run the tests with `cargo xtask test`"))?;
    ensure!(
        path.is_file(),
        "{BINARY} names {}, which is no file",
        path.display()
    );
    Ok(path)
}

/// `netstate --socket SOCKET`, without what the environment could tell it otherwise.
///
/// # Errors
/// As [`path`].
pub fn netstate(socket: &Path) -> Result<Command> {
    let mut command = Command::new(path()?);
    command
        .env_remove("NETSTATE_SOCKET")
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG");
    command.arg("--socket").arg(socket);
    Ok(command)
}

/// `program` with `arguments`, and then `command` as its last ones.
#[must_use]
pub fn through(program: &str, arguments: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Runs `netstate` with `arguments` (separated by blanks) to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run(socket: &Path, arguments: &str) -> Result<Output> {
    let mut command = netstate(socket)?;
    command.args(arguments.split_whitespace());
    command.output().context("cannot start netstate")
}

/// Runs `netstate` with `arguments` inside `namespace`; returns its stdout.
///
/// # Errors
/// When it cannot be started or does not exit 0.
pub fn run_in(namespace: &Namespace, socket: &Path, arguments: &str) -> Result<String> {
    let mut command = netstate(socket)?;
    let output = namespace.output(command.args(arguments.split_whitespace()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "netstate {arguments}: {}: {}",
        output.status,
        complaint.trim()
    );
    String::from_utf8(output.stdout).context("netstate printed something that is not UTF-8")
}
