//! Ctrl-C, and daemons that come and go, while a command goes on.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, PipeWriter, Read, Write, pipe},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, binary,
    daemon::{STOP, directory},
    process,
    wait::{SOON, wait_for},
};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::Signal,
};

crate::tests![
    while_the_daemon_is_silent,
    while_nobody_reads,
    the_daemon_is_started_anew
];

/// A command that goes on, with its standard output and error.
struct Lasting {
    child: Child,
    name: &'static str,
}

impl Lasting {
    fn start(socket: &Path, name: &'static str, out: impl Into<Stdio>) -> Result<Self> {
        let mut command: Command = binary::netstate(socket)?;
        command.args(name.split(' ')).stdin(Stdio::null()).stdout(out);
        let child = command.stderr(Stdio::piped()).spawn()?;
        Ok(Self { child, name })
    }

    fn file(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))?)
    }

    /// Whether it is told of SIGINT. It asks for SIGHUP last: only when it has gone on behind asking for the one before is it
    /// certain to hear of it (tokio installs the handler first, and then listens to it).
    fn catches_interrupts(&self) -> Result<Option<()>> {
        let status = self.file("status")?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.context("no SigCgt")?.trim(), 16)?;
        Ok((caught >> (Signal::HUP.as_raw() - 1) & 1 == 1).then_some(()))
    }

    /// Whether one of its threads waits for somebody to read a pipe.
    fn waits_for_a_reader(&self) -> Result<Option<()>> {
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread that has just ended has none.
            let waits = fs::read_to_string(task?.path().join("wchan")).unwrap_or_default();
            if waits.contains("pipe_write") {
                return Ok(Some(()));
            }
        }
        Ok(None)
    }

    fn is_ended_by_an_interrupt(&mut self) -> Result<()> {
        process::signal(&self.child, Signal::INT)?;
        let status = process::wait_for_end(&mut self.child, self.name, 2 * STOP)?;
        ensure!(status.success(), "{}: {status}", self.name);
        Ok(())
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        process::end(&mut self.child, self.name);
    }
}

/// It would take ten seconds to find out that the daemon does not answer.
fn while_the_daemon_is_silent() -> Result<()> {
    let daemon = Daemon::start()?;
    daemon.signal(Signal::STOP)?;
    let commands = ["watch", "watch --stuck", "stuck --watch", "verify --watch"];
    let ended = commands.into_iter().try_for_each(|name| {
        let mut command = Lasting::start(daemon.socket(), name, Stdio::null())?;
        wait_for(&format!("{name} to wait"), SOON, || command.catches_interrupts())?;
        command.is_ended_by_an_interrupt()
    });
    daemon.signal(Signal::CONT)?;
    ended
}

fn while_nobody_reads() -> Result<()> {
    let daemon = Daemon::start()?;
    for name in ["watch --stuck", "stuck --watch", "verify --watch"] {
        let (_reader, writer) = full_pipe()?;
        let mut command = Lasting::start(daemon.socket(), name, writer)?;
        wait_for(&format!("{name} to print"), SOON, || command.waits_for_a_reader())?;
        command.is_ended_by_an_interrupt()?;
    }
    Ok(())
}

/// A pipe that has no room.
fn full_pipe() -> Result<(std::io::PipeReader, PipeWriter)> {
    let (reader, mut writer) = pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    loop {
        match writer.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer))
}

/// What another daemon knows cannot be compared with what the one before has told.
fn the_daemon_is_started_anew() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    for (anew, expected) in [(true, "was restarted"), (false, "has stopped")] {
        let daemon = Daemon::start_at(&socket)?;
        let mut command = Lasting::start(&socket, "stuck --watch", Stdio::piped())?;
        let out = command.child.stdout.take().context("no pipe")?;
        // It pauses after that.
        let mut out = BufReader::new(out);
        out.read_line(&mut String::new())?;
        process::signal(&command.child, Signal::STOP)?;
        daemon.stop(Signal::TERM)?;
        let other = anew.then(|| Daemon::start_at(&socket)).transpose()?;
        process::signal(&command.child, Signal::CONT)?;
        let status = process::wait_for_end(&mut command.child, "stuck --watch", SOON)?;
        let mut said = String::new();
        let mut errors = command.child.stderr.take().context("no pipe")?;
        errors.read_to_string(&mut said)?;
        ensure!(
            status.code() == Some(1) && said.contains(expected),
            "{expected}: {status}, {said}"
        );
        drop((out, other));
    }
    Ok(())
}
