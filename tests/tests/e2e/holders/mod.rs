//! All processes that hold a socket: shared, passed on, accepted or not, gone, and very many.

pub(crate) mod mptcp;
pub(crate) mod threads;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace,
    binary::{self, run_in},
    daemon::directory,
    requirements::CannotRun,
    snapshot::Listed,
    wait::{SOON, wait_for},
};

/// Those that fill the host with processes and descriptors, which everybody else would have to search.
pub(crate) mod crowds {
    use super::{
        thousands_of_holders, threads::threads_do_not_multiply_the_scan,
        twenty_thousand_sockets_of_fifty_processes,
    };

    crate::tests![
        twenty_thousand_sockets_of_fifty_processes,
        thousands_of_holders,
        threads_do_not_multiply_the_scan,
    ];
}

crate::tests![
    shared_by_fork,
    passed_on,
    renamed_and_replaced,
    copied_descriptors,
    inherited_until_accepted,
    the_last_owner_of_an_orphan,
    a_pid_that_is_given_again,
    a_process_in_a_pid_namespace,
    a_reader_in_a_pid_namespace,
    loopback_peers_are_never_swapped,
];

/// A server and a client, connected, with the server's end accepted; and a daemon that has seen it all.
struct Scene {
    namespace: Namespace,
    daemon: Daemon,
    server: Holder,
    client: Holder,
    /// The server's port.
    port: u16,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let mut server = Holder::start(&namespace, "e2e-server")?;
        let mut client = Holder::start(&namespace, "e2e-client")?;
        let target = server.listen()?;
        client.connect(target)?;
        server.accept()?;
        Ok(Self {
            namespace,
            daemon,
            server,
            client,
            port: target.port(),
        })
    }

    fn row(&self, what: &str, wanted: impl Fn(&Listed) -> bool) -> Result<Listed> {
        self.daemon.wait_for_row(&self.namespace, what, wanted)
    }

    fn accepted(&self, what: &str, wanted: impl Fn(&Listed) -> bool) -> Result<Listed> {
        self.row(what, |row| {
            row.local_port == Some(self.port) && row.state != "LISTEN" && wanted(row)
        })
    }

    fn connected(&self, what: &str, wanted: impl Fn(&Listed) -> bool) -> Result<Listed> {
        self.row(what, |row| row.remote_port == Some(self.port) && wanted(row))
    }

    fn text(&self) -> Result<String> {
        run_in(&self.namespace, self.daemon.socket(), "list -tanp")
    }
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// Pid, lowest descriptor and number of descriptors of every process, by the inode of the socket.
type Held = BTreeMap<u64, BTreeSet<(u32, u32, u32)>>;

/// What `/proc/PID/fd` says of these processes' sockets.
fn held_by_proc(pids: &[u32]) -> Result<Held> {
    let mut held = Held::new();
    for &pid in pids {
        let mut own: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let target = fs::read_link(entry.path())?;
            let inode = target.to_str().and_then(|link| link.strip_prefix("socket:["));
            let Some(inode) = inode.and_then(|inode| inode.strip_suffix(']')) else {
                continue;
            };
            let fd = entry.file_name().to_str().context("not a number")?.parse()?;
            own.entry(inode.parse()?).or_default().push(fd);
        }
        for (inode, fds) in own {
            let lowest = fds.iter().min().context("no descriptor")?;
            held.entry(inode)
                .or_default()
                .insert((pid, *lowest, u32::try_from(fds.len())?));
        }
    }
    Ok(held)
}

/// The same as the rows have it.
fn held_by_rows(rows: &[Listed]) -> Result<Held> {
    let mut held = Held::new();
    for row in rows.iter().filter(|row| row.inode.is_some()) {
        let owners = row.owners.iter().filter(|owner| owner.is_current());
        let of_one = owners.map(|owner| Some((owner.pid, owner.fd?, owner.fds?)));
        let owners = of_one.collect::<Option<_>>();
        let owners = owners.with_context(|| format!("an owner without descriptor: {row:?}"))?;
        held.insert(row.inode.context("no inode")?, owners);
    }
    Ok(held)
}

fn twenty_thousand_sockets_of_fifty_processes() -> Result<()> {
    const PROCESSES: usize = 50;
    /// Each with two ends.
    const PAIRS: usize = 200;
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let directory = directory()?;
    let mut holders = Vec::new();
    for number in 0..PROCESSES {
        holders.push(Holder::start(&namespace, &format!("e2e-{number}"))?);
    }
    for holder in &mut holders {
        holder.tell(&format!("pairs {PAIRS}"))?;
    }
    for holder in &holders {
        holder.said("make pairs")?;
    }
    let mut pids: Vec<u32> = holders.iter().map(Holder::pid).collect();
    for number in (0..PROCESSES).step_by(10) {
        pids.extend(holders[number].fork(2)?);
        holders[number + 1].told("dup")?;
        let path = directory.path().join(number.to_string());
        let path = path.to_str().context("not UTF-8")?;
        holders[number + 2].told(&format!("receive {path}"))?;
        holders[number + 3].told(&format!("pass {path}"))?;
        holders[number + 2].said("receive")?;
        // One way only: its own descriptors are gone, what it passed on is not.
        holders[number + 3].told("close")?;
    }
    let truth = held_by_proc(&pids)?;
    let of_tcp = |rows: &[Listed]| -> BTreeSet<u64> { rows.iter().filter_map(|row| row.inode).collect() };
    let mut difference = String::new();
    let agreed = wait_for("the owners to agree with /proc", SOON, || {
        let rows = daemon.list(&namespace)?;
        let inodes = of_tcp(&rows);
        let truth: Held = truth
            .iter()
            .filter(|(inode, _)| inodes.contains(inode))
            .map(|(i, h)| (*i, h.clone()))
            .collect();
        let listed = held_by_rows(&rows)?;
        difference = differences(&listed, &truth);
        Ok((difference.is_empty() && listed.len() == truth.len()).then_some(truth))
    });
    let truth = agreed.with_context(|| difference.clone())?;
    let sockets = (PROCESSES - PROCESSES / 10) * (PAIRS * 2 + 1) + PROCESSES / 10;
    ensure!(truth.len() == sockets, "{} sockets, of {sockets}", truth.len());
    let shared = truth.values().filter(|holders| holders.len() == 3).count();
    ensure!(
        shared == PROCESSES / 10 * (PAIRS * 2 + 1),
        "only {shared} are shared by three"
    );
    Ok(())
}

/// The first few differences.
fn differences(listed: &Held, truth: &Held) -> String {
    let inodes: BTreeSet<_> = listed.keys().chain(truth.keys()).collect();
    let differ = |inode: &&&u64| listed.get(inode) != truth.get(inode);
    let lines = inodes.iter().filter(differ).take(5).map(|inode| {
        let (listed, truth) = (listed.get(inode), truth.get(inode));
        format!("socket {inode}: netstate has {listed:?}, /proc has {truth:?}\n")
    });
    lines.collect()
}

fn thousands_of_holders() -> Result<()> {
    const MOST: usize = 16;
    const CHILDREN: usize = 2_000;
    let mut scene = Scene::new()?;
    let first = scene.client.pid();
    scene.client.fork(CHILDREN)?;
    let row = scene.connected("held by thousands", |row| row.owners.len() == MOST)?;
    let unlisted = u32::try_from(CHILDREN + 1 - MOST)?;
    ensure!(row.pid == Some(first), "{first} has connected it: {row:?}");
    ensure!(row.more_owners == unlisted, "{unlisted} others hold it: {row:?}");
    let text = scene.text()?;
    let others = format!("+{CHILDREN}");
    let named = text
        .lines()
        .any(|line| line.contains(&first.to_string()) && line.trim_end().ends_with(&others));
    ensure!(named, "{first}/…{others} expected:\n{text}");
    Ok(())
}

fn shared_by_fork() -> Result<()> {
    let mut scene = Scene::new()?;
    let (server, client) = (scene.server.pid(), scene.client.pid());
    let children = scene.server.fork(2)?;
    let all = sorted([vec![server], children].concat());
    let row = scene.accepted("shared by three", |row| row.held_by() == all)?;
    ensure!(
        row.pid == Some(server),
        "the one that it has been known by comes first: {row:?}"
    );
    let row = scene.connected("of the client", |row| row.held_by() == [client])?;
    ensure!(
        row.owner_source.as_deref() == Some("event"),
        "it has connected: {row:?}"
    );
    let text = scene.text()?;
    ensure!(
        text.contains(&format!("{server}/e2e-server+2")),
        "both others are counted:\n{text}"
    );
    scene.server.told("close")?;
    let row = scene.accepted("of the children", |row| row.held_by().len() == 2)?;
    let last = row.owners.iter().find(|owner| owner.pid == server);
    ensure!(
        last.is_some_and(|last| last.source == "last"),
        "the server has let it go: {row:?}"
    );
    Ok(())
}

fn passed_on() -> Result<()> {
    let mut scene = Scene::new()?;
    let directory = directory()?;
    let path = directory.path().join("passing");
    let path = path.to_str().context("not UTF-8")?;
    let mut other = Holder::start(&scene.namespace, "e2e-other")?;
    other.told(&format!("receive {path}"))?;
    scene.client.told(&format!("pass {path}"))?;
    other.said("receive")?;
    let both = sorted(vec![scene.client.pid(), other.pid()]);
    scene.connected("of both", |row| row.held_by() == both)?;
    scene.client.told("close")?;
    let row = scene.connected("of the other", |row| row.held_by() == [other.pid()])?;
    ensure!(row.comm.as_deref() == Some("e2e-other"), "{row:?}");
    row.descriptor_is_right()?;
    Ok(())
}

fn renamed_and_replaced() -> Result<()> {
    let mut scene = Scene::new()?;
    let pid = scene.client.pid();
    scene.client.told("rename e2e-renamed")?;
    scene.connected("renamed", |row| row.comm.as_deref() == Some("e2e-renamed"))?;
    let row = scene.connected("executing the tests", |row| row.exe.is_some())?;
    let own = std::env::current_exe()?;
    ensure!(
        row.exe.as_deref() == own.to_str(),
        "it executes {}: {row:?}",
        own.display()
    );
    scene.client.tell("exec /bin/sleep")?;
    let row = scene.connected("executing sleep", |row| row.comm.as_deref() == Some("sleep"))?;
    ensure!(row.pid == Some(pid), "{pid} executes something else now: {row:?}");
    let exe = fs::canonicalize("/bin/sleep")?;
    ensure!(
        row.exe.as_deref() == exe.to_str(),
        "it executes {}: {row:?}",
        exe.display()
    );
    Ok(())
}

fn copied_descriptors() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.client.told("dup")?;
    scene.client.told("dup")?;
    let pid = scene.client.pid();
    let row = scene.connected("copied", |row| {
        row.owners.first().is_some_and(|owner| owner.fds == Some(3))
    })?;
    let expected = held_by_proc(&[pid])?;
    ensure!(row.held_by() == [pid], "one process: {row:?}");
    ensure!(
        held_by_rows(std::slice::from_ref(&row))?.first_key_value() == expected.first_key_value(),
        "{expected:?}, but {row:?}"
    );
    Ok(())
}

fn inherited_until_accepted() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let mut server = Holder::start(&namespace, "e2e-server")?;
    let mut client = Holder::start(&namespace, "e2e-client")?;
    let target = server.listen()?;
    let near = client.connect(target)?;
    let child = watch.wait("the child", |seen| {
        seen.local_port == Some(target.port()) && seen.to == "ESTABLISHED"
    })?;
    ensure!(
        child.pid == Some(server.pid()) && child.owner_source.as_deref() == Some("inherited"),
        "the server can accept it: {child:?}"
    );
    let is_child = |row: &Listed| row.cookie == child.cookie;
    let row = daemon.wait_for_row(&namespace, "the child", is_child)?;
    ensure!(row.held_by().is_empty(), "nobody has accepted it: {row:?}");
    ensure!(server.accept()? == near, "another one");
    daemon.wait_for_row(&namespace, "accepted", |row| {
        is_child(row) && row.held_by() == [server.pid()]
    })?;
    Ok(())
}

fn the_last_owner_of_an_orphan() -> Result<()> {
    let Scene {
        namespace,
        daemon,
        server,
        client,
        port,
    } = Scene::new()?;
    let pid = client.pid();
    daemon.agrees(&namespace)?;
    client.finish()?;
    // The server does not close its end: FIN_WAIT2 that nobody holds.
    let is_orphan = |row: &Listed| row.remote_port == Some(port) && row.state == "FIN_WAIT2";
    let row = daemon.wait_for_row(&namespace, "the orphan", is_orphan)?;
    ensure!(
        row.pid == Some(pid) && row.owner_source.as_deref() == Some("last") && row.held_by().is_empty(),
        "{pid} has held it: {row:?}"
    );
    ensure!(
        row.exe.is_none() && row.comm.as_deref() == Some("e2e-client"),
        "it is gone: {row:?}"
    );
    let text = run_in(&namespace, daemon.socket(), "list -tnp")?;
    let line = text
        .lines()
        .find(|line| line.contains("FIN_WAIT2"))
        .context("no FIN_WAIT2")?;
    ensure!(
        line.trim_end().ends_with(&format!(" {pid}/e2e-client?")),
        "the last owner is marked: {line}"
    );
    drop(server);
    Ok(())
}

fn a_pid_that_is_given_again() -> Result<()> {
    let mut scene = Scene::new()?;
    let children = scene.client.fork(1)?;
    let [child] = children[..] else {
        anyhow::bail!("one child, but {children:?}");
    };
    scene.connected("shared", |row| row.held_by().contains(&child))?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child)?).context("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    // Only then is its id free.
    scene.client.told("reap")?;
    let again = scene.client.told(&format!("fork-as {child}"));
    if again
        .as_ref()
        .is_err_and(|error| error.to_string().contains("EPERM"))
    {
        return Err(CannotRun("needs clone3 with a pid of one's choice").into());
    }
    again?;
    let row = scene.connected("of the new process", |row| row.held_by().contains(&child))?;
    let same: Vec<_> = row.owners.iter().filter(|owner| owner.pid == child).collect();
    let sources: Vec<_> = same.iter().map(|owner| owner.source.as_str()).collect();
    ensure!(
        sources == ["scan", "last"],
        "two processes have had the id {child}: {row:?}"
    );
    ensure!(
        same[0].exe.is_some() && same[1].exe.is_none(),
        "one of them is gone: {row:?}"
    );
    Ok(())
}

fn a_process_in_a_pid_namespace() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut server = Holder::start_apart(&namespace, "e2e-apart")?;
    server.listen()?;
    let row = daemon.wait_for_row(&namespace, "the listener", |row| row.held_by().len() == 1)?;
    let pid = row.pid.context("no pid")?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    ensure!(
        name == "e2e-apart\n" && row.comm.as_deref() == Some("e2e-apart"),
        "{pid} is {name}: {row:?}"
    );
    ensure!(
        pid != server.pid() && row.exe.is_some(),
        "it is the child of {}: {row:?}",
        server.pid()
    );
    Ok(())
}

/// Who cannot see the processes says so, and shows the rows.
fn a_reader_in_a_pid_namespace() -> Result<()> {
    let namespace = Namespace::new()?;
    let mut server = Holder::start(&namespace, "e2e-server")?;
    let target = server.listen()?;
    let directory = directory()?;
    let mut command = binary::netstate(&directory.path().join("absent.sock"))?;
    command.args(["list", "-tanp"]);
    let mut command: Command = binary::through("unshare", &["--pid", "--fork", "--mount-proc"], &command);
    let output = namespace.output(&mut command)?;
    let (text, notes) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    );
    let line = text.lines().find(|line| line.contains(&target.to_string()));
    ensure!(
        line.is_some_and(|line| line.trim_end().ends_with(" -")),
        "no owner is known:\n{text}{notes}"
    );
    let told = notes
        .lines()
        .filter(|line| line.contains("PID namespace") && line.contains("--pid=host"));
    ensure!(told.count() == 1, "one note expected: {notes}");
    let whole = fs::metadata("/proc/self/ns/pid")?.ino() == 0xEFFF_FFFC;
    let text = run_in(&namespace, &directory.path().join("absent.sock"), "list -tanp")?;
    ensure!(
        !whole || text.contains(&format!("{}/e2e-server", server.pid())),
        "{text}"
    );
    Ok(())
}

fn loopback_peers_are_never_swapped() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let mut server = Holder::start(&namespace, "e2e-server")?;
    let mut client = Holder::start(&namespace, "e2e-client")?;
    let target = server.listen()?;
    for _ in 0..20 {
        client.connect(target)?;
        server.accept()?;
    }
    let rows = daemon.agrees(&namespace)?;
    ensure!(rows.len() == 41, "{} rows", rows.len());
    client.told("close")?;
    server.told("close")?;
    watch.wait("the listener's end", |seen| {
        seen.from.as_deref() == Some("LISTEN") && seen.to == "CLOSE"
    })?;
    let last = daemon.agrees(&namespace)?;
    for row in rows.iter().chain(&last) {
        let holder = if row.local_port == Some(target.port()) {
            &server
        } else {
            &client
        };
        ensure!(row.pid == Some(holder.pid()), "{} has held {row:?}", holder.pid());
    }
    for seen in rows.iter().flat_map(|row| watch.of(row.cookie)) {
        let holder = if seen.local_port == Some(target.port()) {
            &server
        } else {
            &client
        };
        ensure!(
            seen.pid.is_none_or(|pid| pid == holder.pid()),
            "{} has held {seen:?}",
            holder.pid()
        );
    }
    Ok(())
}
