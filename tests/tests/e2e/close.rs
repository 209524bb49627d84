//! Connections that end in order.

use std::{net::Shutdown, time::Duration};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Watch,
    link::Way,
    sockets::{LOOPBACK, Pair, accept, connect, cookie, listen, wait_for_fin},
    wait::{SOON, wait_for},
    watch::states,
};

crate::tests![
    told_at_once,
    client_closes_first,
    server_closes_first,
    shutdown_from_both_ends,
    half_close_stays,
    simultaneous_close,
];

/// A connection under the eyes of a daemon and a subscriber.
struct Scene {
    namespace: Namespace,
    daemon: Daemon,
    watch: Watch,
    pair: Pair,
    client: u64,
    server: u64,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let watch = daemon.watch_in(&namespace)?;
        let pair = Pair::new(&namespace, LOOPBACK)?;
        let (client, server) = (cookie(&pair.client)?, cookie(&pair.server)?);
        Ok(Self {
            namespace,
            daemon,
            watch,
            pair,
            client,
            server,
        })
    }
}

/// Whether the daemon's row of this connection is in `state`, and `ss` says the same of all rows.
fn listed_in(daemon: &Daemon, namespace: &Namespace, cookie: u64, state: &str) -> Result<()> {
    let rows = daemon.agrees(namespace)?;
    let row = rows.iter().find(|row| row.cookie == cookie);
    ensure!(
        row.is_some_and(|row| row.state == state),
        "expected {state}, listed {row:?}"
    );
    Ok(())
}

/// Nothing else happens here, so nothing but the event itself can bring the line.
fn told_at_once() -> Result<()> {
    const AT_ONCE: Duration = Duration::from_secs(1);
    let Scene {
        namespace,
        daemon: _daemon,
        watch,
        ..
    } = Scene::new()?;
    for _ in 0..3 {
        let pair = Pair::new(&namespace, LOOPBACK)?;
        let client = cookie(&pair.client)?;
        wait_for("SYN_SENT → ESTABLISHED to be printed", AT_ONCE, || {
            Ok(watch.of(client).get(1).map(drop))
        })?;
    }
    Ok(())
}

fn client_closes_first() -> Result<()> {
    let Scene {
        namespace,
        daemon,
        watch,
        pair,
        client,
        server,
    } = Scene::new()?;
    let Pair {
        listener: _listener,
        client: near,
        server: far,
    } = pair;
    drop(near);
    wait_for_fin(&far)?;
    drop(far);
    watch.wait_for_path(
        client,
        &[
            "CLOSE",
            "SYN_SENT",
            "ESTABLISHED",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "TIME_WAIT",
        ],
    )?;
    let passive = watch.wait("the server's end", |transition| {
        transition.cookie == server && transition.to == "CLOSE"
    })?;
    ensure!(
        passive.from.as_deref() == Some("LAST_ACK"),
        "the server ends with {passive:?}"
    );
    listed_in(&daemon, &namespace, client, "TIME_WAIT")
}

fn server_closes_first() -> Result<()> {
    let Scene {
        namespace,
        daemon,
        watch,
        pair,
        client,
        server,
    } = Scene::new()?;
    let Pair {
        listener: _listener,
        client: near,
        server: far,
    } = pair;
    drop(far);
    wait_for_fin(&near)?;
    drop(near);
    watch.wait_for_path(
        client,
        &[
            "CLOSE",
            "SYN_SENT",
            "ESTABLISHED",
            "CLOSE_WAIT",
            "LAST_ACK",
            "CLOSE",
        ],
    )?;
    let active = wait_for("the server to reach TIME_WAIT", SOON, || {
        let path = watch.of(server);
        Ok(path
            .last()
            .is_some_and(|last| last.to == "TIME_WAIT")
            .then_some(path))
    })?;
    let reached: Vec<&str> = active.iter().map(|transition| transition.to.as_str()).collect();
    let expected = ["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"];
    ensure!(
        reached.ends_with(&expected),
        "the server went through {reached:?}"
    );
    listed_in(&daemon, &namespace, server, "TIME_WAIT")
}

/// Here every step has an event of its own: the client still holds its socket when the server's FIN comes.
fn shutdown_from_both_ends() -> Result<()> {
    let Scene {
        namespace,
        daemon,
        watch,
        pair,
        client,
        ..
    } = Scene::new()?;
    pair.client.shutdown(Shutdown::Write)?;
    wait_for_fin(&pair.server)?;
    pair.server.shutdown(Shutdown::Write)?;
    wait_for_fin(&pair.client)?;
    let path = watch.wait_for_path(
        client,
        &[
            "CLOSE",
            "SYN_SENT",
            "ESTABLISHED",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "TIME_WAIT",
        ],
    )?;
    let live = path.iter().all(|transition| transition.source != "scan");
    ensure!(live, "a sweep had to find what events had told: {path:#?}");
    let durations = path
        .iter()
        .skip(1)
        .all(|transition| transition.in_state_us.is_some());
    ensure!(durations, "a state's duration is missing: {path:#?}");
    listed_in(&daemon, &namespace, client, "TIME_WAIT")
}

fn half_close_stays() -> Result<()> {
    let Scene {
        namespace,
        daemon,
        watch,
        pair,
        client,
        server,
    } = Scene::new()?;
    pair.client.shutdown(Shutdown::Write)?;
    watch.wait_for_path(
        client,
        &["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"],
    )?;
    watch.wait("the server in CLOSE_WAIT", |transition| {
        transition.cookie == server && transition.to == "CLOSE_WAIT"
    })?;
    listed_in(&daemon, &namespace, client, "FIN_WAIT2")?;
    listed_in(&daemon, &namespace, server, "CLOSE_WAIT")?;
    let own = std::process::id();
    daemon.wait_for_row(&namespace, "FIN_WAIT2, and held", |row| {
        row.cookie == client && row.pid == Some(own)
    })?;
    Ok(())
}

/// The client's FIN is lost, so the server closes without having seen it, and the client, which waits for an
/// answer to its own FIN, gets the server's instead. It stays in CLOSING until its FIN gets through.
fn simultaneous_close() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    let far_watch = daemon.watch_in(&link.right)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let client = connect(&link.left, listener.local_addr()?)?;
    let server = accept(&listener)?;
    let (near, far) = (cookie(&client)?, cookie(&server)?);
    link.lose(Way::ToRight)?;
    client.shutdown(Shutdown::Write)?;
    server.shutdown(Shutdown::Write)?;
    wait_for_fin(&client)?;
    let closing = ["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "CLOSING"];
    watch.wait_for_path(near, &closing)?;
    listed_in(&daemon, &link.left, near, "CLOSING")?;
    listed_in(&daemon, &link.right, far, "FIN_WAIT1")?;
    link.restore(Way::ToRight)?;
    watch.wait_for_path(near, &[&closing[..], &["TIME_WAIT"]].concat())?;
    far_watch.wait("the server in TIME_WAIT", |seen| {
        seen.cookie == far && seen.to == "TIME_WAIT"
    })?;
    states(&far_watch.of(far))?;
    listed_in(&daemon, &link.left, near, "TIME_WAIT")?;
    listed_in(&daemon, &link.right, far, "TIME_WAIT")
}
