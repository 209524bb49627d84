//! A process of a test's own that says things line by line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin},
    sync::mpsc::{Receiver, channel},
    thread,
};

use anyhow::{Context, Result};

use crate::{
    process,
    wait::{SOON, patient},
};

/// A process that was started with pipes to its input and from its output; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Talker {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
    name: String,
}

impl Talker {
    /// Listens to what `child` says from now on.
    ///
    /// # Errors
    /// When it has no pipe from its output.
    pub(crate) fn follow(mut child: Child, name: &str) -> Result<Self> {
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("no stdout")?);
        let (tell, said) = channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.all(|line| tell.send(line).is_ok())
        });
        Ok(Self {
            child,
            stdin,
            said,
            name: name.to_owned(),
        })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// When it is gone, or its input is closed.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// The next line that it says; `what` it is to do is for the message.
    ///
    /// # Errors
    /// When it says nothing in time.
    pub(crate) fn says(&self, what: &str) -> Result<String> {
        let line = self.said.recv_timeout(patient(SOON));
        line.with_context(|| format!("waited for {} to {what}", self.name))
    }

    /// Closes its input.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end, which it knows of.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn wait(&mut self) -> Result<()> {
        process::wait_for_end(&mut self.child, &self.name, SOON).map(drop)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        process::end(&mut self.child, &self.name);
    }
}
