//! Lists in brief, which the daemon answers by a look at each socket, and by a sweep where that is not enough.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, brief,
    link::Way,
    rows::Row,
    snapshot,
    sockets::{LOOPBACK, LOOPBACK6, Pair, deliver, fill, listen, start_connecting, time_wait, wait_for_fin},
    wait::{SOON, wait_for},
};

crate::tests![
    queues_are_the_kernels,
    of_all_namespaces,
    a_minisock_that_has_ended,
    half_open,
    half_open_without_its_listener,
    where_nobody_may_look,
    a_filter_by_state,
];

/// How many answers have taken no sweep so far.
fn looks(daemon: &Daemon) -> Result<u64> {
    daemon.stats()?["probes"].as_u64().context("no probes in stats")
}

/// Compares a list with `ss` while nothing moves there, which `ss` says before and after; it has no second try. Returns whether
/// looks were enough for it.
fn agrees(daemon: &Daemon, namespace: &Namespace) -> Result<bool> {
    let still = wait_for("nothing to move", SOON, || {
        let (before, truth) = (looks(daemon)?, snapshot::ss(namespace)?);
        let listed = brief::list(namespace, daemon.socket())?;
        let by_looks = looks(daemon)? > before;
        Ok((snapshot::ss(namespace)? == truth).then_some((listed, truth, by_looks)))
    });
    let (listed, truth, by_looks) = still?;
    let truth = brief::without_cookies(&truth);
    ensure!(listed == truth, "listed {listed:#?}, and ss has {truth:#?}");
    Ok(by_looks)
}

/// The same, until looks are enough.
fn agrees_by_looks(daemon: &Daemon, namespace: &Namespace) -> Result<()> {
    wait_for("looks to be enough", SOON, || {
        Ok(agrees(daemon, namespace)?.then_some(()))
    })
}

fn row_to(rows: &[Row], remote: SocketAddr) -> Result<&Row> {
    let row = rows.iter().find(|row| row.remote == remote.into());
    row.with_context(|| format!("nothing to {remote} in {rows:#?}"))
}

fn queues_are_the_kernels() -> Result<()> {
    let namespace = Namespace::new()?;
    let older = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    let mut younger = Pair::new(&namespace, LOOPBACK6)?;
    agrees_by_looks(&daemon, &namespace)?;
    for pair in [&older, &younger] {
        deliver(&pair.client, &pair.server, &[1; 3000])?;
    }
    younger.server.read_exact(&mut [0; 1000])?;
    agrees_by_looks(&daemon, &namespace)?;
    let rows = brief::list(&namespace, daemon.socket())?;
    for (pair, unread) in [(&older, 3000), (&younger, 2000)] {
        let row = row_to(&rows, pair.client.local_addr()?)?;
        ensure!((row.recv_q, row.send_q) == (unread, 0), "{row}");
    }
    // Nothing is announced of what is written and read, nor of who has not been accepted.
    let filled = fill(&mut younger.client)?;
    let waiting = [listen(&namespace, LOOPBACK)?];
    let _unaccepted = start_connecting(&namespace, waiting[0].local_addr()?)?;
    (&older.client).write_all(b"more")?;
    agrees_by_looks(&daemon, &namespace)?;
    let rows = brief::list(&namespace, daemon.socket())?;
    let sender = row_to(&rows, younger.server.local_addr()?)?;
    ensure!(sender.send_q > 0 && filled > 0, "{sender}");
    Ok(())
}

fn of_all_namespaces() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.left, &format!("{}:0", Link::LEFT))?;
    let client = netstat_tests::sockets::connect(&link.right, listener.local_addr()?)?;
    let server = netstat_tests::sockets::accept(&listener)?;
    deliver(&client, &server, b"unread")?;
    for namespace in [&link.left, &link.right] {
        agrees_by_looks(&daemon, namespace)?;
    }
    let arguments = format!(
        "{} --netns all sport {}",
        brief::ARGUMENTS,
        listener.local_addr()?.port()
    );
    wait_for("both ends to be told", SOON, || {
        let before = looks(&daemon)?;
        let printed = netstat_tests::binary::run_in(&link.left, daemon.socket(), &arguments)?;
        let by_looks = looks(&daemon)? > before;
        let lines: Vec<_> = printed.lines().filter(|line| line.starts_with("tcp")).collect();
        let unread = lines
            .iter()
            .any(|line| line.contains("ESTABLISHED") && line.contains(" 6 "));
        let right = unread && lines.iter().any(|line| line.contains("LISTEN"));
        // Other tests have namespaces that cannot be entered.
        ensure!(right || !by_looks, "{printed}");
        Ok(right.then_some(()))
    })
}

/// Where its end is not announced, only a look tells, and one that is younger than the last sweep takes another sweep.
fn a_minisock_that_has_ended() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/tcp_fin_timeout", "3")?;
    for flags in [&[][..], &["--without-hooks"]] {
        let daemon = Daemon::start_with(flags)?;
        time_wait(&namespace, LOOPBACK)?;
        let orphaned = Pair::new(&namespace, LOOPBACK)?;
        drop(orphaned.client);
        wait_for_fin(&orphaned.server)?;
        let fin_wait2 = || -> Result<usize> {
            let rows = snapshot::ss(&namespace)?;
            Ok(rows.iter().filter(|row| row.state == "FIN_WAIT2").count())
        };
        wait_for("the orphan to be in FIN_WAIT2", SOON, || {
            Ok((fin_wait2()? == 1).then_some(()))
        })?;
        agrees_by_looks(&daemon, &namespace)?;
        wait_for("the kernel to give up the orphan", SOON, || {
            Ok((fin_wait2()? == 0).then_some(()))
        })?;
        agrees(&daemon, &namespace)?;
    }
    Ok(())
}

fn half_open() -> Result<()> {
    for flags in [&[][..], &["--without-hooks"]] {
        let link = Link::new()?;
        let daemon = Daemon::start_with(flags)?;
        let listener = listen(&link.left, &format!("{}:0", Link::LEFT))?;
        let target = listener.local_addr()?;
        agrees_by_looks(&daemon, &link.left)?;
        // The SYN arrives and its answer does not.
        link.lose(Way::ToRight)?;
        let _client = start_connecting(&link.right, target)?;
        wait_for("a half-open connection", SOON, || {
            let rows = snapshot::ss(&link.left)?;
            Ok(rows.iter().any(|row| row.state == "SYN_RECV").then_some(()))
        })?;
        let announced = daemon.source_of("requests")? == "event";
        let by_looks = agrees(&daemon, &link.left)?;
        ensure!(announced || !by_looks, "nobody has told of it, and no sweep has");
        // Lists that cannot have it take none.
        let before = looks(&daemon)?;
        let arguments = format!("{} state listening", brief::ARGUMENTS);
        let printed = netstat_tests::binary::run_in(&link.left, daemon.socket(), &arguments)?;
        ensure!(
            printed.contains("LISTEN") && !printed.contains("SYN_RECV"),
            "{printed}"
        );
        ensure!(looks(&daemon)? > before, "a sweep for listeners alone");
    }
    Ok(())
}

/// It stays for a while when its listener ends, and then nobody can be asked about it.
fn half_open_without_its_listener() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start_with(&["--without-hooks"])?;
    let listener = listen(&link.left, &format!("{}:0", Link::LEFT))?;
    agrees_by_looks(&daemon, &link.left)?;
    link.lose(Way::ToRight)?;
    let _client = start_connecting(&link.right, listener.local_addr()?)?;
    wait_for("a half-open connection", SOON, || {
        let rows = snapshot::ss(&link.left)?;
        Ok(rows.iter().any(|row| row.state == "SYN_RECV").then_some(()))
    })?;
    drop(listener);
    agrees(&daemon, &link.left)?;
    Ok(())
}

/// The daemon may not enter other namespaces: what it has heard of one is not all that there is, and it does not say so.
fn where_nobody_may_look() -> Result<()> {
    let namespace = Namespace::new()?;
    let _older = Pair::new(&namespace, LOOPBACK)?;
    let without = "-sys_admin,-sys_ptrace";
    let daemon = Daemon::start_through(&[
        "setpriv",
        &format!("--bounding-set={without}"),
        &format!("--inh-caps={without}"),
    ])?;
    let _younger = listen(&namespace, LOOPBACK)?;
    let arguments = format!("{} --netns {}", brief::ARGUMENTS, namespace.inode());
    let output = netstat_tests::binary::run(daemon.socket(), &arguments)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && complaint.contains("cannot enter"),
        "{output:?}"
    );
    ensure!(looks(&daemon)? == 0, "it has looked");
    Ok(())
}

fn a_filter_by_state() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    pair.client.shutdown(Shutdown::Write)?;
    wait_for_fin(&pair.server)?;
    let arguments = format!("{} state close-wait", brief::ARGUMENTS);
    wait_for("CLOSE_WAIT by looks", SOON, || {
        let before = looks(&daemon)?;
        let printed = netstat_tests::binary::run_in(&namespace, daemon.socket(), &arguments)?;
        let rows = brief::parse(&printed)?;
        ensure!(rows.len() == 1 && rows[0].state == "CLOSE_WAIT", "{printed}");
        Ok((looks(&daemon)? > before).then_some(()))
    })
}
