//! Processes of their own that open, share, pass on and close sockets when they are told to.
//!
//! The test binary starts itself again as the holder: no other program is needed.

mod hindered;
mod kept;
mod role;
mod threads;

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    str::FromStr,
};

use anyhow::{Context, Result, ensure};

use crate::{Namespace, talker::Talker};
pub use role::act_if_asked;

/// A process that does what it is told, and has done it when the call returns.
#[derive(Debug)]
pub struct Holder {
    talker: Talker,
    name: String,
}

impl Holder {
    /// Starts a process called `name` (at most 15 bytes) inside `namespace`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([role::ROLE, name]);
        Self::follow(namespace, command, name)
    }

    /// The same in a PID namespace of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_apart(namespace: &Namespace, name: &str) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]);
        command.arg(std::env::current_exe()?).args([role::ROLE, name]);
        Self::follow(namespace, command, name)
    }

    fn follow(namespace: &Namespace, mut command: Command, name: &str) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self {
            talker: Talker::follow(namespace.spawn(&mut command)?, name)?,
            name: name.to_owned(),
        })
    }

    /// Process id of what was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.talker.pid()
    }

    /// Tells it to do `order`; returns what it says about that.
    ///
    /// # Errors
    /// When it says nothing in time.
    pub fn told(&mut self, order: &str) -> Result<String> {
        self.tell(order)?;
        self.said(order)
    }

    /// Tells it to do `order`, without waiting for an answer.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell(&mut self, order: &str) -> Result<()> {
        self.talker.tell(order)
    }

    /// What it says next.
    ///
    /// # Errors
    /// When it says nothing in time, or that it has failed.
    pub fn said(&self, order: &str) -> Result<String> {
        let line = self.talker.says(order)?;
        ensure!(
            !line.starts_with("failed"),
            "{} was to {order}: {line}",
            self.name
        );
        Ok(line)
    }

    /// Listens on any port of the loopback; returns where.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn listen(&mut self) -> Result<SocketAddr> {
        Ok(self.told("listen")?.parse()?)
    }

    /// Connects to `target`; returns its own end.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn connect(&mut self, target: SocketAddr) -> Result<SocketAddr> {
        Ok(self.told(&format!("connect {target}"))?.parse()?)
    }

    /// Accepts a connection; returns the other end.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn accept(&mut self) -> Result<SocketAddr> {
        Ok(self.told("accept")?.parse()?)
    }

    /// Makes `count` children that hold all that it holds, until it ends; returns their process ids.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn fork(&mut self, count: usize) -> Result<Vec<u32>> {
        numbers(&self.told(&format!("fork {count}"))?)
    }

    /// Lets another thread take orders, one that has a descriptor table of its own; returns its id.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn take_apart(&mut self) -> Result<u32> {
        Ok(self.told("apart")?.parse()?)
    }

    /// Lets another thread take orders, and ends the first one; returns the id of the other.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn leave_leader(&mut self) -> Result<u32> {
        Ok(self.told("leaderless")?.parse()?)
    }

    /// Starts `count` threads that share the descriptors of the one that takes orders.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn start_threads(&mut self, count: usize) -> Result<()> {
        self.told(&format!("threads {count}")).map(drop)
    }

    /// Opens the file at `path`, in the descriptor table of the thread that takes orders.
    ///
    /// # Errors
    /// As [`Holder::told`].
    pub fn open(&mut self, path: &std::path::Path) -> Result<()> {
        self.told(&format!("open {}", path.display())).map(drop)
    }

    /// Ends, and waits for that.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<()> {
        self.tell("end")?;
        self.talker.wait()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // `unshare` does not end on SIGTERM, but with its child. A holder that executes something else does not listen.
        let _ = self.tell("end");
    }
}

fn numbers<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(line: &str) -> Result<Vec<T>> {
    let parse = |word: &str| word.parse().with_context(|| format!("not a number: {word}"));
    line.split_whitespace().map(parse).collect()
}
