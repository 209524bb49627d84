//! Connections that were closed in order, and listeners.

use std::net::{Shutdown, SocketAddr};

use anyhow::Result;
use netstat_tests::{
    Link,
    link::Way,
    sockets::{LOOPBACK, cookie, listen, start_connecting, wait_for_fin},
};
use rustix::net::connect_unspec;
use socket2::SockRef;

use super::{Scene, Wire, closed, ended};

crate::tests![
    client_closes_first,
    both_close_at_once,
    given_up_while_connecting,
    listeners,
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
