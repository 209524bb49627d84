//! Several clients of one daemon.

use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Watch, binary,
    sockets::{LOOPBACK, Pair, accept, cookie, listen, reset, wait_for_fin, wait_for_reset},
    wait::{SOON, wait_for},
};
use rustix::process::Signal;

crate::tests![
    two_clients_see_the_same,
    a_client_that_does_not_read,
    nothing_is_missed_that_was_not_asked_for,
];

fn two_clients_see_the_same() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watches = [daemon.watch_in(&namespace)?, daemon.watch_in(&namespace)?];
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let ends = [cookie(&client)?, cookie(&server)?];
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    for watch in &watches {
        watch.wait("TIME_WAIT", |seen| {
            seen.cookie == ends[0] && seen.to == "TIME_WAIT"
        })?;
        watch.wait("CLOSE", |seen| seen.cookie == ends[1] && seen.to == "CLOSE")?;
    }
    for end in ends {
        let [first, second] = [0, 1].map(|client: usize| watches[client].of(end));
        ensure!(
            first == second,
            "two clients were told different things: {first:#?}\n{second:#?}"
        );
    }
    Ok(())
}

/// How many times [`BATCH`] connections come and go while one client is stopped: far more transitions than
/// its queue and its socket's buffer hold.
const BATCHES: usize = 25;
/// Few enough for the queue of a client that reads, however slow the machine.
const BATCH: usize = 200;
/// Transitions of each: CLOSE → SYN_SENT → ESTABLISHED → CLOSE, and LISTEN → SYN_RECV → ESTABLISHED → CLOSE.
const TRANSITIONS: usize = 6;

fn a_client_that_does_not_read() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let stopped = daemon.watch_in(&namespace)?;
    let reading = daemon.watch_in(&namespace)?;
    stopped.signal(Signal::STOP)?;
    let listener = listen(&namespace, LOOPBACK)?;
    for batch in 1..=BATCHES {
        connect_and_reset(&namespace, &listener)?;
        // One for the listener.
        told_everything(&reading, &namespace, 1 + batch * BATCH * TRANSITIONS)?;
    }
    daemon.agrees(&namespace)?;
    let expected = 1 + BATCHES * BATCH * TRANSITIONS;
    ensure!(
        told(&stopped, &namespace) < expected,
        "the stopped client was not stopped"
    );
    stopped.signal(Signal::CONT)?;
    // It catches up: from now on it is told everything again.
    let cookie = cookie(&listener)?;
    drop(listener);
    stopped.wait("the listener's end", |seen| {
        seen.cookie == cookie && seen.to == "CLOSE"
    })?;
    let expected = expected + 1;
    let (told, missed) = (told(&stopped, &namespace), usize::try_from(stopped.missed())?);
    // A notice of a loss can be among what it missed: so the daemon is asked.
    let lost = lost(&daemon)?;
    let all = told + missed;
    ensure!(
        all <= expected && all + lost >= expected,
        "{told} told, {missed} missed, and {lost} lost of {expected}"
    );
    ensure!(
        missed > 0 || lost > 0,
        "its queue has no bound: {expected} transitions were kept for it"
    );
    // On a machine that does too much at once even a client that reads can miss something.
    let busy = reading.missed();
    ensure!(
        busy <= stopped.missed(),
        "the client that reads missed {busy}, the one that does not {missed}"
    );
    Ok(())
}

/// More minisocks of another namespace than any queue holds end at once.
fn nothing_is_missed_that_was_not_asked_for() -> Result<()> {
    const MINISOCKS: usize = 24_000;
    let (quiet, busy) = (Namespace::new()?, Namespace::new()?);
    busy.set_parameter("ipv4/ip_local_port_range", "10000 65000")?;
    busy.set_parameter("ipv4/tcp_tw_reuse", "0")?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&quiet)?;
    let inode = busy.inode();
    let listener = listen(&busy, LOOPBACK)?;
    let target = listener.local_addr()?;
    busy.enter(|| -> Result<()> {
        for _ in 0..MINISOCKS {
            let client = TcpStream::connect(target)?;
            let server = accept(&listener)?;
            drop(client);
            wait_for_fin(&server)?;
        }
        Ok(())
    })?;
    drop(listener);
    // A full sock of which an event was lost would keep the namespace.
    let ask = |filter: &str| -> Result<usize> {
        let list = binary::run(daemon.socket(), &format!("list -anp --netns {inode} {filter}"))?;
        let printed = String::from_utf8_lossy(&list.stdout);
        Ok(printed.lines().filter(|line| line.starts_with("tcp")).count())
    };
    let rows = || rows_in(&daemon, inode);
    wait_for("nothing but minisocks", SOON, || {
        let others = ask("not state time-wait")?;
        Ok((others == 0 && rows()? >= MINISOCKS * 9 / 10).then_some(()))
    })
    .with_context(|| format!("{:?} rows", rows()))?;
    drop(busy);
    // A question about a namespace has it searched for at once, which otherwise takes as long as searching is dear.
    wait_for("the end of the minisocks", SOON, || {
        ask("port 1")?;
        Ok((rows()? == 0).then_some(()))
    })
    .with_context(|| format!("{:?} rows; {}", rows(), daemon.log()))?;
    let pair = Pair::new(&quiet, LOOPBACK)?;
    watch.wait_for_path(cookie(&pair.client)?, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    ensure!(
        watch.missed() == 0,
        "{} lines missed, and none was there to be shown",
        watch.missed()
    );
    Ok(())
}

/// How many rows the daemon counts in a namespace.
fn rows_in(daemon: &Daemon, netns: u32) -> Result<usize> {
    let stats = daemon.stats()?;
    let namespaces = stats["by_namespace"].as_array().context("no namespaces")?;
    let found = namespaces.iter().find(|found| found["netns"] == netns);
    let rows = found.map_or(Some(0), |found| found["rows"].as_u64());
    Ok(usize::try_from(rows.context("no count of rows")?)?)
}

fn lost(daemon: &Daemon) -> Result<usize> {
    let output = binary::run(daemon.socket(), "stats --json")?;
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let lost = stats["lost"].as_u64().context("no count of losses")?;
    Ok(usize::try_from(lost)?)
}

fn told(watch: &Watch, namespace: &Namespace) -> usize {
    watch.count_in(namespace.inode())
}

fn told_everything(watch: &Watch, namespace: &Namespace, expected: usize) -> Result<()> {
    let missed = || Ok::<_, anyhow::Error>(usize::try_from(watch.missed() + watch.lost())?);
    wait_for("the client that reads to be told everything", SOON, || {
        Ok((told(watch, namespace) + missed()? >= expected).then_some(()))
    })
    .with_context(|| {
        format!(
            "{} told and {:?} missed of {expected}",
            told(watch, namespace),
            missed()
        )
    })?;
    let seen = told(watch, namespace);
    ensure!(seen <= expected, "{seen} transitions, of {expected}");
    Ok(())
}

fn connect_and_reset(namespace: &Namespace, listener: &TcpListener) -> Result<()> {
    let target = listener.local_addr()?;
    namespace.enter(|| {
        for _ in 0..BATCH {
            let client = TcpStream::connect(target)?;
            let server = accept(listener)?;
            reset(client)?;
            wait_for_reset(&server)?;
        }
        Ok(())
    })
}
