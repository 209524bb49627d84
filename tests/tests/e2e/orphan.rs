//! FIN_WAIT2 without an owner: the kernel says CLOSE, and keeps the connection all the same.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Watch,
    link::Way,
    snapshot::Listed,
    sockets::{LOOPBACK, Pair, accept, connect, cookie, listen, set_tcp_option, wait_for_fin},
};

crate::tests![
    orphan_is_closed_by_the_peer,
    orphan_times_out,
    orphan_not_wanted,
    orphan_gets_data,
    orphans_without_an_ack,
];

/// Up to FIN_WAIT2, as the client closes first.
const PATH: [&str; 5] = ["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"];

fn scene() -> Result<(Namespace, Daemon, Watch)> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    Ok((namespace, daemon, watch))
}

fn orphan_is_closed_by_the_peer() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let client = connect(&link.left, listener.local_addr()?)?;
    let server = accept(&listener)?;
    let orphan = cookie(&client)?;
    // The ACK of the FIN comes when `close` has long returned. Within it, the kernel can keep a full socket,
    // whose TIME_WAIT has an event.
    link.lose(Way::ToLeft)?;
    drop(client);
    wait_for_fin(&server)?;
    link.restore(Way::ToLeft)?;
    watch.wait_for_path(orphan, &PATH)?;
    let rows = daemon.agrees(&link.left)?;
    let row = rows.iter().find(|row| row.cookie == orphan);
    ensure!(
        row.is_some_and(|row| row.state == "FIN_WAIT2"),
        "the orphan is {row:?}"
    );
    ensure!(
        watch.of(orphan).len() == PATH.len() - 1,
        "went on: {:#?}",
        watch.of(orphan)
    );
    drop(server);
    let path = watch.wait_for_path(orphan, &[&PATH[..], &["TIME_WAIT"]].concat())?;
    let last = &path[path.len() - 1];
    ensure!(last.source == daemon.source_of("minisocks")?, "{last:?}");
    let rows = daemon.agrees(&link.left)?;
    let row = rows.iter().find(|row| row.cookie == orphan);
    ensure!(
        row.is_some_and(|row| row.state == "TIME_WAIT"),
        "the orphan is {row:?}"
    );
    Ok(())
}

/// The peer never closes, and the kernel gives up after `tcp_fin_timeout`.
fn orphan_times_out() -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let (namespace, daemon, watch) = scene()?;
    namespace.set_parameter("ipv4/tcp_fin_timeout", &TIMEOUT.as_secs().to_string())?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let orphan = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    let path = watch.wait_for_path(orphan, &[&PATH[..], &["CLOSE"]].concat())?;
    // Not the CLOSE that the kernel announced as soon as the orphan was one: the end.
    let stayed = path.last().and_then(|end| end.in_state_us);
    let stayed = stayed.map(Duration::from_micros).context("no duration")?;
    let source = daemon.source_of("minisocks")?;
    ensure!(path.last().is_some_and(|end| end.source == source), "{path:#?}");
    // The kernel's timer counts in ticks, of up to 10 ms.
    ensure!(
        stayed + Duration::from_millis(50) >= TIMEOUT,
        "over after {stayed:?}: {path:#?}"
    );
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.iter().all(|row| row.cookie != orphan),
        "the orphan has outlived itself: {rows:?}"
    );
    Ok(())
}

/// A negative `TCP_LINGER2`: the kernel does not keep the orphan.
fn orphan_not_wanted() -> Result<()> {
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener: _listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let orphan = cookie(&client)?;
    set_tcp_option(&client, libc::TCP_LINGER2, -1)?;
    drop(client);
    watch.wait("the orphan's end", |seen| {
        seen.cookie == orphan && seen.to == "CLOSE"
    })?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.iter().all(|row| row.cookie != orphan),
        "the orphan is still there: {rows:?}"
    );
    drop(server);
    Ok(())
}

/// The peer goes on writing: the kernel answers with a RST, and the orphan is gone without an event.
fn orphan_gets_data() -> Result<()> {
    use std::io::Write;
    let (namespace, daemon, watch) = scene()?;
    let Pair {
        listener: _listener,
        client,
        mut server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let orphan = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    daemon.wait_for_row(&namespace, "FIN_WAIT2", |row| {
        row.cookie == orphan && row.state == "FIN_WAIT2"
    })?;
    server.write_all(b"too late")?;
    watch.wait_for_path(orphan, &[&PATH[..], &["CLOSE"]].concat())?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(rows.len() == 1, "the listener alone is left, but {rows:?}");
    Ok(())
}

/// Closed by their processes, and still waiting for the ACK of their FIN: nobody holds them, and they are
/// full sockets all the same.
fn orphans_without_an_ack() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let active = connect(&link.left, listener.local_addr()?)?;
    let _far = accept(&listener)?;
    let passive = connect(&link.left, listener.local_addr()?)?;
    drop(accept(&listener)?);
    wait_for_fin(&passive)?;
    link.lose(Way::ToRight)?;
    let orphans = [(cookie(&active)?, "FIN_WAIT1"), (cookie(&passive)?, "LAST_ACK")];
    drop((active, passive));
    for (cookie, state) in orphans {
        let gone = |row: &Listed| row.cookie == cookie && row.state == state && row.inode.is_none();
        daemon.wait_for_row(&link.left, state, gone)?;
    }
    daemon.agrees(&link.left)?;
    Ok(())
}
