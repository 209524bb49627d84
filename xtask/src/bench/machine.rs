//! What the figures were measured on, and with.

use std::{fs, process::Command};

use crate::process;

/// The lines that say so.
pub(super) fn describe() -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!(
            "Processor: {}, {cores} cores",
            field("/proc/cpuinfo", "model name")
        ),
        format!("Memory: {}", field("/proc/meminfo", "MemTotal")),
        // Who built it says nothing about how fast it is.
        format!("Kernel: {}", version(&read("/proc/sys/kernel/osrelease"))),
        format!(
            "netstate {}, built with {}",
            env!("CARGO_PKG_VERSION"),
            said("rustc", "--version")
        ),
        format!("ss: {}", said("ss", "-V")),
        format!("netstat: {}", said("netstat", "--version")),
        format!("tcpstates, tcplife: libbpf-tools {}", package("libbpf-tools")),
    ]
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value
        .unwrap_or("unknown")
        .trim_start_matches([' ', '\t', ':'])
        .to_owned()
}

/// The first line that `program` says when it is asked so.
fn said(program: &str, flag: &str) -> String {
    let said = process::output(Command::new(program).arg(flag)).unwrap_or_default();
    said.lines().next().unwrap_or("unknown").to_owned()
}

fn package(name: &str) -> String {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}", name]);
    process::output(&mut query).unwrap_or_else(|_| "of unknown version".into())
}

/// The version in a kernel's release: `6.18.44` of `6.18.44-cloud-amd64`.
fn version(release: &str) -> &str {
    release.split('-').next().unwrap_or(release)
}
