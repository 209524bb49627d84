//! Connections that were closed in order, and listeners.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr},
};

use anyhow::{Result, ensure};
use netstat_tests::{
    Link,
    link::Way,
    sockets::{LOOPBACK, cookie, listen, set_option, start_connecting, wait_for_fin},
    wait::{SOON, wait_for},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::connect_unspec,
};
use socket2::SockRef;

use super::{Scene, Wire, closed, ended};

crate::tests![
    client_closes_first,
    both_close_at_once,
    given_up_while_connecting,
    listeners,
    with_an_error_pending,
];

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

/// An ICMP message has left its error (`IP_RECVERR`), and the connection goes on.
fn with_an_error_pending() -> Result<()> {
    let wire = Wire::new()?;
    let (_listener, client, mut server) = wire.pair()?;
    set_option(&client.stream, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    client.stream.shutdown(Shutdown::Write)?;
    wire.left.wait("FIN_WAIT2", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT2"
    })?;
    // Whoever has the server's address says so no more, so the acknowledgement of the data finds no way.
    let arp_ignore = |value| wire.link.right.set_parameter("ipv4/conf/cable/arp_ignore", value);
    arp_ignore("8")?;
    wire.link
        .left
        .ip(&format!("neighbour flush to {}", Link::RIGHT))?;
    server.stream.write_all(b"x")?;
    wait_for("an error to be pending", SOON, || {
        let mut polled = [PollFd::new(&client.stream, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default()))?;
        Ok(polled[0].revents().contains(PollFlags::ERR).then_some(()))
    })?;
    arp_ignore("0")?;
    server.stream.shutdown(Shutdown::Write)?;
    let next = wire.left.wait("the end of FIN_WAIT2", |seen| {
        seen.cookie == client.cookie && seen.from.as_deref() == Some("FIN_WAIT2")
    })?;
    ensure!(
        next.to == "TIME_WAIT" && next.reason.is_none(),
        "it has not ended: {next:#?}"
    );
    let rows = wire.daemon.agrees(&wire.link.left)?;
    ensure!(rows.iter().any(|row| row.state == "TIME_WAIT"), "{rows:?}");
    Ok(())
}
