//! `netstate verify`: finds nothing where the table is right, and each kind of difference where it is not.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace, binary,
    liar::Liar,
    sockets::{LOOPBACK, Pair, cookie, listen},
};
use netstate::{protocol::Answer, tcp::TcpState};
use serde_json::Value;

crate::tests![
    a_right_table,
    a_missing_row,
    a_row_too_many,
    a_wrong_state,
    repeats,
    of_a_namespace_that_is_not_there,
    of_a_namespace_that_one_thread_has_open,
];

fn verify(namespace: &Namespace, socket: &Path, flags: &str) -> Result<Output> {
    binary::run(socket, &format!("verify --netns {} {flags}", namespace.inode()))
}

/// The lines of `verify --json`: differences, then the verdict.
fn lines(output: &Output) -> Result<Vec<Value>> {
    let text = str::from_utf8(&output.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().with_context(|| text.to_owned())
}

fn a_right_table() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    let output = verify(&namespace, daemon.socket(), "--json --fail")?;
    ensure!(output.status.success(), "{output:?}");
    let lines = lines(&output)?;
    let [verdict] = lines.as_slice() else {
        anyhow::bail!("more than a verdict: {lines:?}");
    };
    let verdict = &verdict["verdict"];
    ensure!(
        verdict["agreed"] == 3 && verdict["differences"] == 0 && verdict["namespaces"] == 1,
        "{verdict}"
    );
    let text = verify(&namespace, daemon.socket(), "")?;
    let text = String::from_utf8(text.stdout)?;
    ensure!(
        text.starts_with("same: 3 sockets in 1 network namespace agree, 0 differ"),
        "{text}"
    );
    Ok(())
}

/// Has `lie` change the rows on their way to `verify`, which is to tell of one difference.
fn finds(
    kind: &str,
    namespace: &Namespace,
    daemon: &Daemon,
    lie: impl Fn(&mut Answer) + Send + Sync + 'static,
) -> Result<Value> {
    // The liar claims that nothing needs time to settle, so everything has to have done so.
    daemon.agrees(namespace)?;
    let liar = Liar::new(daemon, lie)?;
    let output = verify(namespace, liar.socket(), "--json --fail")?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let lines = lines(&output)?;
    let [difference, verdict] = lines.as_slice() else {
        anyhow::bail!("not one difference and a verdict: {lines:?}");
    };
    ensure!(difference["difference"] == kind, "{difference}");
    ensure!(verdict["verdict"]["differences"] == 1, "{verdict}");
    // Without --fail the finding alone is no failure, and the text names it too.
    let output = verify(namespace, liar.socket(), "")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && text.starts_with(&kind.replace('_', " ")),
        "{text}"
    );
    ensure!(text.contains("\nDIFFERENT: "), "{text}");
    Ok(difference.clone())
}

fn a_missing_row() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let lost = cookie(&pair.client)?;
    let difference = finds("missing", &namespace, &daemon, move |answer| {
        if let Answer::Rows(rows) = answer {
            rows.retain(|row| row.connection.cookie.0 != lost);
        }
    })?;
    ensure!(difference["cookie"] == lost, "{difference}");
    ensure!(difference["kernel"]["state"] == "ESTABLISHED" && difference["table"].is_null());
    Ok(())
}

fn a_row_too_many() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    let difference = finds("left_over", &namespace, &daemon, |answer| {
        if let Answer::Rows(rows) = answer {
            let extra = rows.first().map(|row| {
                let mut extra = row.clone();
                extra.connection.cookie.0 = u64::MAX;
                extra
            });
            rows.extend(extra);
        }
    })?;
    ensure!(difference["cookie"] == u64::MAX && difference["kernel"].is_null());
    Ok(())
}

fn a_wrong_state() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let moved = cookie(&pair.server)?;
    let difference = finds("other_state", &namespace, &daemon, move |answer| {
        if let Answer::Rows(rows) = answer {
            for row in rows.iter_mut().filter(|row| row.connection.cookie.0 == moved) {
                row.state = TcpState::CloseWait;
            }
        }
    })?;
    ensure!(difference["kernel"]["state"] == "ESTABLISHED" && difference["table"]["state"] == "CLOSE_WAIT");
    let steps = difference["history"].as_array().context("no history")?;
    let to: Vec<_> = steps.iter().filter_map(|step| step["to"].as_str()).collect();
    ensure!(
        to == ["SYN_RECV", "ESTABLISHED"],
        "the row's history is not told: {difference}"
    );
    Ok(())
}

fn repeats() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let output = verify(&namespace, daemon.socket(), "--json --fail --watch --count 2")?;
    ensure!(
        output.status.success() && lines(&output)?.len() == 2,
        "{output:?}"
    );
    let lost = cookie(&pair.client)?;
    let liar = Liar::new(&daemon, move |answer| {
        if let Answer::Rows(rows) = answer {
            rows.retain(|row| row.connection.cookie.0 != lost);
        }
    })?;
    // The same difference in each round is one difference, and is told once.
    let output = verify(&namespace, liar.socket(), "--json --fail --watch --count 3")?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let told = lines(&output)?;
    let differences = told.iter().filter(|line| !line["difference"].is_null());
    ensure!(differences.count() == 1, "{told:?}");
    Ok(())
}

fn of_a_namespace_that_is_not_there() -> Result<()> {
    let daemon = Daemon::start()?;
    let output = binary::run(daemon.socket(), "verify --netns 1")?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(1) && said.contains("there is no network namespace 1"),
        "{said}"
    );
    Ok(())
}

/// A descriptor leads into it that only one thread of a process has, in a table of its own.
fn of_a_namespace_that_one_thread_has_open() -> Result<()> {
    let (home, other) = (Namespace::new()?, Namespace::new()?);
    let netns = other.inode();
    let mut holder = Holder::start(&home, "e2e-verify")?;
    holder.take_apart()?;
    holder.open(&other.path())?;
    let _listener = listen(&other, LOOPBACK)?;
    drop(other);
    let daemon = Daemon::start()?;
    let output = binary::run(daemon.socket(), &format!("verify --json --fail --netns {netns}"))?;
    ensure!(output.status.success(), "{output:?}");
    let lines = lines(&output)?;
    let verdict = &lines.last().context("no verdict")?["verdict"];
    ensure!(verdict["agreed"] == 1 && verdict["namespaces"] == 1, "{verdict}");
    Ok(())
}
