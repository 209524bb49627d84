//! `netstate watch --json`, followed while it prints.

use std::{
    borrow::Cow,
    io::{BufRead, BufReader},
    net::IpAddr,
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    history::{Ends, Histories, Source, Step},
    states::State,
};
use crate::{binary, process, wait::wait_for};

/// How long connecting may take on a slow machine.
const START: Duration = Duration::from_mins(1);

/// One line, of whichever kind.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(default)]
    cookie: u64,
    #[serde(default)]
    netns: u32,
    local_addr: Option<IpAddr>,
    local_port: Option<u16>,
    remote_addr: Option<IpAddr>,
    remote_port: Option<u16>,
    #[serde(borrow)]
    time: Option<&'a str>,
    #[serde(borrow)]
    from: Option<&'a str>,
    #[serde(borrow)]
    to: Option<&'a str>,
    in_state_us: Option<u64>,
    at_least: Option<bool>,
    #[serde(borrow)]
    source: Option<&'a str>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    mptcp: Option<bool>,
    missed: Option<u64>,
    lost: Option<u64>,
    #[serde(borrow)]
    since: Option<&'a str>,
    #[serde(borrow)]
    until: Option<&'a str>,
}

/// A running `netstate watch` of all namespaces.
#[derive(Debug)]
pub(super) struct Stream {
    child: Child,
    reader: Option<JoinHandle<()>>,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    histories: Histories,
    broken: Option<String>,
}

impl Stream {
    /// Starts it; nothing that happens from now on escapes it, or it says so.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(socket: &Path) -> Result<Self> {
        let mut command = binary::netstate(socket)?;
        command.args(["watch", "--json", "--netns", "all"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start netstate watch")?;
        let told = Arc::new(Mutex::new(Told::default()));
        let lines = BufReader::with_capacity(1 << 20, child.stdout.take().context("no stdout")?);
        let reader = read(lines, Arc::clone(&told));
        let ready = until_ready(child.stderr.take().context("no stderr")?);
        let stream = Self {
            child,
            reader: Some(reader),
            told,
        };
        wait_for("netstate watch to be ready", START, || Ok(ready.try_recv().ok()))?;
        Ok(stream)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what has been told.
    ///
    /// # Errors
    /// When a line made no sense.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Histories) -> T) -> Result<T> {
        let told = self.told();
        ensure!(told.broken.is_none(), "netstate watch printed {:?}", told.broken);
        Ok(look(&told.histories))
    }

    /// Ends it, and returns all that was told.
    ///
    /// # Errors
    /// When a line made no sense.
    pub(super) fn finish(mut self) -> Result<Histories> {
        process::end(&mut self.child, "netstate watch");
        if let Some(reader) = self.reader.take() {
            // It ends with the pipe, and does not panic.
            let _ = reader.join();
        }
        self.look(|_| ())?;
        Ok(std::mem::take(&mut self.told().histories))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        process::end(&mut self.child, "netstate watch");
    }
}

/// Says when the program has said on stderr that it follows.
fn until_ready(stderr: impl std::io::Read + Send + 'static) -> std::sync::mpsc::Receiver<()> {
    let (tell, ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains("connected") || line.contains("tracing") {
                // Whoever waited may have given up.
                let _ = tell.send(());
            }
        }
    });
    ready
}

fn read(mut lines: impl BufRead + Send + 'static, told: Arc<Mutex<Told>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut line = String::new();
        while let Ok(length) = lines.read_line(&mut line) {
            if length == 0 {
                break;
            }
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if take(&line, &mut told.histories).is_none() && told.broken.is_none() {
                told.broken = Some(line.clone());
            }
            drop(told);
            line.clear();
        }
    })
}

/// Takes in one line; `None` when it makes no sense.
fn take(line: &str, histories: &mut Histories) -> Option<()> {
    let line: Line<'_> = serde_json::from_str(line).ok()?;
    if let Some(missed) = line.missed {
        histories.miss(missed);
        return Some(());
    }
    if let Some(lost) = line.lost {
        histories.lose(lost, nanoseconds(line.since?)?, nanoseconds(line.until?)?);
        return Some(());
    }
    let ends = Ends {
        netns: line.netns,
        local: (line.local_addr?, line.local_port),
        remote: (line.remote_addr?, line.remote_port),
    };
    let from = match line.from {
        Some(name) => Some(State::named(name)?),
        None => None,
    };
    let step = Step {
        time: nanoseconds(line.time?)?,
        from,
        to: State::named(line.to?)?,
        source: match line.source? {
            "event" => Source::Event,
            "scan" => Source::Sweep,
            "inferred" => Source::Inferred,
            _ => return None,
        },
        in_state: line.in_state_us,
        at_least: line.at_least?,
        reason: line.reason.map(|reason| reason.into_owned().into_boxed_str()),
        mptcp: line.mptcp?,
    };
    histories.tell(line.cookie, ends, step);
    Some(())
}

fn nanoseconds(time: &str) -> Option<i64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}
