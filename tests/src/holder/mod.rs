//! Processes of their own that open, share, pass on and close sockets when they are told to.
//!
//! The test binary starts itself again as the holder: no other program is needed.

mod role;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    str::FromStr,
    sync::mpsc::{Receiver, channel},
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::{
    Namespace, process,
    wait::{SOON, patient},
};
pub use role::act_if_asked;

/// A process that does what it is told, and has done it when the call returns.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
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
        let mut child = namespace.spawn(&mut command)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("no stdout")?);
        let (tell, said) = channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.all(|line| tell.send(line).is_ok())
        });
        Ok(Self {
            child,
            stdin: stdin.context("no stdin")?,
            said,
            name: name.to_owned(),
        })
    }

    /// Process id of what was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
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
        Ok(writeln!(self.stdin, "{order}")?)
    }

    /// What it says next.
    ///
    /// # Errors
    /// When it says nothing in time, or that it has failed.
    pub fn said(&self, order: &str) -> Result<String> {
        let line = self.said.recv_timeout(patient(SOON));
        let line = line.with_context(|| format!("waited for {} to {order}", self.name))?;
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

    /// Ends, and waits for that.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<()> {
        self.tell("end")?;
        process::wait_for_end(&mut self.child, &self.name, SOON).map(drop)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // `unshare` does not end on SIGTERM, but with its child. A holder that executes something else does not listen.
        let _ = self.tell("end");
        process::end(&mut self.child, &self.name);
    }
}

fn numbers<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(line: &str) -> Result<Vec<T>> {
    let parse = |word: &str| word.parse().with_context(|| format!("not a number: {word}"));
    line.split_whitespace().map(parse).collect()
}
