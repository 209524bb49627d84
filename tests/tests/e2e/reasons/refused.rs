//! Connections that never were: refused, unreachable, or not even tried.

use std::{io::ErrorKind, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use netstat_tests::sockets::{LOOPBACK, connect, cookie, listen, socket_for, start_connecting};

use super::{Scene, Wire, ended};

crate::tests![refused, no_way_to_the_host, no_port_to_connect_from,];

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

fn no_way_to_the_host() -> Result<()> {
    let wire = Wire::new()?;
    // Nobody has this address, and the neighbour table says so after three seconds.
    let socket = start_connecting(&wire.link.left, "10.77.0.99:80".parse()?)?;
    ended(&wire.left, cookie(&socket)?, "unreachable", "host unreachable")?;
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
