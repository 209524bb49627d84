//! A listener and the connections that come through it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Peer,
    binary::run_in,
    sockets::{LOOPBACK, accept, connect, cookie, listen, reset, socket_for, wait_for_reset},
    wait::{SOON, wait_for},
    watch::states,
};

crate::tests![
    listener_and_children_are_apart,
    a_child_is_itself_from_its_first_step,
    child_is_never_the_clients,
    not_yet_accepted,
    never_accepted,
    a_listener_that_never_was,
    a_listener_used_again,
];

fn listener_and_children_are_apart() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let listener = listen(&namespace, LOOPBACK)?;
    let parent = cookie(&listener)?;
    let mut held = Vec::new();
    for _ in 0..5 {
        let client = connect(&namespace, listener.local_addr()?)?;
        let server = accept(&listener)?;
        let child = cookie(&server)?;
        watch.wait("the child established", |seen| {
            seen.cookie == child && seen.to == "ESTABLISHED"
        })?;
        held.push((client, server));
    }
    watch.wait_for_path(parent, &["CLOSE", "LISTEN"])?;
    let rows = daemon.agrees(&namespace)?;
    let row = rows.iter().find(|row| row.cookie == parent);
    ensure!(
        row.is_some_and(|row| row.state == "LISTEN" && row.remote_port.is_none()),
        "listener: {row:?}"
    );
    let children = rows
        .iter()
        .filter(|row| row.local_port == Some(listener.local_addr().map_or(0, |a| a.port())));
    ensure!(
        children.count() == 6,
        "a listener and five children, but {rows:?}"
    );
    drop(listener);
    watch.wait_for_path(parent, &["CLOSE", "LISTEN", "CLOSE"])?;
    daemon.agrees(&namespace)?;
    Ok(())
}

/// The first event of an accepted connection comes while it is still a copy of the listener; up to Linux 6.12
/// with the listener's cookie and no remote port.
fn a_child_is_itself_from_its_first_step() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let listener = listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    // All are on their way at once.
    let clients: Vec<_> = (0..5)
        .map(|_| connect(&namespace, target))
        .collect::<Result<_>>()?;
    for _ in &clients {
        let server = accept(&listener)?;
        let (child, remote) = (cookie(&server)?, server.peer_addr()?);
        watch.wait("the child established", |seen| {
            seen.cookie == child && seen.to == "ESTABLISHED"
        })?;
        let path = watch.of(child);
        // A sweep in the middle of the handshake does not know where it came from.
        let steps = states(&path)?;
        ensure!(
            ["LISTEN", "?"].contains(&&*steps[0]) && steps[1..] == ["SYN_RECV", "ESTABLISHED"],
            "the child went {steps:?}"
        );
        let right = path
            .iter()
            .all(|seen| seen.remote_port == Some(remote.port()) && seen.remote_addr == remote.ip());
        ensure!(right, "not the connection from {remote}: {path:#?}");
        ensure!(
            path.is_sorted_by_key(|seen| &seen.time) && path[1].in_state_us.is_some(),
            "out of order: {path:#?}"
        );
        // Its end; the next one's steps are not to be joined to it.
        reset(server)?;
        watch.wait("the child's end", |seen| {
            seen.cookie == child && seen.to == "CLOSE"
        })?;
    }
    watch.wait_for_path(cookie(&listener)?, &["CLOSE", "LISTEN"])?;
    // Of each connection three transitions at either end, and one of the listener.
    let expected = 1 + clients.len() * 6;
    let told = || watch.count_in(namespace.inode());
    wait_for("all transitions to be told", SOON, || {
        Ok((told() >= expected).then_some(()))
    })?;
    ensure!(told() == expected, "{} transitions, of {expected}", told());
    Ok(())
}

/// Over loopback the handshake completes while the client's process runs: the easy mistake is to take that
/// for the owner of the accepted connection.
fn child_is_never_the_clients() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let (server, target) = Peer::listen(&namespace, "e2e-server", LOOPBACK)?;
    let (client, near) = Peer::connect(&namespace, "e2e-client", target)?;
    server.accepted()?;
    let child = watch.wait("the child established", |seen| {
        seen.local_port == Some(target.port())
            && seen.remote_port == Some(near.port())
            && seen.to == "ESTABLISHED"
    })?;
    let (client_pid, server_pid) = (client.pid(), server.pid());
    client.finish()?;
    server.finish()?;
    watch.wait("the child's end", |seen| {
        seen.cookie == child.cookie && seen.to == "CLOSE"
    })?;
    for seen in watch.of(child.cookie) {
        let right = seen.pid.is_none() || seen.pid == Some(server_pid);
        ensure!(
            right,
            "the server's connection ({server_pid}) is given to another ({client_pid}): {seen:?}"
        );
        ensure!(
            seen.comm.as_deref() != Some("e2e-client"),
            "the server's connection is given away: {seen:?}"
        );
    }
    Ok(())
}

/// Connections that wait in the accept queue belong to no file yet.
fn not_yet_accepted() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let _clients = (connect(&namespace, target)?, connect(&namespace, target)?);
    let rows = daemon.agrees(&namespace)?;
    let waiting: Vec<_> = rows
        .iter()
        .filter(|row| row.local() == target.into() && row.state == "ESTABLISHED")
        .collect();
    ensure!(waiting.len() == 2, "two connections wait, but {rows:?}");
    for row in waiting {
        // Whoever holds the listener can accept it, and is said to be no more than that.
        let inherited =
            row.owner_source.as_deref() == Some("inherited") && row.pid == Some(std::process::id());
        ensure!(inherited && row.fd.is_none(), "nobody holds it, but {row:?}");
    }
    let text = run_in(&namespace, daemon.socket(), "list -tnp")?;
    let waiting = text
        .lines()
        .filter(|line| line.contains(&format!(" {target} ")) && line.trim_end().ends_with('?'));
    ensure!(
        waiting.count() == 2,
        "the listener's process is not shown, or not marked:\n{text}"
    );
    let listening = rows.iter().find(|row| row.state == "LISTEN");
    ensure!(
        listening.is_some_and(|row| row.recv_q == Some(2)),
        "the accept queue is not shown: {listening:?}"
    );
    Ok(())
}

/// The kernel announces LISTEN before it finds that the port is taken.
fn a_listener_that_never_was() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let address: SocketAddr = LOOPBACK.parse()?;
    let first = socket_for(&namespace, address)?;
    first.set_reuse_address(true)?;
    first.bind(&address.into())?;
    let second = socket_for(&namespace, address)?;
    second.set_reuse_address(true)?;
    second.bind(&first.local_addr()?)?;
    first.listen(1)?;
    let refused = second.listen(1).err().context("two sockets listen on one port")?;
    ensure!(
        refused.kind() == std::io::ErrorKind::AddrInUse,
        "listen: {refused}"
    );
    watch.wait_for_path(cookie(&second)?, &["CLOSE", "LISTEN", "CLOSE"])?;
    ensure!(
        daemon.agrees(&namespace)?.len() == 1,
        "one listens, and one does not"
    );
    Ok(())
}

/// A listener that is shut down keeps its cookie, and may listen again.
fn a_listener_used_again() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let address: SocketAddr = LOOPBACK.parse()?;
    let socket = socket_for(&namespace, address)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    daemon.agrees(&namespace)?;
    socket.shutdown(std::net::Shutdown::Both)?;
    daemon.agrees(&namespace)?;
    socket.listen(1)?;
    watch.wait_for_path(cookie(&socket)?, &["CLOSE", "LISTEN", "CLOSE", "LISTEN"])?;
    ensure!(daemon.agrees(&namespace)?.len() == 1, "one listener");
    Ok(())
}

/// A listener takes the connections in its queue with it.
fn never_accepted() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let listener = listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let client = connect(&namespace, target)?;
    let rows = daemon.agrees(&namespace)?;
    let child = rows
        .iter()
        .find(|row| row.local() == target.into() && row.state == "ESTABLISHED");
    let child = child.context("nothing waits to be accepted")?.cookie;
    drop(listener);
    wait_for_reset(&client)?;
    watch.wait("the child's end", |seen| {
        seen.cookie == child && seen.to == "CLOSE"
    })?;
    ensure!(daemon.agrees(&namespace)?.is_empty(), "a row is left");
    Ok(())
}
