//! Sockets that live every kind of life at once: see `netstat_tests::lifecycle`.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use netstat_tests::{lifecycle::command::ROLE, wait::is_slow};

crate::tests![a_known_seed, a_new_seed, by_sweeps_alone, with_a_busy_neighbour];

/// So fast that the stream can be read beside the other tests: what it tells is judged as well.
const RATE: &str = "1500";
/// The same where the machine is slow.
const SLOW_RATE: &str = "300";
const SECONDS: &str = "8";

/// The same choices every time.
fn a_known_seed() -> Result<()> {
    generate(&["--seed", "20"])
}

/// Other choices every time. A failure says the seed.
fn a_new_seed() -> Result<()> {
    generate(&[])
}

/// As on kernels that permit no hooks, whatever this one permits.
fn by_sweeps_alone() -> Result<()> {
    generate(&["--without-hooks"])
}

/// Where no processor time is left to spare.
fn with_a_busy_neighbour() -> Result<()> {
    let processors = std::thread::available_parallelism()?.to_string();
    generate(&["--neighbours", &processors])
}

/// Runs the generator as a process of its own, since it takes thousands of descriptors.
fn generate(more: &[&str]) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let rate = if is_slow() { SLOW_RATE } else { RATE };
    command.args([ROLE, "--seconds", SECONDS, "--rate", rate, "--sockets", "1200"]);
    let output = command
        .args(more)
        .output()
        .context("cannot start the generator")?;
    let (printed, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() {
        bail!("{}\n{printed}{complaint}", output.status);
    }
    // That it compared what it was to compare: sockets in all states.
    for state in [
        "CLOSE_WAIT",
        "CLOSING",
        "ESTABLISHED",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "LISTEN",
        "SYN_SENT",
        "TIME_WAIT",
    ] {
        ensure!(
            printed.contains(&format!(" {state}")),
            "no {state} was compared:\n{printed}"
        );
    }
    Ok(())
}
