//! Connections that do not end.

use std::{
    io::Write,
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    link::Way,
    snapshot::{list, ss_matching},
    sockets::{LOOPBACK, Pair, accept, connect, listen, wait_for_fin},
    wait::{SOON, wait_for},
};
use rustix::fd::AsRawFd;

use super::{evidence, find, held_by_this_test, stuck};

crate::tests![
    nobody_closes,
    several_have_to_close,
    one_that_still_sends,
    a_fin_without_acknowledgement,
    a_simultaneous_close,
    a_peer_that_does_not_close,
];

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
    ensure!(
        finding["service_port"] == listener.local_addr()?.port(),
        "{finding}"
    );
    let next = finding["next"].as_str().unwrap_or_default();
    ensure!(
        next.contains(&format!("close fd {}", oldest.as_raw_fd())),
        "{next}"
    );
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
    // A look at all holders, us among them.
    for namespace in [&link.left, &link.right] {
        list(namespace, daemon.socket())?;
    }
    link.lose(Way::ToLeft)?;
    link.lose(Way::ToRight)?;
    drop(server);
    drop(other);
    let last_ack = find(&daemon, &link.right, "fin_unacknowledged", "")?;
    ensure!(last_ack["state"] == "LAST_ACK", "{last_ack}");
    for finding in [&last_ack, &find(&daemon, &link.left, "fin_unacknowledged", "")?] {
        // Another test may be starting a program: between `fork` and `exec` that has all of our descriptors, and is the
        // one that closes the socket then.
        let owners = finding["owners"].as_array().context("no owners")?;
        ensure!(
            owners.iter().any(|owner| owner["pid"] == std::process::id()),
            "who has closed it: {finding}"
        );
    }
    let fin_wait1 = find(&daemon, &link.left, "fin_unacknowledged", "")?;
    ensure!(fin_wait1["state"] == "FIN_WAIT1", "{fin_wait1}");
    ensure!(evidence(&fin_wait1).contains("gives up after"), "{fin_wait1}");
    Ok(())
}

/// Waits until a socket of `namespace` is in a state that closing it brings. Another test may be starting a program: between
/// `fork` and `exec` that has all of our descriptors, and closes with its `exec` what we have closed before.
fn is_closing(namespace: &Namespace, state: &str) -> Result<()> {
    wait_for(&format!("a socket in {state}"), SOON, || {
        let found = ss_matching(namespace, &format!("state {state}"))?;
        Ok((!found.is_empty()).then_some(()))
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
    is_closing(&link.left, "fin-wait-1")?;
    drop(server);
    let finding = find(&daemon, &link.left, "fin_unacknowledged", "")?;
    ensure!(finding["state"] == "CLOSING", "{finding}");
    ensure!(evidence(&finding).contains("gives up after"), "{finding}");
    let next = finding["next"].as_str().unwrap_or_default();
    let enter = format!("ip netns exec {} ss -K dst 10.77.0.2", link.left.name());
    ensure!(next.contains(&enter), "to be run where the socket is: {next}");
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
