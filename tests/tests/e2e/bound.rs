//! `list -B`: sockets that are bound, and neither listen nor connect.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::directory,
    snapshot::{self, Listed},
    sockets::{LOOPBACK, Pair, cookie, socket_for},
};
use socket2::Socket;

crate::tests![bound_sockets_are_listed, marks_and_ports_of_bound_sockets];

/// A socket that is bound to `address`, and nothing else.
fn bind(namespace: &Namespace, address: &str) -> Result<(Socket, u16)> {
    let address: SocketAddr = address.parse()?;
    let socket = socket_for(namespace, address)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().context("no address")?;
    Ok((socket, bound.port()))
}

/// Whether this kernel tells of them (`tcp_diag_dump`: `TCPF_BOUND_INACTIVE`).
fn kernel_tells() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.trim().split(['.', '-']).map(str::parse::<u32>);
    let version = (
        numbers.next().context("no major number")??,
        numbers.next().context("no minor number")??,
    );
    Ok(version >= (6, 8))
}

/// An older kernel is named as the reason.
fn is_refused(socket: &Path, arguments: &str) -> Result<()> {
    let output = binary::run(socket, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && said.contains("from Linux 6.8 on"),
        "{}: {said}",
        output.status
    );
    Ok(())
}

fn sorted(rows: &[Listed]) -> Vec<u64> {
    let mut cookies: Vec<u64> = rows.iter().map(|row| row.cookie).collect();
    cookies.sort_unstable();
    cookies
}

fn bound_sockets_are_listed() -> Result<()> {
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let sockets = [
        bind(&namespace, "127.0.0.1:0")?,
        bind(&namespace, "[::1]:0")?,
        bind(&namespace, "[::]:0")?,
    ];
    let mut bound: Vec<u64> = sockets
        .iter()
        .map(|(socket, _)| cookie(socket))
        .collect::<Result<_>>()?;
    bound.sort_unstable();
    let (first, port) = &sockets[0];
    let again = bind(&namespace, &format!("127.0.0.1:{port}"));
    ensure!(again.is_err(), "the port is taken");
    let daemon = Daemon::start()?;
    let absent = directory()?.path().join("absent.sock");
    for socket in [daemon.socket(), &absent] {
        if !kernel_tells()? {
            is_refused(socket, "list -B")?;
            continue;
        }
        let listed = snapshot::list_matching(&namespace, socket, "-B")?;
        ensure!(sorted(&listed) == bound, "{listed:#?}");
        for row in &listed {
            row.descriptor_is_right()?;
            ensure!(
                row.bound
                    && row.state == "CLOSE"
                    && row.remote_port.is_none()
                    && row.uid == Some(0)
                    && row.pid == Some(std::process::id()),
                "{row:#?}"
            );
        }
        let all = snapshot::list_matching(&namespace, socket, "-aB")?;
        ensure!(
            all.iter().all(|row| row.bound == bound.contains(&row.cookie)),
            "{all:#?}"
        );
        let others = sorted(&snapshot::list_matching(&namespace, socket, "-a")?);
        ensure!(others.len() == 3 && !others.contains(&bound[0]), "-a: {others:?}");
        let near = cookie(first)?;
        let (listener, server) = (cookie(&pair.listener)?, cookie(&pair.server)?);
        let both = |some: &[u64]| {
            let mut all = [&bound[..], some].concat();
            all.sort_unstable();
            all
        };
        for (arguments, expected) in [
            ("-aB".to_owned(), both(&others)),
            ("-lB".to_owned(), both(&[listener])),
            (format!("-B :{port}"), vec![near]),
            (format!("bound 127.0.0.1:{port}"), vec![near]),
            ("bound".to_owned(), bound.clone()),
            (format!("-a bound or cookie {server}"), both(&[server])),
            ("-a not bound".to_owned(), others.clone()),
            (format!("-B4 pid {}", std::process::id()), vec![near]),
            ("-B state established".to_owned(), vec![]),
        ] {
            let listed = snapshot::list_matching(&namespace, socket, &arguments)?;
            ensure!(sorted(&listed) == expected, "list {arguments}: {listed:#?}");
        }
        let elsewhere = Namespace::new()?;
        let arguments = format!("-B --netns {}", namespace.name());
        let listed = snapshot::list_matching(&elsewhere, socket, &arguments)?;
        ensure!(sorted(&listed) == bound, "of another namespace: {listed:#?}");
        let text = binary::run_in(&namespace, socket, "list -nBp")?;
        let line = text
            .lines()
            .find(|line| line.contains(&format!("127.0.0.1:{port} ")));
        let line = line.with_context(|| format!("no line: {text}"))?;
        ensure!(
            line.contains(" 0.0.0.0:* ")
                && line.contains(" CLOSE ")
                && line.contains(&format!("{}/", std::process::id())),
            "{line}"
        );
        // An `ss` that knows the flag is new.
        if let Ok(printed) = namespace.run("ss", "-tnHeB") {
            let theirs = printed.lines().filter(|line| line.contains("sk:")).count();
            ensure!(theirs == bound.len(), "{printed}");
        }
    }
    Ok(())
}

/// Who has chosen the port is a question that `sock_diag` answers, and the mark is in its answer.
fn marks_and_ports_of_bound_sockets() -> Result<()> {
    let absent = directory()?.path().join("absent.sock");
    if !kernel_tells()? {
        return is_refused(&absent, "list -B autobound");
    }
    let namespace = Namespace::new()?;
    let sockets = [
        bind(&namespace, "127.0.0.1:0")?.0,
        bind(&namespace, "127.0.0.1:4000")?.0,
        bind(&namespace, "[::1]:4001")?.0,
    ];
    sockets[2].set_mark(6)?;
    let cookies: Vec<u64> = sockets.iter().map(cookie).collect::<Result<_>>()?;
    for (arguments, expected) in [
        ("-B autobound", &cookies[..1]),
        ("-B not autobound", &cookies[1..]),
        ("-B fwmark 6/0xf", &cookies[2..]),
        ("-B fwmark 0", &cookies[..2]),
    ] {
        let listed = snapshot::list_matching(&namespace, &absent, arguments)?;
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        ensure!(sorted(&listed) == expected, "list {arguments}: {listed:#?}");
    }
    // The group of the second version that this process is in.
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    if let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::")) {
        let of_group = format!("-B cgroup {group}");
        let listed = snapshot::list_matching(&namespace, &absent, &of_group)?;
        ensure!(listed.len() == cookies.len(), "list {of_group}: {listed:#?}");
    }
    let listed = snapshot::list_matching(&namespace, &absent, "-B")?;
    for (number, cookie) in cookies.iter().enumerate() {
        let row = listed.iter().find(|row| row.cookie == *cookie);
        let row = row.with_context(|| format!("no row of {cookie}: {listed:#?}"))?;
        ensure!(
            row.autobound == Some(number == 0) && row.fwmark == Some(if number == 2 { 6 } else { 0 }),
            "{row:#?}"
        );
    }
    Ok(())
}
