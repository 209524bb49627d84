//! Hooks in the kernel's functions, each of which may be missing: that costs what it gave, and nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, binary,
    daemon::directory,
    link::Way,
    sockets::{accept, connect, cookie, listen, start_connecting, wait_for_fin},
};
use serde_json::Value;

crate::tests![none_of_them, without_each, a_function_without_hook];

/// Whether `stats` says that a hook is attached, and what it tells of, by the name of the kernel's function.
fn hooks(daemon: &Daemon) -> Result<BTreeMap<String, (String, Option<String>)>> {
    let stats = daemon.stats()?;
    let hooks = stats["hooks"].as_array().context("no hooks in stats")?;
    let named = hooks.iter().map(|hook| {
        let text = |key: &str| hook[key].as_str().map(str::to_owned);
        let name = text("hook").context("a hook without a name")?;
        let (_, function) = name.split_once('/').context("a hook of no function")?;
        Ok((
            function.to_owned(),
            (text("subject").context("no subject")?, text("refused")),
        ))
    });
    named.collect()
}

fn none_of_them() -> Result<()> {
    let daemon = Daemon::start_with(&["--without-hooks"])?;
    for (function, (_, refused)) in hooks(&daemon)? {
        let why = refused.with_context(|| format!("{function} is hooked all the same"))?;
        ensure!(why.contains("--without-hooks"), "{function}: {why}");
    }
    let source = lives_are_told(&daemon)?;
    ensure!(source == "scan", "without hooks, TIME_WAIT is known by {source}");
    Ok(())
}

fn without_each() -> Result<()> {
    let with_all = hooks(&Daemon::start()?)?;
    for (function, (subject, refused_before)) in &with_all {
        let daemon = Daemon::start_with(&[&format!("--without-hooks={function}")])?;
        let others = hooks(&daemon)?;
        // One that is turned off goes by its newest name, whatever this kernel calls the function.
        let is_off = |refused: &Option<String>| {
            let why = refused.as_deref().unwrap_or_default();
            why.contains("--without-hooks")
        };
        let (off, on): (Vec<_>, Vec<_>) = others.iter().partition(|(_, (_, refused))| is_off(refused));
        ensure!(
            off.len() == 1 && off[0].1.0 == *subject,
            "without {function} of {subject}, these are off: {off:?}"
        );
        for (other, (_, refused)) in on {
            let before = with_all.get(other).and_then(|(_, refused)| refused.as_ref());
            ensure!(
                refused.is_some() == before.is_some(),
                "without {function}, {other} has become {refused:?}"
            );
        }
        ensure!(
            daemon.source_of(subject)? == "scan",
            "{subject} without {function}"
        );
        // Where the kernel has not taken it anyway, its absence has been tried already. The tracepoints tell of no
        // state: what is said without them, the tests of reasons ask.
        let of_states = ["ports", "requests", "minisocks"].contains(&subject.as_str());
        if refused_before.is_none() && of_states {
            lives_are_told(&daemon).with_context(|| format!("without {function}"))?;
        }
    }
    Ok(())
}

/// What hooks tell of: a half-open connection, one that hangs in SYN_SENT, and both kinds of minisocks. From whatever
/// source, each is told of. Returns the source of TIME_WAIT.
fn lives_are_told(daemon: &Daemon) -> Result<String> {
    let link = Link::new()?;
    let (near, far) = (daemon.watch_in(&link.left)?, daemon.watch_in(&link.right)?);
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let target = listener.local_addr()?;

    link.lose(Way::ToLeft)?;
    let connecting = start_connecting(&link.left, target)?;
    let port = connecting.local_addr()?.as_socket().context("no address")?.port();
    daemon.wait_for_row(&link.left, "SYN_SENT with its port", |row| {
        row.state == "SYN_SENT" && row.local_port == Some(port)
    })?;
    // Where no hook tells, a sweep does: the one for this answer, at the latest.
    daemon.wait_for_row(&link.right, "SYN_RECV", |row| row.state == "SYN_RECV")?;
    far.wait("the half-open connection", |seen| {
        seen.to == "SYN_RECV" && seen.remote_port == Some(port)
    })?;
    link.restore(Way::ToLeft)?;
    let _accepted = accept(&listener)?;

    let client = connect(&link.left, target)?;
    let server = accept(&listener)?;
    let closed = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    // Nobody holds the client any more: a minisock, which counts as FIN_WAIT2 until the server closes.
    let to = |state: &'static str| near.wait(state, move |seen| seen.cookie == closed && seen.to == state);
    to("FIN_WAIT2")?;
    drop(server);
    let told = to("TIME_WAIT")?;
    // Where one of several hooks is missing, the others still tell what they can.
    let announced = daemon.source_of("minisocks")? == "event";
    ensure!(!announced || told.source == "event", "{told:?}");
    daemon.agrees(&link.left)?;
    daemon.agrees(&link.right)?;
    Ok(told.source)
}

fn a_function_without_hook() -> Result<()> {
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let output = binary::run(&socket, "daemon --without-hooks=tcp_sendmsg")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
    ensure!(
        said.contains("tcp_sendmsg") && said.contains("tw_timer_handler"),
        "does not say which there are: {said}"
    );
    // That the names are those that `stats` prints.
    let daemon = Daemon::start()?;
    let stats = daemon.stats()?;
    let printed = stats["hooks"]
        .as_array()
        .map_or(0, |hooks: &Vec<Value>| hooks.len());
    ensure!(hooks(&daemon)?.len() == printed, "two hooks of one name: {stats}");
    Ok(())
}
