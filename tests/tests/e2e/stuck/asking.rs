//! What is asked of it, and a host on which nothing is stuck.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, binary,
    daemon::directory,
    sockets::{LOOPBACK, Pair, accept, connect, listen, wait_for_fin},
    wait::{SOON, wait_for},
};

use super::{find, held_by_this_test, stuck};

crate::tests![a_healthy_host, a_filter_and_an_age, without_a_daemon, bad_usage,];

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
    for part in ["WARNING", "CLOSE_WAIT", "why", "evidence", "next", " finding"] {
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
