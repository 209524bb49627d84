//! The life of a daemon.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    process::Stdio,
    sync::mpsc::channel,
    thread,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::{directory, spawn_printing, wait_until_it_answers},
    process, snapshot,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    wait::SOON,
};
use rustix::process::{Signal, getpriority_process};

crate::tests![
    signals_stop_it,
    a_busy_daemon_stops_too,
    restart,
    stale_socket_is_replaced,
    other_files_are_not_replaced,
    second_daemon_is_refused,
    socket_is_private,
    prints_unless_quiet,
    without_the_right_to_precedence,
    goes_on_without_its_reader,
];

fn signals_stop_it() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let directory = directory()?;
        let socket = directory.path().join("netstate.sock");
        let daemon = Daemon::start_at(&socket)?;
        let status = daemon.stop(signal)?;
        ensure!(status.success(), "after {signal:?}: {status}");
        ensure!(!socket.exists(), "after {signal:?} the socket is still there");
    }
    Ok(())
}

/// Neither subscribers nor half a question keep it.
fn a_busy_daemon_stops_too() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut reading = daemon.watch()?;
    let stopped = daemon.watch()?;
    stopped.signal(Signal::STOP)?;
    let _silent = std::os::unix::net::UnixStream::connect(daemon.socket())?;
    let status = daemon.stop(Signal::TERM)?;
    ensure!(status.success(), "with clients connected: {status}");
    let status = reading
        .wait_for_end(SOON)
        .context("its subscriber goes on without it")?;
    ensure!(
        status.code() == Some(1),
        "a subscriber that lost its daemon: {status}, {:?}",
        reading.stderr()
    );
    Ok(())
}

fn restart() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let daemon = Daemon::start_at(&socket)?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let _open = Pair::new(&namespace, LOOPBACK)?;
    daemon.agrees(&namespace)?;
    daemon.stop(Signal::TERM)?;
    let closed = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    let daemon = Daemon::start_at(&socket)?;
    let rows = daemon.agrees(&namespace)?;
    let row = rows
        .iter()
        .find(|row| row.cookie == closed)
        .context("what closed meanwhile is not there")?;
    ensure!(
        row.state == "TIME_WAIT" && row.at_least,
        "closed between two daemons: {row:?}"
    );
    Ok(())
}

fn stale_socket_is_replaced() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    Daemon::start_at(&socket)?.kill()?;
    ensure!(socket.exists(), "a killed daemon cannot remove its socket");
    let daemon = Daemon::start_at(&socket)?;
    ensure!(
        daemon.stop(Signal::TERM)?.success(),
        "the next daemon does not stop cleanly"
    );
    ensure!(!socket.exists(), "the next daemon does not remove its socket");
    Ok(())
}

/// A path given by mistake must not cost anyone a file.
fn other_files_are_not_replaced() -> Result<()> {
    let directory = directory()?;
    let precious = directory.path().join("precious");
    fs::write(&precious, "data")?;
    let output = binary::run(&precious, "daemon --quiet")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1),
        "on a regular file: {}: {said}",
        output.status
    );
    ensure!(said.contains("precious"), "does not name the file: {said}");
    ensure!(fs::read_to_string(&precious)? == "data", "the file is lost");
    Ok(())
}

fn second_daemon_is_refused() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let output = binary::run(daemon.socket(), "daemon --quiet")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1),
        "a second daemon: {}: {said}",
        output.status
    );
    let path = daemon.socket().display().to_string();
    ensure!(said.contains(&path), "does not name {path}: {said}");
    ensure!(
        said.contains("already") || said.contains("in use"),
        "does not say why: {said}"
    );
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    ensure!(
        daemon.agrees(&namespace)?.len() == 3,
        "the first daemon does not go on"
    );
    Ok(())
}

fn socket_is_private() -> Result<()> {
    let directory = directory()?;
    let folder = directory.path().join("made/by/netstate");
    let daemon = Daemon::start_at(&folder.join("netstate.sock"))?;
    let metadata = fs::metadata(daemon.socket())?;
    ensure!(metadata.file_type().is_socket(), "not a socket");
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "the socket's mode is {mode:o}");
    let mode = fs::metadata(&folder)?.permissions().mode() & 0o777;
    ensure!(
        mode & 0o022 == 0,
        "others can replace the socket: the directory's mode is {mode:o}"
    );
    Ok(())
}

fn prints_unless_quiet() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let mut child = spawn_printing(&socket, &[], Stdio::piped())?;
    let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let (tell, told) = channel();
    thread::spawn(move || {
        stdout
            .lines()
            .map_while(Result::ok)
            .all(|line| tell.send(line).is_ok())
    });
    let printed = wait_until_it_answers(&socket).and_then(|()| {
        let pair = Pair::new(&namespace, LOOPBACK)?;
        let port = format!(":{}", pair.client.local_addr()?.port());
        netstat_tests::wait::wait_for("the daemon to print SYN_SENT → ESTABLISHED", SOON, || {
            let mut lines = told.try_iter();
            Ok(lines.find(|line| line.contains(&port) && line.contains("SYN_SENT → ESTABLISHED")))
        })
    });
    process::end(&mut child, "netstate daemon");
    let line = printed?;
    ensure!(
        !line.contains('\u{1b}'),
        "colour on what is no terminal: {line:?}"
    );
    Ok(())
}

/// Whoever read its lines may leave: the table and its clients stay.
fn goes_on_without_its_reader() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let mut child = spawn_printing(&socket, &[], Stdio::piped())?;
    drop(child.stdout.take());
    let agreed = wait_until_it_answers(&socket).and_then(|()| {
        let first = Pair::new(&namespace, LOOPBACK)?;
        snapshot::agreement(&namespace, &socket, SOON)?;
        let second = Pair::new(&namespace, LOOPBACK)?;
        let rows = snapshot::agreement(&namespace, &socket, SOON)?;
        drop((first, second));
        Ok(rows)
    });
    process::end(&mut child, "netstate daemon");
    let rows = agreed?;
    ensure!(rows.len() == 6, "two listeners with two ends each, but {rows:?}");
    Ok(())
}

/// It traces all the same, with the nice value that it was started with, and says why the ring's reader has no precedence.
fn without_the_right_to_precedence() -> Result<()> {
    // RLIMIT_NICE permits what the capability would.
    let without = ["prlimit", "--nice=0:0", "setpriv", "--bounding-set", "-sys_nice"];
    for added in ["0", "5"] {
        let nice = ["nice", "-n", added];
        let daemon = Daemon::start_through(&[&nice[..], &without].concat())?;
        let own = getpriority_process(None)?;
        let expected = added.parse::<i32>()?.saturating_add(own).min(19);
        let stats = daemon.stats()?;
        let why = stats["nice_refused"].as_str().unwrap_or_default();
        ensure!(
            stats["nice"] == expected && why.contains("CAP_SYS_NICE"),
            "nice {expected}: {stats}"
        );
        let namespace = Namespace::new()?;
        let _pair = Pair::new(&namespace, LOOPBACK)?;
        daemon.agrees(&namespace)?;
        let text = binary::run(daemon.socket(), "stats")?;
        let text = String::from_utf8(text.stdout)?;
        let said = format!("read at nice {expected} (the ring is read without precedence");
        ensure!(text.contains(&said), "{text}");
    }
    Ok(())
}
