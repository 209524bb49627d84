//! Listeners of other namespaces: those that packets lead to, and those that only have the same address.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Objects,
    link::Way,
    sockets::{accept, listen, socket_for, start_connecting},
    wait::{SOON, wait_for},
};
use serde_json::Value;

use super::{evidence, stuck};

crate::tests![
    a_full_listener_of_an_unconnected_namespace,
    a_full_listener_behind_a_router,
    a_half_open_connection_of_an_unconnected_namespace,
];

/// A listener with room for one connection, which has more from its own namespace.
fn overfill(namespace: &Namespace, address: &str) -> Result<(TcpListener, Vec<socket2::Socket>)> {
    let address: SocketAddr = address.parse()?;
    let socket = socket_for(namespace, address)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    let listener = TcpListener::from(socket);
    let target = listener.local_addr()?;
    let clients = (0..5).map(|_| start_connecting(namespace, target));
    let clients = clients.collect::<Result<_>>()?;
    Ok((listener, clients))
}

/// Waits until a listener of `server` is full and a SYN of `client` is unanswered; returns what is found of the SYN.
fn found_of_client(daemon: &Daemon, client: &Namespace, server: &Namespace) -> Result<Value> {
    let arguments = format!("netns {} or netns {}", client.inode(), server.inode());
    let mut last = Vec::new();
    let found = wait_for("a full listener, and a SYN without answer", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        let of = |namespace: &Namespace, state: &str| {
            let mut found = findings.iter();
            found
                .find(|one| one["netns"] == namespace.inode() && one["state"] == state)
                .cloned()
        };
        let both = of(server, "LISTEN").and(of(client, "SYN_SENT"));
        last = findings;
        Ok(both)
    });
    found.with_context(|| format!("found last: {last:?}"))
}

/// The same address in a namespace that nothing leads to: its listener has nothing to do with SYNs that are lost.
fn a_full_listener_of_an_unconnected_namespace() -> Result<()> {
    let link = Link::new()?;
    let stranger = Namespace::new()?;
    stranger.ip(&format!("address add {}/32 dev lo", Link::RIGHT))?;
    let daemon = Daemon::start()?;
    let (listener, _clients) = overfill(&stranger, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToRight)?;
    let _connecting = start_connecting(&link.left, listener.local_addr()?)?;
    let found = found_of_client(&daemon, &link.left, &stranger)?;
    ensure!(
        found["finding"] == "syn_unanswered",
        "the other listener is not to blame: {found}"
    );
    ensure!(!evidence(&found).contains("accept queue 2 of 1"), "{found}");
    Ok(())
}

/// Two namespaces that a third one joins: packets lead from one to the other.
fn a_full_listener_behind_a_router() -> Result<()> {
    let (left, router, right) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    for (end, number) in [(&left, 1), (&right, 2)] {
        end.ip(&format!(
            "link add cable type veth peer name cable{number} netns {}",
            router.name()
        ))?;
        end.ip(&format!("address add 10.78.{number}.1/24 dev cable"))?;
        end.ip("link set cable up")?;
        router.ip(&format!("address add 10.78.{number}.2/24 dev cable{number}"))?;
        router.ip(&format!("link set cable{number} up"))?;
        end.ip(&format!("route add default via 10.78.{number}.2"))?;
    }
    router.set_parameter("ipv4/ip_forward", "1")?;
    let daemon = Daemon::start()?;
    let (listener, _clients) = overfill(&right, "10.78.2.1:0")?;
    let full = format!("netns {} state listening", right.inode());
    wait_for("the listener to be full", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &full)?;
        Ok((!findings.is_empty()).then_some(()))
    })?;
    let _connecting = start_connecting(&left, listener.local_addr()?)?;
    let found = found_of_client(&daemon, &left, &right)?;
    ensure!(
        found["finding"] == "held_by_accept_queue",
        "its SYNs get there: {found}"
    );
    ensure!(evidence(&found).contains("accept queue 2 of 1"), "{found}");
    ensure!(
        found["suspects"][0]["pid"] == std::process::id(),
        "who holds the listener: {found}"
    );
    Ok(())
}

/// Two networks with the same addresses, and in each a connection with the same ends: one is half open, for want of room in the
/// accept queue; the other one's packets are lost, and it has nothing to do with that queue.
fn a_half_open_connection_of_an_unconnected_namespace() -> Result<()> {
    let (link, stranger) = (Link::new()?, Link::new()?);
    let daemon = Daemon::start()?;
    let ((target, from), _kept) = half_open(&stranger)?;
    let listener = listen(&link.right, &target.to_string())?;
    let socket = socket_for(&link.left, target)?;
    socket.bind(&from.into())?;
    socket.connect(&target.into())?;
    let mut client = TcpStream::from(socket);
    let _server = accept(&listener)?;
    let watch = Objects::start(
        daemon.socket(),
        &format!("watch --stuck --json netns {}", link.left.inode()),
    )?;
    // Packets still get to the other side of the cable, which has nothing to do with them any more.
    link.right
        .ip(&format!("address delete {}/24 dev cable", Link::RIGHT))?;
    client.write_all(b"into the void")?;
    let news = watch.wait("the data to be found stuck", SOON, |told| {
        told["event"] == "stuck"
    })?;
    ensure!(news["finding"] == "data_unacknowledged", "{news}");
    let arguments = format!("netns {}", link.left.inode());
    let (findings, _) = stuck(daemon.socket(), &arguments)?;
    let kinds: Vec<_> = findings.iter().map(|finding| &finding["finding"]).collect();
    ensure!(kinds == ["data_unacknowledged"], "{findings:?}");
    Ok(())
}

/// A connection from left to right that is established for the client alone: its ends, the listener's first, and what keeps them.
fn half_open(link: &Link) -> Result<((SocketAddr, SocketAddr), Box<dyn std::any::Any>)> {
    let target: SocketAddr = format!("{}:0", Link::RIGHT).parse()?;
    let socket = socket_for(&link.right, target)?;
    socket.bind(&target.into())?;
    socket.listen(1)?;
    let listener = TcpListener::from(socket);
    let target = listener.local_addr()?;
    link.lose(Way::ToLeft)?;
    let client = start_connecting(&link.left, target)?;
    let from = client.local_addr()?.as_socket().context("no address")?;
    wait_for("the SYN to arrive", SOON, || {
        let listed = link
            .right
            .run("ss", "--tcp --numeric --no-header state syn-recv")?;
        Ok((!listed.trim().is_empty()).then_some(()))
    })?;
    let others = (0..5).map(|_| start_connecting(&link.right, target));
    let others = others.collect::<Result<Vec<_>>>()?;
    link.restore(Way::ToLeft)?;
    let client = TcpStream::from(client);
    wait_for("the client to be connected", SOON, || {
        let listed = link
            .left
            .run("ss", "--tcp --numeric --no-header state established")?;
        Ok((!listed.trim().is_empty()).then_some(()))
    })?;
    Ok(((target, from), Box::new((listener, client, others))))
}
