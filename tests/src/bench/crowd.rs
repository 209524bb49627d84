//! The program that holds very many sockets, as it is started for a measure.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{binary, process};

/// Very many sockets in a namespace; they end when this is dropped.
pub(super) struct Crowd {
    child: Child,
    pid: String,
    sockets: usize,
}

impl Crowd {
    /// `program` is the one that holds them: so many in all, and so many in each process if that is given.
    pub(super) fn start(program: &Path, sockets: usize, each: Option<usize>) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(format!("--sockets={sockets}"));
        command.args(each.map(|each| format!("--each={each}")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the crowd")?;
        let said = child.stdout.take().context("no pipe")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let words: Vec<_> = line.split_whitespace().collect();
        let ["ready", pid, _, sockets] = words[..] else {
            process::end(&mut child, "the crowd");
            anyhow::bail!("the crowd did not come together");
        };
        Ok(Self {
            child,
            pid: pid.to_owned(),
            sockets: sockets.parse()?,
        })
    }

    /// How many sockets there are.
    pub(super) fn sockets(&self) -> usize {
        self.sockets
    }

    /// netstate in the namespace of the crowd, with these arguments, separated by blanks.
    pub(super) fn netstate(&self, socket: &Path, words: &str) -> Command {
        let mut command = self.command(binary::path().unwrap_or_default());
        command.arg("--socket").arg(socket).args(words.split(' '));
        command
    }

    /// `program` in the namespace of the crowd.
    pub(super) fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid, "--net"]).arg(program);
        command
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // They are held for as long as the crowd's input is open.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
