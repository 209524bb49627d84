//! Names come from wherever the system's library has them, safe to print, and in time.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::fs::fchown,
    process::Output,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{Daemon, Namespace, nss::NameService, sockets::listen};

crate::tests![
    control_characters_are_escaped,
    filters_take_names_of_a_name_service,
    names_of_a_name_service_are_shown,
    names_that_take_too_long_are_given_up,
];

/// A daemon, a namespace with listeners, and a name service.
struct Scene {
    daemon: Daemon,
    namespace: Namespace,
    names: NameService,
    _listeners: Vec<TcpListener>,
}

impl Scene {
    /// With listeners on these addresses, of these users.
    fn new(listeners: &[(&str, u32)]) -> Result<Self> {
        let (names, namespace) = (NameService::new()?, Namespace::new()?);
        let daemon = Daemon::start()?;
        let listener = |&(address, uid): &(&str, u32)| {
            let listener = listen(&namespace, address)?;
            fchown(&listener, Some(uid), None)?;
            Ok(listener)
        };
        let listeners = listeners.iter().map(listener).collect::<Result<_>>()?;
        daemon.agrees(&namespace)?;
        Ok(Self {
            daemon,
            namespace,
            names,
            _listeners: listeners,
        })
    }

    fn run(&self, arguments: &str) -> Result<Output> {
        self.names.run(&self.namespace, self.daemon.socket(), arguments)
    }

    /// What it prints to stdout and stderr; it must succeed.
    fn printed(&self, arguments: &str) -> Result<(String, String)> {
        let output = self.run(arguments)?;
        let stderr = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "netstate {arguments}: {stderr}");
        Ok((String::from_utf8(output.stdout)?, stderr))
    }
}

/// The local addresses and users of a list in netstat's columns.
fn listed(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter(|line| line.starts_with("tcp"));
    let mut rows: Vec<_> = rows
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.nth(3)?, words.nth(2)?))
        })
        .collect();
    rows.sort_unstable();
    rows
}

fn names_of_a_name_service_are_shown() -> Result<()> {
    let scene = Scene::new(&[("127.7.7.1:7171", 4321), ("127.7.7.1:22", 0)])?;
    let (text, stderr) = scene.printed("list -lteW")?;
    ensure!(
        listed(&text) == [("till.example:ledger", "alice"), ("till.example:ssh", "root")],
        "{text}"
    );
    ensure!(stderr.is_empty(), "{stderr}");
    let (json, _) = scene.printed("list -l --json sport = 7171")?;
    let row: serde_json::Value = serde_json::from_str(&json).context("not one row")?;
    ensure!(row["uid"] == 4321 && row["user"] == "alice", "{json}");
    Ok(())
}

fn filters_take_names_of_a_name_service() -> Result<()> {
    let scene = Scene::new(&[
        ("127.0.0.1:7171", 0),
        ("127.0.0.1:7000", 4321),
        ("127.0.0.1:7001", 0),
    ])?;
    let cases = [
        ("user alice", 7000),
        ("sport = :ledger", 7171),
        ("sport LEDGER", 7171),
    ];
    for (filter, port) in cases {
        let (json, _) = scene.printed(&format!("list -l --json {filter}"))?;
        let row: serde_json::Value =
            serde_json::from_str(&json).with_context(|| format!("{filter}: not one row: {json}"))?;
        ensure!(row["local_port"] == port, "{filter}: {json}");
    }
    let output = scene.run("list user nobody-at-all")?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(stderr.contains("there is no user `nobody-at-all`"), "{stderr}");
    Ok(())
}

fn control_characters_are_escaped() -> Result<()> {
    let scene = Scene::new(&[("127.7.7.2:7172", 4322)])?;
    for arguments in ["list -lteW", "list -lte", "list -l --json"] {
        let (text, _) = scene.printed(arguments)?;
        ensure!(!text.contains('\x1b'), "{arguments}: {text:?}");
        if arguments.ends_with('W') {
            ensure!(
                listed(&text) == [("till\\u{1b}[2J:led\\u{1b}[2J", "mallory\\u{1b}[2J")],
                "{text}"
            );
        }
    }
    Ok(())
}

/// Who waited for the service would have its names.
fn names_that_take_too_long_are_given_up() -> Result<()> {
    let late: SocketAddr = "127.7.7.3:7171".parse()?;
    let scene = Scene::new(&[("127.7.7.1:7171", 4321), (&late.to_string(), 4323)])?;
    let (text, stderr) = scene.printed("list -lteW")?;
    ensure!(
        listed(&text) == [("127.7.7.3:ledger", "4323"), ("till.example:ledger", "alice")],
        "{text}"
    );
    let note = "netstate: no names for 1 address, 1 user: the name service did not answer within 2 s\n";
    ensure!(stderr == note, "{stderr}");
    let (json, stderr) = scene.printed("list -l --json user 4323")?;
    let row: serde_json::Value = serde_json::from_str(&json).context("not one row")?;
    ensure!(row["uid"] == 4323 && row["user"].is_null(), "{json}");
    ensure!(stderr.contains("no names for 1 user"), "{stderr}");
    let output = scene.run("list user late")?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(
        stderr.contains("the number of user `late` is not known") && stderr.contains("did not answer"),
        "{stderr}"
    );
    Ok(())
}
