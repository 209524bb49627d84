//! The query socket as a file: whose it is, and who may have it.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::{STOP, directory, spawn_printing, wait_until_it_answers},
    process,
    sockets::{LOOPBACK, Pair},
    wait::wait_for,
};
use rustix::process::Signal;

crate::tests![
    a_living_socket_is_not_replaced,
    nobody_else_can_lock_it,
    stops_although_nobody_reads_its_lines,
];

fn a_living_socket_is_not_replaced() -> Result<()> {
    let directory = directory()?;
    let path = directory.path().join("other.sock");
    let other = UnixListener::bind(&path)?;
    let output = binary::run(&path, "daemon --quiet")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains("another program listens"), "{said}");
    let _client = UnixStream::connect(&path).context("the other program's socket is gone")?;
    drop(other);
    Ok(())
}

fn nobody_else_can_lock_it() -> Result<()> {
    let daemon = Daemon::start()?;
    let lock = daemon.socket().with_file_name("netstate.sock.lock");
    let mode = fs::metadata(&lock)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the lock's mode is {mode:o}");
    Ok(())
}

/// Its output is a pipe that is full.
fn stops_although_nobody_reads_its_lines() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let mut child = spawn_printing(&socket, &[], Stdio::piped())?;
    let _unread = child.stdout.take().context("no stdout")?;
    let ended = wait_until_it_answers(&socket).and_then(|()| {
        // More lines than a pipe takes.
        for _ in 0..200 {
            drop(Pair::new(&namespace, LOOPBACK)?);
        }
        process::signal(&child, Signal::TERM)?;
        wait_for("the daemon to stop", STOP, || Ok(child.try_wait()?))
    });
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let status = ended?;
    ensure!(status.success(), "{status}");
    ensure!(!socket.exists(), "its socket is still there");
    Ok(())
}
