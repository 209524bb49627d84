//! Timers, windows, round-trip times and the like, as `ss -i` shows them.

use std::{
    io::{Read, Write},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    daemon::directory,
    figures::{agreement, wait_for_figures},
    link::Way,
    snapshot::Listed,
    sockets::{
        LOOPBACK, Pair, accept, connect, cookie, deliver, fill, listen, set_tcp_option, socket_for,
        start_connecting, wait_for_fin,
    },
    wait::{SOON, wait_for},
};
use serde_json::Value;
use socket2::{SockRef, TcpKeepalive};

crate::tests![
    data_and_what_is_not_read,
    data_that_nobody_acknowledges,
    a_closed_window,
    keepalive,
    a_syn_without_answer,
    a_syn_ack_without_answer,
    a_full_accept_queue,
    minisocks,
    without_a_daemon,
];

fn figures(rows: &[Listed], cookie: u64) -> Result<&Value> {
    let row = rows.iter().find(|row| row.cookie == cookie);
    row.and_then(|row| row.tcp.as_ref())
        .with_context(|| format!("no figures of {cookie} in {rows:#?}"))
}

fn data_and_what_is_not_read() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    deliver(&pair.client, &pair.server, &vec![1; 30_000])?;
    pair.server.read_exact(&mut [0; 10_000])?;
    deliver(&pair.server, &pair.client, b"thanks")?;
    let rows = agreement(&namespace, daemon.socket())?;
    let (client, server) = (
        figures(&rows, cookie(&pair.client)?)?,
        figures(&rows, cookie(&pair.server)?)?,
    );
    ensure!(
        client["bytes_sent"] == 30_000 && client["bytes_received"] == 6,
        "{client}"
    );
    ensure!(
        server["bytes_received"] == 30_000 && server["rcv_memory"].as_u64() > Some(20_000),
        "{server}"
    );
    ensure!(
        client["timer"]["kind"] == "off" && client["timer"]["due_ms"].is_null(),
        "{client}"
    );
    ensure!(
        client["keepalive"]["on"] == false && client["orphan"] == false,
        "{client}"
    );
    let unread = rows.iter().find(|row| row.tcp.as_ref() == Some(server));
    ensure!(unread.is_some_and(|row| row.recv_q == Some(20_000)), "{unread:?}");
    let listener = figures(&rows, cookie(&pair.listener)?)?;
    ensure!(
        listener["cwnd"].is_null() && listener["last_sent_ms"].is_null(),
        "a listener sends nothing: {listener}"
    );
    Ok(())
}

fn data_that_nobody_acknowledges() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let mut client = connect(&link.left, listener.local_addr()?)?;
    let server = accept(&listener)?;
    let near = cookie(&client)?;
    link.lose(Way::ToRight)?;
    client.write_all(&[1; 5000])?;
    let lost = wait_for_figures("two retransmissions", &link.left, daemon.socket(), near, |tcp| {
        tcp["retransmits"].as_u64() >= Some(2) && tcp["timer"]["kind"] == "retransmit"
    })?;
    ensure!(lost["unacked"] == 5000 && lost["unsent"] == 0, "{lost}");
    ensure!(
        lost["backoff"].as_u64() >= Some(2) && lost["packets_lost"].as_u64() >= Some(1),
        "{lost}"
    );
    ensure!(lost["timer"]["due_ms"].as_u64() <= Some(8 * 200 + 500), "{lost}");
    ensure!(lost["retries"] == 15 && lost["rto_max_ms"] == 120_000, "{lost}");
    agreement(&link.left, daemon.socket())?;
    link.restore(Way::ToRight)?;
    wait_for_figures("the data to arrive", &link.left, daemon.socket(), near, |tcp| {
        tcp["unacked"] == 0 && tcp["retransmits"] == 0
    })?;
    let rows = agreement(&link.left, daemon.socket())?;
    let client = figures(&rows, near)?;
    ensure!(client["total_retrans"].as_u64() >= Some(2), "{client}");
    ensure!(
        client["bytes_retrans"].as_u64() > Some(0) && client["bytes_acked"] == 5001,
        "{client}"
    );
    drop(server);
    Ok(())
}

fn a_closed_window() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    fill(&mut pair.client)?;
    let (near, far) = (cookie(&pair.client)?, cookie(&pair.server)?);
    let closed = wait_for_figures("a probe", &namespace, daemon.socket(), near, |tcp| {
        tcp["timer"]["kind"] == "window_probe" && tcp["probing_ms"].as_u64() > Some(0)
    })?;
    ensure!(
        closed["unsent"].as_u64() > Some(0) && closed["unacked"] == 0,
        "{closed}"
    );
    let rows = agreement(&namespace, daemon.socket())?;
    let server = figures(&rows, far)?;
    ensure!(
        server["rcv_memory"].as_u64() > Some(0)
            && server["rcv_wnd"].as_u64() < server["rcvbuf"].as_u64().map(|limit| limit / 2),
        "{server}"
    );
    // Reads to the end, which comes when the writer has no more.
    pair.client.shutdown(std::net::Shutdown::Write)?;
    pair.server.read_to_end(&mut Vec::new())?;
    wait_for_figures("the window to open", &namespace, daemon.socket(), near, |tcp| {
        tcp["timer"]["kind"] == "off" && tcp["probing_ms"].is_null() && tcp["unsent"] == 0
    })?;
    Ok(())
}

fn keepalive() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let settings = TcpKeepalive::new()
        .with_time(Duration::from_secs(77))
        .with_retries(4);
    SockRef::from(&pair.client).set_tcp_keepalive(&settings)?;
    SockRef::from(&pair.client).set_tcp_user_timeout(Some(Duration::from_millis(12_345)))?;
    let rows = agreement(&namespace, daemon.socket())?;
    let client = figures(&rows, cookie(&pair.client)?)?;
    let timer = &client["timer"];
    ensure!(timer["kind"] == "keepalive", "{client}");
    ensure!(
        (Some(1)..=Some(77_000)).contains(&timer["due_ms"].as_u64()),
        "{client}"
    );
    ensure!(
        client["keepalive"]
            == serde_json::json!({"on": true, "time_ms": 77_000, "interval_ms": 75_000, "probes": 4}),
        "{client}"
    );
    ensure!(client["user_timeout_ms"] == 12_345, "{client}");
    Ok(())
}

fn a_syn_without_answer() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    link.lose(Way::ToRight)?;
    let target = format!("{}:80", Link::RIGHT).parse()?;
    let socket = socket_for(&link.left, target)?;
    set_tcp_option(&socket, libc::TCP_SYNCNT, 3)?;
    socket.set_nonblocking(true)?;
    let _in_progress = socket.connect(&target.into());
    let syn = wait_for_figures(
        "a second SYN",
        &link.left,
        daemon.socket(),
        cookie(&socket)?,
        |tcp| tcp["retransmits"].as_u64() >= Some(1),
    )?;
    ensure!(syn["timer"]["kind"] == "retransmit", "{syn}");
    ensure!(syn["timer"]["due_ms"].as_u64() <= Some(2000), "{syn}");
    ensure!(syn["unacked"] == 1 && syn["unsent"] == 0, "{syn}");
    ensure!(
        [
            "rtt_us",
            "snd_wnd",
            "last_ack_ms",
            "last_sent_ms",
            "last_received_ms"
        ]
        .iter()
        .all(|key| syn[*key].is_null()),
        "nothing has come back, so nothing is known: {syn}"
    );
    let linear = link
        .left
        .enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syn_linear_timeouts"));
    let linear = linear.map_or(Ok(0), |linear| linear.trim().parse::<u64>())?;
    ensure!(syn["syn_retries"] == 3 + linear, "{syn}");
    agreement(&link.left, daemon.socket())?;
    Ok(())
}

fn a_syn_ack_without_answer() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let _client = start_connecting(&link.left, listener.local_addr()?)?;
    let row = wait_for("a second SYN-ACK", SOON, || {
        let rows = daemon.list(&link.right)?;
        let half = rows.into_iter().find(|row| row.state == "SYN_RECV");
        Ok(half
            .and_then(|row| row.tcp)
            .filter(|tcp| tcp["retransmits"].as_u64() >= Some(1)))
    })?;
    ensure!(row["timer"]["kind"] == "syn_ack", "{row}");
    ensure!(row["timer"]["due_ms"].as_u64() <= Some(4000), "{row}");
    ensure!(
        row["total_retrans"].as_u64() >= Some(1) && row["syn_retries"] == 5,
        "{row}"
    );
    ensure!(row["listener"] == cookie(&listener)?, "{row}");
    let rows = agreement(&link.right, daemon.socket())?;
    let listener = figures(&rows, cookie(&listener)?)?;
    ensure!(listener["accept_queue"]["requests"] == 1, "{listener}");
    Ok(())
}

fn a_full_accept_queue() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = namespace.enter(|| -> Result<_> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&LOOPBACK.parse::<std::net::SocketAddr>()?.into())?;
        socket.listen(1)?;
        Ok(std::net::TcpListener::from(socket))
    })?;
    let target = listener.local_addr()?;
    let _held: Vec<_> = (0..4)
        .map(|_| start_connecting(&namespace, target))
        .collect::<Result<_>>()?;
    let full = wait_for_figures("drops", &namespace, daemon.socket(), cookie(&listener)?, |tcp| {
        tcp["accept_queue"]["drops"].as_u64() >= Some(2)
    })?;
    let queue = &full["accept_queue"];
    ensure!(
        queue["len"] == 2 && queue["max"] == 1,
        "one more than the limit: {full}"
    );
    let rows = agreement(&namespace, daemon.socket())?;
    let waiting = rows
        .iter()
        .filter(|row| row.state == "ESTABLISHED" && row.local_port == Some(target.port()));
    let waiting: Vec<_> = waiting.map(|row| (row.inode, row.tcp.as_ref())).collect();
    ensure!(
        waiting.len() == 2
            && waiting
                .iter()
                .all(|(inode, tcp)| inode.is_none() && tcp.is_some_and(|tcp| tcp["orphan"] == false)),
        "nobody holds them yet: {waiting:?}"
    );
    Ok(())
}

fn minisocks() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let closing = Pair::new(&namespace, LOOPBACK)?;
    let closed = Pair::new(&namespace, LOOPBACK)?;
    let (half, whole) = (cookie(&closing.client)?, cookie(&closed.client)?);
    for pair in [&closing, &closed] {
        pair.client.shutdown(std::net::Shutdown::Write)?;
        wait_for_fin(&pair.server)?;
    }
    drop((closing.client, closed.client, closed.server));
    for (cookie, state) in [(half, "FIN_WAIT2"), (whole, "TIME_WAIT")] {
        // One that becomes a minisock while it is asked about has none.
        let row = daemon.wait_for_row(&namespace, state, |row| {
            row.cookie == cookie && row.state == state && row.tcp.is_some()
        })?;
        let tcp = row.tcp.context("no figures")?;
        ensure!(tcp["timer"]["kind"] == "time_wait", "{state}: {tcp}");
        let due = tcp["timer"]["due_ms"].as_u64();
        ensure!((Some(20_000)..=Some(60_100)).contains(&due), "{state}: {tcp}");
        ensure!(
            tcp["rto_ms"].is_null() && tcp["retransmits"].is_null(),
            "{state}: {tcp}"
        );
    }
    Ok(())
}

fn without_a_daemon() -> Result<()> {
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    let namespace = Namespace::new()?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    pair.client.write_all(&[1; 1000])?;
    let rows = agreement(&namespace, &absent)?;
    let client = figures(&rows, cookie(&pair.client)?)?;
    ensure!(
        client["bytes_sent"] == 1000 && client["rtt_us"].is_u64(),
        "{client}"
    );
    Ok(())
}
