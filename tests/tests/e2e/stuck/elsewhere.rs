//! Listeners of other namespaces: those that packets lead to, and those that only have the same address.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    link::Way,
    sockets::{socket_for, start_connecting},
    wait::{SOON, wait_for},
};
use serde_json::Value;

use super::{evidence, stuck};

crate::tests![
    a_full_listener_of_an_unconnected_namespace,
    a_full_listener_behind_a_router,
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
