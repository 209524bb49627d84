//! `cargo xtask lint`: formatting, clippy and rustdoc, with every warning an error.

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

/// Every link must lead somewhere, to private items too: readers of the code follow them.
const DOCUMENTATION: &[&str] = &[
    "doc",
    "--workspace",
    "--no-deps",
    "--document-private-items",
    "--locked",
];
const DOCUMENTATION_FLAGS: &str = "-Dwarnings -Arustdoc::private-intra-doc-links";

/// Checks formatting, and runs clippy and rustdoc with warnings as errors.
pub(crate) fn main(workspace: &Workspace) -> ExitCode {
    let mut report = Report::new(true);
    for (name, args) in [
        ("format", FORMAT),
        ("clippy", CLIPPY),
        ("clippy, BPF programs", CLIPPY_BPF),
        ("documentation", DOCUMENTATION),
    ] {
        report.step(name, || {
            let mut cargo = workspace.cargo();
            process::run(cargo.args(args).env("RUSTDOCFLAGS", DOCUMENTATION_FLAGS))?;
            Ok(Outcome::Done("clean".to_owned()))
        });
    }
    report.finish()
}
