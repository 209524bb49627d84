//! Peers that are gone while nothing is to be sent, and data that this host cannot send.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    sockets::{accept, connect, listen, set_tcp_option},
    wait::{SOON, wait_for},
};
use serde_json::Value;
use socket2::{SockRef, TcpKeepalive};

use super::{evidence, find, held_by_this_test, stuck};

crate::tests![
    a_peer_that_keepalive_asks_in_vain,
    a_silent_peer_with_a_user_timeout,
    a_peer_that_answers_keepalive,
    data_without_a_route,
];

/// A connection that asks every other second whether its peer is there, once it has been quiet for one.
fn keepalive(link: &Link) -> Result<(TcpStream, TcpStream)> {
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let client = connect(&link.left, listener.local_addr()?)?;
    let server = accept(&listener)?;
    let often = TcpKeepalive::new()
        .with_time(Duration::from_secs(1))
        .with_interval(Duration::from_secs(2));
    SockRef::from(&client).set_tcp_keepalive(&often)?;
    Ok((client, server))
}

fn a_peer_that_keepalive_asks_in_vain() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let (client, _server) = keepalive(&link)?;
    set_tcp_option(&client, libc::TCP_KEEPCNT, 100)?;
    link.right
        .ip(&format!("address delete {}/24 dev cable", Link::RIGHT))?;
    let finding = find(&daemon, &link.left, "keepalive_unanswered", "--older 3s")?;
    held_by_this_test(&finding, &client)?;
    ensure!(finding["state"] == "ESTABLISHED", "{finding}");
    let shown = evidence(&finding);
    ensure!(
        shown.contains("nothing received from the peer for")
            && shown.contains(" of 100 keepalive probes unanswered"),
        "{shown}"
    );
    // 100 probes less those that were sent, two seconds each.
    ensure!(shown.contains("the kernel gives up in 3m"), "{shown}");
    ensure!(finding["oldest_ms"].as_u64() >= Some(3_000), "{finding}");
    Ok(())
}

fn a_silent_peer_with_a_user_timeout() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let (client, _server) = keepalive(&link)?;
    set_tcp_option(&client, libc::TCP_USER_TIMEOUT, 300_000)?;
    link.right
        .ip(&format!("address delete {}/24 dev cable", Link::RIGHT))?;
    let finding = find(&daemon, &link.left, "keepalive_unanswered", "")?;
    let shown = evidence(&finding);
    ensure!(
        shown.contains(" keepalive probes unanswered") && shown.contains("(TCP_USER_TIMEOUT)"),
        "{shown}"
    );
    ensure!(shown.contains("the kernel gives up in 4m"), "{shown}");
    Ok(())
}

fn a_peer_that_answers_keepalive() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let (_client, _server) = keepalive(&link)?;
    let begun = Instant::now();
    let arguments = format!("--netns {}", link.left.inode());
    wait_for("a look after some probes", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        ensure!(findings.is_empty(), "the peer answers: {findings:?}");
        Ok((begun.elapsed() > Duration::from_secs(4)).then_some(()))
    })
}

/// The peer's window is open, and its application reads: it is not to blame.
fn data_without_a_route() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let mut client = connect(&link.left, listener.local_addr()?)?;
    let _server = accept(&listener)?;
    link.left.ip("route flush dev cable")?;
    client.write_all(b"hello")?;
    let finding = find(&daemon, &link.left, "data_not_sent", "")?;
    held_by_this_test(&finding, &client)?;
    let shown = evidence(&finding);
    ensure!(
        shown.contains("5 bytes wait to be sent") && shown.contains("nothing could be sent for"),
        "{shown}"
    );
    only(&daemon, &link.left, "data_not_sent")?;
    link.left.ip("route add 10.77.0.0/24 dev cable")?;
    wait_for("nothing to be stuck", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &format!("--netns {}", link.left.inode()))?;
        Ok(findings.is_empty().then_some(()))
    })
}

fn only(daemon: &Daemon, namespace: &Namespace, kind: &str) -> Result<Value> {
    let (findings, _) = stuck(daemon.socket(), &format!("--netns {}", namespace.inode()))?;
    ensure!(findings.len() == 1, "{kind} alone: {findings:?}");
    findings.into_iter().next().context("no finding")
}
