//! `netstate daemon`, started and stopped as a service manager would.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Namespace, Watch, binary, process,
    snapshot::{self, Listed},
    stats,
    wait::{SOON, wait_for},
};

/// How long loading the tracer and the first sweep may take, with other tests doing the same.
const START: Duration = Duration::from_secs(30);

/// Its stderr, in the daemon's directory.
const LOG: &str = "stderr";

/// How long stopping may take.
pub const STOP: Duration = Duration::from_secs(1);

/// A directory of a test's own for sockets and logs, removed on drop.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("netstate-test-")
        .tempdir()
        .context("cannot make a temporary directory")
}

/// Starts a daemon on `socket` with these flags that prints to `out`. Its end is the caller's.
///
/// # Errors
/// When it cannot be started.
pub fn spawn_printing(socket: &Path, flags: &[&str], out: Stdio) -> Result<Child> {
    let mut command = binary::netstate(socket)?;
    command
        .arg("daemon")
        .args(flags)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null());
    command.spawn().context("cannot start netstate daemon")
}

/// Waits until the daemon on `socket` answers.
///
/// # Errors
/// When it does not in time.
pub fn wait_until_it_answers(socket: &Path) -> Result<()> {
    wait_for("the daemon to answer", START, || {
        Ok(binary::run(socket, "stats --json")?
            .status
            .success()
            .then_some(()))
    })
}

/// A running daemon, stopped on drop.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    /// Where its log is, and its socket unless the test said otherwise.
    directory: TempDir,
}

impl Daemon {
    /// Starts a daemon with a socket of its own and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start() -> Result<Self> {
        let directory = directory()?;
        let socket = directory.path().join("netstate.sock");
        Self::launch(directory, socket, &[], &[])
    }

    /// Starts a daemon by way of another program, such as `setpriv`, that becomes it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_through(program: &[&str]) -> Result<Self> {
        let directory = directory()?;
        let socket = directory.path().join("netstate.sock");
        Self::launch(directory, socket, program, &[])
    }

    /// Starts a daemon with these flags and a socket of its own, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_with(flags: &[&str]) -> Result<Self> {
        let directory = directory()?;
        let socket = directory.path().join("netstate.sock");
        Self::launch(directory, socket, &[], flags)
    }

    /// Starts a daemon on `socket`, a path of the test's own, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_at(socket: &Path) -> Result<Self> {
        Self::launch(directory()?, socket.to_owned(), &[], &[])
    }

    fn launch(directory: TempDir, socket: PathBuf, through: &[&str], flags: &[&str]) -> Result<Self> {
        let child = command(&socket, directory.path(), through)?
            .args(flags)
            .spawn()
            .context("cannot start netstate daemon")?;
        let mut daemon = Self {
            child,
            socket,
            directory,
        };
        wait_for("the daemon to answer", START, || daemon.poll()).with_context(|| daemon.log())?;
        Ok(daemon)
    }

    /// Whether it answers; an error when it has ended.
    fn poll(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the daemon has ended: {status}");
        }
        Ok(self.answers()?.then_some(()))
    }

    /// Whether `netstate stats` gets an answer.
    ///
    /// # Errors
    /// When `netstate` cannot be started.
    pub fn answers(&self) -> Result<bool> {
        Ok(binary::run(&self.socket, "stats --json")?.status.success())
    }

    /// Path of the query socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it wrote to stderr.
    #[must_use]
    pub fn log(&self) -> String {
        let printed = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
        format!("stderr of the daemon: {}", printed.trim())
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `netstate stats --json`.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn stats(&self) -> Result<serde_json::Value> {
        stats::json(&self.socket)
    }

    /// The source of what happens to the `subject` of hooks: `event` where the kernel has taken all of them, else
    /// `scan`.
    ///
    /// # Errors
    /// When the daemon does not tell.
    pub fn source_of(&self, subject: &str) -> Result<&'static str> {
        Ok(if stats::announces(&self.socket, subject)? {
            "event"
        } else {
            "scan"
        })
    }

    /// Subscribes with `netstate watch`, for `namespace` alone: what all others do at the same time would take
    /// longer to read than it takes to happen.
    ///
    /// # Errors
    /// As [`Watch::start`].
    pub fn watch_in(&self, namespace: &Namespace) -> Result<Watch> {
        Watch::start_in(namespace, &self.socket, "self")
    }

    /// Subscribes with `netstate watch`, for all namespaces.
    ///
    /// # Errors
    /// As [`Watch::start`].
    pub fn watch(&self) -> Result<Watch> {
        Watch::start(&self.socket)
    }

    /// `netstate list -an --json` inside `namespace`.
    ///
    /// # Errors
    /// As [`snapshot::list`].
    pub fn list(&self, namespace: &Namespace) -> Result<Vec<Listed>> {
        snapshot::list(namespace, &self.socket)
    }

    /// Waits until the daemon and `ss` agree about `namespace`; returns the rows.
    ///
    /// # Errors
    /// As [`snapshot::agreement`], and when the daemon has ended.
    pub fn agrees(&self, namespace: &Namespace) -> Result<Vec<Listed>> {
        snapshot::agreement(namespace, &self.socket, SOON).with_context(|| self.log())
    }

    /// Waits for the one row of the socket with this cookie that satisfies `wanted`.
    ///
    /// # Errors
    /// When there is none within [`SOON`].
    pub fn wait_for_row(
        &self,
        namespace: &Namespace,
        what: &str,
        wanted: impl Fn(&Listed) -> bool,
    ) -> Result<Listed> {
        let mut last = Vec::new();
        let found = wait_for(&format!("a row: {what}"), SOON, || {
            last = self.list(namespace)?;
            Ok(last.iter().find(|row| wanted(row)).cloned())
        });
        found.with_context(|| format!("listed last: {last:#?}"))
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(&self.child, signal)
    }

    /// Sends `signal` and waits for the end, no longer than [`STOP`].
    ///
    /// # Errors
    /// When it has not ended by then.
    pub fn stop(mut self, signal: Signal) -> Result<ExitStatus> {
        process::signal(&self.child, signal)?;
        process::wait_for_end(&mut self.child, "netstate daemon", STOP).with_context(|| self.log())
    }

    /// Kills it, so that it cannot clean up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        process::end(&mut self.child, "netstate daemon");
    }
}

fn command(socket: &Path, directory: &Path, through: &[&str]) -> Result<Command> {
    let log = File::create(directory.join(LOG)).context("cannot make the daemon's log")?;
    let mut command = binary::netstate(socket)?;
    if let [program, arguments @ ..] = through {
        command = binary::through(program, arguments, &command);
    }
    command
        .args(["daemon", "--quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command)
}
