//! The filter `cgroup`, with real control groups: what `ss` shows for the same words.

use std::{net::SocketAddr, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace, Watch, binary,
    daemon::directory,
    group::Group,
    requirements::CannotRun,
    snapshot::{self, Listed},
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    wait::{SOON, wait_for},
};

crate::tests![
    list_shows_what_ss_shows,
    the_first_version_has_no_paths,
    watch_follows_groups,
    a_connection_keeps_its_group,
];

/// A group of the second version.
fn group() -> Result<Group> {
    let group = Group::new("cgroup2", "rw")?;
    group.ok_or_else(|| CannotRun("needs a mounted cgroup2").into())
}

/// A holder in `group` from before it makes its first socket.
fn holder_in(group: &Group, namespace: &Namespace, name: &str) -> Result<Holder> {
    let holder = Holder::start(namespace, name)?;
    group.write("cgroup.procs", &holder.pid().to_string())?;
    Ok(holder)
}

/// Both ends of a connection, and its listener.
fn connect_to_itself(holder: &mut Holder) -> Result<SocketAddr> {
    let target = holder.listen()?;
    holder.connect(target)?;
    holder.accept()?;
    Ok(target)
}

fn cookies(listed: &[Listed]) -> Vec<u64> {
    let mut cookies: Vec<u64> = listed.iter().map(|row| row.cookie).collect();
    cookies.sort_unstable();
    cookies
}

fn list_shows_what_ss_shows() -> Result<()> {
    let outer = group()?;
    let inner = outer.within("inner")?;
    let namespace = Namespace::new()?;
    let mut holder = holder_in(&outer, &namespace, "e2e-outer")?;
    let mut other = holder_in(&inner, &namespace, "e2e-inner")?;
    let target = connect_to_itself(&mut holder)?;
    connect_to_itself(&mut other)?;
    // A socket stays in the group that it was made in, and a connection in that of its listener.
    inner.write("cgroup.procs", &holder.pid().to_string())?;
    let near = other.connect(target)?;
    holder.accept()?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    daemon.agrees(&namespace)?;
    let (folder, inside) = (outer.folder().display(), inner.folder().display());
    let mut counts = Vec::new();
    for filter in [
        format!("-a cgroup {folder}"),
        format!("-a cgroup = {inside}"),
        format!("-a cgroup != {folder}"),
        format!("-a not cgroup {inside}"),
        format!("state established cgroup {folder}"),
        format!("state listening cgroup {folder}"),
        format!("cgroup {folder} sport = :{}", target.port()),
        format!(
            "-a ( cgroup {folder} or cgroup {inside} ) and dport = :{}",
            near.port()
        ),
    ] {
        for how in ["", "--alone "] {
            let arguments = format!("{how}{filter}");
            let truth = snapshot::ss_matching(&namespace, &filter)?;
            let listed = snapshot::list_matching(&namespace, daemon.socket(), &arguments)?;
            ensure!(
                cookies(&listed) == truth,
                "list {arguments}: {listed:#?}, but ss shows {truth:?}"
            );
            counts.push(truth.len());
        }
    }
    ensure!(
        counts == [4, 4, 4, 4, 7, 7, 7, 7, 3, 3, 1, 1, 2, 2, 1, 1],
        "as `ss` counts them: {counts:?}"
    );
    // By its path below the mount, as `/proc/PID/cgroup` has it, and by its number.
    let id = outer.folder().metadata()?.ino();
    let name = outer.folder().file_name().context("no name")?.display();
    for words in [format!("/{name}"), format!("/{name}/"), id.to_string()] {
        let listed = snapshot::list_matching(&namespace, daemon.socket(), &format!("-a cgroup {words}"))?;
        ensure!(
            listed.len() == 4 && listed.iter().all(|row| row.cgroup == Some(id.into())),
            "cgroup {words}: {listed:#?}"
        );
    }
    Ok(())
}

/// `ss` does not know them either: the kernel keeps the group of the second version with a socket.
fn the_first_version_has_no_paths() -> Result<()> {
    let Some(group) = Group::new("cgroup", "rw")? else {
        return Err(CannotRun("needs a mounted control group hierarchy of the first version").into());
    };
    let absent = directory()?.path().join("absent.sock");
    let output = binary::run(&absent, &format!("list -a cgroup {}", group.folder().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(2)
            && said.contains("there is no control group")
            && said.contains("cgroup2"),
        "{}: {said}",
        output.status
    );
    Ok(())
}

fn watch_one_group(namespace: &Namespace, socket: &Path) -> Result<()> {
    let group = group()?;
    let mut holder = holder_in(&group, namespace, "e2e-grouped")?;
    let filter = format!("cgroup {}", group.folder().display());
    let watch = Watch::start_matching(namespace, socket, &filter)?;
    let pair = Pair::new(namespace, LOOPBACK)?;
    let target = connect_to_itself(&mut holder)?;
    watch.wait("the accepted end", |step| {
        step.to == "ESTABLISHED" && step.local_port == Some(target.port())
    })?;
    let others = [
        cookie(&pair.client)?,
        cookie(&pair.server)?,
        cookie(&pair.listener)?,
    ];
    ensure!(
        others.iter().all(|other| watch.of(*other).is_empty()),
        "of others: {:#?}",
        others.map(|other| watch.of(other))
    );
    Ok(())
}

fn watch_follows_groups() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    watch_one_group(&namespace, daemon.socket())?;
    watch_one_group(&namespace, &directory()?.path().join("absent.sock"))
}

/// The kernel forgets the group of a connection in TIME_WAIT, so `ss` does not find it, and a daemon does.
fn a_connection_keeps_its_group() -> Result<()> {
    let group = group()?;
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = netstat_tests::sockets::listen(&namespace, LOOPBACK)?;
    let mut holder = holder_in(&group, &namespace, "e2e-leaver")?;
    holder.connect(listener.local_addr()?)?;
    let server = netstat_tests::sockets::accept(&listener)?;
    holder.told("close")?;
    wait_for_fin(&server)?;
    drop(server);
    let filter = format!("state time-wait cgroup {}", group.folder().display());
    wait_for("list to show it in TIME_WAIT", SOON, || {
        let listed = snapshot::list_matching(&namespace, daemon.socket(), &filter)?;
        Ok((listed.len() == 1).then_some(()))
    })?;
    let truth = snapshot::ss_matching(&namespace, &filter)?;
    ensure!(truth.is_empty(), "ss: {truth:?}");
    Ok(())
}
