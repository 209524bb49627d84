//! Network namespaces: chosen, without a name, and without any way in.

use std::{
    fs,
    io::{Read, Write},
    net::UdpSocket,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace, Peer, Watch,
    binary::{self, run_in},
    daemon::directory,
    passing::{pass, take},
    snapshot,
    sockets::{LOOPBACK, Pair, cookie, deliver, listen, time_wait},
    wait::{SOON, wait_for},
};

crate::tests![
    nobody_can_get_in,
    a_socket_is_a_way_in,
    any_socket_is_a_way_in,
    its_own_name_is_nobodys,
    namespaces_can_be_chosen,
    no_file_names_it,
    names_are_shown,
    what_cannot_be_entered_is_told,
];

fn namespaces_can_be_chosen() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let daemon = Daemon::start()?;
    let own = Watch::start_in(&here, daemon.socket(), "self")?;
    let named = Watch::start_in(&here, daemon.socket(), there.name())?;
    let numbered = Watch::start_in(&here, daemon.socket(), &there.inode().to_string())?;
    let pairs = [Pair::new(&here, LOOPBACK)?, Pair::new(&there, LOOPBACK)?];
    let ends = [cookie(&pairs[0].client)?, cookie(&pairs[1].client)?];
    for (watch, seen, unseen) in [
        (&own, ends[0], ends[1]),
        (&named, ends[1], ends[0]),
        (&numbered, ends[1], ends[0]),
    ] {
        watch.wait("its own namespace's", |told| {
            told.cookie == seen && told.to == "ESTABLISHED"
        })?;
        ensure!(
            watch.of(unseen).is_empty(),
            "told of another namespace: {:?}",
            watch.of(unseen)
        );
    }
    let path = there.path().display().to_string();
    let by_path = Watch::start_in(&here, daemon.socket(), &path)?;
    let listener = listen(&there, LOOPBACK)?;
    let parent = cookie(&listener)?;
    by_path.wait("its own namespace's", |told| told.cookie == parent)?;
    drop(listener);
    daemon.agrees(&there)?;
    let by_name = format!("list -an --json --netns {}", there.name());
    let by_number = format!("list -an --json --netns {}", there.inode());
    let by_path = format!("list -an --json --netns {}", there.path().display());
    for arguments in [by_name, by_number, by_path] {
        let rows = run_in(&here, daemon.socket(), &arguments)?;
        ensure!(rows.lines().count() == 3, "netstate {arguments}: {rows}");
        ensure!(
            !rows.contains(&format!("\"netns\":{}", here.inode())),
            "not of there: {rows}"
        );
    }
    let all = run_in(&here, daemon.socket(), "list -an --json --netns all")?;
    for namespace in [&here, &there] {
        let mine = all
            .lines()
            .filter(|line| line.contains(&format!("\"netns\":{}", namespace.inode())));
        ensure!(
            mine.count() == 3,
            "--netns all does not show all of {}: {all}",
            namespace.name()
        );
    }
    Ok(())
}

/// A namespace that only a process keeps alive, as those of containers are.
fn no_file_names_it() -> Result<()> {
    let outside = Namespace::new()?;
    let (older, _) = Peer::listen_apart("e2e-older", LOOPBACK)?;
    let daemon = Daemon::start()?;
    let (younger, _) = Peer::listen_apart("e2e-younger", LOOPBACK)?;
    for peer in [&older, &younger] {
        let inode = fs::metadata(format!("/proc/{}/ns/net", peer.pid()))?.ino();
        let arguments = format!("list -an --json --netns {inode}");
        wait_for("the listener of a namespace without a name", SOON, || {
            let rows = run_in(&outside, daemon.socket(), &arguments)?;
            let row = rows
                .lines()
                .find(|row| row.contains(&format!("\"pid\":{}", peer.pid())));
            Ok(row.filter(|row| row.contains("\"LISTEN\"")).map(drop))
        })?;
    }
    Ok(())
}

/// A namespace that only sockets keep alive which nobody holds just now: nothing leads into it, so no sweep can tell that
/// they are gone, and they are not.
fn nobody_can_get_in() -> Result<()> {
    /// More than two of the sweeps that look at all namespaces.
    const LONG: Duration = Duration::from_secs(20);
    let outside = Namespace::new()?;
    let daemon = Daemon::start()?;
    let inside = Namespace::new()?;
    // From outside: a process inside would be a way in.
    let watch = Watch::start_in(&outside, daemon.socket(), inside.name())?;
    let pair = Pair::new(&inside, LOOPBACK)?;
    let near = cookie(&pair.client)?;
    drop(inside);
    let open = ["CLOSE", "SYN_SENT", "ESTABLISHED"];
    watch.wait_for_path(near, &open)?;
    let (to, from) = UnixStream::pair()?;
    for socket in [pair.listener.into(), pair.client.into(), pair.server.into()] {
        let socket: OwnedFd = socket;
        pass(&to, socket)?;
    }
    let ended = watch.wait_within(LONG, "an end", |seen| seen.cookie == near && seen.to == "CLOSE");
    let mut pair = Pair {
        listener: take(&from)?.into(),
        client: take(&from)?.into(),
        server: take(&from)?.into(),
    };
    pair.client.write_all(b"alive")?;
    pair.server
        .read_exact(&mut [0; 5])
        .context("the connection is dead")?;
    ensure!(
        ended.is_err(),
        "the connection works, and is said to have ended: {ended:?}"
    );
    let rows = run_in(&outside, daemon.socket(), "list -an --json --netns all")?;
    let row = rows
        .lines()
        .find(|row| row.contains(&format!("\"cookie\":{near},")));
    ensure!(
        row.is_some_and(|row| row.contains("ESTABLISHED")),
        "the connection works, and is listed as {row:?}"
    );
    drop(pair.client);
    watch.wait("FIN_WAIT1", |seen| seen.cookie == near && seen.to == "FIN_WAIT1")?;
    Ok(())
}

/// A namespace that nothing is left of but sockets, which a process holds.
fn a_socket_is_a_way_in() -> Result<()> {
    let inside = Namespace::new()?;
    let inode = inside.inode();
    let pair = Pair::new(&inside, LOOPBACK)?;
    drop(inside);
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    // Started when no event is to come.
    let daemon = Daemon::start()?;
    deliver(&pair.client, &pair.server, b"unread")?;
    for socket in [daemon.socket(), &absent] {
        for netns in ["all".to_owned(), inode.to_string()] {
            let rows = snapshot::list_of(&netns, socket)?;
            let inside = rows.iter().filter(|row| row.netns == inode);
            let server = rows
                .iter()
                .find(|row| cookie(&pair.server).ok() == Some(row.cookie));
            ensure!(
                inside.count() == 3 && server.is_some_and(|row| row.recv_q == Some(6)),
                "list --netns {netns} by {}: {rows:#?}",
                socket.display()
            );
        }
    }
    let verify = binary::run(daemon.socket(), &format!("verify --fail --netns {inode}"))?;
    let said = String::from_utf8_lossy(&verify.stdout);
    ensure!(
        verify.status.success()
            && said.starts_with("same: 3 socket(s) in 1 network namespace(s) agree, 0 differ"),
        "{verify:?}"
    );
    // For people alone, who want no owners.
    let text = binary::run(&absent, &format!("list -an --netns {inode}"))?;
    let text = String::from_utf8(text.stdout)?;
    ensure!(text.contains("LISTEN") && text.contains("ESTABLISHED"), "{text}");
    Ok(())
}

/// A network namespace that only a socket of another family keeps, and minisocks of TCP in it.
fn any_socket_is_a_way_in() -> Result<()> {
    let inside = Namespace::new()?;
    let inode = inside.inode();
    let kept = inside.enter(|| UdpSocket::bind("127.0.0.1:0"))?;
    time_wait(&inside, LOOPBACK)?;
    drop(inside);
    let daemon = Daemon::start()?;
    wait_for("a minisock of a namespace that a UDP socket keeps", SOON, || {
        let rows = snapshot::list_of(&inode.to_string(), daemon.socket())?;
        Ok(rows.iter().any(|row| row.state == "TIME_WAIT").then_some(()))
    })?;
    drop(kept);
    Ok(())
}

/// netstate takes sockets of others for moments, so whoever is called as it is not taken for who opens or closes them.
fn its_own_name_is_nobodys() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    for (name, told) in [("e2e-other", true), ("netstate", false)] {
        let mut holder = Holder::start(&namespace, name)?;
        holder.listen()?;
        let pid = holder.pid();
        watch.wait(name, |seen| {
            seen.to == "LISTEN" && seen.pid == told.then_some(pid)
        })?;
    }
    Ok(())
}

fn names_are_shown() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&pair.client)?;
    let name = Some(namespace.name());
    let told = watch.wait("the connection", |told| told.cookie == near)?;
    ensure!(told.netns_name.as_deref() == name, "watch --json: {told:?}");
    let rows = snapshot::list_of("all", daemon.socket())?;
    let row = rows.iter().find(|row| row.cookie == near).context("not listed")?;
    ensure!(row.netns_name.as_deref() == name, "list --json: {row:?}");
    let output = binary::run(daemon.socket(), "list -an --netns all")?;
    let port = format!(":{} ", pair.client.local_addr()?.port());
    let text = String::from_utf8(output.stdout)?;
    let line = text
        .lines()
        .find(|line| line.contains(&port) && line.ends_with(namespace.name()));
    ensure!(
        line.is_some(),
        "list --netns all does not name the namespace: {text}"
    );
    let stats = daemon.stats()?;
    let counted = stats["by_namespace"]
        .as_array()
        .context("no counts by namespace")?;
    let counted = counted.iter().find(|found| found["netns"] == namespace.inode());
    ensure!(
        counted.is_some_and(|found| found["netns_name"] == namespace.name() && found["rows"] == 3),
        "stats --json: {counted:?}"
    );
    Ok(())
}

/// A daemon that may trace but not enter namespaces says so, once, and to those who ask.
fn what_cannot_be_entered_is_told() -> Result<()> {
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start_through(&["setpriv", "--bounding-set", "-sys_admin"])?;
    let listed = || binary::run(daemon.socket(), "list -an --netns all");
    for _ in 0..3 {
        let output = listed()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "list --netns all: {said}");
        ensure!(
            said.lines().count() == 1 && said.contains("cannot enter") && said.contains("sudo"),
            "list --netns all does not say what is missing, once: {said}"
        );
    }
    let log = daemon.log();
    ensure!(log.matches("cannot enter").count() == 1, "not said once: {log}");
    let stats = daemon.stats()?;
    let unswept = stats["unscanned"]
        .as_array()
        .context("no list of what is not swept")?;
    let unswept = unswept.iter().find(|found| found["netns"] == namespace.inode());
    ensure!(
        unswept.is_some_and(|found| found["why"].to_string().contains("cannot enter")),
        "stats --json: {stats}"
    );
    let one = binary::run(daemon.socket(), &format!("list -an --netns {}", namespace.name()))?;
    let said = String::from_utf8_lossy(&one.stderr);
    ensure!(
        one.status.code() == Some(1) && said.contains("cannot enter"),
        "asked for what it cannot enter: {}: {said}",
        one.status
    );
    drop(pair);
    Ok(())
}
