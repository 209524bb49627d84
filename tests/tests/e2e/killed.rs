//! A daemon that is killed, and the next one.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    bpf::{self, Kind},
    daemon::directory,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    traffic::Load,
    wait::{SOON, wait_for},
};

crate::tests![nothing_is_left_and_the_next_is_right];

fn nothing_is_left_and_the_next_is_right() -> Result<()> {
    let namespace = Arc::new(Namespace::new()?);
    let directory = directory()?;
    let socket = directory.path().join("netstate.sock");
    let daemon = Daemon::start_at(&socket)?;
    let kept = Pair::new(&namespace, LOOPBACK)?;
    let half_closed = Pair::new(&namespace, LOOPBACK)?;
    let load = Load::start(&namespace);
    let before = daemon.stats()?["events"].as_u64();
    wait_for("the load to be traced", SOON, || {
        Ok((daemon.stats()?["events"].as_u64() > before).then_some(()))
    })?;
    let held = bpf::held_by(daemon.pid())?;
    for kind in [Kind::Program, Kind::Map, Kind::Link] {
        ensure!(
            held.iter()
                .any(|object| object.kind == kind && matches!(object.exists(), Ok(true))),
            "the daemon has no {kind:?}, or the kernel does not know it: {held:?}"
        );
    }
    daemon.kill()?;
    // What changes while nobody looks.
    drop(half_closed.client);
    wait_for_fin(&half_closed.server)?;
    let mut left = Vec::new();
    wait_for("what the daemon loaded to go with it", SOON, || {
        left.clear();
        for object in &held {
            if object.exists()? {
                left.push(*object);
            }
        }
        Ok(left.is_empty().then_some(()))
    })?;
    let daemon = Daemon::start_at(&socket)?;
    load.stop()?;
    let ready = Instant::now();
    let rows = daemon.agrees(&namespace)?;
    println!("right {:?} after the load has ended", ready.elapsed());
    for stream in [&kept.client, &kept.server, &half_closed.server] {
        let cookie = cookie(stream)?;
        ensure!(
            rows.iter().any(|row| row.cookie == cookie),
            "{cookie} is not in {rows:#?}"
        );
    }
    Ok(())
}
