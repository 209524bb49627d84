//! `cargo xtask test`: every test that there is, and what they need.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_ebpf::{self, Check},
    manifest::Manifest,
    packages, process,
    report::{Outcome, Report},
    run,
    tally::Tally,
    toolchain::Toolchain,
    workspace::Workspace,
};

/// The programs that the end-to-end tests compare netstate with or set the scene with, and their packages.
pub(crate) const PROGRAMS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("netstat", "net-tools"),
    ("ps", "procps"),
];

/// All tests but those end to end, which take root and are built and run by themselves.
const UNIT_TESTS: &[&str] = &["test", "--workspace", "--exclude=netstat-tests", "--locked"];

/// How cargo builds the end-to-end tests.
pub(crate) const BUILD_END_TO_END: &[&str] = &[
    "test",
    "--no-run",
    "--locked",
    "--package=netstat-tests",
    "--test",
    END_TO_END,
];
pub(crate) const END_TO_END: &str = "e2e";

/// Rebuilds the BPF object and compares it, and runs all tests, those on the kernel as root.
///
/// What is missing for that is installed, on Debian: programs to compare with, and the BPF toolchain.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Count what cannot run here as failed; CI=true in the environment says the same.
    #[arg(long)]
    require_all: bool,
    /// Run the end-to-end tests alone, with these arguments: a part of their names, or what
    /// `cargo test -- --help` tells.
    #[arg(value_name = "ARGS", last = true)]
    only: Vec<OsString>,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> ExitCode {
    let require_all = args.require_all || in_ci();
    let end_to_end = EndToEnd {
        workspace,
        require_all,
        arguments: &args.only,
    };
    let mut report = Report::new(require_all);
    report.step("programs", || Ok(install_programs()));
    if args.only.is_empty() {
        let mut rebuilt = None;
        report.step("bytecode", || check_bytecode(workspace, &mut rebuilt));
        report.step("unit tests", || unit_tests(workspace));
        // The checked-in object comes last, so that the binary that stays is the users' one.
        if let Some(object) = rebuilt {
            report.step("end to end, rebuilt object", || end_to_end.run(Some(&object)));
        }
    }
    report.step("end to end", || end_to_end.run(None));
    report.finish()
}

/// Whether the environment says that everything must run.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| ci == "true")
}

pub(crate) fn install_programs() -> Outcome {
    let missing = PROGRAMS
        .iter()
        .filter(|(program, _)| process::find(program).is_none());
    let mut missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Outcome::Done("all here".to_owned());
    }
    match packages::install(&missing, "testing") {
        Ok(()) => Outcome::Done(format!("installed {}", missing.join(", "))),
        Err(error) => Outcome::Skipped(format!("{error:#}")),
    }
}

/// Compares the object with what its sources compile to here, and hands that over if it proves nothing.
fn check_bytecode(workspace: &Workspace, rebuilt: &mut Option<PathBuf>) -> Result<Outcome> {
    let manifest = Manifest::read(&workspace.root)?;
    let toolchain = match Toolchain::find(workspace, Some(&manifest.toolchain)) {
        Ok(toolchain) => toolchain,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let found = build_ebpf::check(workspace, &manifest, &toolchain)?;
    let outcome = Outcome::Done(found.describe());
    if let Check::OtherToolchain { path, .. } = found {
        *rebuilt = Some(path);
    }
    Ok(outcome)
}

fn unit_tests(workspace: &Workspace) -> Result<Outcome> {
    // Built first, because a build as quiet as the tests should be would seem to hang.
    process::run(workspace.cargo().args(UNIT_TESTS).arg("--no-run"))?;
    count(
        workspace
            .cargo()
            .args(UNIT_TESTS)
            .args(["--quiet", "--no-fail-fast"]),
    )
}

/// The end-to-end tests, and how to run them.
struct EndToEnd<'a> {
    workspace: &'a Workspace,
    require_all: bool,
    arguments: &'a [OsString],
}

impl EndToEnd<'_> {
    /// Runs the tests on a netstate that embeds `object`, or the checked-in object.
    fn run(&self, object: Option<&Path>) -> Result<Outcome> {
        let netstate = self.workspace.build(run::NETSTATE, run::BUILD, object)?;
        let tests = self.workspace.build(END_TO_END, BUILD_END_TO_END, None)?;
        let mut environment = vec![("NETSTATE_BIN", netstate.as_os_str())];
        if self.require_all {
            environment.push(("NETSTATE_REQUIRE_ALL", OsStr::new("1")));
        }
        // Without root the tests say themselves that they could not run.
        let mut command = process::as_root(&tests, &environment).unwrap_or_else(|| {
            let mut command = Command::new(&tests);
            command.envs(environment.iter().copied());
            command
        });
        count(
            command
                .args(self.arguments)
                .current_dir(self.workspace.root.join("tests")),
        )
    }
}

/// Runs tests, shows what they print, and adds up the results in it.
fn count(command: &mut Command) -> Result<Outcome> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| process::cannot_start(command))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the tests print")?;
        println!("{line}");
        tally.add(&line);
    }
    let status = child.wait().context("cannot wait for the tests")?;
    if !status.success() {
        bail!("{tally} ({status}){}", tally.failures());
    }
    if tally.is_empty() {
        bail!("no test ran");
    }
    Ok(Outcome::Done(tally.to_string()))
}
