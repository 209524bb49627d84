//! Connects that fail before a SYN is sent. Most change no state, so only hooks report them.

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use netstat_tests::{
    Daemon, Namespace, Watch, binary,
    bpf::refuse_connects,
    requirements::CannotRun,
    sockets::{LOOPBACK, accept, connect, cookie, listen, socket_for},
    stats,
    wait::{SOON, wait_for},
    watch::FailedConnect,
};
use socket2::{Domain, Socket, Type};

crate::tests![
    no_route,
    routes_that_refuse,
    ipv4_of_an_ipv6_socket,
    a_bound_socket,
    no_port,
    refused_by_a_control_group,
];

/// A namespace with a daemon that watches it.
struct Scene {
    namespace: Namespace,
    daemon: Daemon,
    watch: Watch,
    /// Hooks report failed connects.
    reported: bool,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let watch = daemon.watch_in(&namespace)?;
        let reported = daemon.source_of("ports")? == "event" && daemon.source_of("connects")? == "event";
        let output = binary::run(daemon.socket(), "stats")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let unreported = said.contains("failed connects not reported (");
        ensure!(reported != unreported, "reported: {reported}, but {said}");
        Ok(Self {
            namespace,
            daemon,
            watch,
            reported,
        })
    }

    /// Fails to connect `socket` to `target`, and returns the only report of that, if hooks report it.
    fn fail(&self, socket: &Socket, target: SocketAddr, errno: i32) -> Result<Option<FailedConnect>> {
        let cookie = cookie(socket)?;
        let earlier = self.watch.failed_connects(cookie).len();
        let counted = self.counted()?;
        let result = self.namespace.enter(|| socket.connect(&target.into()));
        let Err(error) = result else {
            bail!("connected to {target}");
        };
        ensure!(
            error.raw_os_error() == Some(errno),
            "{target}: {error}, not {errno}"
        );
        // What comes after the failure is reported after it.
        self.wait_for_everything()?;
        let failed = self.watch.failed_connects(cookie);
        let expected = earlier + usize::from(self.reported);
        ensure!(failed.len() == expected, "{target}: {failed:?}, not {expected}");
        ensure!(self.watch.of(cookie).is_empty(), "{target}: it changed its state");
        let now = self.counted()?;
        // Other tests' connects are counted too.
        ensure!(
            now >= counted + u64::from(self.reported),
            "counted {now}, before {counted}"
        );
        let Some(last) = failed.last().filter(|_| self.reported) else {
            return Ok(None);
        };
        ensure!(
            last.errno == errno && last.remote_port == Some(target.port()) && last.cookie == cookie,
            "{target}: {last:?}"
        );
        ensure!(
            last.pid == Some(std::process::id())
                && last.uid == Some(0)
                && last.netns == self.namespace.inode(),
            "{target}: {last:?}"
        );
        Ok(Some(last.clone()))
    }

    /// Waits until everything that has happened so far is printed.
    fn wait_for_everything(&self) -> Result<()> {
        // A port that is not from the range which a test may have filled.
        let listener = listen(&self.namespace, "127.0.0.1:9")?;
        let last = cookie(&listener)?;
        self.watch
            .wait("a listener", |seen| seen.cookie == last && seen.to == "LISTEN")?;
        Ok(())
    }

    fn counted(&self) -> Result<u64> {
        let stats = stats::json(self.daemon.socket())?;
        stats["connects_failed"].as_u64().context("no connects_failed")
    }

    /// The errno's name, which has to be in the report.
    fn fails_with(&self, target: &str, errno: i32, name: &str) -> Result<()> {
        let target: SocketAddr = target.parse()?;
        let socket = socket_for(&self.namespace, target)?;
        if let Some(failed) = self.fail(&socket, target, errno)? {
            ensure!(
                failed.error.as_deref() == Some(name) && failed.remote_addr == target.ip(),
                "{failed:?}"
            );
            ensure!(failed.local_port.is_none(), "{failed:?}");
        }
        Ok(())
    }
}

fn no_route() -> Result<()> {
    let scene = Scene::new()?;
    scene.fails_with("10.1.2.3:80", libc::ENETUNREACH, "ENETUNREACH")?;
    scene.fails_with("[2001:db8::1]:80", libc::ENETUNREACH, "ENETUNREACH")?;
    // A socket can fail more than once.
    let target = "10.1.2.3:80".parse()?;
    let socket = socket_for(&scene.namespace, target)?;
    for _ in 0..3 {
        scene.fail(&socket, target, libc::ENETUNREACH)?;
    }
    // And connect in the end: that the state changes is all that is reported of that.
    let listener = listen(&scene.namespace, LOOPBACK)?;
    let there = listener.local_addr()?;
    scene.namespace.enter(|| socket.connect(&there.into()))?;
    let connected = cookie(&socket)?;
    scene
        .watch
        .wait_for_path(connected, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
    let expected = if scene.reported { 3 } else { 0 };
    ensure!(scene.watch.failed_connects(connected).len() == expected);
    Ok(())
}

fn routes_that_refuse() -> Result<()> {
    let scene = Scene::new()?;
    scene.namespace.ip("route add prohibit 10.1.0.0/16")?;
    scene.namespace.ip("route add unreachable 10.2.0.0/16")?;
    scene.namespace.ip("route add prohibit 2001:db8:1::/48")?;
    scene.fails_with("10.1.2.3:80", libc::EACCES, "EACCES")?;
    scene.fails_with("10.2.2.3:80", libc::EHOSTUNREACH, "EHOSTUNREACH")?;
    scene.fails_with("[2001:db8:1::1]:80", libc::EACCES, "EACCES")?;
    // `tcp_v4_connect` takes no address of a group.
    scene.namespace.ip("route add 224.0.0.0/4 dev lo")?;
    scene.fails_with("224.1.1.1:80", libc::ENETUNREACH, "ENETUNREACH")
}

/// `tcp_v6_connect` calls `tcp_v4_connect` for an IPv4 destination: that is one failure, not two.
fn ipv4_of_an_ipv6_socket() -> Result<()> {
    let scene = Scene::new()?;
    let target: SocketAddr = "[::ffff:10.1.2.3]:80".parse()?;
    for v6only in [false, true] {
        let socket = socket_for(&scene.namespace, target)?;
        socket.set_only_v6(v6only)?;
        if let Some(failed) = scene.fail(&socket, target, libc::ENETUNREACH)? {
            ensure!(
                failed.family == "inet6" && failed.remote_addr.to_canonical() == IpAddr::from([10, 1, 2, 3]),
                "{failed:?}"
            );
        }
    }
    Ok(())
}

fn a_bound_socket() -> Result<()> {
    let scene = Scene::new()?;
    let target: SocketAddr = "10.1.2.3:80".parse()?;
    let socket = socket_for(&scene.namespace, target)?;
    let near: SocketAddr = LOOPBACK.parse()?;
    socket.bind(&near.into())?;
    let port = socket.local_addr()?.as_socket().context("no address")?.port();
    // `ip_route_output_key_hash_rcu`: an address of lo is no source for another host.
    let result = scene.namespace.enter(|| socket.connect(&target.into()));
    let errno = result.err().and_then(|error| error.raw_os_error());
    let errno = errno.context("connected")?;
    scene.wait_for_everything()?;
    let again = scene.fail(&socket, target, errno)?;
    if let Some(failed) = again {
        ensure!(
            failed.local_port == Some(port) && failed.local_addr == near.ip(),
            "{failed:?}"
        );
    }
    Ok(())
}

/// The socket is in SYN_SENT for a moment: its end has the errno where hooks report it, and is all that is reported.
fn no_port() -> Result<()> {
    let scene = Scene::new()?;
    scene
        .namespace
        .set_parameter("ipv4/ip_local_port_range", "40000 40000")?;
    let listener = listen(&scene.namespace, "127.0.0.1:80")?;
    let target = listener.local_addr()?;
    let _client = connect(&scene.namespace, target)?;
    let _server = accept(&listener)?;
    let socket = socket_for(&scene.namespace, target)?;
    let failing = cookie(&socket)?;
    let result = scene.namespace.enter(|| socket.connect(&target.into()));
    let errno = result.err().and_then(|error| error.raw_os_error());
    ensure!(errno == Some(libc::EADDRNOTAVAIL), "{errno:?}");
    let path = scene
        .watch
        .wait_for_path(failing, &["CLOSE", "SYN_SENT", "CLOSE"])?;
    ensure!(path[1].reason.as_deref() == Some("connect_failed"), "{path:?}");
    let detail = scene
        .reported
        .then_some("EADDRNOTAVAIL (Cannot assign requested address)");
    ensure!(path[1].reason_detail.as_deref() == detail, "{path:?}");
    scene.wait_for_everything()?;
    let failed = scene.watch.failed_connects(failing);
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

/// A control group of version 2, removed on drop.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_, folder, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(folder))
        });
        let Some(root) = root else {
            return Ok(None);
        };
        let folder = root.join(format!("netstate-test-connects-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Some(Self(folder)))
    }

    /// The error of a `connect` to `target` by a process in this group.
    fn connect(&self, namespace: &Namespace, target: SocketAddr) -> Result<io::Error> {
        let members = self.0.join("cgroup.procs");
        let address = socket2::SockAddr::from(target);
        let mut command = Command::new("true");
        // SAFETY: what it calls is safe between fork and exec: it opens, writes and connects, and allocates nothing but
        // what the open of a short path needs on the stack.
        unsafe {
            command.pre_exec(move || {
                fs::OpenOptions::new()
                    .write(true)
                    .open(&members)?
                    .write_all(b"0")?;
                let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
                socket.connect(&address)
            });
        }
        match namespace.enter(|| command.spawn()) {
            Err(error) => Ok(error),
            Ok(mut child) => {
                child.wait()?;
                bail!("connected to {target}")
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended can still be in it.
        let removed = wait_for("the control group to be empty", SOON, || {
            Ok(fs::remove_dir(&self.0).ok())
        });
        if removed.is_err() {
            eprintln!("{} is left behind", self.0.display());
        }
    }
}

fn refused_by_a_control_group() -> Result<()> {
    let Some(group) = Group::new()? else {
        return Err(CannotRun("needs a mounted cgroup2 file system").into());
    };
    refuse_connects(&group.0)?;
    let scene = Scene::new()?;
    let listeners = [
        listen(&scene.namespace, LOOPBACK)?,
        listen(&scene.namespace, "[::1]:0")?,
    ];
    for listener in &listeners {
        let target = listener.local_addr()?;
        let error = group.connect(&scene.namespace, target)?;
        ensure!(error.raw_os_error() == Some(libc::EPERM), "{target}: {error}");
        scene.wait_for_everything()?;
        let failed = scene.watch.all_failed_connects();
        let to_target: Vec<_> = failed
            .iter()
            .filter(|failed| failed.remote_port == Some(target.port()))
            .collect();
        match (scene.reported, to_target.as_slice()) {
            (true, [failed]) => ensure!(
                failed.error.as_deref() == Some("EPERM") && failed.remote_addr == target.ip(),
                "{failed:?}"
            ),
            (false, []) => {}
            _ => bail!("reported: {}, but {failed:?}", scene.reported),
        }
    }
    Ok(())
}
