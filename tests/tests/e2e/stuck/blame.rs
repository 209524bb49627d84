//! Whom a finding names: processes that cannot run, and those of several that are to act.

use std::fs;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace,
    group::Group,
    requirements::CannotRun,
    sockets::connect,
    wait::{SOON, wait_for},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{evidence, find, stuck};

crate::tests![
    workers_that_accepted_come_before_their_master,
    a_worker_in_epoll_comes_before_its_master,
    a_stopped_holder,
    a_traced_holder,
    a_holder_frozen_by_its_group,
    a_holder_in_uninterruptible_sleep,
    a_leader_that_has_exited,
];

fn next(finding: &Value) -> &str {
    finding["next"].as_str().unwrap_or_default()
}

fn cause(finding: &Value) -> &str {
    finding["cause"].as_str().unwrap_or_default()
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
    Ok(kill_process(pid, signal)?)
}

/// A server that does not accept, with a client that waits.
struct Scene {
    namespace: Namespace,
    daemon: Daemon,
    server: Holder,
    _client: std::net::TcpStream,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let mut server = Holder::start(&namespace, "e2e-server")?;
        let address = server.listen()?;
        let client = connect(&namespace, address)?;
        Ok(Self {
            namespace,
            daemon,
            server,
            _client: client,
        })
    }

    /// The finding of the listener, once `wanted` is true of it.
    fn finding(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let arguments = format!("--netns {} --older 100ms", self.namespace.inode());
        let mut last = Vec::new();
        let found = wait_for(what, SOON, || {
            let (findings, _) = stuck(self.daemon.socket(), &arguments)?;
            let found = findings
                .iter()
                .find(|one| one["state"] == "LISTEN" && wanted(one));
            let found = found.cloned();
            last = findings;
            Ok(found)
        });
        found.with_context(|| format!("found last: {last:?}"))
    }

    /// The finding once the first of its suspects cannot run for this reason.
    fn hindered(&self, word: &str) -> Result<Value> {
        self.finding(&format!("a holder that is {word}"), |finding| {
            finding["suspects"][0]["hindrances"][0]["kind"] == word
        })
    }
}

/// A master that only listens, workers that have accepted once and hang, and clients that wait.
fn workers_that_accepted_come_before_their_master() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut master = Holder::start(&namespace, "e2e-master")?;
    let address = master.listen()?;
    let accepted: Vec<_> = (0..2)
        .map(|_| connect(&namespace, address))
        .collect::<Result<_>>()?;
    let workers = master.told("fork-accept 2")?;
    let workers: Vec<u32> = workers
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let _waiting: Vec<_> = (0..3)
        .map(|_| connect(&namespace, address))
        .collect::<Result<_>>()?;
    let finding = find(&daemon, &namespace, "accept_queue_filling", "--older 1s")?;
    ensure!(evidence(&finding).contains("accept queue 3 of"), "{finding}");
    let suspects = finding["suspects"].as_array().context("no suspects")?;
    let mut named: Vec<_> = suspects
        .iter()
        .map(|one| (one["accepted"].as_u64(), one["pid"].as_u64()))
        .collect();
    named.sort_unstable();
    let mut expected = vec![(Some(0), Some(u64::from(master.pid())))];
    expected.extend(workers.iter().map(|pid| (Some(1), Some(u64::from(*pid)))));
    ensure!(
        named == expected,
        "all that hold it, and what they took: {suspects:?}"
    );
    ensure!(
        suspects[2]["pid"] == master.pid(),
        "the master comes last: {suspects:?}"
    );
    for worker in &workers {
        let trace = format!("`strace -fp {worker}`");
        ensure!(next(&finding).contains(&trace), "{trace}: {finding}");
    }
    ensure!(
        !next(&finding).contains(&master.pid().to_string()),
        "the master never accepts: {finding}"
    );
    drop(accepted);
    Ok(())
}

/// A worker that has not accepted yet, but waits for connections.
fn a_worker_in_epoll_comes_before_its_master() -> Result<()> {
    let mut scene = Scene::new()?;
    let worker: u32 = scene.server.told("fork-epoll")?.parse()?;
    let finding = scene.finding("the worker to be named", |finding| {
        finding["suspects"].as_array().is_some_and(|all| all.len() == 2)
    })?;
    let first = &finding["suspects"][0];
    ensure!(
        first["pid"] == worker && first["waits_in"] == "epoll",
        "{worker} waits: {finding}"
    );
    ensure!(
        next(&finding).contains(&format!("`strace -fp {worker}`")) && next(&finding).contains("EPOLLET"),
        "{finding}"
    );
    ensure!(
        !next(&finding).contains(&scene.server.pid().to_string()),
        "the other one only listens: {finding}"
    );
    Ok(())
}

fn a_stopped_holder() -> Result<()> {
    let scene = Scene::new()?;
    let pid = scene.server.pid();
    signal(pid, Signal::STOP)?;
    let finding = scene.hindered("stopped")?;
    ensure!(
        cause(&finding).starts_with(&format!("e2e-server ({pid}) is stopped by a signal;")),
        "that comes first: {finding}"
    );
    ensure!(
        next(&finding) == format!("continue e2e-server ({pid}): `kill -CONT {pid}`"),
        "nothing else helps: {finding}"
    );
    signal(pid, Signal::CONT)?;
    scene.finding("that it goes on", |finding| {
        finding["suspects"][0]["hindrances"] == serde_json::json!([]) && next(finding).contains("strace -fp")
    })?;
    Ok(())
}

fn a_traced_holder() -> Result<()> {
    let scene = Scene::new()?;
    let mut debugger = Holder::start(&scene.namespace, "e2e-debugger")?;
    debugger.told(&format!("trace {}", scene.server.pid()))?;
    let finding = scene.hindered("traced")?;
    let tracer = format!("e2e-debugger ({})", debugger.pid());
    ensure!(
        cause(&finding).contains(&format!("is stopped by its tracer, {tracer};")),
        "{finding}"
    );
    ensure!(
        next(&finding).starts_with(&format!("let {tracer} continue e2e-server")),
        "{finding}"
    );
    Ok(())
}

fn a_holder_frozen_by_its_group() -> Result<()> {
    let versions = [
        ("cgroup2", "rw", "cgroup.freeze", "1", "0"),
        ("cgroup", "freezer", "freezer.state", "FROZEN", "THAWED"),
    ];
    let mut tried = 0;
    for (kind, option, file, freeze, thaw) in versions {
        let Some(group) = Group::new(kind, option)? else {
            continue;
        };
        tried += 1;
        let scene = Scene::new()?;
        group.write("cgroup.procs", &scene.server.pid().to_string())?;
        group.write(file, freeze)?;
        let finding = scene.hindered("frozen");
        // Before anything fails: a frozen process does not end.
        group.write(file, thaw)?;
        let finding = finding.with_context(|| format!("by {kind}"))?;
        let command = format!("`echo {thaw} > {}`", group.folder().join(file).display());
        ensure!(next(&finding).contains(&command), "{command}: {finding}");
        ensure!(
            cause(&finding).contains("is frozen by its control group;"),
            "{finding}"
        );
    }
    if tried == 0 {
        return Err(CannotRun("needs a mounted control group hierarchy that can freeze").into());
    }
    Ok(())
}

fn a_holder_in_uninterruptible_sleep() -> Result<()> {
    let mut scene = Scene::new()?;
    let sleeper: u32 = scene.server.told("fork-vfork")?.parse()?;
    let both = scene.finding("both holders", |finding| {
        let suspects = finding["suspects"].as_array().into_iter().flatten();
        suspects
            .flat_map(|one| one["hindrances"].as_array().into_iter().flatten())
            .any(|hindrance| hindrance["kind"] == "uninterruptible")
    })?;
    ensure!(
        cause(&both).contains(&format!("e2e-server ({sleeper}) is in uninterruptible sleep")),
        "{both}"
    );
    ensure!(
        next(&both).contains(&format!("/proc/{sleeper}/task/{sleeper}/stack")),
        "{both}"
    );
    ensure!(
        next(&both).contains(&format!("`strace -fp {}`", scene.server.pid())),
        "the other holder can still accept: {both}"
    );
    Ok(())
}

fn a_leader_that_has_exited() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.server.told("exit-leader")?;
    let finding = scene.hindered("leader_exited")?;
    let pid = scene.server.pid();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
    let ids: Vec<u32> = tasks
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
        .collect::<Result<_>>()?;
    let thread = ids.iter().find(|id| **id != pid).context("no other thread")?;
    ensure!(
        next(&finding).contains(&format!("`strace -p {thread}`"))
            && next(&finding).contains(&format!("/proc/{pid}/task/{thread}")),
        "{thread} lives on: {finding}"
    );
    ensure!(
        !next(&finding).contains(&format!("-fp {pid}")),
        "it shows nothing: {finding}"
    );
    Ok(())
}
