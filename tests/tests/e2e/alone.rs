//! `watch` and `list` without a daemon.

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use anyhow::{Result, ensure};
use netstat_tests::{
    Namespace, Watch, binary,
    daemon::{STOP, directory},
    process, snapshot,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    wait::{SOON, wait_for},
};
use rustix::process::Signal;

crate::tests![
    watch_alone,
    watch_ends_on_signals,
    list_alone,
    a_closed_pipe_is_no_error
];

fn watch_alone() -> Result<()> {
    let directory = directory()?;
    let watch = Watch::start(&directory.path().join("absent.sock"))?;
    let namespace = Namespace::new()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    let path = [
        "CLOSE",
        "SYN_SENT",
        "ESTABLISHED",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
    ];
    let path = watch.wait_for_path(near, &path)?;
    ensure!(
        path.iter().all(|seen| seen.netns == namespace.inode()),
        "of another namespace: {path:#?}"
    );
    Ok(())
}

fn watch_ends_on_signals() -> Result<()> {
    let directory = directory()?;
    for signal in [Signal::INT, Signal::TERM] {
        let mut watch = Watch::start(&directory.path().join("absent.sock"))?;
        watch.signal(signal)?;
        let status = watch.wait_for_end(STOP)?;
        ensure!(status.success(), "after {signal:?}: {status}");
    }
    Ok(())
}

fn list_alone() -> Result<()> {
    let directory = directory()?;
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let absent = directory.path().join("absent.sock");
    let rows = snapshot::agreement_at_once(&namespace, &absent)?;
    ensure!(rows.len() == 3, "a listener and two ends, but {rows:?}");
    ensure!(
        rows.iter().all(|row| row.at_least),
        "one look cannot tell an age: {rows:?}"
    );
    let (near, own) = (cookie(&pair.client)?, std::process::id());
    wait_for("the client's end to be shown as this process's", SOON, || {
        let rows = snapshot::list(&namespace, &absent)?;
        Ok(rows
            .iter()
            .any(|row| row.cookie == near && row.pid == Some(own))
            .then_some(()))
    })
}

/// As with `netstate watch | head -1`.
fn a_closed_pipe_is_no_error() -> Result<()> {
    let directory = directory()?;
    let stderr = directory.path().join("stderr");
    let mut command = binary::netstate(&directory.path().join("absent.sock"))?;
    command.args(["watch", "--netns", "all"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&stderr)?);
    let mut child = command.spawn()?;
    let ended = wait_for("netstate watch to be ready", Duration::from_secs(30), || {
        Ok(fs::read_to_string(&stderr)?.contains("tracing").then_some(()))
    })
    .and_then(|()| {
        drop(child.stdout.take());
        let namespace = Namespace::new()?;
        let _pair = Pair::new(&namespace, LOOPBACK)?;
        process::wait_for_end(&mut child, "netstate watch", SOON)
    });
    process::end(&mut child, "netstate watch");
    let status = ended?;
    let said = fs::read_to_string(&stderr)?;
    ensure!(
        status.success(),
        "a closed pipe made it exit with {status}: {said}"
    );
    ensure!(said.lines().count() == 1, "a closed pipe made it say {said}");
    Ok(())
}
