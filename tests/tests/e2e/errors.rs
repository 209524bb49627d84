//! What goes wrong is said, with what to do, and nothing else is.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::directory,
    sockets::{LOOPBACK, listen},
};
use tempfile::TempDir;

crate::tests![
    tracing_not_permitted,
    socket_not_permitted,
    wrong_usage,
    no_daemon,
    not_a_socket,
    no_such_namespace,
    socket_cannot_be_made,
    doctor_finds_nothing,
    stats_are_shown,
    output_cannot_be_written,
];

/// `nobody`, on every Linux.
const NOBODY: u32 = 65_534;

/// A failure as promised: status 1, a message that holds all of `expected`, no panic.
fn fails(output: &Output, what: &str, expected: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1),
        "{what}: {}, not 1: {said}",
        output.status
    );
    for part in expected {
        ensure!(
            said.contains(part),
            "{what}: the message does not say {part:?}: {said}"
        );
    }
    for noise in ["panicked", "backtrace", "RUST_"] {
        ensure!(!said.contains(noise), "{what}: {said}");
    }
    Ok(())
}

/// `netstate` where nobody can start it, and as nobody.
fn as_nobody(directory: &TempDir, socket: &Path, arguments: &str) -> Result<Command> {
    let copy = directory.path().join("netstate");
    if !copy.exists() {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        // Not by this process: a child that another test starts meanwhile would hold the copy open for
        // writing, and what is open for writing cannot be executed.
        let copied = Command::new("cp").arg(binary::path()?).arg(&copy).status()?;
        ensure!(copied.success(), "cp: {copied}");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new(copy);
    command.env_remove("NETSTATE_SOCKET").uid(NOBODY).gid(NOBODY);
    command
        .arg("--socket")
        .arg(socket)
        .args(arguments.split_whitespace());
    Ok(command)
}

fn tracing_not_permitted() -> Result<()> {
    let directory = directory()?;
    let own = directory.path().join("own");
    fs::create_dir(&own)?;
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY))?;
    let socket = own.join("netstate.sock");
    for arguments in ["list -an", "watch", "daemon --quiet"] {
        let output = as_nobody(&directory, &socket, arguments)?.output()?;
        fails(&output, arguments, &["sudo", "cap_bpf"])?;
        ensure!(output.stdout.is_empty(), "{arguments}: half an answer");
        ensure!(!socket.exists(), "{arguments}: a socket is left");
    }
    Ok(())
}

fn socket_not_permitted() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let daemon = Daemon::start_at(&socket)?;
    for arguments in ["stats", "list -an", "watch"] {
        let output = as_nobody(&directory, daemon.socket(), arguments)?.output()?;
        fails(&output, arguments, &[&socket.display().to_string(), "permitted"])?;
    }
    Ok(())
}

fn wrong_usage() -> Result<()> {
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    for arguments in [
        "list --no-such-flag",
        "list -Z",
        "no-such-command",
        "watch --netns",
        "stats extra",
        "",
    ] {
        let output = binary::run(&absent, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2),
            "netstate {arguments}: {}, not 2: {said}",
            output.status
        );
        ensure!(
            said.contains("--help"),
            "netstate {arguments}: does not say where to read on: {said}"
        );
        ensure!(
            output.stdout.is_empty(),
            "netstate {arguments}: usage belongs on stderr"
        );
    }
    for arguments in ["--help", "--version", "list --help"] {
        let output = binary::run(&absent, arguments)?;
        ensure!(
            output.status.success() && !output.stdout.is_empty(),
            "netstate {arguments}: {output:?}"
        );
    }
    Ok(())
}

fn no_daemon() -> Result<()> {
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    let path = absent.display().to_string();
    fails(
        &binary::run(&absent, "stats")?,
        "stats",
        &[&path, "netstate daemon"],
    )
}

/// A path that is not a socket's is a mistake, and no reason to do without a daemon.
fn not_a_socket() -> Result<()> {
    let directory = directory()?;
    let file = directory.path().join("file");
    fs::write(&file, "")?;
    let long = directory.path().join("long".repeat(40));
    for (path, expected) in [(&file, "something else"), (&long, "SUN_LEN")] {
        for arguments in ["list", "watch", "stats", "verify"] {
            let output = binary::run(path, arguments)?;
            fails(&output, arguments, &[expected, "--socket"])?;
        }
    }
    Ok(())
}

fn no_such_namespace() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let alone = directory()?;
    for socket in [daemon.socket(), &alone.path().join("absent.sock")] {
        for command in ["list -an", "watch"] {
            let output = binary::run(socket, &format!("{command} --netns no-such-namespace"))?;
            fails(&output, command, &["no-such-namespace", namespace.name()])?;
            // No namespace has this number: they begin at PROC_DYNAMIC_FIRST.
            let output = binary::run(socket, &format!("{command} --netns 4711"))?;
            fails(&output, command, &["4711", "there are 40265"])?;
            for path in ["/no/such/path", "/dev/null"] {
                let output = binary::run(socket, &format!("{command} --netns {path}"))?;
                fails(&output, command, &[path])?;
            }
        }
    }
    Ok(())
}

fn socket_cannot_be_made() -> Result<()> {
    let directory = directory()?;
    let file = directory.path().join("file");
    fs::write(&file, "")?;
    let inside = file.join("netstate.sock");
    fails(
        &binary::run(&inside, "daemon --quiet")?,
        "below a file",
        &[&file.display().to_string()],
    )?;
    let long = directory.path().join("x".repeat(150));
    fails(
        &binary::run(&long, "daemon --quiet")?,
        "a path too long",
        &["xxx"],
    )
}

fn doctor_finds_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let output = binary::run(daemon.socket(), "doctor")?;
    ensure!(output.status.success(), "doctor, where all tests run: {output:?}");
    let output = binary::run(daemon.socket(), "doctor --json")?;
    let parsed: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect();
    ensure!(
        parsed.is_ok_and(|found| !found.is_empty()),
        "not JSON: {output:?}"
    );
    let directory = directory()?;
    let output = as_nobody(&directory, daemon.socket(), "doctor")?.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1) && said.contains("CAP_BPF"),
        "doctor, as nobody: {output:?}"
    );
    Ok(())
}

fn stats_are_shown() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = netstat_tests::sockets::Pair::new(&namespace, netstat_tests::sockets::LOOPBACK)?;
    daemon.agrees(&namespace)?;
    let output = binary::run(daemon.socket(), "stats --json")?;
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(stats.is_object(), "not an object: {stats}");
    let text = binary::run(daemon.socket(), "stats")?;
    ensure!(
        text.status.success() && !text.stdout.is_empty(),
        "no text: {text:?}"
    );
    drop(pair);
    Ok(())
}

fn output_cannot_be_written() -> Result<()> {
    let namespace = Namespace::new()?;
    // Where there is nothing to print, nothing fails.
    let _listener = listen(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    for arguments in ["list -an", "list -an --json", "stats", "stats --json", "doctor"] {
        let mut command = binary::netstate(daemon.socket())?;
        command
            .args(arguments.split_whitespace())
            .stdout(fs::File::options().write(true).open("/dev/full")?);
        fails(
            &namespace.enter(|| command.output())?,
            arguments,
            &["No space left"],
        )?;
        let mut command = binary::netstate(daemon.socket())?;
        command.args(arguments.split_whitespace());
        let output = namespace.enter(|| with_closed_stdout(command))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said.is_empty(),
            "{arguments}, closed pipe: {}: {said}",
            output.status
        );
    }
    Ok(())
}

/// Runs `command` with a pipe for stdout that nobody reads.
fn with_closed_stdout(mut command: Command) -> Result<Output> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Ok(command.stdout(writer).output()?)
}
