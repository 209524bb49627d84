//! Connections that do not come about: handshakes without an answer, and queues that are full.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    link::Way,
    sockets::{LOOPBACK, connect, listen, set_tcp_option, socket_for, start_connecting},
    wait::{SOON, wait_for},
};

use super::{evidence, find, held_by_this_test, stuck};

crate::tests![
    a_syn_without_answer,
    a_syn_ack_without_answer,
    more_syns_than_there_is_room_for,
    a_full_accept_queue,
    nobody_accepts,
    no_room_after_the_handshake,
    a_client_that_waits_to_speak,
];

fn a_syn_without_answer() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    link.lose(Way::ToRight)?;
    let target = SocketAddr::new(Link::RIGHT.parse()?, 5432);
    let socket = start_connecting(&link.left, target)?;
    let finding = find(&daemon, &link.left, "syn_unanswered", "")?;
    ensure!(
        finding["state"] == "SYN_SENT" && finding["count"] == 1,
        "{finding}"
    );
    ensure!(
        finding["service_addr"] == "10.77.0.2" && finding["service_port"] == 5432,
        "{finding}"
    );
    held_by_this_test(&finding, &socket)?;
    let shown = evidence(&finding);
    ensure!(
        shown.contains("SYN sent") && shown.contains("gives up after"),
        "{shown}"
    );
    ensure!(shown.contains("again in"), "when the next one is due: {shown}");
    let next = finding["next"].as_str().unwrap_or_default();
    ensure!(next.contains("tcpdump") && next.contains("10.77.0.2"), "{next}");
    Ok(())
}

fn a_syn_ack_without_answer() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    link.lose(Way::ToLeft)?;
    let _connecting = start_connecting(&link.left, listener.local_addr()?)?;
    let finding = find(&daemon, &link.right, "syn_ack_unanswered", "")?;
    ensure!(finding["state"] == "SYN_RECV", "{finding}");
    ensure!(
        finding["service_port"] == listener.local_addr()?.port(),
        "{finding}"
    );
    ensure!(evidence(&finding).contains("SYN-ACK sent"), "{finding}");
    ensure!(
        finding["pid"] == std::process::id() && finding["owner_source"] == "inherited",
        "it is its listener's: {finding}"
    );
    Ok(())
}

/// The kernel drops SYNs for which there is no room, and counts them at the listener.
fn more_syns_than_there_is_room_for() -> Result<()> {
    let link = Link::new()?;
    link.right.set_parameter("ipv4/tcp_syncookies", "0")?;
    let daemon = Daemon::start()?;
    let address: SocketAddr = format!("{}:0", Link::RIGHT).parse()?;
    let socket = socket_for(&link.right, address)?;
    socket.bind(&address.into())?;
    socket.listen(4)?;
    let listener = TcpListener::from(socket);
    link.lose(Way::ToLeft)?;
    let clients = (0..30).map(|_| start_connecting(&link.left, listener.local_addr()?));
    let _clients: Vec<_> = clients.collect::<Result<_>>()?;
    let finding = find(&daemon, &link.right, "syn_ack_unanswered", "")?;
    let shown = evidence(&finding);
    ensure!(
        shown.contains("half-open connections of its listener (backlog 4)"),
        "{shown}"
    );
    ensure!(
        shown.contains("the listener has dropped") && shown.contains("tcp_syncookies is 0"),
        "{shown}"
    );
    Ok(())
}

/// Connections to a listener with room for one that nobody accepts; the kernel takes one more than it says.
fn overfill(namespace: &Namespace) -> Result<(TcpListener, Vec<socket2::Socket>)> {
    let address: SocketAddr = LOOPBACK.parse()?;
    let socket = socket_for(namespace, address)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    let listener = TcpListener::from(socket);
    let target = listener.local_addr()?;
    let clients = (0..5).map(|_| start_connecting(namespace, target));
    let clients = clients.collect::<Result<_>>()?;
    Ok((listener, clients))
}

fn a_full_accept_queue() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let (listener, _clients) = overfill(&namespace)?;
    let finding = find(&daemon, &namespace, "accept_queue_full", "")?;
    ensure!(
        finding["state"] == "LISTEN" && finding["severity"] == "critical",
        "{finding}"
    );
    ensure!(
        finding["service_port"] == listener.local_addr()?.port(),
        "{finding}"
    );
    held_by_this_test(&finding, &listener)?;
    ensure!(evidence(&finding).contains("accept queue 2 of 1"), "{finding}");
    // Those that are not let in: not because nobody is there.
    let held = find(&daemon, &namespace, "held_by_accept_queue", "")?;
    ensure!(held["state"] == "SYN_SENT" && held["count"] == 3, "{held}");
    Ok(())
}

fn nobody_accepts() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let _clients = [
        connect(&namespace, listener.local_addr()?)?,
        connect(&namespace, listener.local_addr()?)?,
    ];
    let finding = find(&daemon, &namespace, "accept_queue_filling", "--older 1s")?;
    held_by_this_test(&finding, &listener)?;
    let shown = evidence(&finding);
    ensure!(
        shown.contains("accept queue 2 of") && shown.contains("the oldest has waited"),
        "{shown}"
    );
    ensure!(
        finding["next"]
            .as_str()
            .is_some_and(|next| next.contains("strace")),
        "{finding}"
    );
    Ok(())
}

/// Handshakes that the client takes for complete when the queue is full: held at both ends, and the data of the one is
/// not lost on the way.
fn no_room_after_the_handshake() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let address: SocketAddr = format!("{}:0", Link::RIGHT).parse()?;
    let socket = socket_for(&link.right, address)?;
    socket.bind(&address.into())?;
    socket.listen(4)?;
    let listener = TcpListener::from(socket);
    let target = listener.local_addr()?;
    let waiting: Vec<_> = (0..3)
        .map(|_| connect(&link.left, target))
        .collect::<Result<_>>()?;
    link.lose(Way::ToLeft)?;
    let mut held: Vec<_> = (0..4)
        .map(|_| start_connecting(&link.left, target))
        .collect::<Result<_>>()?;
    wait_for("four half-open connections", SOON, || {
        let rows = daemon.list(&link.right)?;
        Ok((rows.iter().filter(|row| row.state == "SYN_RECV").count() == 4).then_some(()))
    })?;
    link.restore(Way::ToLeft)?;
    // Two get in, and two are held.
    let arguments = format!("netns {} or netns {}", link.left.inode(), link.right.inode());
    let mut last = Vec::new();
    let both = wait_for(
        "both ends to be held, and nothing said of the path, which is whole",
        SOON,
        || {
            for client in &mut held {
                // Before it is connected, this does nothing.
                let _ = client.write(b"hello");
            }
            let (findings, _) = stuck(daemon.socket(), &arguments)?;
            // The SYN-ACKs are sent again at times of their own, so one can be held before the other.
            let of = |state: &str| {
                let mut found = findings.iter();
                found
                    .find(|one| {
                        one["finding"] == "held_by_accept_queue" && one["state"] == state && one["count"] == 2
                    })
                    .cloned()
            };
            last.clone_from(&findings);
            let whole = findings.iter().all(|one| one["finding"] != "data_unacknowledged");
            Ok(of("SYN_RECV").zip(of("ESTABLISHED")).filter(|_| whole))
        },
    );
    let (_, client) = both.with_context(|| format!("found last: {last:?}"))?;
    ensure!(evidence(&client).contains("accept queue 5 of 4"), "{client}");
    drop(waiting);
    Ok(())
}

/// With `TCP_DEFER_ACCEPT` the kernel waits for data once the client has answered the SYN-ACK.
fn a_client_that_waits_to_speak() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    set_tcp_option(&listener, libc::TCP_DEFER_ACCEPT, 60)?;
    let _client = connect(&namespace, listener.local_addr()?)?;
    let begun = Instant::now();
    let arguments = format!("--netns {} --older 1s", namespace.inode());
    wait_for("a look after some timeouts", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        ensure!(findings.is_empty(), "the client has answered: {findings:?}");
        Ok((begun.elapsed() > Duration::from_secs(4)).then_some(()))
    })
}
