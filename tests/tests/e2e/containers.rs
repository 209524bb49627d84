//! Network namespaces as containers have them: many, short-lived, and kept by all kinds of things.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    daemon::directory,
    process,
    rows::Row,
    snapshot,
    sockets::{LOOPBACK, Pair, accept, connect, cookie, wait_for_fin},
    wait::{SOON, is_slow, wait_for},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

crate::tests![
    fifty_come_and_go,
    kept_by_a_thread,
    kept_by_a_descriptor,
    kept_by_a_mount_anywhere,
    kept_by_a_mount_elsewhere,
    the_tracer_keeps_none,
];

const CONTAINERS: usize = 50;

/// A listener, an established connection, and one in TIME_WAIT.
fn populate(namespace: &Namespace) -> Result<(Pair, BTreeSet<u64>)> {
    let pair = Pair::new(namespace, LOOPBACK)?;
    let client = connect(namespace, pair.listener.local_addr()?)?;
    let server = accept(&pair.listener)?;
    let cookies = [
        cookie(&pair.listener)?,
        cookie(&pair.client)?,
        cookie(&pair.server)?,
        cookie(&client)?,
    ];
    drop(client);
    wait_for_fin(&server)?;
    Ok((pair, cookies.into()))
}

/// All rows that the daemon lists with one of these cookies, by namespace.
fn listed(daemon: &Daemon, cookies: &BTreeSet<u64>) -> Result<BTreeMap<u32, Vec<Row>>> {
    let mut rows: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
    for listed in snapshot::list_of("all", daemon.socket())? {
        if cookies.contains(&listed.cookie) {
            rows.entry(listed.netns).or_default().push(listed.row()?);
        }
    }
    for rows in rows.values_mut() {
        rows.sort();
    }
    Ok(rows)
}

fn gone(daemon: &Daemon, cookies: &BTreeSet<u64>) -> Result<Duration> {
    let started = Instant::now();
    let mut left = BTreeMap::new();
    let waited = wait_for("the rows of namespaces that are gone to go", SOON, || {
        left = listed(daemon, cookies)?;
        Ok(left.is_empty().then_some(()))
    });
    waited.with_context(|| format!("still listed: {left:#?}; {}", daemon.log()))?;
    Ok(started.elapsed())
}

fn fifty_come_and_go() -> Result<()> {
    // They are all to be there before the first TIME_WAIT is over.
    let containers = if is_slow() { CONTAINERS / 5 } else { CONTAINERS };
    let daemon = Daemon::start()?;
    for _ in 0..2 {
        let mut cookies = BTreeSet::new();
        let mut made = Vec::new();
        for _ in 0..containers {
            let namespace = Namespace::new()?;
            let (pair, own) = populate(&namespace)?;
            cookies.extend(own);
            made.push((namespace, pair));
        }
        let mut truth = BTreeMap::new();
        for (namespace, _) in &made {
            truth.insert(namespace.inode(), snapshot::ss(namespace)?);
        }
        ensure!(
            truth.values().all(|rows| rows.len() == 4),
            "not four sockets in each: {truth:#?}"
        );
        let rows = listed(&daemon, &cookies)?;
        ensure!(rows == truth, "netstate lists {rows:#?}\nand ss {truth:#?}");
        drop(made);
        gone(&daemon, &cookies)?;
    }
    Ok(())
}

/// What alone keeps a namespace, and lets go of it when it is dropped.
trait Keeper {}

/// A namespace that only `keep` keeps is swept: what is older than the daemon is there, and what happens later
/// unannounced; and when nothing keeps it any more, its rows go.
fn is_swept<K: Keeper>(keep: impl FnOnce(Namespace) -> Result<K>) -> Result<()> {
    let namespace = Namespace::new()?;
    let inode = namespace.inode().to_string();
    let (pair, mut cookies) = populate(&namespace)?;
    let keeper = keep(namespace)?;
    let daemon = Daemon::start()?;
    let rows = snapshot::list_of(&inode, daemon.socket())?;
    let found: BTreeSet<u64> = rows.iter().map(|row| row.cookie).collect();
    ensure!(
        found == cookies,
        "listed {rows:#?}, and not the sockets {cookies:?}"
    );
    let Pair {
        listener,
        client,
        server,
    } = pair;
    let near = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    wait_for(
        "TIME_WAIT, with the queues that only a sweep can tell",
        SOON,
        || {
            let rows = snapshot::list_of(&inode, daemon.socket())?;
            let row = rows.into_iter().find(|row| row.cookie == near);
            Ok(row
                .filter(|row| row.state == "TIME_WAIT" && row.recv_q == Some(0))
                .map(drop))
        },
    )?;
    drop(listener);
    drop(keeper);
    cookies.insert(near);
    gone(&daemon, &cookies).map(drop)
}

/// A thread of this process that stays inside.
struct Inside {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper for Inside {}

impl Inside {
    fn new(namespace: Namespace) -> Result<Self> {
        let file = File::open(namespace.path())?;
        let ((stop, stopped), (tell, told)) = (channel(), channel());
        let thread = thread::spawn(move || {
            let entered = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            drop(file);
            let _ = tell.send(entered);
            // Ends when the sender is dropped.
            let _ = stopped.recv();
        });
        told.recv_timeout(SOON)??;
        drop(namespace);
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn kept_by_a_thread() -> Result<()> {
    is_swept(Inside::new)
}

impl Keeper for File {}

fn kept_by_a_descriptor() -> Result<()> {
    // By its name in /proc, and by a mount that is gone.
    is_swept(|namespace| {
        let inside = || File::open("/proc/thread-self/ns/net");
        Ok(namespace.enter(inside)?)
    })?;
    is_swept(|namespace| Ok(File::open(namespace.path())?))
}

/// A file that the namespace is mounted on.
struct Mounted(TempDir);

impl Keeper for Mounted {}

impl Mounted {
    fn new(namespace: Namespace) -> Result<Self> {
        let directory = directory()?;
        let place = directory.path().join("a name with blanks");
        fs::write(&place, "")?;
        mount(&namespace.path(), &place)?;
        drop(namespace);
        Ok(Self(directory))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let place = self.0.path().join("a name with blanks");
        let unmounted = Command::new("umount").arg(&place).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is left behind", place.display());
        }
    }
}

fn mount(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("mount").arg("--bind").arg(from).arg(to).status()?;
    ensure!(status.success(), "mount --bind: {status}");
    Ok(())
}

fn kept_by_a_mount_anywhere() -> Result<()> {
    is_swept(Mounted::new)
}

/// A process in a mount namespace of its own, where the namespace is mounted.
struct Elsewhere {
    child: Child,
    _directory: TempDir,
}

impl Keeper for Elsewhere {}

impl Elsewhere {
    fn new(namespace: Namespace) -> Result<Self> {
        let directory = directory()?;
        let place = directory.path().join("place");
        fs::write(&place, "")?;
        let script = "mount --bind \"$0\" \"$1\" && umount -l \"$0\"; echo mounted; exec cat";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        command.arg(namespace.path()).arg(&place);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start unshare")?;
        let said = child.stdout.take().context("no stdout")?;
        let elsewhere = Self {
            child,
            _directory: directory,
        };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        ensure!(line == "mounted\n", "cannot mount in another mount namespace");
        drop(namespace);
        Ok(elsewhere)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        process::end(&mut self.child, "a process in a mount namespace of its own");
    }
}

fn kept_by_a_mount_elsewhere() -> Result<()> {
    is_swept(Elsewhere::new)
}

/// A thread keeps the namespace that it is in, and the tracer's must not.
fn the_tracer_keeps_none() -> Result<()> {
    let daemon = Daemon::start()?;
    let namespace = Namespace::new()?;
    let inode = u64::from(namespace.inode());
    let _pair = populate(&namespace)?;
    snapshot::list_of(&inode.to_string(), daemon.socket())?;
    wait_for("the tracer to have left the namespace", SOON, || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()))?;
        let mut spaces = tasks.filter_map(|task| fs::metadata(task.ok()?.path().join("ns/net")).ok());
        Ok(spaces.all(|space| space.ino() != inode).then_some(()))
    })
}
