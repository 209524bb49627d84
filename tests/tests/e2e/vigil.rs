//! `netstate watch --stuck`: a line when a connection becomes stuck, and one when it recovers or ends.

use std::{
    io::Read,
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Objects, binary,
    daemon::directory,
    link::Way,
    sockets::{LOOPBACK, Pair, accept, connect, fill, listen, start_connecting, wait_for_fin},
    wait::SOON,
};
use rustix::{fd::AsRawFd, process::getpid};
use serde_json::Value;

crate::tests![
    a_leak_and_its_end,
    data_gets_through_again,
    nobody_answers_and_it_ends,
    without_a_daemon,
    a_filter_is_heeded,
    many_at_once,
    silent_between_looks,
    bad_usage,
];

fn start(socket: &Path, namespace: &Namespace, more: &str) -> Result<Objects> {
    let arguments = format!("watch --stuck --json --netns {} {more}", namespace.inode());
    Objects::start(socket, &arguments)
}

/// Waits for a line about `finding`.
fn wait(watch: &Objects, event: &str, finding: &str) -> Result<Value> {
    let line = watch.wait(&format!("{event} {finding}"), SOON, |line| {
        line["event"] == event && line["finding"] == finding
    })?;
    for key in ["time", "severity", "state", "cause", "local_addr"] {
        ensure!(line[key].is_string(), "no {key}: {line}");
    }
    Ok(line)
}

fn stuck_ms(line: &Value) -> Result<u64> {
    line["stuck_ms"]
        .as_u64()
        .with_context(|| format!("no stuck_ms: {line}"))
}

fn a_leak_and_its_end() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = start(daemon.socket(), &namespace, "--older 1s CLOSE_WAIT")?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    let stuck = wait(&watch, "stuck", "not_closed")?;
    ensure!(stuck["state"] == "CLOSE_WAIT" && stuck["to"].is_null(), "{stuck}");
    ensure!(
        stuck["pid"] == getpid().as_raw_nonzero().get() && stuck["fd"] == pair.server.as_raw_fd(),
        "{stuck}"
    );
    ensure!(stuck_ms(&stuck)? >= 1000, "{stuck}");
    drop(pair.server);
    let over = wait(&watch, "recovered", "not_closed")?;
    ensure!(over["to"] == "LAST_ACK", "what it went on to: {over}");
    ensure!(
        over["cookie"] == stuck["cookie"] && stuck_ms(&over)? >= stuck_ms(&stuck)?,
        "{stuck}, then {over}"
    );
    Ok(())
}

/// The daemon hangs up on a client that is silent for long, sooner if others come: that is no end of the watch, which may
/// pause for longer than that where a look takes long.
fn silent_between_looks() -> Result<()> {
    /// More than are served at once.
    const CLIENTS: usize = 300;
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = start(daemon.socket(), &namespace, "--older 1s")?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    wait(&watch, "stuck", "not_closed")?;
    let clients = (0..CLIENTS).map(|_| UnixStream::connect(daemon.socket()));
    let clients = clients.collect::<std::io::Result<Vec<_>>>()?;
    drop(pair.server);
    wait(&watch, "recovered", "not_closed")?;
    drop(clients);
    let (status, _) = watch.finish(SOON)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn data_gets_through_again() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = start(daemon.socket(), &namespace, "--older 1s")?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    let written = fill(&mut pair.client)?;
    let reader = wait(&watch, "stuck", "data_unread")?;
    let writer = wait(&watch, "stuck", "zero_window")?;
    ensure!(
        reader["remote_port"] == writer["local_port"],
        "{reader}, {writer}"
    );
    pair.server.read_exact(&mut vec![0; written])?;
    for _ in 0..2 {
        let over = watch.wait("both to recover", SOON, |line| line["event"] == "recovered")?;
        ensure!(
            over["state"] == "ESTABLISHED" && over["to"].is_null(),
            "it is still established: {over}"
        );
    }
    Ok(())
}

fn nobody_answers_and_it_ends() -> Result<()> {
    let link = Link::new()?;
    link.left.set_parameter("ipv4/tcp_syn_retries", "2")?;
    link.left.set_parameter("ipv4/tcp_syn_linear_timeouts", "0").ok();
    let daemon = Daemon::start()?;
    let watch = start(daemon.socket(), &link.left, "")?;
    link.lose(Way::ToRight)?;
    let target = SocketAddr::new(Link::RIGHT.parse()?, 5432);
    let _socket = start_connecting(&link.left, target)?;
    let stuck = wait(&watch, "stuck", "syn_unanswered")?;
    let over = wait(&watch, "ended", "syn_unanswered")?;
    ensure!(over["cookie"] == stuck["cookie"], "{stuck}, then {over}");
    ensure!(over["to"] == "CLOSE" && over["reason"] == "timed_out", "{over}");
    Ok(())
}

fn without_a_daemon() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let watch = start(&directory.path().join("none.sock"), &namespace, "--older 1s")?;
    let listener = listen(&namespace, LOOPBACK)?;
    let _client = connect(&namespace, listener.local_addr()?)?;
    let stuck = wait(&watch, "stuck", "accept_queue_filling")?;
    ensure!(
        stuck["local_port"] == listener.local_addr()?.port(),
        "the listener: {stuck}"
    );
    let _server = accept(&listener)?;
    let over = wait(&watch, "recovered", "accept_queue_filling")?;
    ensure!(over["cookie"] == stuck["cookie"], "{stuck}, then {over}");
    let (status, _) = watch.finish(SOON)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn a_filter_is_heeded() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let one = Pair::new(&namespace, LOOPBACK)?;
    let other = Pair::new(&namespace, LOOPBACK)?;
    let port = other.listener.local_addr()?.port();
    let watch = start(daemon.socket(), &namespace, &format!("--older 1s sport {port}"))?;
    // The first one is stuck before the second one is.
    for pair in [&one, &other] {
        pair.client.shutdown(Shutdown::Write)?;
        wait_for_fin(&pair.server)?;
    }
    let stuck = watch.wait("anything", SOON, |_| true)?;
    ensure!(
        stuck["local_port"] == port,
        "the other one is not asked about: {stuck}"
    );
    Ok(())
}

/// People get some lines and a count; all at once they would push everything else out of sight.
fn many_at_once() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let mut servers = Vec::new();
    for _ in 0..20 {
        let client = connect(&namespace, listener.local_addr()?)?;
        let server = accept(&listener)?;
        drop(client);
        wait_for_fin(&server)?;
        servers.push(server);
    }
    let arguments = format!(
        "watch --stuck --older 100ms --netns {} CLOSE_WAIT",
        namespace.inode()
    );
    let watch = Objects::start(daemon.socket(), &arguments)?;
    let has = |text: &'static str| move |line: &Value| line.as_str().is_some_and(|line| line.contains(text));
    let line = watch.wait("a warning", SOON, has("WARNING"))?;
    ensure!(has("does not call close")(&line), "{line}");
    let more = watch.wait("a count", SOON, has("more in CLOSE_WAIT on port"))?;
    ensure!(has("and 17 more")(&more), "{more}");
    drop(servers);
    watch.wait("a recovery", SOON, has("went on to LAST_ACK"))?;
    Ok(())
}

fn bad_usage() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("none.sock");
    for arguments in ["--older 2s", "--stuck --older 2", "--stuck state nonsense"] {
        let output = binary::run(&socket, &format!("watch {arguments}"))?;
        ensure!(output.status.code() == Some(2), "{arguments}: {output:?}");
    }
    Ok(())
}
