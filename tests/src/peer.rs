//! Processes of their own that hold one end of a connection, so that a test can tell owners apart.
//!
//! The test binary starts itself again as the peer: no other program is needed.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{Namespace, talker::Talker};

/// First argument of the test binary in the role of a peer.
const ROLE: &str = "act-as-peer";

/// A process that listens or connects, and holds its sockets until it is dropped.
#[derive(Debug)]
pub struct Peer {
    /// The end of its input tells the peer to close its sockets and end.
    talker: Talker,
    name: String,
}

impl Peer {
    /// Starts a process called `name` (at most 15 bytes) inside `namespace` that listens on `address`, and
    /// accepts one connection.
    ///
    /// # Errors
    /// When it cannot be started or cannot listen.
    pub fn listen(namespace: &Namespace, name: &str, address: &str) -> Result<(Self, SocketAddr)> {
        let peer = Self::start(namespace, name, "listen", address)?;
        let address = peer.next_address()?;
        Ok((peer, address))
    }

    /// Starts a process called `name` inside `namespace` that connects to `target`; returns its own address.
    ///
    /// # Errors
    /// When it cannot be started or cannot connect.
    pub fn connect(namespace: &Namespace, name: &str, target: SocketAddr) -> Result<(Self, SocketAddr)> {
        let peer = Self::start(namespace, name, "connect", &target.to_string())?;
        let address = peer.next_address()?;
        Ok((peer, address))
    }

    /// Starts a process called `name` that listens on `address` in a network namespace of its own, which no
    /// file names.
    ///
    /// # Errors
    /// When it cannot be started or cannot listen.
    pub fn listen_apart(name: &str, address: &str) -> Result<(Self, SocketAddr)> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
        command
            .arg(std::env::current_exe()?)
            .args([ROLE, name, "listen", address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let peer = Self::follow(command.spawn().context("cannot start unshare")?, name)?;
        let address = peer.next_address()?;
        Ok((peer, address))
    }

    fn start(namespace: &Namespace, name: &str, action: &str, address: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        // Both names that a process has are set: netstat prints argv[0], the kernel knows comm.
        command.arg0(name).args([ROLE, name, action, address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self::follow(namespace.spawn(&mut command)?, name)
    }

    fn follow(child: Child, name: &str) -> Result<Self> {
        Ok(Self {
            talker: Talker::follow(child, name)?,
            name: name.to_owned(),
        })
    }

    /// Waits for the listening peer to accept its connection; returns the remote address.
    ///
    /// # Errors
    /// When none comes.
    pub fn accepted(&self) -> Result<SocketAddr> {
        self.next_address()
    }

    fn next_address(&self) -> Result<SocketAddr> {
        let line = self.talker.says("say its address")?;
        line.parse()
            .with_context(|| format!("{} said {line:?}", self.name))
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.talker.pid()
    }

    /// Tells it to close its sockets and end, and waits for that.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<()> {
        self.talker.hang_up();
        self.talker.wait()
    }
}

/// Acts as a peer when the command line says so, and returns how to exit; `None` in a normal test run.
#[must_use]
pub fn act_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, name, action, address] = arguments.as_slice() else {
        return None;
    };
    if role != ROLE {
        return None;
    }
    Some(match act(name, action, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn act(name: &str, action: &str, address: &str) -> Result<()> {
    std::fs::write("/proc/self/comm", name).context("cannot set the process's name")?;
    match action {
        "listen" => {
            let listener = TcpListener::bind(address)?;
            say(listener.local_addr()?)?;
            let (_accepted, remote) = listener.accept()?;
            say(remote)?;
            wait_for_end_of_input()
        }
        "connect" => {
            let connected = TcpStream::connect(address)?;
            say(connected.local_addr()?)?;
            wait_for_end_of_input()
        }
        other => bail!("unknown action {other}"),
    }
}

fn say(address: SocketAddr) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{address}")?;
    Ok(stdout.flush()?)
}

fn wait_for_end_of_input() -> Result<()> {
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
