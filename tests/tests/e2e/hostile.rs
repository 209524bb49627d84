//! Clients and servers that do not speak the protocol.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    process::Stdio,
    thread,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::directory,
    process,
    sockets::{LOOPBACK, Pair, cookie},
    wait::{SOON, patient},
};

crate::tests![
    malformed_frames,
    malformed_questions,
    another_version,
    half_a_frame,
    many_silent_clients,
    a_server_that_is_not_netstate
];

/// What no client of ours would send.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = vec![0, 0, 4, 0];
    noise.extend((0..1024_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]));
    vec![
        ("a frame of 4 GiB", vec![0xff; 64]),
        (
            "a frame of 2 GiB",
            [&0x7fff_ffff_u32.to_be_bytes()[..], &[0; 64]].concat(),
        ),
        ("an empty frame", vec![0; 4]),
        ("noise in a frame", noise),
        (
            "HTTP",
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
    ]
}

/// Reads until the daemon hangs up.
fn is_dropped(mut stream: &UnixStream, what: &str) -> Result<()> {
    stream.set_read_timeout(Some(patient(SOON)))?;
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{what}: the client was not dropped")),
    }
}

fn malformed_frames() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    for (what, bytes) in nonsense() {
        let mut stream = UnixStream::connect(daemon.socket())?;
        // The daemon may hang up before it has read everything.
        let _ = stream.write_all(&bytes);
        is_dropped(&stream, what)?;
        ensure!(
            daemon.answers()?,
            "{what}: the daemon does not answer any more; {}",
            daemon.log()
        );
    }
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&pair.client)?;
    watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    daemon.agrees(&namespace)?;
    Ok(())
}

/// Length of a greeting's frame: four bytes of length, `netstate`, two bytes of version.
const GREETING: usize = 4 + 8 + 2;

/// A client that has greeted as it was greeted, so that what it says next is taken for a question.
fn greeted(daemon: &Daemon) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(patient(SOON)))?;
    let mut greeting = [0; GREETING];
    stream
        .read_exact(&mut greeting)
        .context("the daemon does not greet")?;
    stream.write_all(&greeting)?;
    Ok(stream)
}

fn malformed_questions() -> Result<()> {
    let daemon = Daemon::start()?;
    for (what, bytes) in nonsense() {
        let mut stream = greeted(&daemon)?;
        let _ = stream.write_all(&bytes);
        is_dropped(&stream, what)?;
        ensure!(
            daemon.answers()?,
            "{what}: the daemon does not answer any more; {}",
            daemon.log()
        );
    }
    Ok(())
}

/// Two releases that do not fit say so, whichever is the older.
fn another_version() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut stream = UnixStream::connect(daemon.socket())?;
    let mut greeting = [0; GREETING];
    stream.set_read_timeout(Some(patient(SOON)))?;
    stream
        .read_exact(&mut greeting)
        .context("the daemon does not greet")?;
    greeting[GREETING - 1] ^= 0x40;
    stream.write_all(&greeting)?;
    is_dropped(&stream, "another version")?;
    ensure!(
        daemon.answers()?,
        "the daemon does not answer any more; {}",
        daemon.log()
    );
    for command in ["stats", "list -an", "watch"] {
        let said = client_gives_up(command, greeting.to_vec())?;
        ensure!(said.contains("version"), "{command}: does not say why: {said}");
    }
    Ok(())
}

fn half_a_frame() -> Result<()> {
    let daemon = Daemon::start()?;
    for length in 1..8 {
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.write_all(&[0, 0, 0, 200, 1, 2, 3, 4][..length])?;
        drop(stream);
    }
    ensure!(
        daemon.answers()?,
        "the daemon does not answer any more; {}",
        daemon.log()
    );
    Ok(())
}

fn many_silent_clients() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let silent: Vec<UnixStream> = (0..200)
        .map(|_| UnixStream::connect(daemon.socket()))
        .collect::<Result<_, _>>()?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    daemon.agrees(&namespace)?;
    drop(silent);
    ensure!(
        daemon.answers()?,
        "the daemon does not answer any more; {}",
        daemon.log()
    );
    Ok(())
}

fn a_server_that_is_not_netstate() -> Result<()> {
    for (what, bytes) in nonsense() {
        for command in ["stats", "list -an"] {
            client_gives_up(command, bytes.clone())
                .with_context(|| format!("{command}, answered by {what}"))?;
        }
    }
    Ok(())
}

/// Lets `netstate` ask a server that has only this answer: it must neither hang on it nor believe it. Returns
/// its stderr.
fn client_gives_up(command: &str, answer: Vec<u8>) -> Result<String> {
    let directory = directory()?;
    let socket = directory.path().join("other.sock");
    let listener = UnixListener::bind(&socket)?;
    let mut client = binary::netstate(&socket)?;
    client
        .args(command.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut client = client.spawn()?;
    let server = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        // The client may hang up before it has read everything.
        let _ = stream.write_all(&answer);
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    });
    let status = process::wait_for_end(&mut client, "netstate", SOON);
    process::end(&mut client, "netstate");
    // Wakes the server up if the client never came.
    let _ = UnixStream::connect(&socket);
    server.join().expect("the server panicked")?;
    let mut said = String::new();
    client
        .stderr
        .take()
        .context("no stderr")?
        .read_to_string(&mut said)?;
    let status = status?;
    ensure!(status.code() == Some(1), "{status}: {said}");
    ensure!(said.contains("other.sock"), "does not name the socket: {said}");
    Ok(said)
}
