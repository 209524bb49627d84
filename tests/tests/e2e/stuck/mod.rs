//! `netstate stuck`: finds each kind of connection that makes no progress, and says who, why and what to do.

pub(crate) mod ages;
pub(crate) mod asking;
pub(crate) mod blame;
pub(crate) mod closing;
pub(crate) mod data;
pub(crate) mod elsewhere;
pub(crate) mod kept;
pub(crate) mod opening;
pub(crate) mod ports;
pub(crate) mod silent;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    wait::{SOON, wait_for},
};
use rustix::fd::AsRawFd;
use serde_json::Value;

/// What `stuck --json` prints: findings and the summary.
fn stuck(socket: &Path, arguments: &str) -> Result<(Vec<Value>, Value)> {
    let output = binary::run(socket, &format!("stuck --json {arguments}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "stuck {arguments}: {complaint}");
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    let mut lines: Vec<Value> = lines.collect::<Result<_, _>>()?;
    let last = lines.pop().context("it prints nothing")?;
    let summary = last.get("summary").context("no summary comes last")?.clone();
    ensure!(summary["findings"] == lines.len(), "{summary}: {lines:?}");
    Ok((lines, summary))
}

/// Waits for a finding of `kind` in `namespace`, and checks what every finding has.
pub(crate) fn find(daemon: &Daemon, namespace: &Namespace, kind: &str, more: &str) -> Result<Value> {
    let arguments = format!("--netns {} {more}", namespace.inode());
    let mut others = Vec::new();
    let found = wait_for(&format!("{kind} to be found"), SOON, || {
        let (findings, _) = stuck(daemon.socket(), &arguments)?;
        let found = findings
            .iter()
            .find(|finding| finding["finding"] == kind)
            .cloned();
        others = findings;
        Ok(found)
    });
    let finding = found.with_context(|| format!("found: {others:?}"))?;
    ensure!(finding["netns"] == namespace.inode(), "{finding}");
    for text in [
        "cause",
        "next",
        "severity",
        "state",
        "local_addr",
        "remote_addr",
        "since",
    ] {
        ensure!(
            finding[text].as_str().is_some_and(|text| !text.is_empty()),
            "no {text}: {finding}"
        );
    }
    let evidence = finding["evidence"].as_array().context("no evidence")?;
    ensure!(!evidence.is_empty(), "{finding}");
    let next = finding["next"].as_str().unwrap_or_default();
    ensure!(next.contains(step(kind)), "{kind} is mended otherwise: {next}");
    Ok(finding)
}

/// What the advice has to say of each kind of finding.
fn step(kind: &str) -> &'static str {
    match kind {
        "syn_unanswered" | "data_not_sent" => "ip route get",
        "syn_ack_unanswered" => "tcp_syncookies",
        "held_by_accept_queue" => "call accept",
        "accept_queue_full" | "accept_queue_filling" => "from calling accept: `strace -fp",
        "data_unacknowledged" | "fin_unacknowledged" | "keepalive_unanswered" => "ss -K dst",
        "zero_window" => "find out why it does not read, `strace -fp",
        "data_unread" => "does not read fd",
        "not_closed" => "has to close fd",
        "half_closed" => "give that a limit",
        "peer_not_closing" => "nothing here",
        "bind_ports_running_out" => "IP_BIND_ADDRESS_NO_PORT",
        "ports_running_out" => "open and use them again",
        "time_wait_full" => "tcp_max_tw_buckets",
        _ => "there is no such kind",
    }
}

/// The text of the evidence.
fn evidence(finding: &Value) -> String {
    let lines = finding["evidence"].as_array().into_iter().flatten();
    lines.filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

fn held_by_this_test(finding: &Value, descriptor: &impl AsRawFd) -> Result<()> {
    ensure!(finding["pid"] == std::process::id(), "another holder: {finding}");
    ensure!(
        finding["fd"] == descriptor.as_raw_fd(),
        "another descriptor: {finding}"
    );
    Ok(())
}
