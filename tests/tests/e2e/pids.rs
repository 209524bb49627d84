//! Processes of a PID namespace: they have one id on the host, and another in their own.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    snapshot::list_matching,
    sockets::{LOOPBACK, accept, listen},
    wait::{SOON, wait_for},
};
use serde_json::Value;

crate::tests![seen_from_the_host, seen_from_within];

/// A shell, the first process of a PID namespace, that holds a connection to `port` and does `what`.
fn shell(port: u16, what: &str) -> Command {
    let script = format!("exec 9<>/dev/tcp/127.0.0.1/{port}; {what}");
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "bash",
        "-c",
        &script,
    ]);
    command
}

/// What is printed about the client of a connection to `port`.
fn client(printed: &str, port: u16) -> Result<Value> {
    let rows = printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut rows = rows.filter(|row| row["remote_port"] == port);
    rows.next().with_context(|| printed.to_owned())
}

/// Whether the first process of a namespace is said to hold the socket, and is called by both its ids.
fn is_first(row: &Value) -> bool {
    let owner = &row["owners"][0];
    row["ns_pid"] == 1 && owner["ns_pid"] == 1 && row["pid"].as_u64() > Some(1) && row["comm"] == "bash"
}

fn seen_from_the_host() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let port = listener.local_addr()?.port();
    let mut child = namespace.spawn(shell(port, "read").stdin(Stdio::piped()))?;
    let _server = accept(&listener)?;
    let mut last = String::new();
    let found = wait_for("both ids of the shell", SOON, || {
        last = binary::run_in(
            &namespace,
            daemon.socket(),
            &format!("list --json dport = :{port}"),
        )?;
        Ok(is_first(&client(&last, port)?).then_some(()))
    });
    // It reads the end of its input.
    drop(child.stdin.take());
    child.wait()?;
    found.context(last)?;
    let own = list_matching(&namespace, daemon.socket(), &format!("-l sport = :{port}"))?;
    ensure!(own.len() == 1, "{own:?}");
    Ok(())
}

/// Runs `netstate list` inside the PID namespace of a shell that holds a connection to `port`.
fn within(namespace: &Namespace, socket: &Path, port: u16, flags: &str) -> Result<Output> {
    let list = format!(
        "'{}' --socket '{}' list {flags} dport = :{port} 9>&-; true",
        binary::path()?.display(),
        socket.display()
    );
    namespace.output(&mut shell(port, &list))
}

fn seen_from_within() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let port = listener.local_addr()?.port();
    let output = within(&namespace, daemon.socket(), port, "--json")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let row = client(str::from_utf8(&output.stdout)?, port)?;
    ensure!(is_first(&row), "{row}; {said}");
    ensure!(
        row["exe"].as_str().is_some_and(|exe| exe.ends_with("bash")),
        "{row}"
    );
    ensure!(
        said.matches("process ids are the host's").count() == 1,
        "not said once: {said}"
    );
    let output = within(&namespace, daemon.socket(), port, "-tnp")?;
    ensure!(
        String::from_utf8_lossy(&output.stderr).contains("process ids are the host's"),
        "{output:?}"
    );
    let output = within(&namespace, daemon.socket(), port, "-tn")?;
    ensure!(output.stderr.is_empty(), "no ids are shown: {output:?}");
    Ok(())
}
