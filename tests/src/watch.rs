//! `netstate watch --json`, read as it prints.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::IpAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use crate::{
    Namespace, binary, process,
    wait::{SOON, wait_for},
};

/// How long loading the tracer may take, with other tests doing the same.
const START: Duration = Duration::from_secs(30);

/// One object of `netstate watch --json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the keys are the contract's, in docs/ and `netstate watch --help`"
)]
pub struct Transition {
    pub cookie: u64,
    pub netns: u32,
    pub netns_name: Option<String>,
    pub family: String,
    pub local_addr: IpAddr,
    pub local_port: Option<u16>,
    pub remote_addr: IpAddr,
    pub remote_port: Option<u16>,
    pub uid: Option<u32>,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub fd: Option<u32>,
    pub owner_source: Option<String>,
    pub cgroup: Option<serde_json::Value>,
    pub fwmark: Option<u32>,
    pub time: String,
    pub from: Option<String>,
    pub to: String,
    pub in_state_us: Option<u64>,
    pub source: String,
    pub earliest: Option<String>,
    pub reason: Option<String>,
    pub reason_detail: Option<String>,
    pub closed_by: Option<String>,
}

/// A `connect` that failed and changed no state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "the keys are those of docs/json-schema/watch.json")]
pub struct FailedConnect {
    pub cookie: u64,
    pub netns: u32,
    pub family: String,
    pub local_addr: IpAddr,
    pub local_port: Option<u16>,
    pub remote_addr: IpAddr,
    pub remote_port: Option<u16>,
    pub uid: Option<u32>,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub error: Option<String>,
    pub errno: i32,
}

/// What came out of it so far.
#[derive(Debug, Default)]
struct Seen {
    transitions: BTreeMap<u64, Vec<Transition>>,
    failed_connects: Vec<FailedConnect>,
    missed: u64,
    lost: u64,
    stderr: Vec<String>,
    broken: Option<String>,
}

/// A running `netstate watch`, stopped on drop.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    seen: Arc<Mutex<Seen>>,
}

impl Watch {
    /// Starts it against the daemon on `socket`, or alone when none is there, and waits until nothing that
    /// happens from now on can escape it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(socket: &Path) -> Result<Self> {
        let child = command(socket, "all")?
            .spawn()
            .context("cannot start netstate watch")?;
        Self::follow(child)
    }

    /// The same, alone, with a recording in `file`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_recording(socket: &Path, file: &Path) -> Result<Self> {
        let mut command = command(socket, "all")?;
        command.arg("--record").arg(file);
        Self::follow(command.spawn().context("cannot start netstate watch")?)
    }

    /// The same inside `namespace`, and for the namespaces that `filter` says.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_in(namespace: &Namespace, socket: &Path, filter: &str) -> Result<Self> {
        Self::follow(namespace.spawn(&mut command(socket, filter)?)?)
    }

    /// The same inside `namespace`, for that alone and for what `filter` matches.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_matching(namespace: &Namespace, socket: &Path, filter: &str) -> Result<Self> {
        let mut command = command(socket, "self")?;
        Self::follow(namespace.spawn(command.args(filter.split_whitespace()))?)
    }

    fn follow(mut child: Child) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        read_lines(child.stdout.take().context("no stdout")?, &seen, Seen::take_line);
        read_lines(child.stderr.take().context("no stderr")?, &seen, |seen, line| {
            seen.stderr.push(line);
        });
        let mut watch = Self { child, seen };
        wait_for("netstate watch to be ready", START, || watch.poll())?;
        Ok(watch)
    }

    /// Whether it has said on stderr that it is ready.
    fn poll(&mut self) -> Result<Option<()>> {
        let ready = |line: &String| line.contains("tracing") || line.contains("connected");
        if self.seen().stderr.iter().any(ready) {
            return Ok(Some(()));
        }
        if let Some(status) = self.child.try_wait()? {
            bail!("netstate watch has ended: {status}: {:?}", self.stderr());
        }
        Ok(None)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines it wrote to stderr.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.seen().stderr.clone()
    }

    /// The transitions of one connection, in the order they were printed.
    #[must_use]
    pub fn of(&self, cookie: u64) -> Vec<Transition> {
        self.seen().transitions.get(&cookie).cloned().unwrap_or_default()
    }

    /// All transitions that were printed that happened in this namespace, by connection.
    #[must_use]
    pub fn all_in(&self, netns: u32) -> BTreeMap<u64, Vec<Transition>> {
        let mut all = self.seen().transitions.clone();
        all.retain(|_, transitions| transitions.iter().all(|transition| transition.netns == netns));
        all
    }

    /// How many transitions were printed that happened in this namespace.
    #[must_use]
    pub fn count_in(&self, netns: u32) -> usize {
        let seen = self.seen();
        seen.transitions
            .values()
            .flatten()
            .filter(|transition| transition.netns == netns)
            .count()
    }

    /// The failed connects of all sockets, in the order they were printed.
    #[must_use]
    pub fn all_failed_connects(&self) -> Vec<FailedConnect> {
        self.seen().failed_connects.clone()
    }

    /// The failed connects of one socket, in the order they were printed.
    #[must_use]
    pub fn failed_connects(&self, cookie: u64) -> Vec<FailedConnect> {
        let seen = self.seen();
        let failed = seen.failed_connects.iter();
        failed.filter(|failed| failed.cookie == cookie).cloned().collect()
    }

    /// How many transitions it was told that it missed.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.seen().missed
    }

    /// How many events it was told that the kernel had no room for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.seen().lost
    }

    /// Waits for a transition that satisfies `wanted`.
    ///
    /// # Errors
    /// When there is none within [`SOON`].
    pub fn wait(&self, what: &str, wanted: impl Fn(&Transition) -> bool) -> Result<Transition> {
        self.wait_within(SOON, what, wanted)
    }

    /// Waits for a transition that satisfies `wanted`.
    ///
    /// # Errors
    /// When there is none within `limit`.
    pub fn wait_within(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Transition) -> bool,
    ) -> Result<Transition> {
        let found = wait_for(&format!("netstate watch to print {what}"), limit, || {
            let seen = self.seen();
            seen.is_sound()?;
            Ok(seen
                .transitions
                .values()
                .flatten()
                .find(|transition| wanted(transition))
                .cloned())
        });
        found.with_context(|| self.circumstances())
    }

    /// Waits until the connection has gone through exactly these states; returns the transitions.
    ///
    /// # Errors
    /// When it has not within [`SOON`]; the message shows what it went through.
    pub fn wait_for_path(&self, cookie: u64, path: &[&str]) -> Result<Vec<Transition>> {
        let mut last = Vec::new();
        let waited = wait_for(&format!("the path {}", path.join(" → ")), SOON, || {
            self.seen().is_sound()?;
            let transitions = self.of(cookie);
            last = states(&transitions)?;
            Ok((last == path).then_some(transitions))
        });
        waited.with_context(|| {
            let path = last.join(" → ");
            format!("connection {cookie} went {path:?}; {}", self.circumstances())
        })
    }

    /// What may explain why something was not seen.
    fn circumstances(&self) -> String {
        let seen = self.seen();
        let (connections, missed, lost) = (seen.transitions.len(), seen.missed, seen.lost);
        format!(
            "netstate watch: {connections} connections, missed {missed}, lost {lost}; {:?}",
            seen.stderr
        )
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(&self.child, signal)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        process::wait_for_end(&mut self.child, "netstate watch", limit)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        process::end(&mut self.child, "netstate watch");
    }
}

impl Seen {
    fn is_sound(&self) -> Result<()> {
        ensure!(self.broken.is_none(), "netstate watch printed {:?}", self.broken);
        Ok(())
    }

    fn take_line(&mut self, line: String) {
        #[derive(Deserialize)]
        #[serde(tag = "event", rename_all = "snake_case")]
        enum Item {
            Transition(Box<Transition>),
            ConnectFailed(FailedConnect),
            Missed { missed: u64 },
            Lost { lost: u64 },
        }
        match serde_json::from_str(&line) {
            Ok(Item::Transition(transition)) => {
                let transitions = self.transitions.entry(transition.cookie).or_default();
                transitions.push(*transition);
            }
            Ok(Item::ConnectFailed(failed)) => self.failed_connects.push(failed),
            Ok(Item::Missed { missed }) => self.missed += missed,
            Ok(Item::Lost { lost }) => self.lost += lost,
            Err(_) => self.broken = Some(line),
        }
    }
}

fn command(socket: &Path, filter: &str) -> Result<Command> {
    let mut command = binary::netstate(socket)?;
    command.args(["watch", "--json", "--netns", filter]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// The states that a connection went through: the first one's `from` (`?` when unknown), then every `to`.
///
/// # Errors
/// When one transition does not start where the one before it ended.
pub fn states(transitions: &[Transition]) -> Result<Vec<String>> {
    let from = |transition: &Transition| transition.from.clone().unwrap_or_else(|| "?".to_owned());
    let mut path: Vec<String> = transitions.iter().take(1).map(from).collect();
    for transition in transitions {
        let broken = path.last() != Some(&from(transition));
        ensure!(!broken, "{} → … is followed by {transition:?}", path.join(" → "));
        path.push(transition.to.clone());
    }
    Ok(path)
}

/// Hands every line of `stream` to `take`, on a thread that ends with the stream.
fn read_lines(
    stream: impl Read + Send + 'static,
    seen: &Arc<Mutex<Seen>>,
    take: impl Fn(&mut Seen, String) + Send + 'static,
) {
    let seen = Arc::clone(seen);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), line);
        }
    });
}
