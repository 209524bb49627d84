//! Sockets older than the tracer.

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    snapshot::Listed,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
};

crate::tests![older_sockets_are_listed, older_sockets_are_followed];

/// Nothing in this test reads a cookie before the daemon does: it must not rely on one being drawn.
fn older_sockets_are_listed() -> Result<()> {
    let namespace = Namespace::new()?;
    let open = Pair::new(&namespace, LOOPBACK)?;
    let (listener, closed_from) = {
        let Pair {
            listener,
            client,
            server,
        } = Pair::new(&namespace, LOOPBACK)?;
        let address = client.local_addr()?;
        drop(client);
        wait_for_fin(&server)?;
        (listener, address)
    };
    let daemon = Daemon::start()?;
    let young = Pair::new(&namespace, LOOPBACK)?;
    let rows = daemon.agrees(&namespace)?;
    let find = |what: &str, wanted: &dyn Fn(&Listed) -> bool| {
        rows.iter()
            .find(|row| wanted(row))
            .cloned()
            .with_context(|| format!("no {what} in {rows:#?}"))
    };
    let target = open.listener.local_addr()?.into();
    let client = open.client.local_addr()?.into();
    let old = [
        find("listener", &|row| row.local() == target && row.state == "LISTEN")?,
        find("client", &|row| {
            row.local() == client && row.state == "ESTABLISHED"
        })?,
        find("server", &|row| {
            row.remote() == client && row.state == "ESTABLISHED"
        })?,
        find("TIME_WAIT", &|row| {
            row.local() == closed_from.into() && row.state == "TIME_WAIT"
        })?,
        find("other listener", &|row| {
            Ok(row.local()) == listener.local_addr().map_err(drop).map(Into::into)
        })?,
    ];
    for row in &old {
        ensure!(
            row.at_least,
            "older than the tracer, but its age is said to be known: {row:?}"
        );
    }
    for stream in [&young.client, &young.server] {
        let cookie = cookie(stream)?;
        let row = find("young end", &|row| row.cookie == cookie)?;
        ensure!(
            !row.at_least && row.since.is_some(),
            "seen from the start, but {row:?}"
        );
    }
    Ok(())
}

fn older_sockets_are_followed() -> Result<()> {
    let namespace = Namespace::new()?;
    let Pair {
        listener,
        client,
        server,
    } = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let (parent, near, far) = (cookie(&listener)?, cookie(&client)?, cookie(&server)?);
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    drop(listener);
    watch.wait_for_path(near, &["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"])?;
    watch.wait_for_path(far, &["ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"])?;
    watch.wait_for_path(parent, &["LISTEN", "CLOSE"])?;
    daemon.agrees(&namespace)?;
    Ok(())
}
