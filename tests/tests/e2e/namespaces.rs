//! Network namespaces: chosen, without a name, and without any way in.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixStream},
    },
    path::Path,
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
    only_sockets_keep_it,
    any_socket_keeps_it,
    whoever_is_called_netstate_keeps_its_name,
    namespaces_can_be_chosen,
    no_file_names_it,
    names_are_shown,
    what_cannot_be_entered_is_told,
    processes_that_may_not_be_looked_into_are_told,
    processes_that_proc_hides_are_told,
];

/// More than two of the scans of all namespaces.
const LONG: Duration = Duration::from_secs(20);

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

/// What `stats` says of a namespace that cannot be read.
fn trouble(daemon: &Daemon, inode: u32) -> Result<Option<String>> {
    let stats = daemon.stats()?;
    let unscanned = stats["unscanned"]
        .as_array()
        .context("no list of what is not scanned")?;
    let unscanned = unscanned.iter().find(|found| found["netns"] == inode);
    Ok(unscanned.map(|found| found["why"].to_string()))
}

/// A namespace that nothing is left of but sockets, which a process holds. To read it, netstate would have to take those
/// sockets, and could become the one that closes them: its rows are as the events told, and that is said.
fn only_sockets_keep_it() -> Result<()> {
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    let before = Daemon::start()?;
    let inside = Namespace::new()?;
    let inode = inside.inode();
    let pair = Pair::new(&inside, LOOPBACK)?;
    // A process inside would be a way in, and a list makes the scan that finds the namespace.
    before.agrees(&inside)?;
    drop(inside);
    deliver(&pair.client, &pair.server, b"unread")?;
    let after = Daemon::start()?;
    for daemon in [&before, &after] {
        wait_for("stats to name the namespace", SOON, || {
            binary::run(daemon.socket(), "list -an --netns all")?;
            trouble(daemon, inode)
        })
        .and_then(|said| {
            ensure!(said.contains("only sockets keep it"), "stats --json: {said}");
            Ok(())
        })?;
    }
    for (socket, rows) in [(before.socket(), 3), (after.socket(), 0), (&absent, 0)] {
        let all = binary::run(socket, "list -an --json --netns all")?;
        let (listed, said) = (String::from_utf8(all.stdout)?, String::from_utf8(all.stderr)?);
        let here = format!("\"netns\":{inode},");
        let here: Vec<_> = listed.lines().filter(|row| row.contains(&here)).collect();
        ensure!(
            all.status.success() && here.len() == rows,
            "not {rows} rows by {}: {here:#?}",
            socket.display()
        );
        ensure!(
            said.contains(&inode.to_string()) && said.contains("only sockets keep it"),
            "list --netns all by {} does not say what is missing: {said}",
            socket.display()
        );
        let one = binary::run(socket, &format!("list -an --netns {inode}"))?;
        let said = String::from_utf8(one.stderr)?;
        ensure!(
            one.status.success() == (rows > 0) && said.contains("only sockets keep it"),
            "list --netns {inode} by {}: {}, {said}",
            socket.display(),
            one.status
        );
    }
    let verify = binary::run(before.socket(), "verify --fail --netns all")?;
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let verdict = String::from_utf8_lossy(&verify.stdout).into_owned();
    ensure!(
        verify.status.success() && verdict.contains("not compared: their namespaces cannot be read"),
        "{verify:?}"
    );
    ensure!(
        said.contains(&format!(
            "not compared: the daemon says of network namespace {inode}"
        )),
        "verify does not say what it leaves out: {verify:?}"
    );
    let one = binary::run(before.socket(), &format!("verify --netns {inode}"))?;
    ensure!(
        one.status.code() == Some(1) && String::from_utf8_lossy(&one.stderr).contains("only sockets keep it"),
        "{one:?}"
    );
    // Events are told all the same.
    let near = cookie(&pair.client)?;
    pair.client.shutdown(Shutdown::Write)?;
    for daemon in [&before, &after] {
        wait_for("the state that an event told", SOON, || {
            let rows = snapshot::list_of("all", daemon.socket())?;
            let row = rows.iter().find(|row| row.cookie == near);
            Ok(row.filter(|row| row.state == "FIN_WAIT2").map(drop))
        })?;
    }
    Ok(())
}

/// A network namespace that only a socket of another family keeps, and minisocks of TCP in it: unreadable as well, until it
/// is gone.
fn any_socket_keeps_it() -> Result<()> {
    let inside = Namespace::new()?;
    let inode = inside.inode();
    let kept = inside.enter(|| UdpSocket::bind("127.0.0.1:0"))?;
    time_wait(&inside, LOOPBACK)?;
    drop(inside);
    let daemon = Daemon::start()?;
    wait_for("stats to name a namespace that a UDP socket keeps", SOON, || {
        trouble(&daemon, inode)
    })?;
    drop(kept);
    wait_for("stats to forget a namespace that is gone", LONG, || {
        Ok(trouble(&daemon, inode)?.is_none().then_some(()))
    })
}

/// A name says nothing: whoever is called as netstate is told of as anybody else.
fn whoever_is_called_netstate_keeps_its_name() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let mut holder = Holder::start(&namespace, "netstate")?;
    let target = holder.listen()?;
    holder.connect(target)?;
    let (name, pid) = (Some("netstate"), Some(holder.pid()));
    for state in ["LISTEN", "SYN_SENT"] {
        let seen = watch.wait(state, |seen| seen.to == state)?;
        ensure!(
            seen.pid == pid && seen.comm.as_deref() == name,
            "watch --json: {seen:?}"
        );
    }
    let rows = snapshot::list_of(&namespace.inode().to_string(), daemon.socket())?;
    ensure!(
        rows.iter().any(|row| row.state == "LISTEN" && row.pid == pid),
        "list --json: {rows:#?}"
    );
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
    let told = trouble(&daemon, namespace.inode())?;
    ensure!(
        told.as_ref().is_some_and(|told| told.contains("cannot enter")),
        "stats --json: {told:?}"
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

/// Without `CAP_SYS_PTRACE` nothing leads into the namespace of a process with more capabilities, as a container's: whatever is
/// asked for all namespaces says so, and says what is missing.
fn processes_that_may_not_be_looked_into_are_told() -> Result<()> {
    const WITHOUT: [&str; 2] = ["--bounding-set", "-sys_ptrace"];
    let named = Namespace::new()?;
    let _pair = Pair::new(&named, LOOPBACK)?;
    let (peer, _) = Peer::listen_apart("e2e-contained", LOOPBACK)?;
    let inode = fs::metadata(format!("/proc/{}/ns/net", peer.pid()))?.ino();
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    let daemon = Daemon::start_through(&[&["setpriv"], &WITHOUT[..]].concat())?;
    let run = |socket: &Path, arguments: &str| {
        let mut command = binary::netstate(socket)?;
        command.args(arguments.split_whitespace());
        let output = binary::through("setpriv", &WITHOUT, &command).output()?;
        anyhow::Ok((
            output.status.success(),
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    };
    for socket in [daemon.socket(), &absent] {
        let (listed, rows, said) = run(socket, "list -an --json --netns all")?;
        ensure!(
            listed && !rows.contains(&format!("\"netns\":{inode},")),
            "it was not to be looked into: {said}{rows}"
        );
        let named = format!("\"netns\":{},", named.inode());
        ensure!(rows.contains(&named), "a mount leads there: {rows}");
        ensure!(
            said.contains("cannot enter") && said.contains("CAP_SYS_PTRACE"),
            "list --netns all by {} does not say what is missing: {said}",
            socket.display()
        );
        let (found, _, said) = run(socket, &format!("list -an --netns {inode}"))?;
        ensure!(
            !found && said.contains("CAP_SYS_PTRACE"),
            "asked for what nothing leads to: {said}"
        );
    }
    let stats = daemon.stats()?;
    ensure!(
        stats["refused_processes"].as_u64() >= Some(1) && stats["refused_namespaces"].as_u64() >= Some(1),
        "stats --json: {stats}"
    );
    let (_, doctor, _) = run(&absent, "doctor")?;
    for check in ["privileges", "sockets"] {
        let line = doctor
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(check));
        ensure!(
            line.is_some_and(|line| line.contains("CAP_SYS_PTRACE")),
            "doctor does not say it: {doctor}"
        );
    }
    let whole = Daemon::start()?;
    let rows = snapshot::list_of(&inode.to_string(), whole.socket())?;
    ensure!(rows.len() == 1, "with all capabilities: {rows:#?}");
    Ok(())
}

/// With `hidepid`, `/proc` does not even list processes, or lets nothing of them be read. How many there are cannot be told, so
/// that is said, and by which option.
fn processes_that_proc_hides_are_told() -> Result<()> {
    // By default the group 0 sees them all, but for the last option.
    const WITHOUT: [&str; 5] = [
        "--bounding-set",
        "-sys_ptrace",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    let (peer, _) = Peer::listen_apart("e2e-hidden", LOOPBACK)?;
    let inode = fs::metadata(format!("/proc/{}/ns/net", peer.pid()))?.ino();
    let here = Namespace::new()?;
    let (_peer, _) = Peer::listen(&here, "e2e-hidden", LOOPBACK)?;
    let directory = directory()?;
    let absent = directory.path().join("absent.sock");
    for number in ["1", "2", "4"] {
        let option = format!("hidepid={number}");
        let script = format!("mount -t proc -o {option} proc /proc && exec setpriv \"$@\"");
        let apart = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let hidden = [&apart[..], &WITHOUT].concat();
        let daemon = Daemon::start_through(&[&["unshare"], &hidden[..]].concat())?;
        let run = |socket: &Path, arguments: &str| {
            let mut command = binary::netstate(socket)?;
            command.args(arguments.split_whitespace());
            let output = here.output(&mut binary::through("unshare", &hidden, &command))?;
            anyhow::Ok((
                String::from_utf8(output.stdout)?,
                String::from_utf8(output.stderr)?,
            ))
        };
        for socket in [daemon.socket(), &absent] {
            let by = format!("{option}, by {}", socket.display());
            let (rows, said) = run(socket, "list -an --json --netns all")?;
            ensure!(
                !rows.contains(&format!("\"netns\":{inode},")),
                "it was to be hidden with {by}: {said}{rows}"
            );
            ensure!(
                said.contains("network namespaces may be missing") && said.contains(&option),
                "list --netns all does not say it with {by}: {said}"
            );
            let (rows, said) = run(socket, "list -an --json")?;
            ensure!(
                rows.contains("e2e-hidden") && said.contains("the executable of 1 process"),
                "list --json does not say that an executable is missing with {by}: {said}{rows}"
            );
        }
        let stats = daemon.stats()?;
        ensure!(
            stats["processes_hidden_by"] == option && stats["refused_processes"].is_null(),
            "stats --json: {stats}"
        );
        let (text, _) = run(daemon.socket(), "stats")?;
        let (doctor, _) = run(&absent, "doctor")?;
        for (name, text) in [("stats", text), ("doctor", doctor)] {
            ensure!(text.contains(&option), "{name} does not say it: {text}");
        }
        let log = daemon.log();
        ensure!(log.matches(&option).count() == 1, "not said once: {log}");
    }
    Ok(())
}
