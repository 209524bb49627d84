//! Connections whose data does not arrive, or is not read.

use std::{io::Write, thread, time::Duration};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace,
    link::Way,
    sockets::{LOOPBACK, Pair, accept, connect, fill, listen},
    wait::{SOON, wait_for},
};

use super::{evidence, find, held_by_this_test, stuck};

crate::tests![
    data_without_acknowledgement,
    nobody_reads,
    nobody_reads_what_keeps_coming,
];

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
