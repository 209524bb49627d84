//! Ports and minisocks that run out.

use std::{io::ErrorKind, net::SocketAddr};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    sockets::{LOOPBACK, accept, connect, listen, socket_for, wait_for_fin},
    wait::{SOON, wait_for},
};
use serde_json::Value;

use super::{evidence, find, stuck};

crate::tests![
    ports_run_out,
    no_port_to_bind,
    reserved_ports_are_not_counted,
    no_place_for_time_wait,
];

fn ports_run_out() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/ip_local_port_range", "40000 40009")?;
    namespace.set_parameter("ipv4/tcp_tw_reuse", "0")?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, "127.0.0.1:8080")?;
    let target = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..7 {
        pairs.push((connect(&namespace, target)?, accept(&listener)?));
    }
    let arguments = format!("--netns {}", namespace.inode());
    let (findings, _) = stuck(daemon.socket(), &arguments)?;
    ensure!(findings.is_empty(), "seven of ten are not many: {findings:?}");
    while pairs.len() < 10 {
        pairs.push((connect(&namespace, target)?, accept(&listener)?));
    }
    // Some of them in TIME_WAIT, which take ports as well.
    for (client, server) in pairs.drain(..2) {
        drop(client);
        wait_for_fin(&server)?;
    }
    let finding = find(&daemon, &namespace, "ports_running_out", "")?;
    ensure!(
        finding["service_addr"] == "127.0.0.1"
            && finding["service_port"] == 8080
            && finding["severity"] == "critical",
        "{finding}"
    );
    ensure!(finding["pid"] == std::process::id(), "{finding}");
    let shown = evidence(&finding);
    ensure!(
        shown.contains("10 of 10 ports") && shown.contains("2 of them in TIME_WAIT"),
        "{shown}"
    );
    ensure!(shown.contains("40000 to 40009"), "{shown}");
    ensure!(finding["count"] == 10, "{finding}");
    // Some of them are free again where the kernel may reuse them, which takes a second.
    namespace.set_parameter("ipv4/tcp_tw_reuse", "1")?;
    wait_for("two ports to be free", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        let finding = findings
            .iter()
            .find(|finding| finding["finding"] == "ports_running_out");
        let freed = |finding: &Value| {
            finding["severity"] == "warning" && evidence(finding).contains("2 of those may be reused")
        };
        Ok(finding.is_some_and(freed).then_some(()))
    })
}

/// `bind` to port 0 finds no port where the range is full of TIME_WAIT, whatever those were connections to: on their address
/// and on the wildcard, but not on another address.
fn no_port_to_bind() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/ip_local_port_range", "40000 40009")?;
    let daemon = Daemon::start()?;
    let destinations = [
        listen(&namespace, "127.0.0.1:8080")?,
        listen(&namespace, "127.0.0.1:8081")?,
    ];
    // Both addresses are the same, so no port is used twice before all are.
    for place in 0..10 {
        let listener = &destinations[place % 2];
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000 + u16::try_from(place)?));
        let socket = socket_for(&namespace, address)?;
        socket.bind(&address.into())?;
        socket.connect(&listener.local_addr()?.into())?;
        let server = accept(listener)?;
        drop(socket);
        wait_for_fin(&server)?;
    }
    let bind = |address: &str| -> Result<std::io::Result<()>> {
        let address: SocketAddr = address.parse()?;
        let socket = socket_for(&namespace, address)?;
        socket.set_reuse_address(true)?;
        Ok(socket.bind(&address.into()))
    };
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let bound = bind(address)?;
        ensure!(
            bound.as_ref().err().map(std::io::Error::kind) == Some(ErrorKind::AddrInUse),
            "{address}: {bound:?}"
        );
    }
    bind("127.0.0.2:0")??;
    let finding = find(&daemon, &namespace, "bind_ports_running_out", "")?;
    ensure!(
        finding["severity"] == "warning" && finding["count"] == 10,
        "{finding}"
    );
    ensure!(
        finding["service_addr"] == "127.0.0.1" && finding["service_port"].is_null(),
        "{finding}"
    );
    let shown = evidence(&finding);
    ensure!(
        shown.contains("10 of 10 ports taken on 127.0.0.1") && shown.contains("10 of them in TIME_WAIT"),
        "{shown}"
    );
    ensure!(shown.contains("fails there with EADDRINUSE"), "{shown}");
    let (findings, _) = stuck(daemon.socket(), &format!("--netns {}", namespace.inode()))?;
    ensure!(
        findings
            .iter()
            .filter(|one| one["finding"] == "bind_ports_running_out")
            .count()
            == 1,
        "{findings:?}"
    );
    Ok(())
}

/// Ports that the kernel never picks are neither free nor taken.
fn reserved_ports_are_not_counted() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/ip_local_port_range", "40000 40009")?;
    namespace.set_parameter("ipv4/ip_local_reserved_ports", "40000-40004")?;
    namespace.set_parameter("ipv4/tcp_tw_reuse", "0")?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, "127.0.0.1:8080")?;
    let target = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..5 {
        pairs.push((connect(&namespace, target)?, accept(&listener)?));
    }
    ensure!(connect(&namespace, target).is_err(), "no port is left");
    for kind in ["ports_running_out", "bind_ports_running_out"] {
        let finding = find(&daemon, &namespace, kind, "")?;
        ensure!(evidence(&finding).contains("5 of 5 ports taken"), "{finding}");
    }
    Ok(())
}

fn no_place_for_time_wait() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/tcp_max_tw_buckets", "5")?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    for _ in 0..5 {
        let client = connect(&namespace, listener.local_addr()?)?;
        let server = accept(&listener)?;
        drop(client);
        wait_for_fin(&server)?;
        drop(server);
    }
    let finding = find(&daemon, &namespace, "time_wait_full", "")?;
    ensure!(evidence(&finding).contains("5 TIME_WAIT of 5"), "{finding}");
    Ok(())
}
