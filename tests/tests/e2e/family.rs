//! IPv6, and IPv4 on sockets of IPv6.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    requirements::CannotRun,
    sockets::{LOOPBACK6, Pair, accept, connect, cookie, wait_for_fin},
};
use socket2::{Domain, Protocol, Socket, Type};

crate::tests![ipv6, dual_stack, mptcp];

fn ipv6() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK6)?;
    let near = cookie(&client)?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.len() == 3 && rows.iter().all(|row| row.family == "inet6"),
        "listed: {rows:?}"
    );
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    let path = watch.wait_for_path(
        near,
        &[
            "CLOSE",
            "SYN_SENT",
            "ESTABLISHED",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "TIME_WAIT",
        ],
    )?;
    ensure!(
        path.iter().all(|seen| seen.family == "inet6"),
        "not of IPv6: {path:#?}"
    );
    ensure!(
        path[1].local_addr.is_loopback(),
        "not from loopback: {:?}",
        path[1]
    );
    daemon.agrees(&namespace)?;
    Ok(())
}

fn dual_stack() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch()?;
    let listener = namespace.enter(|| -> Result<_> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        let any: SocketAddr = "[::]:0".parse()?;
        socket.bind(&any.into())?;
        socket.listen(8)?;
        Ok(std::net::TcpListener::from(socket))
    })?;
    let port = listener.local_addr()?.port();
    let client = connect(&namespace, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))?;
    let server = accept(&listener)?;
    let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
    let rows = daemon.agrees(&namespace)?;
    let row = |cookie| rows.iter().find(|row| row.cookie == cookie).context("no row");
    let far = row(cookie(&server)?)?;
    ensure!(
        far.family == "inet6" && far.local_addr == mapped && far.remote_addr == mapped,
        "mapped: {far:?}"
    );
    let near = row(cookie(&client)?)?;
    ensure!(
        near.family == "inet" && near.local_addr == Ipv4Addr::LOCALHOST,
        "not mapped: {near:?}"
    );
    let listening = row(cookie(&listener)?)?;
    ensure!(
        listening.remote_port.is_none() && listening.remote_addr.is_unspecified(),
        "any: {listening:?}"
    );
    let text = netstat_tests::binary::run_in(&namespace, daemon.socket(), "list -tan")?;
    let shown = format!("127.0.0.1:{port}");
    let found = text
        .lines()
        .any(|line| line.starts_with("tcp6") && line.contains(&shown));
    ensure!(found, "netstat shows a mapped address as tcp6 and IPv4:\n{text}");
    drop(server);
    wait_for_fin(&client)?;
    drop(client);
    let closed = far.cookie;
    watch.wait("TIME_WAIT", |seen| {
        seen.cookie == closed && seen.to == "TIME_WAIT"
    })?;
    daemon.agrees(&namespace)?;
    Ok(())
}

/// MPTCP announces its own states beside those of its TCP subflows; only the latter are TCP sockets.
fn mptcp() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch()?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let make = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let Ok(listener) = namespace.enter(make) else {
        return Err(CannotRun("needs a kernel with MPTCP (CONFIG_MPTCP)").into());
    };
    listener.bind(&any.into())?;
    listener.listen(8)?;
    let client = namespace.enter(make)?;
    client.connect(&listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(rows.len() == 3, "a listener and two subflows, but {rows:?}");
    let near = rows
        .iter()
        .find(|row| row.remote_port == listener_port(&listener))
        .context("no client")?;
    watch.wait_for_path(near.cookie, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    ensure!(
        watch.count_in(namespace.inode()) <= 6,
        "more is told than of three TCP sockets"
    );
    drop((client, server));
    drop(listener);
    daemon.agrees(&namespace)?;
    Ok(())
}

fn listener_port(listener: &Socket) -> Option<u16> {
    listener
        .local_addr()
        .ok()?
        .as_socket()
        .map(|address| address.port())
}
