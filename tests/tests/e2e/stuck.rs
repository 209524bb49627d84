//! `netstate stuck`: finds each kind of connection that makes no progress, and says who, why and what to do.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, binary,
    daemon::directory,
    link::Way,
    sockets::{
        LOOPBACK, Pair, accept, connect, fill, listen, set_tcp_option, socket_for, start_connecting,
        wait_for_fin,
    },
    wait::{SOON, wait_for},
};
use rustix::fd::AsRawFd;
use serde_json::Value;

crate::tests![
    a_healthy_host,
    a_syn_without_answer,
    a_syn_ack_without_answer,
    a_full_accept_queue,
    nobody_accepts,
    data_without_acknowledgement,
    nobody_reads,
    nobody_reads_what_keeps_coming,
    no_room_after_the_handshake,
    a_client_that_waits_to_speak,
    nobody_closes,
    several_have_to_close,
    one_that_still_sends,
    a_fin_without_acknowledgement,
    a_simultaneous_close,
    a_peer_that_does_not_close,
    ports_run_out,
    no_place_for_time_wait,
    a_filter_and_an_age,
    without_a_daemon,
    bad_usage,
];

/// What `stuck --json` prints: findings and the summary.
fn stuck(socket: &Path, arguments: &str) -> Result<(Vec<Value>, Value)> {
    let output = binary::run(socket, &format!("stuck --json {arguments}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "stuck {arguments}: {complaint}");
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    let mut lines: Vec<Value> = lines.collect::<Result<_, _>>()?;
    let last = lines.pop().context("it prints nothing")?;
    let summary = last.get("summary").context("no summary comes last")?.clone();
    ensure!(summary["findings"] == lines.len(), "{summary}: {lines:?}");
    Ok((lines, summary))
}

/// Waits for a finding of `kind` in `namespace`, and checks what every finding has.
fn find(daemon: &Daemon, namespace: &Namespace, kind: &str, more: &str) -> Result<Value> {
    let arguments = format!("--netns {} {more}", namespace.inode());
    let mut others = Vec::new();
    let found = wait_for(&format!("{kind} to be found"), SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        let found = findings
            .iter()
            .find(|finding| finding["finding"] == kind)
            .cloned();
        others = findings;
        Ok(found)
    });
    let finding = found.with_context(|| format!("found: {others:?}"))?;
    ensure!(finding["netns"] == namespace.inode(), "{finding}");
    for text in ["cause", "next", "severity", "state", "local", "remote"] {
        ensure!(
            finding[text].as_str().is_some_and(|text| !text.is_empty()),
            "no {text}: {finding}"
        );
    }
    let evidence = finding["evidence"].as_array().context("no evidence")?;
    ensure!(!evidence.is_empty(), "{finding}");
    let next = finding["next"].as_str().unwrap_or_default();
    ensure!(next.contains(step(kind)), "{kind} is mended otherwise: {next}");
    Ok(finding)
}

/// What the advice has to say of each kind of finding.
fn step(kind: &str) -> &'static str {
    match kind {
        "syn_unanswered" => "ip route get",
        "syn_ack_unanswered" => "tcp_syncookies",
        "held_by_accept_queue" => "call accept",
        "accept_queue_full" | "accept_queue_filling" => "from calling accept: `strace -fp",
        "data_unacknowledged" | "fin_unacknowledged" => "ss -K dst",
        "zero_window" => "find out why it does not read, `strace -fp",
        "data_unread" => "does not read fd",
        "not_closed" => "has to close fd",
        "half_closed" => "give that a limit",
        "peer_not_closing" => "nothing here",
        "ports_running_out" => "open and use them again",
        "time_wait_full" => "tcp_max_tw_buckets",
        _ => "there is no such kind",
    }
}

/// The text of the evidence.
fn evidence(finding: &Value) -> String {
    let lines = finding["evidence"].as_array().into_iter().flatten();
    lines.filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

fn held_by_this_test(finding: &Value, descriptor: &impl AsRawFd) -> Result<()> {
    ensure!(finding["pid"] == std::process::id(), "another holder: {finding}");
    ensure!(
        finding["fd"] == descriptor.as_raw_fd(),
        "another descriptor: {finding}"
    );
    Ok(())
}

/// For a minute, connections that come, talk and go: none of them is stuck.
fn a_healthy_host() -> Result<()> {
    const LOAD: Duration = Duration::from_mins(1);
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let target = listener.local_addr()?;
    let begun = Instant::now();
    let looks = thread::scope(|scope| -> Result<usize> {
        let server = scope.spawn(|| serve(&listener, begun + LOAD));
        let clients: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| talk(&link.left, target, begun + LOAD)))
            .collect();
        let mut looks = 0;
        while begun.elapsed() < LOAD {
            for namespace in [&link.left, &link.right] {
                let (findings, summary) = stuck(daemon.socket(), &format!("--netns {}", namespace.inode()))?;
                ensure!(findings.is_empty(), "{findings:?} of {summary}");
            }
            looks += 1;
        }
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        // The server waits for one more.
        drop(connect(&link.left, target)?);
        server
            .join()
            .map_err(|_| anyhow::anyhow!("the server panicked"))??;
        Ok(looks)
    })?;
    ensure!(looks > 5, "only {looks} looks in a minute");
    Ok(())
}

/// Answers every byte until the other end closes, one connection after the other.
fn serve(listener: &TcpListener, end: Instant) -> Result<()> {
    while Instant::now() < end {
        let mut stream = accept(listener)?;
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..read]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

fn talk(namespace: &Namespace, target: SocketAddr, end: Instant) -> Result<()> {
    while Instant::now() < end {
        let mut stream = connect(namespace, target)?;
        for _ in 0..20 {
            stream.write_all(&[1; 2000])?;
            stream.read_exact(&mut [0; 2000])?;
            // So much at a time, and no more: the host is to be healthy, not busy.
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

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
    ensure!(finding["service"] == "10.77.0.2:5432", "{finding}");
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
    ensure!(finding["port"] == listener.local_addr()?.port(), "{finding}");
    ensure!(evidence(&finding).contains("SYN-ACK sent"), "{finding}");
    ensure!(
        finding["pid"] == std::process::id() && finding["owner_source"] == "inherited",
        "it is its listener's: {finding}"
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
    ensure!(finding["port"] == listener.local_addr()?.port(), "{finding}");
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

fn data_without_acknowledgement() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let mut client = connect(&link.left, listener.local_addr()?)?;
    let _server = accept(&listener)?;
    link.lose(Way::ToRight)?;
    client.write_all(&[1; 5000])?;
    let finding = find(&daemon, &link.left, "data_unacknowledged", "")?;
    held_by_this_test(&finding, &client)?;
    ensure!(finding["state"] == "ESTABLISHED", "{finding}");
    let shown = evidence(&finding);
    ensure!(
        shown.contains("5000 bytes unacknowledged") && shown.contains("sent again"),
        "{shown}"
    );
    ensure!(shown.contains("gives up after"), "{shown}");
    // It is over when the path is whole again.
    link.restore(Way::ToRight)?;
    wait_for("nothing to be stuck", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &format!("--netns {}", link.left.inode()))?;
        Ok(findings.is_empty().then_some(()))
    })
}

/// Both ends of a connection that one side does not read from: the writer knows of the window, the reader of the data.
fn nobody_reads() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    fill(&mut pair.client)?;
    let reader = find(&daemon, &namespace, "data_unread", "--older 1s")?;
    held_by_this_test(&reader, &pair.server)?;
    ensure!(evidence(&reader).contains("bytes unread"), "{reader}");
    let writer = find(&daemon, &namespace, "zero_window", "--older 1s")?;
    held_by_this_test(&writer, &pair.client)?;
    ensure!(evidence(&writer).contains("wait to be sent"), "{writer}");
    ensure!(
        writer["peer_pid"] == std::process::id(),
        "who does not read: {writer}"
    );
    Ok(())
}

fn nobody_closes() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let mut leaked = Vec::new();
    for _ in 0..7 {
        let client = connect(&namespace, listener.local_addr()?)?;
        let server = accept(&listener)?;
        drop(client);
        wait_for_fin(&server)?;
        leaked.push(server);
    }
    let (findings, _) = stuck(daemon.socket(), &format!("--netns {}", namespace.inode()))?;
    ensure!(
        findings.iter().all(|finding| finding["finding"] != "not_closed"),
        "not for long enough: {findings:?}"
    );
    let finding = find(&daemon, &namespace, "not_closed", "--older 1s")?;
    ensure!(
        finding["state"] == "CLOSE_WAIT" && finding["count"] == 7,
        "{finding}"
    );
    ensure!(finding["recent"] == 7, "all of them came just now: {finding}");
    // The oldest, unless the event of its beginning was lost.
    let oldest = leaked.iter().find(|one| finding["fd"] == one.as_raw_fd());
    let oldest = oldest.with_context(|| format!("another descriptor: {finding}"))?;
    held_by_this_test(&finding, oldest)?;
    ensure!(finding["port"] == listener.local_addr()?.port(), "{finding}");
    let next = finding["next"].as_str().unwrap_or_default();
    ensure!(
        next.contains(&format!("close fd {}", oldest.as_raw_fd())),
        "{next}"
    );
    Ok(())
}

fn a_fin_without_acknowledgement() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let client = connect(&link.left, listener.local_addr()?)?;
    let server = accept(&listener)?;
    client.shutdown(Shutdown::Write)?;
    wait_for_fin(&server)?;
    let other = connect(&link.left, listener.local_addr()?)?;
    let _other_server = accept(&listener)?;
    link.lose(Way::ToLeft)?;
    link.lose(Way::ToRight)?;
    drop(server);
    drop(other);
    let last_ack = find(&daemon, &link.right, "fin_unacknowledged", "")?;
    ensure!(last_ack["state"] == "LAST_ACK", "{last_ack}");
    for finding in [&last_ack, &find(&daemon, &link.left, "fin_unacknowledged", "")?] {
        ensure!(
            finding["pid"] == std::process::id(),
            "who has closed it: {finding}"
        );
    }
    let fin_wait1 = find(&daemon, &link.left, "fin_unacknowledged", "")?;
    ensure!(fin_wait1["state"] == "FIN_WAIT1", "{fin_wait1}");
    ensure!(evidence(&fin_wait1).contains("gives up after"), "{fin_wait1}");
    Ok(())
}

/// One that waits for the other side's FIN with its descriptor open, and one without.
fn a_peer_that_does_not_close() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let held = Pair::new(&namespace, LOOPBACK)?;
    held.client.shutdown(Shutdown::Write)?;
    let orphaned = Pair::new(&namespace, LOOPBACK)?;
    drop(orphaned.client);
    let finding = find(&daemon, &namespace, "half_closed", "--older 1s")?;
    held_by_this_test(&finding, &held.client)?;
    ensure!(finding["state"] == "FIN_WAIT2", "{finding}");
    let finding = find(&daemon, &namespace, "peer_not_closing", "--older 1s")?;
    ensure!(finding["severity"] == "note", "{finding}");
    ensure!(evidence(&finding).contains("forgotten in"), "{finding}");
    Ok(())
}

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
        finding["service"] == "127.0.0.1:8080" && finding["severity"] == "critical",
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

/// The connection is the parent's and the child's: neither alone can close it.
fn several_have_to_close() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .stdin(pair.server.try_clone().map(std::os::fd::OwnedFd::from)?)
        .spawn()?;
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    let found = find(&daemon, &namespace, "not_closed", "--older 1s");
    child.kill()?;
    child.wait()?;
    let finding = found?;
    let holders = finding["owners"].as_array().context("no owners")?;
    let holders: Vec<_> = holders.iter().filter_map(|owner| owner["pid"].as_u64()).collect();
    // The children of tests beside this one hold it too, until they are the programs that they are to be.
    ensure!(
        holders.contains(&child.id().into()) && holders.contains(&std::process::id().into()),
        "{finding}"
    );
    let next = finding["next"].as_str().unwrap_or_default();
    ensure!(next.contains("hold it too") && next.contains("sleep"), "{next}");
    Ok(())
}

/// The peer has only shut down its direction, and gets its answer: CLOSE_WAIT as it should be.
fn one_that_still_sends() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    pair.client.shutdown(Shutdown::Write)?;
    wait_for_fin(&pair.server)?;
    let begun = Instant::now();
    let arguments = format!("--netns {} --older 1500ms", namespace.inode());
    thread::scope(|scope| -> Result<()> {
        let sending = scope.spawn(|| -> Result<()> {
            // Until whoever looks has seen enough, and closes.
            while pair.server.write_all(&[1; 100]).is_ok() && begun.elapsed() < SOON {
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        });
        let looked = wait_for("a look at an old CLOSE_WAIT", SOON, || {
            let (findings, _) = stuck(daemon.socket(), &arguments)?;
            let old = begun.elapsed() > Duration::from_secs(3);
            let left_open = findings.iter().find(|finding| finding["finding"] == "not_closed");
            ensure!(left_open.is_none(), "it still sends: {findings:?}");
            Ok(old.then_some(()))
        });
        // A RST ends the sending.
        pair.client.shutdown(Shutdown::Read)?;
        drop(pair.client);
        sending
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        looked
    })
}

/// It keeps coming, so the last of it is never old; and the window is still open.
fn nobody_reads_what_keeps_coming() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut pair = Pair::new(&namespace, LOOPBACK)?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let finding = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) && pair.client.write_all(b"more").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let finding = find(&daemon, &namespace, "data_unread", "");
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        finding
    })?;
    held_by_this_test(&finding, &pair.server)?;
    let shown = evidence(&finding);
    ensure!(
        shown.contains("nothing read for") && shown.contains("more in"),
        "{shown}"
    );
    ensure!(finding["severity"] == "warning", "{finding}");
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

/// Both FINs cross, and the acknowledgement of one is lost.
fn a_simultaneous_close() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let client = connect(&link.left, listener.local_addr()?)?;
    let server = accept(&listener)?;
    link.lose(Way::ToRight)?;
    drop(client);
    drop(server);
    let finding = find(&daemon, &link.left, "fin_unacknowledged", "")?;
    ensure!(finding["state"] == "CLOSING", "{finding}");
    ensure!(evidence(&finding).contains("gives up after"), "{finding}");
    let next = finding["next"].as_str().unwrap_or_default();
    let enter = format!("ip netns exec {} ss -K dst 10.77.0.2", link.left.name());
    ensure!(next.contains(&enter), "to be run where the socket is: {next}");
    Ok(())
}

fn a_filter_and_an_age() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let port = pair.listener.local_addr()?.port();
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    find(
        &daemon,
        &namespace,
        "not_closed",
        &format!("--older 1s sport {port}"),
    )?;
    let arguments = format!("--netns {}", namespace.inode());
    for none in ["--older 1h", "--older 1s state listening"] {
        let (findings, _) = stuck(daemon.socket(), &format!("{arguments} {none}"))?;
        ensure!(findings.is_empty(), "{none}: {findings:?}");
    }
    let fails = |more: &str| -> Result<Option<i32>> {
        let output = binary::run(daemon.socket(), &format!("stuck --fail {arguments} {more}"))?;
        Ok(output.status.code())
    };
    ensure!(fails("--older 1s")? == Some(1), "--fail with findings");
    ensure!(fails("--older 1h")? == Some(0), "--fail without findings");
    ensure!(fails("--older 1s --severity warning")? == Some(1), "a warning");
    ensure!(
        fails("--older 1s --severity critical")? == Some(0),
        "not critical"
    );
    // A port that nobody has is no good news.
    let output = binary::run(daemon.socket(), &format!("stuck {arguments} port 1"))?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.starts_with("No socket matches `port 1`: there are 3."),
        "{text}"
    );
    // As a person sees it.
    let output = binary::run(daemon.socket(), &format!("stuck {arguments} --older 1s"))?;
    let text = String::from_utf8(output.stdout)?;
    for part in ["WARNING", "CLOSE_WAIT", "why", "evidence", "next", "finding(s)"] {
        ensure!(text.contains(part), "no {part}: {text}");
    }
    let output = binary::run(daemon.socket(), &format!("stuck {arguments} --older 1h"))?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.starts_with("Nothing is stuck: 3 sockets"), "{text}");
    let rounds = binary::run(
        daemon.socket(),
        &format!("stuck {arguments} --watch --count 2 --json --older 1h"),
    )?;
    ensure!(
        String::from_utf8(rounds.stdout)?.lines().count() == 2,
        "two rounds of nothing"
    );
    Ok(())
}

/// Without a daemon nobody has seen when it began; the kernel's figures still tell.
fn without_a_daemon() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let socket = directory.path().join("none.sock");
    let pair = Pair::new(&namespace, LOOPBACK)?;
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    let arguments = format!("--netns {} --older 1s", namespace.inode());
    let finding = wait_for("CLOSE_WAIT to be found", SOON, || {
        let (findings, _) = stuck(&socket, &arguments)?;
        Ok(findings
            .into_iter()
            .find(|finding| finding["finding"] == "not_closed"))
    })?;
    held_by_this_test(&finding, &pair.server)?;
    let output = binary::run(&socket, &format!("stuck {arguments}"))?;
    ensure!(
        String::from_utf8_lossy(&output.stderr).contains("no daemon"),
        "{output:?}"
    );
    Ok(())
}

fn bad_usage() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("none.sock");
    for arguments in [
        "--older 2",
        "--older soon",
        "--count 3",
        "--severity bad",
        "state nonsense",
    ] {
        let output = binary::run(&socket, &format!("stuck {arguments}"))?;
        ensure!(output.status.code() == Some(2), "{arguments}: {output:?}");
    }
    Ok(())
}
