//! `cargo xtask lint`: formatting, and clippy with every warning an error.

use std::process::ExitCode;

use crate::{
    process,
    report::{Outcome, Report},
    workspace::Workspace,
};

const FORMAT: &[&str] = &["fmt", "--all", "--check"];

const CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--locked",
    "--",
    "-Dwarnings",
];

/// The BPF programs compile for the host too, where stable Rust has clippy for them; only a panic that
/// unwinds would need more than `core`.
const CLIPPY_BPF: &[&str] = &[
    "clippy",
    "--package=netstat-ebpf",
    "--bin=netstate-bpf",
    "--features=bpf",
    "--config=profile.dev.panic='abort'",
    "--locked",
    "--",
    "-Dwarnings",
];

/// Checks formatting and runs clippy with warnings as errors.
pub(crate) fn main(workspace: &Workspace) -> ExitCode {
    let mut report = Report::new(true);
    for (name, args) in [
        ("format", FORMAT),
        ("clippy", CLIPPY),
        ("clippy, BPF programs", CLIPPY_BPF),
    ] {
        report.step(name, || {
            process::run(workspace.cargo().args(args))?;
            Ok(Outcome::Done("clean".to_owned()))
        });
    }
    report.finish()
}
