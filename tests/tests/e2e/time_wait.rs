//! TIME_WAIT ends without an event, in more ways than one.

use std::{net::TcpListener, time::Duration};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Watch, snapshot,
    sockets::{LOOPBACK, Pair, accept, cookie, listen, socket_for, wait_for_fin},
    wait::{SOON, wait_for},
    watch::Transition,
};

crate::tests![
    runs_out,
    port_pair_is_reused,
    port_pair_is_reused_by_its_owner,
    is_killed,
    namespace_goes,
    no_room_for_it
];

/// `TCP_TIMEWAIT_LEN` of the kernel, and what the timer wheel and a busy machine add.
const LIFETIME: Duration = Duration::from_secs(75);

/// A connection whose server end is in TIME_WAIT: the listener, the client's address, the cookie.
fn server_in_time_wait(namespace: &Namespace) -> Result<(TcpListener, std::net::SocketAddr, u64)> {
    let Pair {
        listener,
        client,
        server,
    } = Pair::new(namespace, LOOPBACK)?;
    let (address, cookie) = (client.local_addr()?, cookie(&server)?);
    drop(server);
    wait_for_fin(&client)?;
    drop(client);
    Ok((listener, address, cookie))
}

fn runs_out() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let (_listener, _, closed) = server_in_time_wait(&namespace)?;
    daemon.wait_for_row(&namespace, "TIME_WAIT", |row| {
        row.cookie == closed && row.state == "TIME_WAIT"
    })?;
    wait_for("the kernel to drop TIME_WAIT", LIFETIME, || {
        Ok(snapshot::ss(&namespace)?
            .iter()
            .all(|row| row.cookie != closed)
            .then_some(()))
    })?;
    daemon.agrees(&namespace)?;
    Ok(())
}

/// A SYN from the same port to the same port takes TIME_WAIT's place.
fn port_pair_is_reused() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let (listener, address, closed) = server_in_time_wait(&namespace)?;
    daemon.wait_for_row(&namespace, "TIME_WAIT", |row| {
        row.cookie == closed && row.state == "TIME_WAIT"
    })?;
    let target = listener.local_addr()?;
    let again = socket_for(&namespace, target)?;
    again.set_reuse_address(true)?;
    again.bind(&address.into())?;
    again.connect(&target.into())?;
    let _accepted = accept(&listener)?;
    let end = watch.wait("TIME_WAIT's end", |seen| {
        seen.cookie == closed && seen.from.as_deref() == Some("TIME_WAIT")
    })?;
    in_order(&end)?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.iter().all(|row| row.cookie != closed),
        "still there: {rows:?}"
    );
    ensure!(rows.len() == 3, "a listener and two ends, but {rows:?}");
    Ok(())
}

/// The same from the side that waits: its own `connect` takes the port pair, and that event has no port yet.
fn port_pair_is_reused_by_its_owner() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/tcp_tw_reuse", "1")?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let listener = listen(&namespace, LOOPBACK)?;
    let target = listener.local_addr()?;
    let client = socket_for(&namespace, target)?;
    // Only a port that was shared can be had again.
    client.set_reuse_address(true)?;
    client.connect(&target.into())?;
    let (address, closed) = (client.local_addr()?, cookie(&client)?);
    let server = accept(&listener)?;
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    daemon.wait_for_row(&namespace, "TIME_WAIT", |row| {
        row.cookie == closed && row.state == "TIME_WAIT"
    })?;
    // The kernel refuses until TIME_WAIT is a second old.
    let again = wait_for("the kernel to give the port pair again", SOON, || {
        let again = socket_for(&namespace, target)?;
        again.set_reuse_address(true)?;
        again.bind(&address)?;
        match again.connect(&target.into()) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => Ok(None),
            connected => Ok(connected.map(|()| Some(again))?),
        }
    })?;
    let _accepted = accept(&listener)?;
    let end = watch.wait("TIME_WAIT's end", |seen| {
        seen.cookie == closed && seen.from.as_deref() == Some("TIME_WAIT")
    })?;
    in_order(&end)?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(rows.len() == 3, "a listener and two ends, but {rows:?}");
    drop(again);
    Ok(())
}

fn is_killed() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let (_listener, _, closed) = server_in_time_wait(&namespace)?;
    daemon.wait_for_row(&namespace, "TIME_WAIT", |row| {
        row.cookie == closed && row.state == "TIME_WAIT"
    })?;
    namespace.run("ss", "--kill --tcp state time-wait")?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.iter().all(|row| row.cookie != closed),
        "still there: {rows:?}"
    );
    Ok(())
}

/// Rows of a namespace that is gone are gone too, although nobody can look into it any more.
fn namespace_goes() -> Result<()> {
    let (outside, namespace) = (Namespace::new()?, Namespace::new()?);
    let daemon = Daemon::start()?;
    // From outside: a process inside would keep the namespace.
    let watch = Watch::start_in(&outside, daemon.socket(), namespace.name())?;
    let (listener, _, closed) = server_in_time_wait(&namespace)?;
    daemon.wait_for_row(&namespace, "TIME_WAIT", |row| {
        row.cookie == closed && row.state == "TIME_WAIT"
    })?;
    drop(listener);
    drop(namespace);
    // Only looks at all namespaces can tell that one is gone, and they are the rarest.
    let end = watch.wait_within(Duration::from_secs(90), "TIME_WAIT's end", |seen| {
        seen.cookie == closed && seen.from.as_deref() == Some("TIME_WAIT")
    })?;
    in_order(&end)
}

/// The connection was over before its minisock was, whatever has ended that.
fn in_order(end: &Transition) -> Result<()> {
    ensure!(end.reason.as_deref() == Some("closed"), "{end:?}");
    Ok(())
}

/// With `tcp_max_tw_buckets` reached, the kernel makes no minisock: what the event suggests is not so.
fn no_room_for_it() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/tcp_max_tw_buckets", "0")?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let (_listener, _, closed) = server_in_time_wait(&namespace)?;
    watch.wait("the end", |seen| seen.cookie == closed && seen.to == "CLOSE")?;
    let rows = daemon.agrees(&namespace)?;
    ensure!(
        rows.len() == 1 && rows[0].state == "LISTEN",
        "left behind: {rows:?}"
    );
    Ok(())
}
