//! How long questions take on a host with very many sockets, and on one with few.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{crowd::Crowd, figure::Figure};
use crate::{Daemon, binary, daemon};

/// What the kernel gets to come to rest after the crowd, and the daemon after its start.
pub(super) const REST: Duration = Duration::from_millis(1500);

/// Measures so many rounds of all questions, with so many sockets; `crowd` is the program that holds them.
pub(super) fn measure(crowd: &Path, sockets: usize, rounds: u32) -> Result<()> {
    small(rounds)?;
    let crowd = Crowd::start(crowd, sockets, None)?;
    thread::sleep(REST);
    for _ in 0..rounds {
        let begun = Instant::now();
        let daemon = Daemon::start()?;
        print("start, to ready", "netstate daemon --quiet", begun.elapsed())?;
        thread::sleep(REST);
        let nobody = daemon::directory()?.path().join("nobody");
        for question in questions(&crowd, daemon.socket(), &nobody) {
            question.ask()?;
        }
        let memory = resident(daemon.pid())?;
        let figure = |measure, unit, value| Figure {
            measure,
            subject: "netstate daemon --quiet",
            unit,
            value,
        };
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (kib, each) = (memory as f64, memory as f64 * 1024.0 / crowd.sockets() as f64);
        figure("memory", "MiB", kib / 1024.0).print()?;
        figure("memory, per socket, all included", "bytes", each).print()?;
    }
    Ok(())
}

/// A snapshot without a daemon, where there are few sockets.
fn small(rounds: u32) -> Result<()> {
    let nobody = daemon::directory()?.path().join("nobody");
    for _ in 0..rounds {
        let mut list = binary::netstate(&nobody)?;
        list.args(["list", "-atnp"]);
        time("one-off list -atnp, few sockets", "netstate", list)?;
        let mut ss = Command::new("ss");
        ss.arg("-tanp");
        time("one-off list -atnp, few sockets", "ss", ss)?;
    }
    Ok(())
}

struct Question {
    measure: &'static str,
    subject: &'static str,
    command: Command,
}

impl Question {
    fn ask(self) -> Result<()> {
        time(self.measure, self.subject, self.command)
    }
}

/// The questions of a round; `nobody` is a socket that nobody listens on.
fn questions(crowd: &Crowd, socket: &Path, nobody: &Path) -> Vec<Question> {
    let netstate = |socket: &Path, words: &str| crowd.netstate(socket, words);
    let other = |program: &str, words| {
        let mut command = crowd.command(program.into());
        command.arg(words);
        command
    };
    let question = |measure, subject, command| Question {
        measure,
        subject,
        command,
    };
    vec![
        question("list -atn", "netstate, daemon", netstate(socket, "list -atn")),
        question("list -atn", "netstate, one-off", netstate(nobody, "list -atn")),
        question("list -atn", "ss", other("ss", "-tan")),
        question("list -atn", "netstat", other("netstat", "-tan")),
        question("list -atnp", "netstate, daemon", netstate(socket, "list -atnp")),
        question("list -atnp", "netstate, one-off", netstate(nobody, "list -atnp")),
        question("list -atnp", "ss", other("ss", "-tanp")),
        question("list -atnp", "netstat", other("netstat", "-tanp")),
        question("stats", "netstate, daemon", netstate(socket, "stats")),
        question(
            "list, few rows match",
            "netstate, daemon",
            netstate(socket, "list -atn state listen sport 2000"),
        ),
    ]
}

/// Runs `command` to its end, its output thrown away, and prints how long that took.
pub(super) fn time(measure: &str, subject: &str, mut command: Command) -> Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begun = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {subject}"))?;
    let taken = begun.elapsed();
    ensure!(status.success(), "{measure}, {subject}: {status}");
    print(measure, subject, taken)
}

pub(super) fn print(measure: &str, subject: &str, taken: Duration) -> Result<()> {
    let figure = Figure {
        measure,
        subject,
        unit: "ms",
        value: taken.as_secs_f64() * 1e3,
    };
    figure.print()
}

/// `VmRSS` in KiB.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("no VmRSS")
}
