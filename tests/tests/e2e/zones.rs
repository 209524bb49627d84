//! Link-local addresses: the same on two links, and told apart by `%` and the interface, named as in the socket's namespace.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Objects, binary,
    liar::Liar,
    snapshot::list_matching,
    sockets::{accept, connect, cookie, wait_for_fin},
    wait::{SOON, wait_for},
};
use netstate::protocol::Answer;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
use serde_json::Value;

crate::tests![
    two_rows_differ,
    every_command_names_the_interface,
    filters_take_interfaces,
    an_interface_that_is_gone,
];

const NEAR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const FAR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const LINKS: [&str; 2] = ["one", "two"];

/// Two namespaces with two links between them, which have the same addresses, and a connection over each.
struct Scene {
    left: Namespace,
    _right: Namespace,
    _listener: TcpListener,
    clients: Vec<TcpStream>,
    servers: Vec<TcpStream>,
}

impl Scene {
    fn new() -> Result<Self> {
        let (left, right) = (Namespace::new()?, Namespace::new()?);
        for link in LINKS {
            left.ip(&format!(
                "link add {link} type veth peer name {link} netns {}",
                right.name()
            ))?;
            for (namespace, address) in [(&left, NEAR), (&right, FAR)] {
                // Without, the kernel adds addresses of its own.
                namespace.ip(&format!("link set {link} addrgenmode none"))?;
                namespace.ip(&format!("address add {address}/64 dev {link} nodad"))?;
                namespace.ip(&format!("link set {link} up"))?;
            }
        }
        let listener = right.enter(|| TcpListener::bind("[::]:0"))?;
        let port = listener.local_addr()?.port();
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for link in LINKS {
            let target = SocketAddrV6::new(FAR, port, 0, index(&left, link)?);
            clients.push(connect(&left, SocketAddr::V6(target))?);
            servers.push(accept(&listener)?);
        }
        Ok(Self {
            left,
            _right: right,
            _listener: listener,
            clients,
            servers,
        })
    }

    fn ports(&self) -> Result<Vec<u16>> {
        let port = |client: &TcpStream| Ok(client.local_addr()?.port());
        self.clients.iter().map(port).collect()
    }

    /// What `netstate` prints about the left namespace.
    fn text(&self, daemon: &Daemon, arguments: &str) -> Result<String> {
        let output = binary::run(
            daemon.socket(),
            &format!("{arguments} --netns {}", self.left.inode()),
        )?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments}: {said}");
        Ok(String::from_utf8(output.stdout)? + &said)
    }
}

/// The number of an interface.
fn index(namespace: &Namespace, name: &str) -> Result<u32> {
    let index = namespace.enter(|| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        name_to_index(&socket, name)
    });
    index.with_context(|| format!("no interface {name}"))
}

fn two_rows_differ() -> Result<()> {
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    daemon.agrees(&scene.left)?;
    for alone in ["", "--alone"] {
        let rows = scene.text(&daemon, &format!("list --json {alone}"))?;
        for link in LINKS {
            let row = rows
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|row| row["device_name"] == link)
                .with_context(|| format!("no row on {link}: {rows}"))?;
            ensure!(
                row["device"] == index(&scene.left, link)? && row["remote_addr"] == FAR.to_string(),
                "{row}"
            );
        }
        let table = scene.text(&daemon, &format!("list -tnW {alone}"))?;
        for (link, port) in LINKS.iter().zip(scene.ports()?) {
            let ends = [format!(" {NEAR}%{link}:{port} "), format!(" {FAR}%{link}:")];
            ensure!(
                table
                    .lines()
                    .any(|line| ends.iter().all(|end| line.contains(end))),
                "no {ends:?}: {table}"
            );
        }
    }
    Ok(())
}

fn every_command_names_the_interface() -> Result<()> {
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    let port = scene.ports()?[1];
    let (near, far) = (format!("[{NEAR}%two]:{port}"), format!("[{FAR}%two]:"));
    let netns = scene.left.inode();
    let watch = Objects::start(daemon.socket(), &format!("watch --netns {netns}"))?;
    let vigil = Objects::start(
        daemon.socket(),
        &format!("watch --stuck --older 1s --netns {netns}"),
    )?;
    let says = |line: &Value| {
        let line = line.as_str().unwrap_or_default();
        line.contains(&near) && line.contains(&far)
    };
    daemon.agrees(&scene.left)?;
    let life = scene.text(&daemon, &format!("show sport {port}"))?;
    ensure!(life.contains(&near) && life.contains(&far), "{life}");
    let second = cookie(&scene.clients[1])?;
    let liar = Liar::new(&daemon, move |answer| {
        if let Answer::Rows(rows) = answer {
            rows.retain(|row| row.connection.cookie.0 != second);
        }
    })?;
    let output = binary::run(liar.socket(), &format!("verify --netns {netns}"))?;
    let difference = String::from_utf8(output.stdout)?;
    ensure!(
        difference.contains(&near) && difference.contains(&far),
        "{difference}"
    );
    let mut servers = scene.servers.iter();
    let server = servers.nth(1).context("no server")?;
    server.shutdown(std::net::Shutdown::Write)?;
    wait_for_fin(&scene.clients[1])?;
    watch.wait("the change of state", SOON, says)?;
    vigil.wait("that it is stuck", SOON, says)?;
    let stuck = wait_for("it to be stuck", SOON, || {
        let text = scene.text(&daemon, "stuck --older 1s")?;
        Ok(text.contains("CLOSE_WAIT").then_some(text))
    })?;
    ensure!(stuck.contains(&near) && stuck.contains(&far), "{stuck}");
    Ok(())
}

fn filters_take_interfaces() -> Result<()> {
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    daemon.agrees(&scene.left)?;
    let ports = scene.ports()?;
    let number = index(&scene.left, "two")?;
    let two = ports[1];
    for filter in [
        "dev two".to_owned(),
        format!("dev {number}"),
        "not dev one".to_owned(),
        format!("dst {FAR}%two"),
        format!("dst [{FAR}%two]"),
        format!("src [{NEAR}%two]:{two}"),
        format!("[{NEAR}%{number}]:{two}"),
        format!("src [{NEAR}]%two:{two}"),
        format!("src {NEAR}%two:{two}"),
    ] {
        let rows = list_matching(&scene.left, daemon.socket(), &filter)?;
        let found: Vec<_> = rows.iter().filter_map(|row| row.local_port).collect();
        ensure!(found == [two], "{filter}: {found:?}, of {ports:?}");
    }
    let both = list_matching(&scene.left, daemon.socket(), &format!("dst {FAR}"))?;
    ensure!(both.len() == 2, "{both:?}");
    for filter in ["dev nosuchdev", "dst fe80::2%nosuchdev"] {
        let output = binary::run(daemon.socket(), &format!("list {filter}"))?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(2) && said.contains("no interface is called `nosuchdev`"),
            "{filter}: {said}"
        );
    }
    Ok(())
}

fn an_interface_that_is_gone() -> Result<()> {
    let daemon = Daemon::start()?;
    let scene = Scene::new()?;
    let number = index(&scene.left, "two")?;
    daemon.agrees(&scene.left)?;
    scene.left.ip("link delete two")?;
    let end = format!(" {NEAR}%{number}:");
    let table = wait_for("the number in place of the name", SOON, || {
        let table = scene.text(&daemon, "list -tnW")?;
        Ok(table.contains(&end).then_some(table))
    })?;
    ensure!(table.contains(&format!(" {NEAR}%one:")), "{table}");
    let rows = list_matching(&scene.left, daemon.socket(), "")?;
    ensure!(rows.len() == 2, "{rows:?}");
    let json = scene.text(&daemon, "list --json")?;
    let row = json
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|row| row["device"] == number)
        .context("the row is gone")?;
    ensure!(row["device_name"].is_null(), "{row}");
    Ok(())
}
