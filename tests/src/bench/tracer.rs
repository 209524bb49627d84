//! What the host is traced with while something is measured: nothing, a program that does nothing, netstate, its peers.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{Daemon, bpf, bpf::Kind, daemon, process, wait::wait_for};

/// How long a peer may take to attach.
const START: Duration = Duration::from_secs(20);
/// What the kernel and a tracer get to come to rest after its start.
const REST: Duration = Duration::from_millis(700);

/// Becomes the program that it is called as. Peers look for tracepoints in tracefs, which is not mounted everywhere.
const WITH_TRACEFS: &str =
    r#"mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing; exec "$0""#;

/// A tracer that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracer {
    /// None.
    Nothing,
    /// A program that does nothing, on the tracepoint that all of them use.
    Empty,
    /// Two of them.
    TwoEmpty,
    /// `netstate daemon --quiet`, which keeps its table and prints nothing.
    Daemon,
    /// `netstate daemon`, which prints every transition.
    Printing,
    /// Of libbpf-tools; prints every transition.
    Tcpstates,
    /// Of libbpf-tools; prints a line for each connection.
    Tcplife,
}

impl Tracer {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Empty,
        Self::TwoEmpty,
        Self::Daemon,
        Self::Printing,
        Self::Tcpstates,
        Self::Tcplife,
    ];

    /// What it is called in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "untraced",
            Self::Empty => "an empty program",
            Self::TwoEmpty => "two empty programs",
            Self::Daemon => "netstate daemon --quiet",
            Self::Printing => "netstate daemon",
            Self::Tcpstates => "tcpstates",
            Self::Tcplife => "tcplife",
        }
    }

    /// Starts it, and waits until it traces. What it prints goes to /dev/null.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(self) -> Result<Running> {
        let running = match self {
            Self::Nothing => Running::Nothing,
            Self::Empty => Running::Empty([empty()?].into()),
            Self::TwoEmpty => Running::Empty([empty()?, empty()?].into()),
            Self::Daemon => Running::Daemon(Daemon::start()?),
            Self::Printing => {
                let directory = daemon::directory()?;
                let socket = directory.path().join("netstate.sock");
                let child = daemon::spawn_printing(&socket, &[], Stdio::null())?;
                let peer = Peer {
                    child,
                    _directory: directory,
                };
                daemon::wait_until_it_answers(&socket)?;
                Running::Peer(peer)
            }
            Self::Tcpstates | Self::Tcplife => {
                let mut command = Command::new("unshare");
                command
                    .args(["--mount", "sh", "-c", WITH_TRACEFS, self.name()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let child = command.spawn();
                let child = child.with_context(|| format!("cannot start {}", self.name()))?;
                let peer = Peer {
                    child,
                    _directory: daemon::directory()?,
                };
                wait_for(&format!("{} to attach", self.name()), START, || {
                    let held = bpf::held_by(peer.child.id())?;
                    Ok(held.iter().any(|held| held.kind == Kind::Link).then_some(()))
                })?;
                Running::Peer(peer)
            }
        };
        thread::sleep(REST);
        Ok(running)
    }
}

fn empty() -> Result<bpf::Empty> {
    bpf::Empty::attach("inet_sock_set_state")
}

/// A tracer at work; it ends when this is dropped.
#[derive(Debug)]
pub enum Running {
    /// None.
    Nothing,
    /// An empty program.
    Empty(Vec<bpf::Empty>),
    /// The daemon.
    Daemon(Daemon),
    /// Another process.
    Peer(Peer),
}

/// A process that ends when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Where its socket is.
    _directory: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        process::end(&mut self.child, "a tracer");
    }
}
