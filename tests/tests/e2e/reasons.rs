//! Why connections end, as both ends tell it.

use std::{
    io::{ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Watch,
    link::Way,
    sockets::{
        LOOPBACK, Pair, accept, connect, cookie, deliver, listen, reset, set_tcp_option, socket_for,
        start_connecting, wait_for_fin, wait_for_reset,
    },
    wait::{SOON, patient, wait_for},
    watch::Transition,
};
use rustix::net::connect_unspec;
use socket2::{SockRef, TcpKeepalive};

crate::tests![
    client_closes_first,
    both_close_at_once,
    refused,
    no_answer_to_a_syn,
    no_answer_to_data_or_keepalive,
    no_answer_to_a_fin,
    window_stays_shut,
    no_way_to_the_host,
    closed_with_linger_0,
    closed_with_data_unread,
    closed_with_data_unread_after_the_peers_fin,
    never_accepted,
    killed,
    killed_while_connecting,
    disconnected,
    orphan_not_wanted,
    data_after_close,
    data_after_close_of_a_full_sock,
    data_after_shutdown,
    data_with_the_last_ack,
    reset_after_close,
    reset_after_shutdown,
    no_answer_but_a_minisocks,
    given_up_while_connecting,
    no_port_to_connect_from,
    listeners,
    without_tracepoints,
];

/// A connection within one namespace, and who watches it.
struct Scene {
    namespace: Namespace,
    _daemon: Daemon,
    watch: Watch,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let watch = daemon.watch_in(&namespace)?;
        Ok(Self {
            namespace,
            _daemon: daemon,
            watch,
        })
    }

    fn pair(&self) -> Result<(TcpListener, End, End)> {
        let Pair {
            listener,
            client,
            server,
        } = Pair::new(&self.namespace, LOOPBACK)?;
        Ok((listener, End::new(client)?, End::new(server)?))
    }

    fn ended(&self, cookie: u64, reason: &str, detail: &str) -> Result<Transition> {
        ended(&self.watch, cookie, reason, detail)
    }
}

/// A connection between two namespaces, and who watches each.
struct Wire {
    link: Link,
    daemon: Daemon,
    left: Watch,
    right: Watch,
}

impl Wire {
    fn new() -> Result<Self> {
        let link = Link::new()?;
        let daemon = Daemon::start()?;
        let (left, right) = (daemon.watch_in(&link.left)?, daemon.watch_in(&link.right)?);
        Ok(Self {
            link,
            daemon,
            left,
            right,
        })
    }

    /// The client is on the left.
    fn pair(&self) -> Result<(TcpListener, End, End)> {
        let listener = listen(&self.link.right, &format!("{}:0", Link::RIGHT))?;
        let client = connect(&self.link.left, listener.local_addr()?)?;
        let server = accept(&listener)?;
        Ok((listener, End::new(client)?, End::new(server)?))
    }
}

/// One end of a connection.
struct End {
    stream: TcpStream,
    cookie: u64,
}

impl End {
    fn new(stream: TcpStream) -> Result<Self> {
        let cookie = cookie(&stream)?;
        Ok(Self { stream, cookie })
    }
}

/// Waits for the end of `cookie`, and holds its reason against what it must be.
fn ended(watch: &Watch, cookie: u64, reason: &str, detail: &str) -> Result<Transition> {
    let end = watch.wait("the end", |seen| seen.cookie == cookie && seen.to == "CLOSE")?;
    let told = (
        end.reason.as_deref(),
        end.reason_detail.as_deref().unwrap_or_default(),
    );
    ensure!(
        told.0 == Some(reason) && told.1.starts_with(detail),
        "expected {reason:?} ({detail}…): {end:#?}"
    );
    if reason != "closed" {
        ensure!(end.closed_by.is_none(), "not closed in order: {end:#?}");
    }
    Ok(end)
}

/// A row of a connection that was closed in order says who closed first.
fn closed(watch: &Watch, cookie: u64, by: &str) -> Result<()> {
    let end = ended(watch, cookie, "closed", "")?;
    ensure!(end.closed_by.as_deref() == Some(by), "expected {by}: {end:#?}");
    Ok(())
}

fn client_closes_first() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, server) = scene.pair()?;
    drop(client.stream);
    wait_for_fin(&server.stream)?;
    drop(server.stream);
    closed(&scene.watch, server.cookie, "peer")?;
    scene.watch.wait("TIME_WAIT", |seen| {
        seen.cookie == client.cookie && seen.to == "TIME_WAIT" && seen.reason.is_none()
    })?;
    // The reason is the connection's, whatever ends its minisock.
    scene.namespace.run("ss", "--kill --tcp state time-wait")?;
    closed(&scene.watch, client.cookie, "us")
}

fn both_close_at_once() -> Result<()> {
    let wire = Wire::new()?;
    let (_listener, client, server) = wire.pair()?;
    wire.link.lose(Way::ToRight)?;
    client.stream.shutdown(Shutdown::Write)?;
    wire.left.wait("FIN_WAIT1", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT1"
    })?;
    server.stream.shutdown(Shutdown::Write)?;
    wait_for_fin(&client.stream)?;
    wire.link.restore(Way::ToRight)?;
    for (watch, end) in [(&wire.left, &client), (&wire.right, &server)] {
        watch.wait("TIME_WAIT", |seen| {
            seen.cookie == end.cookie && seen.to == "TIME_WAIT"
        })?;
    }
    wire.link.left.run("ss", "--kill --tcp state time-wait")?;
    wire.link.right.run("ss", "--kill --tcp state time-wait")?;
    closed(&wire.left, client.cookie, "both")?;
    // The server's FIN was acknowledged before it got the client's: for all it can know it was first.
    closed(&wire.right, server.cookie, "us")
}

fn refused() -> Result<()> {
    let scene = Scene::new()?;
    // Nobody listens on port 1 of a namespace that was just made.
    let target: SocketAddr = "127.0.0.1:1".parse()?;
    let socket = socket_for(&scene.namespace, target)?;
    let error = socket.connect(&target.into()).err().context("it connected")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "connect: {error}");
    scene
        .ended(cookie(&socket)?, "refused", "a RST answered the SYN")
        .map(drop)
}

fn no_answer_to_a_syn() -> Result<()> {
    let wire = Wire::new()?;
    wire.link.left.set_parameter("ipv4/tcp_syn_retries", "1")?;
    wire.link.lose(Way::ToRight)?;
    let socket = start_connecting(&wire.link.left, SocketAddr::new(Link::RIGHT.parse()?, 80))?;
    ended(
        &wire.left,
        cookie(&socket)?,
        "timed_out",
        "no answer to the SYN, ",
    )?;
    Ok(())
}

/// The one writes and gets no answer; the other waits, and asks whether anybody is there.
fn no_answer_to_data_or_keepalive() -> Result<()> {
    let wire = Wire::new()?;
    wire.link.left.set_parameter("ipv4/tcp_retries2", "2")?;
    let (_listener, mut client, server) = wire.pair()?;
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(second)
        .with_interval(second)
        .with_retries(1);
    wire.link.lose(Way::ToRight)?;
    wire.link.lose(Way::ToLeft)?;
    SockRef::from(&server.stream).set_tcp_keepalive(&keepalive)?;
    client.stream.write_all(b"into the void")?;
    ended(&wire.left, client.cookie, "timed_out", "data not acknowledged")?;
    ended(
        &wire.right,
        server.cookie,
        "timed_out",
        "no answer to keepalive, 1 probe",
    )?;
    Ok(())
}

/// Both processes have closed, and neither FIN gets through.
fn no_answer_to_a_fin() -> Result<()> {
    let wire = Wire::new()?;
    for namespace in [&wire.link.left, &wire.link.right] {
        namespace.set_parameter("ipv4/tcp_orphan_retries", "1")?;
    }
    let (_listener, client, server) = wire.pair()?;
    wire.link.lose(Way::ToRight)?;
    wire.link.lose(Way::ToLeft)?;
    drop(client.stream);
    drop(server.stream);
    for (watch, cookie) in [(&wire.left, client.cookie), (&wire.right, server.cookie)] {
        let end = ended(watch, cookie, "timed_out", "FIN not acknowledged")?;
        ensure!(end.from.as_deref() == Some("FIN_WAIT1"), "{end:#?}");
    }
    Ok(())
}

/// The other process does not read, its kernel answers every probe, and in the end the sender's patience is over.
fn window_stays_shut() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, mut client, server) = scene.pair()?;
    set_tcp_option(&client.stream, libc::TCP_USER_TIMEOUT, 1500)?;
    client.stream.set_nonblocking(true)?;
    let full = |written: std::io::Result<usize>| matches!(written, Err(error) if error.kind() == ErrorKind::WouldBlock);
    while !full(client.stream.write(&[0; 8192])) {}
    scene.ended(client.cookie, "timed_out", "the peer opened no window")?;
    drop(server.stream);
    scene.ended(server.cookie, "reset_by_us", "closed with data unread")?;
    Ok(())
}

fn no_way_to_the_host() -> Result<()> {
    let wire = Wire::new()?;
    // Nobody has this address, and the neighbour table says so after three seconds.
    let socket = start_connecting(&wire.link.left, "10.77.0.99:80".parse()?)?;
    ended(&wire.left, cookie(&socket)?, "unreachable", "host unreachable")?;
    Ok(())
}

fn closed_with_linger_0() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, server) = scene.pair()?;
    reset(client.stream)?;
    wait_for_reset(&server.stream)?;
    scene.ended(client.cookie, "reset_by_us", "closed with SO_LINGER 0")?;
    scene.ended(server.cookie, "reset_by_peer", "")?;
    Ok(())
}

fn closed_with_data_unread() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, server) = scene.pair()?;
    deliver(&client.stream, &server.stream, b"never read")?;
    drop(server.stream);
    wait_for_reset(&client.stream)?;
    scene.ended(server.cookie, "reset_by_us", "closed with data unread")?;
    scene.ended(client.cookie, "reset_by_peer", "")?;
    Ok(())
}

/// The FIN behind the data takes a sequence number, and is no data. Who has read everything closes in order.
fn closed_with_data_unread_after_the_peers_fin() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, mut client, server) = scene.pair()?;
    client.stream.write_all(b"x")?;
    client.stream.shutdown(Shutdown::Write)?;
    scene.watch.wait("CLOSE_WAIT", |seen| {
        seen.cookie == server.cookie && seen.to == "CLOSE_WAIT"
    })?;
    drop(server.stream);
    wait_for_reset(&client.stream)?;
    scene.ended(server.cookie, "reset_by_us", "closed with data unread")?;
    scene.ended(client.cookie, "reset_by_peer", "")?;

    let (_listener, client, server) = scene.pair()?;
    client.stream.shutdown(Shutdown::Write)?;
    scene.watch.wait("CLOSE_WAIT", |seen| {
        seen.cookie == server.cookie && seen.to == "CLOSE_WAIT"
    })?;
    // The FIN is there, and has not been read.
    drop(server.stream);
    closed(&scene.watch, server.cookie, "peer")
}

fn never_accepted() -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.namespace, LOOPBACK)?;
    let client = End::new(connect(&scene.namespace, listener.local_addr()?)?)?;
    let port = client.stream.local_addr()?.port();
    let server = scene.watch.wait("the connection that waits", |seen| {
        seen.to == "ESTABLISHED" && seen.remote_port == Some(port)
    })?;
    let listening = cookie(&listener)?;
    drop(listener);
    wait_for_reset(&client.stream)?;
    scene.ended(server.cookie, "reset_by_us", "never accepted, listener gone")?;
    scene.ended(client.cookie, "reset_by_peer", "")?;
    scene.ended(listening, "closed", "").map(drop)
}

fn killed() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, server) = scene.pair()?;
    let port = client.stream.local_addr()?.port();
    scene
        .namespace
        .run("ss", &format!("--kill --tcp sport = :{port}"))?;
    wait_for_reset(&server.stream)?;
    scene.ended(client.cookie, "reset_by_us", "killed from outside")?;
    scene.ended(server.cookie, "reset_by_peer", "")?;
    Ok(())
}

/// Nobody is told: there is no connection that a RST could end.
fn killed_while_connecting() -> Result<()> {
    let wire = Wire::new()?;
    wire.link.lose(Way::ToRight)?;
    let socket = start_connecting(&wire.link.left, SocketAddr::new(Link::RIGHT.parse()?, 80))?;
    wire.link.left.run("ss", "--kill --tcp state syn-sent")?;
    ended(&wire.left, cookie(&socket)?, "abandoned", "killed from outside")?;
    Ok(())
}

fn disconnected() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, server) = scene.pair()?;
    connect_unspec(&client.stream)?;
    wait_for_reset(&server.stream)?;
    scene.ended(client.cookie, "reset_by_us", "disconnected")?;
    scene.ended(server.cookie, "reset_by_peer", "")?;
    Ok(())
}

fn orphan_not_wanted() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, server) = scene.pair()?;
    set_tcp_option(&client.stream, libc::TCP_LINGER2, -1)?;
    drop(client.stream);
    scene.ended(client.cookie, "reset_by_us", "closed with a negative TCP_LINGER2")?;
    scene.ended(server.cookie, "reset_by_peer", "")?;
    drop(server.stream);
    Ok(())
}

/// The minisock of the closed end answers with a RST. Who sends that is told by Linux 6.12, and not by 6.1.
fn data_after_close() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, mut server) = scene.pair()?;
    drop(client.stream);
    wait_for_fin(&server.stream)?;
    scene.watch.wait("FIN_WAIT2", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT2"
    })?;
    server.stream.write_all(b"too late")?;
    scene.ended(server.cookie, "reset_by_peer", "")?;
    let end = scene.watch.wait("the end", |seen| {
        seen.cookie == client.cookie && seen.to == "CLOSE"
    })?;
    match end.reason.as_deref() {
        Some("reset_by_us") => ensure!(end.source == "event", "{end:#?}"),
        told => ensure!(told.is_none(), "not certain, and told all the same: {end:#?}"),
    }
    Ok(())
}

/// The FIN is lost, so the closed end is a full sock still. What its kernel announces is the same as if the peer's RST
/// had come.
fn data_after_close_of_a_full_sock() -> Result<()> {
    let wire = Wire::new()?;
    let (_listener, client, mut server) = wire.pair()?;
    wire.link.lose(Way::ToRight)?;
    drop(client.stream);
    wire.left.wait("FIN_WAIT1", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT1"
    })?;
    server.stream.write_all(b"too late")?;
    let end = ended(
        &wire.left,
        client.cookie,
        "reset_by_us",
        "data came after it was closed",
    )?;
    ensure!(end.from.as_deref() == Some("FIN_WAIT1"), "{end:#?}");
    // Its RST is lost too; the next one comes from nobody in particular.
    wire.link.restore(Way::ToRight)?;
    ended(&wire.right, server.cookie, "reset_by_peer", "")?;
    Ok(())
}

fn data_after_shutdown() -> Result<()> {
    let scene = Scene::new()?;
    let (_listener, client, mut server) = scene.pair()?;
    client.stream.shutdown(Shutdown::Both)?;
    wait_for_fin(&server.stream)?;
    scene.watch.wait("FIN_WAIT2", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT2"
    })?;
    server.stream.write_all(b"too late")?;
    let end = scene.ended(client.cookie, "reset_by_us", "data came after it was closed")?;
    ensure!(end.from.as_deref() == Some("FIN_WAIT2"), "{end:#?}");
    scene.ended(server.cookie, "reset_by_peer", "")?;
    Ok(())
}

/// What acknowledges the FIN brings the data along: the kernel goes to FIN_WAIT2 and on to CLOSE without an error, as if it
/// kept a minisock. If the two come one after the other, there is one.
fn data_with_the_last_ack() -> Result<()> {
    let wire = Wire::new()?;
    let (_listener, client, mut server) = wire.pair()?;
    wire.link.lose(Way::ToLeft)?;
    drop(client.stream);
    wait_for_fin(&server.stream)?;
    server.stream.write_all(b"too late")?;
    wire.link.restore(Way::ToLeft)?;
    ended(&wire.right, server.cookie, "reset_by_peer", "")?;
    let end = wire.left.wait("the end", |seen| {
        seen.cookie == client.cookie && seen.to == "CLOSE"
    })?;
    match end.reason.as_deref() {
        Some("reset_by_us") => ensure!(end.source == "event", "{end:#?}"),
        told => ensure!(told.is_none(), "not certain, and told all the same: {end:#?}"),
    }
    Ok(())
}

/// As above, but it is the peer's RST.
fn reset_after_close() -> Result<()> {
    let wire = Wire::new()?;
    let (_listener, client, server) = wire.pair()?;
    wire.link.lose(Way::ToRight)?;
    drop(client.stream);
    wire.left.wait("FIN_WAIT1", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT1"
    })?;
    reset(server.stream)?;
    let end = ended(&wire.left, client.cookie, "reset_by_peer", "")?;
    ensure!(end.from.as_deref() == Some("FIN_WAIT1"), "{end:#?}");
    ended(
        &wire.right,
        server.cookie,
        "reset_by_us",
        "closed with SO_LINGER 0",
    )?;
    let rows = wire.daemon.agrees(&wire.link.left)?;
    ensure!(rows.is_empty(), "left behind: {rows:?}");
    Ok(())
}

fn reset_after_shutdown() -> Result<()> {
    for how in [Shutdown::Write, Shutdown::Both] {
        let scene = Scene::new()?;
        let (_listener, client, server) = scene.pair()?;
        client.stream.shutdown(how)?;
        wait_for_fin(&server.stream)?;
        scene.watch.wait("FIN_WAIT2", |seen| {
            seen.cookie == client.cookie && seen.to == "FIN_WAIT2"
        })?;
        reset(server.stream)?;
        let end = scene.ended(client.cookie, "reset_by_peer", "")?;
        ensure!(end.from.as_deref() == Some("FIN_WAIT2"), "{how:?}: {end:#?}");
        scene.ended(server.cookie, "reset_by_us", "closed with SO_LINGER 0")?;
    }
    Ok(())
}

/// The peer never closes. A hook tells that the minisock's timer has ended it; without hooks, a scan has seen when that is due.
fn no_answer_but_a_minisocks() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    namespace.set_parameter("ipv4/tcp_fin_timeout", "1")?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let (client, server) = (cookie(&pair.client)?, cookie(&pair.server)?);
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    let end = watch.wait("the end", |seen| seen.cookie == client && seen.to == "CLOSE")?;
    ensure!(
        end.reason.as_deref() == Some("timed_out")
            && end.reason_detail.as_deref() == Some("the peer did not close within tcp_fin_timeout"),
        "{end:#?}"
    );
    // Nobody is there to take the FIN.
    drop(pair.server);
    ended(&watch, server, "reset_by_peer", "")?;
    Ok(())
}

fn given_up_while_connecting() -> Result<()> {
    let wire = Wire::new()?;
    wire.link.lose(Way::ToRight)?;
    let target = SocketAddr::new(Link::RIGHT.parse()?, 80);
    let socket = start_connecting(&wire.link.left, target)?;
    let closing = cookie(&socket)?;
    drop(socket);
    ended(&wire.left, closing, "closed", "before it was connected")?;
    closed(&wire.left, closing, "us")?;
    let socket = start_connecting(&wire.link.left, target)?;
    connect_unspec(&socket)?;
    ended(&wire.left, cookie(&socket)?, "closed", "before it was connected")?;
    Ok(())
}

fn no_port_to_connect_from() -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let only = if target.port() == 40_000 { 40_001 } else { 40_000 };
    scene
        .namespace
        .set_parameter("ipv4/ip_local_port_range", &format!("{only} {only}"))?;
    let _first = connect(&scene.namespace, target)?;
    let second = socket_for(&scene.namespace, target)?;
    let error = second.connect(&target.into()).err().context("it connected")?;
    ensure!(error.kind() == ErrorKind::AddrNotAvailable, "connect: {error}");
    scene.ended(cookie(&second)?, "connect_failed", "")?;
    Ok(())
}

fn listeners() -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.namespace, LOOPBACK)?;
    let first = cookie(&listener)?;
    drop(listener);
    scene.ended(first, "closed", "")?;
    let listener = listen(&scene.namespace, LOOPBACK)?;
    SockRef::from(&listener).shutdown(Shutdown::Both)?;
    scene.ended(cookie(&listener)?, "listening_ended", "")?;
    Ok(())
}

/// Without the tracepoints that tell whose a RST was, nobody is named.
fn without_tracepoints() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start_with(&["--without-hooks"])?;
    let watch = daemon.watch_in(&namespace)?;
    for (data, ours) in [(&b"too late"[..], true), (b"", false)] {
        let mut pair = Pair::new(&namespace, LOOPBACK)?;
        let (client, server) = (cookie(&pair.client)?, cookie(&pair.server)?);
        pair.client.shutdown(Shutdown::Both)?;
        wait_for_fin(&pair.server)?;
        wait_for("FIN_WAIT2", patient(SOON), || {
            let path = watch.of(client);
            Ok(path.iter().any(|step| step.to == "FIN_WAIT2").then_some(()))
        })?;
        pair.server.write_all(data)?;
        if ours {
            drop(pair.server);
        } else {
            reset(pair.server)?;
            ended(&watch, server, "reset_by_us", "closed with SO_LINGER 0")?;
        }
        ended(&watch, client, "reset", "the peer's RST, or ours")?;
    }
    Ok(())
}
