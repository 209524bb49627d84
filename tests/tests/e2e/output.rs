//! `netstate list` is netstat, byte for byte.

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Peer,
    binary::run_in,
    mixture::Mixture,
    sockets::{LOOPBACK, Pair, connect, listen, socket_for},
    wait::{SOON, wait_for},
};

crate::tests![columns, long_addresses, names, programs];

/// The lines in one order: netstat's own is that of hash tables.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Compares netstat and netstate for each of `flags`.
fn same(daemon: &Daemon, namespace: &Namespace, flags: &[&str]) -> Result<()> {
    daemon.agrees(namespace)?;
    for flags in flags {
        let theirs = namespace.run("netstat", flags)?;
        let ours = run_in(namespace, daemon.socket(), &format!("list {flags}"))?;
        ensure!(
            sorted(&ours) == sorted(&theirs),
            "{flags}\nnetstate:\n{ours}\nnetstat:\n{theirs}"
        );
    }
    Ok(())
}

fn columns() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let _sockets = Mixture::new(&link, 1)?;
    let other = listen(&link.left, LOOPBACK)?;
    // One socket of another user, who has a name on every Linux.
    std::os::unix::fs::fchown(&other, Some(65_534), None)?;
    let flags = [
        "-tan", "-tn", "-tln", "-taln", "-tn -4", "-tan -4", "-tan -6", "-tln -6", "-tanW", "-tane", "-tlne",
    ];
    same(&daemon, &link.left, &flags)?;
    same(&daemon, &link.right, &flags)
}

fn long_addresses() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let long = "fd00:1111:2222:3333:4444:5555:6666:7777";
    namespace.ip(&format!("address add {long}/128 dev lo nodad"))?;
    // The kernel makes the address reachable a little later.
    let _pair = wait_for("a connection to the address", SOON, || {
        Ok(Pair::new(&namespace, &format!("[{long}]:0")).ok())
    })?;
    same(
        &daemon,
        &namespace,
        &["-tan", "-tanW", "-tln", "-tlnW", "-tane", "-taneW"],
    )
}

/// Ports that `/etc/services` names, addresses that `/etc/hosts` names, and others of both.
fn names() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut held = Vec::new();
    for address in [
        "127.0.0.1:22",
        "[::1]:80",
        "0.0.0.0:443",
        "[::]:25",
        "127.0.0.1:2",
    ] {
        held.push(listen(&namespace, address)?);
    }
    let _client = connect(&namespace, "127.0.0.1:22".parse()?)?;
    let target = "[::1]:80".parse()?;
    let named = socket_for(&namespace, target)?;
    named.bind(&"[::1]:993".parse::<std::net::SocketAddr>()?.into())?;
    named.connect(&target.into())?;
    same(&daemon, &namespace, &["-ta", "-t", "-tl", "-taW", "-tlW", "-tae"])
}

/// Only the peers' lines are compared: this process has two names, and its children hold its sockets for a
/// moment when they start.
fn programs() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let (server, target) = Peer::listen(&namespace, "e2e-server", LOOPBACK)?;
    let (client, _) = Peer::connect(&namespace, "e2e-client-long", target)?;
    server.accepted()?;
    daemon.agrees(&namespace)?;
    let owners = [&server, &client].map(|peer| format!(" {}/", peer.pid()));
    let theirs = |line: &&str| owners.iter().any(|owner| line.contains(owner)) || !line.starts_with("tcp");
    for flags in ["-tanp", "-tlnp", "-tnp", "-tanpe", "-tanpW"] {
        let netstat = namespace.run("netstat", flags)?;
        let netstate = run_in(&namespace, daemon.socket(), &format!("list {flags}"))?;
        let pick = |text| sorted(text).into_iter().filter(theirs).collect::<Vec<_>>();
        ensure!(pick(&netstate).len() > 2, "{flags}: no programs:\n{netstate}");
        ensure!(
            pick(&netstate) == pick(&netstat),
            "{flags}\nnetstate:\n{netstate}\nnetstat:\n{netstat}"
        );
    }
    Ok(())
}
