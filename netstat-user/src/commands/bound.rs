//! Sockets that are bound and neither listen nor connect. No walk and no event tells of them, so `sock_diag(7)` is asked,
//! whether a daemon runs or not.

use std::{thread, time::Duration};

use anyhow::Context;

use crate::{
    clock::Ktime,
    connection::Netns,
    diag::{self, BoundSocket},
    facts::{Form, HolderIndex, Queues},
    loader,
    namespaces::{self, Aim, Effort, Found},
    owners::Owners,
    sweeper::{Job, Outcome, SweepError, Walker},
    tcp::TcpState,
    view::RowView,
};

/// The first version that tells of them (`tcp_diag_dump` of 6.8: `TCPF_BOUND_INACTIVE`).
const FIRST: (u32, u32) = (6, 8);

/// The bound sockets of a namespace, or of all; with their owners if they are asked for.
pub(super) async fn rows(wanted: Option<Netns>, owners: bool) -> anyhow::Result<Vec<RowView>> {
    // A thread of its own, since it enters namespaces and does not come back.
    let asking = tokio::task::spawn_blocking(move || thread::spawn(move || ask(wanted)).join());
    let asked = asking.await.context("a query to the kernel failed")?;
    let sockets = asked.unwrap_or_else(|_| anyhow::bail!("a query to the kernel failed"))?;
    if sockets.is_empty() {
        new_enough()?;
    }
    let holders = if owners && !sockets.is_empty() {
        let scanning = tokio::task::spawn_blocking(scan);
        scanning.await.context("the scan of open files failed")?
    } else {
        None
    };
    let now = Ktime::now();
    let row = |socket: BoundSocket| {
        let mut owners = Owners::default();
        if let Some(scan) = &holders {
            let found = scan.holders_of(socket.connection.cookie, None);
            owners.scanned(scan.start(), found, scan.is_complete());
        }
        row(&socket, owners, now)
    };
    Ok(sockets.into_iter().map(row).collect())
}

fn row(socket: &BoundSocket, owners: Owners, now: Ktime) -> RowView {
    RowView {
        connection: socket.connection,
        state: TcpState::Close,
        form: Form::Full,
        // Nobody knows since when.
        since: now,
        in_state: Duration::ZERO,
        at_least: true,
        queues: Some(Queues::default()),
        uid: Some(socket.uid),
        owners,
        cgroup: socket.cgroup,
        fwmark: socket.fwmark,
        autobound: Some(socket.autobound),
        bound: true,
        inode: socket.inode,
        figures: None,
    }
}

/// Says so if the kernel is too old to tell.
fn new_enough() -> anyhow::Result<()> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(str::parse);
    if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next())
        && (major, minor) < FIRST
    {
        anyhow::bail!(
            "the kernel tells of bound sockets that neither listen nor connect from Linux {}.{} on, and this is {release}: \
             no program can list them here",
            FIRST.0,
            FIRST.1
        );
    }
    Ok(())
}

/// Who holds sockets; `None`, which is said, when open files cannot be scanned.
fn scan() -> Option<HolderIndex> {
    let needs = loader::Needs {
        figures: false,
        files: true,
    };
    let mut found = Err("nothing came of it".to_owned());
    match loader::iterators(needs) {
        Ok(iterators) => Walker::new(iterators).run(Job::Holders, |outcome| {
            if let Outcome::HoldersDone(done) = outcome {
                found = done.found.map_err(|error| error.to_string());
            }
        }),
        Err(error) => found = Err(error.to_string()),
    }
    match found {
        Ok(scan) => Some(scan),
        Err(why) => {
            eprintln!("netstate: cannot find the processes that hold the bound sockets: {why}");
            None
        }
    }
}

fn ask(wanted: Option<Netns>) -> anyhow::Result<Vec<BoundSocket>> {
    let own = namespaces::own()?;
    if wanted == Some(own) {
        return Ok(diag::bound(own)?);
    }
    let wanted_alone: Vec<_> = wanted.into_iter().collect();
    let aim = Aim {
        everything: wanted.is_none(),
        wanted: &wanted_alone,
        hints: &[],
        effort: Effort::Thorough,
        held: &mut || None,
    };
    let mut found: Vec<_> = namespaces::search(aim, &Found::new()).found.into_iter().collect();
    found.retain(|(netns, _)| wanted.is_none_or(|wanted| wanted == *netns));
    // The own one first, which takes no privilege while the thread is still in it.
    found.sort_by_key(|(netns, _)| (*netns != own, *netns));
    let mut sockets = Vec::new();
    for (netns, path) in found {
        if netns != own
            && let Err(error) = namespaces::enter(netns, &path)
        {
            let error = SweepError::Enter { netns, error };
            if wanted.is_some() {
                return Err(error.into());
            }
            eprintln!("netstate: bound sockets may be missing: {error}");
            continue;
        }
        sockets.extend(diag::bound(netns)?);
    }
    Ok(sockets)
}
