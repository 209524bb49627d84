//! IPv6, and IPv4 on sockets of IPv6.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    binary::run_in,
    link::Way,
    requirements::CannotRun,
    snapshot,
    sockets::{LOOPBACK, LOOPBACK6, Pair, accept, connect, cookie, start_connecting, wait_for_fin},
    wait::{SOON, wait_for},
};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

crate::tests![
    ipv6,
    dual_stack,
    ipv6_only,
    mptcp,
    mptcp_listener,
    mptcp_half_open
];

fn ipv6() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
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
    let watch = daemon.watch_in(&namespace)?;
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

/// A socket of MPTCP, where the kernel has that.
/// As `ss` shows it with `v6only:1`; an IPv4 socket has no such setting.
fn ipv6_only() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listen = |address: &str, only: Option<bool>| -> Result<Socket> {
        let address: SocketAddr = address.parse()?;
        let make = || Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = namespace.enter(make)?;
        only.map_or(Ok(()), |only| socket.set_only_v6(only))?;
        socket.bind(&address.into())?;
        socket.listen(8)?;
        Ok(socket)
    };
    let expected = [
        (listen("[::]:7001", Some(true))?, Some(true)),
        (listen("[::]:7002", Some(false))?, Some(false)),
        (listen("0.0.0.0:7003", None)?, None),
    ];
    for alone in ["", "--alone"] {
        let printed = run_in(&namespace, daemon.socket(), &format!("list -l --json {alone}"))?;
        let rows: Vec<Value> = printed
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        for (socket, v6only) in &expected {
            let cookie = cookie(socket)?;
            let row = rows.iter().find(|row| row["cookie"] == cookie);
            let row = row.with_context(|| printed.clone())?;
            ensure!(row["v6only"].as_bool() == *v6only, "not {v6only:?}: {row}");
        }
    }
    Ok(())
}

fn mptcp_socket(namespace: &Namespace) -> Result<Socket> {
    let make = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    namespace
        .enter(make)
        .map_err(|_| CannotRun("needs a kernel with MPTCP (CONFIG_MPTCP)").into())
}

fn mptcp_listen(namespace: &Namespace, address: &str) -> Result<TcpListener> {
    let socket = mptcp_socket(namespace)?;
    socket.bind(&address.parse::<SocketAddr>()?.into())?;
    socket.listen(8)?;
    Ok(socket.into())
}

/// MPTCP announces its own states beside those of its TCP subflows; only the latter are TCP sockets.
fn mptcp() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let listener = mptcp_listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let client = mptcp_socket(&namespace)?;
    client.connect(&target.into())?;
    let server = accept(&listener)?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(rows.len() == 3, "a listener and two subflows, but {rows:?}");
    let near = rows
        .iter()
        .find(|row| row.remote() == target.into())
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

/// What comes through a listener of MPTCP from a client of plain TCP is TCP, also when it is a minisock.
fn mptcp_listener() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let listener = mptcp_listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let client = connect(&namespace, target)?;
    let server = accept(&listener)?;
    let near = client.local_addr()?;
    drop(server);
    wait_for_fin(&client)?;
    drop(client);
    watch.wait("TIME_WAIT", |seen| {
        seen.remote_port == Some(near.port()) && seen.to == "TIME_WAIT"
    })?;
    let rows = daemon.agrees(&namespace)?;
    let row = rows.iter().find(|row| row.remote() == near.into());
    ensure!(
        row.is_some_and(|row| row.state == "TIME_WAIT"),
        "the server's end is {row:?}"
    );
    Ok(())
}

fn mptcp_half_open() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = mptcp_listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let _client = start_connecting(&link.left, listener.local_addr()?)?;
    wait_for("ss to show SYN_RECV", SOON, || {
        let rows = snapshot::ss(&link.right)?;
        Ok(rows.into_iter().find(|row| row.state == "SYN_RECV"))
    })?;
    daemon.agrees(&link.right)?;
    Ok(())
}
