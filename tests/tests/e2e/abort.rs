//! Connections that end otherwise.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Watch,
    sockets::{self, LOOPBACK, Pair, cookie, deliver, reset, wait_for_reset},
};
use socket2::SockRef;

crate::tests![
    client_resets,
    server_resets,
    unread_data_resets,
    connection_refused,
    killed_from_outside,
    disconnected_and_used_again,
];

fn scene() -> Result<(Namespace, Daemon, Watch)> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    Ok((namespace, daemon, watch))
}

fn client_resets() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let (near, far) = (cookie(&client)?, cookie(&server)?);
    reset(client)?;
    wait_for_reset(&server)?;
    watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"])?;
    was_reset(&watch, far)?;
    nothing_but_the_listener(&daemon, &namespace)
}

fn server_resets() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&client)?;
    reset(server)?;
    wait_for_reset(&client)?;
    watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"])?;
    was_reset(&watch, near)?;
    nothing_but_the_listener(&daemon, &namespace)
}

/// A close with data not yet read sends a RST too.
fn unread_data_resets() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&client)?;
    deliver(&client, &server, b"never read")?;
    drop(server);
    wait_for_reset(&client)?;
    watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"])?;
    was_reset(&watch, near)?;
    nothing_but_the_listener(&daemon, &namespace)
}

fn connection_refused() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    // Nobody listens on port 1 of a namespace that was just made.
    let target: SocketAddr = "127.0.0.1:1".parse()?;
    let socket = sockets::socket_for(&namespace, target)?;
    let error = socket
        .connect(&target.into())
        .err()
        .context("somebody listens on port 1")?;
    ensure!(
        error.kind() == std::io::ErrorKind::ConnectionRefused,
        "connect: {error}"
    );
    let path = watch.wait_for_path(cookie(&socket)?, &["CLOSE", "SYN_SENT", "CLOSE"])?;
    let end = path.last().context("no transition")?;
    ensure!(end.reason.as_deref() == Some("refused"), "refused, but {end:?}");
    ensure!(end.remote_port == Some(1), "the port is lost: {end:?}");
    ensure!(
        daemon.agrees(&namespace)?.is_empty(),
        "a refused connection left a row"
    );
    Ok(())
}

/// Whether the connection's last transition is ESTABLISHED → CLOSE, because of a RST.
fn was_reset(watch: &Watch, cookie: u64) -> Result<()> {
    let end = watch.wait("the reset end's close", |seen| {
        seen.cookie == cookie && seen.to == "CLOSE"
    })?;
    ensure!(
        end.from.as_deref() == Some("ESTABLISHED"),
        "a RST ends ESTABLISHED, but {end:?}"
    );
    let reason = end.reason.clone().unwrap_or_default();
    ensure!(
        reason.contains("reset"),
        "ended by a RST, but the reason is {end:?}"
    );
    Ok(())
}

fn nothing_but_the_listener(daemon: &Daemon, namespace: &Namespace) -> Result<()> {
    let rows = daemon.agrees(namespace)?;
    ensure!(
        rows.len() == 1 && rows[0].state == "LISTEN",
        "left behind: {rows:?}"
    );
    Ok(())
}

fn killed_from_outside() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener: _listener,
        client,
        server: _server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let (near, port) = (cookie(&client)?, client.local_addr()?.port());
    namespace.run("ss", &format!("--kill --tcp sport = :{port}"))?;
    let path = watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"])?;
    let end = path.last().context("no transition")?;
    ensure!(
        end.reason.as_deref() == Some("reset_by_us"),
        "killed by ss, but {end:?}"
    );
    nothing_but_the_listener(&daemon, &namespace)
}

/// A socket that is disconnected keeps its cookie, and may connect again.
fn disconnected_and_used_again() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&client)?;
    rustix::net::connect_unspec(&client)?;
    wait_for_reset(&server)?;
    watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"])?;
    nothing_but_the_listener(&daemon, &namespace)?;
    SockRef::from(&client).connect(&listener.local_addr()?.into())?;
    let _server = sockets::accept(&listener)?;
    let again = [
        "CLOSE",
        "SYN_SENT",
        "ESTABLISHED",
        "CLOSE",
        "SYN_SENT",
        "ESTABLISHED",
    ];
    watch.wait_for_path(near, &again)?;
    ensure!(daemon.agrees(&namespace)?.len() == 3, "a listener and two ends");
    Ok(())
}
