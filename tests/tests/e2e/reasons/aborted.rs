//! Connections that a process or somebody else on this host has aborted.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr},
};

use anyhow::{Result, ensure};
use netstat_tests::{
    Link,
    link::Way,
    sockets::{
        LOOPBACK, connect, cookie, deliver, listen, reset, set_tcp_option, start_connecting, wait_for_fin,
        wait_for_reset,
    },
};
use rustix::net::connect_unspec;

use super::{End, Scene, Wire, closed, ended};

crate::tests![
    closed_with_linger_0,
    closed_with_data_unread,
    closed_with_data_unread_after_the_peers_fin,
    never_accepted,
    killed,
    killed_while_connecting,
    disconnected,
    orphan_not_wanted,
    orphan_without_room,
    closed_with_linger_0_in_closing,
];

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

/// `tcp_max_tw_buckets` leaves no room for the minisock of an orphan. Only hooks tell that there is none; a scan that does not
/// find it cannot know why.
fn orphan_without_room() -> Result<()> {
    let wire = Wire::new()?;
    wire.link.left.set_parameter("ipv4/tcp_max_tw_buckets", "0")?;
    let (_listener, client, server) = wire.pair()?;
    drop(client.stream);
    wait_for_fin(&server.stream)?;
    let end = wire.left.wait("the end", |seen| {
        seen.cookie == client.cookie && seen.to == "CLOSE"
    })?;
    let told = wire.daemon.source_of("minisocks")? == "event";
    ensure!(
        end.reason.as_deref() == told.then_some("out_of_resources"),
        "hooks: {told}: {end:#?}"
    );
    Ok(())
}

/// Both have closed, and this end's FIN is under way: there is no TIME_WAIT to wait for.
fn closed_with_linger_0_in_closing() -> Result<()> {
    let wire = Wire::new()?;
    let (_listener, client, server) = wire.pair()?;
    wire.link.lose(Way::ToRight)?;
    client.stream.shutdown(Shutdown::Write)?;
    wire.left.wait("FIN_WAIT1", |seen| {
        seen.cookie == client.cookie && seen.to == "FIN_WAIT1"
    })?;
    server.stream.shutdown(Shutdown::Write)?;
    wire.left.wait("CLOSING", |seen| {
        seen.cookie == client.cookie && seen.to == "CLOSING"
    })?;
    reset(client.stream)?;
    let end = ended(&wire.left, client.cookie, "abandoned", "closed with SO_LINGER 0")?;
    ensure!(end.from.as_deref() == Some("CLOSING"), "{end:#?}");
    Ok(())
}
