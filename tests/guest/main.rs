//! The first process of the virtual machines that `cargo xtask vm` boots: makes a Linux system of a kernel and
//! a handful of files, runs one command in it, says how that ended, and powers the machine off.
//!
//! The machine has three serial ports: the console, with the kernel's messages and this program's complaints;
//! what the command prints; and the outcome. The kernel hands over one argument: `run`, `shell` (on the console)
//! or `probe` (nothing but to show that the machine boots). What to run lies in `/guest`, where
//! `xtask/src/vm/image.rs` put it.

mod command;
mod mounts;
mod serial;

use std::{convert::Infallible, env, fs, io::Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    process::{Resource, Rlimit, WaitOptions, getpid, setrlimit, wait},
    system::{RebootCommand, reboot},
};
use {
    clap as _, fastrand as _, jiff as _, libc as _, netstat_tests as _, netstate as _, serde as _,
    serde_json as _, socket2 as _, tempfile as _,
};
#[cfg(test)]
use {jsonschema as _, libtest_mimic as _};

/// Where the command's output goes.
const OUTPUT: &str = "/dev/ttyS1";
/// Where the outcome goes.
const OUTCOME: &str = "/dev/ttyS2";

fn main() -> Result<Infallible> {
    // Outside a machine of its own it would mount and load modules on somebody's system.
    ensure!(
        getpid().is_init(),
        "this program is the first process of the machines that `cargo xtask vm` boots"
    );
    if let Err(error) = serve() {
        eprintln!("guest: {error:#}");
    }
    reboot(RebootCommand::PowerOff).context("the machine cannot be powered off")?;
    // Without ACPI the call returns; the end of the first process ends the machine as well.
    bail!("the machine stays powered on")
}

fn serve() -> Result<()> {
    mounts::mount_all()?;
    let mut outcome = serial::open(OUTCOME)?;
    let mode = env::args().nth(1).unwrap_or_default();
    if mode == "probe" {
        writeln!(outcome, "{mode}").context("cannot tell that the machine has booted")?;
        return serial::drain(&outcome);
    }
    load_modules()?;
    // Tests open thousands; the kernel alone allows 1024, and 4096 to those who ask.
    let files = Rlimit {
        current: Some(20_000),
        maximum: Some(20_000),
    };
    setrlimit(Resource::Nofile, files).context("cannot raise the limit on open files")?;
    command::run("ip link set lo up")?;
    let child = match mode.as_str() {
        "run" => command::start(&serial::open(OUTPUT)?)?,
        "shell" => command::interactive()?,
        other => bail!("nothing is known of {other:?}"),
    };
    // Whatever loses its parent becomes this process's child, and has to be waited for too.
    let ended = loop {
        if let Some((pid, status)) = wait(WaitOptions::empty()).context("cannot wait for the command")?
            && pid.as_raw_pid().cast_unsigned() == child
        {
            break status;
        }
    };
    let ended = match (ended.exit_status(), ended.terminating_signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    writeln!(outcome, "{ended}").context("cannot tell the outcome")?;
    serial::drain(&outcome)
}

/// Loads the modules in the order of their names, which is that of their dependencies.
fn load_modules() -> Result<()> {
    let mut modules: Vec<_> = fs::read_dir("/guest/modules")
        .context("no modules")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    modules.sort();
    for module in modules {
        let file = fs::File::open(&module)?;
        rustix::system::finit_module(&file, c"", 0)
            .with_context(|| format!("cannot load {}", module.display()))?;
    }
    Ok(())
}
