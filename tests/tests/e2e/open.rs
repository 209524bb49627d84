//! Connections that are not yet there.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    link::Way,
    sockets::{LOOPBACK, Pair, accept, cookie, listen, set_tcp_option, socket_for, start_connecting},
    watch::states,
};

crate::tests![
    syn_without_answer,
    syn_without_answer_gives_up,
    given_up_by_its_owner,
    half_open,
    half_open_gives_up,
    half_open_without_its_listener,
    simultaneous_open,
    syn_cookies,
    fast_open,
];

/// No event tells which port a hanging SYN_SENT got; the row has it all the same.
fn syn_without_answer() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    link.lose(Way::ToRight)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let socket = start_connecting(&link.left, listener.local_addr()?)?;
    let hanging = cookie(&socket)?;
    let path = watch.wait_for_path(hanging, &["CLOSE", "SYN_SENT"])?;
    ensure!(
        path[0].local_port.is_none(),
        "no port was chosen yet, but {:?}",
        path[0]
    );
    let port = socket
        .local_addr()?
        .as_socket()
        .context("not an IP socket")?
        .port();
    let rows = daemon.agrees(&link.left)?;
    let [row] = rows.as_slice() else {
        anyhow::bail!("expected one row, listed {rows:?}");
    };
    ensure!(
        row.state == "SYN_SENT" && row.local_port == Some(port),
        "not SYN_SENT from port {port}: {row:?}"
    );
    let own = std::process::id();
    daemon.wait_for_row(&link.left, "SYN_SENT, and held", |row| {
        row.cookie == hanging && row.pid == Some(own)
    })?;
    link.restore(Way::ToRight)?;
    let path = watch.wait_for_path(hanging, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    ensure!(
        path[1].local_port == Some(port),
        "the port is lost: {:?}",
        path[1]
    );
    daemon.agrees(&link.left)?;
    Ok(())
}

fn syn_without_answer_gives_up() -> Result<()> {
    let link = Link::new()?;
    link.left.set_parameter("ipv4/tcp_syn_retries", "1")?;
    link.lose(Way::ToRight)?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    let target = SocketAddr::new(Link::RIGHT.parse()?, 80);
    let socket = start_connecting(&link.left, target)?;
    let path = watch.wait_for_path(cookie(&socket)?, &["CLOSE", "SYN_SENT", "CLOSE"])?;
    let reason = path[1].reason.clone().unwrap_or_default();
    ensure!(reason.contains("timed_out"), "nobody answered, but {:?}", path[1]);
    ensure!(daemon.agrees(&link.left)?.is_empty(), "a row is left");
    Ok(())
}

/// A request sock fires no tracepoint until the handshake is complete, and then it is the accepted connection.
fn half_open() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.right)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let socket = start_connecting(&link.left, listener.local_addr()?)?;
    let row = daemon.wait_for_row(&link.right, "SYN_RECV", |row| row.state == "SYN_RECV")?;
    let port = socket
        .local_addr()?
        .as_socket()
        .context("not an IP socket")?
        .port();
    ensure!(
        row.remote_port == Some(port),
        "not the connection from port {port}: {row:?}"
    );
    let owned = daemon.wait_for_row(&link.right, "SYN_RECV with its listener's owner", |row| {
        row.state == "SYN_RECV" && row.pid == Some(std::process::id())
    })?;
    ensure!(
        owned.owner_source.as_deref() == Some("inherited"),
        "nobody has accepted it: {owned:?}"
    );
    let rows = daemon.agrees(&link.right)?;
    ensure!(rows.len() == 2, "a listener and a request sock, but {rows:?}");
    link.restore(Way::ToLeft)?;
    let accepted = accept(&listener)?;
    ensure!(
        cookie(&accepted)? == row.cookie,
        "the connection has changed its cookie from {row:?}"
    );
    watch.wait("the handshake's end", |seen| {
        seen.cookie == row.cookie && seen.to == "ESTABLISHED"
    })?;
    daemon.agrees(&link.right)?;
    let path = watch.of(row.cookie);
    let begun = path.first().context("nothing was told of the request sock")?;
    ensure!(
        begun.from.as_deref() == Some("LISTEN") && begun.source == daemon.source_of("requests")?,
        "{begun:?}"
    );
    ensure!(
        begun.earliest.is_some() == (begun.source == "scan"),
        "what a sweep finds has happened in an interval, and an event at a time: {begun:?}"
    );
    Ok(())
}

/// The handshake is never completed: the kernel drops the request sock, and no child was ever there.
fn half_open_gives_up() -> Result<()> {
    let link = Link::new()?;
    link.right.set_parameter("ipv4/tcp_synack_retries", "1")?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.right)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let socket = start_connecting(&link.left, listener.local_addr()?)?;
    let row = daemon.wait_for_row(&link.right, "SYN_RECV", |row| row.state == "SYN_RECV")?;
    // Else it would send its SYN again.
    drop(socket);
    let path = watch.wait_for_path(row.cookie, &["LISTEN", "SYN_RECV", "CLOSE"])?;
    let source = daemon.source_of("requests")?;
    ensure!(path.iter().all(|step| step.source == source), "{path:#?}");
    let end = path.last().context("no end")?;
    // A sweep that does not find it cannot know why.
    let reason = (source == "event").then_some("timed_out");
    ensure!(end.reason.as_deref() == reason, "{end:?}");
    let detail = end.reason_detail.as_deref();
    ensure!(
        reason.is_none() || detail.is_some_and(|detail| detail.contains("SYN-ACK, 1 retransmission")),
        "{end:?}"
    );
    let rows = daemon.agrees(&link.right)?;
    ensure!(rows.len() == 1, "a listener alone, but {rows:?}");
    Ok(())
}

/// A half-open connection does not outlast its listener for long: its timer finds that nobody listens.
fn half_open_without_its_listener() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.right)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let _socket = start_connecting(&link.left, listener.local_addr()?)?;
    let row = daemon.wait_for_row(&link.right, "SYN_RECV", |row| row.state == "SYN_RECV")?;
    drop(listener);
    let path = watch.wait_for_path(row.cookie, &["LISTEN", "SYN_RECV", "CLOSE"])?;
    let end = path.last().context("no end")?;
    let told = daemon.source_of("requests")? == "event";
    let reason = told.then_some("abandoned");
    ensure!(end.reason.as_deref() == reason, "{end:?}");
    ensure!(daemon.agrees(&link.right)?.is_empty(), "a row is left");
    Ok(())
}

/// A socket that connects to itself: its SYN meets its own SYN.
fn simultaneous_open() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let socket = socket_for(&namespace, LOOPBACK.parse()?)?;
    socket.bind(&LOOPBACK.parse::<SocketAddr>()?.into())?;
    let own = socket.local_addr()?;
    socket.connect(&own)?;
    let cookie = cookie(&socket)?;
    watch.wait_for_path(cookie, &["CLOSE", "SYN_SENT", "SYN_RECV", "ESTABLISHED"])?;
    ensure!(
        daemon.agrees(&namespace)?.len() == 1,
        "one socket has several rows"
    );
    drop(socket);
    watch.wait("the end", |seen| {
        seen.cookie == cookie && ["TIME_WAIT", "CLOSE"].contains(&&*seen.to)
    })?;
    states(&watch.of(cookie))?;
    daemon.agrees(&namespace)?;
    Ok(())
}

/// With SYN cookies there is no request sock: the child comes out of the last ACK.
fn syn_cookies() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/tcp_syncookies", "2")?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let child = cookie(&pair.server)?;
    watch.wait("the child established", |seen| {
        seen.cookie == child && seen.to == "ESTABLISHED"
    })?;
    ensure!(daemon.agrees(&namespace)?.len() == 3, "a listener and two ends");
    Ok(())
}

fn given_up_by_its_owner() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    link.lose(Way::ToRight)?;
    let socket = start_connecting(&link.left, SocketAddr::new(Link::RIGHT.parse()?, 80))?;
    let hanging = cookie(&socket)?;
    ensure!(daemon.agrees(&link.left)?.len() == 1, "SYN_SENT alone");
    drop(socket);
    watch.wait_for_path(hanging, &["CLOSE", "SYN_SENT", "CLOSE"])?;
    ensure!(daemon.agrees(&link.left)?.is_empty(), "a row is left");
    Ok(())
}

/// With TCP Fast Open the child is a full socket while it is in SYN_RECV, and has data before it is
/// established.
fn fast_open() -> Result<()> {
    use std::io::Write;
    /// For clients and servers, without a cookie: `TFO_CLIENT_NO_COOKIE`, `TFO_SERVER_COOKIE_NOT_REQD` of
    /// the kernel's `include/net/tcp.h`.
    const WITHOUT_COOKIE: &str = "519";
    let link = Link::new()?;
    link.left.set_parameter("ipv4/tcp_fastopen", WITHOUT_COOKIE)?;
    link.right.set_parameter("ipv4/tcp_fastopen", WITHOUT_COOKIE)?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    let far_watch = daemon.watch_in(&link.right)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    set_tcp_option(&listener, libc::TCP_FASTOPEN, 8)?;
    let target = listener.local_addr()?;
    let client = socket_for(&link.left, target)?;
    set_tcp_option(&client, libc::TCP_FASTOPEN_CONNECT, 1)?;
    client.set_nonblocking(true)?;
    client.connect(&target.into())?;
    link.lose(Way::ToLeft)?;
    // The data goes with the SYN; the answer is lost.
    (&client)
        .write_all(b"early")
        .context("the data does not go with the SYN")?;
    let server = accept(&listener)?;
    let child = cookie(&server)?;
    let rows = daemon.agrees(&link.right)?;
    let row = rows.iter().find(|row| row.cookie == child);
    ensure!(
        row.is_some_and(|row| row.state == "SYN_RECV"),
        "accepted before it is established: {row:?}"
    );
    link.restore(Way::ToLeft)?;
    far_watch.wait("the child established", |seen| {
        seen.cookie == child && seen.to == "ESTABLISHED"
    })?;
    watch.wait_for_path(cookie(&client)?, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    daemon.agrees(&link.right)?;
    daemon.agrees(&link.left)?;
    Ok(())
}
