//! What comes after the process has closed: whose RST was it?

use std::{io::Write, net::Shutdown};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    link::Way,
    sockets::{LOOPBACK, Pair, cookie, deliver, reset, wait_for_fin},
    wait::{SOON, patient, wait_for},
};

use super::{Scene, Wire, ended};

crate::tests![
    data_after_close,
    data_after_close_of_a_full_sock,
    data_after_shutdown,
    data_with_the_last_ack,
    reset_after_close,
    reset_after_shutdown,
    reset_of_an_orphan,
    without_tracepoints,
];

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

/// Nothing announces the RST that ends a minisock, but the peer that sends it is in the same namespace.
fn reset_of_an_orphan() -> Result<()> {
    for unread in [false, true] {
        let scene = Scene::new()?;
        let (_listener, client, server) = scene.pair()?;
        if unread {
            deliver(&client.stream, &server.stream, b"never read")?;
        }
        drop(client.stream);
        scene.watch.wait("FIN_WAIT2", |seen| {
            seen.cookie == client.cookie && seen.to == "FIN_WAIT2"
        })?;
        if unread {
            drop(server.stream);
        } else {
            reset(server.stream)?;
        }
        scene.ended(client.cookie, "reset_by_peer", "")?;
    }
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
