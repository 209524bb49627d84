//! A command that goes on ends when whoever read its output has gone, even if it has nothing to print.

use std::{
    fs,
    io::{BufRead, BufReader, PipeReader, Read, Write, pipe},
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::{STOP, directory, spawn_printing, wait_until_it_answers},
    process,
    traffic::come_and_go,
    wait::{SOON, wait_for},
};
use rustix::process::Signal;

crate::tests![
    a_daemon_goes_on,
    a_recording_is_finished,
    a_replay_that_waits_ends,
    readers_of_the_daemon_end,
    readers_without_a_daemon_end,
];

/// Matches nothing, so that nothing is ever printed.
const NOTHING: &str = "cookie 1";

/// A command, and a pipe that it prints into.
struct Reader {
    child: Child,
    name: String,
    out: BufReader<PipeReader>,
    stderr: Arc<Mutex<String>>,
}

impl Reader {
    fn start(socket: &Path, name: &str, stdin: Stdio) -> Result<Self> {
        let (out, writer) = pipe()?;
        let mut command = binary::netstate(socket)?;
        command.args(name.split_whitespace()).stdin(stdin).stdout(writer);
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let stderr = Arc::default();
        collect(child.stderr.take().context("no stderr")?, &stderr);
        Ok(Self {
            child,
            name: name.to_owned(),
            out: BufReader::new(out),
            stderr,
        })
    }

    fn said(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait_until_it_says(&mut self, what: &str) -> Result<()> {
        wait_for(&format!("{} to say {what:?}", self.name), 2 * SOON, || {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "{}: {ended:?}: {}", self.name, self.said());
            Ok(self.said().contains(what).then_some(()))
        })
    }

    /// Reads the line above all others, and goes.
    fn ends_after_its_first_line(self) -> Result<()> {
        let Self {
            mut child,
            name,
            mut out,
            stderr,
        } = self;
        if !name.contains("--json") {
            let mut line = String::new();
            out.read_line(&mut line)?;
            ensure!(line.contains("Time"), "{name}: {line:?}");
        }
        drop(out);
        let ended = process::wait_for_end(&mut child, &name, SOON);
        process::end(&mut child, &name);
        let status = ended?;
        let said = stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(
            status.success() && !said.contains("closed"),
            "{name}: {status}: {said}"
        );
        Ok(())
    }
}

fn collect(mut stream: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]);
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&text);
        }
    });
}

fn readers_of_the_daemon_end() -> Result<()> {
    let daemon = Daemon::start()?;
    for name in ["watch", "watch --json", "watch --stuck", "watch --stuck --json"] {
        let name = format!("{name} {NOTHING}");
        let mut reader = Reader::start(daemon.socket(), &name, Stdio::null())?;
        reader.wait_until_it_says("connected")?;
        reader.ends_after_its_first_line()?;
    }
    Ok(())
}

fn readers_without_a_daemon_end() -> Result<()> {
    let directory = directory()?;
    for name in ["watch", "watch --stuck"] {
        let name = format!("{name} --alone {NOTHING}");
        let mut reader = Reader::start(&directory.path().join("absent"), &name, Stdio::null())?;
        reader.wait_until_it_says("tracing by itself")?;
        reader.ends_after_its_first_line()?;
    }
    Ok(())
}

/// Records a little, and returns the recording's bytes.
fn recorded(directory: &Path) -> Result<Vec<u8>> {
    let file = directory.join("recording");
    let name = format!("watch --record {} {NOTHING}", file.display());
    let mut reader = Reader::start(&directory.join("absent"), &name, Stdio::null())?;
    reader.wait_until_it_says("tracing by itself")?;
    come_and_go(&Namespace::new()?, 20)?;
    reader.ends_after_its_first_line()?;
    Ok(fs::read(file)?)
}

fn a_recording_is_finished() -> Result<()> {
    let directory = directory()?;
    recorded(directory.path())?;
    let replay = format!(
        "replay --netns all --json {}",
        directory.path().join("recording").display()
    );
    let replayed = binary::run(&directory.path().join("absent"), &replay)?;
    let said = String::from_utf8(replayed.stderr)?;
    ensure!(replayed.status.success() && said.is_empty(), "{said}");
    ensure!(!replayed.stdout.is_empty(), "nothing was recorded");
    Ok(())
}

/// Its recording comes through a pipe, and the rest of it does not come.
fn a_replay_that_waits_ends() -> Result<()> {
    let directory = directory()?;
    let recording = recorded(directory.path())?;
    let (stdin, mut rest) = pipe()?;
    let name = format!("replay --netns all /proc/self/fd/0 {NOTHING}");
    let reader = Reader::start(&directory.path().join("absent"), &name, stdin.into())?;
    rest.write_all(&recording[..recording.len() - 5])?;
    reader.ends_after_its_first_line()
}

/// Its table and its clients matter to others.
fn a_daemon_goes_on() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let (out, writer) = pipe()?;
    let mut child = spawn_printing(&socket, &[], writer.into())?;
    let outcome = wait_until_it_answers(&socket).and_then(|()| {
        drop(out);
        come_and_go(&Namespace::new()?, 5)?;
        wait_until_it_answers(&socket)?;
        process::signal(&child, Signal::TERM)?;
        process::wait_for_end(&mut child, "netstate daemon", STOP)
    });
    process::end(&mut child, "netstate daemon");
    let status = outcome?;
    ensure!(status.success(), "netstate daemon: {status}");
    Ok(())
}
