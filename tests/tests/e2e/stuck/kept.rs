//! Sockets that no process has a descriptor of: in an `io_uring`, or in a message that nobody has received.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace,
    binary::{self, run_in},
    requirements::CannotRun,
    wait::{SOON, wait_for},
};
use serde_json::Value;

use super::stuck;

crate::tests![a_socket_in_an_io_uring, a_socket_in_flight];

/// A server that has given away the connection that it has accepted, whose client has closed.
struct Scene {
    namespace: Namespace,
    daemon: Daemon,
    server: Holder,
    _client: Holder,
}

impl Scene {
    fn new(order: &str) -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let mut server = Holder::start(&namespace, "e2e-server")?;
        let mut client = Holder::start(&namespace, "e2e-client")?;
        let target = server.listen()?;
        client.connect(target)?;
        server.accept()?;
        // With a daemon that knows who has held it.
        daemon.wait_for_row(&namespace, "the accepted connection", |row| {
            row.local_port == Some(target.port()) && row.held_by() == [server.pid()]
        })?;
        server.told(order)?;
        client.told("close")?;
        Ok(Self {
            namespace,
            daemon,
            server,
            _client: client,
        })
    }

    /// The connection as `list --json` has it, with nobody's descriptor.
    fn row(&self) -> Result<Value> {
        wait_for("a connection in CLOSE_WAIT without a descriptor", SOON, || {
            let list = run_in(&self.namespace, self.daemon.socket(), "list -a --json CLOSE_WAIT")?;
            let rows: Vec<Value> = list.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            Ok(rows.into_iter().find(|row| row["held_in"] != Value::Null))
        })
    }

    fn finding(&self) -> Result<Value> {
        let arguments = format!("--netns {} --older 1s", self.namespace.inode());
        wait_for("the connection to be found", SOON, || {
            let (findings, _) = stuck(self.daemon.socket(), &arguments)?;
            Ok(findings.into_iter().find(|one| one["finding"] == "not_closed"))
        })
    }

    fn shown(&self, row: &Value) -> Result<String> {
        let output = binary::run(self.daemon.socket(), &format!("show {}", row["cookie"]))?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn next(finding: &Value) -> &str {
    finding["next"].as_str().unwrap_or_default()
}

fn a_socket_in_an_io_uring() -> Result<()> {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    if !disabled.is_empty() && disabled.trim() != "0" {
        return Err(CannotRun("needs io_uring (kernel.io_uring_disabled = 0)").into());
    }
    let scene = Scene::new("ring")?;
    let pid = scene.server.pid();
    let row = scene.row()?;
    if row["held_in"] == "maybe_io_uring" {
        // Older kernels do not say which sockets a ring has.
        return Ok(());
    }
    ensure!(
        row["held_in"] == "io_uring" && row["pid"] == pid && row["owner_source"] == "io_uring",
        "the ring is {pid}'s: {row}"
    );
    ensure!(row["fd"] == Value::Null, "{row}");
    let text = run_in(&scene.namespace, scene.daemon.socket(), "list -tanp")?;
    let named = format!("{pid}/e2e-server(io_uring)");
    ensure!(text.contains(&named), "{named}:\n{text}");
    let shown = scene.shown(&row)?;
    ensure!(shown.contains("an io_uring has it"), "{shown}");
    let finding = scene.finding()?;
    ensure!(finding["pid"] == pid, "{finding}");
    ensure!(
        next(&finding).contains("has to close the socket in its io_uring")
            && !next(&finding).contains("/fd`"),
        "{finding}"
    );
    // The same without a daemon.
    let list = run_in(
        &scene.namespace,
        Path::new("/nonexistent/netstate"),
        "list -a --json CLOSE_WAIT",
    )?;
    let alone: Value = serde_json::from_str(list.lines().next().context("no row")?)?;
    ensure!(alone["held_in"] == "io_uring" && alone["pid"] == pid, "{alone}");
    found_by_its_process(&scene)
}

/// Filters by process find what only a ring of the process has, with a daemon that has not seen it before, and without one.
fn found_by_its_process(scene: &Scene) -> Result<()> {
    let pid = scene.server.pid();
    let late = Daemon::start()?;
    for socket in [late.socket(), Path::new("/nonexistent/netstate")] {
        for (filter, count) in [
            (format!("CLOSE_WAIT pid {pid}"), 1),
            ("CLOSE_WAIT comm e2e-server".to_owned(), 1),
            ("CLOSE_WAIT ( comm e2e-s* or port 1 )".to_owned(), 1),
            (format!("CLOSE_WAIT not pid {pid}"), 0),
            ("CLOSE_WAIT pid 1".to_owned(), 0),
            (format!("TIME_WAIT pid {pid}"), 0),
        ] {
            for (flags, heads) in [("-an", 2), ("-anp", 2), ("-a", 2), ("-a --json", 0)] {
                let arguments = format!("list {flags} {filter}");
                let printed = run_in(&scene.namespace, socket, &arguments)?;
                ensure!(printed.lines().count() == heads + count, "{arguments}: {printed}");
            }
        }
    }
    let shown = run_in(
        &scene.namespace,
        late.socket(),
        &format!("show --json CLOSE_WAIT pid {pid}"),
    )?;
    ensure!(shown.lines().count() == 1, "{shown}");
    for (filter, count) in [(format!("pid {pid}"), 1), ("pid 1".to_owned(), 0)] {
        let arguments = format!(
            "--netns {} --older 1s CLOSE_WAIT {filter}",
            scene.namespace.inode()
        );
        let (findings, _) = stuck(late.socket(), &arguments)?;
        ensure!(findings.len() == count, "stuck {arguments}: {findings:#?}");
    }
    Ok(())
}

fn a_socket_in_flight() -> Result<()> {
    let scene = Scene::new("flight")?;
    let pid = scene.server.pid();
    let row = scene.row()?;
    ensure!(row["held_in"] == "in_flight", "{row}");
    ensure!(
        row["owner_source"] != "scan" && row["owner_source"] != "event",
        "no process holds it: {row}"
    );
    let text = run_in(&scene.namespace, scene.daemon.socket(), "list -tanp")?;
    let line = text.lines().find(|line| line.contains("CLOSE_WAIT"));
    let last = format!(" {pid}/e2e-server?");
    ensure!(
        line.is_some_and(|line| line.trim_end().ends_with(&last)),
        "{text}"
    );
    let finding = scene.finding()?;
    let cause = finding["cause"].as_str().unwrap_or_default();
    ensure!(
        cause.contains("no process holds it: it is in a message"),
        "{finding}"
    );
    ensure!(!next(&finding).contains("has to close"), "nobody can: {finding}");
    let shown = scene.shown(&row)?;
    ensure!(shown.contains("no process holds it"), "{pid}: {shown}");
    Ok(())
}
