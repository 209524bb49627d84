//! Ports and minisocks that run out.

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Namespace,
    sockets::{LOOPBACK, accept, connect, listen, wait_for_fin},
    wait::{SOON, wait_for},
};
use serde_json::Value;

use super::{evidence, find, stuck};

crate::tests![ports_run_out, no_place_for_time_wait,];

fn ports_run_out() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/ip_local_port_range", "40000 40009")?;
    namespace.set_parameter("ipv4/tcp_tw_reuse", "0")?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, "127.0.0.1:8080")?;
    let target = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..7 {
        pairs.push((connect(&namespace, target)?, accept(&listener)?));
    }
    let arguments = format!("--netns {}", namespace.inode());
    let (findings, _) = stuck(daemon.socket(), &arguments)?;
    ensure!(findings.is_empty(), "seven of ten are not many: {findings:?}");
    while pairs.len() < 10 {
        pairs.push((connect(&namespace, target)?, accept(&listener)?));
    }
    // Some of them in TIME_WAIT, which take ports as well.
    for (client, server) in pairs.drain(..2) {
        drop(client);
        wait_for_fin(&server)?;
    }
    let finding = find(&daemon, &namespace, "ports_running_out", "")?;
    ensure!(
        finding["service_addr"] == "127.0.0.1"
            && finding["service_port"] == 8080
            && finding["severity"] == "critical",
        "{finding}"
    );
    ensure!(finding["pid"] == std::process::id(), "{finding}");
    let shown = evidence(&finding);
    ensure!(
        shown.contains("10 of 10 ports") && shown.contains("2 of them in TIME_WAIT"),
        "{shown}"
    );
    ensure!(shown.contains("40000 to 40009"), "{shown}");
    ensure!(finding["count"] == 10, "{finding}");
    // Some of them are free again where the kernel may reuse them, which takes a second.
    namespace.set_parameter("ipv4/tcp_tw_reuse", "1")?;
    wait_for("two ports to be free", SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        let finding = findings
            .iter()
            .find(|finding| finding["finding"] == "ports_running_out");
        let freed = |finding: &Value| {
            finding["severity"] == "warning" && evidence(finding).contains("2 of those may be reused")
        };
        Ok(finding.is_some_and(freed).then_some(()))
    })
}

fn no_place_for_time_wait() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.set_parameter("ipv4/tcp_max_tw_buckets", "5")?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    for _ in 0..5 {
        let client = connect(&namespace, listener.local_addr()?)?;
        let server = accept(&listener)?;
        drop(client);
        wait_for_fin(&server)?;
        drop(server);
    }
    let finding = find(&daemon, &namespace, "time_wait_full", "")?;
    ensure!(evidence(&finding).contains("5 TIME_WAIT of 5"), "{finding}");
    Ok(())
}
