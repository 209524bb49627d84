//! Connections that the kernel gives up because nobody answers.

use std::{
    io::{ErrorKind, Write},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    link::Way,
    sockets::{LOOPBACK, Pair, cookie, set_tcp_option, start_connecting, wait_for_fin},
};
use socket2::{SockRef, TcpKeepalive};

use super::{Scene, Wire, ended};

crate::tests![
    no_answer_to_a_syn,
    no_answer_to_data_or_keepalive,
    no_answer_to_a_fin,
    window_stays_shut,
    no_answer_but_a_minisocks,
    no_answer_to_an_orphan,
];

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

/// Where `tcp_fin_timeout` is longer than a minute, an orphan waits in FIN_WAIT2 as a full sock, for what is above that. The
/// kernel gives it up instead of making a minisock, since the time has been set to less meanwhile.
fn no_answer_to_an_orphan() -> Result<()> {
    let scene = Scene::new()?;
    scene.namespace.set_parameter("ipv4/tcp_fin_timeout", "62")?;
    let (_listener, client, server) = scene.pair()?;
    drop(client.stream);
    wait_for_fin(&server.stream)?;
    scene.watch.wait("FIN_WAIT2", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT2"
    })?;
    scene.namespace.set_parameter("ipv4/tcp_fin_timeout", "10")?;
    let end = scene.ended(
        client.cookie,
        "timed_out",
        "the peer did not close within tcp_fin_timeout",
    )?;
    ensure!(
        end.from.as_deref() == Some("FIN_WAIT2") && end.source == "event",
        "{end:#?}"
    );
    scene.ended(server.cookie, "reset_by_peer", "").map(drop)
}
