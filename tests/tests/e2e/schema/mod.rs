//! `docs/json-schema`: what each command prints as JSON is what its schema says, with real sockets in many states.

mod schemas;

use std::{collections::BTreeSet, os::fd::OwnedFd, path::Path};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Objects, Watch, binary,
    daemon::{STOP, directory},
    liar::Liar,
    link::Way,
    sockets::{
        LOOPBACK, LOOPBACK6, Pair, accept, connect, cookie, deliver, listen, reset, start_connecting,
        time_wait, wait_for_fin, wait_for_reset,
    },
    traffic::come_and_go,
    wait::{SOON, wait_for},
};
use netstate::{protocol::Answer, tcp::TcpState};
use rustix::process::Signal;
use serde_json::Value;

use schemas::Schema;

crate::tests![
    of_list,
    of_watch,
    of_replay,
    of_show,
    of_stuck,
    of_watch_stuck,
    of_stats,
    of_verify,
    of_doctor,
];

/// What `netstate` prints, each line a value.
fn run(socket: &Path, arguments: &str) -> Result<Vec<Value>> {
    let output = binary::run(socket, arguments)?;
    let text = str::from_utf8(&output.stdout)?;
    let values = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    values.with_context(|| format!("{arguments}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Sockets in many states, in the two namespaces of a link.
struct Scene {
    link: Link,
    /// Somebody does not close.
    waiting: Pair,
    _held: Vec<OwnedFd>,
}

/// The states of a [`Scene`].
const STATES: [&str; 8] = [
    "CLOSE_WAIT",
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "LISTEN",
    "SYN_RECV",
    "SYN_SENT",
    "TIME_WAIT",
];

impl Scene {
    fn new() -> Result<Self> {
        let link = Link::new()?;
        let waiting = Pair::new(&link.left, LOOPBACK)?;
        let other = Pair::new(&link.left, LOOPBACK6)?;
        deliver(&other.client, &other.server, b"nobody reads this")?;
        let half = Pair::new(&link.left, LOOPBACK)?;
        drop(half.client);
        wait_for_fin(&half.server)?;
        time_wait(&link.left, LOOPBACK)?;
        let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
        let target = listener.local_addr()?;
        let client = connect(&link.left, target)?;
        let server = accept(&listener)?;
        link.lose(Way::ToLeft)?;
        drop(client);
        wait_for_fin(&server)?;
        let connecting = start_connecting(&link.left, target)?;
        let held = vec![
            other.listener.into(),
            other.client.into(),
            other.server.into(),
            half.listener.into(),
            half.server.into(),
            listener.into(),
            server.into(),
            connecting.into(),
        ];
        Ok(Self {
            link,
            waiting,
            _held: held,
        })
    }

    fn namespaces(&self) -> [u32; 2] {
        [self.link.left.inode(), self.link.right.inode()]
    }

    /// `netstate list --json` of both namespaces, with every state.
    fn rows(&self, socket: &Path, flags: &str) -> Result<Vec<Value>> {
        wait_for("every state to be listed", SOON, || {
            let mut rows = Vec::new();
            for netns in self.namespaces() {
                rows.extend(run(socket, &format!("list -an --json {flags} --netns {netns}"))?);
            }
            let states: BTreeSet<_> = rows.iter().filter_map(|row| row["state"].as_str()).collect();
            Ok(STATES.iter().all(|state| states.contains(state)).then_some(rows))
        })
    }
}

fn of_list() -> Result<()> {
    let schema = Schema::of("list")?;
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    schema.check_all(&scene.rows(daemon.socket(), "")?)?;
    schema.check_all(&scene.rows(daemon.socket(), "--alone")?)
}

fn of_watch() -> Result<()> {
    let schema = Schema::of("watch")?;
    let daemon = Daemon::start()?;
    let mut watch = Objects::start(daemon.socket(), "watch --json --netns all")?;
    let namespace = Namespace::new()?;
    let ours = |line: &Value| line["netns"] == namespace.inode();
    let mut lines = Vec::new();
    wait_for("watch to see a listener", SOON, || {
        drop(listen(&namespace, LOOPBACK)?);
        lines.extend(watch.take()?);
        Ok(lines.iter().any(ours).then_some(()))
    })?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    reset(pair.client)?;
    wait_for_reset(&pair.server)?;
    time_wait(&namespace, LOOPBACK)?;
    wait_for("a reset and a close", SOON, || {
        lines.extend(watch.take()?);
        let ended = |reason| lines.iter().any(|line| ours(line) && line["reason"] == reason);
        Ok(
            (ended("reset_by_us") && lines.iter().any(|line| ours(line) && line["to"] == "TIME_WAIT"))
                .then_some(()),
        )
    })?;
    let ours: Vec<_> = lines.into_iter().filter(ours).collect();
    schema.check_all(&ours)
}

fn of_replay() -> Result<()> {
    let schema = Schema::of("replay")?;
    let directory = directory()?;
    let file = directory.path().join("traffic.rec");
    let namespace = Namespace::new()?;
    let mut watch = Watch::start_recording(&directory.path().join("absent.sock"), &file)?;
    come_and_go(&namespace, 5)?;
    watch.wait("something of that", |transition| {
        transition.netns == namespace.inode()
    })?;
    watch.signal(Signal::INT)?;
    ensure!(watch.wait_for_end(STOP)?.success(), "{:?}", watch.stderr());
    let absent = directory.path().join("absent.sock");
    let netns = namespace.inode();
    let lines = run(
        &absent,
        &format!("replay --json --netns {netns} {}", file.display()),
    )?;
    schema.check_all(&lines)?;
    schema.check_all(&run(
        &absent,
        &format!("replay --json --time {}", file.display()),
    )?)
}

fn of_show() -> Result<()> {
    let schema = Schema::of("show")?;
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    scene.rows(daemon.socket(), "")?;
    let ended = Pair::new(&scene.link.left, LOOPBACK)?;
    let cookie = cookie(&ended.client)?;
    reset(ended.client)?;
    let life = wait_for("the end of a life", SOON, || {
        let found = run(daemon.socket(), &format!("show --json {cookie}"))?;
        Ok(found.into_iter().find(|life| !life["ended"].is_null()))
    })?;
    schema.check(&life)?;
    for netns in scene.namespaces() {
        schema.check_all(&run(
            daemon.socket(),
            &format!("show --json --netns {netns} not cookie 1"),
        )?)?;
    }
    let again = wait_for("something to be sent again", SOON, || {
        let netns = scene.link.left.inode();
        let found = run(
            daemon.socket(),
            &format!("show --json --netns {netns} state syn-sent"),
        )?;
        let sent = |life: &Value| life["annotations"].as_array().is_some_and(|all| !all.is_empty());
        Ok(found.into_iter().find(sent))
    })?;
    schema.check(&again)
}

fn of_stuck() -> Result<()> {
    let schema = Schema::of("stuck")?;
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    let findings = wait_for("several findings", SOON, || {
        let mut lines = Vec::new();
        for netns in scene.namespaces() {
            lines.extend(run(
                daemon.socket(),
                &format!("stuck --json --older 1s --netns {netns}"),
            )?);
        }
        let kinds: BTreeSet<_> = lines.iter().filter_map(|line| line["finding"].as_str()).collect();
        let wanted = ["not_closed", "data_unread", "syn_unanswered"];
        Ok(wanted.iter().all(|kind| kinds.contains(kind)).then_some(lines))
    })?;
    schema.check_all(&findings)
}

fn of_watch_stuck() -> Result<()> {
    let schema = Schema::of("watch-stuck")?;
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    let arguments = format!(
        "watch --stuck --json --older 1s --netns {}",
        scene.link.left.inode()
    );
    let watch = Objects::start(daemon.socket(), &arguments)?;
    let server = cookie(&scene.waiting.server)?;
    drop(scene.waiting.client);
    wait_for_fin(&scene.waiting.server)?;
    let ours = |event: &'static str| move |line: &Value| line["event"] == event && line["cookie"] == server;
    schema.check(&watch.wait("that it is stuck", SOON, ours("stuck"))?)?;
    drop(scene.waiting.server);
    schema.check(&watch.wait("that it has recovered", SOON, ours("recovered"))?)?;
    let (_, rest) = watch.finish(SOON)?;
    rest.iter().try_for_each(|line| schema.check(line))
}

fn of_stats() -> Result<()> {
    let schema = Schema::of("stats")?;
    let daemon = Daemon::start()?;
    let _scene = Scene::new()?;
    schema.check_all(&run(daemon.socket(), "stats --json")?)
}

fn of_verify() -> Result<()> {
    let schema = Schema::of("verify")?;
    let daemon = Daemon::start()?;
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let (lost, moved) = (cookie(&pair.client)?, cookie(&pair.server)?);
    daemon.agrees(&namespace)?;
    let liar = Liar::new(&daemon, move |answer| {
        if let Answer::Rows(rows) = answer {
            rows.retain(|row| row.connection.cookie.0 != lost);
            for row in rows.iter_mut().filter(|row| row.connection.cookie.0 == moved) {
                row.state = TcpState::CloseWait;
            }
        }
    })?;
    let lines = run(
        liar.socket(),
        &format!("verify --json --netns {}", namespace.inode()),
    )?;
    let kinds: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line["difference"].as_str())
        .collect();
    ensure!(kinds == BTreeSet::from(["missing", "other_state"]), "{lines:?}");
    schema.check_all(&lines)
}

fn of_doctor() -> Result<()> {
    let directory = directory()?;
    let lines = run(&directory.path().join("absent.sock"), "doctor --json")?;
    Schema::of("doctor")?.check_all(&lines)
}
