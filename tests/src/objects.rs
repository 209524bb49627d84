//! A `netstate` command that goes on printing JSON, read as it prints.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::{binary, process, wait::patient};

/// The running command, ended on drop.
#[derive(Debug)]
pub struct Objects {
    name: String,
    child: Child,
    lines: Receiver<Value>,
    /// What it says on its standard error.
    notes: Arc<Mutex<Vec<String>>>,
}

impl Objects {
    /// Starts `netstate` with `arguments`, separated by blanks.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(socket: &Path, arguments: &str) -> Result<Self> {
        let name = format!("netstate {arguments}");
        let mut command = binary::netstate(socket)?;
        command.args(arguments.split_whitespace());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().context("no stdout")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // What is no JSON comes as a string.
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let errors = child.stderr.take().context("no stderr")?;
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&notes);
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                told.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self {
            name,
            child,
            lines,
            notes,
        })
    }

    /// What it has printed since the last call.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub fn take(&mut self) -> Result<Vec<Value>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended by itself: {status}; {:?}", self.name, self.notes());
        }
        Ok(self.lines.try_iter().collect())
    }

    /// Waits for one that is as `wanted`; those before it are passed over.
    ///
    /// # Errors
    /// When none comes within `limit`; the message has those that came.
    pub fn wait(&self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + patient(limit);
        let mut others = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(value) if wanted(&value) => return Ok(value),
                Ok(value) => others.push(value),
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{} has not printed {what} within {limit:?}, but {others:?}; {:?}",
                        self.name,
                        self.notes()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "{} has ended without {what}; it printed {others:?}; {:?}",
                        self.name,
                        self.notes()
                    )
                }
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it stop as Ctrl-C does; returns its status and what it has printed since the last call.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<(ExitStatus, Vec<Value>)> {
        process::signal(&self.child, Signal::INT)?;
        let status = process::wait_for_end(&mut self.child, &self.name, limit)?;
        Ok((status, self.lines.iter().collect()))
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        process::end(&mut self.child, &self.name);
    }
}
