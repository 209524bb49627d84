//! Several clients of one daemon.

use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Watch, binary,
    sockets::{LOOPBACK, Pair, accept, cookie, listen, reset, wait_for_fin, wait_for_reset},
    wait::{SOON, wait_for},
};
use rustix::process::Signal;

crate::tests![two_clients_see_the_same, a_client_that_does_not_read,];

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
    // What it missed includes other namespaces', so the sum may be more.
    // A notice of a loss can be among what it missed: so the daemon is asked.
    let counts = || -> Result<[usize; 3]> {
        let missed = usize::try_from(stopped.missed())?;
        Ok([told(&stopped, &namespace), missed, lost(&daemon)?])
    };
    wait_for(
        "the stopped client to be told everything, or what it missed",
        SOON,
        || Ok((counts()?.iter().sum::<usize>() >= expected).then_some(())),
    )
    .with_context(|| format!("[told, missed, lost] = {:?} of {expected}", counts()))?;
    ensure!(
        stopped.missed() > 0,
        "its queue has no bound: {expected} transitions were kept for it"
    );
    // On a machine that does too much at once even a client that reads can miss something.
    let (idle, busy) = (stopped.missed(), reading.missed());
    ensure!(
        busy < idle,
        "the client that reads missed {busy}, the one that does not {idle}"
    );
    // It has caught up: from now on it is told everything again.
    let cookie = cookie(&listener)?;
    drop(listener);
    stopped.wait("the listener's end", |seen| {
        seen.cookie == cookie && seen.to == "CLOSE"
    })?;
    Ok(())
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
