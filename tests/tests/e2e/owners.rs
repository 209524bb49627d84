//! Which process holds a socket.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Peer, binary::run_in, daemon::directory, snapshot, sockets::LOOPBACK,
};

crate::tests![
    owners_of_new_sockets,
    owners_of_older_sockets,
    owners_without_a_daemon,
    owner_gone,
    a_hostile_name,
];

/// A server and a client, each a process of its own.
struct Scene {
    namespace: Namespace,
    server: Peer,
    client: Peer,
    /// The server's port.
    port: u16,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let (server, target) = Peer::listen(&namespace, "e2e-server", LOOPBACK)?;
        let (client, _) = Peer::connect(&namespace, "e2e-client", target)?;
        server.accepted()?;
        Ok(Self {
            namespace,
            server,
            client,
            port: target.port(),
        })
    }

    /// Whether every row names its owner, in JSON and in text.
    fn owners_are_right(&self, socket: &Path) -> Result<()> {
        let rows = snapshot::list(&self.namespace, socket)?;
        ensure!(rows.len() == 3, "a listener and two ends, but {rows:?}");
        for row in &rows {
            let (name, peer) = if row.local_port == Some(self.port) {
                ("e2e-server", &self.server)
            } else {
                ("e2e-client", &self.client)
            };
            ensure!(
                row.pid == Some(peer.pid()),
                "{name} is {}, but {row:?}",
                peer.pid()
            );
            ensure!(
                row.comm.as_deref() == Some(name),
                "{name} has another name: {row:?}"
            );
            row.descriptor_is_right()?;
        }
        let text = run_in(&self.namespace, socket, "list -tanp")?;
        for (name, peer, count) in [("e2e-server", &self.server, 2), ("e2e-client", &self.client, 1)] {
            let owner = format!("{}/{name}", peer.pid());
            let lines = text.lines().filter(|line| line.contains(&owner));
            ensure!(
                lines.count() == count,
                "{count} lines of {owner} expected:\n{text}"
            );
        }
        Ok(())
    }
}

fn owners_of_new_sockets() -> Result<()> {
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    daemon.agrees(&scene.namespace)?;
    scene.owners_are_right(daemon.socket())
}

fn owners_of_older_sockets() -> Result<()> {
    let scene = Scene::new()?;
    let daemon = Daemon::start()?;
    scene.owners_are_right(daemon.socket())
}

fn owners_without_a_daemon() -> Result<()> {
    let scene = Scene::new()?;
    let directory = directory()?;
    scene.owners_are_right(&directory.path().join("absent.sock"))
}

/// TIME_WAIT belongs to nobody, but whose it was is remembered where it was seen.
fn owner_gone() -> Result<()> {
    let daemon = Daemon::start()?;
    let watch = daemon.watch()?;
    let Scene {
        namespace,
        server,
        client,
        port,
    } = Scene::new()?;
    let pid = client.pid();
    client.finish()?;
    let seen = watch.wait("the client's FIN_WAIT1", |seen| {
        seen.remote_port == Some(port) && seen.to == "FIN_WAIT1"
    })?;
    ensure!(
        seen.pid == Some(pid) && seen.comm.as_deref() == Some("e2e-client"),
        "who closed? {seen:?}"
    );
    server.finish()?;
    watch.wait("TIME_WAIT", |told| {
        told.cookie == seen.cookie && told.to == "TIME_WAIT"
    })?;
    let rows = daemon.agrees(&namespace)?;
    let text = run_in(&namespace, daemon.socket(), "list -tanp")?;
    ensure!(rows.len() == 1, "TIME_WAIT alone is left, but {rows:?}");
    let line = text
        .lines()
        .find(|line| line.contains("TIME_WAIT"))
        .context("no TIME_WAIT")?;
    let shown = line.split_whitespace().last();
    let owner = format!("{pid}/e2e-client?");
    ensure!(
        shown == Some(&*owner),
        "whoever had it is not shown, or not marked: {line}"
    );
    Ok(())
}

/// A process chooses its name: it must not get to write to anybody's terminal.
fn a_hostile_name() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let name = "\u{1b}[31mx\u{9b}1m\u{7}\ny";
    let (_server, target) = Peer::listen(&namespace, name, LOOPBACK)?;
    let (_client, _) = Peer::connect(&namespace, "e2e-client", target)?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.iter()
            .any(|row| row.comm.as_deref().is_some_and(|comm| comm.contains('x'))),
        "{rows:?}"
    );
    let text = run_in(&namespace, daemon.socket(), "list -tanp")?;
    let harmless = text.chars().all(|c| c == '\n' || !c.is_control());
    ensure!(
        harmless && text.lines().count() == 2 + rows.len(),
        "reaches the terminal: {text:?}"
    );
    watch.wait("the listener", |seen| {
        seen.local_port == Some(target.port()) && seen.to == "LISTEN"
    })?;
    Ok(())
}
