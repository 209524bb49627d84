//! A daemon that runs out of something: descriptors, room for its output, places for clients.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::{directory, wait_until_it_answers},
    process, snapshot,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    traffic::come_and_go,
    wait::{SOON, wait_for},
};
use netstate::{
    protocol::{self, Question},
    view::WatchQuery,
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

crate::tests![
    out_of_descriptors,
    nowhere_to_print,
    clients_by_the_thousand,
    readers_by_the_hundred,
];

fn descriptors(pid: u32) -> Result<u64> {
    Ok(u64::try_from(fs::read_dir(format!("/proc/{pid}/fd"))?.count())?)
}

/// A frame behind its length.
fn framed(frame: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(frame.len())?.to_be_bytes();
    Ok([&length, frame].concat())
}

fn limit_descriptors(daemon: &Daemon, limit: u64) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(daemon.pid())?).context("no process")?;
    let limits = Rlimit {
        current: Some(limit),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limits).context("cannot set a limit on descriptors")?;
    Ok(())
}

fn out_of_descriptors() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let older = Pair::new(&namespace, LOOPBACK)?;
    daemon.agrees(&namespace)?;
    // Those that a sweep or scan has open for a moment are not counted.
    let looks: Vec<u64> = (0..10)
        .map(|_| descriptors(daemon.pid()))
        .collect::<Result<_>>()?;
    limit_descriptors(&daemon, looks.into_iter().min().context("no look")?)?;
    let mut refused = UnixStream::connect(daemon.socket())?;
    // It goes on tracing, and does not take what it cannot look at for gone.
    let younger = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&younger.client)?;
    watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    drop(younger.client);
    wait_for_fin(&younger.server)?;
    drop(younger.server);
    watch.wait("TIME_WAIT", |seen| seen.cookie == near && seen.to == "TIME_WAIT")?;
    wait_for("the daemon to say so", SOON, || {
        Ok(daemon.log().contains("Too many open files").then_some(()))
    })?;
    // Longer than it waits between two attempts, many times over.
    let ended = watch.wait_within(Duration::from_secs(6), "an end", |seen| {
        seen.to == "CLOSE" && seen.cookie == near
    });
    ensure!(ended.is_err(), "the minisock is there, but {ended:?}");
    let log = daemon.log();
    ensure!(log.lines().count() <= 6, "it says so again and again: {log}");
    limit_descriptors(&daemon, 1024)?;
    refused.set_read_timeout(Some(SOON))?;
    refused
        .read_exact(&mut [0; 4])
        .context("a client that waited is not served")?;
    let rows = daemon.agrees(&namespace)?;
    for known in [near, cookie(&older.client)?, cookie(&older.server)?] {
        ensure!(
            rows.iter().any(|row| row.cookie == known),
            "{known} is not in {rows:#?}"
        );
    }
    Ok(())
}

/// Its lines go to a disk that is full.
fn nowhere_to_print() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let stderr = directory.path().join("stderr");
    let mut command = binary::netstate(&socket)?;
    command
        .args(["daemon"])
        .stdin(Stdio::null())
        .stdout(fs::File::options().write(true).open("/dev/full")?)
        .stderr(fs::File::create(&stderr)?);
    let mut child = command.spawn().context("cannot start netstate daemon")?;
    let agreed = wait_until_it_answers(&socket).and_then(|()| {
        let first = Pair::new(&namespace, LOOPBACK)?;
        snapshot::agreement(&namespace, &socket, SOON)?;
        come_and_go(&namespace, 100)?;
        let second = Pair::new(&namespace, LOOPBACK)?;
        let rows = snapshot::agreement(&namespace, &socket, SOON)?;
        drop((first, second));
        Ok(rows)
    });
    process::end(&mut child, "netstate daemon");
    let said = fs::read_to_string(&stderr)?;
    let rows = agreed.with_context(|| said.clone())?;
    ensure!(rows.len() == 6, "two listeners with two ends each, but {rows:?}");
    ensure!(
        said.matches("No space left").count() == 1,
        "not said once: {said}"
    );
    Ok(())
}

/// More than any daemon serves at once.
const CLIENTS: usize = 3000;
/// A daemon with a small table takes some 80 MiB, most of them for reading the kernel's BTF at its start.
const MEMORY: u64 = 256 << 20;

fn clients_by_the_thousand() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    let before = process::memory(daemon.pid())?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = UnixStream::connect(daemon.socket())?;
        let begun = match number % 3 {
            // Says nothing.
            0 => Ok(()),
            // Half a frame, of the longest that is taken.
            1 => client.write_all(&[&4096_u32.to_be_bytes()[..], &[0; 2000]].concat()),
            // A greeting, and then nothing.
            _ => client.write_all(&framed(&protocol::greeting())?),
        };
        if let Err(error) = begun
            && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            bail!(error);
        }
        clients.push(client);
        if number % 500 == 0 {
            ensure!(daemon.answers()?, "with {number} clients it does not answer");
        }
    }
    let rows = daemon.agrees(&namespace)?;
    ensure!(rows.len() == 3, "{rows:?}");
    let (held, used) = (descriptors(daemon.pid())?, process::memory(daemon.pid())?);
    println!("{held} descriptors; {before} bytes before, {used} with {CLIENTS} clients");
    ensure!(held < 400, "{held} descriptors with {CLIENTS} clients");
    ensure!(used < MEMORY, "{used} bytes with {CLIENTS} clients");
    let young = Pair::new(&namespace, LOOPBACK)?;
    watch.wait_for_path(cookie(&young.client)?, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    drop(clients);
    ensure!(daemon.answers()?, "it does not answer any more; {}", daemon.log());
    Ok(())
}

/// Clients that ask, and do not read the answer: neither memory nor the others suffer, and who finds no place is
/// told.
fn readers_by_the_hundred() -> Result<()> {
    /// More than may watch, and more than are served at once.
    const READERS: usize = 300;
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut clients = Vec::new();
    let mut refused = String::new();
    for _ in 0..READERS {
        let mut client = UnixStream::connect(daemon.socket())?;
        for frame in [
            protocol::greeting(),
            protocol::encode(&Question::Watch(WatchQuery::default()))?,
        ] {
            let _ = client.write_all(&framed(&frame)?);
        }
        clients.push(client);
    }
    for client in &mut clients {
        client.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut answer = [0; 512];
        let mut text = Vec::new();
        while let Ok(read @ 1..) = client.read(&mut answer) {
            text.extend_from_slice(&answer[..read]);
        }
        let text = String::from_utf8_lossy(&text);
        if text.contains("watch already") {
            refused = text.into_owned();
        }
    }
    ensure!(
        !refused.is_empty(),
        "{READERS} watch, and none was told that there is no place"
    );
    come_and_go(&namespace, 1000)?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    daemon.agrees(&namespace)?;
    let used = process::memory(daemon.pid())?;
    println!("{used} bytes with readers that do not read");
    ensure!(used < MEMORY, "{used} bytes with readers that do not read");
    let output = binary::run(daemon.socket(), "watch")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && said.contains("watch already"),
        "one watcher too many: {}: {said}",
        output.status
    );
    Ok(())
}
